"""A workload's process on the machine of pytest itself, for systems whose clients live there."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from chaos.core.errors import EnvironmentFailed


class HostClient:
    """Implements :class:`~chaos.environments.base.ClientProcess`. Its standard input is a pipe that nobody writes to: the end of it tells
    the client that we are gone."""

    def __init__(self, argv: Sequence[str], log: Path) -> None:
        with log.open("ab") as file:
            self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=file, stderr=file, start_new_session=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.poll()

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout_s: float) -> int:
        """Raises :class:`~chaos.core.errors.EnvironmentFailed` where it does not end in time."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise EnvironmentFailed(f"client process {self.pid} did not end within {timeout_s:g} s") from None
        if self._process.stdin is not None:
            self._process.stdin.close()
        return code

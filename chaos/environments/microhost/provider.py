"""The environment ``embedded``: micro-hosts on this machine, without root and without a daemon."""

from __future__ import annotations

import itertools
import os
import platform
import shutil
from pathlib import Path

from chaos.core.clock import wait_for
from chaos.core.errors import DeadlineExceeded, EnvironmentFailed, EnvironmentGone, Unavailable
from chaos.core.model import Json, NodeRef
from chaos.environments.base import Node, ProbeLine
from chaos.environments.microhost.client import Sandbox
from chaos.environments.microhost.probe import probe
from chaos.environments.owner import start_of

GONE_WITHIN_S = 1.0


class Microhosts:
    """Implements :class:`~chaos.environments.base.Environment`. Every system gets a sandbox of its own (:meth:`sandbox`)."""

    name = "embedded"
    kind = "embedded"
    disposable = True

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._sandboxes: list[Sandbox] = []
        self._numbers = itertools.count(1)

    def doctor(self) -> list[ProbeLine]:
        return probe()

    def check(self) -> None:
        bad = [line for line in self.doctor() if not line.ok]
        if bad:
            raise Unavailable(f"micro-hosts do not work here: {bad[0].what}", observed=bad[0].seen, next_step=bad[0].fix)

    def open(self, *, run_id: str, state_dir: Path) -> None:
        """``state_dir/<run>`` holds logs only; whatever dead runs left there is removed."""
        state_dir.mkdir(parents=True, exist_ok=True)
        for old in state_dir.iterdir():
            owner = old.name.rpartition("-")[2]
            if old.name != run_id and owner.isdigit() and not Path(f"/proc/{owner}").exists():
                shutil.rmtree(old, ignore_errors=True)
        self._directory = state_dir / f"{run_id}-{os.getpid()}"

    def settings(self) -> dict[str, Json]:
        return {}

    def resolve(self, ref: NodeRef) -> Node:
        """From the process that made it: the node. From any other: nothing can be put back, because nothing outlives that process, but
        whether it is gone can be said."""
        for sandbox in self._sandboxes:
            if sandbox.locator == ref.locator and ref.name in sandbox.hosts:
                return sandbox.hosts[ref.name]
        pid, started = ref.locator.get("root_pid", ""), ref.locator.get("started")
        try:  # it goes down with the process that made it, a moment later
            wait_for(lambda: not pid.isdigit() or start_of(int(pid)) != started, timeout_s=GONE_WITHIN_S, what="the sandbox to end")
        except DeadlineExceeded as err:
            raise EnvironmentFailed("the sandbox runs, and only the process that made it can reach its nodes", where=str(ref)) from err
        raise EnvironmentGone("the sandbox has ended, and everything in it", where=str(ref))

    def reclaim(self) -> list[str]:
        """The kernel removes a sandbox with the process that made it."""
        return []

    def dead_man(self) -> None:
        return None

    def sandbox(self, system: str) -> Sandbox:
        """A fresh, empty sandbox."""
        if self._directory is None:
            raise EnvironmentFailed("the environment is not open", where=self.name)
        sandbox = Sandbox(system, self._directory / f"{system}-{next(self._numbers)}")
        self._sandboxes.append(sandbox)
        return sandbox

    def identity(self) -> dict[str, str]:
        return {"host": platform.node(), "kernel": platform.release(), "user": str(os.geteuid())}

    def close(self) -> None:
        for sandbox in self._sandboxes:
            sandbox.close()
        self._sandboxes.clear()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

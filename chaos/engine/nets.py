"""The nets under the drills of one process in one environment: the journal, the healer that reads it, the dead-man's switch.

Made when the environment is opened; the healer starts beside the first drill's preparation and is waited for before the first fault.
"""

from __future__ import annotations

import os
from pathlib import Path

from chaos.engine.healer import HealerHandle
from chaos.engine.injection import DEADLINE_S, Switch
from chaos.engine.journal import Journal, Origin
from chaos.environments.base import Environment
from chaos.environments.owner import Owner


class Nets:
    """``directory`` holds journals; this process' own is ``<run id>-<pid>.jsonl`` there."""

    def __init__(self, environment: Environment, directory: Path, run_id: str) -> None:
        self._environment = environment
        self.path = directory / f"{run_id}-{os.getpid()}.jsonl"
        self._journal: Journal | None = None
        self._healer: HealerHandle | None = None
        self._switch: Switch | None = None

    @property
    def origin(self) -> Origin:
        """How another process reaches what is broken here, and whose it is."""
        environment = self._environment
        owner = Owner.of(os.getpid())
        return Origin(environment.name, environment.kind, environment.disposable, environment.settings(), owner)

    def prepare(self) -> None:
        """Start the healer, without waiting for it. Idempotent; a healer that died is replaced."""
        if self._healer is not None and self._healer.trouble():
            self._healer.close()
            self._healer = None
        if self._healer is None:
            self._healer = HealerHandle(self.path, self.origin, deadline_s=self._deadline_s())

    def ready(self) -> None:
        """Everything is in place for a fault. Raises EnvironmentFailed where the healer did not start."""
        if self._healer is None:
            self.prepare()
        if self._healer is not None:
            self._healer.ready()

    @property
    def journal(self) -> Journal:
        if self._journal is None:
            self._journal = Journal(self.path)
        return self._journal

    @property
    def switch(self) -> Switch | None:
        """The dead-man's switch of a standing environment."""
        if self._switch is None and (dead_man := self._environment.dead_man()) is not None:
            self._switch = Switch(dead_man, self._deadline_s())
        return self._switch

    def trouble(self) -> str:
        """Why a running drill must end; "" while all nets hold."""
        return self._healer.trouble() if self._healer is not None else ""

    @property
    def healer_pid(self) -> int:
        """0 where none runs."""
        return self._healer.pid if self._healer is not None else 0

    def close(self) -> None:
        """Last of all, after systems and environments: whatever is open now stays with the healer."""
        if self._healer is not None:
            self._healer.close()
            self._healer = None
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _deadline_s(self) -> float:
        given = self._environment.settings().get("deadline_s")
        return float(given) if isinstance(given, int | float) else DEADLINE_S

"""What the drills of one pytest process share: environments opened once, pooled systems, the run's directory."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import pytest

from chaos.core.errors import Unavailable
from chaos.engine.guard import Guard
from chaos.engine.nets import Nets
from chaos.engine.places import JOURNAL
from chaos.engine.pool import SystemPool
from chaos.engine.residue import abandoned, find, heal_open, refuse_residue
from chaos.engine.signals import Signals
from chaos.environments.base import Environment
from chaos.evidence.paths import run_directory
from chaos.plugin.guarding import guard_of
from chaos.plugin.keys import OPTIONS
from chaos.plugin.options import GamedayOptions
from chaos.plugin.places import Places
from chaos.plugin.steps import read_project


class GamedaySession:
    """Made with the first item that needs an environment, closed at the end of the pytest session."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.options: GamedayOptions = config.stash[OPTIONS]
        self.places: Places = read_project(config, self.options)
        self._open: dict[str, Environment] = {}
        self._unavailable: dict[str, Unavailable] = {}
        self._nets: dict[str, Nets] = {}
        self.signals = Signals()
        self.signals.install()

    @cached_property
    def pool(self) -> SystemPool:
        return SystemPool()

    @cached_property
    def run_dir(self) -> Path:
        """``.gameday/runs/<run-id>``, made on first use."""
        return run_directory(self.options.directory, self.options.run_id)

    def environment(self, name: str) -> Environment:
        """The environment called ``name``, open.

        Raises:
            Unavailable: with reason and fix, each time it is asked for.
        """
        if name in self._unavailable:
            raise self._unavailable[name]
        if name not in self._open:
            try:
                environment = self.places.make(name)
                environment.check()
            except Unavailable as err:
                self._unavailable[name] = err
                raise
            environment.open(run_id=self.options.run_id, state_dir=self.options.directory / "environments" / name)
            self._open[name] = environment
            self._nets[name] = Nets(environment, self._journals(environment), self.options.run_id)
            self._settle(environment)
        return self._open[name]

    def nets(self, environment: Environment) -> Nets:
        """The nets under this process' drills in ``environment``, which is open."""
        return self._nets[environment.name]

    def guard(self, environment: Environment, drill: str) -> Guard:
        """A guard for one drill in ``environment``, which is open."""
        return guard_of(environment, self.places, self.options, drill)

    def _journals(self, environment: Environment) -> Path:
        if environment.disposable:
            return self.options.directory / JOURNAL
        return self.places.state_dir(environment.name, environment) / JOURNAL

    def _settle(self, environment: Environment) -> None:
        """What dead runs left: in a disposable environment it is gone with them, and is written off; elsewhere it blocks.

        Raises:
            Residue: something is still broken. JournalUnreadable: nobody can say.
        """
        directory = self._journals(environment)
        if environment.disposable:
            for path in {one.journal for one in find([directory]) if one.environment == environment.name and one.owner_dead}:
                heal_open(path, only=lambda fault: abandoned(fault, environment.name), by="runner")
        found = find([directory])
        for name in [environment.name] if environment.disposable else sorted({one.environment for one in found}):
            refuse_residue(found, name)  # another checkout may call a standing environment otherwise; the directory is its own

    def close(self) -> None:
        """Systems first, then their environments, then the nets beneath them; every one of them is tried."""
        errors: list[Exception] = []
        pool = self.__dict__.get("pool")
        for thing in ([pool] if pool is not None else []) + [*reversed(self._open.values()), *self._nets.values()]:
            try:
                thing.close()
            except Exception as err:  # noqa: BLE001 - all are tried, and reported together
                errors.append(err)
        self._open.clear()
        self._nets.clear()
        self.signals.uninstall()
        if errors:
            raise ExceptionGroup("not everything could be taken down", errors)

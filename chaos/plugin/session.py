"""What the drills of one pytest process share: environments opened once, pooled systems, the run's directory."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import pytest

from chaos.core.errors import Unavailable
from chaos.engine.pool import SystemPool
from chaos.environments.base import Environment
from chaos.evidence.paths import run_directory
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
        return self._open[name]

    def close(self) -> None:
        """Systems first, then their environments; every one of them is tried."""
        errors: list[Exception] = []
        pool = self.__dict__.get("pool")
        for thing in ([pool] if pool is not None else []) + [*reversed(self._open.values())]:
            try:
                thing.close()
            except Exception as err:  # noqa: BLE001 - all are tried, and reported together
                errors.append(err)
        self._open.clear()
        if errors:
            raise ExceptionGroup("not everything could be taken down", errors)

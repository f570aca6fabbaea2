"""Systems kept between the drills of one process: made once, proven healthy before each use, replaced when beyond repair."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar, cast

from chaos.core.errors import GamedayError

PROVE_WITHIN_S = 20.0


class Pooled(Protocol):
    """What the pool needs of a system."""

    def prove_healthy(self, timeout_s: float) -> str: ...
    def close(self) -> None: ...


S = TypeVar("S", bound=Pooled)


class SystemPool:
    """One per pytest process (xdist workers have their own), keyed by environment and the system's parameters."""

    def __init__(self) -> None:
        self._systems: dict[Hashable, Pooled] = {}
        self._families: dict[Hashable, Hashable] = {}
        self.replaced: list[str] = []

    def acquire(self, key: Hashable, make: Callable[[], S], *, family: Hashable = None) -> S:
        """The system under ``key``, healthy; made anew where there is none or where it does not get well within 20 s.

        Of a ``family`` only one is kept: an idle cluster beside the one under drill costs what the drill is measured with.

        Raises:
            Whatever ``make`` raises.
        """
        if key in self._systems:
            try:
                self._systems[key].prove_healthy(PROVE_WITHIN_S)
                return cast("S", self._systems[key])
            except GamedayError as err:
                self.replaced.append(f"{key}: {err}")
                self.discard(key)
        if family is not None:
            for other in [k for k, f in self._families.items() if f == family]:
                self.discard(other)
        system = make()
        self._systems[key], self._families[key] = system, family
        return system

    def discard(self, key: Hashable) -> None:
        """Close and forget; a no-op where there is none."""
        self._families.pop(key, None)
        system = self._systems.pop(key, None)
        if system is not None:
            system.close()

    def close(self) -> None:
        """All of them; every one is tried, the errors are raised together."""
        errors: list[Exception] = []
        for key in list(self._systems):
            try:
                self.discard(key)
            except Exception as err:  # noqa: BLE001  (collected, and raised below)
                errors.append(err)
        if errors:
            raise ExceptionGroup("not every system could be taken down", errors)

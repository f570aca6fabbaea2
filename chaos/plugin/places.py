"""The environments that this project knows: built-in and installed ones (entry points), and those that ``gameday.toml`` declares.

Knows names, kinds and whether they are disposable. Opens nothing; imports a provider only when asked to make one.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from chaos.core.errors import BadInput, Unavailable
from chaos.environments.base import Environment
from chaos.plugin.catalogue import Scenario, shipped
from chaos.plugin.gamedayfile import FILE, GamedayFile, StandingEnvironment, read
from chaos.plugin.marker import nearest

GROUP = "chaos.environments"
BUILT_IN = ("embedded", "docker")


@dataclass(frozen=True)
class Place:
    """One environment by name. ``declared`` is set for a standing one."""

    name: str
    kind: str
    disposable: bool
    provider: EntryPoint | None = None
    declared: StandingEnvironment | None = None


class Places:
    """Every known environment and scenario of one project."""

    def __init__(self, file: GamedayFile) -> None:
        self.file = file
        self.scenarios: dict[str, Scenario] = {**shipped(), **file.scenarios}
        providers = {point.name: point for point in entry_points(group=GROUP)}
        self._all: dict[str, Place] = {}
        for name in sorted(providers, key=lambda name: (name not in BUILT_IN, BUILT_IN.index(name) if name in BUILT_IN else 0, name)):
            if name in BUILT_IN or _is_disposable(providers[name]):
                self._all[name] = Place(name, name, disposable=True, provider=providers[name])
        for name, declared in file.environments.items():
            if name in self._all:
                key = f"{file.path}: environments.{name}"
                raise BadInput("an installed environment has this name", where=key, next_step="choose another name")
            self._all[name] = Place(name, declared.kind, disposable=False, declared=declared)

    @classmethod
    def of(cls, rootdir: Path) -> Places:
        """Those of the project under ``rootdir``. Raises BadInput for a bad ``gameday.toml``."""
        return cls(read(rootdir))

    def names(self) -> tuple[str, ...]:
        """All names, disposable ones first."""
        return tuple(self._all)

    def disposable(self) -> tuple[str, ...]:
        return tuple(name for name, place in self._all.items() if place.disposable)

    def standing(self) -> tuple[str, ...]:
        return tuple(name for name, place in self._all.items() if not place.disposable)

    def get(self, name: str, *, where: str) -> Place:
        """The place called ``name``.

        Raises:
            BadInput: naming the nearest known one and ``gameday.toml``.
        """
        if name in self._all:
            return self._all[name]
        there = "" if self.file.path.exists() else ", which does not exist"
        raise BadInput(
            f"unknown environment {name!r}{nearest(name, self._all)}",
            where=where,
            next_step=f"use one of {', '.join(self._all)}, or declare [environments.{name}] in {self.file.path}{there}",
        )

    def require_provider(self, name: str) -> None:
        """Raises BadInput where nothing installed can reach the standing environment ``name``."""
        place = self._all[name]
        if place.declared is not None:
            raise BadInput(
                f"this release has no provider for environments of kind {place.kind!r}",
                where=f"{self.file.path}: environments.{name}",
                next_step=f"deselect it, or run in {' or '.join(self.disposable())}",
            )

    def make(self, name: str) -> Environment:
        """A new, unopened environment object.

        Raises:
            Unavailable: where its provider cannot be imported here.
        """
        place = self.get(name, where="environment")
        if place.provider is None:
            self.require_provider(name)
            raise BadInput("has no provider", where=f"environment {name}")
        try:
            environment: Environment = place.provider.load()()
        except ImportError as err:
            raise Unavailable(
                f"the environment {name!r} cannot be loaded: {err}", next_step=f"pip install -e '.[{name}]' in a checkout of pytest-gameday"
            ) from err
        return environment


def _is_disposable(provider: EntryPoint) -> bool:
    """Providers of standing kinds (``disposable = False``) are reached through ``gameday.toml`` only."""
    try:
        return bool(getattr(provider.load(), "disposable", False))
    except ImportError:
        return False


def config_file_exists(rootdir: Path) -> bool:
    return (rootdir / FILE).exists()

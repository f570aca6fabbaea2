"""The environments that this project knows: built-in and installed ones (entry points), and those that ``gameday.toml`` declares.

Knows names, kinds and whether they are disposable. Opens nothing; imports a provider only when asked to make one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast

from chaos.core.errors import BadInput, Unavailable
from chaos.engine.places import standing_state
from chaos.engine.policy import StandingEnvironment
from chaos.environments.base import Environment
from chaos.environments.standing import pinned_identity
from chaos.plugin.catalogue import Scenario, shipped
from chaos.plugin.gamedayfile import FILE, GamedayFile, read
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
            provider = providers.get(declared.kind)
            standing = provider if provider is not None and declared.kind not in self._all else None
            self._all[name] = Place(name, declared.kind, disposable=False, provider=standing, declared=declared)

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
        """Raises BadInput where nothing installed can reach the standing environment ``name``, or where its settings do not fit."""
        place = self._all[name]
        if place.declared is None:
            return
        where = self.file.where("environments", name, "kind")
        if place.kind in self.disposable():
            what = f"environments of kind {place.kind!r} are disposable: they are made for a drill and thrown away"
            raise BadInput(what, where=where, next_step=f"run in {place.kind} itself, or declare a standing kind{self._kinds()}")
        if place.provider is None:
            raise BadInput(
                f"this release has no provider for environments of kind {place.kind!r}{nearest(place.kind, self._standing_kinds)}",
                where=where,
                next_step=f"deselect it, or run in {' or '.join(self.disposable())}",
            )
        self._check_settings(place, _load(place, place.provider))

    def make(self, name: str) -> Environment:
        """A new, unopened environment object.

        Raises:
            Unavailable: where its provider cannot be imported here.
            BadInput: where it has none, or its settings do not fit.
        """
        place = self.get(name, where="environment")
        self.require_provider(name)
        if place.provider is None:
            raise BadInput("has no provider", where=f"environment {name}")
        provider = _load(place, place.provider)
        if place.declared is None:
            return provider()
        return provider(name=name, **place.declared.settings)

    def state_dir(self, name: str, environment: Environment | None = None) -> Path:
        """Where this machine keeps what belongs to the standing environment ``name``: told by its kind and identity, so that another
        checkout, which may call it otherwise, finds it.

        Raises:
            BadInput: its identity is one word, and ``environment`` is not there to say of what.
        """
        place = self.get(name, where="environment")
        if environment is not None:
            return standing_state(place.kind, pinned_identity(environment))
        if place.declared is None or not isinstance(place.declared.identity, dict):
            where = self.file.where("environments", name, "identity")
            raise BadInput("its state cannot be found without reaching it", where=where, next_step="write the identity as a table")
        return standing_state(place.kind, place.declared.identity)

    @property
    def _standing_kinds(self) -> tuple[str, ...]:
        return tuple(sorted({point.name for point in entry_points(group=GROUP)} - set(self.disposable())))

    def _kinds(self) -> str:
        return f": {', '.join(self._standing_kinds)}" if self._standing_kinds else ""

    def _check_settings(self, place: Place, provider: Callable[..., Environment]) -> None:
        """Raises BadInput for a setting that the provider does not know, or lacks."""
        assert place.declared is not None
        parameters = inspect.signature(provider).parameters
        known = [name for name in parameters if name != "name"]
        for setting in place.declared.settings:
            if setting not in known:
                raise BadInput(
                    f"environments of kind {place.kind!r} have no setting {setting!r}{nearest(setting, known)}",
                    where=self.file.where("environments", place.name, "settings", setting),
                    expected=f"one of {', '.join(known) or '(none)'}",
                )
        for name in known:
            if parameters[name].default is inspect.Parameter.empty and name not in place.declared.settings:
                raise BadInput(
                    f"environments of kind {place.kind!r} need the setting {name!r}",
                    where=self.file.where("environments", place.name, "settings"),
                    next_step=f"write it under [environments.{place.name}.settings]",
                )


def _load(place: Place, provider: EntryPoint) -> Callable[..., Environment]:
    try:
        return cast("Callable[..., Environment]", provider.load())
    except ImportError as err:
        raise Unavailable(
            f"the environment {place.name!r} cannot be loaded: {err}",
            next_step=f"pip install -e '.[{place.kind}]' in a checkout of pytest-gameday",
        ) from err


def _is_disposable(provider: EntryPoint) -> bool:
    """Providers of standing kinds (``disposable = False``) are reached through ``gameday.toml`` only."""
    try:
        return bool(getattr(provider.load(), "disposable", False))
    except ImportError:
        return False


def config_file_exists(rootdir: Path) -> bool:
    return (rootdir / FILE).exists()

"""Collection of drills: which environments an item runs in, what a person got wrong, and what stays out of this run.

Nothing here opens an environment or writes a file. Problems are gathered while pytest collects and raised together, one line
each, before the first test starts.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chaos.core.errors import BadInput
from chaos.core.model import Verdict
from chaos.plugin.expression import Names, names_in
from chaos.plugin.guarding import refuse_early
from chaos.plugin.hookspecs import SystemSupport
from chaos.plugin.keys import SERIES, SPEC
from chaos.plugin.marker import DrillSpec, nearest, parse
from chaos.plugin.options import GamedayOptions
from chaos.plugin.places import Places
from chaos.plugin.series import Series

STANDING = "standing"  # in SystemSupport: every standing environment
MEASURED_NOTHING = r"\A(Failed: )?INVALID[^:]*: (?s:.*?)\b(starved|control): "
"""How the failure of a drill begins that says more of a busy machine than of the system: INVALID is its verdict, and the generator was
starved or the system not well before anything was broken."""
SESSION_FIXTURE = "gameday_session"
MIN_FREE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Placement:
    """Where one item runs, and which repeat of its drill it is. ``excluded``: the item only exists to be deselected."""

    environment: str
    repeat: int = 1
    of: int = 1
    until: str = ""
    excluded: bool = False

    @property
    def id(self) -> str:
        return f"{self.environment}-{self.repeat}" if self.of > 1 else self.environment


@dataclass
class Collector:
    """What collection has found so far. Made when the first drill (or user of an environment) is seen."""

    config: pytest.Config
    options: GamedayOptions
    places: Places
    drills: int = 0
    problems: dict[str, None] = field(default_factory=dict)
    _supports: dict[str, SystemSupport] | None = None
    _expression: Names | None = None

    @property
    def supports(self) -> dict[str, SystemSupport]:
        """System fixture -> what it can do."""
        if self._supports is None:
            answers: list[Sequence[SystemSupport]] = self.config.hook.pytest_gameday_systems()
            self._supports = {support.fixture: support for answer in answers for support in answer}
        return self._supports

    @property
    def again(self) -> int:
        """How often a drill that measured nothing is measured anew; never under a debugger, which is to see the first."""
        return 0 if self.config.getoption("usepdb", False) else self.options.again

    @property
    def expression(self) -> Names:
        """The names of ``-m``."""
        if self._expression is None:
            self._expression = names_in(self.config.getoption("markexpr", "") or "")
        return self._expression

    def generate(self, metafunc: pytest.Metafunc, mark: pytest.Mark | None) -> None:
        """Parametrise one test over its environments; a problem is kept, not raised."""
        self.drills += mark is not None
        place = where(metafunc.definition)
        try:
            spec = DrillSpec() if mark is None else parse(mark, self.places.scenarios, where=place)
            _check_fixture(metafunc, mark, place)
            placements = self._placements(metafunc, spec, place)
        except BadInput as err:
            self.problems[str(err)] = None
            return
        params = [pytest.param(one, id=one.id, marks=self._marks(one.environment)) for one in placements]
        metafunc.parametrize("environment", params, indirect=True)

    def _marks(self, environment: str) -> list[pytest.MarkDecorator]:
        if environment == STANDING:
            return []
        marks = [getattr(pytest.mark, environment)]
        return [*marks, pytest.mark.local] if environment in self.places.disposable() else marks

    def _placements(self, metafunc: pytest.Metafunc, spec: DrillSpec, place: str) -> list[Placement]:
        candidates = self._candidates(metafunc, spec, place)
        if not candidates:
            return [Placement(STANDING, excluded=True)]
        chosen = [name for name in candidates if self._selected(name)]
        of = self.options.repeat or spec.repeat or 1
        until = self.options.until or spec.until
        if not chosen:
            return [Placement(candidates[0], excluded=True)]
        return [Placement(name, repeat, of, until) for name in chosen for repeat in range(1, of + 1)]

    def _selected(self, name: str) -> bool:
        """Disposable ones unless others were asked for; a standing one only where a person named it."""
        asked = self.options.environments
        if asked:
            return name in asked
        return name in self.places.disposable() or name in self.expression.positive

    def _candidates(self, metafunc: pytest.Metafunc, spec: DrillSpec, place: str) -> list[str]:
        """Where the test can run at all: its marker, its environment markers, its system fixtures.

        Raises:
            BadInput: where that is nowhere.
        """
        carried = [mark.name for mark in metafunc.definition.iter_markers()]
        stated = spec.environments if spec.environments is not None else tuple(name for name in self.places.names() if name in carried)
        for name in stated:
            self.places.get(name, where=place)
        names = list(stated or self.places.names())
        if spec.expectation.verdict is not Verdict.PASS:
            names = [name for name in names if name in self.places.disposable()]
        systems = [name for name in metafunc.fixturenames if name in self.supports]
        for fixture in systems:
            able = self.supports[fixture].environments
            names = [name for name in names if self._able(name, able, place)]
        if not names and any(STANDING in self.supports[fixture].environments for fixture in systems):
            return []  # no such environment is declared here: nothing to run, and no mistake
        if not names:
            limits = (
                ", ".join(f"{fixture}: {' '.join(self.supports[fixture].environments)}" for fixture in systems)
                or "disposable environments only"
            )
            raise BadInput("this drill can run nowhere", where=place, expected=f"one of the environments its fixtures support ({limits})")
        return names

    def _able(self, name: str, able: Sequence[str], place: str) -> bool:
        there = self.places.get(name, where=place)
        return name in able or there.kind in able or (STANDING in able and not there.disposable)

    def check_expression(self, items: Sequence[pytest.Item]) -> None:
        """A name in ``-m`` that nothing answers to is a mistake where drills were collected."""
        unknown = self.expression.all
        if not unknown or not self.drills:
            return
        known = {line.split(":")[0].split("(")[0].strip() for line in self.config.getini("markers")} | set(self.places.names())
        known |= {mark.name for item in items for mark in item.iter_markers()}
        for name in sorted(unknown - known):
            file = self.places.file.path
            self.problems[
                f"-m {name}: there is no marker or environment {name!r}{nearest(name, known)}; "
                f"next: an environment is declared as [environments.{name}] in {file}{'' if file.exists() else ', which does not exist'}"
            ] = None

    def choose(self, items: list[pytest.Item]) -> None:
        """Drop the placeholders of drills that run in no selected environment."""
        dropped = [item for item in items if (placement := placement_of(item)) is not None and placement.excluded]
        if dropped:
            self.config.hook.pytest_deselected(items=dropped)
            items[:] = [item for item in items if (placement := placement_of(item)) is None or not placement.excluded]

    def prepare(self, items: Sequence[pytest.Item]) -> None:
        """Keep what each selected drill will need at run time: its parsed marker and its series."""
        sizes: dict[str, int] = {}
        for item in items:
            placement, mark = placement_of(item), item.get_closest_marker("drill")
            if placement is None or mark is None:
                continue
            item.stash[SPEC] = parse(mark, self.places.scenarios, where=where(item))
            if self.again and placement.environment in self.places.disposable():  # elsewhere nothing is broken twice
                item.add_marker(pytest.mark.flaky(reruns=self.again, only_rerun=[MEASURED_NOTHING]))
            if placement.of > 1:
                sizes[_series_key(item)] = sizes.get(_series_key(item), 0) + 1
        for item in items:
            placement = placement_of(item)
            if placement is not None and (key := _series_key(item)) in sizes:
                item.stash[SERIES] = Series(key, sizes[key], placement.until)

    def check_systems(self, items: Sequence[pytest.Item]) -> None:
        """Every system fixture looks at the markers of the items that use it; a problem is kept, not raised."""
        for item in items:
            if placement_of(item) is None:
                continue
            for fixture in getattr(item, "fixturenames", ()):
                support = self.supports.get(fixture)
                if support is None or support.check is None:
                    continue
                try:
                    support.check(item)
                except BadInput as err:
                    self.problems[str(err)] = None

    def preflight(self, items: Sequence[pytest.Item]) -> None:
        """What must hold before the first drill touches anything.

        Raises:
            BadInput: for a standing environment without a provider, or a state directory that cannot take the evidence.
        """
        names = dict.fromkeys(placement.environment for item in items if (placement := placement_of(item)) is not None)
        for name in names:
            self.places.require_provider(name)
            refuse_early(name, self.places, self.options)
        if any(SPEC in item.stash for item in items):
            check_room(self.options.directory)


def check_room(directory: Path) -> None:
    """Raises BadInput where ``directory`` could not be written or its file system is nearly full."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise BadInput("is not writable", where=str(existing), next_step="choose another place with --drill-dir")
    free = shutil.disk_usage(existing).free
    if free < MIN_FREE_BYTES:
        raise BadInput(
            "no room for histories and reports",
            where=str(directory),
            expected=f"at least {MIN_FREE_BYTES >> 20} MiB free",
            observed=f"{free / (1 << 20):.1f} MiB",
            next_step="free some space, or choose another place with --drill-dir",
        )


def placement_of(item: pytest.Item) -> Placement | None:
    """The placement of an item that runs in an environment; None for any other test."""
    callspec = getattr(item, "callspec", None)
    value = callspec.params.get("environment") if callspec is not None else None
    return value if isinstance(value, Placement) else None


def where(item: pytest.Item) -> str:
    """``suites/failover/test_x.py:12: test_name``."""
    path, line, name = item.location
    return f"{path}:{(line or 0) + 1}: {name}"


def _series_key(item: pytest.Item) -> str:
    """The node id without the number of the repeat."""
    placement = placement_of(item)
    if placement is None or placement.of == 1:
        return ""
    return item.nodeid.replace(placement.id, placement.environment, 1)


def _check_fixture(metafunc: pytest.Metafunc, mark: pytest.Mark | None, place: str) -> None:
    if mark is not None and ("drill" not in metafunc.fixturenames or SESSION_FIXTURE not in metafunc.fixturenames):
        what = "is marked as a drill but does not use the fixture 'drill'"
        raise BadInput(what, where=place, next_step="take 'drill' as an argument, or drop the marker")
    if mark is None and "drill" in metafunc.fixturenames:
        raise BadInput("uses the fixture 'drill' but is not marked as one", where=place, next_step="add @pytest.mark.drill")

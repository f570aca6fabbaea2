"""The fixtures of the suites: places that are opened once per test class and put back after each test, faults, journals.

A test class names its catalogue (a path beside its own file); or it brings fixtures ``place`` and ``fault`` of its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NoReturn

import pytest

from chaos.core.errors import Unavailable
from chaos.engine.journal import Journal
from chaos.faults.base import Fault
from chaos.testing.places import Catalogue, Place, beside, put_back


class OpenPlaces:
    """Places by name, each opened when it is first asked for, all closed together."""

    def __init__(self, catalogue: Catalogue, directory: Path) -> None:
        self._catalogue, self._directory = catalogue, directory
        self._stack = contextlib.ExitStack()
        self._open: dict[str, Place] = {}
        self._unavailable: dict[str, Unavailable] = {}

    def __call__(self, name: str) -> Place:
        """Raises Unavailable, each time it is asked for."""
        if name in self._unavailable:
            raise self._unavailable[name]
        if name not in self._open:
            try:
                self._open[name] = self._stack.enter_context(self._catalogue.places[name](self._directory / name))
            except Unavailable as err:
                self._unavailable[name] = err
                raise
        return self._open[name]

    def close(self) -> None:
        self._open.clear()
        self._stack.close()


def not_here(err: Unavailable, place: str) -> NoReturn:
    """Skip with the reason; fail where ``DRILL_REQUIRE`` names the place (or the part of its name before the first ``-``), or this
    capability of it."""
    wanted = {part.strip() for part in os.environ.get("DRILL_REQUIRE", "").split(",")}
    names = {place, place.partition("-")[0]}
    required = {part.split(":")[0] for part in wanted} & names if not err.capability else {f"{n}:{err.capability}" for n in names} & wanted
    if required:
        pytest.fail(f"required by DRILL_REQUIRE, but {err}", pytrace=False)
    pytest.skip(str(err))


@contextlib.contextmanager
def lent(places: OpenPlaces, name: str) -> Iterator[Place]:
    """A place for one test, put back by other means than a fault's own: a test that fails half-way must not fail the next."""
    try:
        place = places(name)
    except Unavailable as err:
        not_here(err, name)
    before = place.states()
    yield place
    put_back(place, before)


class OnPlaces:
    """Base of the suites. ``catalogue`` is a path relative to the file of the class that names it; "": the fixtures are its own. ``only``
    names the places of it to be used; none: all. Places of different classes are opened apart, so that xdist can run them side by side."""

    catalogue: ClassVar[str] = ""
    only: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def known(cls) -> Catalogue:
        """What the catalogue says."""
        return Catalogue.read(next(beside(base, cls.catalogue) for base in cls.__mro__ if "catalogue" in base.__dict__))

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Each place, and each example of a fault that is worth its time there."""
        if not self.catalogue or "place" not in metafunc.fixturenames:
            return
        known = self.known()
        names = [name for name in known.places if name in (self.only or known.places)]
        if "fault" not in metafunc.fixturenames:
            metafunc.parametrize("place", names, indirect=True)
            return
        cases = [(name, pair) for name in names for pair in known.pairs(name)]
        ids = ["-".join(filter(None, (name, *pair))) for name, pair in cases]
        metafunc.parametrize(("place", "fault"), cases, indirect=True, ids=ids)

    @pytest.fixture(scope="class")
    @classmethod
    def places(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenPlaces]:
        """Opened as they are needed."""
        opened = OpenPlaces(cls.known(), tmp_path_factory.mktemp("places"))
        try:
            yield opened
        finally:
            opened.close()

    @pytest.fixture
    def place(self, request: pytest.FixtureRequest, places: OpenPlaces) -> Iterator[Place]:
        """Three nodes, as they were before when the test is over."""
        with lent(places, str(request.param)) as place:
            yield place

    @pytest.fixture
    def fault(self, request: pytest.FixtureRequest, place: Place) -> Fault:
        """An example of a fault on the nodes of the place; skipped with the reason where they cannot do it."""
        kind, example = request.param
        fault = self.known().examples[kind][example](*place.refs)
        try:
            fault.plan("probe", place.resolve)
        except Unavailable as err:
            not_here(err, place.name)
        return fault

    @pytest.fixture
    def journal(self, tmp_path: Path) -> Iterator[Journal]:
        """An empty journal on a real disk."""
        journal = Journal(tmp_path / "journal.jsonl")
        yield journal
        journal.close()

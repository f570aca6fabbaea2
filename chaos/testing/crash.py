"""``CrashContract``: whoever dies, whenever: nothing stays broken and nothing is left. A test class to be subclassed, a matrix of

fault × moment × way to die × place. A process breaks something and stands still at the moment; it is ended there; then the nodes, this
machine, the engine and the journals are looked at. ``CRASH=all`` in the environment asks for the whole product, else a part of it that
takes minutes: every fault at every moment under SIGKILL of the runner, and every death for the faults named in ``every_death``.

The cases run two at a time, whatever order pytest asks in; one that stands outlives its victims and is opened once for each of the two.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, cast

import pytest

from chaos.core.errors import Unavailable
from chaos.core.model import NodeRef
from chaos.engine.injection import MOMENTS
from chaos.testing.grounds import OnPlaces, OpenPlaces, not_here
from chaos.testing.host import Host
from chaos.testing.places import Catalogue, Example
from chaos.testing.wreck import RUNNER, RUNNER_AND_HEALER, SLACK_S, VICTIMS, WAYS, Aftermath, Case, wreck

VARIABLE, ALL = "CRASH", "all"
AT_A_TIME = 2
NEEDED = {"mid-inject", "mid-heal"}
"""Moments that a fault may lack: one that changes nothing has no middle."""


class Runs:
    """The cases of one class, under way in threads."""

    def __init__(self, catalogue: Catalogue, directory: Path, standing: frozenset[str], slack_s: float) -> None:
        self._catalogue, self._directory, self._standing, self._slack_s = catalogue, directory, standing, slack_s
        self._host = Host.now()
        self._numbers = itertools.count(1)
        self._pool = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="crash")
        self._own = threading.local()
        self._opened: list[OpenPlaces] = []
        self._futures: dict[Case, Future[Aftermath]] = {}
        self._unavailable: dict[tuple[str, str, str], Unavailable] = {}

    def submit(self, case: Case) -> None:
        if case not in self._futures:
            self._futures[case] = self._pool.submit(self._run, case, self._directory / f"case-{next(self._numbers)}")

    def result(self, case: Case) -> Aftermath:
        """Raises Unavailable where the place or the fault is not to be had here."""
        self.submit(case)
        return self._futures[case].result()

    def _run(self, case: Case, state: Path) -> Aftermath:
        fault = (case.place, case.kind, case.example)
        if fault in self._unavailable:
            raise self._unavailable[fault]
        try:
            return self._wreck(case, state)
        except Unavailable as err:
            self._unavailable[fault] = err
            raise

    def _wreck(self, case: Case, state: Path) -> Aftermath:
        places = self._places()
        standing = places(case.place) if case.place in self._standing else None
        return wreck(case, self._catalogue, state, standing=standing, host=self._host, slack_s=self._slack_s)

    def _places(self) -> OpenPlaces:
        """Of this thread alone: two cases must not meet on the same nodes."""
        if not hasattr(self._own, "places"):
            self._own.places = OpenPlaces(self._catalogue, self._directory / threading.current_thread().name)
            self._opened.append(self._own.places)
        found: OpenPlaces = self._own.places
        return found

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        for places in self._opened:
            places.close()


class CrashContract(OnPlaces):
    """``disposable`` and ``standing`` name places of the catalogue: those that end with the process that made them, and those that do not.
    ``every_death`` says per place for which kinds all ways to die are tried, and not SIGKILL of the runner alone. ``brief`` says per place
    at which moments the others are killed there, where it is too dear to do so at all of them. A dead-man's switch may act ``slack_s``
    after its deadline. With ``CRASH=all`` there is no shorter way."""

    disposable: ClassVar[tuple[str, ...]] = ("embedded",)
    standing: ClassVar[tuple[str, ...]] = ()
    every_death: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    brief: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    slack_s: ClassVar[float] = SLACK_S

    @classmethod
    def cases(cls, *, everything: bool) -> list[Case]:
        """The part of the matrix that is run."""
        known, found = cls.known(), []
        for place in (*cls.disposable, *cls.standing):
            seen: set[str] = set()
            for kind, example in known.pairs(place):
                if place in cls.standing and not permitted(known.examples[kind][example]):
                    continue
                if everything or kind not in seen:
                    ways = cls.ways(place, kind, everything=everything)
                    short = not everything and kind not in cls.every_death.get(place, ())
                    moments = cls.brief.get(place, MOMENTS) if short else MOMENTS
                    found += [Case(place, kind, example, moment, way) for way in ways for moment in moments]
                seen.add(kind)
        return found if everything else _once(found)

    @classmethod
    def ways(cls, place: str, kind: str, *, everything: bool) -> tuple[str, ...]:
        """Those that are tried. Real pytest runs are of disposable places: what it does on a standing one its guard decides."""
        possible = WAYS if place in cls.disposable else VICTIMS
        return possible if everything or kind in cls.every_death.get(place, ()) else (RUNNER,)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "case" in metafunc.fixturenames:
            cases = self.cases(everything=os.environ.get(VARIABLE) == ALL)
            metafunc.parametrize("case", cases, ids=str)

    @pytest.fixture(scope="class")
    @classmethod
    def runs(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
        """All cases of this class that were selected, on their way."""
        runs = Runs(cls.known(), tmp_path_factory.mktemp("crash"), frozenset(cls.standing), cls.slack_s)
        try:
            for item in request.session.items:
                if isinstance(item, pytest.Function) and item.cls is request.cls and hasattr(item, "callspec"):
                    runs.submit(cast("Case", item.callspec.params["case"]))
            yield runs
        finally:
            runs.close()

    def test_a_death_leaves_nothing(self, case: Case, runs: Runs) -> None:
        """Whoever dies: soon the journal has nothing open, the nodes are as before, and no process, interface, mount, memory, rule, file or
        helper is left."""
        try:
            after = runs.result(case)
        except Unavailable as err:
            not_here(err, case.place)
        assert after.wrong == []
        if not after.reached:
            assert case.moment in NEEDED, "the fault was never there"
            pytest.skip(f"{case.kind} has no {case.moment}: it changes nothing then")


def permitted(example: Example) -> bool:
    """On a standing place: its guard refuses a fault that nobody but the fixture puts back."""
    refs = [NodeRef("", "", name) for name in "abc"]
    return set(example(refs[0], refs[1], refs[2]).nets) != {"fixture"}


def _once(cases: list[Case]) -> list[Case]:
    """Before the intent all faults are alike, and without a healer what stands beside the nodes takes a minute to end by itself: one of
    those cases per place is enough."""
    alike = [case for case in cases if (case.moment, case.way) == (MOMENTS[0], RUNNER_AND_HEALER)]
    first = {case.place: case for case in reversed(alike)}
    return [case for case in cases if case not in alike or case is first[case.place]]

"""The Docker engine is restarted under a fault, on a second engine of the test's own; compared with a restart without a fault."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crash_engine import Engine, second_engine, settled, three

from chaos.core.clock import wait_for
from chaos.core.errors import DeadlineExceeded, Unavailable
from chaos.testing.grounds import not_here
from chaos.testing.places import Catalogue, Place
from chaos.testing.stops import release
from chaos.testing.wreck import RUNNER, Case, Wreck, differing, left_beside, start

CATALOGUE = Path(__file__).parents[1] / "contract" / "contract_places.py"
BACK_WITHIN_S = 60.0
ALL = ("after-arm", "mid-inject", "observing", "mid-heal")
KINDS = ("pause", "power-loss") if os.environ.get("CRASH") == "all" else ("pause",)
"""Each moment takes a quarter of a minute."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Below /var/tmp: a socket's path must be short, and layers do not fit in memory."""
    with tempfile.TemporaryDirectory(prefix="gd-engine-", dir="/var/tmp", ignore_cleanup_errors=True) as directory:
        try:
            with second_engine(Path(directory)) as engine:
                yield engine
        except Unavailable as err:
            not_here(err, "docker")


@pytest.fixture
def place(engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Place]:
    """Three containers on it."""
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    with three(tmp_path) as place:
        yield place


def end_of(run: Wreck) -> list[str]:
    """The victim goes on to its end. What it could not put back while there was no engine stays with its healer for a while."""
    release(run.state, 1)
    run.process.wait(BACK_WITHIN_S)
    with contextlib.suppress(DeadlineExceeded):
        wait_for(lambda: not run.open_now(), timeout_s=BACK_WITHIN_S, what="the healer", interval_s=0.1)
        wait_for(lambda: not run.traces.remnants(), timeout_s=BACK_WITHIN_S, what="the healer to end", interval_s=0.1)
    return run.open_now()


@pytest.mark.parametrize("kind", KINDS)
def test_a_restarted_engine_leaves_nothing_that_it_would_not_leave_anyway(engine: Engine, place: Place, kind: str, tmp_path: Path) -> None:
    """While the fault is armed, the engine is restarted under it; then the containers are as after a restart without any
    fault, the journal is closed, and no helper is left."""
    settled(place, BACK_WITHIN_S)
    engine.restart()
    plain: list[Any] = settled(place, BACK_WITHIN_S)
    wrong: list[str] = []
    for moment in ALL:
        case = Case("docker-attach", kind, "", moment, RUNNER)
        run = start(case, Catalogue.read(CATALOGUE), tmp_path / moment, place)
        try:
            assert run.stopped(moment, 1) is not None
            engine.restart()
            wrong += [f"{moment}: open: {fault_id}" for fault_id in end_of(run)]
        finally:
            if run.process.poll() is None:
                run.process.kill()
                run.process.wait(BACK_WITHIN_S)
        now = settled(place, BACK_WITHIN_S)
        wrong += [f"{moment}: {difference}" for difference in differing(plain, now)]
        place.environment.close()  # type: ignore[union-attr]
        wrong += [f"{moment}: {text}" for text in left_beside(run)]
        wrong += [f"{moment}: {text} {run.log()}" for text in run.traces.remnants()]
    assert wrong == []

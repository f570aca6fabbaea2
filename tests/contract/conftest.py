"""One set of nodes per environment and session, for the tests that are not of one fault; skipped with the reason where it is not there,
failed where DRILL_REQUIRE names it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from contract_places import EXAMPLES, PLACES

from chaos.engine.journal import Journal
from chaos.testing.grounds import OpenPlaces, lent
from chaos.testing.places import Catalogue, Place

CATALOGUE = Path(__file__).with_name("contract_places.py")
# What is run of an example that is not the first of its fault, and of faults that are the same few commands in a container as on a
# micro-host; CONTRACT=all (make contract) runs everything everywhere, which takes an hour.
SHORT = ("test_landed_and_healed_are_observed", "test_undo_needs_nothing_but_the_journal")
EVERYWHERE = ("kill", "stop", "pause", "power-loss", "partition")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not worth its minutes in every run."""
    if os.environ.get("CONTRACT") == "all":
        return
    dropped = [item for item in items if not _stays(item)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if item not in dropped]


def _stays(item: pytest.Item) -> bool:
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    if item.path.name != "test_fault_contract.py" or "fault" not in parameters or "place" not in parameters:
        return True
    kind, example = cast("tuple[str, str]", parameters["fault"])
    whole = example == next(iter(EXAMPLES[kind])) and (str(parameters["place"]).startswith("embedded") or kind in EVERYWHERE)
    return whole or item.originalname in SHORT


@pytest.fixture(scope="session")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenPlaces]:
    """Opened as they are needed."""
    places = OpenPlaces(Catalogue.read(CATALOGUE), tmp_path_factory.mktemp("places"))
    try:
        yield places
    finally:
        places.close()


@pytest.fixture(params=list(PLACES))
def place(request: pytest.FixtureRequest, standing: OpenPlaces) -> Iterator[Place]:
    """The nodes of one environment, as they were before when the test is over."""
    with lent(standing, str(request.param)) as place:
        yield place


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal on a real disk."""
    journal = Journal(tmp_path / "journal.jsonl")
    yield journal
    journal.close()

"""One set of nodes per environment and session; skipped with the reason where it is not there, failed where DRILL_REQUIRE names it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from contract_places import EXAMPLES, PLACES, Place, worthwhile

from chaos.core.clock import wait_for
from chaos.core.errors import Unavailable
from chaos.engine.journal import Journal
from chaos.environments.base import Freeze, PacketFilter, Power, Services
from chaos.faults.base import Fault


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the combinations that are not worth their time."""
    items[:] = [item for item in items if _stays(item)]


def _stays(item: pytest.Item) -> bool:
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    if "fault" not in parameters or "standing" not in parameters:
        return True
    kind, example = cast("tuple[str, str]", parameters["fault"])
    return worthwhile(str(parameters["standing"]), kind, example)


@pytest.fixture(scope="session", params=list(PLACES))
def standing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The nodes of one environment, for the whole session."""
    name = str(request.param)
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(PLACES[name](tmp_path_factory.mktemp(name)))
        except Unavailable as err:
            required = {part.split(":")[0].strip() for part in os.environ.get("DRILL_REQUIRE", "").split(",")}
            if name.partition("-")[0] in required:
                pytest.fail(f"required by DRILL_REQUIRE, but {err}", pytrace=False)
            pytest.skip(str(err))
        yield place


@pytest.fixture
def place(standing: Place) -> Iterator[Place]:
    """The nodes, put back by other means than a fault's own: a test that fails half-way must not fail the next."""
    before = standing.states()
    yield standing
    for node in standing.nodes:
        if isinstance(node, Power):
            node.power_on()
        if isinstance(node, Freeze):
            node.thaw()
        if isinstance(node, PacketFilter):
            for tag in node.drops():
                node.undrop(tag)
        if isinstance(node, Services):
            for service in node.services():
                node.start_service(service)
    wait_for(lambda: standing.states() == before, timeout_s=20, what="the nodes to be as they were", interval_s=0.1)


_ALL = [(kind, example) for kind, examples in EXAMPLES.items() for example in examples]


@pytest.fixture(params=_ALL, ids=lambda pair: "-".join(filter(None, pair)))
def fault(request: pytest.FixtureRequest, place: Place) -> Fault:
    """An example of a registered fault on the nodes of this environment."""
    kind, example = request.param
    return EXAMPLES[kind][example](*place.refs)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal on a real disk."""
    journal = Journal(tmp_path / "journal.jsonl")
    yield journal
    journal.close()

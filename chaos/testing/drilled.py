"""A pytest plugin for the small project in which real pytest runs are ended: a system of three nodes without any service to measure, whose
one fault stands still where ``spec.json`` beside the conftest says. See ``wreck``, which writes that project.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from chaos.core.clock import now_ns
from chaos.core.errors import EnvironmentFailed
from chaos.core.model import Json, NodeRef
from chaos.engine.drill import Drill
from chaos.environments.base import ClientProcess, Environment, Node
from chaos.faults.base import Fault
from chaos.measure.history import SurvivorRead
from chaos.plugin.hookspecs import SystemSupport
from chaos.testing.places import Catalogue, Place
from chaos.testing.stops import TEARDOWN, Spec, Stops


class Wrecked:
    """The system: what a drill asks of one, and no more."""

    name = "wreck"
    detect_s = check_interval_s = 0.0

    def __init__(self, environment: Environment, place: Place, fault: Fault) -> None:
        self.environment, self._place, self.fault = environment, place, fault

    def resolve(self, ref: NodeRef) -> Node:
        return self._place.resolve(ref)

    @property
    def nodes(self) -> Mapping[str, Node]:
        return {node.name: node for node in self._place.nodes}

    def describe(self) -> dict[str, Json]:
        return {"place": self._place.name}

    def caveats(self) -> Sequence[str]:
        return ()

    def prove_healthy(self, timeout_s: float) -> str:
        return "nothing is asked of it"

    def prove_whole(self, timeout_s: float) -> str:
        return "nothing is asked of it"

    def begin_drill(self, drill_id: str) -> None:
        """There is no ledger."""

    def read_survivors(self, label: str) -> SurvivorRead:
        return SurvivorRead(label, now_ns(), now_ns(), (), source="nothing")

    def spawn_client(self, argv: Sequence[str], *, log: Path) -> ClientProcess:
        raise EnvironmentFailed("this system has no clients", where=str(log))


def _spec(config: pytest.Config) -> Spec:
    return msgspec.json.decode((config.rootpath / "spec.json").read_bytes(), type=Spec)


def pytest_gameday_systems() -> list[SystemSupport]:
    return [SystemSupport("wreck", ("embedded", "docker"))]


STOPS = pytest.StashKey[Stops]()


def pytest_gameday_moment(item: pytest.Item, moment: str) -> None:
    if STOPS in item.stash:
        item.stash[STOPS].at(moment)


@pytest.fixture
def wreck(request: pytest.FixtureRequest, drill: Drill, environment: Environment) -> Iterator[Wrecked]:
    """Three nodes, as the catalogue makes them, and the fault of the spec."""
    spec = _spec(request.config)
    stops = request.node.stash[STOPS] = Stops(spec)
    catalogue = Catalogue.read(Path(spec.catalogue))
    with catalogue.places[spec.place](Path(spec.state) / "place") as place:
        system = Wrecked(environment, place, stops.spied(catalogue.examples[spec.kind][spec.example](*place.refs)))
        drill.use(system)
        yield system
        stops.at(TEARDOWN)

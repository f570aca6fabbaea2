"""Where the conformance suite runs, and on what: three nodes per environment, and examples of every registered fault.

A new environment joins by one entry in ``PLACES``; a new fault by one in ``EXAMPLES`` (without it the suite fails).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from chaos.core.model import Json, NodeRef
from chaos.environments.base import Node
from chaos.environments.docker import Docker, NodeSpec, Service
from chaos.environments.microhost.client import MicroHost
from chaos.environments.microhost.protocol import ServiceSpec
from chaos.environments.microhost.provider import Microhosts
from chaos.faults.base import Fault, Resolve
from chaos.faults.kill import Kill
from chaos.faults.noop import Noop
from chaos.faults.partition import Partition
from chaos.faults.pause import Pause
from chaos.faults.power_loss import PowerLoss
from chaos.faults.stop import Stop

NAMES = ("a", "b", "c")
# The process that is killed is not the service itself: the service ends a moment after it.
SLEEPER = ("/bin/sh", "-c", "/bin/sleep 1000000; exit 1")
IMAGE_CONTEXT = Path(__file__).resolve().parents[2] / "fixtures" / "images" / "patroni"


@dataclass(frozen=True)
class Place:
    """Three nodes with a running service each. ``resolve`` makes a node object from a reference alone, a new one each time."""

    name: str
    refs: tuple[NodeRef, NodeRef, NodeRef]
    resolve: Resolve

    @property
    def nodes(self) -> list[Node]:
        return [self.resolve(ref) for ref in self.refs]

    def states(self) -> list[dict[str, Json]]:
        return [node.state() for node in self.nodes]


@contextlib.contextmanager
def embedded(directory: Path, *, iptables: bool = True) -> Iterator[Place]:
    """Three micro-hosts; without ``iptables`` as on a machine that has none."""
    environment = Microhosts()
    environment.check()
    environment.open(run_id="contract", state_dir=directory)
    try:
        sandbox = environment.sandbox("contract")
        if not iptables:
            sandbox._has_iptables = False
        service = ServiceSpec("sleeper", SLEEPER)
        hosts = [sandbox.add(name, disk_bytes=1 << 20, services=[service]) for name in NAMES]
        yield Place("embedded", _three([host.ref for host in hosts]), lambda ref: MicroHost(sandbox, ref.name))
    finally:
        environment.close()


@contextlib.contextmanager
def docker(directory: Path) -> Iterator[Place]:
    """Three containers; resolved by an environment that never opened, as another process would."""
    environment, elsewhere = Docker(), Docker()
    environment.check()
    environment.open(run_id="contract", state_dir=directory)
    try:
        image = environment.image("pytest-gameday/patroni-3.1.2", IMAGE_CONTEXT, {"PATRONI": "3.1.2"})
        service = Service(SLEEPER, "games")
        specs = [NodeSpec(name=name, image=image, services={"sleeper": service}) for name in NAMES]
        nodes = environment.lan("contract").start_all(specs)
        yield Place("docker", _three([node.ref for node in nodes]), elsewhere.resolve)
    finally:
        elsewhere.close()
        environment.close()


PLACES: Mapping[str, Callable[[Path], contextlib.AbstractContextManager[Place]]] = {
    "embedded": embedded,
    "embedded-routes": functools.partial(embedded, iptables=False),
    "docker": docker,
}

EXAMPLES: Mapping[str, Mapping[str, Callable[[NodeRef, NodeRef, NodeRef], Fault]]] = {
    "noop": {"": lambda a, b, c: Noop(a)},
    "kill": {"": lambda a, b, c: Kill(a, process="sleep")},
    "stop": {"": lambda a, b, c: Stop(a), "named": lambda a, b, c: Stop(a, service="sleeper")},
    "pause": {"": lambda a, b, c: Pause(a)},
    "power-loss": {"": lambda a, b, c: PowerLoss(a)},
    "partition": {
        "two from one": lambda a, b, c: Partition((a, b), (c,)),
        "one way": lambda a, b, c: Partition.between(a, [b, c], one_way=True),
        "isolated": lambda a, b, c: Partition.isolate(a, [b, c]),
    },
}


def registered() -> dict[str, type[Fault]]:
    """Every fault that is installed, by its registered name."""
    return {point.name: cast("type[Fault]", point.load()) for point in entry_points(group="chaos.faults")}


def worthwhile(place: str, kind: str, example: str) -> bool:
    """All examples of a fault run where nodes cost nothing, the first of each everywhere; without iptables only partitions differ."""
    if place == "embedded-routes":
        return kind == "partition"
    return place == "embedded" or example == next(iter(EXAMPLES[kind]))


def _three(refs: list[NodeRef]) -> tuple[NodeRef, NodeRef, NodeRef]:
    one, two, three = refs
    return one, two, three

"""How long a fault takes from the call to the proof that it landed, journal on the disk included.

Partition: two micro-hosts, by iptables and by routing rules; all of ``inject`` counts (look at both nodes, journal the intent, drop, prove
that no echo comes back, journal that it landed). Silence takes a while to prove: the echo is given its time.

Docker: ``PowerLoss`` of a node against the bare SDK's ``container.kill()`` of its neighbour of the same image on the same network,
in turns. What counts is the part from the journal's intent to the proof that it landed; it does more than the bare call (the link
goes first, the death is observed). What comes before, recording the node's prior state, stands in a line of its own.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from bench.row import ROOT, Row, command, finish, scratch, spread
from chaos import Partition, PowerLoss, Unavailable
from chaos.core.model import FaultRecord
from chaos.engine.injection import InjectedFault
from chaos.engine.journal import Journal
from chaos.environments.base import Node
from chaos.environments.docker import Docker, DockerNode, NodeSpec, Service
from chaos.environments.docker.engine import connect
from chaos.environments.microhost.client import MicroHost, Sandbox, iptables_path
from chaos.faults.base import Fault

PARTITION_MS = 40.0
KILL_TIMES, KILL_MS = 1.3, 20.0
IMAGE = ROOT / "fixtures" / "images" / "patroni"
SLEEPER = {"sleeper": Service(("sleep", "infinity"), "nobody")}


class Cycle(NamedTuple):
    """One fault from call to heal (milliseconds): all of ``inject``, its part from intent to landed, all of ``heal``."""

    inject_ms: float
    landed_ms: float
    heal_ms: float


class WithoutIptables(Sandbox):
    """A sandbox on a machine that has none."""

    def has_iptables(self, host: MicroHost) -> bool:
        return False


def cycle(fault: Fault, nodes: Mapping[str, Node], journal: Path) -> Cycle:
    """Inject and heal through the engine, with a journal of its own as a drill has."""
    book = Journal(journal)
    try:
        injected = InjectedFault(fault, journal.stem, lambda ref: nodes[ref.name], book, lambda record, state: None, cause=False)
        begin = time.monotonic()
        injected.inject("bench")
        inject_ms = (time.monotonic() - begin) * 1e3
        begin = time.monotonic()
        injected.heal()
        heal_ms = (time.monotonic() - begin) * 1e3
    finally:
        book.close()
    return Cycle(inject_ms, _intent_to_landed_ms(injected.record), heal_ms)


def _intent_to_landed_ms(record: FaultRecord) -> float:
    assert record.planned_ns is not None and record.landed_ns is not None
    return (record.landed_ns - record.planned_ns) / 1e6


def partitions(kind: type[Sandbox], rounds: int, directory: Path) -> list[Cycle]:
    """Two micro-hosts, cut apart and joined again."""
    sandbox = kind("bench", None)
    try:
        a, b = sandbox.add("a", disk_bytes=1 << 20), sandbox.add("b", disk_bytes=1 << 20)
        fault = Partition.between(a.ref, [b.ref])
        return [cycle(fault, sandbox.hosts, directory / f"{kind.__name__}-{number}.jsonl") for number in range(rounds)]
    finally:
        sandbox.close()


def partition_rows(rounds: int, directory: Path) -> list[Row]:
    """The figures of micro-hosts."""
    figures = []
    for name, kind in (("iptables", Sandbox), ("routing rules", WithoutIptables)):
        what = f"micro-host partition by {name}, journalled, landed proven"
        if kind is Sandbox and iptables_path() is None:
            figures.append(Row(what, f"≤ {PARTITION_MS:g} ms", "skipped: iptables is not installed"))
            continue
        cycles = partitions(kind, rounds, directory)
        inject = [one.inject_ms for one in cycles]
        middle, p95 = numpy.percentile(inject, [50, 95])
        measured = f"median {middle:.1f}, p95 {p95:.1f} ms (n = {rounds})"
        figures.append(Row(what, f"median ≤ {PARTITION_MS:g} ms", measured, bool(middle <= PARTITION_MS)))
        figures.append(Row("its heal, proven", "", spread([one.heal_ms for one in cycles], "ms", 1)))
    return figures


def kills(rounds: int, directory: Path) -> tuple[list[Cycle], list[float]]:
    """Cycles of PowerLoss, and milliseconds of the bare call."""
    environment = Docker()
    environment.open(run_id="bench", state_dir=directory)
    sdk = connect()
    try:
        image = environment.image("pytest-gameday/patroni-3.1.2", IMAGE, {"PATRONI": "3.1.2"})
        lan = environment.lan("bench")
        ours, theirs = lan.start_all([NodeSpec(name=name, image=image, services=SLEEPER) for name in ("ours", "theirs")])
        bare_ms, cycles = [], []
        for number in range(rounds + 1):  # the first warms the engine up
            cycles.append(cycle(PowerLoss(ours.ref), lan.nodes, directory / f"kill-{number}.jsonl"))
            bare_ms.append(bare_kill_ms(sdk.containers.get(theirs.container_id), theirs))
        return cycles[1:], bare_ms[1:]
    finally:
        sdk.close()
        environment.close()


def bare_kill_ms(container: Any, node: DockerNode) -> float:
    """``container.kill()`` as the SDK does it; then the container is started again and used once, so that the next begins alike."""
    begin = time.monotonic()
    container.kill()
    took_ms = (time.monotonic() - begin) * 1e3
    node.power_on()
    node.state()
    return took_ms


def kill_rows(rounds: int, directory: Path) -> list[Row]:
    """The figures of docker."""
    what = "docker kill through PowerLoss: intent journalled to landed proven"
    must = f"≤ {KILL_TIMES:g} × bare SDK + {KILL_MS:g} ms"
    try:
        Docker().check()
    except Unavailable as err:
        return [Row(what, must, f"skipped: {err}")]
    cycles, bare = kills(rounds, directory)
    bound = KILL_TIMES * statistics.median(bare) + KILL_MS
    middle = statistics.median([one.landed_ms for one in cycles])
    return [
        Row(what, f"{must} = {bound:.0f} ms", spread([one.landed_ms for one in cycles], "ms", 0), middle <= bound),
        Row("bare SDK container.kill() beside it", "", spread(bare, "ms", 0)),
        Row("all of inject, recording the prior state included", "", spread([one.inject_ms for one in cycles], "ms", 0)),
        Row("its heal (link, start, services as before), proven", "", spread([one.heal_ms for one in cycles], "ms", 0)),
    ]


def main(argv: Sequence[str]) -> int:
    """Print the table; 1 where a figure was not reached."""
    parser = command("faults", __doc__)
    parser.add_argument("--rounds", type=int, help="partitions of each kind, and half as many kills (default 30; quick: 10)")
    options = parser.parse_args(argv)
    rounds = options.rounds or (10 if options.quick else 30)
    with scratch("faults") as name:
        return finish([*partition_rows(rounds, Path(name)), *kill_rows(max(1, rounds // 2), Path(name))], options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Where the conformance suite runs, and on what: three nodes per environment, and examples of every registered fault.

A new environment joins by one entry in ``PLACES``; a new fault by one in ``EXAMPLES`` (without it the suite fails).
"""

from __future__ import annotations

import contextlib
import functools
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import cast

from contract_attached import attached

from chaos.core.model import NodeRef
from chaos.environments.docker import Docker, NodeSpec, Service
from chaos.environments.docker.engine import connect
from chaos.environments.docker.owner import OWNER_PID
from chaos.environments.microhost.protocol import ServiceSpec
from chaos.environments.microhost.provider import Microhosts
from chaos.faults.bandwidth import Bandwidth
from chaos.faults.base import Fault
from chaos.faults.clock_skew import ClockSkew
from chaos.faults.connection_reset import ConnectionReset
from chaos.faults.corrupt_file import CorruptFile
from chaos.faults.cpu_limit import CpuLimit
from chaos.faults.cpu_stress import CpuStress
from chaos.faults.crash_loop import CrashLoop
from chaos.faults.disk_errors import DiskErrors
from chaos.faults.disk_fill import DiskFill
from chaos.faults.dns_failure import DnsFailure
from chaos.faults.fd_exhaustion import FdExhaustion
from chaos.faults.half_open import HalfOpen
from chaos.faults.inode_exhaustion import InodeExhaustion
from chaos.faults.kill import Kill
from chaos.faults.latency import Latency
from chaos.faults.link_down import LinkDown
from chaos.faults.memory_pressure import MemoryPressure
from chaos.faults.monotonic_skew import MonotonicSkew
from chaos.faults.noop import Noop
from chaos.faults.packet_loss import PacketLoss
from chaos.faults.partition import Partition
from chaos.faults.pause import Pause
from chaos.faults.port_exhaustion import PortExhaustion
from chaos.faults.power_loss import PowerLoss
from chaos.faults.read_only_filesystem import ReadOnlyFilesystem
from chaos.faults.replication_stop import ReplicationStop
from chaos.faults.restart import Restart
from chaos.faults.slow_close import SlowClose
from chaos.faults.slow_disk import SlowDisk
from chaos.faults.stop import Stop
from chaos.testing.microhosts import place_of
from chaos.testing.places import Place

NAMES = ("a", "b", "c")
# The process that is killed is not the service itself: the service ends a moment after it.
SLEEPER = ("/bin/sh", "-c", "/bin/sleep 1000000; exit 1")
# Flushes a file on the node's disk ten times a second, and goes on when it cannot.
FLUSHER = """
import os, sys, time
open("/proc/self/comm", "w").write("flusher")
while True:
    try:
        with open(sys.argv[1], "w") as file:
            file.write("x"); file.flush(); os.fsync(file.fileno())
    except OSError:
        pass
    time.sleep(0.1)
"""
# What a node serves: an echo by TCP, and as DNS the address 192.0.2.77 for every name. The program: its ports come last.
SERVER = Path(__file__).with_name("contract_server.py").read_text(encoding="utf-8")
ECHO_PORT, DNS_PORT = 7007, 5300
AT_REST = "at-rest.bin"  # a file on the disk that nobody writes
TOOLS_CONTEXT = Path(__file__).with_name("image")
IMAGE_CONTEXT = Path(__file__).resolve().parents[2] / "fixtures" / "images" / "patroni"


def faked(disk: str) -> dict[str, str]:
    """The environment of a program whose clock can be moved by a file on ``disk``, where this machine has libfaketime."""
    library = next((str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), "")
    moved = {"FAKETIME_TIMESTAMP_FILE": f"{disk}/faketime", "FAKETIME_CACHE_DURATION": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return {"LD_PRELOAD": library, **moved} if library else {}


@contextlib.contextmanager
def embedded(directory: Path, *, iptables: bool = True) -> Iterator[Place]:
    """Three micro-hosts; without ``iptables`` as on a machine that has none."""
    environment = Microhosts()
    environment.open(run_id="contract", state_dir=directory)
    try:
        sandbox = environment.sandbox("contract")
        if not iptables:
            sandbox._has_iptables = False
        flush = [(sys.executable, "-I", "-S", "-c", FLUSHER, str(sandbox.inside(name) / "flushed")) for name in NAMES]
        sleepers = [ServiceSpec("sleeper", SLEEPER, faked(str(sandbox.inside(name)))) for name in NAMES]
        server = ServiceSpec("server", (sys.executable, "-I", "-S", "-c", SERVER, str(ECHO_PORT), str(DNS_PORT)))
        services = [[sleeper, ServiceSpec("flusher", argv), server] for sleeper, argv in zip(sleepers, flush, strict=True)]
        hosts = [sandbox.add(name, disk_bytes=1 << 20, services=run) for name, run in zip(NAMES, services, strict=True)]
        for host in hosts:
            (host.disk / AT_REST).write_bytes(bytes(range(256)) * 40)
        yield place_of(environment, sandbox, [host.ref for host in hosts])
    finally:
        environment.close()


@contextlib.contextmanager
def docker(directory: Path) -> Iterator[Place]:
    """Three containers; resolved by an environment that never opened, as another process would."""
    environment, elsewhere = Docker(), Docker()
    environment.check()
    environment.open(run_id="contract", state_dir=directory)
    try:
        base = environment.image("pytest-gameday/patroni-3.1.2", IMAGE_CONTEXT, {"PATRONI": "3.1.2"})
        image = environment.image("pytest-gameday/contract", TOOLS_CONTEXT, {"BASE": base})
        service = Service(SLEEPER, "games")
        flusher = Service(("/usr/bin/python3", "-I", "-S", "-c", FLUSHER, "/data/flushed"), "games")
        server = Service(("/usr/bin/python3", "-I", "-S", "-c", SERVER, str(ECHO_PORT), str(DNS_PORT)), "games")
        services = {"sleeper": service, "flusher": flusher, "server": server}
        specs = [NodeSpec(name=name, image=image, services=services, data={"/data": "games"}, disk_bytes=1 << 20) for name in NAMES]
        lan = environment.lan("contract")
        lan.keep(specs)
        nodes = lan.start_all(specs)
        for node in nodes:
            assert node.run(("dd", f"of=/data/{AT_REST}"), stdin=bytes(range(256)) * 40, privileged=True).code == 0
        yield Place("docker", _three([node.ref for node in nodes]), elsewhere.resolve, environment)
    finally:
        elsewhere.close()
        environment.close()


@contextlib.contextmanager
def docker_attach(directory: Path) -> Iterator[Place]:
    """Three containers that somebody else runs: they outlive whoever breaks them."""

    def image(environment: Docker) -> str:
        base = environment.image("pytest-gameday/patroni-3.1.2", IMAGE_CONTEXT, {"PATRONI": "3.1.2"})
        return environment.image("pytest-gameday/contract", TOOLS_CONTEXT, {"BASE": base})

    flusher = shlex.join(("/usr/bin/python3", "-I", "-S", "-c", FLUSHER, "/data/flushed"))
    server = shlex.join(("/usr/bin/python3", "-I", "-S", "-c", SERVER, str(ECHO_PORT), str(DNS_PORT)))
    at_rest = f"head -c 10000 /bin/sh > /data/{AT_REST}"
    with attached(directory, NAMES, image, [at_rest, flusher, server]) as place:
        yield place


PLACES: Mapping[str, Callable[[Path], contextlib.AbstractContextManager[Place]]] = {
    "embedded": embedded,
    "embedded-routes": functools.partial(embedded, iptables=False),
    "docker": docker,
    "docker-attach": docker_attach,
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
        "in": lambda a, b, c: Partition.between(a, [b], direction="in"),
        "port": lambda a, b, c: Partition.between(a, [b], port=9),
        "network": lambda a, b, c: Partition.from_cidr(a, "10.66.0.2/32", [b, c], direction="out"),
        "bridge": lambda a, b, c: Partition.bridge([a, b, c]),
        "ring": lambda a, b, c: Partition.majorities_ring([a, b, c], seed=1),
    },
    "packet-loss": {
        "": lambda a, b, c: PacketLoss(a, 0.3, (b,)),
        "few from everybody": lambda a, b, c: PacketLoss(a, 0.1, (b, c), everybody=True, direction="in"),
    },
    "link-down": {"": lambda a, b, c: LinkDown(a)},
    "connection-reset": {
        "": lambda a, b, c: ConnectionReset(a, (b,)),
        "everybody": lambda a, b, c: ConnectionReset(a, (b, c), everybody=True),
    },
    "restart": {"": lambda a, b, c: Restart(a), "named": lambda a, b, c: Restart(a, service="sleeper")},
    "crash-loop": {"": lambda a, b, c: CrashLoop(a, process="sleep", every_s=0.1)},
    "cpu-stress": {"": lambda a, b, c: CpuStress(a, workers=1, nice=10)},
    "cpu-limit": {"": lambda a, b, c: CpuLimit(a, cores=0.2)},
    "memory-pressure": {"": lambda a, b, c: MemoryPressure(a, percent=30)},
    "fd-exhaustion": {
        "": lambda a, b, c: FdExhaustion(a, process="sleep"),
        "family": lambda a, b, c: FdExhaustion(a, process="sh", family=True),
    },
    "monotonic-skew": {"": lambda a, b, c: MonotonicSkew(a, offset_s=86_400), "back": lambda a, b, c: MonotonicSkew(a, offset_s=-30)},
    "clock-skew": {"": lambda a, b, c: ClockSkew(a, process="sleep", offset_s=3600)},
    # No replica here: any process can be stopped. A real one is in tests/embedded/test_resource_faults.py.
    "replication-stop": {"": lambda a, b, c: ReplicationStop(a, receiver="/bin/sleep")},
    "disk-fill": {
        "": lambda a, b, c: DiskFill(a),
        "percent": lambda a, b, c: DiskFill(a, percent=80),
        "leaving": lambda a, b, c: DiskFill(a, leave_bytes=200_000),
    },
    "inode-exhaustion": {"": lambda a, b, c: InodeExhaustion(a)},
    "read-only-filesystem": {"": lambda a, b, c: ReadOnlyFilesystem(a)},
    "slow-disk": {"": lambda a, b, c: SlowDisk(a, process="flusher")},
    "disk-errors": {
        "": lambda a, b, c: DiskErrors(a, process="flusher"),
        "every third": lambda a, b, c: DiskErrors(a, process="flusher", error="ENOSPC", calls=("fsync",), every=3),
    },
    "latency": {
        "": lambda a, b, c: Latency(a, 50, peers=(b,)),
        "everybody": lambda a, b, c: Latency(a, 40, jitter_ms=10),
        "port": lambda a, b, c: Latency(a, 60, peers=(b, c), port=ECHO_PORT),
    },
    "bandwidth": {"": lambda a, b, c: Bandwidth(a, 125_000)},
    "half-open": {
        "": lambda a, b, c: HalfOpen(a, ECHO_PORT, (b,)),
        "everybody": lambda a, b, c: HalfOpen(a, ECHO_PORT, (b, c), everybody=True),
    },
    "slow-close": {
        "": lambda a, b, c: SlowClose(a, ECHO_PORT, 0.4, (b,)),
        "never": lambda a, b, c: SlowClose(a, ECHO_PORT, None, (b, c), everybody=True),
    },
    "dns-failure": {
        "": lambda a, b, c: DnsFailure(a, "nxdomain", resolver=b, port=DNS_PORT),
        "refuse": lambda a, b, c: DnsFailure(a, "refuse", resolver=b, port=DNS_PORT),
        "some": lambda a, b, c: DnsFailure(a, "wrong", names=("example.test",), resolver=b, port=DNS_PORT),
        "timeout": lambda a, b, c: DnsFailure(a, "timeout", resolver=b, port=DNS_PORT),
    },
    "port-exhaustion": {
        "": lambda a, b, c: PortExhaustion(a),
        "few left": lambda a, b, c: PortExhaustion(a, leave=5),
    },
    "corrupt-file": {"": lambda a, b, c: CorruptFile(a, path=AT_REST)},
}


# The effect is over when injection is: nothing is left to be seen on the node, or to be healed. The attached containers start anew what was
# killed on them.
OVER = frozenset({"noop", "restart", "docker-attach:kill"})
# The effect is seen by the fault's own proof alone, not in the node's state.
UNSEEN = frozenset({"clock-skew"})
# What it did cannot be undone, only followed by something new: landed stays true.
LASTING = frozenset({"kill", "restart"})


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


def leftovers(place: str, pid: int) -> list[str]:
    """Containers and networks that the process ``pid`` of this machine has made and that are still there."""
    if place != "docker":
        return []
    client = connect()
    try:
        wanted = {"label": f"{OWNER_PID}={pid}"}
        containers = [c["Names"][0] for c in client.api.containers(all=True, filters=wanted)]
        return containers + [n["Name"] for n in client.api.networks(filters=wanted)]
    finally:
        client.close()

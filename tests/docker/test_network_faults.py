"""Network faults on containers: what a link that is down leaves alone, and what partitions, losses and resets are proven by there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chaos.core.clock import wait_for
from chaos.core.errors import EnvironmentFailed
from chaos.core.model import NodeRef, Proof, Undo
from chaos.environments.base import Echoes, Link
from chaos.environments.docker import DockerNode
from chaos.environments.docker.link import answered
from chaos.faults._tcp import knock
from chaos.faults.base import Fault
from chaos.faults.connection_reset import ConnectionReset
from chaos.faults.link_down import LinkDown
from chaos.faults.packet_loss import PacketLoss
from chaos.faults.partition import Partition

engine = pytest.mark.docker_engine
Pair = tuple[DockerNode, DockerNode]


def resolver(pair: Pair) -> Callable[[NodeRef], DockerNode]:
    return lambda ref: next(node for node in pair if node.name == ref.name)


def landed(fault: Fault, undo: Undo, pair: Pair) -> Proof:
    fault.inject(undo, resolver(pair))
    return wait_for(lambda: fault.landed(undo, resolver(pair)), timeout_s=fault.landed_within_s, what=f"{fault.kind} to land")


def healed(fault: Fault, undo: Undo, pair: Pair) -> Proof:
    type(fault).heal(undo, resolver(pair))
    return wait_for(lambda: type(fault).healed(undo, resolver(pair)), timeout_s=20, what=f"{fault.kind} to be healed")


def told(node: DockerNode, script: str) -> str:
    done = node.run(("sh", "-c", script), privileged=True)
    assert done.code == 0, done.err
    return done.out


@engine
def test_a_link_that_was_down_has_its_routes_and_resolver_again(pair: Pair) -> None:
    """Also a route that somebody added; programs go on, the resolver's file and rules are never touched, nothing of ours stays."""
    a, b = pair
    assert isinstance(a, Link) and isinstance(a, Echoes)
    told(a, f"ip route replace 192.0.2.0/24 via {b.address} metric 7")
    look = "ip -4 -o addr; ip -4 route; cat /etc/resolv.conf; iptables-save -t nat | grep -v '^[#:]'; ls /dev/shm"
    before, seen, running = a.state(), told(a, look), {p.pid for p in a.processes()}
    fault = LinkDown(a.ref)
    undo = fault.plan("link", resolver(pair))
    assert "listener" in landed(fault, undo, pair).text
    assert not a.linked() and not a.passes(b) and not b.passes(a) and not a.reachable()
    assert {p.pid for p in a.processes()} == running and a.services()["listener"]
    with pytest.raises(EnvironmentFailed, match="down already"):
        fault.plan("again", resolver(pair))
    a.link_down()
    healed(fault, undo, pair)
    a.link_up()
    assert told(a, look) == seen and a.state() == before and b.passes(a) and a.reachable()
    told(a, "ip route del 192.0.2.0/24")


@engine
def test_a_link_comes_back_with_a_reboot_and_healing_is_nothing_then(pair: Pair) -> None:
    """The network stack of a container ends with it, and so does what was written down there."""
    a, b = pair
    before = a.state()
    fault = LinkDown(a.ref)
    undo = fault.plan("link", resolver(pair))
    landed(fault, undo, pair)
    a.power_off()
    assert not a.linked()
    LinkDown.heal(undo, resolver(pair))
    a.power_on()
    healed(fault, undo, pair)
    wait_for(lambda: a.state() == before and b.passes(a), timeout_s=10, what="the node to be as before", interval_s=0.1)


@engine
@pytest.mark.parametrize("direction", ["in", "out", "both"])
def test_a_loss_is_measured_by_one_ping(pair: Pair, direction: str) -> None:
    """Three tenths of the packets asked, on either way or both: landed by exact bounds and the kernel's counters, and healed."""
    a, b = pair
    before = a.state()
    fault = PacketLoss(a.ref, 0.3, (b.ref,), direction=direction)
    undo = fault.plan("loss", resolver(pair))
    assert "packets caught" in landed(fault, undo, pair).text
    assert a.dropped("loss") > 20
    healed(fault, undo, pair)
    assert a.state() == before and a.echoes(b, 200) > 190


@engine
def test_a_service_of_the_named_port_resets_and_takes_connections_again(pair: Pair) -> None:
    """A connection to it that stood ends with a reset, and a new one is refused, while echoes pass; then it is open again."""
    a, b = pair
    wait_for(lambda: knock(b, a.address, 8080, for_what="a test") == "open", timeout_s=10, what="the listener to listen")
    before = [node.state() for node in pair]
    fault = ConnectionReset(a.ref, (b.ref,), port=8080)
    undo = fault.plan("reset", resolver(pair))
    assert "met a reset" in landed(fault, undo, pair).text
    assert b.passes(a) and knock(b, a.address, 8080, for_what="a test") == "refused"
    healed(fault, undo, pair)
    assert [node.state() for node in pair] == before


@engine
@pytest.mark.parametrize(("direction", "port"), [("in", None), ("out", None), ("both", 8080)])
def test_a_part_of_the_traffic_is_cut_and_the_rest_proven_to_pass(pair: Pair, direction: str, port: int | None) -> None:
    """One direction alone, or one port alone."""
    a, b = pair
    before = a.state()
    fault = Partition.between(a.ref, [b.ref], direction=direction, port=port)
    undo = fault.plan("part", resolver(pair))
    text = landed(fault, undo, pair).text
    assert ("one way is open" in text) is (port is None) and ("port 8080" in text) is (port is not None)
    healed(fault, undo, pair)
    assert a.state() == before


@pytest.mark.parametrize(
    ("printed", "count"),
    [
        ("400 packets transmitted, 278 received, 30.5% packet loss, time 812ms", 278),
        ("3 packets transmitted, 3 packets received, 0% packet loss", 3),
        ("5 packets transmitted, 0 received, +5 errors, 100% packet loss", 0),
        ("ping: unknown host", None),
    ],
)
def test_what_ping_says_is_read(printed: str, count: int | None) -> None:
    """Both spellings in use, with errors in between or without; anything else is not a number."""
    assert answered(printed) == count

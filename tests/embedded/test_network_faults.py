"""Network faults on real micro-hosts: what they cut, what they leave alone, and what they put back. The contract has the rest."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from microhost_services import MakeSandbox, knocks, listener, wait_listening, watch

from chaos.core.clock import wait_for
from chaos.core.errors import BadInput, EnvironmentFailed, Unavailable
from chaos.core.model import NodeRef, Proof, Undo
from chaos.environments.base import DropRule, Echoes, Link
from chaos.environments.microhost.client import MicroHost, Sandbox, iptables_path
from chaos.faults import _sides
from chaos.faults.base import Fault
from chaos.faults.connection_reset import ConnectionReset
from chaos.faults.link_down import LinkDown
from chaos.faults.packet_loss import PacketLoss
from chaos.faults.partition import Partition

needs_iptables = pytest.mark.skipif(iptables_path() is None, reason="iptables is not installed: apt-get install iptables")
# As written by version 1 of the partition's undo record; its nodes' locators have changed since.
VERSION_1 = b"""{"fault_id": "old-1", "kind": "partition", "version": 1, "nodes": [
    {"environment": "embedded", "system": "five", "name": "a", "locator": {}}, {"environment": "embedded", "system": "five", "name": "b",
    "locator": {}}, {"environment": "embedded", "system": "five", "name": "c", "locator": {}}],
    "params": {"peers": ["b", "c"], "everybody": false, "one_way": true, "sides": 1},
    "prior": {"drops": {"a": {}}, "connected": [["a", "b"], ["a", "c"]]}}"""


@pytest.fixture
def five(new_sandbox: MakeSandbox) -> Sandbox:
    """Five hosts, of which ``a`` listens on port 8080."""
    sandbox = new_sandbox("five")
    for name in "abcde":
        sandbox.add(name, disk_bytes=1 << 20, services=[listener(8080)] if name == "a" else [])
    wait_listening(sandbox.hosts["a"])
    return sandbox


def refs(sandbox: Sandbox) -> list[NodeRef]:
    return [host.ref for host in sandbox.hosts.values()]


def resolver(sandbox: Sandbox) -> Callable[[NodeRef], MicroHost]:
    return lambda ref: sandbox.hosts[ref.name]


def landed(fault: Fault, undo: Undo, sandbox: Sandbox) -> Proof:
    fault.inject(undo, resolver(sandbox))
    return wait_for(lambda: fault.landed(undo, resolver(sandbox)), timeout_s=fault.landed_within_s, what=f"{fault.kind} to land")


def healed(fault: Fault, undo: Undo, sandbox: Sandbox) -> Proof:
    type(fault).heal(undo, resolver(sandbox))
    return wait_for(lambda: type(fault).healed(undo, resolver(sandbox)), timeout_s=20, what=f"{fault.kind} to be healed")


def reach(sandbox: Sandbox) -> dict[str, set[str]]:
    """Host -> those whose echoes it gets an answer to, itself included."""
    hosts = sandbox.hosts
    return {one: {two for two in hosts if one == two or _sides.through(hosts, (one, two), None)} for one in hosts}


def test_a_host_has_link_and_echoes(five: Sandbox) -> None:
    """Both are capabilities that faults ask for."""
    assert isinstance(five.hosts["a"], Link) and isinstance(five.hosts["a"], Echoes)


def test_a_bridge_is_the_only_one_that_reaches_both_halves(filter_kind: str, five: Sandbox) -> None:
    """Of five hosts in order the third reaches all, the two before it and the two behind it only each other and it; then all do again."""
    assert five.has_iptables(five.hosts["a"]) is (filter_kind == "iptables")
    before = [host.state() for host in five.hosts.values()]
    fault = Partition.bridge(refs(five))
    undo = fault.plan("bridge", resolver(five))
    proof = landed(fault, undo, five)
    assert reach(five) == {"a": set("abc"), "b": set("abc"), "c": set("abcde"), "d": set("cde"), "e": set("cde")}
    assert "4 pair(s)" in proof.text and "over 6 pair(s) as before" in proof.text
    assert {step.node for step in undo.steps} == set("abde") and len(undo.nodes) == 5
    healed(fault, undo, five)
    assert all(view == set("abcde") for view in reach(five).values())
    assert [host.state() for host in five.hosts.values()] == before


def test_in_a_ring_each_reaches_a_majority_of_its_own(five: Sandbox) -> None:
    """Five hosts, five different majorities of three."""
    fault = Partition.majorities_ring(refs(five), seed=7)
    undo = fault.plan("ring", resolver(five))
    landed(fault, undo, five)
    views = reach(five)
    assert {len(view) for view in views.values()} == {3} and len({frozenset(view) for view in views.values()}) == 5
    healed(fault, undo, five)


def test_a_partition_that_cuts_too_much_has_not_landed(five: Sandbox) -> None:
    """Somebody else cuts a pair that was to be spared: the proof stays out, and comes when that is gone."""
    a, b, c, d, _ = refs(five)
    fault = Partition((a,), (b, c, d))
    undo = fault.plan("cut", resolver(five))
    fault.inject(undo, resolver(five))
    five.hosts["c"].drop("somebody-else", [DropRule(inbound=True, peers=(five.hosts["d"].address,))])
    assert fault.landed(undo, resolver(five)) is None
    five.hosts["c"].undrop("somebody-else")
    assert fault.landed(undo, resolver(five)) is not None
    healed(fault, undo, five)


@pytest.mark.parametrize(("direction", "other"), [("out", "in"), ("in", "out")])
def test_one_direction_is_told_from_the_other(filter_kind: str, five: Sandbox, direction: str, other: str) -> None:
    """Rules for the wrong direction stop every echo just the same, and are not believed; those for the right one are."""
    a, b = refs(five)[:2]
    fault = Partition.between(a, [b], direction=direction)
    undo = fault.plan("half", resolver(five))
    Partition.between(a, [b], direction=other).inject(undo, resolver(five))
    assert not five.hosts["a"].passes(five.hosts["b"]) and fault.landed(undo, resolver(five)) is None
    fault.inject(undo, resolver(five))
    assert "one way is open over 1" in landed(fault, undo, five).text
    healed(fault, undo, five)


def test_a_network_is_cut_off_and_the_host_still_reaches_itself(filter_kind: str, five: Sandbox) -> None:
    """Witnesses within are silent, those outside are not, and what the host says to its own address, in the network too, arrives."""
    a, *others = refs(five)
    hosts = five.hosts
    fault = Partition.from_cidr(a, "10.66.0.0/30", others)
    undo = fault.plan("net", resolver(five))
    landed(fault, undo, five)
    assert reach(five)["a"] == set("ade") and knocks(hosts["a"], hosts["a"].address) and knocks(hosts["d"], hosts["a"].address)
    healed(fault, undo, five)
    assert reach(five)["a"] == set("abcde")
    with pytest.raises(BadInput, match="no witness"):
        Partition.from_cidr(a, "192.0.2.0/24", others).plan("elsewhere", resolver(five))


def test_one_port_is_silent_and_everything_else_passes(filter_kind: str, five: Sandbox) -> None:
    """The service's port gets no answer from the peer, echoes and another port do, and so does the port for whoever was not named."""
    a, b, _c, *_ = refs(five)
    hosts = five.hosts
    fault = Partition.between(a, [b], port=8080)
    undo = fault.plan("port", resolver(five))
    proof = landed(fault, undo, five)
    assert "port 8080" in proof.text and hosts["b"].passes(hosts["a"])
    assert not knocks(hosts["b"], hosts["a"].address) and knocks(hosts["c"], hosts["a"].address)
    healed(fault, undo, five)
    assert knocks(hosts["b"], hosts["a"].address)


def test_a_record_of_version_1_heals(filter_kind: str, five: Sandbox) -> None:
    """A journal that an older release has written, byte by byte as it did: what it describes is found, undone and proven to be."""
    undo = msgspec.json.decode(VERSION_1, type=Undo)
    a, b, c = (five.hosts[name] for name in "abc")
    before = a.state()
    a.drop("old-1", [DropRule(inbound=False, peers=(b.address, c.address))])
    assert Partition.healed(undo, resolver(five)) is None
    Partition.heal(undo, resolver(five))
    assert Partition.healed(undo, resolver(five)) is not None
    assert a.state() == before and a.passes(b) and a.passes(c)


@needs_iptables
@pytest.mark.parametrize(("share", "direction"), [(0.1, "in"), (0.5, "out"), (0.3, "both"), (1.0, "both")])
def test_a_loss_is_as_large_as_asked(five: Sandbox, share: float, direction: str) -> None:
    """Five thousand echoes lose what was asked, to within five standard deviations, and none once it is healed (but for stragglers)."""
    a, b = refs(five)[:2]
    hosts, echoes = five.hosts, 5_000
    fault = PacketLoss(a, share, (b,), direction=direction)
    undo = fault.plan("loss", resolver(five))
    assert "packets caught" in landed(fault, undo, five).text
    loss = 1 - (1 - share) ** 2 if direction == "both" else share
    missing = echoes - hosts["a"].echoes(hosts["b"], echoes)
    assert abs(missing - loss * echoes) <= 5 * (loss * (1 - loss) * echoes) ** 0.5 + 0.005 * echoes
    assert hosts["a"].echoes(hosts["c"], 200) > 190
    healed(fault, undo, five)
    assert hosts["a"].echoes(hosts["b"], echoes) > 0.99 * echoes and hosts["a"].drops() == {}


@needs_iptables
@pytest.mark.parametrize("found", [0.05, 0.9, 1.0])
def test_another_loss_than_the_one_asked_has_not_landed(five: Sandbox, found: float) -> None:
    """A twentieth, nine tenths or all instead of a half, held under the fault's own tag: measured, and not believed."""
    a, b = refs(five)[:2]
    fault = PacketLoss(a, 0.5, (b,), direction="in")
    undo = fault.plan("loss", resolver(five))
    PacketLoss(a, found, (b,), direction="in").inject(undo, resolver(five))
    assert fault.landed(undo, resolver(five)) is None
    healed(fault, undo, five)


def test_a_share_and_a_reset_need_iptables(five: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused at the plan, with the fix, where packets are dropped by routing rules; a loss of everything is not."""
    monkeypatch.setattr(five, "_has_iptables", False)
    plain = {name: MicroHost(five, name) for name in five.hosts}
    a, b = refs(five)[:2]
    faults: list[Fault] = [PacketLoss(a, 0.5, (b,)), ConnectionReset(a, (b,), port=8080)]
    for fault in faults:
        with pytest.raises(Unavailable, match="apt-get install iptables") as refused:
            fault.plan("test", lambda ref: plain[ref.name])
        assert refused.value.capability == "packetfilter"
    with pytest.raises(Unavailable, match="apt-get install iptables"):
        plain["a"].drop("test", [DropRule(inbound=True, share=0.5)])
    complete = PacketLoss(a, 1.0, (b,))
    undo = complete.plan("all", lambda ref: plain[ref.name])
    complete.inject(undo, lambda ref: plain[ref.name])
    assert complete.landed(undo, lambda ref: plain[ref.name]) is not None
    PacketLoss.heal(undo, lambda ref: plain[ref.name])
    assert PacketLoss.healed(undo, lambda ref: plain[ref.name]) is not None


NONSENSE: list[Callable[[NodeRef, NodeRef], Fault]] = [
    lambda a, b: PacketLoss(a, 0.001, (b,)),
    lambda a, b: PacketLoss(a, 1.1, (b,)),
    lambda a, b: PacketLoss(a, 0.5),
    lambda a, b: PacketLoss(a, 0.5, (a,)),
    lambda a, b: PacketLoss(a, 0.5, (b,), direction="up"),
    lambda a, b: ConnectionReset(a, ()),
]


@pytest.mark.parametrize("make", NONSENSE)
def test_what_makes_no_sense_is_bad_input(five: Sandbox, make: Callable[[NodeRef, NodeRef], Fault]) -> None:
    """A share that cannot be proven, no peers, the node as its own peer, a direction that there is not."""
    a, b = refs(five)[:2]
    with pytest.raises(BadInput):
        make(a, b).plan("test", resolver(five))


def network_of(host: MicroHost) -> list[str]:
    """Addresses, routes and neighbours as the host's own kernel has them, IPv4."""
    script = "ip -4 -o addr show; ip -4 route; ip -4 neigh | sort"
    return host.run(("sh", "-c", script), privileged=True).out.splitlines()


def test_a_pulled_cable_leaves_processes_addresses_and_neighbours(filter_kind: str, five: Sandbox) -> None:
    """The host's programs go on and reach it by its own address, nobody else does, nobody is told; plugged in again all is as before."""
    a, b = five.hosts["a"], five.hosts["b"]
    before, network, running = a.state(), network_of(a), {p.pid for p in a.processes()}
    fault = LinkDown(a.ref)
    undo = fault.plan("cable", resolver(five))
    assert watch(b, a, lambda: landed(fault, undo, five), for_s=1.0) == "silence"
    assert {p.pid for p in a.processes()} == running and knocks(a, a.address) and not a.passes(b) and not b.passes(a)
    assert [line for line in network_of(a) if "lladdr" in line] == [line for line in network if "lladdr" in line]
    with pytest.raises(EnvironmentFailed, match="down already"):
        fault.plan("again", resolver(five))
    healed(fault, undo, five)
    assert a.state() == before and network_of(a) == network and a.passes(b) and b.passes(a)


def test_a_cable_stays_pulled_over_a_reboot(five: Sandbox) -> None:
    """A host boots without a network while its cable is out; plugged in while it is off, it boots with one."""
    a, b = five.hosts["a"], five.hosts["b"]
    before = a.state()
    a.link_down()
    for _ in range(2):
        a.power_off()
        assert not a.linked()
        a.power_on()
        assert a.powered() and not a.linked() and not b.passes(a)
    a.power_off()
    a.link_up()
    a.power_on()
    wait_for(lambda: a.state() == before and b.passes(a), timeout_s=10, what="the host to be as before")


@needs_iptables
@pytest.mark.parametrize("with_ss", [True, False])
def test_an_idle_connection_to_a_service_is_reset(five: Sandbox, with_ss: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of the named port sees ECONNRESET, be it by ``ss`` or, without it, by the probes that keep the proof's own alive; a client
    of somebody else's is spared; afterwards everybody connects, and no helper is left."""
    a, b, c = (five.hosts[name] for name in "abc")
    fault = ConnectionReset(a.ref, (b.ref,), port=8080)
    undo = fault.plan("reset", resolver(five))
    if not with_ss:
        monkeypatch.setattr(ConnectionReset, "_end_at_once", lambda self, resolve: "true")
    if with_ss:
        assert watch(b, a, lambda: fault.inject(undo, resolver(five)), for_s=5.0) == "reset"
    else:
        fault.inject(undo, resolver(five))
    proof = wait_for(lambda: fault.landed(undo, resolver(five)), timeout_s=15, what="the reset to land")
    assert "port 8080" in proof.text
    assert not knocks(b, a.address) and knocks(c, a.address) and knocks(a, a.address) and a.passes(b)
    healed(fault, undo, five)
    assert knocks(b, a.address) and a.drops() == {} and not any("gd-" in p.name for host in (a, b) for p in host.processes())


@needs_iptables
def test_a_port_on_which_nobody_listens_cannot_be_reset(five: Sandbox) -> None:
    """The plan says that the peer cannot connect even now."""
    a, b = refs(five)[:2]
    with pytest.raises(EnvironmentFailed, match="cannot connect to port 9"):
        ConnectionReset(a, (b,), port=9).plan("test", resolver(five))

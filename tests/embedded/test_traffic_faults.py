"""What the faults on a node's traffic do beyond their contract, on real packets between micro-hosts."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from microhost_services import MakeSandbox, called, knocks, listener, python, wait_listening, watch

from chaos.core.clock import wait_for
from chaos.core.errors import EnvironmentFailed, Unavailable
from chaos.core.model import NodeRef, Undo
from chaos.environments.base import Node
from chaos.environments.microhost.client import MicroHost, iptables_path
from chaos.environments.microhost.protocol import ServiceSpec
from chaos.faults._traffic import number_of, tell
from chaos.faults.bandwidth import Bandwidth
from chaos.faults.base import Fault
from chaos.faults.dns_failure import DnsFailure
from chaos.faults.half_open import HalfOpen
from chaos.faults.latency import Latency, QueueFacts, round_trip
from chaos.faults.port_exhaustion import PortExhaustion
from chaos.faults.slow_close import SlowClose

pytestmark = pytest.mark.skipif(iptables_path() is None, reason="iptables is not installed: apt-get install iptables")
SERVER = (Path(__file__).parents[1] / "contract" / "contract_server.py").read_text(encoding="utf-8")
DNS = 5300
# Answers of two queries by UDP and one by TCP, by the program that the fault itself asks with.
ASK = (Path(__file__).parents[2] / "chaos" / "faults" / "programs" / "ask_dns.py").read_text(encoding="utf-8")


class Trouble:
    """A fault in place on one of two hosts."""

    def __init__(self, fault: Fault, hosts: tuple[MicroHost, ...]) -> None:
        self.fault, self._sandbox = fault, hosts[0].sandbox
        self.undo: Undo = fault.plan("trouble-1", self.resolve)
        self.proof = ""

    def resolve(self, ref: NodeRef) -> Node:
        return MicroHost(self._sandbox, ref.name)

    def begin(self) -> None:
        self.fault.inject(self.undo, self.resolve)
        bound_s = self.fault.landed_within_s
        self.proof = wait_for(lambda: self.fault.landed(self.undo, self.resolve), timeout_s=bound_s, what=f"{self.fault.kind} to land").text

    def end(self) -> None:
        type(self.fault).heal(self.undo, self.resolve)
        wait_for(lambda: type(self.fault).healed(self.undo, self.resolve), timeout_s=20, what=f"{self.fault.kind} to be healed")


@contextmanager
def trouble(fault: Fault, *hosts: MicroHost) -> Iterator[Trouble]:
    """``fault`` landed within, healed after."""
    one = Trouble(fault, hosts)
    one.begin()
    try:
        yield one
    finally:
        one.end()


@pytest.fixture
def served(new_sandbox: MakeSandbox) -> tuple[MicroHost, MicroHost]:
    """Two micro-hosts that serve DNS; ``*.absent.test`` does not exist there."""
    sandbox = new_sandbox("served")
    service = ServiceSpec("server", python(SERVER, "7007", str(DNS)))
    return sandbox.add("a", disk_bytes=1 << 20, services=[service]), sandbox.add("b", disk_bytes=1 << 20, services=[service])


@pytest.mark.parametrize("asked_ms", [5, 50, 200])
def test_a_delay_is_as_long_as_asked(pair: tuple[MicroHost, MicroHost], asked_ms: int) -> None:
    """A round trip takes no less longer than asked, and no more than a fifth and 10 ms above, in one of ten looks at least; the peer too
    sees it."""
    a, b = pair
    with trouble(Latency(a.ref, asked_ms, peers=(b.ref,)), a, b) as on:
        before = on.undo.prior["rtt_ms"]
        assert isinstance(before, float)
        more = [(round_trip(on.undo, on.resolve) or 0.0) - before for _ in range(10)]
        assert asked_ms * 0.98 <= min(more) <= asked_ms * 1.2 + 10, more


def test_nothing_is_delayed_that_is_not_meant(pair: tuple[MicroHost, MicroHost]) -> None:
    """With a port, other ports of the node are as fast as before."""
    a, b = pair
    wait_listening(a)
    with trouble(Latency(a.ref, 300, peers=(b.ref,), port=8080), a, b):
        assert not knocks(b, a.address, 8080, 0.2) and b.passes(a)


def test_packets_pass_when_their_holder_dies(pair: tuple[MicroHost, MicroHost]) -> None:
    """The rule lets pass what no program takes: after SIGKILL the round trip is short again, and healing takes the rule away."""
    a, b = pair
    with trouble(Latency(a.ref, 100, peers=(b.ref,)), a, b) as on:
        assert "nfqueue" in on.proof
        (holder,) = called(a.processes(), "Holds every packet")
        a.signal(holder, signal.SIGKILL)
        wait_for(lambda: (round_trip(on.undo, on.resolve) or 1e9) < 50, timeout_s=10, what="packets to pass at once")
        assert a.drops() == {"trouble-1": 0}
    assert a.drops() == {}


def test_a_tag_that_is_in_use_is_refused(pair: tuple[MicroHost, MicroHost]) -> None:
    """A second fault of the same id is refused, while its program runs and while its rules are held; the first is not touched."""
    a, b = pair
    with trouble(Latency(a.ref, 100, peers=(b.ref,)), a, b):
        state = a.state()
        again = (Latency(a.ref, 10, peers=(b.ref,)), SlowClose(a.ref, 8080, 1.0, (b.ref,)))
        for fault in again:
            with pytest.raises(EnvironmentFailed, match="already"):
                Trouble(fault, (a, b))
        assert a.state() == state and state["programs"] == ["trouble-1"]
        (holder,) = called(a.processes(), "Holds every packet")
        a.signal(holder, signal.SIGKILL)
        wait_for(lambda: a.state()["programs"] == [], timeout_s=10, what="the program to be gone")
        for fault in again:
            with pytest.raises(EnvironmentFailed, match="there already"):
                Trouble(fault, (a, b))


def test_a_packet_queue_of_another_program_is_left_alone(pair: tuple[MicroHost, MicroHost]) -> None:
    """A queue that somebody has bound is told apart from one that may not be bound, and nothing is done."""
    a, b = pair
    with trouble(Latency(a.ref, 100, peers=(b.ref,)), a, b) as on:
        number = number_of("trouble-1", 1024, 65536)
        seen = [tell(a, sys.executable, "look_queueing", one, answer=QueueFacts, for_what="this test") for one in (number, 7)]
        assert not seen[0].queue and "busy" in seen[0].said["queue"].lower()
        assert seen[1].queue and not seen[1].said["queue"]
        assert (round_trip(on.undo, on.resolve) or 0) > 90


def test_what_is_in_flight_is_let_go(pair: tuple[MicroHost, MicroHost]) -> None:
    """A connection that is in use when a delay ends goes on; nothing is cut."""
    a, b = pair
    wait_listening(a)
    on = Trouble(Latency(a.ref, 200, peers=(b.ref,)), (a, b))
    on.begin()
    assert watch(b, a, on.end, for_s=0.3) == "silence"


def test_a_queueing_discipline_of_somebody_elses_stays(pair: tuple[MicroHost, MicroHost]) -> None:
    """Bandwidth is refused, with the line that was seen; healing a fault that never was takes nothing away."""
    a, _ = pair
    fault = Bandwidth(a.ref, 50_000)
    undo = fault.plan("other", lambda ref: MicroHost(a.sandbox, ref.name))
    assert (
        a.run(
            ("tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "1mbit", "burst", "16k", "latency", "50ms"), privileged=True
        ).code
        == 0
    )
    state = a.state()
    with pytest.raises(EnvironmentFailed, match="somebody else") as refused:
        fault.plan("trouble-1", lambda ref: MicroHost(a.sandbox, ref.name))
    assert "tbf" in refused.value.observed
    Bandwidth.heal(undo, lambda ref: MicroHost(a.sandbox, ref.name))
    assert a.state() == state


@pytest.mark.parametrize("rate", [20_000, 1_000_000])
def test_a_link_carries_what_was_asked(pair: tuple[MicroHost, MicroHost], rate: int) -> None:
    """What leaves the node while twice as much is offered is the rate, within a third."""
    a, b = pair
    with trouble(Bandwidth(a.ref, rate, peers=(b.ref,)), a, b) as on:
        left = float(on.proof.split(" and ")[1].split()[0])
        assert rate * 0.5 <= left <= rate * 1.34, on.proof


def test_a_connection_stays_open_through_half_open(pair: tuple[MicroHost, MicroHost]) -> None:
    """Neither a reset nor an end comes, although the server dies meanwhile; a new client connects and waits."""
    a, b = pair
    wait_listening(a)
    on = Trouble(HalfOpen(a.ref, 8080, (b.ref,)), (a, b))

    def cut() -> None:
        on.begin()
        (server,) = called(a.processes(), "socketserver")
        a.signal(server, signal.SIGKILL)

    assert watch(b, a, cut, for_s=3.0) == "silence"
    a.start_service("listener")
    wait_listening(a)
    assert knocks(b, a.address, 8080, 1.0)
    on.end()
    assert watch(b, a, lambda: None, for_s=0.2) == "silence"


def test_an_end_is_not_heard_of_while_closing_is_slow(pair: tuple[MicroHost, MicroHost]) -> None:
    """A server dies: its client hears of it at once without the fault, and not within two seconds with it."""
    a, b = pair
    wait_listening(a)

    def die() -> None:
        (server,) = called(a.processes(), "socketserver")
        a.signal(server, signal.SIGKILL)

    with trouble(SlowClose(a.ref, 8080, None, (b.ref,)), a, b):
        assert watch(b, a, die, for_s=2.0) == "silence"
        a.start_service("listener")
        wait_listening(a)
    assert watch(b, a, die, for_s=2.0) in ("closed", "reset")
    a.start_service("listener")


def test_a_delayed_end_arrives_when_it_was_asked_to(pair: tuple[MicroHost, MicroHost]) -> None:
    """0.5 s asked: the peer hears of the end after that, and no later than 0.3 s above."""
    a, b = pair
    wait_listening(a)
    with trouble(SlowClose(a.ref, 8080, 0.5, (b.ref,)), a, b) as on:
        took_s = float(on.proof.split(" after ")[1].split()[0])
        assert 0.5 <= took_s <= 0.8, on.proof


@pytest.mark.parametrize("mode", ["refuse", "nxdomain", "wrong", "timeout"])
def test_other_names_go_on_to_their_server(served: tuple[MicroHost, MicroHost], mode: str) -> None:
    """With names, these and what is below them fail; others get the server's own answer, by UDP and TCP, absence included."""
    a, b = served
    fault = DnsFailure(a.ref, mode, names=("bad.test",), resolver=b.ref, port=DNS)  # type: ignore[arg-type]

    def ask(name: str, *how: str) -> tuple[str, int, list[str]]:
        said = json.loads(a.run(python(ASK, "ask", b.address, str(DNS), name, "1", *how)).out)
        return said["outcome"], said["rcode"], said["addresses"]

    own = ("answer", 0, ["192.0.2.77"])
    wait_for(lambda: ask("bad.test") == own, timeout_s=10, what="the server")
    with trouble(fault, a, b):
        assert ask("good.test") == ask("good.test", "tcp") == ask("notbad.test") == own
        assert ask("x.absent.test") == ("answer", 3, [])
        for name in ("bad.test", "below.BAD.test"):
            assert ask(name) == ask(name, "tcp") != own
    assert ask("bad.test") == own


def test_where_no_server_answers_there_is_nothing_to_fail(served: tuple[MicroHost, MicroHost]) -> None:
    """Refused before anything is touched, with the fix, for a server that is not there and for the machine's own configuration."""
    a, b = served
    before = a.state()
    for fault in (DnsFailure(a.ref, resolver=b.ref, port=5301), DnsFailure(a.ref, resolver="10.66.0.99")):
        with pytest.raises(Unavailable, match="no DNS server answers") as refused:
            Trouble(fault, (a,))
        assert "resolver=" in refused.value.next_step and refused.value.capability == "dns"
    assert a.state() == before


def test_ports_that_are_in_use_stay_in_use(pair: tuple[MicroHost, MicroHost]) -> None:
    """A connection that stands is not touched; a new one finds no port; what is asked for by number can still be listened on."""
    a, b = pair
    wait_listening(b)
    on = Trouble(PortExhaustion(a.ref), (a, b))
    assert watch(a, b, on.begin, for_s=0.2) == "silence"
    connect = "import socket, sys; print(socket.socket().connect_ex((sys.argv[1], 8080)))"
    assert a.run(python(connect, b.address)).out.strip() == "99"  # EADDRNOTAVAIL
    assert a.run(python("import socket; socket.create_server(('', 40000))")).code == 0
    on.end()
    assert knocks(a, b.address)


def test_foreign_rules_stay_where_they_are(pair: tuple[MicroHost, MicroHost]) -> None:
    """Rules of others, before and behind ours, are the same and in the same order after a fault came and went."""
    a, b = pair
    for rule in ("-A INPUT -p tcp --dport 1 -j DROP", "-t nat -A OUTPUT -p udp --dport 1 -j REDIRECT --to-ports 2"):
        assert a.run(("iptables", *rule.split()), privileged=True).code == 0

    def rules() -> str:
        return "".join(
            "\n".join(line for line in a.run(("iptables-save", "-t", table), privileged=True).out.splitlines() if line[:1] in ":-")
            for table in ("filter", "nat")
        ).replace("[0:0]", "")

    before = rules()
    wait_listening(a)
    with trouble(HalfOpen(a.ref, 8080, (b.ref,)), a, b):
        assert rules() != before
    assert [line.split(" [")[0] for line in rules().splitlines()] == [line.split(" [")[0] for line in before.splitlines()]


def test_a_lone_host_cannot_be_measured(new_sandbox: MakeSandbox) -> None:
    """A lone host has nobody by whom a delay could be measured, and says so."""
    alone = new_sandbox("alone").add("a", disk_bytes=1 << 20, services=[listener(8080)])
    for fault in (Latency(alone.ref, 10), Bandwidth(alone.ref, 10_000)):
        with pytest.raises(EnvironmentFailed, match="no neighbour") as refused:
            Trouble(fault, (alone,))
        assert "peers=" in refused.value.next_step

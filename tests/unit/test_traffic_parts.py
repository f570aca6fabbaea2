"""What the traffic faults decide without a node: how to delay, what rules say, what answers mean, which parameters make no sense."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.core.errors import BadInput, EnvironmentFailed, Unavailable
from chaos.core.model import NodeRef
from chaos.environments import marks
from chaos.environments.base import Completed
from chaos.environments.tagged_rules import TaggedRule, install_script, refuse_held, removal
from chaos.faults._tc import delete_script, handle_of
from chaos.faults._traffic import number_of, text_of
from chaos.faults.bandwidth import Bandwidth, check_tbf
from chaos.faults.base import Fault
from chaos.faults.dns_failure import Asked, DnsFailure, as_asked
from chaos.faults.half_open import HalfOpen
from chaos.faults.latency import Latency, QueueFacts, choose
from chaos.faults.port_exhaustion import PortExhaustion
from chaos.faults.slow_close import SlowClose

A, B = NodeRef("embedded", "s", "a"), NodeRef("embedded", "s", "b")
FULL = QueueFacts(netem=True, tbf=True, queue=True, tc=True, iptables=True)
TBF = "qdisc tbf 8001: root refcnt 2 rate 1Mbit"


def facts(**others: bool) -> QueueFacts:
    fields = {"netem": True, "tbf": True, "queue": True, "tc": True, "iptables": True} | others
    return QueueFacts(**fields, said={"netem": "No such file or directory", "queue": "Protocol not supported", "tbf": "none"})


@pytest.mark.parametrize(
    ("found", "everything", "foreign", "way"),
    [
        (FULL, True, "", "netem"),
        (FULL, False, "", "nfqueue"),
        (FULL, True, TBF, "nfqueue"),
        (facts(netem=False), True, "", "nfqueue"),
        (facts(netem=False, tc=False), True, "", "nfqueue"),
        (facts(tc=False), True, "", "nfqueue"),
        (facts(queue=False), True, "", "netem"),
        (facts(iptables=False), True, "", "netem"),
    ],
)
def test_how_to_delay_follows_from_what_was_found(found: QueueFacts, everything: bool, foreign: str, way: str) -> None:
    """netem where the kernel has it, all packets are meant and the device is free; a packet queue in every other case that has one."""
    assert choose(found, everything=everything, foreign=foreign, where="node") == way


@pytest.mark.parametrize(
    ("found", "everything", "fix"),
    [
        (facts(netem=False, queue=False), True, "modprobe -a nfnetlink_queue"),
        (facts(netem=False, iptables=False), True, "apt-get install iptables"),
        (facts(queue=False), False, "modprobe -a nfnetlink_queue"),
        (facts(tc=False, iptables=False), True, "apt-get install iptables"),
    ],
)
def test_a_node_that_has_neither_way_is_refused_with_the_fix(found: QueueFacts, everything: bool, fix: str) -> None:
    """The error names what is missing and the command that brings it."""
    with pytest.raises(Unavailable, match="netem or NFQUEUE") as refused:
        choose(found, everything=everything, foreign="", where="node")
    assert fix in refused.value.next_step and refused.value.capability


def test_a_foreign_queue_with_no_way_round_it_is_not_touched() -> None:
    """netem would have to take its place, so nothing is done."""
    with pytest.raises(EnvironmentFailed, match="somebody else") as refused:
        choose(facts(queue=False), everything=True, foreign=TBF, where="node")
    assert refused.value.observed == TBF


def test_bandwidth_names_what_is_missing() -> None:
    """tc is a package of the node's, tbf a module of its kernel's."""
    check_tbf(FULL, where="node")
    with pytest.raises(Unavailable) as refused:
        check_tbf(facts(tc=False), where="node")
    assert refused.value.next_step == "apt-get install iproute2 (on the node)" and refused.value.capability == "tc"
    with pytest.raises(Unavailable) as refused:
        check_tbf(facts(tbf=False), where="node")
    assert "sch_tbf" in refused.value.next_step and refused.value.capability == "tbf"


@pytest.mark.parametrize(
    "fault",
    [
        Latency(A, 0),
        Latency(A, 5001),
        Latency(A, 10, jitter_ms=11),
        Latency(A, 10, jitter_ms=-1),
        Latency(A, 10, peers=(B,), port=0),
        Latency(A, 10, port=80),
        Bandwidth(A, 999),
        HalfOpen(A, 80),
        HalfOpen(A, 80, (A,)),
        HalfOpen(A, 65536, (B,)),
        SlowClose(A, 80, 0.1, (B,)),
        SlowClose(A, 80, 61, (B,)),
        SlowClose(A, 80, 1),
        DnsFailure(A, "lost"),  # type: ignore[arg-type]
        DnsFailure(A, address="nowhere"),
        DnsFailure(A, resolver="dns.example"),
        DnsFailure(A, port=70000),
        PortExhaustion(A, leave=-1),
        PortExhaustion(A, leave=1001),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_before_anything_is_looked_at(fault: Fault) -> None:
    """A person's mistake, told with what was expected; no node is asked."""

    def nobody(ref: NodeRef) -> Any:
        raise AssertionError(f"{ref} was looked at")

    with pytest.raises(BadInput):
        fault.plan("test", nobody)


def test_rules_are_one_transaction_with_the_jump_in_front() -> None:
    """A chain per direction, our comment on every line, and a jump before whatever the hook holds."""
    script = install_script("t-1", "nat", [TaggedRule("nat", "O", "-p udp --dport 53 -j REDIRECT --to-ports 5353")])
    chain = script.splitlines()[1].split()[0].removeprefix(":")
    comment = "-m comment --comment gameday:t-1"
    assert script.splitlines() == [
        "*nat",
        f":{chain} - [0:0]",
        f"-A {chain} {comment} -p udp --dport 53 -j REDIRECT --to-ports 5353",
        f"-I OUTPUT 1 {comment} -j {chain}",
        "COMMIT",
    ]
    assert chain.removesuffix("O") in removal("t-1", ("nat",)) and "iptables-save -t $t" in removal("t-1", ("nat",))


@pytest.mark.parametrize("held", ["-A {chain} -j ACCEPT", "-A INPUT -j {chain}", ":{chain} - [0:0]"])
def test_a_chain_of_that_name_is_in_the_way_whosever_it_is(held: str) -> None:
    """A rule in it, a jump to it or the bare chain: refused with the line that was seen."""
    chain = install_script("t-1", "filter", [TaggedRule("filter", "I", "-j DROP")]).splitlines()[1].split()[0].removeprefix(":")
    line = held.format(chain=chain)
    with pytest.raises(EnvironmentFailed, match="there already") as refused:
        refuse_held(lambda *_: Completed(0, f"*filter\n{line}\nCOMMIT\n", ""), "t-1", "filter", where="node")
    assert refused.value.observed == line.split(" - ")[0]
    refuse_held(lambda *_: Completed(0, f"*filter\n{line}\nCOMMIT\n", ""), "t-2", "filter", where="node")


def test_a_tag_has_a_handle_of_its_own() -> None:
    """Always the same, never 0 (the kernel's own), and in the script that takes it away."""
    handles = {handle_of(f"fault-{number}") for number in range(50)}
    assert len(handles) > 45 and all(0x4000 <= int(handle.rstrip(":"), 16) < 0x8000 for handle in handles)
    assert handle_of("x") == handle_of("x") and handle_of("x") in delete_script("eth0", "tbf", "x")
    assert 5 <= number_of("x", 5, 7) < 7


@pytest.mark.parametrize(
    ("mode", "seen", "is_it"),
    [
        ("refuse", Asked("answer", 5, (), ""), True),
        ("refuse", Asked("error", -1, (), "Connection refused"), False),
        ("nxdomain", Asked("answer", 3, (), ""), True),
        ("nxdomain", Asked("timeout", -1, (), ""), False),
        ("wrong", Asked("answer", 0, ("192.0.2.1",), ""), True),
        ("wrong", Asked("answer", 0, ("192.0.2.1", "192.0.2.2"), ""), False),
        ("wrong", Asked("answer", 0, (), ""), False),
        ("timeout", Asked("timeout", -1, (), ""), True),
        ("timeout", Asked("answer", 0, ("192.0.2.1",), ""), False),
    ],
)
def test_an_answer_is_what_the_mode_makes_of_a_query_or_is_not(mode: str, seen: Asked, is_it: bool) -> None:
    """Only the exact outcome counts: a server that cannot be reached has not refused."""
    assert as_asked(mode, "192.0.2.1", seen) is is_it


def test_marks_are_what_is_not_the_kernels_own() -> None:
    """Counters that differ between two looks are left out; what nobody printed is empty."""
    bucket = "qdisc tbf 4a01: dev eth0 root refcnt 2 rate 1Mbit burst 16Kb lat 400ms "
    seen = marks.parse(f"{bucket}\n==\n-A OUTPUT -j X\n==\n32768-60999\n==\nGAMEDAY_FAULT=f-1\n")
    assert seen["network"] == {
        "qdiscs": ["qdisc tbf 4a01: dev eth0 root rate 1Mbit burst 16Kb lat 400ms"],
        "nat": ["-A OUTPUT -j X"],
        "reserved_ports": "32768-60999",
    }
    assert seen["programs"] == ["f-1"]
    for printed in ("==\n==\n==\n", "==\n==\n\n==\n"):
        seen = marks.parse(printed)
        assert seen["network"] == {"qdiscs": [], "nat": [], "reserved_ports": ""} and seen["programs"] == []


@pytest.mark.parametrize("program", ["answer_dns", "ask_dns", "delay_queue", "look_queueing", "probe_tcp", "send_bytes", "try_ports"])
def test_a_program_for_the_node_stands_alone(program: str) -> None:
    """It compiles, and imports nothing of this package: a node has no more than Python."""
    text = text_of(program)
    compile(text, program, "exec")
    assert "chaos" not in text

"""Dropping packets on micro-hosts, with iptables and with routing rules: the same contract for both."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from microhost_services import ECHO, MakeSandbox, knocks, listener, python, wait_listening, watch

from chaos.core.clock import wait_for
from chaos.core.errors import EnvironmentFailed
from chaos.environments.base import DropRule
from chaos.environments.microhost import protocol as p
from chaos.environments.microhost.client import MicroHost, Sandbox

BOTH_WAYS = (DropRule(inbound=True), DropRule(inbound=False))


@pytest.fixture
def trio(filter_kind: str, new_sandbox: MakeSandbox) -> dict[str, MicroHost]:
    """Three hosts that listen on 8080 and 8081, dropping in the one way or in the other."""
    sandbox: Sandbox = new_sandbox("trio")
    second = p.ServiceSpec("second", python(ECHO, "8081"))
    hosts = {name: sandbox.add(name, disk_bytes=1 << 20, services=[listener(8080), second]) for name in "abc"}
    assert sandbox.has_iptables(hosts["a"]) is (filter_kind == "iptables")
    return hosts


def test_a_partition_between_two_leaves_the_third_alone(trio: dict[str, MicroHost]) -> None:
    """Both ways between two hosts nothing passes, both reach the third, and undoing restores state and packets."""
    a, b, c = trio.values()
    before = [host.state() for host in trio.values()]
    a.drop("pair", [DropRule(True, (b.address,)), DropRule(False, (b.address,))])
    assert a.drops() == {"pair": 2} and a.state() != before[0]
    assert not a.passes(b) and not b.passes(a)
    assert a.passes(c) and c.passes(a) and b.passes(c) and a.reachable()
    a.undrop("pair")
    a.undrop("pair")
    assert a.passes(b) and b.passes(a) and a.drops() == {}
    assert [host.state() for host in trio.values()] == before


def test_a_partition_is_silence_for_an_open_connection(trio: dict[str, MicroHost]) -> None:
    """Neither end is told: no reset, no close, no unreachable; a new connection waits in vain."""
    a, b, _ = trio.values()
    wait_listening(a)
    assert watch(b, a, lambda: a.drop("cut", BOTH_WAYS), for_s=1.0) == "silence"
    connect = "import socket, sys; s = socket.socket(); s.settimeout(0.3); print(s.connect_ex((sys.argv[1], 8080)))"
    assert [one.run(python(connect, two.address)).out for one, two in ((a, b), (b, a))] == ["11\n", "11\n"]  # EAGAIN: nothing came


@pytest.mark.parametrize("inbound", [True, False])
def test_one_direction(trio: dict[str, MicroHost], inbound: bool) -> None:
    """Dropping one direction stops every exchange, but datagrams of the other direction still arrive."""
    a, b, _ = trio.values()
    a.drop("half", [DropRule(inbound, (b.address,))])
    assert a.drops() == {"half": 1} and not a.passes(b) and not b.passes(a)
    assert datagram_arrives(a, b) is inbound and datagram_arrives(b, a) is not inbound
    a.undrop("half")
    assert datagram_arrives(a, b) and datagram_arrives(b, a)


def datagram_arrives(source: MicroHost, target: MicroHost) -> bool:
    """Does one UDP datagram get from ``source`` to a program on ``target``?"""
    receive = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 9000)); s.settimeout(0.4)\n"
        "print('ready', flush=True); print(s.recv(9))"
    )
    log = target.disk / "datagram.log"
    with open(log, "wb") as out, open("/dev/null", "rb") as null:
        program = target.spawn(python(receive), stdio=(null.fileno(), out.fileno(), out.fileno()))
    wait_for(lambda: "ready" in log.read_text(), timeout_s=10, what="the receiver to be bound")
    send = "import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'hello', (sys.argv[1], 9000))"
    sent = source.run(python(send, target.address))
    assert sent.code == 0 or "PermissionError" in sent.err  # iptables: the sender's own kernel says so
    program.wait(10)
    return "hello" in log.read_text()


def test_everybody_spares_the_loopback(trio: dict[str, MicroHost]) -> None:
    """No peer gets through to an isolated host, and the host still reaches itself by 127.0.0.1 and by its own address."""
    a, b, c = trio.values()
    wait_listening(a)
    a.drop("island", BOTH_WAYS)
    assert not a.passes(b) and not c.passes(a) and not a.reachable() and b.passes(c)
    assert knocks(a, "127.0.0.1") and knocks(a, a.address) and a.passes(a)
    a.undrop("island")
    assert a.reachable()


@pytest.mark.parametrize("inbound", [True, False])
def test_one_port(trio: dict[str, MicroHost], inbound: bool) -> None:
    """Only TCP of that port is dropped: another port and echoes pass, and the node's own connections to that port elsewhere too."""
    a, b, _ = trio.values()
    for host in (a, b):
        for port in (8080, 8081):
            wait_listening(host, port)
    a.drop("port", [DropRule(inbound, (b.address,), port=8080)])
    assert not knocks(b, a.address, 8080) and knocks(b, a.address, 8081) and b.passes(a)
    assert knocks(a, b.address, 8080)
    a.undrop("port")
    assert knocks(b, a.address, 8080)


def test_a_network_instead_of_an_address(trio: dict[str, MicroHost]) -> None:
    """Rules take networks too, in both directions."""
    a, b, c = trio.values()
    for inbound in (True, False):
        a.drop("net", [DropRule(inbound, ("10.66.0.2/31",))])
        assert not a.passes(b) and not a.passes(c) and b.passes(c)
    a.undrop("net")
    assert a.passes(b)


def test_tags_and_hosts_do_not_disturb_each_other(trio: dict[str, MicroHost]) -> None:
    """The same tag on two hosts, and two tags on one, are held, counted, replaced and removed each for itself."""
    a, b, c = trio.values()
    a.drop("one", [DropRule(True, (c.address,)), DropRule(False, (c.address,))])
    b.drop("one", [DropRule(True, (c.address,))])
    a.drop("two", [DropRule(True, (b.address,))])
    assert a.drops() == {"one": 2, "two": 1} and b.drops() == {"one": 1} and c.drops() == {}
    assert not a.passes(c) and not b.passes(c) and not a.passes(b)
    a.drop("one", [DropRule(True, (c.address,))])
    assert a.drops() == {"one": 1, "two": 1}
    a.undrop("one")
    assert a.passes(c) and not b.passes(c) and not a.passes(b) and b.drops() == {"one": 1}
    a.drop("two", [])
    b.undrop("one")
    assert a.passes(b) and b.passes(c) and a.drops() == b.drops() == {}


def test_rules_outlast_a_reboot(trio: dict[str, MicroHost]) -> None:
    """A host that boots within a partition is silent from its first packet on; undone while it is off, it boots free."""
    a, b, _ = trio.values()
    a.drop("cut", BOTH_WAYS)
    before = a.state()
    a.power_off()
    assert a.drops() == {}
    a.power_on()
    assert not b.passes(a) and a.state() == before and a.drops() == {"cut": 2 if a._iptables else 4}
    assert not knocks(b, a.address)
    a.power_off()
    a.undrop("cut")
    a.undrop("cut")
    a.power_on()
    assert b.passes(a) and a.drops() == {}


def test_a_peer_that_reboots_within_a_partition_stays_cut_off(trio: dict[str, MicroHost]) -> None:
    """The rules are the partitioned host's, also those that the kernel of its peer carries out."""
    a, b, _ = trio.values()
    a.drop("cut", [DropRule(False, (b.address,))])
    b.power_off()
    assert a.drops() == {"cut": 1}
    b.power_on()
    assert not datagram_arrives(a, b)
    a.undrop("cut")
    assert a.passes(b)


def test_somebody_elses_rules_are_refused_in_our_chain_and_survive_beside_it(pair: tuple[MicroHost, MicroHost]) -> None:
    """A foreign rule elsewhere is left alone; one inside our chain stops us before we change anything."""
    a, b = pair
    if not a.sandbox.has_iptables(a):
        pytest.skip("iptables is not installed: apt-get install iptables")
    foreign = ["-s", "192.0.2.9", "-j", "DROP"]
    assert a.run(["iptables", "-A", "INPUT", *foreign], privileged=True).code == 0
    a.drop("mine", [DropRule(True, (b.address,))])
    a.undrop("mine")
    assert a.run(["iptables", "-C", "INPUT", *foreign], privileged=True).code == 0
    a.drop("mine", [DropRule(True, (b.address,))])
    rules = a.run(["iptables", "-S"], privileged=True).out.splitlines()
    chain = next(line.split()[1] for line in rules if line.startswith("-A GAMEDAY") and "gameday:mine" in line)
    a.run(["iptables", "-A", chain, *foreign], privileged=True)
    held = a.run(["iptables", "-S"], privileged=True).out
    with pytest.raises(EnvironmentFailed, match="somebody else's"):
        a.undrop("mine")
    with pytest.raises(EnvironmentFailed, match="somebody else's"):
        a.drop("mine", [DropRule(False)])
    assert a.run(["iptables", "-S"], privileged=True).out == held
    a.run(["iptables", "-D", chain, *foreign], privileged=True)
    a.undrop("mine")
    assert a.passes(b)


def test_the_relay_carries_traffic_that_partitions_touch(trio: dict[str, MicroHost]) -> None:
    """From this process through the client's host to a service: it works, a partition makes it silent, a power loss of the target too;
    a refusal closes the connection; and the relay ends with its standard input."""
    a, b, _ = trio.values()
    wait_listening(b)
    inside = a.sandbox.inside("a") / "relay" / "b"
    outside = a.disk / "relay" / "b"
    argv = [
        sys.executable,
        "-I",
        "-m",
        "chaos.environments.microhost.relay",
        f"{inside}={b.address}:8080",
        f"{inside}-nobody={b.address}:9",
    ]
    relay = a.spawn(argv, keep_stdin=True)
    wait_for(lambda: outside.exists() and Path(f"{outside}-nobody").exists(), timeout_s=10, what="the relay to listen")
    with socket.socket(socket.AF_UNIX) as connection, socket.socket(socket.AF_UNIX) as refused:
        for one in (connection, refused):
            one.settimeout(2.0)
        connection.connect(str(outside))
        connection.sendall(b"through\n")
        assert connection.recv(64) == b"through\n"
        refused.connect(f"{outside}-nobody")
        assert refused.recv(1) == b""
        b.drop("cut", BOTH_WAYS)
        connection.settimeout(0.5)
        connection.sendall(b"lost\n")
        with pytest.raises(TimeoutError):
            connection.recv(1)
        b.undrop("cut")
        connection.settimeout(5.0)
        assert connection.recv(64) == b"lost\n"  # TCP sends it again
    relay.close_stdin()
    assert relay.wait(5) == 0

"""What a container can do as a node, seen from another one and from this host."""

from __future__ import annotations

import http.client
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from chaos.core.clock import now_ns, seconds, wait_for
from chaos.core.errors import BadInput, DeadlineExceeded, EnvironmentFailed, Unavailable
from chaos.core.model import NodeRef
from chaos.environments.base import (
    DropRule,
    Exec,
    Freeze,
    Node,
    PacketFilter,
    Power,
    Process,
    Processes,
    Services,
    require,
)
from chaos.environments.docker import Docker, DockerNode, Lan, NodeSpec, Service

pytestmark = pytest.mark.docker_engine

# Connects, says so, and tells how the connection ends within the given seconds: closed, reset, or not at all.
WATCH = """
import socket, sys
c = socket.create_connection((sys.argv[1], 8080), 2); open("/tmp/watching", "w").close()
c.settimeout(float(sys.argv[2]))
try: print("closed" if c.recv(1) == b"" else "data")
except TimeoutError: print("silence")
except OSError as err: print("reset" if err.errno == 104 else err)
"""


def listener_of(node: DockerNode) -> Process:
    return next(process for process in node.processes() if "http.server" in process.cmdline)


def watched(peer: DockerNode, target: DockerNode, do: Callable[[], object], *, for_s: float) -> str:
    """How a connection from ``peer`` to ``target`` ends while ``do`` is called."""
    peer.run(["rm", "-f", "/tmp/watching"])
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(peer.run(["python3", "-c", WATCH, target.address, str(for_s)]).out.strip()))
    thread.start()
    wait_for(lambda: peer.run(["test", "-e", "/tmp/watching"]).code == 0, timeout_s=10, what="a connection to stand")
    do()
    thread.join(timeout=for_s + 10)
    return said[0]


def test_a_node_has_every_capability(pair: tuple[DockerNode, DockerNode]) -> None:
    """A container of ours implements all the protocols that faults ask for."""
    for capability in (Node, Exec, Power, Freeze, Processes, Services, PacketFilter):
        assert require(pair[0], capability, for_what="a test") is pair[0]


def test_a_command_gets_its_input_and_gives_both_outputs_and_its_code(pair: tuple[DockerNode, DockerNode]) -> None:
    """Standard input, standard output, standard error and the exit code arrive unmixed."""
    done = pair[0].run(["sh", "-c", "cat; echo oops >&2; exit 3"], stdin=b"hello")
    assert (done.code, done.out, done.err) == (3, "hello", "oops\n")


def test_a_command_that_hangs_is_killed_at_its_deadline(pair: tuple[DockerNode, DockerNode]) -> None:
    """The deadline raises, within a second of it, and no process of the command stays behind."""
    began_ns = now_ns()
    with pytest.raises(DeadlineExceeded, match="sleep"):
        pair[0].run(["sleep", "97"], timeout_s=0.4)
    assert seconds(now_ns() - began_ns) < 2.0
    assert not [process for process in pair[0].processes() if "97" in process.cmdline]


def test_power_loss_is_silence_to_peers_and_to_this_host(pair: tuple[DockerNode, DockerNode]) -> None:
    """Established connections get neither a close nor a reset, new ones no refusal."""
    a, b = pair
    host, port = a.endpoint(8080)
    with socket.create_connection((host, port), 2) as ours:
        ours.settimeout(1.5)
        assert watched(b, a, a.power_off, for_s=2.5) == "silence"
        if host == a.address:
            with pytest.raises(TimeoutError):
                ours.recv(1)
    assert not a.powered() and not a.reachable() and not b.passes(a)
    assert a.processes() == []


def test_killing_the_process_is_not_silence(pair: tuple[DockerNode, DockerNode]) -> None:
    """The same watcher sees a killed process close its connection: so it can tell the two apart."""
    a, b = pair
    assert watched(b, a, lambda: a.signal(listener_of(a), signal.SIGKILL), for_s=5.0) in ("closed", "reset")


def test_power_comes_back_with_the_same_state_and_the_same_data(pair: tuple[DockerNode, DockerNode]) -> None:
    """After power off and on the address, the services, the rules and the files are as before, and peers get through."""
    a, b = pair
    before = a.state()
    a.run(["sh", "-c", "echo kept > /pgdata/mark"])
    a.power_off()
    a.power_off()
    a.power_on()
    a.power_on()
    wait_for(lambda: a.state() == before, timeout_s=10, what="the state to be as before", interval_s=0.1)
    assert a.run(["cat", "/pgdata/mark"]).out == "kept\n"
    assert b.passes(a) and a.reachable()


def test_power_loss_of_a_frozen_node_is_silence_too(pair: tuple[DockerNode, DockerNode]) -> None:
    """Freezing first does not make the kill audible, and power brings the node back thawed."""
    a, b = pair
    before = a.state()
    a.freeze()
    assert watched(b, a, a.power_off, for_s=2.0) == "silence"
    a.power_on()
    assert not a.frozen()
    wait_for(lambda: a.state() == before, timeout_s=10, what="the state to be as before", interval_s=0.1)


def test_a_frozen_node_runs_nothing_and_its_kernel_still_answers(pair: tuple[DockerNode, DockerNode]) -> None:
    """Frozen: connections are accepted by the kernel and never served; thawed: served again, in the same state."""
    a, b = pair
    before = a.state()
    a.freeze()
    a.freeze()
    assert a.frozen() and a.powered() and a.state() != before
    assert a.passes(b)
    with pytest.raises(EnvironmentFailed, match="paused"):
        a.processes()
    a.thaw()
    a.thaw()
    assert not a.frozen() and a.state() == before


@pytest.mark.parametrize("inbound", [True, False])
def test_a_partition_of_one_direction(pair: tuple[DockerNode, DockerNode], inbound: bool) -> None:
    """Dropping one direction stops every exchange; undoing it leaves the node as it was."""
    a, b = pair
    before = a.state()
    assert a.passes(b) and b.passes(a)
    a.drop("half", [DropRule(inbound, (b.address,))])
    assert a.drops() == {"half": 1}
    assert not a.passes(b) and not b.passes(a)
    a.undrop("half")
    a.undrop("half")
    assert a.passes(b) and a.drops() == {} and a.state() == before


def test_a_partition_from_everybody_spares_the_loopback(pair: tuple[DockerNode, DockerNode]) -> None:
    """No peer gets through, the host neither, and the node still reaches itself."""
    a, b = pair
    a.drop("island", [DropRule(True), DropRule(False)])
    assert not a.passes(b) and not a.reachable()
    assert a.ping("127.0.0.1")
    a.undrop("island")
    assert a.passes(b) and a.reachable()


def test_a_rule_for_a_port_drops_only_that_port(pair: tuple[DockerNode, DockerNode]) -> None:
    """Answers from the port vanish while an echo still passes."""
    a, b = pair
    connect = ["python3", "-c", f"import socket; socket.create_connection(({a.address!r}, 8080), 0.5)"]
    assert b.run(connect).code == 0
    a.drop("port", [DropRule(False, (b.address,), port=8080)])
    assert b.run(connect).code != 0 and b.passes(a)
    a.undrop("port")
    assert b.run(connect).code == 0


def test_dropping_again_replaces_and_tags_do_not_disturb_each_other(pair: tuple[DockerNode, DockerNode]) -> None:
    """A second drop under one tag replaces the first; another tag's rules stay."""
    a, b = pair
    a.drop("one", [DropRule(True, (b.address,)), DropRule(False, (b.address,))])
    a.drop("two", [DropRule(True, ("192.0.2.1",))])
    a.drop("one", [DropRule(True, ("192.0.2.2",))])
    assert a.drops() == {"one": 1, "two": 1} and a.passes(b)
    a.undrop("one")
    assert a.drops() == {"two": 1}
    a.undrop("two")


def test_somebody_elses_rules_survive_and_are_refused_in_our_chain(pair: tuple[DockerNode, DockerNode]) -> None:
    """A foreign rule elsewhere is left alone; one inside our chain stops us before we change anything."""
    a, b = pair
    foreign = ["-s", "192.0.2.9", "-j", "DROP"]
    a.run(["iptables", "-w", "-A", "INPUT", *foreign], privileged=True)
    a.drop("mine", [DropRule(True, (b.address,))])
    a.undrop("mine")
    assert a.run(["iptables", "-w", "-C", "INPUT", *foreign], privileged=True).code == 0
    a.drop("mine", [DropRule(True, (b.address,))])
    chain = next(line.split()[1] for line in a.state()["filter"] if line.endswith("-j DROP") and "gameday:mine" in line)  # type: ignore[union-attr]
    a.run(["iptables", "-w", "-A", chain, *foreign], privileged=True)
    with pytest.raises(EnvironmentFailed, match="somebody else's"):
        a.undrop("mine")
    a.run(["iptables", "-w", "-D", chain, *foreign], privileged=True)
    a.run(["iptables", "-w", "-D", "INPUT", *foreign], privileged=True)
    a.undrop("mine")


def test_a_signal_reaches_exactly_the_process_that_was_seen(pair: tuple[DockerNode, DockerNode]) -> None:
    """The same pid with another start time is not signalled; the right one is, once."""
    a, _ = pair
    seen = listener_of(a)
    stranger = Process(seen.pid, seen.parent, seen.started - 1, seen.name, seen.cmdline, seen.state)
    assert not a.signal(stranger, signal.SIGKILL)
    assert listener_of(a) == seen
    assert a.signal(seen, signal.SIGSTOP)
    wait_for(lambda: listener_of(a).state == "T", timeout_s=5, what="the process to stop")
    assert a.signal(seen, signal.SIGKILL)
    wait_for(lambda: not a.services()["listener"], timeout_s=5, what="the service to be seen down")
    assert not a.signal(seen, signal.SIGKILL)


def test_a_stopped_service_leaves_a_machine_that_refuses(pair: tuple[DockerNode, DockerNode]) -> None:
    """Stopping takes the service down and not the node; starting brings back the state from before."""
    a, b = pair
    before = a.state()
    a.stop_service("listener")
    a.stop_service("listener")
    assert a.services() == {"listener": False} and a.powered() and b.passes(a)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(a.endpoint(8080), 2)
    a.start_service("listener")
    a.start_service("listener")
    assert a.services() == {"listener": True} and a.state() == before


def test_a_service_that_ignores_sigterm_is_killed_at_the_deadline(docker_environment: Docker, machine_image: str) -> None:
    """An orderly stop that is not obeyed ends by force, with all processes of the service's user."""
    stubborn = Service(("sh", "-c", "trap '' TERM; while :; do sleep 1; done"), "games")
    lan = docker_environment.lan("stubborn")
    try:
        node = lan.start(NodeSpec(name="x", image=machine_image, services={"stubborn": stubborn}))
        wait_for(lambda: any(p.name == "sleep" for p in node.processes()), timeout_s=10, what="the service to run")
        node.stop_service("stubborn", timeout_s=0.3)
        assert node.services() == {"stubborn": False}
        assert [p.name for p in node.processes()] == ["python3"]
    finally:
        lan.close()


def test_a_disk_in_memory_outlives_a_power_loss_and_is_full_when_it_is(docker_environment: Docker, machine_image: str) -> None:
    """What was written is there after power off and on, no more than its size fits, and without a keeper it is refused."""
    lan = docker_environment.lan("memory")
    try:
        spec = NodeSpec(name="x", image=machine_image, data={"/pgdata": "postgres"}, disk_bytes=4 << 20, user="postgres")
        with pytest.raises(BadInput, match="keep"):
            lan.start(spec)
        lan.keep([spec])
        node = lan.start(spec)
        wait_for(lambda: node.run(["sh", "-c", "echo kept > /pgdata/mark"]).code == 0, timeout_s=10, what="the disk to be its user's")
        node.power_off()
        node.power_on()
        assert node.run(["cat", "/pgdata/mark"]).out == "kept\n"
        assert "No space left" in node.run(["dd", "if=/dev/zero", "of=/pgdata/big", "bs=1M", "count=5"]).err
    finally:
        lan.close()


def test_a_node_is_found_again_by_its_reference_alone(pair: tuple[DockerNode, DockerNode]) -> None:
    """An environment that was never opened resolves a reference that went through JSON; a wrong one fails with where."""
    ref = msgspec.json.decode(msgspec.json.encode(pair[0].ref), type=NodeRef)
    elsewhere = Docker()
    again = elsewhere.resolve(ref)
    assert again.address == pair[0].address and again.state() == pair[0].state()
    with pytest.raises(EnvironmentFailed, match="docker/pair/ghost"):
        elsewhere.resolve(NodeRef("docker", "pair", "ghost", {"container": "0" * 64}))
    elsewhere.close()


def test_published_ports_stay_the_same_over_a_restart(listener_spec: Callable[[str], NodeSpec], tmp_path: Path) -> None:
    """Where this host is not on the containers' network, a fixed port on 127.0.0.1 leads to the node, before and after a power loss."""
    elsewhere = Docker(reach="published")
    elsewhere.open(run_id="published", state_dir=tmp_path)
    try:
        lan: Lan = elsewhere.lan("published")
        a, b = lan.start_all([listener_spec(name) for name in ("a", "b")])
        before = a.endpoint(8080)
        assert before[0] == "127.0.0.1" and before != b.endpoint(8080)
        wait_for(lambda: socket.create_connection(before, 1).close() is None, timeout_s=10, what="the listener")
        assert a.reachable()
        a.power_off()
        assert not a.reachable()
        a.power_on()
        assert a.endpoint(8080) == before
        wait_for(lambda: socket.create_connection(before, 1).close() is None, timeout_s=10, what="the listener again")
    finally:
        elsewhere.close()


def test_an_environment_without_an_engine_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With nobody behind DOCKER_HOST, check and open raise with the fix, and doctor says it in one line."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(Unavailable, match="next: "):
        Docker().check()
    lines = Docker().doctor()
    assert [line.ok for line in lines] == [False] and "DOCKER_HOST" in lines[0].fix


def test_what_a_command_says_before_we_listen_is_not_lost(pair: tuple[DockerNode, DockerNode], monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may read the engine's answer only when the command has ended already: its output is there all the same."""
    begin = http.client.HTTPResponse.begin

    def late(response: http.client.HTTPResponse) -> None:
        time.sleep(0.2)  # the point of this test: nothing to wait for
        begin(response)

    monkeypatch.setattr(http.client.HTTPResponse, "begin", late)
    done = pair[0].run(("sh", "-c", "echo out; echo err >&2; exit 3"))
    assert (done.code, done.out, done.err) == (3, "out\n", "err\n")
    assert pair[0].run(("cat",), stdin=b"input").out == "input"

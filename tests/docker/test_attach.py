"""Attached containers as nodes: found by labels, broken without a tool of ours inside, and left exactly as they were found."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from attach_containers import Project

from chaos.core.clock import wait_for
from chaos.core.errors import BadInput, DeadlineExceeded, EnvironmentFailed, EnvironmentGone, Unavailable
from chaos.core.model import FaultRecord, FaultState, Json, NodeRef
from chaos.engine.injection import InjectedFault, Switch
from chaos.engine.journal import Journal
from chaos.environments.base import (
    CpuQuota,
    DropRule,
    Exec,
    Freeze,
    MemoryLimit,
    Node,
    PacketFilter,
    Power,
    Processes,
    Services,
    Volumes,
    require,
)
from chaos.environments.docker.attach import AttachedNode, DockerAttach
from chaos.environments.docker.attach.doors import NETWORK
from chaos.environments.docker.attach.nft import table_of
from chaos.environments.registry import reopen
from chaos.faults.base import Fault
from chaos.faults.kill import Kill
from chaos.faults.partition import Partition
from chaos.faults.pause import Pause
from chaos.faults.power_loss import PowerLoss
from chaos.faults.stop import Stop

pytestmark = pytest.mark.docker_engine


def nothing(_: FaultRecord, __: FaultState) -> None:
    """A listener that does not listen."""


@pytest.fixture
def attach(project: Project) -> Iterator[DockerAttach]:
    """Attached to it; whatever a test did, the containers run afterwards, and nothing of ours is left beside them."""
    environment = DockerAttach(project=project.name, deadline_s=10.0)
    environment.open(run_id="tests", state_dir=Path())
    project.scope = environment._scope()
    yield environment
    for node in environment.nodes().values():
        node.power_on()
        node.thaw()
        for tag in node.drops():
            node.undrop(tag)
    environment.close()
    wait_for(lambda: not project.ours(), timeout_s=15, what="everything of ours to be gone", interval_s=0.2)


@pytest.fixture
def nodes(attach: DockerAttach) -> Mapping[str, AttachedNode]:
    return attach.nodes()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.jsonl")
    yield journal
    journal.close()


def states(nodes: Mapping[str, AttachedNode]) -> dict[str, dict[str, Json]]:
    return {name: node.state() for name, node in nodes.items()}


# Finding them


def test_constructing_asks_nothing_of_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings survive a round trip where no engine answers; only a check finds that out, with the fix."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    environment = DockerAttach(project="corporate-intel", name="staging")
    again = DockerAttach(**environment.settings())  # type: ignore[arg-type]
    assert again.settings() == environment.settings() and again.name == "staging" and not again.disposable
    assert [line.ok for line in again.doctor()] == [False]
    with pytest.raises(Unavailable, match="engine") as refused:
        again.check()
    assert refused.value.next_step


@pytest.mark.parametrize("wrong", [{}, {"project": "x", "labels": {"a": "b"}}, {"project": "x", "deadline_s": 0.1}], ids=str)
def test_settings_that_make_no_sense_are_bad_input(wrong: dict[str, Any]) -> None:
    """Neither a project nor labels, both, or a deadline that no heartbeat could keep up."""
    with pytest.raises(BadInput):
        DockerAttach(**wrong)


def test_nodes_are_named_after_compose_services(attach: DockerAttach, project: Project) -> None:
    """A scaled service's containers get their numbers; references carry id and address, and resolve in another process."""
    nodes = attach.nodes()
    assert list(nodes) == ["bare", "db", "web-1", "web-2"]
    assert {name: node.ref.locator["container"] for name, node in nodes.items()} == project.containers
    other = reopen(attach.kind, attach.settings())
    assert other.kind == "docker-attach"
    assert other.resolve(nodes["db"].ref).address == nodes["db"].address == nodes["db"].ref.locator["address"]
    other.close()


def test_nodes_are_found_by_labels_too(project: Project) -> None:
    """By any labels, under their own names, running or not."""
    environment = DockerAttach(labels={"com.docker.compose.project": project.name, "com.docker.compose.service": "web"})
    assert list(environment.nodes()) == [f"{project.name}-web-1", f"{project.name}-web-2"]
    environment.close()
    nobody = DockerAttach(labels={"nobody.bears": "this"})
    with pytest.raises(Unavailable, match="containers"):
        nobody.check()
    assert dict(nobody.nodes()) == {}
    nobody.close()


def test_a_container_that_is_gone_is_gone_for_good(attach: DockerAttach) -> None:
    """Neither resolving it nor waiting for it makes sense."""
    with pytest.raises(EnvironmentGone, match="does not exist"):
        attach.resolve(NodeRef("docker-attach", "x", "x", {"container": "0" * 64}))


def test_identity_and_doctor_tell_the_real_thing(attach: DockerAttach, project: Project) -> None:
    """What pins it are the engine's own id and what was asked for; the doctor finds nothing wrong."""
    identity = attach.identity()
    assert identity["engine"] == project.client.info()["ID"] and identity["target"] == f"com.docker.compose.project={project.name}"
    assert set(attach.identity_keys) <= set(identity)
    attach.check()
    assert all(line.ok for line in attach.doctor())


# What they can do


def test_a_node_has_every_capability(nodes: Mapping[str, AttachedNode]) -> None:
    """All protocols but the link's."""
    for capability in (Node, Exec, Power, Freeze, Processes, Services, PacketFilter, CpuQuota, MemoryLimit, Volumes):
        assert require(nodes["db"], capability, for_what="a test") is nodes["db"]


def test_a_command_gets_its_input_and_gives_both_outputs_and_its_code(nodes: Mapping[str, AttachedNode]) -> None:
    """Standard input, standard output, standard error and the exit code arrive unmixed, also with all rights that there are."""
    for privileged in (False, True):
        done = nodes["db"].run(["sh", "-c", "cat; echo oops >&2; exit 3"], stdin=b"hello", privileged=privileged)
        assert (done.code, done.out, done.err) == (3, "hello", "oops\n")


def test_a_command_that_hangs_is_killed_where_there_is_no_tool_to_do_it(nodes: Mapping[str, AttachedNode]) -> None:
    """Neither the command nor what it started stays behind, in a container with a shell and in one with nothing at all."""
    with pytest.raises(DeadlineExceeded, match="sh did not end"):
        nodes["db"].run(["sh", "-c", "sleep 97 & sleep 98"], timeout_s=0.5)
    with pytest.raises(DeadlineExceeded, match="sleep did not end"):
        nodes["bare"].run(["/bin/sleep", "97"], timeout_s=0.5)
    for name in ("db", "bare"):
        assert not [p for p in nodes[name].processes() if {"97", "98"} & set(p.cmdline)]


def test_processes_are_seen_from_outside_and_without_our_own(nodes: Mapping[str, AttachedNode]) -> None:
    """Also of a frozen node and of one without any tool; a process is signalled by pid and start time, or not at all."""
    assert [(p.pid, p.name) for p in nodes["bare"].processes()] == [(1, "sleep")]
    db = nodes["db"]
    db.run(["sh", "-c", "sleep 4321 >/dev/null 2>&1 &"])
    db.freeze()
    assert sorted(p.name for p in db.processes() if p.state != "Z") == ["perl", "sleep"]  # nobody reaps in there
    db.thaw()
    sleeper = next(p for p in db.processes() if p.name == "sleep" and p.state != "Z")
    assert not db.signal(type(sleeper)(sleeper.pid, sleeper.parent, sleeper.started + 1, "", (), "S"), 9)
    assert db.signal(sleeper, 9)
    wait_for(lambda: not [p for p in db.processes() if p.name == "sleep" and p.state != "Z"], timeout_s=5, what="its end")


def test_a_partition_drops_to_all_addresses_of_a_peer(nodes: Mapping[str, AttachedNode]) -> None:
    """Two nodes that share two networks are cut on both, a third is not; undoing leaves no table."""
    db, web1, web2 = nodes["db"], nodes["web-1"], nodes["web-2"]
    before = states(nodes)
    assert db.passes(web2) and db.passes(web1) and web2.passes(db)
    db.drop("t1", [DropRule(inbound=True, peers=(web2.address,)), DropRule(inbound=False, peers=(web2.address,))])
    assert not db.passes(web2) and not web2.passes(db) and db.passes(web1)
    assert db.drops() == {"t1": 2} and web2.drops() == {}
    db.drop("t1", [DropRule(inbound=True)])
    assert not db.passes(web1) and db.drops() == {"t1": 1}
    db.undrop("t1")
    db.undrop("t1")
    assert db.passes(web2) and db.drops() == {} and states(nodes) == before


def test_a_port_and_a_network_can_be_dropped_alone(nodes: Mapping[str, AttachedNode]) -> None:
    """Connections to the port hang while echoes pass; a network's whole range is dropped."""
    db, web1 = nodes["db"], nodes["web-1"]
    attempt = ["perl", "-MIO::Socket::INET", "-e", f"exit !IO::Socket::INET->new(PeerAddr => '{db.address}:8080', Timeout => 1)"]
    assert web1.run(attempt).code == 0
    db.drop("t1", [DropRule(inbound=True, peers=(web1.address,), port=8080)])
    assert db.passes(web1) and web1.run(attempt).code != 0
    db.drop("t1", [DropRule(inbound=True, peers=(f"{db.address}/16", "203.0.113.0/24"))])
    assert not db.passes(web1)
    db.undrop("t1")
    assert web1.run(attempt).code == 0


def test_a_share_of_the_packets_is_dropped(nodes: Mapping[str, AttachedNode]) -> None:
    """Half of them, give or take what chance does in two hundred echoes; the kernel counts those that it dropped."""
    db, web1 = nodes["db"], nodes["web-1"]
    rules = [DropRule(inbound=True, share=0.5)]
    db.check_drop(rules)
    assert db.drops() == {} and db.echoes(web1, 200) == 200
    db.drop("t1", rules)
    assert 60 <= db.echoes(web1, 200) <= 140
    assert 60 <= db.dropped("t1") <= 140
    db.undrop("t1")
    assert db.dropped("t1") == 0


def test_a_connection_can_be_reset(nodes: Mapping[str, AttachedNode]) -> None:
    """With ``reject`` whoever connects is refused at once, where a dropped attempt would hang; echoes pass."""
    db, web1 = nodes["db"], nodes["web-1"]
    db.drop("t1", [DropRule(inbound=True, peers=(web1.address,), port=8080, reject=True)])
    attempt = f"exit($! == 111 ? 7 : 1) unless IO::Socket::INET->new(PeerAddr => '{db.address}:8080', Timeout => 5)"
    assert web1.run(["perl", "-MIO::Socket::INET", "-e", attempt]).code == 7 and db.passes(web1)


def test_drops_end_by_themselves(project: Project) -> None:
    """Nobody extends: the kernel lets packets through at the deadline, and soon after the table is gone too."""
    environment = DockerAttach(project=project.name, deadline_s=1.5)
    nodes = environment.nodes()
    before = nodes["db"].state()
    nodes["db"].drop("t1", [DropRule(inbound=True)])
    assert not nodes["db"].passes(nodes["web-1"])
    wait_for(lambda: nodes["db"].passes(nodes["web-1"]), timeout_s=3, what="packets to pass")
    wait_for(lambda: nodes["db"].state() == before, timeout_s=5, what="the table to be gone")
    environment.close()


def test_a_restart_ends_a_drop_and_drops_says_so(nodes: Mapping[str, AttachedNode]) -> None:
    """The rules went with the old network stack: nothing is held, and nothing pretends to be."""
    db = nodes["db"]
    db.drop("t1", [DropRule(inbound=True)])
    db.stop_service("db")
    assert db.drops() == {} and not db.passes(nodes["web-1"])
    db.undrop("t1")
    db.start_service("db")
    assert db.drops() == {} and db.passes(nodes["web-1"])


def test_a_foreign_table_is_refused_and_left_alone(nodes: Mapping[str, AttachedNode]) -> None:
    """A table of our name without our comment is neither replaced nor removed, nor taken by a door for one of ours that has expired."""
    db = nodes["db"]
    table = table_of("t1")

    def nft(*argv: str) -> str:
        done = db._beside.doors.run(db._routed(), NETWORK, ("nft", *argv))
        assert done.code == 0, done.err
        return done.out

    nft(f"table inet {table} {{ chain theirs {{ ip saddr 192.0.2.1 drop; }}; }}")
    for act in (lambda: db.drop("t1", [DropRule(inbound=True)]), lambda: db.undrop("t1")):
        with pytest.raises(EnvironmentFailed, match="somebody else's"):
            act()
    db.drop("t2", [DropRule(inbound=True, peers=("192.0.2.2",))])
    expired = table_of("t2")
    nft("delete", "element", "inet", expired, "s04", "{ 192.0.2.2 }")
    wait_for(lambda: expired not in nft("list", "ruleset"), timeout_s=10, what="the expired table of ours to be removed")
    assert "192.0.2.1" in nft("list", "table", "inet", table)
    nft("delete", "table", "inet", table)


def test_a_container_on_the_hosts_network_is_never_filtered(project: Project, attach: DockerAttach) -> None:
    """Its packets are the host's: refused with the reason, for drops and for power loss; its processes too where it shares those."""
    made = project.start("guest", "guest", 1, {"host": {}}, pid_mode="host", command=["sleep", "100000"])
    try:
        guest = attach.nodes()["guest"]
        assert guest.state() == guest.state()
        for act in (lambda: guest.drop("t1", [DropRule(inbound=True)]), guest.drops, guest.power_off):
            with pytest.raises(Unavailable, match="no network of its own"):
                act()
        with pytest.raises(Unavailable, match="shares processes"):
            guest.processes()
        assert guest.powered()
    finally:
        project.api.remove_container(made, force=True)
        del project.containers["guest"]


@pytest.mark.parametrize(("name", "before"), [("db", None), ("web-2", 0.5)])
def test_a_cpu_quota_comes_back_in_the_form_it_had(nodes: Mapping[str, AttachedNode], name: str, before: float | None) -> None:
    """No quota at all, or one in NanoCpus: after limiting and restoring, limits are as they were."""
    node = nodes[name]
    state = node.state()
    assert node.cpu_limit() == before
    node.limit_cpu(0.2)
    assert node.cpu_limit() == pytest.approx(0.2) and node.state()["limits"] != state["limits"]
    node.limit_cpu(before)
    assert node.cpu_limit() == before and node.state() == state


def test_memory_is_measured(nodes: Mapping[str, AttachedNode]) -> None:
    """The limit where there is one, and what is in use."""
    assert nodes["db"].memory_limit_bytes() is None and nodes["web-2"].memory_limit_bytes() == 256 << 20
    assert 0 < nodes["web-2"].memory_used_bytes() < 256 << 20


def connection_after(node: AttachedNode, do: Callable[[], object]) -> str:
    """How a connection from this host ends when that is done: "silence" for 1.5 s, or "closed"."""
    with socket.create_connection((node.address, 8080), 3) as ours:
        ours.settimeout(1.5)
        do()
        try:
            return "closed" if ours.recv(1) == b"" else "data"
        except TimeoutError:
            return "silence"
        except ConnectionResetError:
            return "closed"


def test_power_loss_is_silence_and_a_kill_is_not(nodes: Mapping[str, AttachedNode]) -> None:
    """Nobody is told of a power loss, also of a frozen node; of a killed process everybody is."""
    db = nodes["db"]
    before = db.state()
    assert db.reachable()
    assert connection_after(db, db.power_off) == "silence"
    assert not db.powered() and not db.reachable() and db.processes() == [] and db.state() != before
    db.power_on()
    wait_for(lambda: db.state() == before, timeout_s=10, what="the state before", interval_s=0.1)
    db.freeze()
    assert connection_after(db, db.power_off) == "silence"
    db.power_on()
    wait_for(lambda: db.state() == before, timeout_s=10, what="the state before", interval_s=0.1)
    perl = next(p for p in db.processes() if p.name == "perl")
    assert connection_after(db, lambda: db.signal(perl, 9)) == "closed"


# Faults


def fault_on(kind: str, nodes: Mapping[str, AttachedNode], name: str) -> Fault:
    node, others = nodes[name].ref, [other.ref for key, other in nodes.items() if key not in (name, "bare")]
    return {
        "kill": lambda: Kill(node, process="perl"),
        "stop": lambda: Stop(node),
        "pause": lambda: Pause(node),
        "power-loss": lambda: PowerLoss(node),
        "partition": lambda: Partition.isolate(node, others),
    }[kind]()


FAULTS = ("kill", "stop", "pause", "power-loss", "partition")


@pytest.mark.parametrize("name", ["db", "web-1", "web-2"])
@pytest.mark.parametrize("kind", FAULTS)
def test_every_state_is_as_before_after_a_fault(
    attach: DockerAttach, nodes: Mapping[str, AttachedNode], project: Project, journal: Journal, kind: str, name: str
) -> None:
    """Aliases, fixed addresses, restart policy, limits, rules and all: also where the container is on two networks, always restarts, or is
    limited. With the dead-man's switch armed, of which nothing is left afterwards."""
    before = states(nodes)
    dead_man = attach.dead_man()
    running = InjectedFault(
        fault_on(kind, nodes, name), f"t-{kind}", attach.resolve, journal, nothing, cause=False, switch=Switch(dead_man, 30.0)
    )
    running.inject("a drill")
    assert set(dead_man.armed()) == {f"t-{kind}"}
    running.heal()
    assert running.record.verified_ns is not None and not dead_man.armed()
    wait_for(lambda: states(nodes) == before, timeout_s=10, what="the states before", interval_s=0.1)
    attach.close()
    assert project.ours() == []


def test_a_fault_that_was_interrupted_half_way_heals(attach: DockerAttach, nodes: Mapping[str, AttachedNode]) -> None:
    """Silenced and never killed: booting lets packets through again at once."""
    db = nodes["db"]
    before = db.state()
    undo = PowerLoss(db.ref).plan("t", attach.resolve)
    with contextlib.suppress(KeyboardInterrupt):
        original = db._client.api.kill

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        db._client.api.kill = interrupted
        try:
            db.power_off()
        finally:
            db._client.api.kill = original
    assert db.powered() and not db.passes(nodes["web-1"])
    PowerLoss.heal(undo, attach.resolve)
    assert db.passes(nodes["web-1"]) and PowerLoss.healed(undo, attach.resolve) and db.state() == before

"""The dead-man's switch of attached containers: acts when nobody extends it, whatever became of us, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from attach_containers import Project

from chaos.core.clock import now_ns, seconds, wait_for
from chaos.core.errors import EnvironmentFailed, Unavailable
from chaos.core.model import Json, Step, Undo
from chaos.environments.base import DropRule
from chaos.environments.docker.attach import AttachedNode, DockerAttach
from chaos.environments.registry import reopen

pytestmark = pytest.mark.docker_engine
DEADLINE_S = 2.5
SLACK_S = 1.0 if os.environ.get("GAMEDAY_QUIET_MACHINE") else 10.0
"""The promise is 1 s; a machine that does other work meanwhile gets more."""
HEARD_DEADLINE_S = 5.0
"""Where heartbeats must keep coming through an engine that does other work."""

# Arms a switch, has the effect, says so and waits to be killed.
RUNNER = """
import sys
from pathlib import Path
import msgspec
from chaos.core.model import Undo
from chaos.environments.base import DropRule
from chaos.environments.registry import reopen
environment = reopen("docker-attach", msgspec.json.decode(sys.argv[1]))
undo = msgspec.json.decode(sys.argv[2], type=Undo)
node = environment.resolve(undo.nodes[0])
environment.dead_man().arm(undo, float(sys.argv[3]))
if sys.argv[4] == "partitioned":
    node.drop("isolation", [DropRule(inbound=True), DropRule(inbound=False)])
{"undrop": lambda: node.drop(undo.fault_id, [DropRule(inbound=True), DropRule(inbound=False)]), "thaw": node.freeze,
 "start_service": lambda: node.stop_service("db"), "power_on": node.power_off,
 "shell": lambda: node.run(["touch", "/tmp/broken"])}[undo.steps[0].do]()
print("broken", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def attach(project: Project) -> Iterator[DockerAttach]:
    """Attached to it; whatever a test did, the containers run afterwards, and nothing of ours is left beside them."""
    environment = DockerAttach(project=project.name, deadline_s=DEADLINE_S)
    environment.open(run_id="tests", state_dir=Path())
    project.scope = environment._scope()
    yield environment
    for node in environment.nodes().values():
        node.power_on()
        node.thaw()
        for tag in node.drops():
            node.undrop(tag)
    environment.close()
    wait_for(lambda: not project.ours(), timeout_s=20, what="everything of ours to be gone", interval_s=0.2)


@pytest.fixture
def db(attach: DockerAttach) -> AttachedNode:
    return attach.nodes()["db"]


def step(kind: str) -> Step:
    return Step("db", kind, {"undrop": f"t-{kind}", "start_service": "db", "shell": "rm -f /tmp/broken"}.get(kind, ""))


def undo_of(node: AttachedNode, kind: str, fault_id: str = "") -> Undo:
    return Undo(fault_id or f"t-{kind}", kind, 1, (node.ref,), {}, {}, (step(kind),))


def broken(node: AttachedNode, witness: AttachedNode) -> dict[str, Callable[[], bool]]:
    """By kind of step: is the effect there?"""
    return {
        "undrop": lambda: not node.passes(witness),
        "thaw": node.frozen,
        "start_service": lambda: not node.powered(),
        "power_on": lambda: not node.powered(),
        "shell": lambda: node.powered() and node.run(["test", "-e", "/tmp/broken"]).code == 0,
    }


KINDS = ("undrop", "thaw", "start_service", "power_on", "shell")


@pytest.mark.parametrize("also", ["", "partitioned"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_acts_when_everything_of_ours_has_been_killed(
    attach: DockerAttach, db: AttachedNode, project: Project, kind: str, also: str
) -> None:
    """After SIGKILL of the process that armed it, healed within the deadline, be the node cut off from everybody or not; and soon
    every state is as before, and no helper is left."""
    import msgspec

    nodes = attach.nodes()
    before = {name: node.state() for name, node in nodes.items()}
    argv = [msgspec.json.encode(attach.settings()).decode(), msgspec.json.encode(undo_of(db, kind)).decode(), str(DEADLINE_S), also]
    with subprocess.Popen([sys.executable, "-c", RUNNER, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None and runner.stdout.readline() == "broken\n"
        assert broken(db, nodes["web-1"])[kind]()
        runner.send_signal(signal.SIGKILL)
        began_ns = now_ns()
    wait_for(lambda: not broken(db, nodes["web-1"])[kind](), timeout_s=DEADLINE_S + SLACK_S, what=f"{kind} on its own", interval_s=0.02)
    assert seconds(now_ns() - began_ns) <= DEADLINE_S + SLACK_S
    wait_for(
        lambda: {name: node.state() for name, node in nodes.items()} == before, timeout_s=DEADLINE_S + 8, what="the states", interval_s=0.2
    )
    attach.close()
    wait_for(lambda: not project.ours(), timeout_s=15, what="the warden to be gone", interval_s=0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_heartbeat_from_another_process_keeps_it_from_acting(attach: DockerAttach, db: AttachedNode, kind: str) -> None:
    """Extended for longer than the deadline by an environment that was made from settings alone, the effect stays; then it is undone, and
    extending raises."""
    witness = attach.nodes()["web-1"]
    healer = reopen("docker-attach", attach.settings())
    theirs = healer.dead_man()
    assert theirs is not None
    undo = undo_of(db, kind)
    attach.dead_man().arm(undo, HEARD_DEADLINE_S)
    effect: Mapping[str, Callable[[], object]] = {
        "undrop": lambda: db.drop(undo.fault_id, [DropRule(inbound=True)]),
        "thaw": db.freeze,
        "start_service": lambda: db.stop_service("db"),
        "power_on": db.power_off,
        "shell": lambda: db.run(["touch", "/tmp/broken"]),
    }
    effect[kind]()
    until_ns = now_ns() + int(1.5 * HEARD_DEADLINE_S * 1e9)

    def kept() -> bool:
        theirs.extend(undo.fault_id, HEARD_DEADLINE_S)
        assert broken(db, witness)[kind](), "it acted in spite of the heartbeat"
        return now_ns() > until_ns

    wait_for(kept, timeout_s=1.5 * HEARD_DEADLINE_S + 10, what="more than the deadline to pass", interval_s=0.3)
    theirs.extend(undo.fault_id, HEARD_DEADLINE_S)
    assert 0 < theirs.armed()[undo.fault_id] <= HEARD_DEADLINE_S
    theirs.extend(undo.fault_id, 1.0)
    wait_for(lambda: not broken(db, witness)[kind](), timeout_s=1.0 + SLACK_S, what="it to act", interval_s=0.02)
    with pytest.raises(EnvironmentFailed, match=r"acted|lets packets through"):
        theirs.extend(undo.fault_id, DEADLINE_S)
    attach.dead_man().disarm(undo.fault_id)
    healer.close()


def test_extending_what_was_never_armed_is_an_error(attach: DockerAttach) -> None:
    """And disarming it is nothing."""
    attach.dead_man().disarm("never")
    assert attach.dead_man().armed() == {}
    with pytest.raises(EnvironmentFailed, match="armed"):
        attach.dead_man().extend("never", 1.0)


def test_one_warden_holds_several_faults_and_goes_with_the_last(attach: DockerAttach, db: AttachedNode, project: Project) -> None:
    """Disarmed in any order; arming again replaces; what is disarmed does not act."""
    switch = attach.dead_man()
    switch.arm(undo_of(db, "thaw", "one"), 1.5)
    switch.arm(undo_of(db, "thaw", "one"), 30)
    switch.arm(undo_of(db, "thaw", "two"), 1.5)
    assert len(project.ours()) == 1 and set(switch.armed()) == {"one", "two"}
    db.freeze()
    switch.disarm("two")
    until_ns = now_ns() + int(2.5e9)
    wait_for(lambda: now_ns() > until_ns, timeout_s=5, what="its former deadline to pass")
    assert db.frozen() and set(switch.armed()) == {"one"}
    db.thaw()
    switch.disarm("one")
    switch.disarm("one")
    assert project.ours() == [] and switch.armed() == {}


def test_two_owners_do_not_mix(attach: DockerAttach, db: AttachedNode, project: Project) -> None:
    """Another run's fault of the same id is neither extended nor disarmed nor seen."""
    other = DockerAttach(project=project.name)
    attach.dead_man().arm(undo_of(db, "thaw", "same"), 30)
    with pytest.raises(EnvironmentFailed, match="armed"):
        other.dead_man().extend("same", 1.0)
    other.dead_man().disarm("same")
    assert other.dead_man().armed() == {} and set(attach.dead_man().armed()) == {"same"}
    attach.dead_man().disarm("same")
    other.close()


def test_the_warden_survives_a_restart_of_its_container(attach: DockerAttach, db: AttachedNode, project: Project) -> None:
    """As after a restart of the engine: what was armed is still armed, and acts at its deadline."""
    switch = attach.dead_man()
    switch.arm(undo_of(db, "thaw"), 4.0)
    db.freeze()
    (warden,) = project.ours()
    project.api.restart(warden.lstrip("/"), timeout=0)
    assert db.frozen() and set(switch.armed()) == {"t-thaw"}
    wait_for(lambda: not db.frozen(), timeout_s=4 + SLACK_S, what="it to act after all")


def test_newest_faults_are_undone_first(attach: DockerAttach, db: AttachedNode) -> None:
    """A stop within a freeze: both due at the same time, both undone."""
    switch = attach.dead_man()
    before = db.state()
    switch.arm(undo_of(db, "power_on", "outer"), DEADLINE_S)
    switch.arm(undo_of(db, "thaw", "inner"), DEADLINE_S)
    db.freeze()
    db.power_off()
    wait_for(lambda: db.state() == before, timeout_s=DEADLINE_S + SLACK_S + 2, what="both to be undone", interval_s=0.1)


def test_a_stop_that_is_still_under_way_at_the_deadline_is_undone_too(attach: DockerAttach, project: Project) -> None:
    """What still runs when the switch acts may have been told to stop: it is watched for as long as its stopping may take."""
    project.start("slow", "slow", 1, {f"{project.name}_default": {}}, stop_timeout_s=4)
    try:
        slow = attach.nodes()["slow"]
        undo = Undo("t", "stop", 1, (slow.ref,), {}, {}, (Step("slow", "start_service", "slow"),))
        attach.dead_man().arm(undo, 1.0)
        began_ns = now_ns()
        slow.stop_service("slow")  # Perl as first process takes no notice of SIGTERM
        assert seconds(now_ns() - began_ns) > 3.5
        wait_for(slow.powered, timeout_s=2 + SLACK_S, what="it to run again")
        wait_for(lambda: not project.ours(), timeout_s=10, what="the warden to leave")
        assert slow.powered()
    finally:
        project.api.remove_container(project.containers.pop("slow"), force=True)


def test_a_container_that_is_gone_is_no_reason_to_stay(attach: DockerAttach, project: Project) -> None:
    """The warden finds nothing to put back, and leaves."""
    made = project.start("short", "short", 1, {f"{project.name}_default": {}})
    short = attach.nodes()["short"]
    attach.dead_man().arm(Undo("t", "pause", 1, (short.ref,), {}, {}, (Step("short", "thaw"),)), 1.0)
    project.api.remove_container(made, force=True)
    del project.containers["short"]
    wait_for(lambda: not project.ours(), timeout_s=10, what="the warden to leave", interval_s=0.1)


def test_what_fails_is_tried_until_it_holds(attach: DockerAttach, db: AttachedNode) -> None:
    """A shell step on a frozen node cannot be done; the switch says so, tries on, and does it once the node has thawed."""
    switch = attach.dead_man()
    db.run(["touch", "/tmp/broken"])
    switch.arm(undo_of(db, "shell"), 1.0)
    db.freeze()

    def failing() -> bool:
        try:
            switch.extend("t-shell", 1.0)
        except EnvironmentFailed as err:
            return "paused" in str(err)
        return False

    wait_for(lambda: switch.armed()["t-shell"] < -1, timeout_s=10, what="its deadline to be well past", interval_s=0.1)
    wait_for(failing, timeout_s=10, what="it to say what is wrong", interval_s=0.1)
    db.thaw()
    wait_for(lambda: db.run(["test", "-e", "/tmp/broken"]).code == 1, timeout_s=10, what="it to be done after all", interval_s=0.1)


def test_steps_that_nothing_beside_the_node_could_do_are_refused(attach: DockerAttach) -> None:
    """No shell to run a script in, and a step that nobody knows: refused before anything is broken, and nothing is armed."""
    bare = attach.nodes()["bare"]
    for wrong in (Step("bare", "shell", "true"), Step("bare", "levitate")):
        with pytest.raises(Unavailable) as refused:
            attach.dead_man().arm(Undo("t", "x", 1, (bare.ref,), {}, {}, (wrong,)), 1.0)
        assert refused.value.next_step
    with pytest.raises(Unavailable, match="no shell"):
        attach.permit_undo(Undo("t", "x", 1, (bare.ref,), {}, {}, (Step("bare", "shell", "true"),)))
    assert attach.dead_man().armed() == {}


def test_a_restart_under_a_drop_is_noticed_by_the_heartbeat(attach: DockerAttach, db: AttachedNode) -> None:
    """The drop ended with the old network stack: extending says so rather than keeping a ghost alive."""
    switch = attach.dead_man()
    switch.arm(undo_of(db, "undrop"), 30)
    switch.extend("t-undrop", 30)
    db.drop("t-undrop", [DropRule(inbound=True)])
    switch.extend("t-undrop", 30)
    db.stop_service("db")
    db.start_service("db")
    with pytest.raises(EnvironmentFailed, match="restarted"):
        switch.extend("t-undrop", 30)
    switch.disarm("t-undrop")


def test_settings_carry_the_owner_and_no_secret(attach: DockerAttach) -> None:
    """What a healer needs to take over the heartbeat, as plain data."""
    settings: dict[str, Json] = attach.settings()
    assert set(settings) == {"name", "project", "helper_image", "deadline_s", "owner"}
    assert DockerAttach(**settings).settings() == settings  # type: ignore[arg-type]

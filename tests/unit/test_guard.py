"""The guard on a standing environment: what it lets through, and every refusal with what to do."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from chaos.core.clock import NS, now_ns, wait_for
from chaos.core.errors import BadInput, EnvironmentGone, Unavailable
from chaos.core.model import Expectation, Json, NodeRef, Undo, Verdict
from chaos.engine.audit import read_audit, verify
from chaos.engine.guard import Guard, Refused, Standing, Who
from chaos.engine.lease import LeaseHeld
from chaos.engine.policy import Allow, Caps, FreezeWindow, LeaseSettings, ProbeStop, StandingEnvironment
from chaos.engine.switch import FILE, engage
from chaos.engine.switch import KillSwitch as Switch
from chaos.environments.base import Node, ProbeLine
from chaos.faults.noop import Noop
from chaos.faults.partition import Partition
from chaos.faults.pause import Pause

KEY = "a long second key that nobody guesses"
ALLOW = Allow(faults=("pause", "noop", "partition"), nodes=("db*",))
FINE = Expectation()


class YardNode:
    """A node with a place, and a freezer."""

    address, labels = "127.0.0.1", {"chaos": "yes"}

    def __init__(self, name: str, role: str = "replica") -> None:
        self.ref, self.name, self.role, self.zone = NodeRef("staging", "yard", name), name, role, "z"
        self.is_frozen = False

    def state(self) -> dict[str, Json]:
        return {"frozen": self.is_frozen}

    def freeze(self) -> None:
        self.is_frozen = True

    def thaw(self) -> None:
        self.is_frozen = False

    def frozen(self) -> bool:
        return self.is_frozen


class Yard:
    """A standing environment that is reachable, and says who it is."""

    name, kind, disposable = "staging", "yard", False
    identity_keys: ClassVar[tuple[str, ...]] = ("engine", "project")

    def __init__(self) -> None:
        self.said, self.stopped, self.missing = {"engine": "E1", "project": "shop", "version": "9"}, "", ""

    def identity(self) -> dict[str, str]:
        return self.said

    def stop_requested(self) -> str:
        return self.stopped

    def request_stop(self, reason: str) -> None:
        self.stopped = reason

    def clear_stop(self) -> None:
        self.stopped = ""

    def permit_undo(self, undo: Undo) -> None:
        if self.missing:
            raise Unavailable(f"undoing {undo.kind} needs {self.missing}", next_step=f"grant {self.missing}")

    def settings(self) -> dict[str, Json]:
        return {}

    def resolve(self, ref: NodeRef) -> Node:
        raise EnvironmentGone("nothing is resolved here", where=str(ref))

    def reclaim(self) -> list[str]:
        return []

    def dead_man(self) -> None:
        return None

    def doctor(self) -> list[ProbeLine]:
        return []

    def check(self) -> None: ...
    def open(self, *, run_id: str, state_dir: Path) -> None: ...
    def close(self) -> None: ...


class Setting:
    """One standing environment, three nodes, and guards on it."""

    def __init__(self, tmp_path: Path) -> None:
        self.yard, self.state, self.open = Yard(), tmp_path / "state", list[Undo]()
        self.nodes = {name: YardNode(name, role) for name, role in (("db1", "primary"), ("db2", "replica"), ("db3", "replica"))}
        self.now = datetime(2026, 1, 5, 10, tzinfo=UTC)
        self.begun: list[Guard] = []

    def guard(self, run: str = "r1", *, approve: str = "", second_key: str = "", operator: str = "ann", **policy: object) -> Guard:
        declared = {"kind": "yard", "identity": {"engine": "E1", "project": "shop"}, "allow": ALLOW} | policy
        standing = Standing(
            policy=StandingEnvironment(**declared),  # type: ignore[arg-type]
            where=lambda *key: f"gameday.toml:1: {'.'.join(('environments.staging', *key))}",
            base=self.state,
            state_dir=self.state,
            open_faults=lambda: self.open,
            approve=approve,
            second_key=second_key,
            wall=lambda: self.now,
        )
        switch = Switch([self.state / FILE], environment=self.yard, values={})
        guard = Guard(self.yard, standing=standing, who=Who(operator, run, "t::a"), switch=switch)
        self.begun.append(guard)
        return guard

    def plan(self, name: str = "db1") -> Undo:
        return Pause(self.nodes[name].ref).plan(f"f-{name}", lambda ref: self.nodes[ref.name])

    def told(self) -> list[tuple[str, str]]:
        """Action and decision of every audit record; the chain holds."""
        verify(self.state / "audit.jsonl")
        return [(record.action, record.decision) for _, record in read_audit(self.state / "audit.jsonl")]


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    made = Setting(tmp_path)
    yield made
    for guard in made.begun:
        guard.end()


def test_what_is_allowed_is_permitted_and_recorded(setting: Setting) -> None:
    """A drill on the pinned environment, with an allowed fault on an allowed node, goes through, and the audit log tells it."""
    guard = setting.guard()
    guard.permit_drill(FINE)
    guard.take()
    guard.permit(Pause(setting.nodes["db1"].ref), nodes=setting.nodes)
    guard.permit_undo(setting.plan(), nodes=setting.nodes)
    assert setting.told() == [("drill", "permitted"), ("lease", "permitted"), ("inject pause", "permitted")]


@pytest.mark.parametrize(
    ("identity", "parts"),
    [
        ({"engine": "E2", "project": "shop"}, ["expected engine = 'E2'", "observed engine = 'E1'"]),
        ({"engine": "E1"}, ["expected nothing: these parts are not pinned", "observed project = 'shop'"]),
        ({"engine": "E1", "project": "shop", "host": "h"}, ["expected host = 'h'", "observed nothing"]),
        ("E1", ["this is not the environment that was pinned"]),
    ],
)
def test_another_identity_is_refused_with_both(setting: Setting, identity: object, parts: list[str]) -> None:
    """What is reached must be what was pinned, in all parts that pin it; the refusal shows what was pinned and what is there."""
    with pytest.raises(Refused) as caught:
        setting.guard(identity=identity).permit_drill(FINE)
    for part in ["gameday.toml:1: environments.staging.identity", *parts]:
        assert part in str(caught.value)
    assert setting.told() == [("drill", "refused")]


def test_one_word_pins_what_has_one_part(setting: Setting) -> None:
    """Where one part pins the environment, the identity may be written as one word."""
    setting.yard.said = {"engine": "E1"}
    setting.yard.identity_keys = ("engine",)  # type: ignore[misc]
    setting.guard(identity="E1").permit_drill(FINE)


def test_an_expected_failure_has_no_place_here(setting: Setting) -> None:
    """A broken twin runs in disposable environments only."""
    with pytest.raises(Refused, match="disposable environments only"):
        setting.guard().permit_drill(Expectation(Verdict.FAIL, "rpo"))


def test_a_freeze_window_refuses_until_its_end(setting: Setting) -> None:
    """Within a window the refusal says until when and why; the fault is asked again, for a window may begin while a drill runs."""
    window = FreezeWindow(cron="0 9 * * 1-5", duration="8h", reason="office hours")
    guard = setting.guard(freeze=(window,))
    with pytest.raises(Refused, match=r"staging\.freeze: frozen until 2026-01-05 17:00 UTC \(office hours\)"):
        guard.permit_drill(FINE)
    setting.now = datetime(2026, 1, 5, 8, 59, tzinfo=UTC)
    guard.permit_drill(FINE)
    setting.now = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
    with pytest.raises(Refused, match="frozen until"):
        guard.permit_undo(setting.plan(), nodes=setting.nodes)


PRODUCTION: dict[str, object] = {
    "tier": "production",
    "approver": ("bob", "ann"),
    "second_key_sha256": hashlib.sha256(KEY.encode()).hexdigest(),
}


@pytest.mark.parametrize(
    ("policy", "given", "said"),
    [
        ({"tier": "production"}, {}, "expected approver to be declared"),
        (PRODUCTION | {"second_key_sha256": ""}, {}, "expected second_key_sha256 to be declared"),
        (PRODUCTION, {}, "production needs an approver"),
        (PRODUCTION, {"approve": "eve"}, "'eve' is none"),
        (PRODUCTION, {"approve": "ann"}, "ann cannot approve a drill of their own"),
        (PRODUCTION, {"approve": "bob"}, "$GAMEDAY_SECOND_KEY is not set"),
        (PRODUCTION, {"approve": "bob", "second_key": "guessed"}, "$GAMEDAY_SECOND_KEY is another one"),
    ],
)
def test_production_needs_two_people_and_the_second_key(
    setting: Setting, policy: dict[str, object], given: dict[str, str], said: str
) -> None:
    """Without a declared approver who is not the operator, and the right second key, production is refused; no refusal shows the key."""
    with pytest.raises(Refused) as caught:
        setting.guard(**given, **policy).permit_drill(FINE)  # type: ignore[arg-type]
    assert said in str(caught.value)
    assert "guessed" not in (setting.state / "audit.jsonl").read_text(encoding="utf-8")


def test_production_with_both_is_permitted(setting: Setting) -> None:
    """Another person's approval and the second key open production."""
    setting.guard(approve="bob", second_key=KEY, **PRODUCTION).permit_drill(FINE)
    assert KEY not in (setting.state / "audit.jsonl").read_text(encoding="utf-8")


class OnlyFixture(Pause, frozen=True):
    """A fault that only its own drill would undo."""

    nets: ClassVar[tuple[str, ...]] = ("fixture",)


def _pause(setting: Setting) -> Pause:
    return Pause(setting.nodes["db1"].ref)


FAULTS: list[tuple[dict[str, object], Callable[[Setting], Pause], str]] = [
    ({"allow": Allow()}, _pause, "environments.staging.allow.faults: the fault pause is not allowed here; expected a list"),
    ({"allow": Allow(faults=("kill",), nodes=("*",))}, _pause, 'expected one of kill; next: where it is meant to be allowed, add "pause"'),
    ({"allow": Allow(faults=("pause",))}, _pause, 'no node is allowed here, db1 neither; next: add nodes = ["db1"]'),
    ({"allow": Allow(faults=("pause",), nodes=("app*", "db2"))}, _pause, "db1 is not allowed here; expected a name that matches app*"),
    ({"allow": Allow(faults=("pause",), labels={"chaos": "no"})}, _pause, "expected chaos = 'no'; observed chaos = 'yes'"),
    ({"allow": Allow(faults=("pause",), nodes=("db*",), labels={"owner": "x"})}, _pause, "expected owner = 'x'; observed none of them"),
    ({}, lambda setting: OnlyFixture(setting.nodes["db1"].ref), "only the test's own teardown would undo it"),
    ({}, lambda setting: Pause(NodeRef("production", "yard", "db1")), "aims at a node of another environment"),
    ({}, lambda setting: Pause("db1"), "'db1', which is no node"),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize(("policy", "fault", "said"), FAULTS, ids=[said[:40] for _, _, said in FAULTS])
def test_what_is_not_listed_is_refused(setting: Setting, policy: dict[str, object], fault: Callable[[Setting], Pause], said: str) -> None:
    """Faults and nodes must be on the lists, and a fault must be undone by more than its own drill; each refusal says where to allow it."""
    with pytest.raises(BadInput) as caught:
        setting.guard(**policy).permit(fault(setting), nodes=setting.nodes)  # type: ignore[arg-type]
    assert said in str(caught.value), str(caught.value)


def test_labels_alone_may_allow_a_node(setting: Setting) -> None:
    """A node that carries the label is allowed whatever its name."""
    setting.guard(allow=Allow(faults=("pause",), labels={"chaos": "yes"})).permit(_pause(setting), nodes=setting.nodes)


def test_an_environment_that_nobody_declared_is_refused() -> None:
    """A standing environment without a policy permits nothing."""
    with pytest.raises(Refused, match="nobody has said what is allowed"):
        Guard(Yard(), switch=Switch(values={})).permit(Pause(NodeRef("staging", "yard", "db1")))


def test_caps_count_the_open_faults_of_all_runs_and_what_is_down(setting: Setting) -> None:
    """With one node down, by somebody's open fault or by itself, a second one is refused and the refusal names what is open."""
    guard = setting.guard()
    guard.permit_undo(setting.plan("db1"), nodes=setting.nodes)
    setting.open = [setting.plan("db2")]
    with pytest.raises(Refused, match=r"2 would be down \(db1, db2\); observed open now: pause \(f-db2\); next: heal first"):
        guard.permit_undo(setting.plan("db1"), nodes=setting.nodes)
    setting.open = []
    plan = setting.plan("db1")
    setting.nodes["db3"].is_frozen = True
    with pytest.raises(Refused, match=r"db1, db3\); observed open now: no other fault"):
        guard.permit_undo(plan, nodes=setting.nodes)
    setting.guard(caps=Caps(max_unavailable="67%")).permit_undo(plan, nodes=setting.nodes)


def test_replicas_that_must_stay(setting: Setting) -> None:
    """``min_healthy_replicas`` counts the nodes of that role; a fault that breaks nothing takes none."""
    guard = setting.guard(caps=Caps(min_healthy_replicas=2))
    guard.permit_undo(setting.plan("db1"), nodes=setting.nodes)
    with pytest.raises(Refused, match="min_healthy_replicas = 2: only 1 of 2"):
        guard.permit_undo(setting.plan("db2"), nodes=setting.nodes)
    guard.permit_undo(Noop(setting.nodes["db2"].ref).plan("f", lambda ref: setting.nodes[ref.name]), nodes=setting.nodes)


def test_a_partition_counts_the_side_that_it_cuts_off(setting: Setting) -> None:
    """Of a partition the nodes count on which it is set, not all that it is proven by."""
    refs = {name: node.ref for name, node in setting.nodes.items()}
    undo = Undo("f", Partition.kind, 1, (refs["db1"], refs["db2"], refs["db3"]), {"sides": 1}, {})
    setting.guard().permit_undo(undo, nodes=setting.nodes)


def test_a_missing_permission_is_found_before_the_injection(setting: Setting) -> None:
    """Where the provider may not put the fault back, it is refused while nothing is touched."""
    setting.yard.missing = "CAP_NET_ADMIN"
    with pytest.raises(Unavailable, match="undoing pause needs CAP_NET_ADMIN; next: grant CAP_NET_ADMIN"):
        setting.guard().permit_undo(setting.plan(), nodes=setting.nodes)
    assert setting.told() == [("inject pause", "refused")]


def _probe(setting: Setting, says: str) -> ProbeStop:
    setting.state.mkdir(exist_ok=True)
    (setting.state / "said").write_text(says, encoding="utf-8")
    (setting.state / "checks.py").write_text(
        "from pathlib import Path\ndef look():\n    text = Path(__file__).with_name('said').read_text()\n"
        "    if text == 'raise': raise OSError('unreachable')\n    return text\n",
        encoding="utf-8",
    )
    return ProbeStop(probe="checks.py::look", name="queue", poll="100ms", timeout="10s")


@pytest.mark.parametrize(
    ("says", "parts"),
    [
        ("too long", ["stop condition queue: too long", "wait until it is quiet"]),
        ("raise", ["counts as fired: OSError: unreachable", "not run blind"]),
    ],
)
def test_a_condition_that_fires_before_the_injection_refuses(setting: Setting, says: str, parts: list[str]) -> None:
    """A condition that says stop, or cannot be read, refuses the fault before it is injected."""
    guard = setting.guard(stop_when=(_probe(setting, says),))
    with pytest.raises(Refused) as caught:
        guard.permit_undo(setting.plan(), nodes=setting.nodes)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("says", ["too long", "raise"])
def test_a_condition_that_fires_during_the_fault_aborts(setting: Setting, says: str) -> None:
    """Once a fault is permitted its conditions are polled, and the first that fires tells the drill to stop, once."""
    guard, told = setting.guard(stop_when=(_probe(setting, ""),)), list[str]()
    guard.take()
    guard.watch(told.append)
    guard.permit_undo(setting.plan(), nodes=setting.nodes)
    (setting.state / "said").write_text(says, encoding="utf-8")
    wait_for(lambda: told, timeout_s=10, what="the abort")
    guard.end()
    assert len(told) == 1 and told[0].startswith("stop condition queue: ")
    assert ("abort", "done") in setting.told()


@pytest.mark.parametrize("where", ["file", "environment", "lease"])
def test_the_kill_switch_and_a_lost_lease_abort(setting: Setting, where: str) -> None:
    """A stop file, the environment's own switch, and a lease that was taken away are told within two seconds (the lease: a heartbeat)."""
    guard, told = setting.guard(lease=LeaseSettings(ttl="3s")), list[str]()
    guard.permit_drill(FINE)
    guard.take()
    guard.watch(told.append)
    begun = now_ns()
    if where == "file":
        engage(setting.state / FILE, by="bob", reason="pager")
    elif where == "environment":
        setting.yard.request_stop("the boss says so")
    else:
        (setting.state / "lease.json").unlink()
    wait_for(lambda: told, timeout_s=2, what="the abort")
    assert (now_ns() - begun) / NS < 2
    assert told[0].startswith({"file": "kill switch: ", "environment": "kill switch: the environment says", "lease": "lease: "}[where])


def test_while_it_is_stopped_no_drill_starts(setting: Setting) -> None:
    """The kill switch refuses drills, in a disposable environment too, and says who stopped them and how to go on."""
    engage(setting.state / FILE, by="bob", reason="pager")
    with pytest.raises(Refused, match=r"the kill switch is on: .*STOP: bob at .*: pager; next: when it is safe again: gameday resume"):
        setting.guard().permit_drill(FINE)
    for values in ({"GAMEDAY_STOP": "1"}, {"GAMEDAY_STOP": "weekend"}):
        with pytest.raises(Refused, match=r"\$GAMEDAY_STOP is set"):
            Guard(Disposable(), switch=Switch(values=values)).permit_drill(FINE)
    Guard(Disposable(), switch=Switch([setting.state / "absent" / FILE], values={"GAMEDAY_STOP": "0"})).permit_drill(FINE)


class Disposable(Yard):
    """Ours to break."""

    name, kind, disposable = "here", "here", True


def test_a_switch_that_cannot_be_read_is_on(tmp_path: Path) -> None:
    """A place that cannot be looked at counts as stopped."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot be read, which counts as on" in Switch([tmp_path / "loop"], values={}).engaged()
    (tmp_path / FILE).write_text("storage is burning\n", encoding="utf-8")
    assert Switch([tmp_path / FILE], values={}).engaged().endswith("STOP is there: storage is burning")


def test_a_second_run_is_refused_and_a_takeover_is_recorded(setting: Setting) -> None:
    """Two drills at once: the second is refused, by name; and when the first lease has expired, the log says whose was taken."""
    first, second = setting.guard("r1", lease=LeaseSettings(ttl="3s")), setting.guard("r2")
    first.take()
    with pytest.raises(LeaseHeld, match="run r1"):
        second.take()
    lease = setting.state / "lease.json"
    held = msgspec.json.decode(lease.read_bytes())
    lease.write_bytes(msgspec.json.encode(held | {"expires_ns": 0}))
    second.take()
    assert setting.told() == [("lease", "permitted"), ("lease", "refused"), ("lease taken over", "permitted")]


def test_a_dry_run_is_told_every_reason_and_writes_nothing(setting: Setting) -> None:
    """What :meth:`planned` lists is every reason at once, and neither lease nor log is made."""
    engage(setting.state / FILE, by="bob", reason="")
    guard = setting.guard(stop_when=(_probe(setting, "too long"),))
    said = guard.planned(FINE)
    assert ["kill switch" in said[0], "stop condition queue" in said[1], len(said)] == [True, True, 2]
    assert sorted(os.listdir(setting.state)) == sorted(
        name for name in ("STOP", "__pycache__", "checks.py", "said") if (setting.state / name).exists()
    )


def test_a_log_that_takes_no_record_refuses(setting: Setting) -> None:
    """Nothing is permitted that cannot be recorded."""
    (setting.state / "audit.jsonl").mkdir(parents=True)
    with pytest.raises(Exception, match="the audit log does not take a record, so nothing may be broken"):
        setting.guard().permit_drill(FINE)
    assert setting.guard().note("healed", "done", "it is well") != ""

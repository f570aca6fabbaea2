"""The guard: the last word before anything is broken. A marker selects, the guard authorises.

Disposable environments are ours to break; only the kill switch holds there. On a standing one everything that is not allowed is refused:
see :class:`~chaos.engine.policy.StandingEnvironment` for what its owner can say, ``docs/guard.md`` for what each refusal means. It breaks
and heals nothing itself.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from chaos.core.clock import utc_now
from chaos.core.durations import parse_duration_s
from chaos.core.errors import BadInput, GamedayError, Unavailable
from chaos.core.model import Expectation, NodeRef, Undo, Verdict
from chaos.engine.audit import DONE, FILE, PERMITTED, REFUSED, AuditLog
from chaos.engine.caps import Member, exceeded
from chaos.engine.conditions import Condition
from chaos.engine.lease import FILE as LEASE_FILE
from chaos.engine.lease import FileLeaseStore, LeaseHeld, LeaseHolder
from chaos.engine.policy import StandingEnvironment
from chaos.engine.switch import KillSwitch
from chaos.engine.watch import Watch, words_of
from chaos.engine.windows import frozen_until
from chaos.environments.base import Environment, Freeze, Node, Power
from chaos.environments.standing import HoldsLease, PermitsUndo, Pinned, Placed
from chaos.faults.base import Fault
from chaos.faults.registry import kind_of

SECOND_KEY = "GAMEDAY_SECOND_KEY"
HARMLESS = ("noop",)


class Refused(BadInput):
    """The guard said no; nothing was touched."""


class Standing(msgspec.Struct, frozen=True):
    """What the guard needs of a standing environment. ``state_dir`` is ours on this machine (``chaos.engine.places``), ``base`` the
    directory of ``gameday.toml``; ``where(*key)`` names file, line and key in the environment's table there. ``open_faults`` reads the
    journals of all runs. ``approve`` and ``second_key`` are what the person gave."""

    policy: StandingEnvironment
    where: Callable[..., str]
    base: Path
    state_dir: Path
    open_faults: Callable[[], Sequence[Undo]]
    approve: str = ""
    second_key: str = ""
    wall: Callable[[], datetime] = utc_now


class Who(msgspec.Struct, frozen=True):
    """Who drills, in which run, which drill."""

    operator: str = ""
    run_id: str = ""
    drill: str = ""


class Guard:
    """Authorises one drill and its faults on one environment, and watches over it. ``standing`` None: a disposable environment, or one of
    which nobody declared what is allowed, where every fault is refused."""

    def __init__(
        self, environment: Environment, *, standing: Standing | None = None, who: Who | None = None, switch: KillSwitch | None = None
    ) -> None:
        self._environment, self._standing, self._who = environment, standing, who or Who()
        self._switch = switch or KillSwitch(environment=environment)
        self._abort: Callable[[str], None] | None = None
        self._watch = Watch(self._on_fired)
        self._holder: LeaseHolder | None = None
        self._conditions: tuple[Condition, ...] = ()
        self._audit: AuditLog | None = None
        if standing is not None:
            who = self._who
            self._audit = AuditLog(
                standing.state_dir / FILE, environment=environment.name, by=who.operator, run=who.run_id, drill=who.drill
            )
            self._conditions = tuple(Condition(one, standing.base) for one in standing.policy.stop_when)

    # -- the drill

    def permit_drill(self, expectation: Expectation) -> None:
        """Before anything at all.

        Raises:
            Refused: what the drill, the time, the place or the person lacks.
        """
        self._decided("drill", lambda: self._check_drill(expectation))

    def take(self) -> None:
        """Take the lease of a standing environment, right after :meth:`permit_drill`.

        Raises:
            LeaseHeld: another run drills there.
        """
        standing = self._standing
        if standing is None:
            return
        holder = self._lease(standing)
        try:
            over = holder.take()
        except LeaseHeld as err:
            self.record("lease", REFUSED, str(err))
            raise
        self._holder = holder
        self.record("lease taken over" if over else "lease", PERMITTED, over or f"held for {standing.policy.lease.ttl}")

    def watch(self, abort: Callable[[str], None]) -> None:
        """Renew the lease and look at the kill switch until :meth:`end`. ``abort`` is told, in another thread, when the drill must stop."""
        self._abort = abort
        if self._holder is not None:
            self._watch.over_lease(self._holder)
        self._watch.over_switch(self._switch)

    def end(self) -> None:
        """Stop watching and give the lease back; idempotent. Raises GamedayError where its store cannot be reached (it then expires)."""
        self._watch.close()
        if self._holder is not None:
            holder, self._holder = self._holder, None
            holder.give_back()
            self.note("lease", DONE, "given back")

    def planned(self, expectation: Expectation) -> list[str]:
        """Every reason why :meth:`permit_drill` and :meth:`take` would refuse, without taking or writing anything."""
        said = []
        checks: list[Callable[[], None]] = [lambda: self._check_drill(expectation), self._check_lease, self._check_conditions]
        for check in checks:
            try:
                check()
            except GamedayError as err:
                said.append(str(err))
        return said

    # -- its faults

    def permit(self, fault: Fault, *, nodes: Mapping[str, Node] | None = None) -> None:
        """Before the fault is planned: may it be, on these nodes? ``nodes`` are all those of the system.

        Raises:
            Refused: with what is missing, and where to allow it.
        """
        self._check_targets(fault)
        if not self._environment.disposable:
            self._decided(f"inject {fault.kind}", lambda: self._check_fault(fault, nodes or {}), quiet=True)

    def permit_undo(self, undo: Undo, *, nodes: Mapping[str, Node] | None = None) -> None:
        """After the plan, right before the injection: could it be put back, would not too much be down, is everything quiet? From here on
        stop conditions are polled.

        Raises:
            Refused, Unavailable: nothing was touched.
        """
        standing = self._standing
        if self._environment.disposable or standing is None:
            return
        self._decided(f"inject {undo.kind}", lambda: self._check_undo(standing, undo, nodes or {}))
        self._watch.over_conditions(self._conditions)

    def would_permit(self, fault: Fault, nodes: Mapping[str, Node]) -> None:
        """:meth:`permit` for a dry run: nothing is recorded."""
        self._check_targets(fault)
        if not self._environment.disposable:
            self._check_fault(fault, nodes)

    def would_permit_undo(self, undo: Undo, nodes: Mapping[str, Node], beside: Sequence[Undo]) -> None:
        """:meth:`permit_undo` for a dry run, ``beside`` what was planned before and would be open still: nothing is recorded or polled."""
        if not self._environment.disposable and self._standing is not None:
            self._check_undo(self._standing, undo, nodes, beside)

    # -- the record

    def record(self, action: str, decision: str, text: str) -> None:
        """Into the audit log of a standing environment. Raises GamedayError where the disk does not take it."""
        if self._audit is not None:
            self._audit.write(action, decision, text)

    def _decided(self, action: str, check: Callable[[], None], *, quiet: bool = False) -> None:
        """Run ``check`` and record what came out; ``quiet``: only a refusal."""
        try:
            check()
        except (BadInput, Unavailable) as err:
            self.record(action, REFUSED, str(err))
            raise
        if not quiet:
            self.record(action, PERMITTED, "everything that was asked for holds")

    def note(self, action: str, decision: str, text: str) -> str:
        """:meth:`record` of what has happened already, which no full disk may get in the way of; returns why it was not written, or ""."""
        try:
            self.record(action, decision, text)
        except GamedayError as err:
            return str(err)
        return ""

    def _on_fired(self, reason: str) -> None:
        self.note("abort", DONE, reason)
        if self._abort is not None:
            self._abort(reason)

    # -- what is asked of a drill

    def _check_drill(self, expectation: Expectation) -> None:
        if reason := self._switch.engaged():
            raise Refused(
                f"the kill switch is on: {reason}", where=self._environment.name, next_step="when it is safe again: gameday resume"
            )
        if self._environment.disposable:
            return
        if expectation.verdict is not Verdict.PASS:
            raise Refused(
                f"a drill that expects {expectation.verdict} runs in disposable environments only",
                where=self._environment.name,
                next_step="give it environments=['embedded', 'docker']",
            )
        if self._standing is None:
            return
        check_identity(self._environment, self._standing.policy, self._standing.where("identity"))
        check_tier(self._standing, self._who.operator)
        check_freeze(self._standing)

    def _lease(self, standing: Standing) -> LeaseHolder:
        settings, there = standing.policy.lease, self._environment
        store = there.lease_store() if isinstance(there, HoldsLease) else FileLeaseStore(standing.state_dir / LEASE_FILE)
        ttl_s, wait_s = parse_duration_s(settings.ttl), parse_duration_s(settings.wait)
        who = self._who
        return LeaseHolder(store, run=who.run_id, by=who.operator, drill=who.drill, ttl_s=ttl_s, wait_s=wait_s, wall=standing.wall)

    def _check_lease(self) -> None:
        if self._standing is not None:
            self._lease(self._standing).look()

    def _check_conditions(self) -> None:
        for condition in self._conditions:
            reading = condition.read()
            if reading.fired:
                raise Refused(
                    words_of(reading),
                    where=self._environment.name,
                    next_step="wait until it is quiet" if reading.readable else "make it readable from here: a drill is not run blind",
                )

    # -- what is asked of a fault

    def _check_targets(self, fault: Fault) -> None:
        for target in fault.targets:
            if not isinstance(target, NodeRef):
                raise BadInput(
                    f"{fault.kind} aims at {target!r}, which is no node",
                    expected="a reference such as postgres.primary or postgres.replicas[0]",
                )
            if target.environment != self._environment.name:
                raise BadInput(
                    f"{fault.kind} aims at a node of another environment",
                    where=str(target),
                    expected=f"a node of {self._environment.name}",
                )

    def _check_fault(self, fault: Fault, nodes: Mapping[str, Node]) -> None:
        if set(fault.nets) <= {"fixture"}:
            raise Refused(
                f"{fault.kind} is refused on a standing environment: only the test's own teardown would undo it",
                where=self._environment.name,
                expected="a fault with a healer or a dead-man's switch",
                observed=f"nets: {', '.join(fault.nets) or 'none'}",
            )
        if self._standing is None:
            raise Refused(
                f"{fault.kind} is refused: nobody has said what is allowed here",
                where=self._environment.name,
                next_step="declare the environment in gameday.toml",
            )
        allow, where = self._standing.policy.allow, self._standing.where
        if fault.kind not in allow.faults:
            raise Refused(
                f"the fault {fault.kind} is not allowed here",
                where=where("allow", "faults"),
                expected=f"one of {', '.join(allow.faults)}" if allow.faults else "a list: nothing is allowed that is not listed",
                next_step=f'where it is meant to be allowed, add "{fault.kind}"',
            )
        for target in fault.targets:
            self._check_node(target, nodes.get(target.name), where)

    def _check_node(self, target: NodeRef, node: Node | None, where: Callable[..., str]) -> None:
        assert self._standing is not None
        allow = self._standing.policy.allow
        if not allow.nodes and not allow.labels:
            raise Refused(
                f"no node is allowed here, {target.name} neither",
                where=where("allow"),
                next_step=f'add nodes = ["{target.name}"], or labels',
            )
        if allow.nodes and not any(fnmatchcase(target.name, pattern) for pattern in allow.nodes):
            raise Refused(
                f"the node {target.name} is not allowed here",
                where=where("allow", "nodes"),
                expected=f"a name that matches {', '.join(allow.nodes)}",
            )
        labels: Mapping[str, str] = node.labels if isinstance(node, Placed) else {}
        missing = {name: value for name, value in allow.labels.items() if labels.get(name) != value}
        if missing:
            raise Refused(
                f"the node {target.name} does not carry the labels that allow a drill",
                where=where("allow", "labels"),
                expected=_pairs(missing),
                observed=_pairs({name: labels[name] for name in missing if name in labels}) or "none of them",
            )

    def _check_undo(self, standing: Standing, undo: Undo, nodes: Mapping[str, Node], beside: Sequence[Undo] = ()) -> None:
        """In this order: what is known here, what must be asked of the nodes, what changes by the second."""
        if isinstance(self._environment, PermitsUndo):
            self._environment.permit_undo(undo)
        self._check_caps(standing, undo, nodes, beside)
        check_freeze(standing)
        self._check_conditions()

    def _check_caps(self, standing: Standing, undo: Undo, nodes: Mapping[str, Node], beside: Sequence[Undo]) -> None:
        there = [one for one in (*standing.open_faults(), *beside) if one.fault_id != undo.fault_id]
        down = {name for one in there for name in names_down(one)}
        down |= {name for name, node in nodes.items() if is_down(node)}
        members = [member_of(name, node) for name, node in nodes.items()]
        if said := exceeded(standing.policy.caps, members, down, names_down(undo)):
            faults = ", ".join(f"{one.kind} ({one.fault_id})" for one in there) or "no other fault"
            raise Refused(
                f"too much would be down with {undo.kind}: {said}",
                where=standing.where("caps"),
                observed=f"open now: {faults}",
                next_step="heal first (gameday status), break less, or raise the cap",
            )


# -- parts that need no drill ----------------------------------------------------------------------------------------------------


def check_identity(environment: Environment, policy: StandingEnvironment, where: str) -> None:
    """Raises Refused where the real thing is not the one that was pinned, with both."""
    found, pinned = environment.identity(), policy.pinned
    keys = environment.identity_keys if isinstance(environment, Pinned) else tuple(found)
    if "" in pinned and len(keys) == 1:
        pinned = {keys[0]: pinned[""]}
    differing = [key for key in dict.fromkeys((*keys, *pinned)) if found.get(key) != pinned.get(key)]
    if differing:
        raise Refused(
            "this is not the environment that was pinned",
            where=where,
            expected=_pairs({key: pinned[key] for key in differing if key in pinned}) or "nothing: these parts are not pinned",
            observed=_pairs({key: found[key] for key in differing if key in found}) or "nothing",
            next_step="reach the right one, or pin this one if you are sure that it may be broken",
        )


def check_tier(standing: Standing, operator: str) -> None:
    """Raises Refused where a production environment lacks its approver or its second key."""
    policy, where = standing.policy, standing.where
    if policy.tier != "production":
        return
    if not policy.approvers or not policy.second_key_sha256:
        lacking = "approver" if not policy.approvers else "second_key_sha256"
        raise Refused(
            "production is refused without an approver and a second key",
            where=where(),
            expected=f"{lacking} to be declared",
            next_step='write approver = ["name", …] and second_key_sha256 = "…" (docs/guard.md says how)',
        )
    if standing.approve not in policy.approvers:
        raise Refused(
            f"production needs an approver, and {standing.approve!r} is none" if standing.approve else "production needs an approver",
            where=where("approver"),
            expected=f"--drill-approve with one of {', '.join(policy.approvers)}",
        )
    if standing.approve == operator:
        raise Refused(
            f"{operator} cannot approve a drill of their own",
            where=where("approver"),
            expected="two people: one who runs it (--drill-operator) and one who approves (--drill-approve)",
        )
    given = hashlib.sha256(standing.second_key.encode()).hexdigest()
    if not standing.second_key or not hmac.compare_digest(given, policy.second_key_sha256):
        raise Refused(
            f"production needs the second key, and ${SECOND_KEY} {'is another one' if standing.second_key else 'is not set'}",
            where=where("second_key_sha256"),
            next_step=f"let its holder set ${SECOND_KEY} for this run",
        )


def check_freeze(standing: Standing) -> None:
    """Raises Refused within a freeze window."""
    frozen = frozen_until(standing.policy.freeze, standing.wall())
    if frozen is None:
        return
    window, until = frozen
    because = f" ({window.reason})" if window.reason else ""
    raise Refused(
        f"frozen until {until:%Y-%m-%d %H:%M} {window.timezone}{because}",
        where=standing.where("freeze"),
        observed=f"cron {window.cron!r} for {window.duration}",
        next_step="drill after that",
    )


def names_down(undo: Undo) -> set[str]:
    """The nodes that users may lose to this fault: what its kind says (a classmethod ``unavailable(undo)``), else all that it touches."""
    if undo.kind in HARMLESS:
        return set()
    nodes: Sequence[NodeRef] = undo.nodes
    try:
        told = getattr(kind_of(undo.kind), "unavailable", None)
        nodes = told(undo) if told is not None else nodes
    except (BadInput, ImportError):
        nodes = undo.nodes  # a kind that is not installed here: all of them
    return {ref.name for ref in nodes}


def is_down(node: Node) -> bool:
    """Without power, frozen, or not answering when asked."""
    try:
        return (isinstance(node, Power) and not node.powered()) or (isinstance(node, Freeze) and node.frozen())
    except (GamedayError, OSError):
        return True


def member_of(name: str, node: Node) -> Member:
    """As the caps see it."""
    return Member(name, node.role, node.zone) if isinstance(node, Placed) else Member(name)


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{key} = {value!r}" if key else repr(value) for key, value in values.items())

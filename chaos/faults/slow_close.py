"""``SlowClose``: connections that one end has closed, and the other hears of it late or never."""

from __future__ import annotations

from typing import ClassVar, cast

import msgspec

from chaos.core.clock import now_ns, wait_for
from chaos.core.errors import BadInput, DeadlineExceeded, EnvironmentFailed, Unavailable
from chaos.core.model import Json, NodeRef, Proof, Undo
from chaos.environments.base import Exec, Node, require
from chaos.environments.tagged_rules import TaggedRule, held, install, refuse_held, removal
from chaos.faults import _helper
from chaos.faults._onnode import with_steps
from chaos.faults._traffic import HARD_END_S, Scripted, checked_port, leave_running, number_of, python_of, runner, sides, tell, to_whom
from chaos.faults.base import Resolve
from chaos.faults.latency import QueueFacts, queue_fix

LEAST_S, LONGEST_S = 0.2, 60.0
NEVER_IS_S, SERVED_WITHIN_S = 1.5, 5.0
PROMPT, LATE = 0.5, 0.8  # shares of the delay: what ends before the one was not held back, what ends after the other was


class Ended(msgspec.Struct, frozen=True):
    """Answer of ``probe_tcp end``: seconds until the other end was heard of, None: it was not."""

    connected: bool
    ended_s: float | None
    said: str


class SlowClose(Scripted, frozen=True):
    """Holds back what ends a connection (FIN and RST, with the data that a FIN may carry) when TCP ``port`` of a node sends it to
    ``peers``: by ``delay_s`` (0.2 to 60), or with None for as long as the fault is in place. The node's side is closed, its peers'
    is not.

    ``everybody``: to anybody but the node itself; ``peers`` are then those by whom it is proven. Packet rules on the node, no proxy in
    the path: with None they drop; with a delay a program on the node holds these packets in an NFQUEUE (where it dies, they pass).
    Needs the capability ``exec`` on the node and its peers, iptables on the node, Python 3 on the peers and for a delay on the node,
    and a service on the port that closes when its client does. Nets: fixture, healer, dead-man. Landed: every peer closed a real
    connection, and the node's end of it came after 0.8 delays or later, or with None not within 1.5 s; before the fault it came at
    once.
    """

    port: int
    delay_s: float | None = None
    peers: tuple[NodeRef, ...] = ()
    everybody: bool = False

    kind: ClassVar[str] = "slow-close"
    landed_within_s: ClassVar[float] = 180.0
    healed_within_s: ClassVar[float] = 120.0

    def params(self) -> dict[str, Json]:
        return super().params() | {"peers": [peer.name for peer in self.peers]}

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        if self.delay_s is not None and not LEAST_S <= self.delay_s <= LONGEST_S:
            raise BadInput(
                "SlowClose: delay_s is out of range", expected=f"{LEAST_S:g} to {LONGEST_S:g}, or None", observed=f"{self.delay_s:g}"
            )
        sides("SlowClose", self.node, self.peers)
        checked_port(self.port, "SlowClose")
        node = resolve(self.node)
        refuse_held(runner(node, for_what="SlowClose"), fault_id, "filter", where=str(node.ref))
        for peer in map(resolve, self.peers):
            require(peer, Exec, for_what="SlowClose")
        undo = self.undo_record(fault_id, resolve, to=node.address)
        python = self._queueing(node, fault_id) if self.delay_s is not None else ""
        pythons: list[Json] = [python_of(resolve(peer), for_what="SlowClose") for peer in self.peers]
        prior = undo.prior | {"python": python, "pythons": pythons}
        undo = msgspec.structs.replace(undo, nodes=(self.node, *self.peers), prior=prior)
        try:
            wait_for(lambda: _prompt(undo, resolve), timeout_s=SERVED_WITHIN_S, what="the node to end a connection that its client ended")
        except DeadlineExceeded as err:
            raise EnvironmentFailed(
                f"port {self.port} does not close when its client does, even now",
                where=str(node.ref),
                observed=err.observed,
                next_step="name a port whose service closes when its client does",
            ) from err
        return with_steps(undo, ("shell", removal(fault_id, ("filter",)) + "\n" + _helper.stop_script(fault_id)))

    def _queueing(self, node: Node, fault_id: str) -> str:
        """Path of the Python that will hold packets back. Raises Unavailable where the kernel does not hand any over."""
        python = python_of(node, for_what="SlowClose with a delay")
        facts = tell(node, python, "look_queueing", _queue(fault_id), answer=QueueFacts, for_what="SlowClose")
        if not facts.queue:
            raise Unavailable(
                "SlowClose with a delay needs NFQUEUE",
                where=str(node.ref),
                observed=facts.said.get("queue", ""),
                next_step=f"{queue_fix(facts)}; or delay_s=None",
                capability="nfnetlink_queue",
            )
        return python

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        node = resolve(self.node)
        target = "DROP"
        if self.delay_s is not None:
            number = _queue(undo.fault_id)
            target = f"NFQUEUE --queue-num {number} --queue-bypass"
            arguments = (number, self.delay_s * 1e3, 0, HARD_END_S)
            leave_running(node, undo.fault_id, str(undo.prior["python"]), "delay_queue", *arguments, for_what="SlowClose")
        addresses = [] if self.everybody else [resolve(peer).address for peer in self.peers]
        rules = [
            TaggedRule("filter", "O", f"{whom} -p tcp -m tcp --sport {self.port} --tcp-flags {flag} {flag} -j {target}")
            for whom in to_whom(addresses, outward=True)
            for flag in ("FIN", "RST")
        ]
        install(runner(node, for_what="SlowClose"), undo.fault_id, rules, where=str(node.ref))

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """Every peer hears late, or not at all, of the end of a connection that it has ended itself."""
        node = resolve(self.node)
        if not held(runner(node, for_what="SlowClose"), undo.fault_id, "filter", where=str(node.ref)):
            return None
        ends = _ends(undo, resolve)
        names, least_s = ", ".join(peer.name for peer in self.peers), LATE * (self.delay_s or 0.0)
        if any(not one.connected for one in ends):
            return None
        if self.delay_s is None:
            if any(one.ended_s is not None for one in ends):
                return None
            return Proof(now_ns(), f"{names}: closed its half, and heard nothing of the end of {node.name} for {NEVER_IS_S:g} s")
        if any(one.ended_s is None or one.ended_s < least_s for one in ends):
            return None
        took = ", ".join(f"{one.ended_s:.3f}" for one in ends)
        return Proof(now_ns(), f"{names}: closed its half, and heard of the end of {node.name} after {took} s, {self.delay_s:g} s asked")

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """The node is as before, and ends connections at once."""
        if resolve(undo.nodes[0]).state() != undo.prior["state"] or not _prompt(undo, resolve):
            return None
        return Proof(now_ns(), f"port {undo.params['port']} of {undo.nodes[0].name} ends connections at once; no rule of ours is left")


def _prompt(undo: Undo, resolve: Resolve) -> bool:
    """Does every peer hear of the end at once?"""
    bound_s = PROMPT * (cast("float | None", undo.params["delay_s"]) or NEVER_IS_S)
    return all(one.ended_s is not None and one.ended_s <= bound_s for one in _ends(undo, resolve))


def _ends(undo: Undo, resolve: Resolve) -> list[Ended]:
    """What each peer finds now."""
    delay_s = cast("float | None", undo.params["delay_s"])
    within_s = NEVER_IS_S if delay_s is None else delay_s * 1.5 + 1.0
    pythons = cast("list[str]", undo.prior["pythons"])
    arguments = ("end", undo.prior["to"], undo.params["port"], within_s)
    return [
        tell(resolve(peer), python, "probe_tcp", *arguments, answer=Ended, for_what="SlowClose", timeout_s=within_s * 2 + 10)
        for peer, python in zip(undo.nodes[1:], pythons, strict=True)
    ]


def _queue(fault_id: str) -> int:
    return number_of(fault_id, 1024, 65536)

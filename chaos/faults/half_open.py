"""``HalfOpen``: connections that stay open at one end only. They can still be made; nothing ever comes back on them."""

from __future__ import annotations

from typing import ClassVar, cast

import msgspec

from chaos.core.clock import now_ns, wait_for
from chaos.core.errors import DeadlineExceeded, EnvironmentFailed
from chaos.core.model import Json, NodeRef, Proof, Undo
from chaos.environments.base import Exec, require
from chaos.environments.tagged_rules import TaggedRule, held, install, refuse_held, removal
from chaos.faults._onnode import with_steps
from chaos.faults._traffic import Scripted, checked_port, python_of, runner, sides, tell, to_whom
from chaos.faults.base import Resolve

WITHIN_S, SERVED_WITHIN_S = 0.5, 5.0


class Acked(msgspec.Struct, frozen=True):
    """Answer of ``probe_tcp acked``."""

    connected: bool
    acked: bool
    said: str


class HalfOpen(Scripted, frozen=True):
    """Drops every packet of TCP ``port`` of a node, to and from ``peers``, but those by which a connection begins (SYN and SYN-ACK).
    Theirs connect at once and stay open, and neither an acknowledgement nor an answer, an end or a reset comes back; what they send
    does not arrive, and the server sees no new connection. What is open already falls silent at both ends.

    ``everybody``: from and to anybody but the node itself; ``peers`` are then those by whom it is proven. Packet rules on the node: no
    proxy in the path. Needs the capability ``exec`` on the node and its peers, iptables on the node, Python 3 on the peers, and
    something that listens on the port. Nets: fixture, healer, dead-man. Landed: from every peer a real connection opens, and one byte
    sent on it is not acknowledged within 0.5 s, where it was before.
    """

    port: int
    peers: tuple[NodeRef, ...] = ()
    everybody: bool = False

    kind: ClassVar[str] = "half-open"
    landed_within_s: ClassVar[float] = 20.0

    def params(self) -> dict[str, Json]:
        return super().params() | {"peers": [peer.name for peer in self.peers]}

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        sides("HalfOpen", self.node, self.peers)
        checked_port(self.port, "HalfOpen")
        node = resolve(self.node)
        refuse_held(runner(node, for_what="HalfOpen"), fault_id, "filter", where=str(node.ref))
        for peer in map(resolve, self.peers):
            require(peer, Exec, for_what="HalfOpen")
        pythons: list[Json] = [python_of(resolve(peer), for_what="HalfOpen") for peer in self.peers]
        undo = self.undo_record(fault_id, resolve, pythons=pythons, to=node.address)
        undo = msgspec.structs.replace(undo, nodes=(self.node, *self.peers))
        try:
            wait_for(lambda: all(one.acked for one in _asked(undo, resolve)), timeout_s=SERVED_WITHIN_S, what="data to be acknowledged")
        except DeadlineExceeded as err:
            said = "; ".join(f"{peer.name}: {one.said or 'fine'}" for peer, one in zip(self.peers, _asked(undo, resolve), strict=True))
            raise EnvironmentFailed(
                f"port {self.port} does not answer its peers even now",
                where=str(node.ref),
                observed=said,
                next_step="name a port on which the node serves them",
            ) from err
        return with_steps(undo, ("shell", removal(fault_id, ("filter",))))

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        node = resolve(self.node)
        addresses = [] if self.everybody else [resolve(peer).address for peer in self.peers]
        rules = []
        for hook, side in (("I", "dport"), ("O", "sport")):
            for whom in to_whom(addresses, outward=hook == "O"):
                rules.append(TaggedRule("filter", hook, f"{whom} -p tcp -m tcp --{side} {self.port} ! --tcp-flags SYN SYN -j DROP"))
        install(runner(node, for_what="HalfOpen"), undo.fault_id, rules, where=str(node.ref))

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """From every peer: it connects, and what it sends is never acknowledged."""
        node = resolve(self.node)
        rules = held(runner(node, for_what="HalfOpen"), undo.fault_id, "filter", where=str(node.ref))
        if not rules or any(not one.connected or one.acked for one in _asked(undo, resolve)):
            return None
        names = ", ".join(peer.name for peer in self.peers)
        return Proof(now_ns(), f"{names}: connected to port {self.port} of {node.name}, and no byte was acknowledged within {WITHIN_S:g} s")

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """The node is as before, and every peer's byte is acknowledged again."""
        if resolve(undo.nodes[0]).state() != undo.prior["state"] or not all(one.acked for one in _asked(undo, resolve)):
            return None
        return Proof(now_ns(), f"port {undo.params['port']} of {undo.nodes[0].name} acknowledges again; no rule of ours is left")


def _asked(undo: Undo, resolve: Resolve) -> list[Acked]:
    """What each peer finds now."""
    pythons = cast("list[str]", undo.prior["pythons"])
    arguments = ("acked", undo.prior["to"], undo.params["port"], WITHIN_S)
    return [
        tell(resolve(peer), python, "probe_tcp", *arguments, answer=Acked, for_what="HalfOpen")
        for peer, python in zip(undo.nodes[1:], pythons, strict=True)
    ]

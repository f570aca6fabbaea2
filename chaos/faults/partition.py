"""``Partition``: packets that vanish between nodes. Nobody is told: no reset, no ICMP error, only silence.

One exception: where iptables drops what a node itself sends, that node's kernel tells its own datagram senders (EPERM), never TCP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import msgspec

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput, EnvironmentFailed
from chaos.core.model import Json, NodeRef, Proof, Undo
from chaos.environments.base import DropRule, Node, PacketFilter, require
from chaos.faults.base import Resolve

ECHOES = 3  # one echo that comes late on a busy machine is no broken link


class Partition(msgspec.Struct, frozen=True):
    """Drops every packet between ``nodes`` and ``peers``, both ways, or with ``one_way`` only those that ``nodes`` send.

    ``everybody``: from and to anybody at all, clients and monitors included; ``peers`` are then those by whom it is proven. Rules are set
    on ``nodes`` alone, under a tag of this fault (an iptables chain of its own, or routing rules where a micro-host's machine has no
    iptables). Needs the capability ``packetfilter``. Nets: fixture.
    """

    nodes: tuple[NodeRef, ...]
    peers: tuple[NodeRef, ...]
    everybody: bool = False
    one_way: bool = False

    kind: ClassVar[str] = "partition"
    version: ClassVar[int] = 1
    nets: ClassVar[tuple[str, ...]] = ("fixture",)
    landed_within_s: ClassVar[float] = 10.0
    healed_within_s: ClassVar[float] = 30.0

    @classmethod
    def between(cls, node: NodeRef, peers: Sequence[NodeRef], *, one_way: bool = False) -> Partition:
        """``node`` from ``peers``; whoever else there is still reaches both."""
        return cls((node,), tuple(peers), one_way=one_way)

    @classmethod
    def isolate(cls, node: NodeRef, witnesses: Sequence[NodeRef]) -> Partition:
        """``node`` from everybody; ``witnesses`` prove it."""
        return cls((node,), tuple(witnesses), everybody=True)

    @property
    def targets(self) -> tuple[NodeRef, ...]:
        return self.nodes

    def params(self) -> dict[str, Json]:
        return {"peers": [peer.name for peer in self.peers], "everybody": self.everybody, "one_way": self.one_way}

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        if not self.peers or {p.name for p in self.peers} & {n.name for n in self.nodes}:
            raise BadInput("a partition needs two sides that have no node in common", expected="nodes and peers")
        drops: dict[str, Json] = {}
        for node in map(resolve, self.nodes):
            held = require(node, PacketFilter, for_what="Partition").drops()
            if fault_id in held:
                raise EnvironmentFailed(f"rules under the tag {fault_id} are there already", where=str(node.ref), next_step="heal first")
            drops[node.name] = dict(held)
        pairs = [(resolve(one), resolve(two)) for one in self.nodes for two in self.peers]
        connected = [[one.name, two.name] for one, two in pairs if any(_passes(one, two) for _ in range(ECHOES))]
        if not connected:
            raise EnvironmentFailed("no packet passes between the two sides even now", where=str(self.nodes[0]), next_step="heal first")
        prior: dict[str, Json] = {"drops": drops, "connected": cast("Json", connected)}
        return Undo(fault_id, self.kind, self.version, (*self.nodes, *self.peers), self.params() | {"sides": len(self.nodes)}, prior)

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        peers = () if self.everybody else tuple(resolve(peer).address for peer in self.peers)
        rules = [DropRule(inbound=False, peers=peers)] + ([] if self.one_way else [DropRule(inbound=True, peers=peers)])
        for node in map(resolve, self.nodes):
            require(node, PacketFilter, for_what="Partition").drop(undo.fault_id, rules)

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """No echo comes back over any pair that was connected before, and the kernel holds our rules."""
        pairs = _connected(undo, resolve)
        if any(_passes(one, two) for one, two in pairs):
            return None
        held = [require(resolve(n), PacketFilter, for_what="Partition").drops().get(undo.fault_id, 0) for n in self.nodes]
        if not all(held):
            return None
        return Proof(now_ns(), f"no echo over any of {len(pairs)} pair(s); {sum(held)} dropping rules held")

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        """Remove what is held under this fault's tag, also what a node without power would hold again when it boots."""
        for node in _sides(undo, resolve):
            require(node, PacketFilter, for_what="Partition").undrop(undo.fault_id)

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """The rules held are those held before, and every pair that was connected is again."""
        before = cast("dict[str, Json]", undo.prior["drops"])
        for node in _sides(undo, resolve):
            if dict(require(node, PacketFilter, for_what="Partition").drops()) != before[node.name]:
                return None
        pairs = _connected(undo, resolve)
        if not all(_passes(one, two) for one, two in pairs):
            return None
        return Proof(now_ns(), f"packets pass again over {len(pairs)} pair(s); no rule of ours is left")


def _sides(undo: Undo, resolve: Resolve) -> list[Node]:
    """The nodes that carry the rules."""
    return [resolve(ref) for ref in undo.nodes[: cast("int", undo.params["sides"])]]


def _passes(one: Node, two: Node) -> bool:
    return require(one, PacketFilter, for_what="Partition").passes(two)


def _connected(undo: Undo, resolve: Resolve) -> list[tuple[Node, Node]]:
    known = {ref.name: ref for ref in undo.nodes}
    return [(resolve(known[one]), resolve(known[two])) for one, two in cast("list[list[str]]", undo.prior["connected"])]

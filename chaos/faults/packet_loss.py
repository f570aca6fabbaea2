"""``PacketLoss``: some packets vanish, at random, and the others pass: what retransmission and timeouts were made for."""

from __future__ import annotations

from typing import ClassVar, cast

import msgspec

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput, EnvironmentFailed
from chaos.core.model import Json, NodeRef, Proof, Step, Undo
from chaos.environments.base import DropRule, Echoes, Node, PacketFilter, require
from chaos.faults._binomial import Measure, measure_for
from chaos.faults.base import Resolve
from chaos.faults.partition import DIRECTIONS

SMALLEST_SHARE = 0.01


class PacketLoss(msgspec.Struct, frozen=True):
    """Drops ``share`` (0.01 to 1) of the packets between ``node`` and ``peers``, each by a toss of its own: of those it receives (``in``),
    of those it sends (``out``), or of each (``both``: an echo and its answer then both have to be lucky). ``everybody``: between the node
    and anybody at all; ``peers`` are then those by whom it is proven.

    By iptables' ``statistic`` match, in a chain of this fault's own, also where the kernel has netem: one tool everywhere, and the rules of
    this fault and of partitions do not get in each other's way. A share below 1 needs iptables on the node. Landed is measured, with each
    peer: as many echoes as it takes to tell the loss asked from a tenth of it, and bounds for those that go missing, both by exact binomial
    sums, so that a loss that is not there is believed with a chance below 10⁻⁶, and one that is there is missed with no more (see
    ``chaos.faults._binomial``); and the kernel's counters of the very rules must have caught at least as many as the lower bound. Healed:
    the rules are gone, and fewer go missing than that bound. Needs the capability ``packetfilter``; ``echoes`` makes the measurement fast.
    Nets: fixture, healer, dead-man.
    """

    node: NodeRef
    share: float
    peers: tuple[NodeRef, ...] = ()
    everybody: bool = False
    direction: str = "both"

    kind: ClassVar[str] = "packet-loss"
    version: ClassVar[int] = 1
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer", "dead-man")
    landed_within_s: ClassVar[float] = 60.0
    healed_within_s: ClassVar[float] = 60.0

    @property
    def targets(self) -> tuple[NodeRef, ...]:
        return (self.node,)

    def params(self) -> dict[str, Json]:
        names: list[Json] = [peer.name for peer in self.peers]
        return {"share": self.share, "peers": names, "everybody": self.everybody, "direction": self.direction}

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        self._check()
        node = resolve(self.node)
        held = require(node, PacketFilter, for_what="PacketLoss").drops()
        require(node, PacketFilter, for_what="PacketLoss").check_drop(self._rules(resolve))
        if fault_id in held:
            raise EnvironmentFailed(f"rules under the tag {fault_id} are there already", where=str(self.node), next_step="heal first")
        for peer in self.peers:
            if not _answered(node, resolve(peer), 3):
                raise EnvironmentFailed(
                    f"no packet passes between it and {peer.name} even now", where=str(self.node), next_step="heal first"
                )
        prior: dict[str, Json] = {"drops": dict(held)}
        steps = (Step(self.node.name, "undrop", fault_id),)
        return Undo(fault_id, self.kind, self.version, (self.node, *self.peers), self.params(), prior, steps)

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        require(resolve(self.node), PacketFilter, for_what="PacketLoss").drop(undo.fault_id, self._rules(resolve))

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """With every peer so many echoes go missing as the share says, and the kernel's own count of what the rules caught agrees."""
        node, measure, said = resolve(self.node), _measure(undo), []
        rules = require(node, PacketFilter, for_what="PacketLoss")
        if not rules.drops().get(undo.fault_id):
            return None
        for peer in self.peers:
            before = rules.dropped(undo.fault_id)
            missing = measure.echoes - _answered(node, resolve(peer), measure.echoes)
            after = rules.dropped(undo.fault_id)
            caught = measure.least if before is None or after is None else after - before
            if not measure.as_asked(missing) or caught < measure.least:
                return None
            said.append(f"{missing} of {measure.echoes} echoes with {peer.name} missing")
        bounds = f"{measure.least} to {measure.most} expected; {rules.dropped(undo.fault_id)} packets caught by the kernel's count"
        return Proof(now_ns(), f"{', '.join(said)} ({bounds})")

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        require(resolve(undo.nodes[0]), PacketFilter, for_what="PacketLoss").undrop(undo.fault_id)

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """The rules held are those held before, and no more echoes go missing than they do without a fault."""
        node, measure, said = resolve(undo.nodes[0]), _measure(undo), []
        if dict(require(node, PacketFilter, for_what="PacketLoss").drops()) != undo.prior["drops"]:
            return None
        for ref in undo.nodes[1:]:
            missing = measure.echoes - _answered(node, resolve(ref), measure.echoes)
            if measure.lossy(missing):
                return None
            said.append(f"{missing} of {measure.echoes} echoes with {ref.name} missing")
        return Proof(now_ns(), f"{', '.join(said)}; no rule of ours is left")

    def _check(self) -> None:
        if not SMALLEST_SHARE <= self.share <= 1:
            raise BadInput("such a loss cannot be proven", expected=f"a share of {SMALLEST_SHARE} to 1", observed=str(self.share))
        if self.direction not in DIRECTIONS:
            raise BadInput("packets have no such direction", expected="in, out or both", observed=self.direction)
        if not self.peers or self.node.name in {peer.name for peer in self.peers}:
            raise BadInput("a loss of packets is proven by echoes with other nodes", expected="peers", observed="none, or the node itself")

    def _rules(self, resolve: Resolve) -> list[DropRule]:
        peers = () if self.everybody else tuple(resolve(peer).address for peer in self.peers)
        ways = {"both": (False, True), "in": (True,), "out": (False,)}[self.direction]
        return [DropRule(inbound=inbound, peers=peers, share=self.share) for inbound in ways]


def _measure(undo: Undo) -> Measure:
    share = cast("float", undo.params["share"])
    return measure_for(1 - (1 - share) ** 2 if undo.params["direction"] == "both" else share)


def _answered(node: Node, peer: Node, count: int) -> int:
    if isinstance(node, Echoes):
        return node.echoes(peer, count)
    return sum(require(node, PacketFilter, for_what="PacketLoss").passes(peer) for _ in range(count))

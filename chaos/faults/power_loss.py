"""``PowerLoss``: a node without power.

Its link goes first, then every process, so that its peers see silence and not a closed connection."""

from __future__ import annotations

from typing import ClassVar, cast

from chaos.core.clock import now_ns
from chaos.core.errors import EnvironmentFailed
from chaos.core.model import Json, Proof, Step, Undo
from chaos.environments.base import Power, require
from chaos.faults._single import OneNode, summary, with_steps
from chaos.faults.base import Resolve


class PowerLoss(OneNode, frozen=True):
    """Cuts the power of one node; healing is booting it.

    Needs the capability ``power``. Nets: fixture, healer, dead-man. What the node had not yet written to its disk may survive where
    the environment's disks are memory or shared with the host; the report's caveats say so.
    """

    kind: ClassVar[str] = "power-loss"
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer", "dead-man")

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        if not require(resolve(self.node), Power, for_what="PowerLoss").powered():
            raise EnvironmentFailed("the node is without power already", where=str(self.node), next_step="boot it first")
        return with_steps(self.undo_record(fault_id, resolve), Step(self.node.name, "power_on"))

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        require(resolve(self.node), Power, for_what="PowerLoss").power_off()

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """No process is left, and it is unreachable: its link is gone, or a peer gets no answer."""
        power = require(resolve(self.node), Power, for_what="PowerLoss")
        if power.powered() or power.reachable():
            return None
        return Proof(now_ns(), f"{self.node.name} has no process left and cannot be reached")

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """The node is as before but for packet rules, queues and programs of other faults, which not every node keeps over a reboot: those
        faults prove their own."""
        now = _but_packet_rules(resolve(undo.nodes[0]).state())
        if now != _but_packet_rules(cast("dict[str, Json]", undo.prior["state"])):
            return None
        return Proof(now_ns(), f"{undo.nodes[0].name} is as before: {summary(now)}")

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        require(resolve(undo.nodes[0]), Power, for_what="PowerLoss").power_on()


def _but_packet_rules(state: dict[str, Json]) -> dict[str, Json]:
    return {key: value for key, value in state.items() if key not in ("drops", "filter", "network", "programs")}

"""``Noop``: breaks nothing. The worked example of a fault, and the control experiment.

Whatever a drill measures under it is its own noise."""

from __future__ import annotations

from typing import ClassVar

from chaos.core.clock import now_ns
from chaos.core.model import Proof, Undo
from chaos.faults._single import OneNode
from chaos.faults.base import Resolve


class Noop(OneNode, frozen=True):
    """Looks at the node twice and does nothing between.

    Needs no capability. Nets: fixture, healer (there is nothing to undo).
    """

    kind: ClassVar[str] = "noop"

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        return self.undo_record(fault_id, resolve)

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        """Nothing."""

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """The node is still as it was: nothing has happened, as intended."""
        return Proof(now_ns(), "nothing was changed") if resolve(self.node).state() == undo.prior["state"] else None

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        """Nothing."""

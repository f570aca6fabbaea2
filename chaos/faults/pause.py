"""``Pause``: a node whose every process stands still, and whose kernel goes on answering: connections open, and nothing comes back."""

from __future__ import annotations

from typing import ClassVar

from chaos.core.clock import now_ns
from chaos.core.errors import EnvironmentFailed
from chaos.core.model import Proof, Step, Undo
from chaos.environments.base import Freeze, require
from chaos.faults._single import OneNode, with_steps
from chaos.faults.base import Resolve


class Pause(OneNode, frozen=True):
    """Freezes one node (cgroup freezer or SIGSTOP to all, whichever the environment has) and thaws it.

    Needs the capability ``freeze``. Nets: fixture, healer, dead-man. A process that was stopped before stays stopped afterwards.
    """

    kind: ClassVar[str] = "pause"
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer", "dead-man")

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        if require(resolve(self.node), Freeze, for_what="Pause").frozen():
            raise EnvironmentFailed("the node is frozen already, and not by this fault", where=str(self.node), next_step="thaw it first")
        return with_steps(self.undo_record(fault_id, resolve), Step(self.node.name, "thaw"))

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        require(resolve(self.node), Freeze, for_what="Pause").freeze()

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """The kernel says that every process is stopped."""
        if not require(resolve(self.node), Freeze, for_what="Pause").frozen():
            return None
        return Proof(now_ns(), f"every process of {self.node.name} is stopped")

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        require(resolve(undo.nodes[0]), Freeze, for_what="Pause").thaw()

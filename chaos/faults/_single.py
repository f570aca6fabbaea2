"""What faults on exactly one node share: its reference, and the comparison of its state before and after. No fault of its own."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from chaos.core.clock import now_ns
from chaos.core.model import Json, NodeRef, Proof, Step, Undo
from chaos.faults.base import Resolve


class OneNode(msgspec.Struct, frozen=True):
    """Base of faults on one ``node``. Subclasses say what to do; this says what it was like before."""

    node: NodeRef

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer")
    landed_within_s: ClassVar[float] = 10.0
    healed_within_s: ClassVar[float] = 60.0

    @property
    def targets(self) -> tuple[NodeRef, ...]:
        return (self.node,)

    def params(self) -> dict[str, Json]:
        fields = {name: getattr(self, name) for name in self.__struct_fields__ if name != "node"}
        return {name: msgspec.to_builtins(value) for name, value in fields.items()}

    def undo_record(self, fault_id: str, resolve: Resolve, **more: Json) -> Undo:
        """Prior state of the node under ``state``, and whatever else the fault needs."""
        prior: dict[str, Json] = {"state": resolve(self.node).state(), **more}
        return Undo(fault_id, self.kind, self.version, self.targets, self.params(), prior)

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """The node's whole state equals the one before."""
        now = resolve(undo.nodes[0]).state()
        if now != undo.prior["state"]:
            return None
        return Proof(now_ns(), f"{undo.nodes[0].name} is as before: {summary(now)}")


def with_steps(undo: Undo, *steps: Step) -> Undo:
    """``undo`` with what a dead-man's switch does, in this order."""
    return msgspec.structs.replace(undo, steps=steps)


def summary(state: dict[str, Json]) -> str:
    """A state in a few words, for proofs."""
    services = state.get("services")
    running = [name for name, on in services.items() if on] if isinstance(services, dict) else []
    words = ["powered" if state.get("powered") else "without power"]
    words += ["frozen"] if state.get("frozen") else []
    return ", ".join(words + [f"{name} runs" for name in running])

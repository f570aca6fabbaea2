"""What the conformance tests share: a fault seen through, nodes that are interrupted or lack everything, faults with a spy. No fixtures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chaos.core.clock import wait_for
from chaos.core.model import FaultRecord, FaultState, Json, NodeRef, Proof, Undo
from chaos.engine.injection import InjectedFault
from chaos.engine.journal import Journal
from chaos.environments.base import Node
from chaos.faults.base import Fault, Resolve

CHANGING = ("drop", "undrop", "freeze", "thaw", "power_off", "power_on", "signal", "start_service", "stop_service")


def nothing(_: FaultRecord, __: FaultState) -> None:
    """A listener that does not listen."""


def injected(fault: Fault, resolve: Resolve, journal: Journal, fault_id: str = "test-1") -> InjectedFault:
    return InjectedFault(fault, fault_id, resolve, journal, nothing, cause=False)


def land(fault: Fault, undo: Undo, resolve: Resolve) -> Proof:
    """Inject and see it land."""
    fault.inject(undo, resolve)
    return wait_for(lambda: fault.landed(undo, resolve), timeout_s=fault.landed_within_s, what=f"{fault.kind} to land", last="no proof")


def proven_healed(kind: type[Fault], undo: Undo, resolve: Resolve) -> Proof:
    """Wait until it says so."""
    return wait_for(lambda: kind.healed(undo, resolve), timeout_s=20, what=f"{undo.kind} to be healed", last="no proof")


def respied(fault: Fault, **others: Any) -> Fault:
    """The same fault, some of whose methods (or bounds) are others."""
    kind: Any = type(fault)
    spied = type(kind)("Spied", (kind,), {"__module__": __name__, **others}, frozen=True)
    copy: Fault = spied(**{name: getattr(fault, name) for name in kind.__struct_fields__})
    return copy


class Interrupting:
    """Resolves to the same nodes, whose changing calls are counted: the ``at``-th moment (each call has one before and one after its
    effect) is interrupted as Ctrl-C would."""

    def __init__(self, resolve: Resolve, at: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self._resolve, self._at, self._error = resolve, at, error
        self.moments = 0

    @property
    def happened(self) -> bool:
        return self.moments >= self._at

    def __call__(self, ref: NodeRef) -> Node:
        node = self._resolve(ref)
        kind = type(node)
        methods = {name: self._counted(getattr(kind, name)) for name in CHANGING if hasattr(kind, name)}
        clone: Node = object.__new__(type("Interrupted", (kind,), methods))
        clone.__dict__.update(node.__dict__)
        return clone

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            self._moment()
            result = method(*args, **named)
            self._moment()
            return result

        return call

    def _moment(self) -> None:
        self.moments += 1
        if self.moments == self._at:
            raise self._error("interrupted here")


class Bare:
    """A node that can nothing but be looked at."""

    def __init__(self, ref: NodeRef) -> None:
        self.ref, self.name, self.address = ref, ref.name, "192.0.2.1"

    def state(self) -> dict[str, Json]:
        return {"powered": True}

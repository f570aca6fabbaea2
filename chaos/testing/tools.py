"""What the suites share: a fault seen through, nodes whose changing calls can be watched or that can do nothing, faults with a spy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chaos.core.clock import wait_for
from chaos.core.errors import EnvironmentFailed
from chaos.core.model import FaultRecord, FaultState, Json, NodeRef, Proof, Undo
from chaos.engine.injection import InjectedFault
from chaos.engine.journal import Journal
from chaos.environments.base import Node
from chaos.faults.base import Fault, Resolve

HEALED_WITHIN_S = 20.0
CHANGING = (
    *("drop", "undrop", "freeze", "thaw", "power_off", "power_on", "signal", "start_service", "stop_service"),
    *("run", "limit_cpu", "set_read_only", "link_down", "link_up", "set_sysctl", "offset_clock"),
)
"""Calls of a node that may change it. ``run`` counts whatever it runs: nobody can tell."""


def nothing(_: FaultRecord, __: FaultState) -> None:
    """A listener that does not listen."""


def injected(fault: Fault, resolve: Resolve, journal: Journal, fault_id: str = "test-1") -> InjectedFault:
    """``fault`` as a drill would have it."""
    return InjectedFault(fault, fault_id, resolve, journal, nothing, cause=False)


def land(fault: Fault, undo: Undo, resolve: Resolve) -> Proof:
    """Inject and see it land."""
    fault.inject(undo, resolve)
    return wait_for(lambda: fault.landed(undo, resolve), timeout_s=fault.landed_within_s, what=f"{fault.kind} to land", last="no proof")


def proven_healed(kind: type[Fault], undo: Undo, resolve: Resolve) -> Proof:
    """Wait until it says so."""
    timeout_s = min(kind.healed_within_s, HEALED_WITHIN_S)
    return wait_for(lambda: kind.healed(undo, resolve), timeout_s=timeout_s, what=f"{undo.kind} to be healed", last="no proof")


def take(undo: Undo, resolve: Resolve) -> None:
    """The steps of an undo, one after the other, as a dead-man's switch takes them.

    Raises:
        EnvironmentFailed: a script of theirs ended with another code than 0.
    """
    names = {ref.name: ref for ref in undo.nodes}
    for step in undo.steps:
        node: Any = resolve(names[step.node])
        if step.do == "shell":
            done = node.run(("sh", "-c", step.argument), privileged=True)
            if done.code != 0:
                raise EnvironmentFailed("a step of the undo failed", where=str(node.ref), observed=done.err)
        elif step.do in ("start_service", "undrop"):
            getattr(node, step.do)(step.argument)
        else:
            getattr(node, step.do)()


def respied(fault: Fault, **others: Any) -> Fault:
    """The same fault, some of whose methods (or bounds) are others."""
    kind: Any = type(fault)
    spied = type(kind)("Spied", (kind,), {"__module__": __name__, **others}, frozen=True)
    copy: Fault = spied(**{name: getattr(fault, name) for name in kind.__struct_fields__})
    return copy


class Watching:
    """Resolves to the same nodes, and tells ``reached`` of every moment: each changing call has one before and one after its effect."""

    def __init__(self, resolve: Resolve, reached: Callable[[], None]) -> None:
        self._resolve, self._reached = resolve, reached

    def __call__(self, ref: NodeRef) -> Node:
        node = self._resolve(ref)
        kind = type(node)
        methods = {name: self._watched(getattr(kind, name)) for name in CHANGING if hasattr(kind, name)}
        clone: Node = object.__new__(type(f"Watched{kind.__name__}", (kind,), methods))
        clone.__dict__.update(node.__dict__)
        return clone

    def _watched(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            self._reached()
            result = method(*args, **named)
            self._reached()
            return result

        return call


class Interrupting(Watching):
    """The ``at``-th moment is interrupted as Ctrl-C would."""

    def __init__(self, resolve: Resolve, at: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        super().__init__(resolve, self._moment)
        self._at, self._error = at, error
        self.moments = 0

    @property
    def happened(self) -> bool:
        return self.moments >= self._at

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

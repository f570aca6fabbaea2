"""The contract of a fault. One fault per file beside this one; ``noop`` is the worked example.

A fault is frozen data. It never holds a node, only :class:`~chaos.core.model.NodeRef`; what it needs to be undone goes into an
:class:`~chaos.core.model.Undo` before it acts, and undoing uses that record alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

from chaos.core.model import Json, NodeRef, Proof, Undo
from chaos.environments.base import Node

Resolve: TypeAlias = Callable[[NodeRef], Node]
"""Finds the node behind a reference *now*: after a restart it may be another object."""


@runtime_checkable
class Fault(Protocol):
    """What every fault implements.

    ``kind`` is its registered name (entry-point group ``chaos.faults``), ``version`` that of its undo record, ``nets`` who undoes it
    besides the drill itself (``fixture`` always; ``healer``; ``dead-man``). ``landed_within_s`` and ``healed_within_s`` bound the proofs.
    """

    kind: ClassVar[str]
    version: ClassVar[int]
    nets: ClassVar[tuple[str, ...]]
    landed_within_s: ClassVar[float]
    healed_within_s: ClassVar[float]

    @property
    def targets(self) -> tuple[NodeRef, ...]:
        """The nodes that the fault acts on."""
        ...

    def params(self) -> dict[str, Json]:
        """Its parameters as plain data, for journal and report."""
        ...

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        """Look at the nodes (change nothing) and write down how to undo.

        Raises:
            Unavailable: where a node lacks a capability; EnvironmentFailed: where foreign state is in the way.
        """
        ...

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        """Have the effect. May be interrupted anywhere; ``heal`` must cope with every half."""
        ...

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """Observe the effect itself; None: not (yet) there."""
        ...

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        """Put back. Idempotent; a no-op where nothing was injected; needs nothing but ``undo``."""
        ...

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """Compare the nodes with ``undo.prior``; None: not (yet) as before."""
        ...

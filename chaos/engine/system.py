"""The contract between a drill and the system it breaks. Systems live outside this package (``fixtures/``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from chaos.core.model import Json, NodeRef
from chaos.environments.base import ClientProcess, Environment, Node
from chaos.measure.history import SurvivorRead


class System(Protocol):
    """Nodes with roles, a way to use them, and a way to tell whether they are well.

    ``detect_s`` is how long its HA manager may take to notice a failure (recovery before that is not recovery);
    ``check_interval_s`` its manager's period.
    """

    @property
    def name(self) -> str: ...
    @property
    def environment(self) -> Environment: ...
    @property
    def nodes(self) -> Mapping[str, Node]: ...
    @property
    def detect_s(self) -> float: ...
    @property
    def check_interval_s(self) -> float: ...

    def resolve(self, ref: NodeRef) -> Node:
        """The node behind ``ref`` now. Raises EnvironmentFailed where it does not exist (any more)."""
        ...

    def describe(self) -> dict[str, Json]:
        """Versions, topology and settings, for the report."""
        ...

    def caveats(self) -> Sequence[str]:
        """What a reader of the report must know (``no fencing, no quorum``)."""
        ...

    def prove_healthy(self, timeout_s: float) -> str:
        """Steady state, proven; returns what was seen. Raises NotHealthy."""
        ...

    def prove_whole(self, timeout_s: float) -> str:
        """Every member is back in its place after the heal; returns what was seen. Raises NotHealthy."""
        ...

    def begin_drill(self, drill_id: str) -> None:
        """An empty ledger for this drill."""
        ...

    def read_survivors(self, label: str) -> SurvivorRead:
        """Every write id of this drill's ledger that is there now, from where a client would read."""
        ...

    def spawn_client(self, argv: Sequence[str], *, log: Path) -> ClientProcess:
        """Run ``argv`` where clients live (subject to partitions). It dies with this process."""
        ...


@runtime_checkable
class Replicated(Protocol):
    """A system that tells its primary from its replicas. ``primary`` is looked up now."""

    @property
    def primary(self) -> NodeRef: ...
    @property
    def replicas(self) -> Sequence[NodeRef]: ...

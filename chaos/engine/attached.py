"""The system under drill in a standing environment: what is there already. Made of the environment's own nodes; it starts and removes none.

What only the owner of the system knows is handed in by the drill: how to see that it is well (:meth:`AttachedSystem.steady`), and which of
the writes that were acknowledged are there (:meth:`AttachedSystem.survivors`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from chaos.core.clock import now_ns, wait_for
from chaos.core.errors import BadInput, NotHealthy
from chaos.core.model import Json, NodeRef
from chaos.environments.base import ClientProcess, Environment, Freeze, Node, Power, Services
from chaos.environments.host_client import HostClient
from chaos.environments.standing import Placed
from chaos.measure.history import SurvivorRead

CHECK_INTERVAL_S = 0.1


@runtime_checkable
class HasNodes(Protocol):
    """A standing environment that can list what is there."""

    def nodes(self) -> Mapping[str, Node]: ...


class AttachedSystem:
    """``attached["postgres-primary"]`` is a reference to a node. ``detect_s`` and ``check_interval_s`` are those of its HA manager
    (seconds; 0 where there is none)."""

    def __init__(self, environment: Environment, *, detect_s: float = 0.0, check_interval_s: float = 0.0) -> None:
        if not isinstance(environment, HasNodes):
            raise BadInput("this environment cannot list its nodes", where=environment.name, expected="a standing environment")
        self._environment, self._detect_s, self._check_interval_s = environment, detect_s, check_interval_s
        self._nodes = dict(environment.nodes())
        self._checks: list[Callable[[], str]] = []
        self._survivors: Callable[[], Iterable[int]] | None = None
        self._clients: list[HostClient] = []
        self.drill_id = ""

    def __getitem__(self, name: str) -> NodeRef:
        """Raises BadInput, naming what is there, where there is no such node."""
        if name not in self._nodes:
            near = difflib.get_close_matches(name, self._nodes, 1)
            raise BadInput(
                f"no node is called {name!r} in {self.name}",
                expected=f"one of {', '.join(self._nodes) or '(none)'}",
                next_step=f"did you mean {near[0]!r}?" if near else "",
            )
        return self._nodes[name].ref

    def by_role(self, role: str) -> list[NodeRef]:
        """References of the nodes that are labelled so; none is a mistake. Raises BadInput."""
        found = [node.ref for node in self._nodes.values() if isinstance(node, Placed) and node.role == role]
        if not found:
            raise BadInput(f"no node of {self.name} has the role {role!r}", next_step="label it, or name the node itself")
        return found

    def steady(self, check: Callable[[], str]) -> None:
        """``check`` returns what it saw where the system is well and raises (or returns "") where it is not; asked at once, and again
        after the heal. Raises NotHealthy where the system is not well now: then nothing should be broken."""
        self._checks.append(check)
        self.prove_healthy(timeout_s=5.0)

    def survivors(self, read: Callable[[], Iterable[int]]) -> None:
        """``read`` returns the ids of the writes of this drill that are there now: for workloads with a ledger."""
        self._survivors = read

    # -- the contract of a system

    @property
    def name(self) -> str:
        return self._environment.name

    @property
    def environment(self) -> Environment:
        return self._environment

    @property
    def nodes(self) -> Mapping[str, Node]:
        return self._nodes

    @property
    def detect_s(self) -> float:
        return self._detect_s

    @property
    def check_interval_s(self) -> float:
        return self._check_interval_s

    def resolve(self, ref: NodeRef) -> Node:
        return self._environment.resolve(ref)

    def describe(self) -> dict[str, Json]:
        return {"nodes": {name: node.address for name, node in self._nodes.items()}}

    def caveats(self) -> Sequence[str]:
        return () if self._checks else ("Nothing but its nodes says that this system is well: the drill hands in no check (steady).",)

    def prove_healthy(self, timeout_s: float) -> str:
        return wait_for(self._look, timeout_s=timeout_s, what=f"{self.name} to be well", interval_s=CHECK_INTERVAL_S)

    def prove_whole(self, timeout_s: float) -> str:
        return self.prove_healthy(timeout_s)

    def begin_drill(self, drill_id: str) -> None:
        self.drill_id = drill_id

    def read_survivors(self, label: str) -> SurvivorRead:
        if self._survivors is None:
            raise BadInput("a workload with a ledger needs to be told what survived", where=self.name, next_step="attached.survivors(read)")
        began_ns = now_ns()
        ids = tuple(sorted(self._survivors()))
        return SurvivorRead(label, began_ns, now_ns(), ids, source=self.name)

    def spawn_client(self, argv: Sequence[str], *, log: Path) -> ClientProcess:
        """On this machine."""
        self._clients.append(HostClient(argv, log))
        return self._clients[-1]

    def close(self) -> None:
        """End the clients; the system itself is not ours."""
        for client in self._clients:
            if client.poll() is None:
                client.kill()
                client.wait(10.0)

    def _look(self) -> str:
        for node in self._nodes.values():
            if isinstance(node, Power) and not node.powered():
                raise NotHealthy("a node is without power", where=str(node.ref))
            if isinstance(node, Freeze) and node.frozen():
                raise NotHealthy("a node is frozen", where=str(node.ref))
            if isinstance(node, Services) and not all(node.services().values()):
                raise NotHealthy("a service does not run", where=str(node.ref), observed=str(dict(node.services())))
        seen = [check() for check in self._checks]
        if not all(seen):
            raise NotHealthy("a check of the drill is not satisfied", where=self.name, observed=str(seen))
        return "; ".join([f"{len(self._nodes)} nodes run", *seen])

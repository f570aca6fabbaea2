"""Faults that break the contract, each in one way, and one that keeps it. Copied into a project under test as its catalogue; what convicts
each stands beside it. They drop what a node receives; nothing here is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, cast

import msgspec

from chaos.core.clock import now_ns
from chaos.core.errors import EnvironmentFailed
from chaos.core.model import Json, NodeRef, Proof, Undo
from chaos.environments.base import DropRule, Node, PacketFilter, Power, Processes, Services, require
from chaos.faults._single import OneNode
from chaos.faults.base import Fault, Resolve
from chaos.testing import micro_hosts

WHAT = "Silence"
MEMORY: dict[str, str] = {}


class Silence(OneNode, frozen=True):
    """Keeps the contract: nothing that is sent to the node arrives."""

    kind: ClassVar[str] = "silence"
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer")
    landed_within_s: ClassVar[float] = 1.0
    healed_within_s: ClassVar[float] = 1.0

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        require(resolve(self.node), PacketFilter, for_what=WHAT)
        return self.undo_record(fault_id, resolve)

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        require(resolve(self.node), PacketFilter, for_what=WHAT).drop(undo.fault_id, [DropRule(inbound=True)])

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        if undo.fault_id not in require(resolve(self.node), PacketFilter, for_what=WHAT).drops():
            return None
        return Proof(now_ns(), "the kernel drops it")

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        require(resolve(undo.nodes[0]), PacketFilter, for_what=WHAT).undrop(undo.fault_id)


class HealsOnce(Silence, frozen=True):
    """A second heal, or one where nothing was injected, fails."""

    kind: ClassVar[str] = "heals-once"

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        node = require(resolve(undo.nodes[0]), PacketFilter, for_what=WHAT)
        if undo.fault_id not in node.drops():
            raise EnvironmentFailed("there is nothing to undo")
        node.undrop(undo.fault_id)


class Remembers(Silence, frozen=True):
    """Heals with what only the process that injected knows."""

    kind: ClassVar[str] = "remembers"

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        MEMORY[undo.fault_id] = undo.fault_id
        Silence.inject(self, undo, resolve)

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        if tag := MEMORY.get(undo.fault_id):
            require(resolve(undo.nodes[0]), PacketFilter, for_what=WHAT).undrop(tag)


class LandsByReturn(Silence, frozen=True):
    """Takes the call's return for its effect."""

    kind: ClassVar[str] = "lands-by-return"

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        return Proof(now_ns(), "the call has returned")


class LiesAboutHealing(Silence, frozen=True):
    """Calls everything healed."""

    kind: ClassVar[str] = "lies"

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        return Proof(now_ns(), "surely")


class HalfHeals(Silence, frozen=True):
    """Does two things, and undoes the first only where it sees the second."""

    kind: ClassVar[str] = "half-heals"

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        require(resolve(self.node), Services, for_what=WHAT).stop_service("sleeper")
        Silence.inject(self, undo, resolve)

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        node = require(resolve(undo.nodes[0]), PacketFilter, for_what=WHAT)
        if undo.fault_id in node.drops():
            node.undrop(undo.fault_id)
            require(cast("Node", node), Services, for_what=WHAT).start_service("sleeper")


class KeepsTheNodeToItself(Silence, frozen=True):
    """Its undo does not say on which node."""

    kind: ClassVar[str] = "nodeless"

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        undo = Silence.plan(self, fault_id, resolve)
        prior = {**undo.prior, "node": cast("Json", msgspec.to_builtins(self.node))}
        return msgspec.structs.replace(undo, nodes=(), prior=prior)

    @classmethod
    def _whole(cls, undo: Undo) -> Undo:
        return msgspec.structs.replace(undo, nodes=(msgspec.convert(undo.prior["node"], NodeRef),))

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        Silence.heal(cls._whole(undo), resolve)

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        return Silence.healed(cls._whole(undo), resolve)


class BreaksWhilePlanning(Silence, frozen=True):
    """Is there before anybody has written it down."""

    kind: ClassVar[str] = "hasty"

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        undo = Silence.plan(self, fault_id, resolve)
        Silence.inject(self, undo, resolve)
        return undo


class AsksForNothing(Silence, frozen=True):
    """Takes it that every node can do what it wants."""

    kind: ClassVar[str] = "presumptuous"

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        return self.undo_record(fault_id, resolve)


class NoSteps(Silence, frozen=True):
    """Says that a dead-man's switch can undo it, and does not say how."""

    kind: ClassVar[str] = "stepless"
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer", "dead-man")


class KnowsOneBoot(Silence, frozen=True):
    """Leaves a node alone that has booted since."""

    kind: ClassVar[str] = "one-boot"

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        require(resolve(self.node), PacketFilter, for_what=WHAT)
        require(resolve(self.node), Power, for_what=WHAT)
        return self.undo_record(fault_id, resolve, first=_first(resolve(self.node)))

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        if _first(resolve(undo.nodes[0])) == undo.prior["first"]:
            Silence.heal(undo, resolve)


def _first(node: Node) -> int:
    """When its first process started."""
    return min((process.started for process in require(node, Processes, for_what=WHAT).processes()), default=0)


CONVICTED_BY = {
    HealsOnce: "test_heal_is_idempotent_and_a_no_op_where_nothing_was_injected",
    Remembers: "test_undo_needs_nothing_but_the_journal",
    LandsByReturn: "test_an_effect_that_is_not_observed_has_not_landed",
    LiesAboutHealing: "test_landed_and_healed_are_observed",
    HalfHeals: "test_an_interruption_anywhere_within_injection_heals",
    KeepsTheNodeToItself: "test_the_journal_holds_a_self_contained_undo_before_the_effect",
    BreaksWhilePlanning: "test_landed_and_healed_are_observed",
    AsksForNothing: "test_a_node_without_the_capability_is_refused_with_its_name",
    NoSteps: "test_the_steps_of_a_dead_mans_switch_alone_put_it_back",
    KnowsOneBoot: "test_a_node_that_rebooted_meanwhile_is_healed",
}


def on_the_first(kind: type[OneNode]) -> Callable[[NodeRef, NodeRef, NodeRef], Fault]:
    """The example of a fault: on node a."""
    return lambda a, b, c: cast("Fault", kind(a))


PLACES = {"embedded": micro_hosts}
EXAMPLES = {kind.kind: {"": on_the_first(kind)} for kind in (Silence, *CONVICTED_BY)}

"""``LinkDown``: a node whose network cable is pulled. Its processes go on, and talk to nobody but each other."""

from __future__ import annotations

from typing import ClassVar, cast

from chaos.core.clock import now_ns
from chaos.core.errors import EnvironmentFailed
from chaos.core.model import Json, Proof, Undo
from chaos.environments.base import Link, Power, Services, require
from chaos.faults._single import OneNode
from chaos.faults.base import Resolve

OF_THE_LINK = ("powered", "link_up", "linked", "address", "links", "routes")


class LinkDown(OneNode, frozen=True):
    """Takes the network link of one node down, and up again with the addresses and routes that it had.

    On a micro-host the cable's far end goes down: the node keeps its routes, what it sends vanishes, and it boots unplugged. In a
    container the interface itself goes down: its kernel says "network is unreachable" to whoever sends anew, and a reboot ends it; not a
    disconnection from the engine's network, which would take the resolver away too. Healed compares what belongs to the link; a program
    that gave up meanwhile is its supervisor's to start again. Needs the capability ``link``. Nets: fixture, healer.
    """

    kind: ClassVar[str] = "link-down"
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer")

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        if not require(resolve(self.node), Link, for_what="LinkDown").linked():
            raise EnvironmentFailed("the link is down already, and not by this fault", where=str(self.node), next_step="plug it in first")
        return self.undo_record(fault_id, resolve)

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        require(resolve(self.node), Link, for_what="LinkDown").link_down()

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """The link is down, no peer gets an answer, and the node lives."""
        node = resolve(self.node)
        if require(node, Link, for_what="LinkDown").linked():
            return None
        if isinstance(node, Power) and (node.reachable() or not node.powered()):
            return None
        running = [name for name, on in node.services().items() if on] if isinstance(node, Services) else []
        return Proof(now_ns(), f"the link of {self.node.name} is down and nobody reaches it; {', '.join(running) or 'nothing'} runs on")

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        require(resolve(undo.nodes[0]), Link, for_what="LinkDown").link_up()

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """Link, addresses and routes are those of before, and the node can be reached."""
        node, before = resolve(undo.nodes[0]), cast("dict[str, Json]", undo.prior["state"])
        now = node.state()
        if any(now.get(key) != before.get(key) for key in OF_THE_LINK):
            return None
        if not require(node, Link, for_what="LinkDown").linked() or (isinstance(node, Power) and not node.reachable()):
            return None
        return Proof(now_ns(), f"the link of {undo.nodes[0].name} is up, with the addresses and routes of before")

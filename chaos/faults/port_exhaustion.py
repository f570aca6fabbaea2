"""``PortExhaustion``: a node that has no port left to connect from."""

from __future__ import annotations

from typing import ClassVar, cast

import msgspec

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput, EnvironmentFailed
from chaos.core.model import Json, Proof, Undo
from chaos.environments.base import Exec, Sysctls, require
from chaos.faults._onnode import on_power
from chaos.faults._single import OneNode
from chaos.faults._traffic import python_of, tell
from chaos.faults.base import Resolve

RANGE, RESERVED = "ipv4/ip_local_port_range", "ipv4/ip_local_reserved_ports"
MOST_LEFT = 1000


class Tried(msgspec.Struct, frozen=True):
    """Answer of ``try_ports``: ports that were free, and the name of connecting's error number once they were taken."""

    free: int
    connect: str


class PortExhaustion(OneNode, frozen=True):
    """Takes the ephemeral ports of a node away, all but the highest ``leave`` (0 to 1000): its kernel is told to reserve them
    (net.ipv4.ip_local_reserved_ports, in the node's own network namespace), as if connections had used them up. A program that connects
    gets EADDRNOTAVAIL, one that asks for any port to listen on gets EADDRINUSE; UDP feels it too. Connections that are open stay open,
    ports that are asked for by number are still to be had.

    Needs the capabilities ``sysctls`` and ``exec``, and Python 3 on the node. Nets: fixture, healer (in a container the setting can only be
    changed from beside it). Landed: on the node at most ``leave`` ports are free, and connecting without one fails with EADDRNOTAVAIL.
    """

    leave: int = 0

    kind: ClassVar[str] = "port-exhaustion"
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer")

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        if not 0 <= self.leave <= MOST_LEFT:
            raise BadInput("PortExhaustion: leave is out of range", expected=f"0 to {MOST_LEFT}", observed=str(self.leave))
        node = resolve(self.node)
        sysctls = require(node, Sysctls, for_what="PortExhaustion")
        require(node, Exec, for_what="PortExhaustion")
        python = python_of(node, for_what="PortExhaustion")
        low, high = map(int, sysctls.sysctl(RANGE).split())
        reserved = sysctls.sysctl(RESERVED)
        free = tell(node, python, "try_ports", self.leave + 1, answer=Tried, for_what="PortExhaustion").free
        if free <= self.leave or high - self.leave < low:
            raise EnvironmentFailed(
                "no more ports than that are free even now",
                where=str(node.ref),
                expected=f"more than {self.leave} of {low}-{high}",
                observed=f"{free} free, reserved: {reserved or 'none'}",
                next_step="heal first",
            )
        taken = ",".join(filter(None, (reserved, f"{low}-{high - self.leave}")))
        return self.undo_record(fault_id, resolve, python=python, reserved=reserved, taken=taken)

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        require(resolve(self.node), Sysctls, for_what="PortExhaustion").set_sysctl(RESERVED, str(undo.prior["taken"]))

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """No more than ``leave`` ports are free, and connecting without one fails for want of an address."""
        node = resolve(self.node)
        arguments = (self.leave + 1,)
        tried = tell(node, str(undo.prior["python"]), "try_ports", *arguments, answer=Tried, for_what="PortExhaustion")
        if tried.free > self.leave or tried.connect != "EADDRNOTAVAIL":
            return None
        return Proof(now_ns(), f"{tried.free} ephemeral port(s) of {node.name} were free, and connecting without one: {tried.connect}")

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        """The reserved ports are those of before; a node without power has forgotten ours."""
        node = resolve(undo.nodes[0])
        if not on_power(node):
            return
        sysctls, before = require(node, Sysctls, for_what="PortExhaustion"), cast("str", undo.prior["reserved"])
        if sysctls.sysctl(RESERVED) != before:
            sysctls.set_sysctl(RESERVED, before)

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """The node is as before, and a connection finds a port."""
        node = resolve(undo.nodes[0])
        if node.state() != undo.prior["state"]:
            return None
        limit = cast("int", undo.params["leave"]) + 1
        tried = tell(node, cast("str", undo.prior["python"]), "try_ports", limit, answer=Tried, for_what="PortExhaustion")
        if tried.free < limit or tried.connect == "EADDRNOTAVAIL":
            return None
        before: Json = undo.prior["reserved"] or "none"
        return Proof(now_ns(), f"ports to connect from are free again on {node.name}; reserved as before: {before}")

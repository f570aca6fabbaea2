"""``Bandwidth``: a link that carries less. What does not fit waits in a queue, and is dropped where that is full."""

from __future__ import annotations

from typing import ClassVar, cast

import msgspec

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput, EnvironmentFailed, Unavailable
from chaos.core.model import Json, NodeRef, Proof, Undo
from chaos.environments.base import Exec, Node, require
from chaos.faults._onnode import script, with_steps
from chaos.faults._tc import delete_script, foreign_root, handle_of, root_of
from chaos.faults._traffic import DISCARD_PORT, Near, Rtt, Scripted, device_of, python_of, tell
from chaos.faults.base import Resolve
from chaos.faults.latency import QueueFacts

LOWEST_BYTES_PER_S, HIGHEST_BYTES_PER_S = 1000, 1 << 30
QUEUE_MS, LEAST_BURST_BYTES = 400, 16384
SECONDS = 0.4
MOST_OFFERED_BYTES_PER_S = 50 << 20
LEAST, TOLERANCE = 0.25, 1.25  # shares of the rate that must and may leave


class Sent(msgspec.Struct, frozen=True):
    """Answer of ``send_bytes``: bytes offered, bytes that left the device, and in how many seconds."""

    offered: float
    left: int
    seconds: float


class Bandwidth(Scripted, frozen=True):
    """Lets a node send no more than ``bytes_per_s`` (1000 to 2^30), to everybody together: a token bucket (tbf) under a handle of
    our own at the root of the device that has the node's address; its queue holds 400 ms. What the node receives is not limited.
    Where the device has somebody else's queueing discipline, this is refused. Packet rules alone: no proxy in the path, whose
    addresses a system would see.

    Needs the capability ``exec``; tc (iproute2) and Python 3 on the node; tbf in its kernel. Nets: fixture, healer, dead-man. Landed:
    the kernel holds the bucket, and for 0.4 s a neighbour (a ``peers`` node, where given) is offered twice as much (up to 50 MiB/s), of
    which no more than 1.25 times the rate leaves the device. Measured on micro-hosts: 125000 B/s asked, 124620 B/s left.
    """

    bytes_per_s: int
    peers: tuple[NodeRef, ...] = ()

    kind: ClassVar[str] = "bandwidth"
    landed_within_s: ClassVar[float] = 30.0

    def params(self) -> dict[str, Json]:
        return super().params() | {"peers": [peer.name for peer in self.peers]}

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        if not LOWEST_BYTES_PER_S <= self.bytes_per_s <= HIGHEST_BYTES_PER_S:
            expected = f"{LOWEST_BYTES_PER_S} to {HIGHEST_BYTES_PER_S}"
            raise BadInput("Bandwidth: bytes_per_s is out of range", expected=expected, observed=str(self.bytes_per_s))
        node = resolve(self.node)
        require(node, Exec, for_what="Bandwidth")
        python = python_of(node, for_what="Bandwidth")
        facts = tell(node, python, "look_queueing", 0, answer=QueueFacts, for_what="Bandwidth")
        check_tbf(facts, where=str(node.ref))
        device = device_of(node, for_what="Bandwidth")
        foreign = foreign_root(node, device, for_what="Bandwidth")
        if foreign:
            raise EnvironmentFailed(
                "a queueing discipline of somebody else's is on the device",
                where=str(node.ref),
                expected=f"the kernel's own at the root of {device}",
                observed=foreign,
                next_step="heal what put it there, or remove it",
            )
        to = resolve(self.peers[0]).address if self.peers else self._neighbour(node, python)
        undo = self.undo_record(fault_id, resolve, python=python, device=device, to=to)
        undo = msgspec.structs.replace(undo, nodes=(self.node, *self.peers))
        return with_steps(undo, ("shell", delete_script(device, "tbf", fault_id)))

    def _neighbour(self, node: Node, python: str) -> str:
        for address in tell(node, python, "probe_tcp", "near", answer=Near, for_what="Bandwidth").addresses:
            if tell(node, python, "probe_tcp", "rtt", address, DISCARD_PORT, 1, 1.0, answer=Rtt, for_what="Bandwidth").millis:
                return address
        raise EnvironmentFailed("no neighbour of the node answers, to whom it could send", where=str(node.ref), next_step="give peers=")

    @property
    def burst_bytes(self) -> int:
        """As much as passes at once: no more than 20 ms' worth, but some full packets."""
        return max(LEAST_BURST_BYTES, self.bytes_per_s // 50)

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        bucket = f"tbf rate {self.bytes_per_s}bps burst {self.burst_bytes} latency {QUEUE_MS}ms"
        text = f"tc qdisc add dev {undo.prior['device']} root handle {handle_of(undo.fault_id)} {bucket}"
        script(resolve(self.node), text, for_what="Bandwidth")

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """The kernel holds our bucket, and no more than its rate leaves the device while more is offered."""
        node, device = resolve(self.node), str(undo.prior["device"])
        if root_of(node, device, for_what="Bandwidth").split()[1:3] != ["tbf", handle_of(undo.fault_id)]:
            return None
        rate = min(self.bytes_per_s, MOST_OFFERED_BYTES_PER_S)
        full = 2 * self.burst_bytes if rate == self.bytes_per_s else 0
        arguments = (undo.prior["to"], device, rate, full, SECONDS)
        sent = tell(node, str(undo.prior["python"]), "send_bytes", *arguments, answer=Sent, for_what="Bandwidth")
        most = sent.seconds * self.bytes_per_s * TOLERANCE + self.burst_bytes
        if not sent.seconds * rate * LEAST <= sent.left <= most:
            return None
        text = f"{sent.offered / sent.seconds:.0f} B/s were offered and {sent.left / sent.seconds:.0f} B/s left {device} of {node.name}"
        return Proof(now_ns(), f"{text}, {self.bytes_per_s} B/s asked")

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """The device's queueing disciplines, and the rest of the node's state, are the ones before."""
        node = resolve(undo.nodes[0])
        if node.state() != undo.prior["state"]:
            return None
        root = root_of(node, cast("str", undo.prior["device"]), for_what="Bandwidth")
        return Proof(now_ns(), f"the root of {undo.prior['device']} on {node.name} is the kernel's own again: {root}")


def check_tbf(facts: QueueFacts, *, where: str) -> None:
    """Raises Unavailable, with the fix, where tc or the kernel's tbf is missing."""
    if facts.tc and facts.tbf:
        return
    raise Unavailable(
        "Bandwidth needs tc and the kernel's tbf",
        where=where,
        observed=f"tc: {'there' if facts.tc else 'not installed'}; tbf: {facts.said.get('tbf', '')}",
        next_step="sudo modprobe sch_tbf (on the machine whose kernel this is)" if facts.tc else "apt-get install iproute2 (on the node)",
        capability="tbf" if facts.tc else "tc",
    )

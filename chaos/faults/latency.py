"""``Latency``: packets that take longer. Nothing is lost and nothing overtakes."""

from __future__ import annotations

import errno
import os
from typing import ClassVar, Literal, cast

import msgspec

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput, EnvironmentFailed, Unavailable
from chaos.core.model import Json, NodeRef, Proof, Undo
from chaos.environments.base import Exec, Node, require
from chaos.environments.tagged_rules import TaggedRule, install, refuse_held, removal
from chaos.faults import _helper
from chaos.faults._onnode import script, with_steps
from chaos.faults._tc import delete_script, foreign_root, handle_of
from chaos.faults._traffic import (
    DISCARD_PORT,
    HARD_END_S,
    Near,
    Rtt,
    Scripted,
    checked_port,
    device_of,
    leave_running,
    number_of,
    python_of,
    runner,
    tell,
    to_whom,
)
from chaos.faults.base import Resolve

LONGEST_MS = 5000.0
COUNT = 7
Way = Literal["netem", "nfqueue"]


class QueueFacts(msgspec.Struct, frozen=True):
    """What was found on a node: qdisc kinds that its kernel knows, whether it gives packets to a program (``queue``), the tools that
    set it up, and the kernel's words where it refused (``said``)."""

    netem: bool
    tbf: bool
    queue: bool
    tc: bool
    iptables: bool
    said: dict[str, str] = {}


class Latency(Scripted, frozen=True):
    """Delays a node's packets by ``delay_ms`` (up to 5000), each by up to ``jitter_ms`` more or less. A round trip takes that much
    longer.

    By netem on what the node sends, where its kernel has it, everybody is meant and the device has no queueing discipline of
    somebody's. Else a program on the node holds what it receives in an NFQUEUE; where that program dies, packets pass. That way takes
    ``peers`` (only what comes from these nodes; else from everybody) and ``port`` (only TCP to this port of the node's own) into
    account. Measured on a busy machine (ten looks, median): 5, 50 and 200 ms asked, 5.6, 50.5 and 201.3 ms more per round trip on
    micro-hosts.

    Needs the capability ``exec``, Python 3 on the node (on the first peer too, if there are peers: it measures), and tc or iptables.
    Nets: fixture, healer, dead-man. Landed: the median of 7 round trips has grown by 0.8 to 1.5 delays, widened by the jitter below by
    a half and above by all of it, and above by 50 ms for a busy machine. Healed: it is back within a third of the delay.
    """

    delay_ms: float
    jitter_ms: float = 0.0
    peers: tuple[NodeRef, ...] = ()
    port: int | None = None

    kind: ClassVar[str] = "latency"
    landed_within_s: ClassVar[float] = 30.0

    def params(self) -> dict[str, Json]:
        return super().params() | {"peers": [peer.name for peer in self.peers]}

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        self._check()
        node = resolve(self.node)
        require(node, Exec, for_what="Latency")
        python = python_of(node, for_what="Latency")
        undo = self.undo_record(fault_id, resolve)
        facts = tell(node, python, "look_queueing", _queue(fault_id), answer=QueueFacts, for_what="Latency")
        device = device_of(node, for_what="Latency")
        root = foreign_root(node, device, for_what="Latency") if facts.tc else ""
        way = choose(facts, everything=not self.peers and self.port is None, foreign=root, where=str(node.ref))
        if way == "nfqueue":
            refuse_held(runner(node, for_what="Latency"), fault_id, "filter", where=str(node.ref))
        prior = self._path(node, python, resolve) | {"way": way, "python": python, "device": device}
        undo = msgspec.structs.replace(undo, nodes=(self.node, *self.peers), prior=undo.prior | prior)
        measured = round_trip(undo, resolve)
        if measured is None:
            said = "give peers=, nodes with an open path to it" if not self.peers else "heal first, or give other peers"
            raise EnvironmentFailed("no round trip can be measured", where=str(node.ref), observed=str(prior["to"]), next_step=said)
        undo = msgspec.structs.replace(undo, prior=undo.prior | {"rtt_ms": measured})
        if way == "netem":
            return with_steps(undo, ("shell", delete_script(device, "netem", fault_id)))
        return with_steps(undo, ("shell", removal(fault_id, ("filter",)) + "\n" + _helper.stop_script(fault_id)))

    def _check(self) -> None:
        if not 0 < self.delay_ms <= LONGEST_MS or not 0 <= self.jitter_ms <= self.delay_ms:
            expected = f"delay_ms up to {LONGEST_MS:g}, jitter_ms no more than that"
            raise BadInput("Latency: a number is out of range", expected=expected, observed=f"{self.delay_ms:g}, {self.jitter_ms:g}")
        if self.port is not None:
            checked_port(self.port, "Latency")
            if not self.peers:
                raise BadInput("Latency: only a peer can tell how long a port of the node takes", expected="peers=(another node, …)")

    def _path(self, node: Node, python: str, resolve: Resolve) -> dict[str, Json]:
        """Who measures (an index into the undo's nodes), and what to connect to. Where there are peers the first one measures."""
        if self.peers:
            peer = resolve(self.peers[0])
            return {"by": 1, "by_python": python_of(peer, for_what="Latency"), "to": node.address, "to_port": self.port or DISCARD_PORT}
        for address in tell(node, python, "probe_tcp", "near", answer=Near, for_what="Latency").addresses:
            if tell(node, python, "probe_tcp", "rtt", address, DISCARD_PORT, 1, 1.0, answer=Rtt, for_what="Latency").millis:
                return {"by": 0, "by_python": python, "to": address, "to_port": DISCARD_PORT}
        raise EnvironmentFailed(
            "no neighbour of the node answers, by whom the delay could be measured", where=str(node.ref), next_step="give peers="
        )

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        node = resolve(self.node)
        if undo.prior["way"] == "netem":
            jitter = f" {self.jitter_ms:g}ms" if self.jitter_ms else ""
            handle, device = handle_of(undo.fault_id), undo.prior["device"]
            text = f"tc qdisc add dev {device} root handle {handle} netem limit 100000 delay {self.delay_ms:g}ms{jitter}"
            script(node, text, for_what="Latency")
            return
        number = _queue(undo.fault_id)
        arguments = (number, self.delay_ms, self.jitter_ms, HARD_END_S)
        leave_running(node, undo.fault_id, str(undo.prior["python"]), "delay_queue", *arguments, for_what="Latency")
        port = "" if self.port is None else f" -p tcp -m tcp --dport {self.port}"
        whom = to_whom([resolve(peer).address for peer in self.peers], outward=False)
        rules = [TaggedRule("filter", "I", f"{one}{port} -j NFQUEUE --queue-num {number} --queue-bypass") for one in whom]
        install(runner(node, for_what="Latency"), undo.fault_id, rules, where=str(node.ref))

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """A round trip takes longer, by about the delay."""
        now, before = round_trip(undo, resolve), cast("float", undo.prior["rtt_ms"])
        low = 0.8 * self.delay_ms - 0.5 * self.jitter_ms
        high = 1.5 * self.delay_ms + self.jitter_ms + 50.0
        if now is None or not max(low, 0.1 * self.delay_ms) <= now - before <= high:
            return None
        text = f"a round trip took {before:.2f} ms and takes {now:.2f} ms: {now - before:.2f} ms more, {self.delay_ms:g} ms asked"
        return Proof(now_ns(), f"{text}, by {undo.prior['way']}")

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """No rule, program or queue of ours is left, the node is as before, and a round trip takes what it took."""
        if resolve(undo.nodes[0]).state() != undo.prior["state"]:
            return None
        now, before = round_trip(undo, resolve), cast("float", undo.prior["rtt_ms"])
        if now is None or now - before > cast("float", undo.params["delay_ms"]) / 3:
            return None
        return Proof(now_ns(), f"a round trip takes {now:.2f} ms, as before ({before:.2f} ms), and nothing of ours is left")


def choose(facts: QueueFacts, *, everything: bool, foreign: str, where: str) -> Way:
    """How to delay, from what was found. ``everything``: all packets of the node are meant; ``foreign``: somebody's root qdisc, or "".

    Raises:
        Unavailable: neither way is there.
        EnvironmentFailed: netem is the only one, and somebody else's queueing discipline is in its place.
    """
    by_netem = facts.netem and facts.tc and everything
    if by_netem and not foreign:
        return "netem"
    if facts.queue and facts.iptables:
        return "nfqueue"
    if by_netem:
        raise EnvironmentFailed("a queueing discipline of somebody else's is on the device", where=where, observed=foreign)
    raise Unavailable(
        "Latency needs netem or NFQUEUE, and this node has neither" + ("" if everything else " for some peers or one port only"),
        where=where,
        observed=f"netem: {facts.said.get('netem', '')}; queue: {facts.said.get('queue', '')}; tc: {facts.tc}; iptables: {facts.iptables}",
        next_step=queue_fix(facts),
        capability="iptables" if facts.queue else "nfnetlink_queue",
    )


def queue_fix(facts: QueueFacts) -> str:
    """What makes NFQUEUE work on a node that lacks it."""
    if facts.queue:
        return "apt-get install iptables (on the node)"
    if facts.said.get("queue") == os.strerror(errno.EPERM):
        return "let the node administer its network (docker: --cap-add NET_ADMIN)"
    return "sudo modprobe -a nfnetlink_queue xt_NFQUEUE (on the machine whose kernel this is)"


def round_trip(undo: Undo, resolve: Resolve) -> float | None:
    """Milliseconds, the median of several; None where too few came back."""
    prior = undo.prior
    node = resolve(undo.nodes[cast("int", prior["by"])])
    timeout_s = 1.0 + 2 * (cast("float", undo.params["delay_ms"]) + cast("float", undo.params["jitter_ms"])) / 1e3
    arguments = ("rtt", prior["to"], prior["to_port"], COUNT, timeout_s)
    return tell(node, str(prior["by_python"]), "probe_tcp", *arguments, answer=Rtt, for_what="Latency", timeout_s=120.0).median_ms()


def _queue(fault_id: str) -> int:
    return number_of(fault_id, 1024, 65536)

"""``MonotonicSkew``: programs whose monotonic clock does not go on where that of their predecessors stopped, as after a reboot.

Whoever keeps a reading of that clock on disk, or compares it with another machine's, is found out. The machine's clock is never touched.
"""

from __future__ import annotations

from typing import ClassVar

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput, Unavailable
from chaos.core.model import Proof, Undo
from chaos.environments.base import Exec, Node, StartupClock, require
from chaos.faults._onnode import on_power, script
from chaos.faults._single import OneNode
from chaos.faults.base import Resolve

SMALLEST_S = 2
SPARE_S = 60
"""The kernel lets no clock run below nought, and some of it goes by until a program has started."""


class MonotonicSkew(OneNode, frozen=True):
    """Everything that starts on a node reads CLOCK_MONOTONIC and CLOCK_BOOTTIME ``offset_s`` seconds ahead (negative: behind; whole
    seconds, at least 2), by a time namespace; what runs already goes on as it was. Restart a service meanwhile (``Restart``, ``Kill``
    with a supervisor, ``PowerLoss``) to have it see the jump; after the heal it keeps that clock until it starts anew.

    Needs the capability ``startupclock`` (micro-hosts, Linux 5.6) and ``exec``. Nets: fixture, healer. Landed: a program that is started on
    the node reads an uptime that is so far off. Source: time_namespaces(7).
    """

    offset_s: int

    kind: ClassVar[str] = "monotonic-skew"
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer")

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        node = resolve(self.node)
        clock = _clock(node)
        require(node, Exec, for_what="MonotonicSkew")
        if script(node, "[ -e /proc/self/ns/time_for_children ] || echo none", for_what="MonotonicSkew"):
            raise Unavailable(
                "MonotonicSkew needs time namespaces, which this node's kernel lacks",
                where=str(self.node),
                next_step="Linux 5.6 or newer with CONFIG_TIME_NS",
                capability="startupclock",
            )
        lowest = SPARE_S - int(_uptime_s(node))
        if abs(self.offset_s) < SMALLEST_S or self.offset_s < lowest:
            expected = f"at least {SMALLEST_S} s either way, and no less than {lowest} s (the machine's uptime)"
            raise BadInput("MonotonicSkew: offset_s is out of range", where=str(self.node), expected=expected, observed=str(self.offset_s))
        return self.undo_record(fault_id, resolve, offset_s=clock.clock_offset_s(), ahead_s=_uptime_s(node) - now_ns() / 1e9)

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        node = resolve(self.node)
        _clock(node).offset_clock(int(str(undo.prior["offset_s"])) + self.offset_s)

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """A program that was just started reads an uptime that is so far off."""
        moved_s = _ahead_s(resolve(self.node)) - float(str(undo.prior["ahead_s"]))
        if abs(moved_s - self.offset_s) > 1.0:
            return None
        return Proof(now_ns(), f"a program started on {self.node.name} reads its uptime {moved_s:+.1f} s off")

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        _clock(resolve(undo.nodes[0])).offset_clock(int(str(undo.prior["offset_s"])))

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """The node is as before, and a program that was just started reads the uptime that it would have read then."""
        node = resolve(undo.nodes[0])
        if node.state() != undo.prior["state"] or not on_power(node):
            return None
        moved_s = _ahead_s(node) - float(str(undo.prior["ahead_s"]))
        if abs(moved_s) > 1.0:
            return None
        return Proof(now_ns(), f"a program started on {node.ref.name} reads its uptime as before ({moved_s:+.1f} s)")


def _uptime_s(node: Node) -> float:
    return float(script(node, "cat /proc/uptime", for_what="MonotonicSkew").split()[0])


def _ahead_s(node: Node) -> float:
    """Of our own monotonic clock, which runs as fast."""
    return _uptime_s(node) - now_ns() / 1e9


def _clock(node: Node) -> StartupClock:
    return require(
        node,
        StartupClock,
        for_what="MonotonicSkew",
        because="its programs share their machine's clock",
        next_step="use the embedded environment (--drill-env embedded), or ClockSkew for the wall clock of one program",
    )

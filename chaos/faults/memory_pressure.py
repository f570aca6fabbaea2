"""``MemoryPressure``: a node most of whose memory is taken, short of the line at which the kernel begins to kill (unless that is asked)."""

from __future__ import annotations

from typing import ClassVar

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput, EnvironmentFailed, Unavailable
from chaos.core.model import Proof, Undo
from chaos.environments.base import MemoryLimit, Node, require
from chaos.faults import _helper
from chaos.faults._onnode import needs, on_power, script, with_steps
from chaos.faults._single import OneNode, summary
from chaos.faults.base import Resolve

HARD_END_S = 3600
MIB = 1 << 20
LEAVE_SHARE, LEAVE_BYTES = 0.05, 32 * MIB
OVERHEAD = 1.01  # of what tail keeps: its buffers' own headers
ENOUGH = 0.9
# tail keeps what comes without a line end until its input ends, and that is when the sleep does. If the kernel must kill, then this first.
_TAKE = r"""
[ "$3" = yes ] || echo 1000 > /proc/self/oom_score_adj
{ head -c "$1" /dev/zero; sleep "$2"; } | tail > /dev/null
"""
_KILLS = "cat /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null | sed -n 's/^oom_kill //p' | head -n 1"


class MemoryPressure(OneNode, frozen=True):
    """Takes memory on a node until ``percent`` of its limit are used, or, where ``leave_bytes`` is given, until so many bytes are left.
    The taken memory is given back by itself after an hour.

    At least 5 % or 32 MiB are left, whichever is less, and the program that holds the memory is the kernel's first choice should it have
    to kill; ``allow_oom`` lifts both, and with ``percent=100`` the kernel does kill. Refuses a node without a limit of its own, whose
    memory is its host's. Needs the capabilities ``memorylimit`` and ``exec``; head and tail on the node. Nets: fixture, healer, dead-man.
    """

    percent: int = 80
    leave_bytes: int | None = None
    allow_oom: bool = False

    kind: ClassVar[str] = "memory-pressure"
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer", "dead-man")
    landed_within_s: ClassVar[float] = 30.0

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        node = resolve(self.node)
        memory = _bounded(node)
        needs(node, "head", "tail", "setsid", "grep", "sed", package="coreutils util-linux grep sed", for_what="MemoryPressure")
        limit, used = memory.memory_limit_bytes() or 0, memory.memory_used_bytes()
        target = self._target(limit)
        if target - used < MIB:
            observed = f"{used / MIB:.0f} of {limit / MIB:.0f} MiB used"
            raise EnvironmentFailed("the node uses as much memory already", where=str(self.node), observed=observed)
        kills = script(node, _KILLS, for_what="MemoryPressure").strip()
        undo = self.undo_record(fault_id, resolve, limit=limit, used=used, take=target - used, oom_kills=kills)
        return with_steps(undo, ("shell", _helper.stop_script(fault_id)))

    def _target(self, limit: int) -> int:
        """Bytes in use when the fault is on."""
        if not 1 <= self.percent <= 100 or (self.leave_bytes is not None and not 0 <= self.leave_bytes < limit):
            expected = f"percent 1 to 100, or leave_bytes less than the limit of {limit} bytes"
            raise BadInput("MemoryPressure: out of range", where=str(self.node), expected=expected)
        left = limit * (100 - self.percent) // 100 if self.leave_bytes is None else self.leave_bytes
        least = int(min(limit * LEAVE_SHARE, LEAVE_BYTES))
        if left < least and not self.allow_oom:
            raise BadInput(
                "MemoryPressure would leave so little that the kernel may kill",
                where=str(self.node),
                expected=f"at least {least / MIB:.0f} MiB left",
                observed=f"{left / MIB:.0f} MiB",
                next_step="ask for less, or set allow_oom=True",
            )
        return limit - left

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        limit, before, take = (int(str(undo.prior[key])) for key in ("limit", "used", "take"))
        # To the very limit is beyond it: what the kernel can reclaim of the rest would else make room, this time or the next.
        size = limit if before + take >= limit else int(take / OVERHEAD)
        argv = ("sh", "-c", _TAKE, "sh", str(size), str(HARD_END_S), "yes" if self.allow_oom else "no")
        _helper.start(resolve(self.node), undo.fault_id, argv, for_what="MemoryPressure")

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """The node uses nine tenths of the asked memory more than before; or, where that was allowed, the kernel has killed for it."""
        node = resolve(self.node)
        limit, before, take = (int(str(undo.prior[key])) for key in ("limit", "used", "take"))
        used = _bounded(node).memory_used_bytes()
        if used >= before + take * ENOUGH and _helper.alive(node, undo.fault_id, for_what="MemoryPressure"):
            return Proof(now_ns(), f"{self.node.name} uses {used / MIB:.0f} of {limit / MIB:.0f} MiB; before it was {before / MIB:.0f}")
        if self.allow_oom and script(node, _KILLS, for_what="MemoryPressure").strip() != undo.prior["oom_kills"]:
            return Proof(now_ns(), f"the kernel killed a process of {self.node.name} for want of memory")
        return None

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        node = resolve(undo.nodes[0])
        if on_power(node):
            _helper.stop(node, undo.fault_id, for_what="MemoryPressure")

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """Nobody of ours holds memory there, and the node's state is the one before. What it uses now is told and not judged: its own use
        may have changed meanwhile."""
        node = resolve(undo.nodes[0])
        now, used = node.state(), 0
        if now != undo.prior["state"]:
            return None
        if on_power(node):
            if _helper.alive(node, undo.fault_id, for_what="MemoryPressure"):
                return None
            used = _bounded(node).memory_used_bytes()
        return Proof(now_ns(), f"nothing of ours holds memory on {undo.nodes[0].name}, which uses {used / MIB:.0f} MiB: {summary(now)}")


def _bounded(node: Node) -> MemoryLimit:
    fix = "use a node with one: --drill-env docker, or give the container one (docker run --memory)"
    if not isinstance(node, MemoryLimit) or node.memory_limit_bytes() is None:
        raise Unavailable(
            "MemoryPressure needs a memory limit of the node's own, which this node lacks: filling it would fill its host's",
            where=str(node.ref),
            next_step=fix,
            capability="memorylimit",
        )
    return require(node, MemoryLimit, for_what="MemoryPressure")

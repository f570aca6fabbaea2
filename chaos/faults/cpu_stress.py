"""``CpuStress``: programs that want all the processor time there is, beside those of the node."""

from __future__ import annotations

from typing import ClassVar

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput
from chaos.core.model import Proof, Undo
from chaos.environments.base import Exec, require
from chaos.faults import _helper
from chaos.faults._onnode import needs, on_power, script, with_steps
from chaos.faults._single import OneNode, summary
from chaos.faults.base import Resolve

HARD_END_S = 3600
MOST_WORKERS, LOWEST_NICE = 256, 19
# The kernel itself ends each loop after so many seconds of processor time, whatever has become of us.
_BURN = r"""
ulimit -t "$1"; n=0
while [ $n -lt "$2" ]; do n=$((n + 1)); (while :; do :; done) & done
wait
"""
# Of the pids given: how many live, and the processor time that they use in between two looks, in ticks.
_MEASURE = r"""
look() {
  count=0; ticks=0
  for p in "$@"; do
    { read -r stat < "/proc/$p/stat"; } 2>/dev/null || continue
    set_fields ${stat##*) }
  done
}
set_fields() { count=$((count + 1)); ticks=$((ticks + ${12} + ${13})); }
look "$@"; before=$ticks; sleep 0.1; look "$@"; echo "$count $((ticks - before)) $ticks"
"""


class CpuStress(OneNode, frozen=True):
    """Runs ``workers`` busy loops on a node (0, the default: one per processor that it may use) at the niceness ``nice`` (0 to 19) above
    that of a command run there. Each ends by itself after an hour of processor time.

    On micro-hosts and in containers without a CPU limit, other nodes of the same machine feel it too. Needs the capability ``exec``; nproc
    and nice on the node. Nets: fixture, healer, dead-man.
    """

    workers: int = 0
    nice: int = 0

    kind: ClassVar[str] = "cpu-stress"
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer", "dead-man")

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        if not 0 <= self.workers <= MOST_WORKERS or not 0 <= self.nice <= LOWEST_NICE:
            expected = f"workers 0 to {MOST_WORKERS}, nice 0 to {LOWEST_NICE}"
            raise BadInput("CpuStress: a number is out of range", expected=expected, observed=f"{self.workers}, {self.nice}")
        node = resolve(self.node)
        require(node, Exec, for_what="CpuStress")
        needs(node, "nproc", "nice", "setsid", "grep", package="coreutils util-linux grep", for_what="CpuStress")
        workers = self.workers or int(script(node, "nproc", for_what="CpuStress"))
        return with_steps(self.undo_record(fault_id, resolve, workers=workers), ("shell", _helper.stop_script(fault_id)))

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        argv = ("nice", "-n", str(self.nice), "sh", "-c", _BURN, "sh", str(HARD_END_S), str(undo.prior["workers"]))
        _helper.start(resolve(self.node), undo.fault_id, argv, for_what="CpuStress")

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """All of them live, and their processor time grows."""
        node = resolve(self.node)
        pids = _helper.alive(node, undo.fault_id, for_what="CpuStress")
        workers = int(str(undo.prior["workers"]))
        if len(pids) < workers + 1:  # their parent carries the tag too
            return None
        count, grown, total = map(int, script(node, _MEASURE, *map(str, pids), for_what="CpuStress").split())
        if count < workers + 1 or not grown:
            return None
        return Proof(now_ns(), f"{workers} busy loop(s) on {self.node.name} used {grown} ticks of processor time in 0.1 s, {total} so far")

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        node = resolve(undo.nodes[0])
        if on_power(node):
            _helper.stop(node, undo.fault_id, for_what="CpuStress")

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """None of them is left, and the node's state is the one before."""
        node = resolve(undo.nodes[0])
        now = node.state()
        if now != undo.prior["state"] or (on_power(node) and _helper.alive(node, undo.fault_id, for_what="CpuStress")):
            return None
        return Proof(now_ns(), f"no busy loop is left on {undo.nodes[0].name}: {summary(now)}")

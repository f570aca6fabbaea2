"""``CpuLimit``: a node with less processor time than it had, as on an overcommitted machine or one that its provider throttles."""

from __future__ import annotations

import math
from typing import ClassVar

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput, Unavailable
from chaos.core.model import Proof, Undo
from chaos.environments.base import CpuQuota, Node, require
from chaos.faults._onnode import script
from chaos.faults._single import OneNode
from chaos.faults.base import Resolve

LEAST_CORES = 0.01
# Prints how often the kernel has throttled this cgroup, before and after so many loops have been busy for a moment. cgroup v2, then v1.
_THROTTLED = r"""
for f in /sys/fs/cgroup/cpu.stat /sys/fs/cgroup/cpu/cpu.stat /sys/fs/cgroup/cpu,cpuacct/cpu.stat; do
  grep -qs '^nr_throttled' "$f" && break; f=
done
[ -n "$f" ] || { echo none; exit 0; }
count() { sed -n 's/^nr_throttled //p' "$f"; }
count
n=0; while [ $n -lt "$1" ]; do n=$((n + 1)); timeout 0.25 sh -c 'while :; do :; done' & done; wait
count
"""


class CpuLimit(OneNode, frozen=True):
    """Gives a whole node at most ``cores`` processors (a fraction is usual; at least 0.01), and back what it had before.

    Needs the capability ``cpuquota`` (a cgroup of its own: containers have one, micro-hosts of an ordinary user do not). Nets: fixture,
    healer. Nothing on the node itself can undo it. A container that never had a limit has the quota -1 afterwards, which is none.
    """

    cores: float

    kind: ClassVar[str] = "cpu-limit"
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer")

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        node = resolve(self.node)
        prior = _quota(node).cpu_limit()
        available = float(script(node, "nproc", for_what="CpuLimit"))
        if not LEAST_CORES <= self.cores < min(prior or available, available):
            expected = f"at least {LEAST_CORES:g} and less than it has ({min(prior or available, available):g})"
            raise BadInput("CpuLimit: cores is out of range", where=str(self.node), expected=expected, observed=f"{self.cores:g}")
        if len(script(node, _THROTTLED, "0", for_what="CpuLimit").split()) != 2:
            raise Unavailable(
                "CpuLimit needs cpu.stat of the node's cgroup, which this node lacks",
                where=str(self.node),
                next_step="mount /sys/fs/cgroup on the node (docker does)",
                capability="cpuquota",
            )
        return self.undo_record(fault_id, resolve, cores=prior)

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        _quota(resolve(self.node)).limit_cpu(self.cores)

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """The environment says so, and the kernel throttles programs that ask for more."""
        node = resolve(self.node)
        limit = _quota(node).cpu_limit()
        if limit is None or not math.isclose(limit, self.cores, rel_tol=0.01):
            return None
        before, after = map(int, script(node, _THROTTLED, str(math.ceil(self.cores) + 1), for_what="CpuLimit").split())
        if after <= before:
            return None
        return Proof(now_ns(), f"{self.node.name} has {limit:g} cores; the kernel throttled it {after - before} times in 0.25 s")

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        prior = undo.prior["cores"]
        quota = _quota(resolve(undo.nodes[0]))
        if quota.cpu_limit() != prior:
            quota.limit_cpu(float(prior) if isinstance(prior, int | float) else None)


def _quota(node: Node) -> CpuQuota:
    return require(
        node,
        CpuQuota,
        for_what="CpuLimit",
        because="it has no cgroup of its own",
        next_step="use the docker environment (--drill-env docker), or CpuStress",
    )

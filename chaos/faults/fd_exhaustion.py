"""``FdExhaustion``: a process that cannot open anything more: no file, no connection, no pipe ("too many open files")."""

from __future__ import annotations

from typing import ClassVar, cast

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput, EnvironmentFailed
from chaos.core.model import Json, Proof, Undo
from chaos.environments.base import Exec, require
from chaos.faults._onnode import AS, Found, family, first_found, found, needs, on_power, script, with_steps
from chaos.faults._single import OneNode, summary
from chaos.faults.base import Resolve

# Of each "pid uid gid": the lowest number that no open file has, the least of three looks: what is open for a moment only does not count.
_FREE = (
    AS
    + r"""
look='cd "/proc/$0/fd" || exit 1; n=0; while [ -L "$n" ]; do n=$((n + 1)); done; echo $n'
while [ $# -ge 3 ]; do
  for time in 1 2 3; do as "$2" "$3" sh -c "$look" "$1" 2>/dev/null; done | sort -n | head -n 1 | sed "s/^/$1 /"
  shift 3
done
"""
)
# Of each "pid started uid gid low": the soft limit becomes low where this is still the same process.
_LOWER = (
    AS
    + r"""
while [ $# -ge 5 ]; do
  { read -r stat < "/proc/$1/stat"; } 2>/dev/null || { shift 5; continue; }
  started() { echo "${20}"; }
  [ "$(started ${stat##*) })" != "$2" ] || as "$3" "$4" prlimit --pid "$1" --nofile="$5:" || exit 1
  shift 5
done
"""
)
# Of each "started uid gid low hard prior": every process of that owner that is no older and has exactly these limits gets the prior soft
# one: those that were limited, and what they forked meanwhile. Again until none is left, because a process may fork between look and act.
_RAISE = (
    AS
    + r"""
started() { echo "${20}"; }
raise() {
  for d in /proc/[0-9]*; do
    { read -r stat < "$d/stat"; } 2>/dev/null || continue
    hit=
    while read -r one two three four five _; do
      case "$one $two $three $four $five" in "Max open files $4 $5") hit=1 ;; esac
    done 2>/dev/null < "$d/limits"
    [ -n "$hit" ] && [ "$(started ${stat##*) })" -ge "$1" ] || continue
    while read -r key value _; do [ "$key" != Uid: ] || break; done 2>/dev/null < "$d/status"
    [ "$value" = "$2" ] || continue
    as "$2" "$3" prlimit --pid "${d#/proc/}" --nofile="$6:" 2>/dev/null && again=1
  done
}
while [ $# -ge 6 ]; do
  for round in 1 2 3 4 5; do again=; raise "$1" "$2" "$3" "$4" "$5" "$6"; [ -n "$again" ] || break; done
  shift 6
done
true
"""
)


class FdExhaustion(OneNode, frozen=True):
    """Lowers the soft limit of open files of the first process of a node named ``process`` (as Kill chooses it; with ``family`` also of
    everything that descends from it) to what it has open, by prlimit: the next open, accept or socket fails with EMFILE. The hard limit
    stays, and so does what is open; what it forks meanwhile inherits the limit. Healing raises the soft limits of those that still live
    and of what they forked; a process that was started anew has its own again.

    Needs the capability ``exec``; prlimit on the node, and setpriv where commands run there as another user than the process. poll(2) with
    more entries than the limit fails too. Nets: fixture, healer, dead-man.
    """

    process: str
    family: bool = False

    kind: ClassVar[str] = "fd-exhaustion"
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer", "dead-man")

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        node = resolve(self.node)
        require(node, Exec, for_what="FdExhaustion")
        needs(node, "prlimit", "setpriv", "sort", "head", "sed", package="util-linux coreutils sed", for_what="FdExhaustion")
        running = found(node, for_what="FdExhaustion")
        chosen = first_found(running, self.process)
        if not chosen:
            names = ", ".join(sorted({p.name for p in running})) or "none"
            raise BadInput(f"FdExhaustion: no process named {self.process!r} runs", where=str(self.node), expected=f"one of: {names}")
        victims = family(running, chosen) if self.family else chosen
        free = script(node, _FREE, *(str(n) for p in victims for n in (p.pid, p.uid, p.gid)), for_what="FdExhaustion")
        lowest = {int(pid): int(number) for pid, number in (line.split() for line in free.splitlines())}
        limited: list[Json] = [_record(p, lowest[p.pid]) for p in victims if p.pid in lowest]
        if not limited:
            raise EnvironmentFailed("the open files of the process cannot be counted", where=str(self.node), observed=str(victims[0]))
        self._refuse_foreign(running, limited)
        undo = self.undo_record(fault_id, resolve, limited=limited)
        return with_steps(undo, ("shell", f"set -- {' '.join(_raising(undo))}\n{_RAISE}"))

    def _refuse_foreign(self, running: list[Found], limited: list[Json]) -> None:
        for pid, started, uid, _, low, hard, prior in cast("list[list[int]]", limited):
            if low >= prior or any((p.soft, p.hard, p.uid) == (low, hard, uid) and p.started >= started for p in running):
                raise EnvironmentFailed(
                    "a process of that owner has such a limit of open files already, and not by this fault",
                    where=str(self.node),
                    observed=f"process {pid}: {low} of {prior} open",
                    next_step="raise it first (prlimit --pid … --nofile=…:)",
                )

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        arguments = [str(n) for pid, started, uid, gid, low, _, _ in _limited(undo) for n in (pid, started, uid, gid, low)]
        script(resolve(self.node), _LOWER, *arguments, for_what="FdExhaustion")

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """The kernel holds the limit, and no number below it is free: whatever is opened next is refused."""
        node = resolve(self.node)
        running = {(p.pid, p.started): p for p in found(node, for_what="FdExhaustion")}
        limited = [(running[pid, started], low) for pid, started, _, _, low, _, _ in _limited(undo) if (pid, started) in running]
        if not limited or any(p.soft != low for p, low in limited):
            return None
        free = script(node, _FREE, *(str(n) for p, _ in limited for n in (p.pid, p.uid, p.gid)), for_what="FdExhaustion")
        lowest = {int(pid): int(number) for pid, number in (line.split() for line in free.splitlines())}
        if any(lowest.get(p.pid, 0) < low for p, low in limited):
            return None
        first, low = limited[0]
        return Proof(now_ns(), f"{len(limited)} process(es), {first.name} first, may not have a file number of {low} or more; none is free")

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        node = resolve(undo.nodes[0])
        if on_power(node):
            script(node, _RAISE, *_raising(undo), for_what="FdExhaustion")

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """Those that still live have the soft limit of before, nobody has ours, and the node's state is the one before."""
        node = resolve(undo.nodes[0])
        now = node.state()
        if now != undo.prior["state"]:
            return None
        running = found(node, for_what="FdExhaustion") if on_power(node) else []
        living = 0
        for pid, started, uid, _, low, hard, prior in _limited(undo):
            same = [p for p in running if (p.pid, p.started) == (pid, started) and p.state != "Z"]
            ours = [p for p in running if (p.soft, p.hard, p.uid) == (low, hard, uid) and p.started >= started and p.state != "Z"]
            if ours or any(p.soft != prior for p in same):
                return None
            living += len(same)
        return Proof(now_ns(), f"{living} process(es) on {undo.nodes[0].name} may open as many files as before: {summary(now)}")


def _record(process: Found, low: int) -> Json:
    return [process.pid, process.started, process.uid, process.gid, low, process.hard, process.soft]


def _limited(undo: Undo) -> list[list[int]]:
    """pid, start time, uid, gid, the lowered limit, the hard one, the prior soft one."""
    return cast("list[list[int]]", undo.prior["limited"])


def _raising(undo: Undo) -> list[str]:
    return [str(n) for _, started, uid, gid, low, hard, prior in _limited(undo) for n in (started, uid, gid, low, hard, prior)]

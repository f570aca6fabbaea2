"""What faults on the system calls of a process share: strace beside it, which delays calls or lets them fail. No fault of its own.

strace holds the named process, everything that descends from it and what they start later. It runs as the owner of the process, so that
no capability is needed where the kernel lets one trace one's own (a container); it carries the fault's tag, and so does the
shell that reads what it says. It is ended by SIGTERM, on which it lets go of what it holds, and then by SIGKILL, on which the kernel does.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import ClassVar, cast

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput, EnvironmentFailed, Unavailable
from chaos.core.model import Json, Proof, Undo
from chaos.environments.base import Exec, Node, require
from chaos.faults import _helper, _onnode
from chaos.faults._disk import HealedByScript, execute, restart_services, tag_of
from chaos.faults.base import Resolve

LOG_LINES = 200
_CALL = re.compile(r"[a-z][a-z0-9_]*")
_FIND = "grep -lszxF '{variable}={tag}' /proc/[0-9]*/environ | cut -d/ -f3"
_LOG = "/dev/shm/.gameday-{tag}"
# On a program of its own that is not strace's child: a kernel that lets one trace one's children only refuses here too.
_TRIAL = """
sleep 10 & it=$!
strace -f "$@" -p $it 2>&1 & tracer=$!
n=0; seen=
while [ $n -lt 100 ] && kill -0 $tracer 2>/dev/null; do
  grep -q '^TracerPid:[[:space:]]*[1-9]' /proc/$it/status 2>/dev/null && { seen=yes; break; }
  n=$((n + 1)); sleep 0.02
done
kill -9 $it 2>/dev/null; wait $tracer; [ "$seen" = yes ]
"""
_TRIED = '{as_}\nas {uid} {gid} sh -c {trial} sh "$@"\n'
# The reader belongs to the administrator and keeps the first lines only. The tracer ends with the shell that waits here.
_TRACE = """
uid=$1 gid=$2 log=$3 lines=$4; shift 4
{ if [ "$(id -u)" = "$uid" ]; then exec setpriv --pdeathsig KILL strace "$@"
  else exec setpriv --reuid "$uid" --regid "$gid" --clear-groups --pdeathsig KILL strace "$@"; fi; } 2>&1 |
{ n=0; while [ $n -lt "$lines" ] && IFS= read -r line; do echo "$line" >> "$log"; n=$((n + 1)); done; cat > /dev/null; }
"""
_LET_GO = """
for p in $({find}); do [ "$(cat /proc/$p/comm 2>/dev/null)" = strace ] && kill -TERM $p 2>/dev/null; done
n=0; while [ $n -lt 100 ]; do
  left=; for p in $({find}); do [ "$(cat /proc/$p/comm 2>/dev/null)" = strace ] && left=yes; done
  [ "$left" ] || break
  n=$((n + 1)); sleep 0.02
done
{kill}
"""
_TRACED = """
for p; do echo "$p $(grep -s '^TracerPid:' /proc/$p/status | cut -f 2)"; done
"""


class TracedProcess(HealedByScript, frozen=True):
    """Base of faults on the first process of a node named ``process`` and its descendants (for ``postgres`` that is the postmaster and all
    that it has forked)."""

    process: str

    landed_within_s: ClassVar[float] = 20.0
    marked: ClassVar[str]

    def expression(self) -> str:
        """What follows strace's ``-e inject=``."""
        raise NotImplementedError

    def traced_calls(self) -> tuple[str, ...]:
        raise NotImplementedError

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        node, what = resolve(self.node), type(self).__name__
        require(node, Exec, for_what=what)
        if not self.traced_calls() or not all(_CALL.fullmatch(call) for call in self.traced_calls()):
            raise BadInput(f"{what}: calls must name system calls", where=str(self.node), observed=", ".join(self.traced_calls()))
        _onnode.needs(node, "strace", package="strace", for_what=what)
        _onnode.needs(node, "setpriv", package="util-linux", for_what=what)
        first = self._first(node)
        held = [pid for pid, tracer in traced_by(node, [p.pid for p in first]).items() if tracer]
        if held or any(p.state in "Tt" for p in first):
            raise EnvironmentFailed(f"{self.process} is stopped or traced already, and not by this fault", where=str(self.node))
        self._try(node, first[0])
        log = _LOG.format(tag=tag_of(fault_id))
        victims: list[Json] = [[p.pid, p.started] for p in first]
        return self.record(fault_id, node, resolve, victims=victims, uid=first[0].uid, gid=first[0].gid, log=log)

    def _first(self, node: Node) -> list[_onnode.Found]:
        running = _onnode.found(node, for_what=type(self).__name__)
        first = _onnode.first_found(running, self.process)
        if not first:
            names = ", ".join(sorted({p.name for p in running})) or "none"
            raise BadInput(
                f"{type(self).__name__}: no process named {self.process!r} runs", where=str(self.node), expected=f"one of: {names}"
            )
        return first

    def _arguments(self) -> list[str]:
        return ["-e", f"trace={','.join(self.traced_calls())}", "-e", f"inject={self.expression()}"]

    def _try(self, node: Node, victim: _onnode.Found) -> None:
        """Would it work? Tried, as that user, on a program of our own."""
        script = _TRIED.format(as_=_onnode.AS, uid=victim.uid, gid=victim.gid, trial=shlex.quote(_TRIAL))
        done = execute(node, script, *self._arguments(), what=self.kind, timeout_s=30.0)
        said = (done.out + done.err).strip()[-300:]
        if "invalid" in said and done.code != 0:
            raise BadInput(f"{type(self).__name__}: strace does not take this", where=str(self.node), observed=said)
        if done.code != 0:
            raise Unavailable(
                f"{type(self).__name__} needs to trace processes, which this node does not let it",
                where=str(self.node),
                observed=said,
                next_step="give the container CAP_SYS_PTRACE (cap_add SYS_PTRACE, and seccomp=unconfined before kernel 4.8), "
                "or on its host: sysctl -w kernel.yama.ptrace_scope=0",
                capability="ptrace",
            )

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        node, prior = resolve(self.node), undo.prior
        running = _onnode.found(node, for_what=self.kind)
        family = _onnode.family(running, [p for p in running if [p.pid, p.started] in victims_of(undo)])
        if not family:
            raise EnvironmentFailed(f"{self.process} has ended since it was looked at", where=str(self.node))
        pids = [word for p in family for word in ("-p", str(p.pid))]
        arguments = [str(prior["uid"]), str(prior["gid"]), str(prior["log"]), str(LOG_LINES), "-f", *self._arguments(), *pids]
        _helper.start(node, tag_of(undo.fault_id), ["env", "LC_ALL=C", "sh", "-c", _TRACE, "sh", *arguments], for_what=self.kind)

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """The kernel names a tracer of the process, and strace has reported a call that it changed."""
        node = resolve(self.node)
        held = traced_by(node, [pid for pid, _ in victims_of(undo)])
        if not held or not all(held.values()):
            return None
        script = 'grep -s -F "$2" "$1" | tail -n 1'
        seen = execute(node, script, str(undo.prior["log"]), self.marked, what=self.kind, timeout_s=30.0).out.strip()
        if not seen:
            return None
        return Proof(now_ns(), f"{self.process} (pid {', '.join(map(str, held))}) on {self.node.name} is traced; changed: {seen}")

    @classmethod
    def undo_script(cls, undo: Undo) -> str:
        """As the owner of the process first, because nobody else may see whose program strace is; then the shell beside it."""
        tag = tag_of(undo.fault_id)
        let_go = _LET_GO.format(find=_FIND.format(variable=_helper.VARIABLE, tag=tag), kill=_helper.stop_script(tag))
        as_owner = f"as {undo.prior['uid']} {undo.prior['gid']} sh -c {shlex.quote(let_go)}"
        return f"{_onnode.AS}\n{as_owner}\n{let_go}\nrm -f -- {shlex.quote(str(undo.prior['log']))}"

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """Nobody traces a process of that name or a descendant, none of them is stopped, one runs, and the node is as before."""
        node, name = resolve(undo.nodes[0]), str(undo.params["process"])
        running = _onnode.found(node, for_what=cls.kind)
        family = _onnode.family(running, _onnode.first_found(running, name))
        stopped = [p for p in family if p.state in "Tt"]
        if not family or stopped or any(traced_by(node, [p.pid for p in family]).values()):
            restart_services(undo, resolve)
            return None
        rest = super().healed(undo, resolve)
        return None if rest is None else Proof(rest.observed_ns, f"{name} runs and nobody traces it; {rest.text}")


def victims_of(undo: Undo) -> list[list[int]]:
    """Pid and start time of each, as the node sees them."""
    return cast("list[list[int]]", undo.prior["victims"])


def traced_by(node: Node, pids: Sequence[int]) -> dict[int, int]:
    """Pid -> pid of its tracer, 0 for none, for those that are there."""
    out = execute(node, _TRACED, *map(str, pids), what="tracing", timeout_s=30.0).out
    pairs = [line.split() for line in out.splitlines()]
    return {int(pair[0]): int(pair[1]) for pair in pairs if len(pair) == 2}

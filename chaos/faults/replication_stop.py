"""``ReplicationStop``: a replica that receives nothing any more while everything else of it runs, and its primary goes on unaware."""

from __future__ import annotations

import shlex
import signal
from typing import ClassVar, cast

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput, EnvironmentFailed
from chaos.core.model import Json, Proof, Undo
from chaos.environments.base import Process, Processes, require
from chaos.faults._onnode import with_steps
from chaos.faults._single import OneNode, summary
from chaos.faults.base import Resolve

WALRECEIVER, WALWRITER = "walreceiver", "walwriter"
# Of each start time given behind the text: SIGCONT to the stopped process of that age whose command line has it. Start times are the same
# whoever numbers the processes.
_RESUME = r"""
text=$1; shift; started() { echo "${20}"; }
for d in /proc/[0-9]*; do
  { read -r stat < "$d/stat"; } 2>/dev/null || continue
  case " $* " in *" $(started ${stat##*) }) "*) tr '\0' ' ' < "$d/cmdline" | grep -qF "$text" && kill -CONT "${d#/proc/}" ;; esac
done 2>/dev/null
true
"""


class ReplicationStop(OneNode, frozen=True):
    """Stops (SIGSTOP) the WAL receiver of a PostgreSQL replica: the processes of the node whose command line has ``receiver`` in it
    ("walreceiver"; "logical replication" for a subscriber's workers). What the primary sends stays in the sockets' buffers and then with
    the primary. Healing resumes them (SIGCONT); one that has ended meanwhile is replaced by PostgreSQL itself.

    While it lasts the replica can neither be promoted nor shut down in the orderly way: both wait for the receiver. A synchronous primary
    acknowledges nothing. When ``wal_sender_timeout`` (60 s by default) runs out the primary drops the connection; the resumed receiver
    notices, ends, and the next one starts within ``wal_retrieve_retry_interval`` (5 s). A primary without a slot may have recycled what the
    replica then asks for (``wal_keep_size``). Needs the capability ``processes``. Nets: fixture, healer, dead-man.
    """

    receiver: str = WALRECEIVER

    kind: ClassVar[str] = "replication-stop"
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer", "dead-man")

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        running = require(resolve(self.node), Processes, for_what="ReplicationStop").processes()
        receivers = _receivers(running, self.receiver)
        if not receivers:
            names = ", ".join(sorted({p.name for p in running})) or "none"
            raise BadInput(
                f"ReplicationStop: no process with {self.receiver!r} in its command line runs",
                where=str(self.node),
                expected="a replica that streams",
                observed=f"processes: {names}",
            )
        if any(p.state in "Tt" for p in receivers):
            raise EnvironmentFailed("the receiver is stopped already, and not by this fault", where=str(self.node), next_step="resume it")
        stopped: list[Json] = [[p.pid, p.started] for p in receivers]
        undo = self.undo_record(fault_id, resolve, receivers=stopped)
        words = shlex.join([self.receiver, *(str(p.started) for p in receivers)])
        return with_steps(undo, ("shell", f"set -- {words}\n{_RESUME}"))

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        node = require(resolve(self.node), Processes, for_what="ReplicationStop")
        for process in _recorded(undo, node.processes()):
            node.signal(process, signal.SIGSTOP)

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """The kernel says that they are stopped, and no other receiver runs."""
        running = require(resolve(self.node), Processes, for_what="ReplicationStop").processes()
        stopped = [p for p in _recorded(undo, running) if p.state == "T"]
        if not stopped or any(p.state != "T" for p in _receivers(running, self.receiver)):
            return None
        pids = ", ".join(str(p.pid) for p in stopped)
        return Proof(now_ns(), f"{self.receiver} (pid {pids}) on {self.node.name} is stopped; no other runs")

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        node = require(resolve(undo.nodes[0]), Processes, for_what="ReplicationStop")
        for process in _recorded(undo, node.processes()):
            if process.state == "T":
                node.signal(process, signal.SIGCONT)

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """A receiver runs and none is stopped (or the node has been promoted meanwhile, and writes WAL of its own); its state is the one
        before."""
        node = resolve(undo.nodes[0])
        now = node.state()
        if now != undo.prior["state"]:
            return None
        running = require(node, Processes, for_what="ReplicationStop").processes()
        word = str(undo.params["receiver"])
        receivers = _receivers(running, word)
        if any(p.state in "Tt" for p in receivers):
            return None
        if receivers:
            return Proof(now_ns(), f"{word} (pid {receivers[0].pid}) on {undo.nodes[0].name} runs: {summary(now)}")
        if word == WALRECEIVER and _receivers(running, WALWRITER):
            return Proof(now_ns(), f"{undo.nodes[0].name} has been promoted, and has nothing to receive: {summary(now)}")
        return None


def _receivers(processes: list[Process], word: str) -> list[Process]:
    return [p for p in processes if word in " ".join(p.cmdline) and p.state not in "ZX"]


def _recorded(undo: Undo, processes: list[Process]) -> list[Process]:
    """Those of the undo record that still live, in whatever state."""
    known = {(pid, started) for pid, started in cast("list[tuple[int, int]]", undo.prior["receivers"])}
    return [p for p in processes if (p.pid, p.started) in known]

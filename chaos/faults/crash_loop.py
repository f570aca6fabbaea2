"""``CrashLoop``: a program that dies again each time it comes back, as one does that cannot bear its own data or configuration."""

from __future__ import annotations

import time
from typing import ClassVar, cast

from chaos.core.clock import NS, now_ns
from chaos.core.errors import BadInput
from chaos.core.model import Json, Proof, Undo
from chaos.environments.base import Node, Process, Processes, Services, require
from chaos.faults import _helper
from chaos.faults._onnode import needs, on_power, script, with_steps
from chaos.faults._single import OneNode, summary
from chaos.faults.base import Resolve
from chaos.faults.kill import SETTLE_S, first_of_name
from chaos.faults.stop import start_again

LONGEST_S = 10.0
HARD_END_S = 3600
STAYS_DEAD_S = 1.0
# $1 this text, $2 the name, $3 seconds between kills, $4 uptime at which it gives up, $5 deaths so far, $6 uptime of the last one. Each
# death replaces the program by itself with a higher $5: the count can be read from its command line, and there is no file to clean up.
# Programs that carry any fault's tag are ours and are spared.
_LOOP = r"""
comm_of() { { read -r comm < "/proc/$1/comm"; } 2>/dev/null || comm=; }
while :; do
  read -r up _ < /proc/uptime
  [ "${up%.*}" -lt "$4" ] || exit 0
  died=
  for d in /proc/[0-9]*; do
    p=${d#/proc/}; comm_of "$p"; [ "$comm" = "$2" ] || continue
    { read -r stat < "$d/stat"; } 2>/dev/null || continue
    rest=${stat##*) }; [ "${rest%% *}" != Z ] || continue
    rest=${rest#* }; comm_of "${rest%% *}"; [ "$comm" != "$2" ] || continue
    grep -qsz '^GAMEDAY_FAULT=' "$d/environ" && continue
    kill -9 "$p" 2>/dev/null && died=1
  done
  if [ -n "$died" ]; then sleep "$3"; exec sh -c "$1" sh "$1" "$2" "$3" "$4" "$(($5 + 1))" "$up"; fi
  sleep 0.1
done
"""
_READ = r"""
read -r up _ < /proc/uptime; echo "$up"
for p in "$@"; do tr '\n\0' ' \n' < /proc/$p/cmdline 2>/dev/null | tail -n 2; done
"""


class CrashLoop(OneNode, frozen=True):
    """Kills (SIGKILL) the first process of a node named ``process`` (as Kill does: not its children of that name) each time it comes
    back, at most every ``every_s`` seconds (up to 10), by a program on the node that ends by itself after an hour. Where nobody brings
    the process back it stays dead, as it would. Healing ends that program and starts the services that ran before.

    Needs the capabilities ``processes``, ``services`` and ``exec``, and grep on the node. Nets: fixture, healer, dead-man.
    """

    process: str
    every_s: float = 1.0

    kind: ClassVar[str] = "crash-loop"
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer", "dead-man")
    landed_within_s: ClassVar[float] = 30.0

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        if not 0 < self.every_s <= LONGEST_S:
            raise BadInput(
                "CrashLoop: every_s is out of range", expected=f"more than 0 and at most {LONGEST_S:g}", observed=str(self.every_s)
            )
        node = resolve(self.node)
        services = require(node, Services, for_what="CrashLoop").services()
        running = require(node, Processes, for_what="CrashLoop").processes()
        paths: list[Json] = [p.cmdline[0] if p.cmdline else "" for p in first_of_name(running, self.process)]
        if not paths:
            names = ", ".join(sorted({p.name for p in running})) or "none"
            raise BadInput(f"CrashLoop: no process named {self.process!r} runs", where=str(self.node), expected=f"one of: {names}")
        needs(node, "grep", "tr", "tail", "setsid", package="grep coreutils util-linux", for_what="CrashLoop")
        stopped: list[Json] = [name for name, runs in services.items() if runs]
        undo = self.undo_record(fault_id, resolve, paths=paths, stopped=stopped)
        settled = f"{_helper.stop_script(fault_id)}; sleep 1"  # a service may notice late that what it supervised is gone, and end then
        return with_steps(undo, ("shell", settled), *(("start_service", str(name)) for name in stopped))

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        node = resolve(self.node)
        end = int(float(script(node, "cat /proc/uptime", for_what="CrashLoop").split()[0])) + HARD_END_S
        argv = ("sh", "-c", _LOOP, "sh", _LOOP, self.process, f"{self.every_s:.3f}", str(end), "0", "0")
        _helper.start(node, undo.fault_id, argv, for_what="CrashLoop")

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """The killer runs and has killed twice; or once, and nobody has brought the process back for a second."""
        node = resolve(self.node)
        deaths, quiet_s = _deaths(node, undo)
        if deaths >= 2:
            return Proof(now_ns(), f"{self.process} on {self.node.name} came back and died again: {deaths} deaths so far")
        if deaths == 1 and quiet_s >= self.every_s + STAYS_DEAD_S and not _again(undo, resolve):
            return Proof(now_ns(), f"{self.process} on {self.node.name} died, and nobody has brought it back for {quiet_s:.1f} s")
        return None

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        """End the killer, then start what does not run; for a moment longer than once, because a service may notice late that what it
        supervised is gone, and end then."""
        node = resolve(undo.nodes[0])
        if on_power(node):
            _helper.stop(node, undo.fault_id, for_what="CrashLoop")
        deadline_ns = now_ns() + int(SETTLE_S * NS)
        while now_ns() < deadline_ns:
            start_again(undo, resolve)
            if _again(undo, resolve):
                return
            time.sleep(0.05)
        start_again(undo, resolve)

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """No killer is left, and the node's state is the one before."""
        node = resolve(undo.nodes[0])
        now = node.state()
        if now != undo.prior["state"] or (on_power(node) and _helper.alive(node, undo.fault_id, for_what="CrashLoop")):
            return None
        return Proof(now_ns(), f"nobody kills on {undo.nodes[0].name} any more, and it is as before: {summary(now)}")


def _deaths(node: Node, undo: Undo) -> tuple[int, float]:
    """How often the killer has struck, and how many seconds ago it did last; nothing where there is none."""
    pids = _helper.alive(node, undo.fault_id, for_what="CrashLoop")
    uptime, *words = script(node, _READ, *map(str, pids), for_what="CrashLoop").split("\n")
    pairs = [(int(a), float(b)) for a, b in zip(words[::2], words[1::2], strict=False) if a.isdigit() and b.replace(".", "").isdigit()]
    deaths, last = max(pairs, default=(0, 0.0))
    return deaths, float(uptime.split()[0]) - last


def _again(undo: Undo, resolve: Resolve) -> list[Process]:
    """Living processes of that name that were started by the program path of before."""
    processes = require(resolve(undo.nodes[0]), Processes, for_what="CrashLoop").processes()
    paths = cast("list[str]", undo.prior["paths"])
    return [p for p in first_of_name(processes, str(undo.params["process"])) if p.state != "Z" and "".join(p.cmdline[:1]) in paths]

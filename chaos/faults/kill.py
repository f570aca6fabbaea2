"""``Kill``: a process ended without warning. The node lives on, and its kernel tells the peers at once (connections are reset)."""

from __future__ import annotations

import signal
import time
from typing import ClassVar, cast

from chaos.core.clock import NS, now_ns
from chaos.core.errors import BadInput
from chaos.core.model import Json, Proof, Undo
from chaos.environments.base import Process, Processes, Services, require
from chaos.faults._single import OneNode, with_steps
from chaos.faults.base import Resolve
from chaos.faults.stop import start_again, starts

SETTLE_S = 3.0


class Kill(OneNode, frozen=True):
    """Sends a signal (SIGKILL) to the first process of a node named ``process`` and not to its children of the same name: for
    ``postgres`` that is the postmaster. Healing starts the services that ran before, unless something has done so already.

    Needs the capabilities ``processes`` and ``services``. Nets: fixture, healer, dead-man.
    """

    process: str
    signal_number: int = int(signal.SIGKILL)

    kind: ClassVar[str] = "kill"
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer", "dead-man")

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        node = resolve(self.node)
        services = require(node, Services, for_what="Kill").services()
        running = require(node, Processes, for_what="Kill").processes()
        victims: list[Json] = [[p.pid, p.started, p.cmdline[0] if p.cmdline else ""] for p in first_of_name(running, self.process)]
        if not victims:
            names = ", ".join(sorted({p.name for p in running})) or "none"
            raise BadInput(f"Kill: no process named {self.process!r} runs", where=str(self.node), expected=f"one of: {names}")
        serving = [name for name, runs in services.items() if runs]
        return with_steps(self.undo_record(fault_id, resolve, victims=victims, stopped=[*serving]), *starts(self.node.name, serving))

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        node = require(resolve(self.node), Processes, for_what="Kill")
        victims = _victims(undo)
        for process in node.processes():
            if (process.pid, process.started) in victims:
                node.signal(process, self.signal_number)

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """Exactly those processes are gone (pid and start time: a successor is not mistaken for them)."""
        victims = _victims(undo)
        alive = [
            p
            for p in require(resolve(self.node), Processes, for_what="Kill").processes()
            if (p.pid, p.started) in victims and p.state != "Z"
        ]
        if alive:
            return None
        return Proof(now_ns(), f"{self.process} (pid {', '.join(str(pid) for pid, _ in victims)}) on {self.node.name} is gone")

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        """Start what does not run; for a moment longer than once, because a service may notice late that what it supervised is gone,
        and end then. Where such a process runs again there is nothing left to wait for; where only the service does (a database that
        another fault keeps from joining its cluster), that is as far as this fault's repair goes."""
        deadline_ns = now_ns() + int(SETTLE_S * NS)
        while now_ns() < deadline_ns:
            start_again(undo, resolve)
            if _successors(undo, resolve):
                return
            time.sleep(0.05)
        start_again(undo, resolve)


def first_of_name(processes: list[Process], name: str) -> list[Process]:
    """Those named ``name`` whose parent is not."""
    named = {p.pid for p in processes if p.name == name}
    return [p for p in processes if p.pid in named and p.parent not in named]


def _successors(undo: Undo, resolve: Resolve) -> list[Process]:
    """Processes of that name that were started by the same program path. A dead server's orphans are first of their name too, but they
    were forked, and call themselves something else."""
    processes = require(resolve(undo.nodes[0]), Processes, for_what="Kill").processes()
    paths = {path for _, _, path in cast("list[tuple[int, int, str]]", undo.prior["victims"])}
    again = first_of_name(processes, str(undo.params["process"]))
    victims = _victims(undo)
    return [p for p in again if p.state != "Z" and (p.pid, p.started) not in victims and "".join(p.cmdline[:1]) in paths]


def _victims(undo: Undo) -> list[tuple[int, int]]:
    return [(pid, started) for pid, started, _ in cast("list[tuple[int, int, str]]", undo.prior["victims"])]

"""``Restart``: services ended in the orderly way and started again at once (what ``systemctl restart`` does). The fault is over when its
injection is: what a drill measures is what the restart costs its clients."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar, cast

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput, EnvironmentFailed
from chaos.core.model import Json, Proof, Undo
from chaos.environments.base import Processes, Services, require
from chaos.faults._onnode import strings, with_steps
from chaos.faults._single import OneNode
from chaos.faults.base import Resolve
from chaos.faults.stop import start_again


class Restart(OneNode, frozen=True):
    """Stops one ``service`` of a node, or all of them ("", the default; last first), and starts them again (first first). Healing starts
    what ran before and does not run, which is work only where the restart was interrupted or did not succeed.

    Needs the capabilities ``services`` and ``processes``. Nets: fixture, healer, dead-man (starts the services).
    """

    service: str = ""

    kind: ClassVar[str] = "restart"
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer", "dead-man")
    landed_within_s: ClassVar[float] = 30.0

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        node = resolve(self.node)
        services = require(node, Services, for_what="Restart").services()
        if self.service and self.service not in services:
            raise BadInput(f"no service {self.service!r}", where=str(self.node), expected=f"one of {', '.join(services) or '(none)'}")
        chosen: list[Json] = [name for name, runs in services.items() if runs and self.service in ("", name)]
        if not chosen:
            raise EnvironmentFailed("no service to restart runs", where=str(self.node), observed=str(dict(services)))
        processes: list[Json] = [
            [p.pid, p.started, list[Json](p.cmdline)] for p in require(node, Processes, for_what="Restart").processes()
        ]
        undo = self.undo_record(fault_id, resolve, stopped=chosen, processes=processes)
        return with_steps(undo, *(("start_service", str(name)) for name in chosen))

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        services = require(resolve(self.node), Services, for_what="Restart")
        names = strings(undo.prior["stopped"])
        for name in reversed(names):
            services.stop_service(name)
        for name in names:
            services.start_service(name)

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """All of them run, and at least as many processes are gone that have a successor of the same command line under another pid or
        start time."""
        node = resolve(self.node)
        now = require(node, Services, for_what="Restart").services()
        names = strings(undo.prior["stopped"])
        if not all(now.get(name) for name in names):
            return None
        running = {(p.pid, p.started): p.cmdline for p in require(node, Processes, for_what="Restart").processes() if p.state != "Z"}
        before = {(pid, started): tuple(argv) for pid, started, argv in cast("list[tuple[int, int, list[str]]]", undo.prior["processes"])}
        gone = Counter(argv for key, argv in before.items() if key not in running)
        new = Counter(argv for key, argv in running.items() if key not in before)
        again = (gone & new).total()
        if again < len(names):
            return None
        return Proof(now_ns(), f"{', '.join(names)} on {self.node.name} run again; {again} process(es) have a successor")

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        start_again(undo, resolve)

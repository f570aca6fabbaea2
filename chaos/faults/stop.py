"""``Stop``: services ended in the orderly way (what ``systemctl stop`` does): a server says goodbye to its clients and peers."""

from __future__ import annotations

from typing import ClassVar

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput, EnvironmentFailed
from chaos.core.model import Json, Proof, Undo
from chaos.environments.base import Services, require
from chaos.faults._single import OneNode
from chaos.faults.base import Resolve


class Stop(OneNode, frozen=True):
    """Stops one ``service`` of a node, or all of them ("" , the default); healing starts those that ran before.

    Needs the capability ``services``. Nets: fixture.
    """

    service: str = ""

    kind: ClassVar[str] = "stop"

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        services = require(resolve(self.node), Services, for_what="Stop").services()
        stopped: list[Json] = [name for name in self._chosen(list(services)) if services[name]]
        if self.service and self.service not in services:
            raise BadInput(f"no service {self.service!r}", where=str(self.node), expected=f"one of {', '.join(services) or '(none)'}")
        if not stopped:
            raise EnvironmentFailed("no service to stop runs", where=str(self.node), observed=str(dict(services)))
        return self.undo_record(fault_id, resolve, stopped=stopped)

    def _chosen(self, names: list[str]) -> list[str]:
        return [name for name in names if self.service in ("", name)]

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        services = require(resolve(self.node), Services, for_what="Stop")
        for name in _names(undo):
            if services.services()[name]:  # stopping a supervisor may have stopped it too
                services.stop_service(name)

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """None of them runs; and at least one did before."""
        now = require(resolve(self.node), Services, for_what="Stop").services()
        names = _names(undo)
        if not names or any(now[name] for name in names):
            return None
        return Proof(now_ns(), f"{', '.join(names)} on {self.node.name} ran and does not run any more")

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        start_again(undo, resolve)


def start_again(undo: Undo, resolve: Resolve) -> None:
    """Start every service that ``undo`` says ran before and that does not run now."""
    services = require(resolve(undo.nodes[0]), Services, for_what=undo.kind)
    for name in _names(undo):
        if not services.services()[name]:
            services.start_service(name)


def _names(undo: Undo) -> list[str]:
    names = undo.prior["stopped"]
    return [str(name) for name in names] if isinstance(names, list) else []

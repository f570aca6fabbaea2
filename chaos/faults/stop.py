"""``Stop``: services ended in the orderly way (what ``systemctl stop`` does): a server says goodbye to its clients and peers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from chaos.core.clock import NS, now_ns
from chaos.core.errors import BadInput, EnvironmentFailed
from chaos.core.model import Proof, Step, Undo
from chaos.environments.base import Services, require
from chaos.faults._single import OneNode, with_steps
from chaos.faults.base import Resolve

SETTLE_S = 1.5


class Stop(OneNode, frozen=True):
    """Stops one ``service`` of a node, or all of them ("" , the default); healing starts those that ran before.

    Needs the capability ``services``. Nets: fixture, healer, dead-man.
    """

    service: str = ""

    kind: ClassVar[str] = "stop"
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer", "dead-man")

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        services = require(resolve(self.node), Services, for_what="Stop").services()
        stopped = [name for name in self._chosen(list(services)) if services[name]]
        if self.service and self.service not in services:
            raise BadInput(f"no service {self.service!r}", where=str(self.node), expected=f"one of {', '.join(services) or '(none)'}")
        if not stopped:
            raise EnvironmentFailed("no service to stop runs", where=str(self.node), observed=str(dict(services)))
        return with_steps(self.undo_record(fault_id, resolve, stopped=[*stopped]), *starts(self.node.name, stopped))

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
        """Start what does not run. Where everything runs it may have been told to stop by somebody who is no more, and end in a moment:
        that moment is waited for."""
        deadline_ns = now_ns() + int(SETTLE_S * NS)
        while not start_again(undo, resolve) and now_ns() < deadline_ns:
            time.sleep(0.05)


def starts(node: str, services: Sequence[str]) -> tuple[Step, ...]:
    """What a dead-man's switch does to have ``services`` run again."""
    return tuple(Step(node, "start_service", name) for name in services)


def start_again(undo: Undo, resolve: Resolve) -> bool:
    """Start every service that ``undo`` says ran before and that does not run now. Was there any?"""
    services = require(resolve(undo.nodes[0]), Services, for_what=undo.kind)
    gone = [name for name in _names(undo) if not services.services()[name]]
    for name in gone:
        services.start_service(name)
    return bool(gone)


def _names(undo: Undo) -> list[str]:
    names = undo.prior["stopped"]
    return [str(name) for name in names] if isinstance(names, list) else []

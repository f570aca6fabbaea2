"""Stopping at a moment of a fault's life, so that somebody else can end this process there: told and released through files.

The process that stops writes a line to ``said.jsonl`` and waits for the file ``go-<number of the stop>``; who watches it (``wreck``) reads
lines and makes files. It judges nothing.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from chaos.core.errors import BadInput
from chaos.core.model import Json, NodeRef, Undo
from chaos.engine.injection import MOMENTS
from chaos.faults.base import Fault, Resolve
from chaos.testing.tools import Watching, respied

SAID, GO = "said.jsonl", "go-{number}"
TEARDOWN, DONE, STARTED, FAILED, UNAVAILABLE = "teardown", "done", "started", "failed", "unavailable"
STOPS = (*MOMENTS, TEARDOWN)
LONGEST_S = 120.0
_POLL_S = 0.003


class Attached(msgspec.Struct, frozen=True):
    """A place that somebody else has opened, as data: how its provider reaches the nodes from another process."""

    kind: str
    settings: dict[str, Json]
    refs: tuple[NodeRef, NodeRef, NodeRef]


class Spec(msgspec.Struct, frozen=True):
    """What a victim is to do: which fault, where, and at which moments it stops (in this order, once each).

    ``state`` is a directory of its own: journals in ``journal/``, ``said.jsonl``, and whatever the place needs. ``attached``: the place is
    there already and outlives the victim. ``cycles``: inject and heal again and again, this many times.
    """

    catalogue: str
    place: str
    kind: str
    example: str
    state: str
    stops: tuple[str, ...] = ()
    attached: Attached | None = None
    cycles: int = 1


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of ``said.jsonl``: a moment at which ``pid`` stands still, or ``started``, ``done``, ``failed`` or
    ``unavailable`` (with ``text``, and the ``capability`` that is missing). ``healer`` is the pid of its healer."""

    moment: str
    pid: int
    healer: int = 0
    text: str = ""
    capability: str = ""


def heard(state: Path) -> list[Line]:
    """Every whole line that was said so far."""
    try:
        content = (state / SAID).read_bytes()
    except FileNotFoundError:
        return []
    return [msgspec.json.decode(line, type=Line) for line in content[: content.rfind(b"\n") + 1].splitlines()]


class Stops:
    """The side of the process that stops. ``at`` is for :class:`~chaos.engine.injection.InjectedFault`, and so is the fault that
    :meth:`spied` makes: it also stops within its own calls, right after the first changing one had its effect."""

    def __init__(self, spec: Spec) -> None:
        if unknown := set(spec.stops) - set(STOPS):
            raise BadInput(f"there is no moment {min(unknown)!r}", expected=f"one of {', '.join(STOPS)}")
        self._state, self._left = Path(spec.state), list(spec.stops)
        self._count = 0
        self.healer = 0

    def at(self, moment: str) -> None:
        """Passing ``moment``: stop there, where that is what comes next."""
        self._pass(moment)

    def spied(self, fault: Fault) -> Fault:
        """The same fault, whose nodes' changing calls are watched while it is injected and while it is healed."""
        stops, kind = self, type(fault)

        def inject(_: Fault, undo: Undo, resolve: Resolve) -> None:
            fault.inject(undo, stops._watched("mid-inject", resolve))

        def heal(_: type[Fault], undo: Undo, resolve: Resolve) -> None:
            kind.heal(undo, stops._watched("mid-heal", resolve))

        return respied(fault, inject=inject, heal=classmethod(heal))

    def _watched(self, moment: str, resolve: Resolve) -> Resolve:
        calls = itertools.count(1)

        def reached() -> None:
            if next(calls) == 2:
                self._pass(moment)

        return Watching(resolve, reached)

    def _pass(self, moment: str) -> None:
        if not self._left or self._left[0] != moment:
            return
        del self._left[0]
        self._count += 1
        self.say(moment)
        self._wait(self._state / GO.format(number=self._count))

    def say(self, moment: str, text: str = "", capability: str = "") -> None:
        """One line, whole."""
        line = msgspec.json.encode(Line(moment, os.getpid(), self.healer, text, capability)) + b"\n"
        descriptor = os.open(self._state / SAID, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def _wait(self, go: Path) -> None:
        """In short naps, so that a signal is handled at once. An end, in case nobody watches any more."""
        deadline = time.monotonic() + LONGEST_S
        while not go.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody made {go}")
            time.sleep(_POLL_S)


def release(state: Path, number: int) -> None:
    """Let the process go on that stands still for the ``number``-th time (from 1)."""
    (state / GO.format(number=number)).touch()


def plain(settings: Mapping[str, Json]) -> dict[str, Json]:
    """Settings as they would come back from JSON."""
    return msgspec.json.decode(msgspec.json.encode(settings), type=dict[str, Json])

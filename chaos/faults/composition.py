"""Several faults as one: together, one after the other, again and again. Data only; the drill carries it out.

A composition has no record and no undo of its own: each of its faults is journalled, proven and healed by itself, under its own id.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeAlias, runtime_checkable

import msgspec

from chaos.core.durations import parse_duration_s
from chaos.core.errors import BadInput
from chaos.faults.base import Fault

Part: TypeAlias = "Fault | Composition"


class Stage(msgspec.Struct, frozen=True):
    """``parts`` are injected in this order and all on at once; healed newest first after ``hold_s`` seconds (None: with the composition);
    then ``pause_s`` seconds without them."""

    parts: tuple[Part, ...]
    hold_s: float | None = None
    pause_s: float = 0.0


@runtime_checkable
class Composition(Protocol):
    """What :meth:`chaos.Drill.inject` takes beside a fault. The last stage lasts as long as the ``with`` block."""

    def stages(self) -> Iterator[Stage]: ...


class Together:
    """All of ``parts`` at once, healed newest first."""

    def __init__(self, *parts: Part) -> None:
        if not parts:
            raise BadInput("Together needs at least one fault")
        self.parts = parts

    def stages(self) -> Iterator[Stage]:
        yield Stage(self.parts)


class Sequence:
    """One after the other: each but the last is on for ``hold`` and is healed before the next; the last stays for the ``with`` block."""

    def __init__(self, *parts: Part, hold: str | float, pause: str | float = 0) -> None:
        if not parts:
            raise BadInput("Sequence needs at least one fault")
        self.parts, self.hold_s, self.pause_s = parts, _positive(hold, "hold"), parse_duration_s(pause, what="pause")

    def stages(self) -> Iterator[Stage]:
        for part in self.parts[:-1]:
            yield Stage((part,), self.hold_s, self.pause_s)
        yield Stage(self.parts[-1:])


class Repeat:
    """The same fault ``times`` times, one injection ``every`` so often, each but the last on for ``hold`` (default: half of ``every``); the
    last stays for the ``with`` block. Where healing takes longer than what is left of ``every``, the next comes right after it."""

    def __init__(self, part: Part, *, every: str | float, times: int, hold: str | float | None = None) -> None:
        every_s = _positive(every, "every")
        hold_s = every_s / 2 if hold is None else _positive(hold, "hold")
        if times < 1 or hold_s >= every_s:
            raise BadInput("Repeat does not fit", expected="times of at least 1, and hold shorter than every", observed=f"times={times}")
        self.part, self.every_s, self.times, self.hold_s = part, every_s, times, hold_s

    def stages(self) -> Iterator[Stage]:
        for _ in range(self.times - 1):
            yield Stage((self.part,), self.hold_s, self.every_s - self.hold_s)
        yield Stage((self.part,))


def faults_of(part: Part) -> Iterator[Fault]:
    """Every fault in it, in the order of injection (one that is repeated, as often)."""
    if isinstance(part, Composition):
        for stage in part.stages():
            for inner in stage.parts:
                yield from faults_of(inner)
    else:
        yield part


def _positive(value: str | float, name: str) -> float:
    span_s = parse_duration_s(value, what=name)
    if not span_s > 0:
        raise BadInput(f"{name} must be more than 0", observed=str(value))
    return span_s

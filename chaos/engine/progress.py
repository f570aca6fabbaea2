"""What a running drill tells whoever watches (a terminal): plain data, a few times a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec


class WorkloadProgress(msgspec.Struct, frozen=True):
    """Over the last second: good and bad operations per second; and over the whole drill."""

    name: str
    good_per_s: float
    bad_per_s: float
    good: int
    bad: int


class Progress(msgspec.Struct, frozen=True):
    """One frame. ``phase`` is what the drill does now (``control window``, ``power-loss on pg1``, ``healing`` …), ``elapsed_s`` since the
    drill's start, ``since_fault_s`` None before the first fault. ``message`` is a line worth keeping (state changes), else ""."""

    drill: str
    phase: str
    elapsed_s: float
    since_fault_s: float | None
    workloads: tuple[WorkloadProgress, ...]
    message: str = ""


Watch: TypeAlias = Callable[[Progress], None]
"""Must return at once and never raise."""

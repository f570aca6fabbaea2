"""Repeats of one drill that stop at the first verdict sought (``until=``), agreed between processes through a file.

Each repeat is a test item of its own, so it has its own report, seed and place on an xdist worker. A series *seeks* a verdict: a
repeat that starts after it was found is skipped, and the last repeat of a series that never found it fails.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec


@dataclass(frozen=True)
class Series:
    """The repeats of one drill in one environment that this run selected: ``key`` names them, ``size`` counts them."""

    key: str
    size: int
    until: str


class Repeat(msgspec.Struct, frozen=True):
    """How one repeat ended. ``sought`` says whether it is what the series looks for."""

    number: int
    verdict: str
    sought: bool


def read(path: Path) -> list[Repeat]:
    """What is known of the series; empty where nothing has ended."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return []
    return [msgspec.json.decode(line, type=Repeat) for line in text.splitlines()]


def add(path: Path, repeat: Repeat) -> list[Repeat]:
    """Append one repeat and return all, this one included. Safe among processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, msgspec.json.encode(repeat) + b"\n")
        return read(path)
    finally:
        os.close(descriptor)

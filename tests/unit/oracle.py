"""The definitions of measuring, written down once more as naively as possible: lists, loops over all pairs, no arrays, no sharing.

Nothing here is imported from the code under test except the data that goes in. Times are integers (nanoseconds).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OK, FAILED, UNKNOWN, UNSENT = 0, 1, 2, 3


@dataclass(frozen=True)
class Op:
    """One operation. ``id`` and ``timeline`` as in the history."""

    k: int
    s: int
    t: int
    r: int
    outcome: int
    id: int | None = None
    timeline: int | None = None
    ledger: bool = True


@dataclass(frozen=True)
class Fault:
    issued: int
    landed: int


@dataclass(frozen=True)
class Setting:
    """What the definitions need besides the operations."""

    timeout: int
    window: int
    detect: int
    epsilon: float
    origin: int
    step: int


@dataclass(frozen=True)
class Outage:
    g: int | None
    f: int
    l: int  # noqa: E741
    h: int | None
    bad: int


def is_good(op: Op, setting: Setting) -> bool:
    return op.outcome == OK and op.r - op.t <= setting.timeout


def is_bad(op: Op, setting: Setting) -> bool:
    return op.outcome != UNSENT and not is_good(op, setting)


def missing_due(ops: Sequence[Op], setting: Setting) -> list[int]:
    numbers = {op.k for op in ops}
    return [setting.origin + k * setting.step for k in range(min(numbers), max(numbers) + 1) if k not in numbers] if numbers else []


def sustained_windows(ops: Sequence[Op], faults: Sequence[Fault], setting: Setting) -> list[int]:
    """Starts of all sustained windows, in any order."""
    absent = missing_due(ops, setting)
    starts = []
    for first in ops:
        begin, end = first.t, first.t + setting.window
        if not is_good(first, setting) or begin < min(fault.issued for fault in faults):
            continue
        if not any(op.t >= end for op in ops):
            continue
        if not all(end < fault.issued or (begin >= fault.issued and end >= fault.landed + setting.detect) for fault in faults):
            continue
        inside = [is_good(op, setting) for op in ops if begin <= op.t <= end] + [False for due in absent if begin <= due <= end]
        if sum(inside) >= (1 - setting.epsilon) * len(inside) - 1e-9:
            starts.append(begin)
    return starts


def outages(ops: Sequence[Op], faults: Sequence[Fault], setting: Setting) -> tuple[list[Outage], bool]:
    """All outages, and whether the observation ends in a sustained way."""
    windows = sustained_windows(ops, faults, setting)
    issued = min(fault.issued for fault in faults)
    bad = [op for op in ops if is_bad(op, setting) and op.r > issued]
    if setting.epsilon > 0:
        bad = [op for op in bad if not any(begin <= op.t <= begin + setting.window for begin in windows)]
    bad.sort(key=lambda op: op.t)
    groups: list[list[Op]] = []
    for op in bad:
        if groups:
            after = max(max(one.t for one in groups[-1]), min(one.r for one in groups[-1]))
            if any(begin > after and begin + setting.window < op.t for begin in windows):
                groups.append([op])
                continue
            groups[-1].append(op)
        else:
            groups.append([op])
    found, ended = [], bool(windows)
    for number, group in enumerate(groups):
        f, l, b = min(op.r for op in group), max(op.t for op in group), min(op.t for op in group)  # noqa: E741
        g = max((op.t for op in ops if is_good(op, setting) and op.r < b), default=None)
        h = min((op.r for op in ops if is_good(op, setting) and op.t > l and op.t > f), default=None)
        ended = any(begin > l and begin > f for begin in windows) or number + 1 < len(groups)
        found.append(Outage(g, f, l, h if ended else None, len(group)))
    return found, ended


def largest_gap(ops: Sequence[Op], beyond: int, setting: Setting) -> int | None:
    good = [op for op in ops if is_good(op, setting)]
    gaps = []
    for i in good:
        ends = [j.r for j in good if j.t > i.t]
        if ends and min(ends) > beyond:
            gaps.append(min(ends) - i.t)
    return max(gaps, default=None)


@dataclass(frozen=True)
class Loss:
    acked: int
    lost: frozenset[int]
    lo: int
    hi: int | None
    recovered: int
    phantom: int
    duplicated: int
    split_brain: int


def loss(ops: Sequence[Op], reads: Sequence[tuple[int, Sequence[int]]], fault: int) -> Loss:
    """``reads``: (began, ids) in order."""
    began, last = reads[-1]
    ledger = {op.id: op for op in ops if op.id is not None and op.ledger}
    known = {op.id for op in ops if op.id is not None}
    acked = {i for i, op in ledger.items() if op.outcome == OK and op.r < began}
    lost = {i for i in acked if i not in last}
    for i, (_, earlier) in enumerate(reads):
        for _, later in reads[i + 1 :]:
            lost |= {one for one in earlier if one not in later and (one in ledger or one not in known)}
    recorded = [ledger[i] for i in lost if i in ledger]
    lo, hi = 0, 0 if not lost else None
    if recorded:
        first, e = min(op.r for op in recorded), max([fault] + [op.r for op in recorded])
        lo = e - first
        before = [ledger[i] for i in acked - lost if ledger[i].r < first]
        if before and len(recorded) == len(lost):
            hi = e - max(before, key=lambda op: (op.r, op.t)).t
    splits = 0
    for op in ledger.values():
        if op.outcome == OK and op.timeline is not None:
            higher = [o.r for o in ops if o.id is not None and o.outcome == OK and o.timeline is not None and o.timeline > op.timeline]
            splits += bool(higher) and op.r > min(higher)
    return Loss(
        len(acked),
        frozenset(one for one in lost if one is not None),
        lo,
        hi,
        sum(op.outcome == UNKNOWN and i in last for i, op in ledger.items()),
        sum(op.outcome in (FAILED, UNSENT) and i in last for i, op in ledger.items()),
        sum(list(last).count(i) > 1 for i in set(last)),
        splits,
    )

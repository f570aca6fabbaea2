"""Outages and recovery time of one workload, as intervals that contain the truth. Pure; knows no budget and gives no verdict.

Definitions (t: sent, r: settled; *good*, *bad*, *unsent*, *missing* as in :mod:`chaos.measure.stream`). Only bad operations settled after
the first fault was issued make an outage; one that was in flight at that moment does, one settled before belongs to the control window.
Earlier operations serve only as g.

**Sustained window.** It starts when a good operation is sent, at x, and covers ``[x, x + W]``. At least 1 − ε of the operations sent in it
are good; unsent and missing ones are not good; an operation sent at or after its end shows that the generator was still running. For every
fault it either ends before that fault was issued, or starts no earlier than its issue and ends no earlier than landed + detect; and none
starts before the first fault. With ε > 0 bad operations inside a sustained window are tolerated: they make no outage.

**Outages.** Bad operations in the order of sending belong to one outage until a sustained window stands between two of them: it starts
after everything so far was sent (t_l) and after the first of it was settled (r_f), and ends before the next one is sent. Of one outage:
f is its bad operation settled first, l the one sent last, g the good one sent last among those settled before its first-sent bad one was
sent, h the good one settled first among those sent after both t_l and r_f. Client interval: ``[max(0, t_l − r_f), r_h − t_g]``. The last
outage may have no sustained window after it: it never recovered, its upper bound is None.

**What a budget gates.** The longest single outage: if outage i has length within ``[lo_i, hi_i]``, the longest has one within
``[max lo_i, max hi_i]`` (None is the largest). That is ``Rto.client``, and equals the interval of the worst outage unless two are close.

**Incident.** Each outage is laid at the door of the last fault issued before its r_f (a fault that is named as the cause takes
precedence over all others once it is issued). The *first* outage of each fault is its incident: ``[max(0, t_l − landed), r_h − issued]``. A
later outage of the same fault follows a sustained recovery (an old primary that returns, a heal): counting it from the fault would add the
good time between, so it has no incident interval and is gated by what clients saw. ``Rto.incident`` is the longest, as above.

**After heal.** ``[max(0, t_l − verified), r_h − heal_issued]`` of the outage that was open when the heal was issued or began before it was
verified; an outage that ended earlier is no part of it, and one that began later counts as its clients saw it.

**No bad operation.** ``[0, largest gap]``, the gap being ``min{r_j : t_j > t_i} − t_i`` over good i: an outage that nobody met fits there.
Only gaps that reach beyond the fault's issue (the heal's, for after-heal) count. Without any sustained window there is no upper bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from chaos.core.clock import NS
from chaos.core.model import FaultRecord, Interval
from chaos.measure.columns import Bools, Int64
from chaos.measure.result import Outage, Rto
from chaos.measure.stream import Stream


@dataclass(frozen=True, slots=True)
class Rules:
    """W, detection time (ns) and ε of a sustained run."""

    window_ns: int
    detect_ns: int
    epsilon: float = 0.0

    @classmethod
    def of(cls, window_s: float, detect_s: float, epsilon: float = 0.0) -> Rules:
        return cls(round(window_s * NS), round(detect_s * NS), epsilon)


@dataclass(frozen=True, slots=True)
class Mark:
    """A fault that was issued, as far as recovery is concerned. ``landed_ns`` is ``issued_ns`` where it never landed."""

    issued_ns: int
    landed_ns: int
    cause: bool = False
    from_heal: bool = False
    heal_issued_ns: int | None = None
    verified_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """One outage in nanoseconds; None: there is no such operation. ``recovered``: a sustained window follows."""

    g_t: int | None
    b_t: int
    f_r: int
    l_t: int
    h_r: int | None
    bad: int
    recovered: bool

    def client_ns(self) -> tuple[int, int | None]:
        hi = None if self.g_t is None or self.h_r is None else self.h_r - self.g_t
        return max(0, self.l_t - self.f_r), hi


@dataclass(frozen=True, slots=True)
class Outages:
    """Every outage of a workload in the order of time. ``sustained``: the observation ends recovered, or never failed for long enough."""

    spans: tuple[Span, ...]
    sustained: bool


def marks_of(faults: Iterable[FaultRecord]) -> tuple[Mark, ...]:
    """The faults that were issued, in the order of issue."""
    marks = [
        Mark(
            fault.issued_ns,
            fault.issued_ns if fault.landed_ns is None else fault.landed_ns,
            fault.cause,
            fault.rto_from_heal,
            fault.heal_issued_ns,
            fault.verified_ns,
        )
        for fault in faults
        if fault.issued_ns is not None
    ]
    return tuple(sorted(marks, key=lambda mark: mark.issued_ns))


def cause_of(marks: Sequence[Mark], moment_ns: int | None) -> Mark:
    """The fault behind something seen at ``moment_ns``: the last one issued before it, a named cause first. None: at the end."""
    before = [mark for mark in marks if moment_ns is None or mark.issued_ns < moment_ns] or [marks[0]]
    return ([mark for mark in before if mark.cause] or before)[-1]


def sustained_starts(stream: Stream, marks: Sequence[Mark], rules: Rules) -> Int64:
    """The starts of all sustained windows, ascending."""
    if len(stream) == 0:
        return np.empty(0, np.int64)
    sent = np.concatenate([stream.t, stream.missing_s])
    not_good = np.concatenate([~stream.good, np.ones(len(stream.missing_s), np.bool_)])
    first_ns, last_ns = marks[0].issued_ns, int(stream.t.max())
    relevant = sent >= first_ns
    sent, not_good = sent[relevant], not_good[relevant]
    order = np.argsort(sent, kind="stable")
    sent, not_good = sent[order], not_good[order]
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(not_good, dtype=np.int64)])
    starts = sent[~not_good]
    starts = starts[starts <= last_ns - rules.window_ns]
    for mark in marks:
        ends = starts + rules.window_ns
        after = (starts >= mark.issued_ns) & (ends >= mark.landed_ns + rules.detect_ns)
        starts = starts[after | (ends < mark.issued_ns)]
    begin = np.searchsorted(sent, starts, "left")
    end = np.searchsorted(sent, starts + rules.window_ns, "right")
    sustained: Bools = (before[end] - before[begin]) <= rules.epsilon * (end - begin) + 1e-9
    found: Int64 = starts[sustained]
    return found


class Goods:
    """The good operations, arranged to answer for g, h and the largest gap in O(log n)."""

    def __init__(self, t: Int64, r: Int64) -> None:
        by_t = np.argsort(t, kind="stable")
        self._t = t[by_t]
        self._earliest_r_from = np.minimum.accumulate(r[by_t][::-1])[::-1]
        by_r = np.argsort(r, kind="stable")
        self._r = r[by_r]
        self._latest_t_upto = np.maximum.accumulate(t[by_r])

    def g_t(self, before_ns: int) -> int | None:
        """Sent last among those settled before ``before_ns``."""
        n = int(np.searchsorted(self._r, before_ns, "left"))
        return int(self._latest_t_upto[n - 1]) if n else None

    def h_r(self, after_ns: int) -> int | None:
        """Settled first among those sent after ``after_ns``."""
        n = int(np.searchsorted(self._t, after_ns, "right"))
        return int(self._earliest_r_from[n]) if n < len(self._t) else None

    def largest_gap(self, beyond_ns: int) -> int | None:
        """``max_i(min{r_j : t_j > t_i} − t_i)`` over the gaps that end after ``beyond_ns``; None where there is none."""
        following = np.searchsorted(self._t, self._t, "right")
        has_next = following < len(self._t)
        ends = self._earliest_r_from[following[has_next]]
        gaps = (ends - self._t[has_next])[ends > beyond_ns]
        return int(gaps.max()) if len(gaps) else None


def _tolerated(bad_t: Int64, starts: Int64, window_ns: int) -> Bools:
    """Which of the bad operations were sent within a sustained window (possible with ε > 0 only)."""
    if len(starts) == 0:
        return np.zeros(len(bad_t), np.bool_)
    position = np.searchsorted(starts, bad_t, "right") - 1
    return (position >= 0) & (bad_t <= starts[np.maximum(position, 0)] + window_ns)


def _first_after(starts: Int64, moment_ns: int) -> int | None:
    n = int(np.searchsorted(starts, moment_ns, "right"))
    return int(starts[n]) if n < len(starts) else None


def _groups(bad_t: Int64, bad_r: Int64, starts: Int64, window_ns: int) -> list[tuple[int, int]]:
    """Index ranges ``[begin, end)`` of the outages among bad operations sorted by t."""
    if len(bad_t) == 0:
        return []
    position = np.searchsorted(starts, bad_t[:-1], "right")
    padded = np.append(starts, np.iinfo(np.int64).max - window_ns)
    candidates = np.flatnonzero(padded[position] + window_ns < bad_t[1:])
    groups, begin, seen, f_r = [], 0, 0, np.iinfo(np.int64).max
    for last in candidates.tolist():
        f_r = min(f_r, int(bad_r[seen : last + 1].min()))
        seen = last + 1
        start = _first_after(starts, max(int(bad_t[last]), f_r))
        if start is not None and start + window_ns < int(bad_t[last + 1]):
            groups.append((begin, last + 1))
            begin, f_r = last + 1, np.iinfo(np.int64).max
    groups.append((begin, len(bad_t)))
    return groups


def find_outages(stream: Stream, marks: Sequence[Mark], rules: Rules, goods: Goods | None = None) -> Outages:
    """Every outage since the first of ``marks`` (at least one) was issued."""
    starts = sustained_starts(stream, marks, rules)
    chosen = np.flatnonzero(stream.bad & (stream.r > marks[0].issued_ns))
    bad_t, bad_r = stream.t[chosen], stream.r[chosen]
    if rules.epsilon > 0:
        kept = ~_tolerated(bad_t, starts, rules.window_ns)
        bad_t, bad_r = bad_t[kept], bad_r[kept]
    if len(bad_t) == 0:
        return Outages((), sustained=len(starts) > 0)
    order = np.argsort(bad_t, kind="stable")
    bad_t, bad_r = bad_t[order], bad_r[order]
    goods = goods or Goods(stream.t[stream.good], stream.r[stream.good])
    spans = []
    for begin, end in _groups(bad_t, bad_r, starts, rules.window_ns):
        f_r, b_t, l_t = int(bad_r[begin:end].min()), int(bad_t[begin]), int(bad_t[end - 1])
        recovered = end < len(bad_t) or _first_after(starts, max(l_t, f_r)) is not None
        h_r = goods.h_r(max(l_t, f_r)) if recovered else None
        spans.append(Span(goods.g_t(b_t), b_t, f_r, l_t, h_r, end - begin, recovered))
    return Outages(tuple(spans), sustained=spans[-1].recovered)


def _interval(lo_ns: int, hi_ns: int | None) -> Interval:
    return Interval(lo_ns / NS, None if hi_ns is None else hi_ns / NS)


def longest(intervals: Sequence[Interval]) -> Interval:
    """Where the longest of several lengths lies, each known as an interval."""
    his = [one.hi for one in intervals if one.hi is not None]
    return Interval(max(one.lo for one in intervals), max(his) if len(his) == len(intervals) else None)


def _incident(span: Span, mark: Mark) -> Interval:
    return _interval(max(0, span.l_t - mark.landed_ns), None if span.h_r is None else span.h_r - mark.issued_ns)


def _after_heal(outages: Outages, healed: Mark, goods: Goods) -> Interval:
    """From the heal to recovery: see the module's text."""
    issued, verified = healed.heal_issued_ns, healed.verified_ns
    if issued is None:
        return Interval(0.0, None)
    counted = []
    for span in outages.spans:
        if span.h_r is not None and span.h_r <= issued:
            continue
        if verified is not None and span.f_r > verified:
            counted.append(_interval(*span.client_ns()))
        else:
            lo = 0 if verified is None else max(0, span.l_t - verified)
            counted.append(_interval(lo, None if span.h_r is None else span.h_r - issued))
    if counted:
        return longest(counted)
    gap = goods.largest_gap(issued) if outages.sustained else None
    return _interval(0, gap)


def healed_mark(marks: Sequence[Mark]) -> Mark:
    """The fault whose heal recovery counts from: of those that ask for it (else of all) the one healed last."""
    asked = [mark for mark in marks if mark.from_heal] or list(marks)
    return max(asked, key=lambda mark: (mark.heal_issued_ns is not None, mark.heal_issued_ns or 0))


def measure_rto(stream: Stream, marks: Sequence[Mark], rules: Rules, *, after_heal: bool = False) -> tuple[Rto, Outages]:
    """The recovery time of one workload since the first of ``marks`` (at least one), and the outages it comes from, in nanoseconds."""
    goods = Goods(stream.t[stream.good], stream.r[stream.good])
    found = find_outages(stream, marks, rules, goods)
    from_heal = _after_heal(found, healed_mark(marks), goods) if after_heal else None
    if not found.spans:
        none = _interval(0, goods.largest_gap(marks[0].issued_ns) if found.sustained else None)
        return Rto(none, none, none, from_heal, ()), found
    outages, met = [], set()
    for span in found.spans:
        mark = cause_of(marks, span.f_r)
        incident = None if mark.issued_ns in met else _incident(span, mark)
        met.add(mark.issued_ns)
        client = _interval(*span.client_ns())
        outages.append(Outage(client, incident, span.g_t, span.f_r, span.l_t, span.h_r, span.bad))
    total = Interval(0.0, 0.0)
    for outage in outages:
        total = total + outage.client
    client = longest([outage.client for outage in outages])
    incident = longest([outage.incident for outage in outages if outage.incident is not None])
    return Rto(client, incident, total, from_heal, tuple(outages)), found

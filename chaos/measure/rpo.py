"""The ledger against the survivors: which acknowledged writes are gone, and how much time they span. Pure; gives no verdict.

A write is *acknowledged* when it was answered ok, however late. A read answers only for writes acknowledged before it began. **Lost** are

- acknowledged writes absent from the last read, and
- ids that a read saw and any later read does not, whatever their outcome and even if their record is missing: somebody has seen them
  (ids of workloads outside the ledger excepted).

**Time**, with e = max(t_fault, last acknowledgement of a lost write): ``[e − r(first lost), e − t(last survivor acknowledged before
it)]``. A lost write that was never acknowledged to its client counts as acknowledged when it was settled. The first lost is the one
acknowledged first; without a survivor before it there is no upper bound. Nothing lost: ``[0, 0]``.

A *duplicate* is an id that stands more than once in the last read; *recovered* (unknown outcome), *phantom* (refused or never sent) and
*mutated* are counted in the last read too. **Split brain**: a write acknowledged later than the first acknowledgement on a higher timeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chaos.core.clock import NS
from chaos.core.model import Interval
from chaos.measure.columns import NONE, Bools, Columns, Int8, Int32, Int64, ReadColumns
from chaos.measure.history import Outcome, WorkloadInfo
from chaos.measure.result import ReadSummary, Rpo

MAX_LOST_IDS = 100


@dataclass(frozen=True, slots=True)
class Ledger:
    """The writes of all ledger workloads, sorted by id."""

    id: Int64
    t: Int64
    r: Int64
    outcome: Int8
    timeline: Int32

    @property
    def acked(self) -> Bools:
        answered: Bools = self.outcome == Outcome.OK
        return answered


def _is_ascending(values: Int64) -> bool:
    return bool((values[1:] >= values[:-1]).all())


def ledger_of(columns: Columns, workloads: Sequence[WorkloadInfo]) -> Ledger:
    """Every write that counts for RPO."""
    indices = [info.index for info in workloads if info.ledger]
    chosen = np.flatnonzero(np.isin(columns.w, indices) & (columns.id != NONE))
    if not _is_ascending(columns.id[chosen]):
        chosen = chosen[np.argsort(columns.id[chosen], kind="stable")]
    return Ledger(columns.id[chosen], columns.t[chosen], columns.r[chosen], columns.outcome[chosen], columns.timeline[chosen])


def _contains(present: Int64, ids: Int64) -> Bools:
    """Which of ``ids`` stand in the sorted ``present``."""
    if len(present) == 0:
        return np.zeros(len(ids), np.bool_)
    position = np.minimum(np.searchsorted(present, ids), len(present) - 1)
    found: Bools = present[position] == ids
    return found


def split_brain(columns: Columns, ledger: Ledger) -> Bools:
    """Which writes of the ledger were acknowledged on a superseded timeline. Acknowledged writes of every workload tell of timelines."""
    acked = (columns.outcome == Outcome.OK) & (columns.timeline != NONE) & (columns.id != NONE)
    timelines, settled = columns.timeline[acked], columns.r[acked]
    known, position = np.unique(timelines, return_inverse=True)
    first = np.full(len(known), np.iinfo(np.int64).max)
    np.minimum.at(first, position, settled)
    # superseded[i]: the first acknowledgement on any timeline above known[i]
    superseded = np.append(np.minimum.accumulate(first[::-1])[::-1][1:], np.iinfo(np.int64).max) if len(known) else first
    flags = np.zeros(len(ledger.id), np.bool_)
    mine = np.flatnonzero(ledger.acked & (ledger.timeline != NONE))
    flags[mine] = ledger.r[mine] > superseded[np.searchsorted(known, ledger.timeline[mine])]
    return flags


def _time(ledger: Ledger, lost: Bools, survives: Bools, fault_ns: int) -> Interval:
    if not lost.any():
        return Interval(0.0, 0.0)
    settled = ledger.r[lost]
    first, end = int(settled.min()), max(fault_ns, int(settled.max()))
    before = np.flatnonzero(survives & (ledger.r < first))
    lo = (end - first) / NS
    if len(before) == 0:
        return Interval(lo, None)
    last = before[np.lexsort((ledger.t[before], ledger.r[before]))[-1]]
    return Interval(lo, (end - int(ledger.t[last])) / NS)


def _vanished_unrecorded(columns: Columns, reads: Sequence[Int64]) -> Int64:
    """Ids without any record that a read saw and a later one does not. ``reads`` are sorted."""
    gone = [earlier[~_contains(later, earlier)] for i, earlier in enumerate(reads) for later in reads[i + 1 :]]
    suspects = np.unique(np.concatenate(gone)) if gone else np.empty(0, np.int64)
    unrecorded: Int64 = suspects[~np.isin(suspects, columns.id)]
    return unrecorded


def measure_rpo(
    columns: Columns, workloads: Sequence[WorkloadInfo], reads: Sequence[ReadColumns], *, fault_ns: int, origin_ns: int
) -> Rpo | None:
    """The loss; None where nothing was read. ``reads`` stand in the order in which they began; ``origin_ns`` is the drill's start."""
    if not reads:
        return None
    ledger = ledger_of(columns, workloads)
    acked, seen = ledger.acked, np.zeros(len(ledger.id), np.bool_)
    lost, summaries = np.zeros(len(ledger.id), np.bool_), []
    there, answers = seen, seen
    present = [read.ids if _is_ascending(read.ids) else np.sort(read.ids) for read in reads]
    for read, ids in zip(reads, present, strict=True):
        there = _contains(ids, ledger.id)
        answers = acked & (ledger.r < read.began_ns)
        lost |= seen & ~there
        seen = seen | there
        began_s = (read.began_ns - origin_ns) / NS
        summaries.append(ReadSummary(read.label, read.source, began_s, len(ids), int(answers.sum()), int((answers & ~there).sum())))
    lost |= answers & ~there
    unrecorded = _vanished_unrecorded(columns, present)
    n_acked, n_lost = int(answers.sum()), int(lost.sum()) + len(unrecorded)
    n_all = int((answers | lost).sum()) + len(unrecorded)
    time = _time(ledger, lost, answers & there & ~lost, fault_ns)
    repeated = present[-1][1:][present[-1][1:] == present[-1][:-1]]
    return Rpo(
        acked=n_acked,
        lost=n_lost,
        lost_ids=tuple(np.concatenate([ledger.id[lost], unrecorded])[:MAX_LOST_IDS].tolist()),
        ratio=n_lost / n_all if n_all else 0.0,
        time=Interval(time.lo, None) if len(unrecorded) else time,
        recovered=int((there & (ledger.outcome == Outcome.UNKNOWN)).sum()),
        phantom=int((there & ((ledger.outcome == Outcome.FAILED) | (ledger.outcome == Outcome.UNSENT))).sum()),
        duplicated=len(np.unique(repeated)),
        mutated=len(np.unique(reads[-1].mutated)),
        split_brain=int(split_brain(columns, ledger).sum()),
        reads=tuple(summaries),
    )

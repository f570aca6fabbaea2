"""One workload's operations, classified: good, bad, unsent, missing. The raw material of every other figure here.

*good*: answered ok within the timeout. *unsent*: no connection was to be had. *bad*: sent, and neither good. *missing*: a number k between
the first and the last recorded one for which there is no record (in flight when the history was read, or lost with its writer): nobody can
say how it ended, so it is never counted good.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chaos.core.clock import NS
from chaos.core.errors import GamedayError
from chaos.measure.columns import Bools, Columns, Int8, Int16, Int64
from chaos.measure.history import Outcome, WorkloadInfo

MAX_MISSING = 50_000_000


@dataclass(frozen=True, slots=True)
class Stream:
    """Operations of one workload, in no particular order; ``missing_s`` are the times at which missing ones were due."""

    info: WorkloadInfo
    k: Int64
    s: Int64
    t: Int64
    r: Int64
    kind: Int16
    outcome: Int8
    good: Bools
    unsent: Bools
    missing_s: Int64

    def __len__(self) -> int:
        return len(self.t)

    @property
    def bad(self) -> Bools:
        """Sent, and not good."""
        return ~(self.good | self.unsent)


def interval_ns(info: WorkloadInfo) -> float:
    """Δ, in nanoseconds."""
    return NS / info.rate_hz


def classify(info: WorkloadInfo, t: Int64, r: Int64, outcome: Int8) -> tuple[Bools, Bools]:
    """Which operations are good and which are unsent."""
    good = (outcome == Outcome.OK) & (r - t <= round(info.timeout_s * NS))
    return good, outcome == Outcome.UNSENT


def missing(info: WorkloadInfo, k: Int64) -> Int64:
    """When the operations were due whose numbers are missing between the smallest and the largest of ``k``."""
    if len(k) == 0:
        return np.empty(0, np.int64)
    first, last = int(k.min()), int(k.max())
    if last - first + 1 - len(k) > MAX_MISSING:
        raise GamedayError(
            f"workload {info.name}: operation numbers run from {first} to {last}, but only {len(k)} operations are recorded",
            next_step="the history is damaged or its writer does not number operations one by one",
        )
    if last - first + 1 == len(k):
        return np.empty(0, np.int64)
    seen = np.zeros(last - first + 1, np.bool_)
    seen[k - first] = True
    numbers = np.flatnonzero(~seen) + first
    return np.asarray(info.origin_ns + np.rint(numbers * interval_ns(info)), np.int64)


def stream_of(columns: Columns, info: WorkloadInfo, end_ns: int) -> Stream:
    """The operations of one workload that were due no later than ``end_ns``."""
    chosen = (columns.w == info.index) & (columns.s <= end_ns)
    pick: slice | Bools = slice(None) if bool(chosen.all()) else chosen
    k, s, t, r = columns.k[pick], columns.s[pick], columns.t[pick], columns.r[pick]
    outcome, kind = columns.outcome[pick], columns.kind[pick]
    good, unsent = classify(info, t, r, outcome)
    return Stream(info, k, s, t, r, kind, outcome, good, unsent, missing(info, k))

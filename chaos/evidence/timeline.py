"""The history in a few hundred bins, by numpy: what a chart can show of a million operations. Judges nothing, draws nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from chaos.core.clock import NS
from chaos.core.errors import GamedayError
from chaos.evidence.model import ErrorLine, Series, Timeline
from chaos.measure.columns import Columns
from chaos.measure.history import History, Outcome, WorkloadInfo, read_history

BINS_MOST = 300
ERRORS_MOST = 6
OPERATIONS_PER_BIN = 5

Bins: TypeAlias = npt.NDArray[np.int32]


def empty(note: str) -> Timeline:
    """Nothing to draw, and why."""
    return Timeline(0.0, 1.0, note, [], [])


def read_timeline(path: Path, *, begin_ns: int) -> Timeline:
    """The timeline of a history file; of a missing or damaged one an empty timeline that says so."""
    if not path.is_file():
        return empty("The history file is missing.")
    try:
        return timeline_of(read_history(path), begin_ns=begin_ns)
    except GamedayError as err:
        return empty(f"The history could not be read: {err}")


def timeline_of(history: History, *, begin_ns: int) -> Timeline:
    """The timeline of a history that was read already. ``begin_ns`` is the drill's start."""
    return bin_columns(history.columns, history.workloads, begin_ns=begin_ns)


def bin_columns(columns: Columns, infos: Sequence[WorkloadInfo], *, begin_ns: int) -> Timeline:
    """Every workload's operations in bins of one width, by the time they were scheduled for."""
    if not len(columns.s) or not infos:
        return empty("The history holds no operation.")
    first_ns = int(columns.s.min())
    span_s = max((int(columns.s.max()) - first_ns) / NS, 1e-3)
    bin_s = bin_width_s(span_s, min([info.rate_hz for info in infos if info.gated] or [info.rate_hz for info in infos]))
    bins = int(span_s / bin_s) + 1
    index = ((columns.s - first_ns) // round(bin_s * NS)).astype(np.int32)
    index = np.minimum(index, bins - 1)
    series = [_series(columns, info, index, bins) for info in infos]
    begin_s = round((first_ns - begin_ns) / NS, 6)
    return Timeline(begin_s, bin_s, "", series, _errors(columns, index, begin_ns))


def bin_width_s(span_s: float, rate_hz: float) -> float:
    """The narrowest of 1, 2, 5 · 10^n seconds that gives at most ``BINS_MOST`` bins, of ``OPERATIONS_PER_BIN`` where there are
    at least 60 of those."""
    wanted_s = max(span_s / BINS_MOST, min(OPERATIONS_PER_BIN / rate_hz, span_s / 60))
    power = 10.0 ** math.floor(math.log10(wanted_s))
    return next(round(step * power, 9) for step in (1, 2, 5, 10) if step * power >= wanted_s * (1 - 1e-9))


def _series(columns: Columns, info: WorkloadInfo, index: Bins, bins: int) -> Series:
    mine = columns.w == info.index
    within = columns.r - columns.t <= round(info.timeout_s * NS)
    good = mine & (columns.outcome == Outcome.OK) & within
    p50, p99 = _quantiles(index[good], ((columns.r - columns.s)[good] / NS).astype(np.float64), bins)
    return Series(
        workload=info.name,
        gated=info.gated,
        good=np.bincount(index[good], minlength=bins).tolist(),
        bad=np.bincount(index[mine & ~good], minlength=bins).tolist(),
        latency_p50_s=p50,
        latency_p99_s=p99,
    )


def _quantiles(index: Bins, latency_s: npt.NDArray[np.float64], bins: int) -> tuple[list[float | None], list[float | None]]:
    """Median and 99th percentile (nearest rank) of every bin; None where it holds nothing."""
    order = np.lexsort((latency_s, index))
    latency_s = latency_s[order]
    counts = np.bincount(index, minlength=bins)
    starts = np.cumsum(counts) - counts
    found: list[list[float | None]] = []
    for quantile in (0.5, 0.99):
        rank = starts + np.maximum(np.ceil(quantile * counts).astype(np.int64) - 1, 0)
        values = latency_s[np.minimum(rank, max(len(latency_s) - 1, 0))] if len(latency_s) else np.zeros(bins)
        found.append([round(float(value), 6) if number else None for value, number in zip(values, counts, strict=True)])
    return found[0], found[1]


def _errors(columns: Columns, index: Bins, begin_ns: int) -> list[ErrorLine]:
    """The most frequent error texts, most frequent first; the rest together in one line."""
    counts = np.bincount(columns.error, minlength=len(columns.error_texts))
    counts[0] = 0
    ranked = [int(code) for code in np.argsort(-counts, kind="stable") if counts[code]]
    shown, rest = (ranked, []) if len(ranked) <= ERRORS_MOST else (ranked[: ERRORS_MOST - 1], ranked[ERRORS_MOST - 1 :])
    groups = [([code], columns.error_texts[code]) for code in shown]
    if rest:
        groups.append((rest, f"{len(rest)} other errors"))
    return [_error_line(columns, index, begin_ns, codes, text) for codes, text in groups]


def _error_line(columns: Columns, index: Bins, begin_ns: int, codes: Sequence[int], text: str) -> ErrorLine:
    chosen = np.isin(columns.error, codes)
    at, numbers = np.unique(index[chosen], return_counts=True)
    scheduled = columns.s[chosen]
    first_s, last_s = (round((int(moment) - begin_ns) / NS, 6) for moment in (scheduled.min(), scheduled.max()))
    return ErrorLine(text, int(chosen.sum()), first_s, last_s, list(zip(at.tolist(), numbers.tolist(), strict=True)))

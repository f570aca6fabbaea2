"""What clients see while something is broken, and when it is over: latency, errors, and the return to the baseline. Pure.

**Latency** counts from s_k, when an operation was *scheduled*. One that was not good (failed, timed out, unsent, missing) counts as
slower than any, and certainly slower than its timeout: a service that fails fast is not fast.

**Under the fault**: the operations scheduled from the first fault's issue to the last heal's verification (to the end of observation
where nothing was healed). Their 99th percentile is bounded by order statistics, without an assumption about the distribution: each end is
wrong with a probability of at most ``ERROR``. PASS iff the upper end keeps the bound, FAIL iff the lower end breaks it. The error rate is a
plain count, not good / scheduled: every operation of that stretch is known, so there is nothing to estimate.

**Back to the baseline.** The baseline is the median and the 90th percentile of the good operations of the control window. A window of
operations (of ``WINDOW_S`` seconds, or ``WINDOW_OPERATIONS`` of them where that is longer) *is back* where both its median and its 90th
percentile are proven to be at most ``FACTOR`` × the baseline's + ``SLACK_S``, and *is not back* where one of them is proven to be more. The
proofs are order statistics too: "back" is wrong with a probability of at most ``BACK_ERROR`` (at the very limit), "not back" of at
most ``NOT_BACK_ERROR``. Windows are looked at every ``STEP_S`` from the verified heal on. The return lies between the start of the last
window that is not back and that of the first one that is. The margin is there because a control window is short and machines are noisy:
what it lets pass is what users do not notice. The 90th percentile because a single stall of a busy machine makes several operations
of a window slow at once, which says nothing of the service.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from chaos.core.clock import NS
from chaos.core.model import Budget, FaultRecord, Finding, Interval, Verdict
from chaos.measure.history import History, WorkloadInfo
from chaos.measure.outage import Mark, marks_of
from chaos.measure.quantile import bounds, fewest, ranks
from chaos.measure.result import Degradation, ObjectiveResult, Returned
from chaos.measure.stream import Stream, stream_of
from chaos.measure.words import count, spans, spelled, within

ERROR = 0.05
BACK_ERROR, NOT_BACK_ERROR = 0.05, 0.01
FACTOR, SLACK_S = 1.5, 0.005
WINDOW_S, WINDOW_OPERATIONS, STEP_S = 2.0, 200, 0.25
NEVER = int(np.iinfo(np.int64).max)

Values: TypeAlias = npt.NDArray[np.int64]


def window_s(rate_hz: float) -> float:
    """How long a window is that can tell whether latency is back."""
    return max(WINDOW_S, WINDOW_OPERATIONS / rate_hz)


def degradation_of(stream: Stream, marks: Sequence[Mark], end_ns: int) -> Degradation | None:
    """One workload under the faults, and after them; None where nothing was issued or nothing recorded."""
    if not marks or not len(stream):
        return None
    begin_ns, until_ns = marks[0].issued_ns, _healed_ns(marks, end_ns)
    under = _Latencies(stream).between(begin_ns, until_ns)
    answered = under[under != NEVER]
    low, high = bounds(under, 0.99, ERROR)
    worst_ns = round(stream.info.timeout_s * NS)
    p99 = None if low is None else Interval(min(low, max(worst_ns, _most(answered))) / NS, None if high in (None, NEVER) else high / NS)
    return Degradation(
        workload=stream.info.name,
        begin_ns=begin_ns,
        end_ns=until_ns,
        operations=len(under),
        errors=len(under) - len(answered),
        latency_p50_s=float(np.median(answered)) / NS if len(answered) else None,
        latency_p99=p99,
        returned=returned(stream, marks, end_ns),
    )


def _most(values: Values) -> int:
    return int(values.max()) if len(values) else 0


def _healed_ns(marks: Sequence[Mark], end_ns: int) -> int:
    """When the last fault was proven to be undone; the end of observation where one was not."""
    return min(end_ns, max(end_ns if mark.verified_ns is None else mark.verified_ns for mark in marks))


class _Latencies:
    """Every operation's latency by the time it was scheduled for; ``NEVER`` for what was not good."""

    def __init__(self, stream: Stream) -> None:
        s = np.concatenate([stream.s, stream.missing_s])
        order = np.argsort(s, kind="stable")
        self._s = s[order]
        latency = np.where(stream.good, stream.r - stream.s, NEVER)
        self._latency = np.concatenate([latency, np.full(len(stream.missing_s), NEVER)])[order]

    def between(self, begin_ns: int, end_ns: int) -> Values:
        """Of what was scheduled from ``begin_ns`` on and before ``end_ns``."""
        first, last = np.searchsorted(self._s, [begin_ns, end_ns])
        return np.asarray(self._latency[first:last], np.int64)

    @property
    def last_ns(self) -> int:
        return int(self._s[-1])


def returned(stream: Stream, marks: Sequence[Mark], end_ns: int) -> Returned | None:
    """When the latency of ``stream`` was back where it was; None without a heal, or without a control window to compare with."""
    verified = [mark.verified_ns for mark in marks]
    before = (stream.r <= marks[0].issued_ns) & stream.good
    if not before.any() or any(moment is None for moment in verified):
        return None
    baseline = (stream.r - stream.s)[before]
    p50_ns, p90_ns = (float(np.quantile(baseline, q)) for q in (0.5, 0.9))
    limits = tuple(FACTOR * value + SLACK_S * NS for value in (p50_ns, p90_ns))
    healed_ns, latencies = max(moment or 0 for moment in verified), _Latencies(stream)
    width_ns, step_ns = round(window_s(stream.info.rate_hz) * NS), round(STEP_S * NS)
    last_not: int | None = None
    first_back: int | None = None
    seen, quantiles = 0, _quantiles(np.empty(0, np.int64))
    for start_ns in range(healed_ns, min(latencies.last_ns, end_ns) - width_ns + 1, step_ns):
        window = latencies.between(start_ns, start_ns + width_ns)
        back = _back(window, limits)
        seen, quantiles = seen + 1, _quantiles(window)
        if back:
            first_back = start_ns
            break
        last_not = start_ns if back is False else last_not
    lo_s = 0.0 if last_not is None else (last_not - healed_ns) / NS
    hi_s = None if first_back is None else (first_back - healed_ns) / NS
    return Returned(
        baseline_operations=len(baseline),
        baseline_p50_s=p50_ns / NS,
        baseline_p90_s=p90_ns / NS,
        limit_p50_s=limits[0] / NS,
        limit_p90_s=limits[1] / NS,
        window_s=width_ns / NS,
        windows=seen,
        last_p50_s=quantiles[0],
        last_p90_s=quantiles[1],
        interval=Interval(lo_s, hi_s) if seen else None,
    )


def _back(window: Values, limits: Sequence[float]) -> bool | None:
    """True: proven to be back. False: proven not to be. None: neither."""
    proven = []
    for q, limit in zip((0.5, 0.9), limits, strict=True):
        low, _ = bounds(window, q, NOT_BACK_ERROR)
        _, high = bounds(window, q, BACK_ERROR)
        if low is not None and low > limit:
            return False
        proven.append(high is not None and high <= limit)
    return True if all(proven) else None


def _quantiles(window: Values) -> tuple[float | None, float | None]:
    """Median and 90th percentile in seconds (nearest rank); None where it falls on what was not good."""
    if not len(window):
        return None, None
    ordered = np.sort(window)
    found = [int(ordered[max(0, int(np.ceil(q * len(ordered))) - 1)]) for q in (0.5, 0.9)]
    p50, p90 = (None if value == NEVER else value / NS for value in found)
    return p50, p90


def all_returned(history: History, faults: Sequence[FaultRecord], end_ns: int) -> bool:
    """Is every gated workload back at its baseline, by what was scheduled up to ``end_ns``? For whoever waits for it."""
    marks = marks_of(faults)
    if not marks:
        return False
    for info in history.workloads:
        if info.gated:
            stream = stream_of(history.columns, info, end_ns)
            found = returned(stream, marks, end_ns) if len(stream) else None
            if found is None or found.interval is None or found.interval.hi is None:
                return False
    return True


# --- objectives


def judge_degradation(found: Degradation, info: WorkloadInfo, budget: Budget) -> tuple[list[ObjectiveResult], list[Finding]]:
    """One gated workload against the bounds on latency, errors and the return to the baseline."""
    judged = [*_latency(found, budget), *_errors(found, budget), *_baseline(found, info, budget)]
    objectives = [objective for objective, _ in judged]
    return objectives, [finding for _, finding in judged if finding is not None]


_Judged: TypeAlias = "tuple[ObjectiveResult, Finding | None]"


def _latency(found: Degradation, budget: Budget) -> list[_Judged]:
    bound_s = budget.latency_p99_s
    if bound_s is None:
        return []
    name, p99 = found.workload, found.latency_p99
    operations = f"of {spelled(found.operations, 'operation')} from the fault to its heal"
    if p99 is None:
        least = fewest(0.99, ERROR)
        text = f"{name}: too few {operations.removeprefix('of ')} to tell a 99th percentile (at least {least} do)"
        finding = Finding("latency", Verdict.INCONCLUSIVE, text)
        return [(ObjectiveResult("latency_p99", bound_s, 0.0, None, "s", finding.verdict, name), finding)]
    verdict = Verdict.FAIL if p99.lo > bound_s else Verdict.INCONCLUSIVE
    if p99.hi is not None and p99.hi <= bound_s:
        verdict = Verdict.PASS
    objective = ObjectiveResult("latency_p99", bound_s, p99.lo, p99.hi, "s", verdict, name)
    bad = f"; {count(found.errors)} of them were not good, and count as slower than any" if found.errors else ""
    few = "" if ranks(found.operations, 0.99, ERROR)[1] else f"; {fewest(0.99, ERROR)} operations would give it an upper end"
    text = f"{name}: the 99th percentile of latency is {spans(p99, bound_s)}, budget {within(bound_s)} ({operations}{bad}{few})"
    return [(objective, None if verdict is Verdict.PASS else Finding("latency", verdict, text))]


def _errors(found: Degradation, budget: Budget) -> list[_Judged]:
    bound, rate = budget.error_rate, found.error_rate
    if bound is None:
        return []
    if rate is None:
        finding = Finding("error-rate", Verdict.INCONCLUSIVE, f"{found.workload}: no operation was due from the fault to its heal")
        return [(ObjectiveResult("error_rate", bound, 0.0, None, "ratio", finding.verdict, found.workload), finding)]
    verdict = Verdict.PASS if rate <= bound else Verdict.FAIL
    objective = ObjectiveResult("error_rate", bound, rate, rate, "ratio", verdict, found.workload)
    shares = f"{rate:.3%}, where {bound:.3%} may be"
    of = f"{count(found.errors)} of {spelled(found.operations, 'operation')}"
    text = f"{found.workload}: {of} were not good from the fault to its heal: {shares}"
    return [(objective, None if verdict is Verdict.PASS else Finding("error-rate", verdict, text))]


def _baseline(found: Degradation, info: WorkloadInfo, budget: Budget) -> list[_Judged]:
    bound_s = budget.baseline_s
    if bound_s is None:
        return []
    back, name = found.returned, found.workload
    if back is None or back.interval is None:
        why = "nothing was healed, or there was no control window" if back is None else "the observation ended too early"
        finding = Finding("baseline", Verdict.INCONCLUSIVE, f"{name}: whether latency returned to its baseline is unknown: {why}")
        return [(ObjectiveResult("baseline", bound_s, 0.0, None, "s", finding.verdict, name), finding)]
    interval = back.interval
    verdict = Verdict.FAIL if interval.lo > bound_s else Verdict.INCONCLUSIVE
    if interval.hi is not None and interval.hi <= bound_s:
        verdict = Verdict.PASS
    objective = ObjectiveResult("baseline", bound_s, interval.lo, interval.hi, "s", verdict, name)
    return [(objective, None if verdict is Verdict.PASS else Finding("baseline", verdict, _not_back(back, name, bound_s)))]


def _not_back(back: Returned, name: str, bound_s: float) -> str:
    assert back.interval is not None
    seen = ", ".join(
        f"{word} {'not answered' if value is None else within(value)} (baseline {within(base)}, back at {within(limit)})"
        for word, value, base, limit in (
            ("median", back.last_p50_s, back.baseline_p50_s, back.limit_p50_s),
            ("90th percentile", back.last_p90_s, back.baseline_p90_s, back.limit_p90_s),
        )
    )
    when = f"only {spans(back.interval, bound_s)} after the heal" if back.interval.hi is not None else "not, as long as it was observed"
    return f"{name}: latency returned to its baseline {when}, budget {bound_s:g} s; last seen: {seen}"

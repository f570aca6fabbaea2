"""Latency, errors and the return to the baseline, on streams whose truth is known: how often verdicts are wrong, how sharp they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest
from measure_histories import MS, S, fault_record, history, workload_info

from chaos.core.errors import BadInput
from chaos.core.model import Budget, Verdict
from chaos.measure.degradation import BACK_ERROR, ERROR, FACTOR, SLACK_S, all_returned, degradation_of, judge_degradation, window_s
from chaos.measure.history import Operation, Outcome
from chaos.measure.judge import check_resolution, judge
from chaos.measure.outage import marks_of
from chaos.measure.quantile import bounds, fewest, ranks
from chaos.measure.result import Degradation
from chaos.measure.stream import Stream

STEP, TIMEOUT = 10 * MS, 1 * S
ISSUED, VERIFIED, END = 3 * S, 8 * S, 20 * S
MEDIAN_S, SIGMA = 0.004, 0.5
FAULTS = (fault_record(ISSUED, ISSUED, heal_issued_ns=VERIFIED - 1, healed_ns=VERIFIED - 1, verified_ns=VERIFIED),)
Seconds = npt.NDArray[np.float64]


def stream(latency_s: Seconds, *, bad: npt.NDArray[np.bool_] | None = None, lag_s: float = 0.0) -> Stream:
    """One operation every 10 ms with these latencies, sent ``lag_s`` after it was due."""
    n = len(latency_s)
    s = np.arange(n, dtype=np.int64) * STEP
    r = s + np.asarray(latency_s * S, np.int64)
    good = np.ones(n, np.bool_) if bad is None else ~bad
    none = np.zeros(n, np.bool_)
    outcome = np.where(good, int(Outcome.OK), int(Outcome.FAILED)).astype(np.int8)
    empty = np.empty(0, np.int64)
    return Stream(workload_info(STEP, TIMEOUT), np.arange(n), s, s + int(lag_s * S), r, np.zeros(n, np.int16), outcome, good, none, empty)


def ordinary(rng: np.random.Generator, n: int) -> Seconds:
    """What a service does on a busy machine: lognormal answers, and a stall of 60 ms every two seconds or so."""
    latency = MEDIAN_S * rng.lognormal(0, SIGMA, n)
    for begin in np.flatnonzero(rng.random(n) < 0.005):
        stalled = slice(begin, begin + 6)
        latency[stalled] += np.linspace(0.06, 0.01, 6)[: len(latency[stalled])]
    return latency


def found_in(stream_: Stream) -> Degradation:
    found = degradation_of(stream_, marks_of(FAULTS), END)
    assert found is not None
    return found


def verdict_of(found: Degradation, budget: Budget) -> Verdict:
    objectives, findings = judge_degradation(found, workload_info(STEP, TIMEOUT), budget)
    assert len(objectives) == 1
    assert [finding.verdict for finding in findings] == [objectives[0].verdict] * (objectives[0].verdict is not Verdict.PASS)
    return objectives[0].verdict


# --- the bounds of a quantile


@pytest.mark.parametrize(("n", "q", "error"), [(1, 0.5, 0.1), (60, 0.95, 0.01), (200, 0.95, 0.01), (500, 0.99, 0.025), (37, 0.5, 0.2)])
def test_ranks_are_the_sharpest_that_keep_the_error(n: int, q: float, error: float) -> None:
    """Each rank keeps its error by an exact binomial sum, and the next sharper one does not."""

    def at_most(k: int) -> float:
        return math.fsum(math.comb(n, i) * q**i * (1 - q) ** (n - i) for i in range(k + 1))

    lower, upper = ranks(n, q, error)
    assert lower is None or at_most(lower - 1) <= error
    assert at_most(lower or 0) > error
    assert upper is None or 1 - at_most(upper - 1) <= error
    assert 1 - at_most((upper or n + 1) - 2) > error


def test_the_fewest_values_of_an_upper_bound() -> None:
    """One value less than the fewest has no upper bound, the fewest have one."""
    least = fewest(0.99, ERROR)
    assert (ranks(least - 1, 0.99, ERROR)[1], ranks(least, 0.99, ERROR)[1]) == (None, least)


def test_bounds_hold_the_true_quantile_as_often_as_they_say() -> None:
    """Of 2 000 samples of a known distribution, each bound of the 99th percentile misses it in at most 5 % (and 3 sigma)."""
    rng, n, runs = np.random.default_rng(11), 500, 2000
    truth = MEDIAN_S * math.exp(SIGMA * NormalDist().inv_cdf(0.99)) * S
    found = [bounds(np.asarray(MEDIAN_S * S * rng.lognormal(0, SIGMA, n), np.int64), 0.99, ERROR) for _ in range(runs)]
    allowed = ERROR * runs + 3 * math.sqrt(ERROR * runs)
    assert sum(low is not None and low > truth for low, _ in found) <= allowed
    assert sum(high is not None and high < truth for _, high in found) <= allowed
    assert all(high is not None for _, high in found)


# --- under the fault


@pytest.mark.parametrize(("factor", "expected"), [(3.0, Verdict.PASS), (0.5, Verdict.FAIL)])
def test_a_bound_on_latency_that_is_far_off_is_told_every_time(factor: float, expected: Verdict) -> None:
    """With 500 operations under the fault a bound of three times, or half, the true 99th percentile is told in all of 100 runs."""
    truth_s = MEDIAN_S * math.exp(SIGMA * NormalDist().inv_cdf(0.99))
    for seed in range(100):
        latency = MEDIAN_S * np.random.default_rng(seed).lognormal(0, SIGMA, 2000)
        assert verdict_of(found_in(stream(latency)), Budget(latency_p99_s=factor * truth_s)) is expected


def test_a_bound_on_latency_that_is_the_truth_is_seldom_told_wrongly() -> None:
    """With the bound at the true 99th percentile most runs are INCONCLUSIVE, and at most 5 % (and 3 sigma) FAIL."""
    truth_s = MEDIAN_S * math.exp(SIGMA * NormalDist().inv_cdf(0.99))
    verdicts = [
        verdict_of(found_in(stream(MEDIAN_S * np.random.default_rng(seed).lognormal(0, SIGMA, 2000))), Budget(latency_p99_s=truth_s))
        for seed in range(400)
    ]
    assert verdicts.count(Verdict.FAIL) <= ERROR * 400 + 3 * math.sqrt(ERROR * 400)
    assert verdicts.count(Verdict.INCONCLUSIVE) >= 0.85 * 400


def test_latency_is_that_of_the_fault_alone() -> None:
    """What was slow before the fault's issue or after its verified heal does not count."""
    latency = np.full(2000, 0.3)
    latency[ISSUED // STEP : VERIFIED // STEP] = 0.01
    found = found_in(stream(latency))
    assert (found.operations, found.errors, found.latency_p50_s) == (500, 0, 0.01)
    assert found.latency_p99 is not None and (found.latency_p99.lo, found.latency_p99.hi) == (0.01, 0.01)


def test_latency_counts_from_the_schedule() -> None:
    """Operations that were sent late are slow, however quickly they were answered then."""
    found = found_in(stream(np.full(2000, 0.101), lag_s=0.1))
    assert verdict_of(found, Budget(latency_p99_s=0.05)) is Verdict.FAIL


def test_what_fails_fast_is_not_fast() -> None:
    """A tenth that is refused at once makes a 99th percentile of at least the timeout; one of 500 operations does not."""
    bad = np.zeros(2000, np.bool_)
    bad[ISSUED // STEP : VERIFIED // STEP : 10] = True
    found = found_in(stream(np.full(2000, 0.001), bad=bad))
    assert found.latency_p99 is not None and (found.latency_p99.lo, found.latency_p99.hi) == (1.0, None)
    assert verdict_of(found, Budget(latency_p99_s=0.5)) is Verdict.FAIL
    bad[:] = False
    bad[400] = True
    assert verdict_of(found_in(stream(np.full(2000, 0.001), bad=bad)), Budget(latency_p99_s=0.5)) is Verdict.PASS


def test_too_few_operations_tell_nothing() -> None:
    """With less than 299 operations under the fault a 99th percentile has no upper end, and the finding names the number."""
    found = degradation_of(stream(np.full(2000, 0.001)), marks_of([fault_record(ISSUED, ISSUED, verified_ns=ISSUED + 2 * S)]), END)
    assert found is not None and found.operations == 200
    _, findings = judge_degradation(found, workload_info(STEP, TIMEOUT), Budget(latency_p99_s=0.5))
    assert (findings[0].code, findings[0].verdict) == ("latency", Verdict.INCONCLUSIVE)
    assert f"{fewest(0.99, ERROR)} operations would give it an upper end" in findings[0].text


@pytest.mark.parametrize(("wrong", "expected"), [(0, Verdict.PASS), (5, Verdict.PASS), (6, Verdict.FAIL)])
def test_errors_are_counted(wrong: int, expected: Verdict) -> None:
    """The error rate is a count: five of 500 keep a bound of 1 %, six do not; one before the fault does not count."""
    bad = np.zeros(2000, np.bool_)
    bad[10] = True
    bad[400 : 400 + wrong] = True
    found = found_in(stream(np.full(2000, 0.001), bad=bad))
    assert (found.errors, found.error_rate) == (wrong, wrong / 500)
    assert verdict_of(found, Budget(error_rate=0.01)) is expected


def test_missing_operations_are_errors() -> None:
    """An operation of which there is no record counts as one that was not good."""
    ops = [Operation(0, k, k * STEP, k * STEP, k * STEP + MS, Outcome.OK) for k in range(2000) if not 400 <= k < 410]
    judgement = judge(
        history(ops, [workload_info(STEP, TIMEOUT, ledger=False)]),
        budget=Budget(error_rate=0.0),
        faults=FAULTS,
        window_s=5,
        detect_s=0,
        end_ns=END,
    )
    assert (judgement.degradations[0].errors, judgement.findings[-1].code) == (10, "error-rate")


def test_a_timeout_that_cannot_tell_a_latency_is_refused() -> None:
    """A bound at or beyond the workload's timeout is refused before the drill starts."""
    with pytest.raises(BadInput, match="timeout of 1 s cannot tell a latency of 1 s"):
        check_resolution(Budget(latency_p99_s=1.0), 100, 1.0)
    check_resolution(Budget(latency_p99_s=0.9), 100, 1.0)


# --- back to the baseline


def back_after(latency: Callable[[np.random.Generator], Seconds], seeds: int) -> list[Degradation]:
    return [found_in(stream(latency(np.random.default_rng(seed)))) for seed in range(seeds)]


def test_an_undisturbed_service_is_back_nearly_at_once() -> None:
    """In 300 runs in which nothing changed, on a noisy machine, none fails a budget of 4 s, and none is left open."""
    found = back_after(lambda rng: ordinary(rng, 2000), 300)
    assert {verdict_of(one, Budget(baseline_s=4)) for one in found} == {Verdict.PASS}


def test_a_service_that_stays_slow_is_convicted() -> None:
    """In 200 runs in which every answer takes 15 ms longer after the heal, each fails a budget of 6 s."""

    def slow(rng: np.random.Generator) -> Seconds:
        latency = ordinary(rng, 2000)
        latency[ISSUED // STEP :] += 0.015
        return latency

    assert {verdict_of(one, Budget(baseline_s=6)) for one in back_after(slow, 200)} == {Verdict.FAIL}


def test_a_slow_tail_is_convicted() -> None:
    """In 200 runs in which a quarter of the answers takes 60 ms longer after the heal, each fails: the median alone would not tell."""

    def slow(rng: np.random.Generator) -> Seconds:
        latency = MEDIAN_S * rng.lognormal(0, SIGMA, 2000)
        latency[ISSUED // STEP :] += 0.06 * (rng.random(2000 - ISSUED // STEP) < 0.25)
        return latency

    found = back_after(slow, 200)
    assert {verdict_of(one, Budget(baseline_s=6)) for one in found} == {Verdict.FAIL}
    assert all(one.returned and (one.returned.last_p50_s or 1) < one.returned.limit_p50_s for one in found)


def test_latency_at_the_very_limit_is_seldom_called_back() -> None:
    """With the median at exactly 1.5 × the baseline's + 5 ms a window is called back in at most 5 % of looks (and 3 sigma)."""
    looks, wrong = 0, 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        latency = MEDIAN_S * rng.lognormal(0, SIGMA, 2000)
        limit_s = FACTOR * float(np.median(latency[: ISSUED // STEP])) + SLACK_S
        after = 2000 - VERIFIED // STEP
        latency[VERIFIED // STEP :] = limit_s + (rng.random(after) - 0.5) * 0.004  # its tail is narrow: only the median is at the limit
        found = degradation_of(stream(latency), marks_of(FAULTS), VERIFIED + 2 * S + STEP)  # one look
        assert found is not None and found.returned is not None and found.returned.windows == 1
        interval = found.returned.interval
        assert interval is not None
        looks += 1
        wrong += interval.hi is not None
    assert 0 < wrong <= BACK_ERROR * looks + 3 * math.sqrt(BACK_ERROR * looks)


@pytest.mark.parametrize("slow_s", [1.0, 3.0, 5.0])
def test_the_return_is_bracketed(slow_s: float) -> None:
    """Where latency comes back at a known moment, that moment lies in the interval, but for the grid of looks and a tenth of a window."""
    for seed in range(50):
        latency = MEDIAN_S * np.random.default_rng(seed).lognormal(0, SIGMA, 2000)
        latency[ISSUED // STEP : (VERIFIED + int(slow_s * S)) // STEP] += 0.05
        found = found_in(stream(latency)).returned
        assert found is not None and found.interval is not None and found.interval.hi is not None
        assert found.interval.lo <= slow_s
        assert slow_s - 0.45 <= found.interval.hi <= slow_s + 2.5


def test_an_outage_is_not_back() -> None:
    """Operations that are refused at once after the heal are not called back, and the finding says that they were not answered."""
    bad = np.zeros(2000, np.bool_)
    bad[VERIFIED // STEP :] = True
    found = found_in(stream(np.full(2000, 0.001), bad=bad))
    _, findings = judge_degradation(found, workload_info(STEP, TIMEOUT), Budget(baseline_s=5))
    assert (findings[0].code, findings[0].verdict) == ("baseline", Verdict.FAIL)
    assert "median not answered (baseline 1.0 ms, back at 6.5 ms)" in findings[0].text


def test_an_observation_that_ends_early_is_inconclusive() -> None:
    """Without a whole window after the heal nothing is known of the return."""
    found = degradation_of(stream(np.full(2000, 0.001)), marks_of(FAULTS), VERIFIED + S)
    assert found is not None
    assert verdict_of(found, Budget(baseline_s=5)) is Verdict.INCONCLUSIVE


def test_who_waits_for_the_return_decides_as_the_judge_does() -> None:
    """``all_returned`` says yes exactly from the moment on at which the judge has an upper end."""
    latency = ordinary(np.random.default_rng(5), 2000)
    latency[ISSUED // STEP : (VERIFIED + 2 * S) // STEP] += 0.05
    info = workload_info(STEP, TIMEOUT)
    ops = [Operation(0, k, k * STEP, k * STEP, k * STEP + int(value * S), Outcome.OK) for k, value in enumerate(latency)]
    for end_ns in range(VERIFIED, END, S // 4):
        found = degradation_of(stream(latency[: end_ns // STEP + 1]), marks_of(FAULTS), end_ns)
        assert found is not None and found.returned is not None
        decided = found.returned.interval is not None and found.returned.interval.hi is not None
        assert all_returned(history(ops, [info]), FAULTS, end_ns) is decided


def test_a_slow_workload_has_longer_windows() -> None:
    """A window holds 200 operations at least, and lasts two seconds at least."""
    assert (window_s(1000), window_s(100), window_s(20)) == (2, 2, 10)

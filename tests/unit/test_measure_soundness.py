"""The reported interval contains the truth: servers with a known downtime, clients with timeouts, late and starved generators."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from measure_histories import FOREVER, MS, S, Simulated, simulate

from chaos.measure.columns import columns_of
from chaos.measure.outage import Mark, Rules, measure_rto
from chaos.measure.result import Rto
from chaos.measure.stream import stream_of

ROUNDING_S = 1e-8
MODES = st.sampled_from(["refuse", "hang", "freeze"])
SEEDS = st.integers(0, 2**32)
QUICK = settings(deadline=None, max_examples=120)


def measured(run: Simulated, mark: Mark, window_ns: int = S // 2, *, after_heal: bool = False) -> Rto:
    rto, _ = measure_rto(stream_of(columns_of(run.ops), run.info, FOREVER), [mark], Rules(window_ns, 0), after_heal=after_heal)
    return rto


def contains(lo: float, hi: float | None, truth_ns: int) -> bool:
    return lo - ROUNDING_S <= truth_ns / S and (hi is None or truth_ns / S <= hi + ROUNDING_S)


@QUICK
@given(MODES, SEEDS, st.integers(0, 2 * S), st.sampled_from([MS, 50 * MS]), st.booleans(), st.sampled_from([4, 32, 10_000]))
def test_one_outage_lies_in_its_intervals(mode: str, seed: int, length: int, lag: int, stalled: bool, connections: int) -> None:
    """Whatever the server does while down, and however late the generator, the client and the incident interval contain the truth."""
    rng = random.Random(seed)
    fault = S + rng.randint(0, 50 * MS)
    down = fault + rng.randint(0, 300 * MS), fault + 300 * MS + length
    at = rng.randint(S // 2, 4 * S)
    stalls = [(at, at + rng.randint(0, S))] if stalled else []
    run = simulate(rng, [down], length=6 * S, mode=mode, lag=lag, stalls=stalls, connections=connections)
    rto = measured(run, Mark(fault - rng.randint(0, 30 * MS), fault + rng.randint(0, 30 * MS)))
    assert len(rto.outages) <= 1
    assert contains(rto.client.lo, rto.client.hi, down[1] - down[0])
    if rto.outages:
        assert contains(rto.incident.lo, rto.incident.hi, down[1] - fault)


@QUICK
@given(MODES, SEEDS)
def test_an_outage_is_narrowed_down_to_what_the_client_can_know(mode: str, seed: int) -> None:
    """With an able generator the interval is no wider than two steps, two latencies and (where the service hangs) two timeouts."""
    rng = random.Random(seed)
    down = S + rng.randint(0, S), 3 * S + rng.randint(0, S)
    rto = measured(simulate(rng, [down], length=6 * S, mode=mode), Mark(S, S))
    assert rto.client.hi is not None
    assert rto.client.hi - rto.client.lo <= (2 * 5 * MS + 4 * 4 * MS + (0 if mode == "refuse" else 2 * 200 * MS)) / S


@QUICK
@given(MODES, SEEDS, st.integers(2, 5), st.integers(1, S))
def test_every_outage_of_a_flapping_service_is_told_apart(mode: str, seed: int, n: int, longest: int) -> None:
    """Outages further apart than the window are reported one by one, each containing its own truth, and their sum contains the sum."""
    rng, downs, at = random.Random(seed), [], 2 * S
    for _ in range(n):
        end = at + 250 * MS + rng.randint(0, longest)
        downs.append((at, end))
        at = end + 1100 * MS + rng.randint(0, S)
    rto = measured(simulate(rng, downs, length=at + S, mode=mode), Mark(S, S))
    assert len(rto.outages) == n
    for outage, (begin, end) in zip(rto.outages, downs, strict=True):
        assert contains(outage.client.lo, outage.client.hi, end - begin)
    lengths = [end - begin for begin, end in downs]
    assert contains(rto.total.lo, rto.total.hi, sum(lengths))
    assert contains(rto.client.lo, rto.client.hi, max(lengths))
    assert [outage.incident is None for outage in rto.outages] == [False] + [True] * (n - 1)


@QUICK
@given(MODES, SEEDS, st.integers(250 * MS, 3 * S))
def test_a_service_that_stays_down_has_no_upper_bound(mode: str, seed: int, length: int) -> None:
    """Where the observation ends during the outage, the upper bound is open and the lower one does not exceed what was seen."""
    rng = random.Random(seed)
    rto = measured(simulate(rng, [(2 * S, FOREVER)], length=2 * S + length, mode=mode), Mark(S, S))
    assert rto.client.hi is None
    assert rto.incident.hi is None
    assert rto.total.hi is None
    assert rto.client.lo <= length / S + ROUNDING_S


@QUICK
@given(MODES, SEEDS, st.integers(0, 30 * MS))
def test_an_outage_that_nobody_met_fits_in_the_largest_gap(mode: str, seed: int, length: int) -> None:
    """A glitch between two operations is not reported as an outage, and is no longer than the bound given instead."""
    rng = random.Random(seed)
    begin = 2 * S + rng.randint(0, S)
    rto = measured(simulate(rng, [(begin, begin + length)], length=5 * S, mode=mode), Mark(S, S))
    assert contains(rto.client.lo, rto.client.hi, length)


@QUICK
@given(MODES, SEEDS, st.integers(0, S))
def test_recovery_after_a_heal_lies_in_its_interval(mode: str, seed: int, more: int) -> None:
    """For a fault that only a repair ends, the time from the repair to recovery lies in the after-heal interval."""
    rng = random.Random(seed)
    healed = 3 * S + rng.randint(0, S)
    up = healed + more
    mark = Mark(2 * S, 2 * S, from_heal=True, heal_issued_ns=healed - rng.randint(0, 40 * MS), verified_ns=healed + rng.randint(0, 40 * MS))
    rto = measured(simulate(rng, [(2 * S, up)], length=up + 2 * S, mode=mode), mark, after_heal=True)
    assert rto.after_heal is not None
    assert contains(rto.after_heal.lo, rto.after_heal.hi, up - healed)

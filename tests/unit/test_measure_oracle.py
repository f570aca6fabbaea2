"""The fast arithmetic gives exactly what the naive oracle gives, on random histories."""

from __future__ import annotations

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import oracle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from measure_histories import marks, operations, random_histories, rules, stream, workload_info

from chaos.measure.columns import ReadColumns, columns_of
from chaos.measure.history import HistoryWriter, WorkloadInfo
from chaos.measure.live import Tail
from chaos.measure.outage import Goods, find_outages, measure_rto, sustained_starts
from chaos.measure.rpo import measure_rpo

QUICK = settings(deadline=None, max_examples=600, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(random_histories())
def test_outages_equal_the_oracles(drawn: tuple[list[oracle.Op], list[oracle.Fault], oracle.Setting]) -> None:
    """Sustained windows, the corner operations of every outage and the final state agree with the definitions."""
    ops, faults, setting = drawn
    fast = stream(ops, setting)
    assert sorted(set(oracle.sustained_windows(ops, faults, setting))) == sorted(
        set(sustained_starts(fast, marks(faults), rules(setting)).tolist())
    )
    expected, sustained = oracle.outages(ops, faults, setting)
    found = find_outages(fast, marks(faults), rules(setting))
    assert [oracle.Outage(span.g_t, span.f_r, span.l_t, span.h_r, span.bad) for span in found.spans] == expected
    assert found.sustained == sustained


@QUICK
@given(random_histories())
def test_intervals_follow_from_the_oracles_corners(drawn: tuple[list[oracle.Op], list[oracle.Fault], oracle.Setting]) -> None:
    """Client and total intervals are the formulas applied to the oracle's corner operations; without an outage, the largest gap."""
    ops, faults, setting = drawn
    expected, sustained = oracle.outages(ops, faults, setting)
    rto, _ = measure_rto(stream(ops, setting), marks(faults), rules(setting))
    los = [max(0, one.l - one.f) for one in expected]
    his = [None if one.g is None or one.h is None else one.h - one.g for one in expected]
    if not expected:
        gap = oracle.largest_gap(ops, min(fault.issued for fault in faults), setting) if sustained else None
        los, his = [0], [gap]
    whole = None if None in his else sum(his)  # type: ignore[arg-type]
    worst = None if None in his else max(his)  # type: ignore[type-var]
    assert (round(rto.client.lo * 1e9), rto.client.hi and round(rto.client.hi * 1e9)) == (max(los), worst)
    assert (round(rto.total.lo * 1e9), rto.total.hi and round(rto.total.hi * 1e9)) == (sum(los), whole)


@QUICK
@given(random_histories())
def test_the_largest_gap_equals_the_oracles(drawn: tuple[list[oracle.Op], list[oracle.Fault], oracle.Setting]) -> None:
    """The gap in which an outage could hide is found without looking at all pairs."""
    ops, faults, setting = drawn
    fast = stream(ops, setting)
    beyond = faults[0].issued
    assert Goods(fast.t[fast.good], fast.r[fast.good]).largest_gap(beyond) == oracle.largest_gap(ops, beyond, setting)


@QUICK
@given(random_histories(), st.data())
def test_loss_equals_the_oracles(drawn: tuple[list[oracle.Op], list[oracle.Fault], oracle.Setting], data: st.DataObject) -> None:
    """Lost, recovered, phantom, duplicated, split-brain writes and the time they span agree with the definitions."""
    ops, faults, setting = drawn
    if data.draw(st.booleans()):  # some of the writes belong to a workload outside the ledger
        ops = [oracle.Op(op.k, op.s, op.t, op.r, op.outcome, op.id, op.timeline, op.k % 3 > 0) for op in ops]
    rng, end = Random(data.draw(st.integers(0, 2**32))), max((op.r for op in ops), default=0) + 5
    reads = []
    ids = [op.id for op in ops if op.id is not None and op.outcome != oracle.UNSENT] + [10**6, 10**6 + 1]
    for _ in range(data.draw(st.integers(1, 3))):
        seen = [one for one in ids if rng.random() < rng.choice([0.5, 0.95, 1.0])]
        reads.append((rng.randint(0, end), seen + rng.choices(seen, k=2) if seen and rng.random() < 0.3 else seen))
    reads.sort(key=lambda read: read[0])
    expected = oracle.loss(ops, reads, faults[0].issued)
    columns = columns_of([*operations([op for op in ops if op.ledger]), *operations([op for op in ops if not op.ledger], 1)])
    infos = [
        workload_info(setting.step, setting.timeout),
        workload_info(setting.step, setting.timeout, index=1, name="other", ledger=False),
    ]
    columned = [ReadColumns("r", "", began, began, np.array(there, np.int64), np.array([], np.int64)) for began, there in reads]
    rpo = measure_rpo(columns, infos, columned, fault_ns=faults[0].issued, origin_ns=0)
    assert rpo is not None
    assert (rpo.acked, rpo.lost, frozenset(rpo.lost_ids)) == (expected.acked, len(expected.lost), expected.lost)
    assert (rpo.recovered, rpo.phantom) == (expected.recovered, expected.phantom)
    assert (rpo.duplicated, rpo.split_brain) == (expected.duplicated, expected.split_brain)
    assert (round(rpo.time.lo * 1e9), None if rpo.time.hi is None else round(rpo.time.hi * 1e9)) == (expected.lo, expected.hi)


@settings(QUICK, max_examples=150)
@given(random_histories(), st.integers(1, 7))
def test_the_live_view_says_what_the_judge_would_say_now(
    drawn: tuple[list[oracle.Op], list[oracle.Fault], oracle.Setting], pieces: int
) -> None:
    """After every batch of lines, ``sustained_since`` equals the oracle's answer on all operations written so far."""
    ops, faults, setting = drawn
    ops, fault = sorted(ops, key=lambda op: op.r), faults[0]
    with TemporaryDirectory() as directory:
        path = Path(directory) / "history.jsonl"
        tail, writer = Tail(path), HistoryWriter(path)
        info: WorkloadInfo = workload_info(setting.step, setting.timeout)
        writer.event("workload", info, 0)
        step = max(1, len(ops) // pieces)
        for end in range(step, len(ops) + step, step):
            writer.operations(operations(ops[end - step : end]))
            tail.poll()
            seconds = setting.detect / 1e9, setting.window / 1e9
            said = tail.sustained_since(fault.issued, fault.landed, *seconds, epsilon=setting.epsilon)
            assert said == oracle.outages(ops[:end], [fault], setting)[1]
        (counts,) = tail.counts(0) if ops else ((None,))
        if counts is not None:
            assert (counts.good, counts.bad) == (good := sum(oracle.is_good(op, setting) for op in ops), len(ops) - good)
        writer.close()

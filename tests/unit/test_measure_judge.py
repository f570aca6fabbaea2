"""The verdict: what passes, what fails, what proves nothing, and that each of them can happen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from measure_histories import MS, S, fault_record, history, workload_info

from chaos.core.errors import BadInput
from chaos.core.model import Budget, FaultRecord, Verdict
from chaos.measure.history import History, Operation, Outcome, WorkloadInfo
from chaos.measure.judge import check_resolution, default_timeout_s, judge, minimum_window_s
from chaos.measure.result import Judgement

STEP, TIMEOUT, ORIGIN = 10 * MS, 500 * MS, 100 * S
FAULT, END = ORIGIN + 5 * S, ORIGIN + 30 * S
FAULTS = (fault_record(FAULT, FAULT + 50 * MS),)


def appends(
    *downs: tuple[float, float], outcome: int = Outcome.UNKNOWN, index: int = 0, until_s: float = 30, lag: int = MS, answer: int = 2 * MS
) -> list[Operation]:
    """Writes every 10 ms; ``downs`` are (begin, end) in seconds from the first one."""
    ops = []
    for k in range(round(until_s * S) // STEP):
        s = ORIGIN + k * STEP
        t = s + lag
        down = any(begin * S <= k * STEP < end * S for begin, end in downs)
        r = t if down and outcome == Outcome.UNSENT else t + answer
        ops.append(Operation(index, k, s, t, r, outcome if down else Outcome.OK, 0, index * 10**6 + k))
    return ops


def info(**more: Any) -> WorkloadInfo:
    return workload_info(STEP, TIMEOUT, origin=ORIGIN, **more)


def present(ops: Sequence[Operation]) -> list[int]:
    return [op.id for op in ops if op.outcome == Outcome.OK and op.id is not None]


def read_all(ops: Sequence[Operation]) -> list[tuple[int, list[int]]]:
    return [(END + i, present(ops)) for i in range(3)]


def verdict_of(drill: History, budget: Budget, faults: Sequence[FaultRecord] = FAULTS, **more: Any) -> Judgement:
    return judge(drill, budget=budget, faults=faults, window_s=5, detect_s=1, end_ns=END, **more)


def simple(ops: Sequence[Operation], budget: Budget, **more: Any) -> Judgement:
    return verdict_of(history(ops, [info()], read_all(ops), start_ns=ORIGIN), budget, **more)


def test_a_service_that_recovers_within_the_budget_passes() -> None:
    """An outage of two seconds passes a budget of three, with the truth in both intervals."""
    judgement = simple(appends((5.1, 7.1)), Budget(rto_s=3, rpo_count=0, availability=0.9))
    assert (judgement.verdict, judgement.findings) == (Verdict.PASS, ())
    assert [(one.name, one.verdict) for one in judgement.objectives] == [
        ("rto_client", "PASS"),
        ("rto_incident", "PASS"),
        ("availability", "PASS"),
        ("rpo", "PASS"),
    ]
    assert judgement.rto is not None
    assert judgement.rto.client.lo <= 2 <= (judgement.rto.client.hi or 0)
    assert judgement.rto.incident.lo <= 2.1 <= (judgement.rto.incident.hi or 0)
    assert (judgement.control and judgement.control.operations) == 500
    assert judgement.workloads[0].availability is not None
    assert judgement.workloads[0].availability.ratio == pytest.approx(1 - 200 / 2500)


def test_a_service_that_recovers_too_late_fails() -> None:
    """An outage whose lower bound exceeds the budget is a FAIL that states interval and budget."""
    judgement = simple(appends((5.1, 9.33)), Budget(rto_s=3))
    assert judgement.verdict is Verdict.FAIL
    assert judgement.findings[0].code == "rto"
    assert judgement.findings[0].text == "RTO between 4.22 s and 4.24 s, budget 3 s"


def test_an_interval_that_straddles_the_budget_is_inconclusive() -> None:
    """Where the truth may lie on either side of the budget, the verdict says so, in enough digits to tell."""
    straddling = simple(appends((5.01, 8.01)), Budget(rto_s=3))
    assert straddling.verdict is Verdict.INCONCLUSIVE
    assert straddling.objectives[0].lo <= 3 <= (straddling.objectives[0].hi or 0)
    assert straddling.findings[0].text == "RTO between 2.99 s and 3.01 s, budget 3 s"


def test_the_incident_counts_from_the_fault() -> None:
    """A short outage long after the fault passes for clients and fails for the incident."""
    judgement = simple(appends((9.0, 9.5)), Budget(rto_s=2))
    assert [(one.name, one.verdict) for one in judgement.objectives] == [("rto_client", "PASS"), ("rto_incident", "FAIL")]
    assert judgement.verdict is Verdict.FAIL


def test_a_later_outage_is_gated_by_what_clients_saw() -> None:
    """A blip after a sustained recovery is not counted from the fault; a long second outage still fails."""
    assert simple(appends((5.1, 6.1), (20, 20.3)), Budget(rto_s=2)).verdict is Verdict.PASS
    late = simple(appends((5.1, 6.1), (15, 18)), Budget(rto_s=2))
    assert (late.verdict, [one.verdict for one in late.objectives]) == (Verdict.FAIL, ["FAIL", "PASS"])
    assert late.rto is not None
    assert [outage.incident is None for outage in late.rto.outages] == [False, True]


def test_good_operations_before_detection_are_no_recovery() -> None:
    """A blip at the fault and the real failover within the detection time are one outage."""
    ops = appends((5.0, 5.1), (11.5, 12.5))
    assert len(judge_rto(ops, detect_s=1)) == 2
    assert len(judge_rto(ops, detect_s=8)) == 1


def judge_rto(ops: Sequence[Operation], detect_s: float) -> Sequence[object]:
    drill = history(ops, [info()], read_all(ops))
    rto = judge(drill, budget=Budget(rto_s=30), faults=FAULTS, window_s=5, detect_s=detect_s, end_ns=END).rto
    assert rto is not None
    return rto.outages


def test_no_recovery_before_the_end_fails() -> None:
    """A service that is down at the end, or not good for a whole window, has no upper bound and fails whatever its budget."""
    for ops in (appends((5.1, 30)), appends((5.1, 27))):
        judgement = simple(ops, Budget(rto_s=1000))
        assert judgement.verdict is Verdict.FAIL
        assert judgement.rto is not None
        assert judgement.rto.client.hi is None
        assert "no sustained recovery" in judgement.findings[0].text


def test_too_short_an_observation_without_failures_is_inconclusive() -> None:
    """A service that nobody watched for long enough has neither passed nor failed."""
    ops = appends(until_s=8)
    judgement = simple(ops, Budget(rto_s=30))
    assert judgement.verdict is Verdict.INCONCLUSIVE


def test_a_service_that_never_failed_passes_with_the_largest_gap() -> None:
    """Without a bad operation, the RTO is bounded by the gap in which an outage could hide."""
    judgement = simple(appends(), Budget(rto_s=1))
    assert judgement.verdict is Verdict.PASS
    assert judgement.rto is not None
    assert (judgement.rto.client.lo, judgement.rto.client.hi) == (0, pytest.approx(0.012))


def test_rto_zero_allows_no_bad_and_no_unsent_operation() -> None:
    """``rto=0`` passes only where every operation after the fault was good."""
    assert simple(appends(), Budget(rto_s=0)).verdict is Verdict.PASS
    for outcome in (Outcome.UNKNOWN, Outcome.FAILED, Outcome.UNSENT):
        judgement = simple(appends((6.0, 6.01), outcome=outcome), Budget(rto_s=0))
        assert (judgement.verdict, judgement.findings[0].code) == (Verdict.FAIL, "rto")
    ops = appends()
    del ops[800]
    assert simple(ops, Budget(rto_s=0)).verdict is Verdict.INCONCLUSIVE


def test_rto_after_heal_counts_from_the_repair() -> None:
    """For a fault that only a repair ends, the time before the repair is free and the time after it counts."""
    healed = fault_record(FAULT, FAULT, heal_issued_ns=ORIGIN + 15 * S, verified_ns=ORIGIN + 15 * S + 100 * MS)
    soon = simple(appends((5.1, 16)), Budget(rto_s=2, rto_from="heal"), faults=[healed])
    assert (soon.verdict, [one.name for one in soon.objectives]) == (Verdict.PASS, ["rto"])
    assert soon.rto is not None
    assert soon.rto.after_heal is not None
    assert soon.rto.after_heal.lo <= 1 <= (soon.rto.after_heal.hi or 0)
    late = simple(appends((5.1, 19)), Budget(rto_s=2, rto_from="heal"), faults=[healed])
    assert (late.verdict, late.findings[0].code) == (Verdict.FAIL, "rto")
    early = simple(appends((5.1, 6)), Budget(rto_s=0, rto_from="heal"), faults=[healed])
    assert early.verdict is Verdict.PASS


def test_a_lost_acknowledged_write_is_found_and_fails() -> None:
    """Three acknowledged writes that no survivor has are counted, named and dated."""
    ops = appends((5.1, 7.1))
    gone = [ops[k].id for k in (505, 506, 507)]
    reads = [(END + i, [one for one in present(ops) if one not in gone]) for i in range(3)]
    judgement = verdict_of(history(ops, [info()], reads), Budget(rto_s=30, rpo_count=0))
    assert (judgement.verdict, judgement.findings[0].code) == (Verdict.FAIL, "rpo")
    assert judgement.findings[0].text == "3 acknowledged writes of 2 800 are gone (bound 0)"
    assert judgement.rpo is not None
    assert (judgement.rpo.lost, judgement.rpo.lost_ids) == (3, (505, 506, 507))
    assert judgement.rpo.time.lo == pytest.approx((ops[507].r - ops[505].r) / S)
    assert verdict_of(history(ops, [info()], reads), Budget(rto_s=30, rpo_count=3)).verdict is Verdict.PASS
    assert verdict_of(history(ops, [info()], reads), Budget(rpo_s=0.01)).verdict is Verdict.FAIL
    assert verdict_of(history(ops, [info()], reads), Budget(rpo_s=300)).verdict is Verdict.PASS


def test_a_write_that_vanishes_between_reads_is_lost() -> None:
    """What an earlier read saw and a later one does not is lost, even where its outcome was unknown."""
    ops = appends((5.1, 7.1))
    unknown = ops[600]
    assert unknown.id is not None
    reads = [(END, [*present(ops), unknown.id]), (END + 1, present(ops))]
    judgement = verdict_of(history(ops, [info()], reads), Budget(rpo_count=0))
    assert (judgement.verdict, judgement.rpo and judgement.rpo.lost_ids) == (Verdict.FAIL, (unknown.id,))


def test_a_read_answers_only_for_what_was_acknowledged_before_it() -> None:
    """A write acknowledged while the survivors were being read is not lost for being absent."""
    ops = appends()
    began = ops[2000].r
    reads = [(began, [one for one in present(ops) if one < 2000])]
    judgement = verdict_of(history(ops, [info()], reads), Budget(rpo_count=0))
    assert (judgement.verdict, judgement.rpo and judgement.rpo.acked) == (Verdict.PASS, 2000)


def test_acknowledgements_on_a_superseded_timeline_are_split_brain() -> None:
    """Writes acknowledged on timeline 1 after the first acknowledgement on timeline 2 are flagged; those absent are lost too."""
    old = {*range(1000), 1500, 1501}
    ops = [Operation(0, op.k, op.s, op.t, op.r, op.outcome, 0, op.id, None, 1 if op.k in old else 2) for op in appends()]
    reads = [(END, [one for one in present(ops) if one != 1500])]
    rpo = verdict_of(history(ops, [info()], reads), Budget(rpo_count=0)).rpo
    assert rpo is not None
    assert (rpo.split_brain, rpo.lost) == (2, 1)


def test_a_sticky_workload_counts_for_rpo_only() -> None:
    """A workload that stays on the dead primary spoils neither RTO nor the control window, but its acknowledgements must survive."""
    ops, sticky = appends((5.1, 6.1)), appends((5.1, 30), index=1)
    infos = [info(), info(index=1, name="sticky", gated=False)]
    whole = [(END, present(ops) + present(sticky))]
    assert verdict_of(history(ops + sticky, infos, whole), Budget(rto_s=3, rpo_count=0)).verdict is Verdict.PASS
    torn = [(END, present(ops) + present(sticky)[:-1])]
    assert verdict_of(history(ops + sticky, infos, torn), Budget(rto_s=3, rpo_count=0)).verdict is Verdict.FAIL


def test_the_worst_gated_workload_is_the_drills_rto() -> None:
    """Of two gated workloads the one with the longer outage decides and is named."""
    infos = [info(name="reads"), info(index=1, name="writes")]
    drill = history(appends((5.1, 6.1)) + appends((5.1, 9.1), index=1), infos)
    judgement = verdict_of(drill, Budget(rto_s=3))
    assert (judgement.rto_workload, judgement.verdict) == ("writes", Verdict.FAIL)
    assert judgement.findings[0].text.startswith("RTO of writes between 3.99 s and 4.01 s")


@pytest.mark.parametrize(
    ("ops", "faults", "budget", "code"),
    [
        (appends((5.1, 6.1)), [fault_record(FAULT, None)], Budget(rto_s=3), "landed"),
        (appends((5.1, 6.1)), [], Budget(rto_s=3), "landed"),
        (appends((2.0, 2.01), (5.1, 6.1)), FAULTS, Budget(rto_s=3), "control"),
        (appends((0, 6.1)), FAULTS, Budget(rto_s=30), "control"),
        ([op for op in appends((5.1, 6.1)) if op.r > FAULT], FAULTS, Budget(rto_s=3), "control"),
        (appends((5.1, 6.1), lag=40 * MS), FAULTS, Budget(rto_s=3), "starved"),
        ([op for op in appends((5.1, 6.1)) if op.k % 50 != 7], FAULTS, Budget(rto_s=3), "starved"),
        ([], FAULTS, Budget(rto_s=3), "starved"),
        ([op for op in appends() if op.t > FAULT + S], FAULTS, Budget(rpo_count=0), "ledger"),
    ],
)
def test_a_drill_that_proves_nothing_is_invalid(ops: list[Operation], faults: list[FaultRecord], budget: Budget, code: str) -> None:
    """Each way of proving nothing is INVALID and has its own code."""
    judgement = simple(ops, budget, faults=faults)
    assert judgement.verdict is Verdict.INVALID
    assert code in [finding.code for finding in judgement.findings if finding.verdict is Verdict.INVALID]


def test_an_operation_kind_that_never_succeeded_is_invalid() -> None:
    """A kind that was declared and never answered ok was not exercised."""
    drill = history(appends((5.1, 6.1)), [info(kinds=("read", "write"))])
    judgement = verdict_of(drill, Budget(rto_s=3))
    assert (judgement.verdict, judgement.findings[0].text) == (Verdict.INVALID, "no operation of kind write of w ever succeeded")


def test_rpo_without_a_read_is_invalid() -> None:
    """Where nobody read the survivors, no loss could have been seen."""
    judgement = verdict_of(history(appends(), [info()]), Budget(rpo_count=0))
    assert (judgement.verdict, judgement.findings[0].code) == (Verdict.INVALID, "read")


def test_a_proven_loss_fails_whatever_else_holds() -> None:
    """A loss in a drill that is otherwise INVALID is FAIL, and the loss comes first."""
    ops = appends((2.0, 2.01), (5.1, 9.1))
    drill = history(ops, [info()], [(END, present(ops)[1:])])
    judgement = verdict_of(drill, Budget(rto_s=3, rpo_count=0))
    assert judgement.verdict is Verdict.FAIL
    assert [finding.code for finding in judgement.findings] == ["rpo", "control", "rto", "rto"]


def test_operations_in_flight_when_the_fault_was_issued_belong_to_the_outage() -> None:
    """A bad operation sent before the fault and settled after it does not spoil the control window."""
    ops = [Operation(0, o.k, o.s, o.t, o.t + 450 * MS, Outcome.UNKNOWN, 0, o.id) if 495 <= o.k < 600 else o for o in appends()]
    judgement = simple(ops, Budget(rto_s=3))
    assert judgement.verdict is Verdict.PASS
    assert judgement.rto is not None
    assert judgement.rto.outages[0].bad == 105


def test_lateness_within_the_outage_does_not_count() -> None:
    """A generator that is held up by the outage itself is not starved."""
    ops = [Operation(0, o.k, o.s, o.t + 90 * MS, o.r + 90 * MS, o.outcome, 0, o.id) if 511 <= o.k < 690 else o for o in appends((5.1, 7.1))]
    assert simple(ops, Budget(rto_s=3)).verdict is Verdict.PASS


def test_the_backlog_of_an_outage_is_not_starvation_but_what_stays_late_is() -> None:
    """Operations that are sent late for at most the timeout after the recovery belong to the outage, later ones starve the drill."""

    def late_after(seconds: float) -> Verdict:
        behind = range(711, 711 + int(seconds * 100))
        late = [Operation(0, o.k, o.s, o.t + 90 * MS, o.r + 90 * MS, o.outcome, 0, o.id) for o in appends((5.1, 7.1))]
        ops = [late[o.k] if o.k in behind else o for o in appends((5.1, 7.1))]
        return simple(ops, Budget(rto_s=3)).verdict

    assert late_after(0.4) is Verdict.PASS
    assert late_after(1.2) is Verdict.INVALID


def test_availability_below_its_bound_fails() -> None:
    """Bad and unsent operations both count against availability."""
    for outcome in (Outcome.UNKNOWN, Outcome.UNSENT):
        judgement = simple(appends((6, 6.5), outcome=outcome), Budget(availability=0.99))
        assert "availability" in [finding.code for finding in judgement.findings]
        assert judgement.objectives[0].lo == pytest.approx(1 - 50 / 2500)
        assert judgement.objectives[0].verdict is Verdict.FAIL


def test_a_tolerated_share_of_bad_operations_is_no_outage() -> None:
    """With ε = 2 % a stray bad operation is neither an outage nor a spoilt control window."""
    ops = appends((2.0, 2.01), (9.0, 9.01), (12.0, 12.01))
    assert simple(ops, Budget(rto_s=1)).verdict is Verdict.INVALID
    tolerated = simple(ops, Budget(rto_s=1), epsilon=0.02)
    assert tolerated.verdict is Verdict.PASS
    assert tolerated.rto is not None
    assert tolerated.rto.outages == ()


def test_a_named_cause_dates_the_incident() -> None:
    """The incident counts from the last fault before the outage, unless another is named as the cause."""
    first, second = fault_record(FAULT - S, FAULT - S), fault_record(FAULT, FAULT)
    last = simple(appends((5.1, 6.1)), Budget(rto_s=30), faults=[first, second]).rto
    named = simple(appends((5.1, 6.1)), Budget(rto_s=30), faults=[fault_record(FAULT - S, FAULT - S, cause=True), second]).rto
    assert last is not None
    assert named is not None
    assert named.incident.lo - last.incident.lo == pytest.approx(1)


def test_a_budget_that_cannot_be_resolved_is_refused_with_one_that_would_do() -> None:
    """The rate and timeout that the refusal names are themselves accepted."""
    with pytest.raises(BadInput, match=r"use a rate of \d+ or more with a timeout of 0\.15 s or less"):
        check_resolution(Budget(rto_s=3), 4, 0.15)
    for budget_s in (0.05, 0.3, 1, 3, 30, 3600):
        for rate_hz, timeout_s in ((1, 1), (5, 0.05), (200, 1), (7, default_timeout_s(Budget(rto_s=budget_s)))):
            try:
                check_resolution(Budget(rto_s=budget_s), rate_hz, timeout_s)
            except BadInput as err:
                words = err.next_step.split()
                check_resolution(Budget(rto_s=budget_s), float(words[4]), float(words[words.index("timeout") + 2]))
    check_resolution(Budget(rto_s=0), 1, 10)
    check_resolution(Budget(rpo_count=0), 1, 10)


def test_defaults_follow_from_the_budget() -> None:
    """τ is a twentieth of the budget, at most a second; W is at least five seconds and two check intervals."""
    assert [default_timeout_s(Budget(rto_s=rto)) for rto in (2.0, 30.0, 0.0, None)] == [0.1, 1.0, 1.0, 1.0]
    assert [minimum_window_s(one) for one in (1.0, 10.0)] == [5.0, 20.0]

"""Checks and runbooks as findings, budgets of workloads of their own, and what a drill needs to prove something."""

from __future__ import annotations

import pytest
from measure_histories import MS, S, fault_record, history, workload_info

from chaos.core.acts import Acts, CheckRecord, PhaseOutcome, RunbookOutcome, StepOutcome
from chaos.core.model import Budget, Verdict
from chaos.measure.acts import judge_acts
from chaos.measure.history import Operation, Outcome
from chaos.measure.judge import judge
from chaos.measure.result import Judgement

STEP, FAULT, END = 10 * MS, 5 * S, 30 * S
FAULTS = (fault_record(FAULT, FAULT, heal_issued_ns=6 * S, healed_ns=6 * S, verified_ns=6 * S),)
HELD = CheckRecord("fine", True, "seen", 0, S)
BROKEN = CheckRecord("port", False, "refused", 0, S, 4, 5.0)


def step(name: str, begin_s: float, took_s: float, **more: object) -> StepOutcome:
    begin, end = round(begin_s * S), round((begin_s + took_s) * S)
    return StepOutcome(name, "shell", "one", "done", "", "", began_ns=begin, ended_ns=end, **more)  # type: ignore[arg-type]


def runbook(*steps: StepOutcome, budget_s: float | None = None, phase_s: float | None = None) -> RunbookOutcome:
    end = max(one.ended_ns or 0 for one in steps)
    ok = all(one.state == "done" for one in steps)
    return RunbookOutcome("book", ok, 0, end, steps, (PhaseOutcome("one", phase_s, 0, end),), budget_s)


def judged(*, acts: Acts, budget: Budget | None = None, down: tuple[float, float] = (0, 0), **rtos: float | None) -> Judgement:
    """A drill of one workload a budget, all of them down in ``down`` (seconds)."""
    infos = [workload_info(STEP, 500 * MS, index=i, name=name, ledger=False, rto_s=rto) for i, (name, rto) in enumerate(rtos.items())]
    ops = [
        Operation(info.index, k, k * STEP, k * STEP, k * STEP + MS, Outcome.FAILED if down[0] <= k * STEP / S < down[1] else Outcome.OK)
        for info in infos
        for k in range(END // STEP)
    ]
    faults = FAULTS if rtos else ()
    return judge(history(ops, infos), budget=budget or Budget(), faults=faults, window_s=5, detect_s=0, end_ns=END, acts=acts)


def test_checks_alone_make_a_drill() -> None:
    """Without a workload, a fault and an objective a drill of checks passes, and fails with the first that does not hold."""
    assert judged(acts=Acts((HELD,))).verdict is Verdict.PASS
    failed = judged(acts=Acts((HELD, BROKEN)))
    assert failed.verdict is Verdict.FAIL
    assert [(found.code, found.text) for found in failed.findings] == [("check", "the check 'port' did not hold within 5 s: refused")]


@pytest.mark.parametrize("budget", [Budget(rto_s=5), Budget(rpo_count=0), Budget(error_rate=0.1), Budget(baseline_s=5)])
def test_an_objective_needs_what_it_is_about(budget: Budget) -> None:
    """Checks do not stand in for a fault and a workload where the drill states an objective."""
    assert judged(acts=Acts((HELD,)), budget=budget).verdict is Verdict.INVALID


def test_nothing_at_all_is_invalid() -> None:
    """Without checks, runbooks, workloads and faults nothing was exercised."""
    assert judged(acts=Acts()).verdict is Verdict.INVALID


def test_a_check_that_fails_comes_before_what_follows_from_it() -> None:
    """Of failed objectives the check leads, and a proven invalidity leads the check."""
    judgement = judged(acts=Acts((BROKEN,)), budget=Budget(rto_s=1), down=(5.5, 8), writes=None)
    assert [found.code for found in judgement.findings] == ["check", "rto", "rto"]


def test_each_workload_is_held_to_its_own_budget() -> None:
    """An outage of 2.5 s fails the reads that allow 1 s, and not the writes that allow the drill's 5 s."""
    judgement = judged(acts=Acts(), budget=Budget(rto_s=5), down=(5.5, 8), reads=1.0, writes=None)
    assert {(one.name, one.workload, one.bound, str(one.verdict)) for one in judgement.objectives} == {
        ("rto_client", "reads", 1.0, "FAIL"),
        ("rto_incident", "reads", 1.0, "FAIL"),
        ("rto_client", "writes", 5, "PASS"),
        ("rto_incident", "writes", 5, "PASS"),
    }
    assert all("of reads" in found.text for found in judgement.findings)


def test_a_workload_may_have_the_only_budget() -> None:
    """Without a budget of the drill only the workload that has one is judged."""
    judgement = judged(acts=Acts(), down=(5.5, 8), reads=1.0, writes=None)
    assert {one.workload for one in judgement.objectives} == {"reads"}


def test_budgets_of_runbook_phase_and_step_are_objectives() -> None:
    """Each is held against what it took; those over it are findings that name the longest step."""
    objectives, findings = judge_acts(
        Acts((), (runbook(step("a", 0, 1, budget_s=2.0), step("b", 1, 3, budget_s=2.0), budget_s=10, phase_s=3.5),))
    )
    assert [(one.subject, one.bound, one.lo, str(one.verdict)) for one in objectives] == [
        ("book", 10, 4, "PASS"),
        ("book: one", 3.5, 4, "FAIL"),
        ("book: a", 2, 1, "PASS"),
        ("book: b", 2, 3, "FAIL"),
    ]
    assert [found.text for found in findings] == [
        "the phase 'one' of the runbook 'book' took 4 s where 3.5 s are allowed; its longest step, 'b', took 3 s",
        "the step 'b' of the runbook 'book' took 3 s where 2 s are allowed",
    ]


def test_a_budget_that_is_missed_by_a_hair_does_not_read_as_kept() -> None:
    """What was taken and what is allowed never read the same in a finding."""
    _, findings = judge_acts(Acts((), (runbook(step("a", 0, 20.0001), budget_s=20),)))
    assert "took 20.0001 s where 20 s are allowed" in findings[0].text


def test_a_step_that_failed_is_the_finding() -> None:
    """It names step, node, phase, time, what was seen, and how much was not run."""
    failed = StepOutcome("stop", "shell", "one", "failed", "it ended with 1\nno such unit", "db", None, 0, 2 * S)
    left = StepOutcome("rest", "call", "one")
    _, findings = judge_acts(Acts((), (runbook(failed, left),)))
    assert [found.text for found in findings] == [
        "the runbook 'book' stopped at the step 'stop' on db in the phase 'one' after 2 s (1 step not run): it ended with 1; no such unit"
    ]

"""Checks and runbooks as objectives and findings. Pure; what was done was done by :mod:`chaos.engine`."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.core.acts import Acts, CheckRecord, PhaseOutcome, RunbookOutcome, StepOutcome
from chaos.core.durations import format_s
from chaos.core.model import Finding, Verdict
from chaos.measure.result import ObjectiveResult
from chaos.measure.words import spelled


def judge_acts(acts: Acts) -> tuple[list[ObjectiveResult], list[Finding]]:
    """Every check that did not hold, every runbook that stopped, and everything of a runbook that took longer than its budget."""
    findings = [Finding("check", Verdict.FAIL, _check_words(check)) for check in acts.checks if not check.held]
    objectives = []
    for runbook in acts.runbooks:
        if (stopped := _stopped(runbook)) is not None:
            findings.append(stopped)
        for objective, finding in _budgets(runbook):
            objectives.append(objective)
            findings += [finding] if finding else []
    return objectives, findings


def _check_words(check: CheckRecord) -> str:
    within = "" if check.within_s is None else f" within {format_s(check.within_s)}"
    return f"the check {check.name!r} did not hold{within}: {check.seen}"


def _stopped(runbook: RunbookOutcome) -> Finding | None:
    step = runbook.failed
    if step is None:
        return None
    on = f" on {step.where}" if step.where else ""
    phase = f" in the phase {step.phase!r}" if step.phase else ""
    left = sum(1 for one in runbook.steps if one.state == "not run")
    rest = f" ({spelled(left, 'step')} not run)" if left else ""
    seen = "; ".join(line.strip() for line in step.seen.splitlines())
    text = f"the runbook {runbook.name!r} stopped at the step {step.name!r}{on}{phase} after {format_s(step.took_s)}{rest}: {seen}"
    return Finding("runbook", Verdict.FAIL, text)


def _budgets(runbook: RunbookOutcome) -> Iterator[tuple[ObjectiveResult, Finding | None]]:
    if runbook.budget_s is not None:
        yield _budget(f"the runbook {runbook.name!r}", runbook.name, runbook.budget_s, runbook.took_s, runbook.slowest)
    for phase in runbook.phases:
        if phase.budget_s is not None and phase.took_s is not None:
            named, subject = f"the phase {phase.name!r} of the runbook {runbook.name!r}", f"{runbook.name}: {phase.name}"
            yield _budget(named, subject, phase.budget_s, phase.took_s, _slowest_of(runbook, phase))
    for step in runbook.steps:
        if step.budget_s is not None and step.took_s is not None:
            named, subject = f"the step {step.name!r} of the runbook {runbook.name!r}", f"{runbook.name}: {step.name}"
            yield _budget(named, subject, step.budget_s, step.took_s, None)


def _slowest_of(runbook: RunbookOutcome, phase: PhaseOutcome) -> StepOutcome | None:
    steps = [step for step in runbook.steps if step.phase == phase.name and step.took_s is not None]
    return max(steps, key=lambda step: step.took_s or 0.0, default=None)


def _budget(
    named: str, subject: str, budget_s: float, took_s: float, slowest: StepOutcome | None
) -> tuple[ObjectiveResult, Finding | None]:
    verdict = Verdict.PASS if took_s <= budget_s else Verdict.FAIL
    objective = ObjectiveResult("runbook", budget_s, took_s, took_s, "s", verdict, subject=subject)
    if verdict is Verdict.PASS:
        return objective, None
    longest = f"; its longest step, {slowest.name!r}, took {format_s(slowest.took_s)}" if slowest is not None else ""
    told = format_s(took_s)
    if told == format_s(budget_s):
        told = f"{took_s:.9g} s"  # as many digits as it takes to tell the two apart
    text = f"{named} took {told} where {format_s(budget_s)} are allowed{longest}"
    return objective, Finding("runbook", verdict, text)

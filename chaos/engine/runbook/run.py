"""``drill.run``: the steps of a runbook one after another, each timed; the first that fails stops it. Judges nothing.

The history gets an event at both ends of every step, and every phase is a phase of the drill's timeline.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec

from chaos.core.acts import PhaseOutcome, RunbookOutcome, StepOutcome, StepState
from chaos.core.clock import now_ns
from chaos.core.durations import format_s
from chaos.core.errors import BadInput, RunbookFailed
from chaos.engine.acting import Acting
from chaos.engine.runbook.execute import StepFailed, execute
from chaos.engine.runbook.steps import Phase, Runbook, Shell, Step, budget_s
from chaos.engine.runbook.text import kept


class Runbooks:
    """The runbooks of one drill, in the order in which they were run."""

    def __init__(self, acting: Acting) -> None:
        self._acting = acting
        self.outcomes: list[RunbookOutcome] = []

    def run(self, runbook: Runbook) -> RunbookOutcome:
        """Raises RunbookFailed where a step failed. What was run until then is kept in any case."""
        if not isinstance(runbook, Runbook):
            raise BadInput("drill.run() takes a Runbook", observed=repr(runbook))
        running = _Running(runbook, self._acting)
        try:
            running.run()
        finally:
            outcome = running.outcome()
            self.outcomes.append(outcome)
            self._acting.event("runbook", {"name": runbook.name, "edge": "end"}, outcome.ended_ns)
        if (failed := outcome.failed) is not None:
            raise RunbookFailed(failed_words(outcome.name, failed))
        self._acting.say(f"runbook {outcome.name}: done in {format_s(outcome.took_s)}")
        return outcome


class _Running:
    """One runbook on its way."""

    def __init__(self, runbook: Runbook, acting: Acting) -> None:
        self._runbook, self._acting, self._began_ns = runbook, acting, now_ns()
        plan = planned(runbook)
        self._steps, self._phases = list(plan.steps), {one.name: one for one in plan.phases}
        acting.event("runbook", {"name": runbook.name, "edge": "begin"}, self._began_ns)

    def run(self) -> None:
        """Until a step fails."""
        number = 0
        for one in self._runbook.steps:
            steps = one.steps if isinstance(one, Phase) else (one,)
            with self._phase(one) if isinstance(one, Phase) else contextlib.nullcontext():
                for step in steps:
                    if not self._step(number, step):
                        return
                    number += 1

    @contextlib.contextmanager
    def _phase(self, phase: Phase) -> Iterator[None]:
        self._phases[phase.name] = msgspec.structs.replace(self._phases[phase.name], began_ns=now_ns())
        try:
            with self._acting.phase(phase.name):
                yield
        finally:
            self._phases[phase.name] = msgspec.structs.replace(self._phases[phase.name], ended_ns=now_ns())

    def _step(self, number: int, step: Step) -> bool:
        began_ns = now_ns()
        self._event(number, "begin", began_ns)
        state: StepState = "failed"
        seen, secrets = "it was interrupted", self._runbook.secrets
        try:
            seen, state = kept(execute(step, self._acting), secrets), "done"
        except StepFailed as err:
            seen = "\n".join(filter(None, (kept(err.why, secrets), kept(err.output, secrets))))
        finally:
            found = msgspec.structs.replace(self._steps[number], state=state, seen=seen, began_ns=began_ns, ended_ns=now_ns())
            self._steps[number] = found
            self._event(number, "end", found.ended_ns)
        if state == "failed":
            self._acting.say(failed_words(self._runbook.name, found))
            return False
        self._acting.say(f"{self._runbook.name}: {step.name}: {format_s(found.took_s)}")
        return True

    def _event(self, number: int, edge: str, at_ns: int | None) -> None:
        step = self._steps[number]
        name = {"runbook": self._runbook.name, "phase": step.phase, "name": step.name, "kind": step.kind, "edge": edge}
        self._acting.event("step", {**name, "state": step.state, "seen": step.seen} if edge == "end" else {**name}, at_ns)

    def outcome(self) -> RunbookOutcome:
        """As far as it got."""
        steps = tuple(self._steps)
        done = all(step.state == "done" for step in steps)
        whole_s = budget_s(self._runbook)
        return RunbookOutcome(self._runbook.name, done, self._began_ns, now_ns(), steps, tuple(self._phases.values()), whole_s)


def planned(runbook: Runbook) -> RunbookOutcome:
    """A runbook that was not run."""
    steps = tuple(
        StepOutcome(step.name, step.kind, phase.name if phase else "", where=_where(step), budget_s=budget_s(step))
        for phase, step in runbook.walk()
    )
    phases = tuple(PhaseOutcome(one.name, budget_s(one)) for one in runbook.steps if isinstance(one, Phase))
    return RunbookOutcome(runbook.name, False, now_ns(), now_ns(), steps, phases, budget_s(runbook))


def _where(step: Step) -> str:
    return step.node.name if isinstance(step, Shell) and step.node is not None else ""


def failed_words(runbook: str, step: StepOutcome) -> str:
    """The sentence that says which step stopped a runbook, and what it had seen."""
    on = f" on {step.where}" if step.where else ""
    phase = f", phase {step.phase!r}," if step.phase else ""
    seen = "; ".join(line.strip() for line in step.seen.splitlines())
    return f"the runbook {runbook!r}{phase} stopped at the step {step.name!r}{on} after {format_s(step.took_s)}: {seen}"

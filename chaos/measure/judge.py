"""From a history to a verdict. Pure: everything it knows stands in its arguments; the same history always gets the same verdict.

An objective passes iff its whole interval keeps the bound, fails iff its whole interval breaks it (or nothing recovered before the
observation ended), and is inconclusive otherwise. The worst objective decides. A drill that proved nothing is INVALID, which is
worse than FAIL: no quiet window before the fault, a fault that never landed, a starved generator, an operation kind that never
succeeded, nothing acknowledged, nothing read. A proven loss is FAIL whatever else holds.

``rto=0`` is a count and not a duration: not one bad or unsent operation after the fault (after the heal, where that is what counts).
Availability is gated by the ratio of good to scheduled operations; the share of time is reported beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import msgspec
import numpy as np

from chaos.core.acts import Acts
from chaos.core.errors import BadInput
from chaos.core.model import Budget, FaultRecord, Finding, Interval, Verdict, worst
from chaos.measure.acts import judge_acts
from chaos.measure.degradation import degradation_of, judge_degradation
from chaos.measure.detection import judge_detections
from chaos.measure.figures import control_of, workload_result
from chaos.measure.history import History, WorkloadInfo
from chaos.measure.outage import Mark, Outages, Rules, cause_of, healed_mark, marks_of
from chaos.measure.result import Control, Degradation, Judgement, ObjectiveResult, Rpo, Rto, WorkloadResult
from chaos.measure.rpo import measure_rpo
from chaos.measure.stream import Stream, stream_of
from chaos.measure.words import count, plural, spans, within

LATE_SHARE = 0.01
MIN_WINDOW_S = 5.0
MAX_TIMEOUT_S = 1.0
RESOLUTION = 5.0

NOTHING_ELSE = Acts()

_Judged: TypeAlias = "tuple[ObjectiveResult, Finding | None]"
_BADNESS = {Verdict.ABORTED: 4, Verdict.INVALID: 3, Verdict.FAIL: 2, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 0}
# Of two findings that weigh the same, that of a runbook or a check says more precisely what went wrong.
_CODES = (
    *("rpo", "landed", "control", "starved", "kind", "ledger", "read"),
    *("runbook", "check", "rto", "availability", "error-rate", "latency", "baseline", "mttd"),
)


class _Measured:
    """One workload with everything that was measured of it."""

    def __init__(self, stream: Stream, result: WorkloadResult, found: Outages | None) -> None:
        self.stream, self.result, self.found = stream, result, found

    @property
    def rto(self) -> Rto | None:
        return self.result.rto


def default_timeout_s(budget: Budget) -> float:
    """τ where the drill names none: ``min(1 s, budget/20)``."""
    return min(MAX_TIMEOUT_S, budget.rto_s / 20) if budget.rto_s else MAX_TIMEOUT_S


def rto_budget_s(workload: WorkloadInfo, budget: Budget) -> float | None:
    """Its own where it has one (reads may have to be back sooner than writes), else the drill's."""
    return workload.rto_s if workload.rto_s is not None else budget.rto_s


def minimum_window_s(check_interval_s: float) -> float:
    """The shortest W that proves a sustained recovery under an HA manager with this check interval."""
    return max(MIN_WINDOW_S, 2 * check_interval_s)


def check_resolution(budget: Budget, rate_hz: float, timeout_s: float) -> None:
    """Refuse a budget that the workload cannot resolve: ``2Δ + 2τ > budget/5``. Not for ``rto=0``, which counts operations. Likewise a
    bound on latency at or beyond τ, where an answer is not good any more.

    Raises:
        BadInput: naming a rate and a timeout that would do.
    """
    if budget.latency_p99_s is not None and budget.latency_p99_s >= timeout_s:
        raise BadInput(
            f"a workload with a timeout of {timeout_s:g} s cannot tell a latency of {budget.latency_p99_s:g} s",
            observed="what takes as long counts as not answered",
            next_step=f"give the workload a timeout of more than {budget.latency_p99_s:g} s, or the drill a lower bound",
        )
    if not budget.rto_s:
        return
    allowed_s, width_s = budget.rto_s / RESOLUTION, 2 / rate_hz + 2 * timeout_s
    if width_s <= allowed_s * (1 + 1e-9):
        return
    better_s = timeout_s if 2 * timeout_s < allowed_s * 0.9 else default_timeout_s(budget)
    better_hz = max(math.ceil(rate_hz), math.ceil(2 / (allowed_s - 2 * better_s)))
    raise BadInput(
        f"a workload of {rate_hz:g} operations/s with a timeout of {timeout_s:g} s measures RTO to within {width_s:.3g} s, "
        f"too coarse for a budget of {budget.rto_s:g} s",
        expected=f"at most {allowed_s:.3g} s (a fifth of the budget)",
        next_step=f"use a rate of {better_hz:g} or more with a timeout of {better_s:g} s or less, or a longer budget",
    )


def judge(
    history: History,
    *,
    budget: Budget,
    faults: Sequence[FaultRecord],
    window_s: float,
    detect_s: float,
    epsilon: float = 0.0,
    end_ns: int,
    acts: Acts = NOTHING_ELSE,
) -> Judgement:
    """Measure everything in ``history`` up to ``end_ns`` and hold it against ``budget``; and what else the drill did (``acts``).

    ``window_s`` is W, ``detect_s`` how long the system's manager may take to notice, ``epsilon`` the share of bad operations that a
    recovered service may show.
    """
    marks, rules = marks_of(faults), Rules.of(window_s, detect_s, epsilon)
    after_heal = budget.rto_from == "heal" or any(fault.rto_from_heal for fault in faults)
    measured = []
    for info in history.workloads:
        stream = stream_of(history.columns, info, end_ns)
        measured.append(_Measured(stream, *workload_result(stream, marks, rules, end_ns, after_heal=after_heal)))
    gated = [one for one in measured if one.result.gated and one.rto is not None]
    control = control_of([one.stream for one in measured], marks[0].issued_ns) if marks else None
    rpo = _rpo(history, measured, marks)
    objectives, findings = [], []
    for objective, finding in (
        *_rto_objectives(gated, budget, marks, after_heal),
        *_availability(gated, budget),
        *_rpo_objective(rpo, budget),
    ):
        objectives.append(objective)
        findings += [finding] if finding else []
    degradations = [found for one in measured if (found := degradation_of(one.stream, marks, end_ns)) is not None]
    detections, detected = judge_detections(history.events, marks, budget.mttd_s)
    for judged_objectives, judged_findings in (*_degradations(gated, degradations, budget), detected, judge_acts(acts)):
        objectives += judged_objectives
        findings += judged_findings
    findings += _validity(history, measured, faults, marks, control, epsilon, alone=_acts_alone(history, budget, acts))
    findings += _ledger(history, rpo, budget, marks)
    verdict, ordered = _conclude(findings)
    drill = max(gated, key=lambda one: _severity(_gating(one.rto, after_heal)), default=None)
    return Judgement(
        verdict=verdict,
        findings=ordered,
        objectives=tuple(objectives),
        rto=drill.rto if drill else None,
        rto_workload=drill.result.name if drill else "",
        workloads=tuple(one.result for one in measured),
        rpo=rpo,
        control=control,
        degradations=tuple(degradations),
        detections=tuple(detections),
    )


def _acts_alone(history: History, budget: Budget, acts: Acts) -> bool:
    """Does this drill consist of checks and runbooks, without a workload and without an objective that would take one? Then it needs
    neither a workload nor a fault to prove something (backups are looked at, say)."""
    return (
        not history.workloads
        and bool(acts.checks or acts.runbooks)
        and msgspec.structs.replace(budget, mttd_s={}, rto_from="fault") == Budget()
    )


def _degradations(
    gated: Sequence[_Measured], found: Sequence[Degradation], budget: Budget
) -> Iterator[tuple[list[ObjectiveResult], list[Finding]]]:
    for one in gated:
        for degradation in found:
            if degradation.workload == one.result.name:
                yield judge_degradation(degradation, one.stream.info, budget)


def _gating(rto: Rto | None, after_heal: bool) -> Interval:
    assert rto is not None
    return rto.after_heal if after_heal and rto.after_heal is not None else rto.client


def _severity(interval: Interval) -> tuple[float, float]:
    return (math.inf if interval.hi is None else interval.hi, interval.lo)


def _conclude(findings: Iterable[Finding]) -> tuple[Verdict, tuple[Finding, ...]]:
    """The verdict, and the findings worst first, its reason leading."""
    ordered = sorted(findings, key=lambda one: (-_BADNESS[one.verdict], _CODES.index(one.code)))
    losses = [one for one in ordered if one.code == "rpo" and one.verdict is Verdict.FAIL]
    if losses:
        return Verdict.FAIL, (*losses, *(one for one in ordered if one not in losses))
    return worst(one.verdict for one in ordered), tuple(ordered)


# --- objectives


def _bounded(interval: Interval, bound: float) -> Verdict:
    """An upper bound against an interval."""
    if interval.lo > bound:
        return Verdict.FAIL
    return Verdict.PASS if interval.hi is not None and interval.hi <= bound else Verdict.INCONCLUSIVE


def _rto_objectives(gated: Sequence[_Measured], budget: Budget, marks: Sequence[Mark], after_heal: bool) -> list[_Judged]:
    results: list[_Judged] = []
    for one in gated:
        rto, budget_s = one.rto, rto_budget_s(one.stream.info, budget)
        assert rto is not None
        if budget_s is None:
            continue
        of = f" of {one.result.name}" if len(gated) > 1 else ""
        if after_heal and rto.after_heal is not None:
            named = [("rto", f"RTO after the heal{of}", rto.after_heal)]
        else:
            named = [("rto_client", f"RTO{of}", rto.client), ("rto_incident", f"RTO{of} from the fault's issue", rto.incident)]
        for name, words, interval in named:
            verdict, text = _rto_verdict(one, words, interval, budget_s, marks, after_heal)
            results.append(
                (
                    ObjectiveResult(name, budget_s, interval.lo, interval.hi, "s", verdict, one.result.name),
                    None if verdict is Verdict.PASS else Finding("rto", verdict, text),
                )
            )
    return results


def _rto_verdict(
    one: _Measured, words: str, interval: Interval, bound_s: float, marks: Sequence[Mark], after_heal: bool
) -> tuple[Verdict, str]:
    """One RTO interval against its budget, and the sentence that says so."""
    stream = one.stream
    troubled = bool((~stream.good & (stream.r > marks[0].issued_ns)).any())
    if interval.hi is None and one.found is not None and not one.found.sustained:
        if troubled:
            return (
                Verdict.FAIL,
                f"{words} is at least {within(interval.lo)}: no sustained recovery before the observation ended (budget {bound_s:g} s)",
            )
        return (
            Verdict.INCONCLUSIVE,
            f"{words} is unknown: no operation failed, but the observation ended too early to tell (budget {bound_s:g} s)",
        )
    if bound_s > 0:
        return _bounded(interval, bound_s), f"{words} {spans(interval, bound_s)}, budget {bound_s:g} s"
    return _rto_zero(stream, words, marks, after_heal)


def _rto_zero(stream: Stream, words: str, marks: Sequence[Mark], after_heal: bool) -> tuple[Verdict, str]:
    """``rto=0``: not one bad or unsent operation since the fault, or since the heal."""
    healed = healed_mark(marks)
    lo_ns = hi_ns = marks[0].issued_ns
    if after_heal:
        if healed.heal_issued_ns is None:
            return Verdict.INCONCLUSIVE, f"{words} is unknown: nothing was healed (budget 0)"
        lo_ns, hi_ns = healed.verified_ns or end_of(stream), healed.heal_issued_ns
    spoilt = ~stream.good
    # Not after a heal, an operation in flight at the fault's issue belongs to the fault.
    certain = int((spoilt & ((stream.t if after_heal else stream.r) > lo_ns)).sum())
    bad, unsent = int((stream.bad & (stream.r > hi_ns)).sum()), int((stream.unsent & (stream.r > hi_ns)).sum())
    doubtful = bad + unsent - certain + int((stream.missing_s > hi_ns).sum())
    text = f"{count(bad)} bad and {count(unsent)} unsent {plural(bad + unsent, 'operation')} where {words} of 0 allows none"
    if certain:
        return Verdict.FAIL, text
    if doubtful:
        return (
            Verdict.INCONCLUSIVE,
            f"{count(doubtful)} {plural(doubtful, 'operation')} cannot be judged where {words} of 0 allows none that is not good",
        )
    return Verdict.PASS, ""


def end_of(stream: Stream) -> int:
    """When its last operation was settled."""
    return int(stream.r.max())


def _availability(gated: Sequence[_Measured], budget: Budget) -> list[_Judged]:
    if budget.availability is None:
        return []
    results: list[_Judged] = []
    for one in gated:
        available = one.result.availability
        if available is None:
            finding = Finding(
                "availability", Verdict.INCONCLUSIVE, f"{one.result.name}: no operation was due after the fault, availability is unknown"
            )
            results.append(
                (ObjectiveResult("availability", budget.availability, 0.0, None, "ratio", finding.verdict, one.result.name), finding)
            )
            continue
        verdict = Verdict.PASS if available.ratio >= budget.availability else Verdict.FAIL
        text = f"{one.result.name}: {available.ratio:.4%} of the operations were good, {budget.availability:.4%} must be"
        objective = ObjectiveResult(
            "availability", budget.availability, available.ratio, available.ratio, "ratio", verdict, one.result.name
        )
        results.append((objective, None if verdict is Verdict.PASS else Finding("availability", verdict, text)))
    return results


def _rpo(history: History, measured: Sequence[_Measured], marks: Sequence[Mark]) -> Rpo | None:
    if not marks or not history.reads:
        return None
    gated = [one for one in measured if one.result.gated] or measured
    firsts = [one.found.spans[0].f_r for one in gated if one.found and one.found.spans]
    fault = cause_of(marks, min(firsts, default=None))
    origin_ns = next((event.t for event in history.events if event.type == "start"), marks[0].issued_ns)
    return measure_rpo(history.columns, history.workloads, history.reads, fault_ns=fault.issued_ns, origin_ns=origin_ns)


def _rpo_objective(rpo: Rpo | None, budget: Budget) -> list[_Judged]:
    if rpo is None:
        return []
    gone = f"{count(rpo.lost)} acknowledged {plural(rpo.lost, 'write')} of {count(rpo.acked)} {'is' if rpo.lost == 1 else 'are'} gone"
    if budget.rpo_count is not None:
        verdict = Verdict.FAIL if rpo.lost > budget.rpo_count else Verdict.PASS
        objective = ObjectiveResult("rpo", budget.rpo_count, rpo.lost, rpo.lost, "writes", verdict)
        return [(objective, None if verdict is Verdict.PASS else Finding("rpo", verdict, f"{gone} (bound {budget.rpo_count})"))]
    if budget.rpo_s is not None:
        verdict = _bounded(rpo.time, budget.rpo_s)
        text = f"{gone}, the loss spans {spans(rpo.time, budget.rpo_s)} (bound {budget.rpo_s:g} s)"
        objective = ObjectiveResult("rpo", budget.rpo_s, rpo.time.lo, rpo.time.hi, "s", verdict)
        return [(objective, None if verdict is Verdict.PASS else Finding("rpo", verdict, text))]
    if rpo.lost:  # a proven loss is FAIL whatever else holds; who tolerates one says how much
        objective = ObjectiveResult("rpo", 0, rpo.lost, rpo.lost, "writes", Verdict.FAIL)
        return [(objective, Finding("rpo", Verdict.FAIL, f"{gone}, and the drill tolerates none: it states no RPO"))]
    return []


# --- what makes a drill prove nothing


def _invalid(code: str, text: str) -> Finding:
    return Finding(code, Verdict.INVALID, text)


def _validity(
    history: History,
    measured: Sequence[_Measured],
    faults: Sequence[FaultRecord],
    marks: Sequence[Mark],
    control: Control | None,
    epsilon: float,
    *,
    alone: bool,
) -> list[Finding]:
    findings = [_invalid("landed", "no fault was injected")] if not faults and not alone else []
    for fault in faults:
        if fault.landed_ns is None:
            how = "was never issued" if fault.issued_ns is None else "was issued, but its effect was never observed"
            findings.append(_invalid("landed", f"the fault {fault.kind} ({fault.fault_id}) on {', '.join(fault.nodes)} {how}"))
    if marks:
        findings += _control(measured, marks, control, epsilon)
    for one in measured:
        name, stream = one.result.name, one.stream
        if len(stream) == 0:
            findings.append(_invalid("starved", f"the workload {name} recorded no operation"))
            continue
        if one.result.gated and one.result.late_ratio > LATE_SHARE:
            share = f"{one.result.late_ratio:.1%} of the operations outside the outage were sent late or not at all"
            text = f"the generator of {name} was starved: {share} (1 % may)"
            findings.append(_invalid("starved", text))
        ever = set(np.unique(stream.kind[stream.good]).tolist())
        declared = dict(enumerate(stream.info.kinds)) | {
            kind: f"#{kind}" for kind in np.unique(stream.kind).tolist() if kind >= len(stream.info.kinds)
        }
        findings += [
            _invalid("kind", f"no operation of kind {text} of {name} ever succeeded") for kind, text in declared.items() if kind not in ever
        ]
    if not alone and not any(info.gated for info in history.workloads) and not any(info.ledger for info in history.workloads):
        findings.append(_invalid("starved", "no workload counts for RTO or RPO, nothing was exercised"))
    return findings


def _control(measured: Sequence[_Measured], marks: Sequence[Mark], control: Control | None, epsilon: float) -> list[Finding]:
    if not any(one.result.gated for one in measured):
        return []
    if control is None:
        return [_invalid("control", "there was no control window: a gated workload had settled no operation before the fault was issued")]
    findings = []
    for one in measured:
        if one.result.gated:
            before = one.stream.r <= marks[0].issued_ns
            total, spoilt = int(before.sum()), int((before & ~one.stream.good).sum())
            if spoilt > epsilon * total + 1e-9:
                text = f"{count(spoilt)} of {count(total)} operations of {one.result.name} were not good before the fault was issued"
                findings.append(_invalid("control", f"the control window was not free of faults: {text}"))
    return findings


def _ledger(history: History, rpo: Rpo | None, budget: Budget, marks: Sequence[Mark]) -> list[Finding]:
    """What stands in the way of judging RPO, and what an acknowledged write may not suffer besides being lost."""
    if (budget.rpo_count is None and budget.rpo_s is None) or not marks:
        return []
    columns, findings = history.columns, []
    chosen = np.isin(columns.w, [info.index for info in history.workloads if info.ledger]) & (columns.id >= 0)
    if not bool((chosen & (columns.outcome == 0) & (columns.r < marks[0].issued_ns)).any()):
        findings.append(_invalid("ledger", "no write was acknowledged before the fault, so no loss could have been seen"))
    if not any(read.began_ns > marks[0].issued_ns for read in history.reads):
        findings.append(_invalid("read", "the survivors were never read after the fault, so no loss could have been seen"))
    if rpo is not None and rpo.mutated:
        changed = f"{count(rpo.mutated)} {plural(rpo.mutated, 'write')} {'is' if rpo.mutated == 1 else 'are'}"
        findings.append(Finding("rpo", Verdict.FAIL, f"{changed} still there, but with other content than was written"))
    return findings

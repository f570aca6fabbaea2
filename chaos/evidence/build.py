"""From the facts of a concluded drill to a :class:`~chaos.evidence.model.Report`: conversion only, nothing is judged or drawn here."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from chaos.core.acts import CheckRecord, RunbookOutcome
from chaos.core.clock import seconds
from chaos.core.model import FaultRecord, Interval, Json
from chaos.engine.outcome import DrillOutcome
from chaos.evidence import model
from chaos.evidence.timeline import read_timeline, timeline_of
from chaos.evidence.words import clean
from chaos.measure import result
from chaos.measure.history import History

LOST_IDS_SHOWN = 100


def build_report(outcome: DrillOutcome, *, relative_to: Path, history: History | None = None) -> model.Report:
    """The report of ``outcome``. Reads the history unless it is given (a missing one is noted, not an error).

    ``relative_to`` is the directory that the report will lie in: a history below it is named by its relative path.
    """
    since = _Since(outcome.begin_ns)
    judged = outcome.judgement
    path = Path(outcome.history_path)
    line = read_timeline(path, begin_ns=outcome.begin_ns) if history is None else timeline_of(history, begin_ns=outcome.begin_ns)
    report = model.Report(
        schema=model.SCHEMA,
        run_id=outcome.run_id,
        drill=outcome.drill,
        test=outcome.test,
        scenario=outcome.scenario,
        environment=model.Environment(outcome.environment.name, outcome.environment.kind, dict(outcome.environment.identity)),
        operator=outcome.operator,
        host=dict(outcome.host),
        git=dict(outcome.git),
        versions=dict(outcome.versions),
        seed=outcome.seed,
        started_utc=outcome.started_utc,
        ended_utc=outcome.ended_utc,
        duration_s=since(outcome.end_ns),
        verdict=outcome.verdict,
        expectation=model.Expectation(outcome.expectation.verdict, outcome.expectation.because, outcome.as_expected),
        findings=[model.Finding(found.code, found.verdict, found.text) for found in judged.findings],
        objectives=[model.Objective(o.name, o.bound, o.lo, o.hi, o.unit, o.verdict, o.workload, o.subject) for o in judged.objectives],
        rto=_rto(judged.rto, judged.rto_workload, since),
        workloads=[_workload(workload, since) for workload in judged.workloads],
        rpo=_rpo(judged.rpo),
        faults=[_fault(fault, since) for fault in outcome.faults],
        phases=[model.Phase(phase.name, since(phase.begin_ns), since.maybe(phase.end_ns)) for phase in outcome.phases],
        control=_control(judged.control, since),
        system=dict(outcome.system),
        caveats=list(outcome.caveats),
        error=outcome.error,
        heal_error=outcome.heal_error,
        timeline=line,
        history=_history(path, relative_to, outcome.begin_ns),
        degradations=[_degradation(found, since) for found in judged.degradations],
        detections=[
            model.Detection(d.name, d.looks, d.unseen, since.maybe(d.fired_ns), _maybe_span(d.mttd), d.problem) for d in judged.detections
        ],
        checks=[_check(check, since) for check in outcome.checks],
        runbooks=[_runbook(runbook, since) for runbook in outcome.runbooks],
    )
    return msgspec.convert(_cleaned(msgspec.to_builtins(report)), model.Report)


def _cleaned(value: Json) -> Json:
    """Every text in ``value`` without control characters: most of it comes from outside."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(name): _cleaned(item) for name, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list | tuple) else value


class _Since:
    """Nanoseconds of the drill's clock as seconds from its start, to the microsecond."""

    def __init__(self, begin_ns: int) -> None:
        self._begin_ns = begin_ns

    def __call__(self, moment_ns: int) -> float:
        return round(seconds(moment_ns - self._begin_ns), 6)

    def maybe(self, moment_ns: int | None) -> float | None:
        return None if moment_ns is None else self(moment_ns)


def _span(interval: Interval) -> model.Span:
    return model.Span(interval.lo, interval.hi)


def _maybe_span(interval: Interval | None) -> model.Span | None:
    return None if interval is None else _span(interval)


def _rto(rto: result.Rto | None, workload: str, since: _Since) -> model.Rto | None:
    if rto is None:
        return None
    return model.Rto(
        client=_span(rto.client),
        incident=_span(rto.incident),
        after_heal=_maybe_span(rto.after_heal),
        total=_span(rto.total),
        workload=workload,
        outages=[_outage(outage, since) for outage in rto.outages],
    )


def _outage(outage: result.Outage, since: _Since) -> model.Outage:
    return model.Outage(
        client=_span(outage.client),
        incident=_maybe_span(outage.incident),
        good_sent_s=since.maybe(outage.g_sent_ns),
        bad_settled_s=since(outage.f_settled_ns),
        bad_sent_s=since(outage.l_sent_ns),
        good_settled_s=since.maybe(outage.h_settled_ns),
        bad=outage.bad,
    )


def _workload(workload: result.WorkloadResult, since: _Since) -> model.Workload:
    up = workload.availability
    return model.Workload(
        name=workload.name,
        rate_hz=workload.rate_hz,
        timeout_s=workload.timeout_s,
        gated=workload.gated,
        ledger=workload.ledger,
        scheduled=workload.scheduled,
        good=workload.good,
        bad=workload.bad,
        unsent=workload.unsent,
        lag_p99_s=workload.lag_p99_s,
        late_ratio=workload.late_ratio,
        latency_p50_s=workload.latency_p50_s,
        latency_p99_s=workload.latency_p99_s,
        rto=_rto(workload.rto, workload.name, since),
        availability=None if up is None else model.Availability(up.ratio, up.time.lo, up.time.hi),
    )


def _rpo(rpo: result.Rpo | None) -> model.Rpo | None:
    if rpo is None:
        return None
    return model.Rpo(
        acked=rpo.acked,
        lost=rpo.lost,
        lost_ids=list(rpo.lost_ids[:LOST_IDS_SHOWN]),
        ratio=rpo.ratio,
        time=_span(rpo.time),
        recovered=rpo.recovered,
        phantom=rpo.phantom,
        duplicated=rpo.duplicated,
        mutated=rpo.mutated,
        split_brain=rpo.split_brain,
        reads=[model.Read(r.label, r.source, r.began_s, r.rows, r.acked_before, r.lost) for r in rpo.reads],
    )


def _fault(fault: FaultRecord, since: _Since) -> model.Fault:
    return model.Fault(
        id=fault.fault_id,
        kind=fault.kind,
        node=", ".join(fault.nodes),
        nodes=list(fault.nodes),
        params=dict(fault.params),
        cause=fault.cause,
        planned=since.maybe(fault.planned_ns),
        armed=since.maybe(fault.armed_ns),
        issued=since.maybe(fault.issued_ns),
        landed=since.maybe(fault.landed_ns),
        heal_issued=since.maybe(fault.heal_issued_ns),
        healed=since.maybe(fault.healed_ns),
        verified=since.maybe(fault.verified_ns),
        proof=model.Proof(fault.landed_proof, fault.healed_proof),
    )


def _control(control: result.Control | None, since: _Since) -> model.Control | None:
    if control is None:
        return None
    return model.Control(
        begin_s=since(control.begin_ns),
        end_s=since(control.end_ns),
        length_s=control.length_s,
        operations=control.operations,
        good=control.good,
        latency_p50_s=control.latency_p50_s,
        latency_p99_s=control.latency_p99_s,
    )


def _degradation(found: result.Degradation, since: _Since) -> model.Degradation:
    back = found.returned
    shown = None
    if back is not None:
        shown = model.Returned(
            baseline_operations=back.baseline_operations,
            baseline_p50_s=back.baseline_p50_s,
            baseline_p90_s=back.baseline_p90_s,
            limit_p50_s=back.limit_p50_s,
            limit_p90_s=back.limit_p90_s,
            window_s=back.window_s,
            windows=back.windows,
            last_p50_s=back.last_p50_s,
            last_p90_s=back.last_p90_s,
            interval=_maybe_span(back.interval),
        )
    return model.Degradation(
        workload=found.workload,
        begin_s=since(found.begin_ns),
        end_s=since(found.end_ns),
        operations=found.operations,
        errors=found.errors,
        error_rate=found.error_rate,
        latency_p50_s=found.latency_p50_s,
        latency_p99=_maybe_span(found.latency_p99),
        returned=shown,
    )


def _check(check: CheckRecord, since: _Since) -> model.Check:
    took_s = round(seconds(check.ended_ns - check.began_ns), 6)
    return model.Check(check.name, check.held, check.seen, since(check.began_ns), took_s, check.attempts, check.within_s)


def _runbook(runbook: RunbookOutcome, since: _Since) -> model.Runbook:
    return model.Runbook(
        name=runbook.name,
        ok=runbook.ok,
        began_s=since(runbook.began_ns),
        took_s=runbook.took_s,
        budget_s=runbook.budget_s,
        phases=[model.RunbookPhase(one.name, since.maybe(one.began_ns), one.took_s, one.budget_s) for one in runbook.phases],
        steps=[
            model.Step(one.name, one.kind, one.phase, one.where, one.state, one.seen, since.maybe(one.began_ns), one.took_s, one.budget_s)
            for one in runbook.steps
        ],
    )


def _history(path: Path, relative_to: Path, begin_ns: int) -> model.History:
    """Digest of what the history holds now; later lines (it is append-only) do not invalidate it, as ``bytes`` says how far."""
    shown = path.relative_to(relative_to) if path.is_relative_to(relative_to) else path
    if not path.is_file():
        return model.History(str(shown), "", 0, begin_ns)
    digest, length = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            length += len(block)
    return model.History(str(shown), digest.hexdigest(), length, begin_ns)

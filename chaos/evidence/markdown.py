"""``report.md``: the facts of the report, compact, for a pull request or a ticket. Text from outside cannot become markup."""

from __future__ import annotations

import re

from chaos.core.durations import format_s
from chaos.evidence import words
from chaos.evidence.model import Report

_SPECIAL = re.compile(r"([\\`*_{}\[\]#|~])")


def render_markdown(report: Report) -> str:
    """The report as CommonMark with tables (GitHub's)."""
    head = words.headline(report)
    parts = [
        f"# {md(head.verdict_line)}: {md(report.test or report.drill)}",
        md(head.sentence),
        *[f"**{label}** {md(text)}" for label, text in (("Error:", report.error), ("Healing failed:", report.heal_error)) if text],
        _facts(report),
        _figures(report),
        _objectives(report),
        _findings(report),
        _runbooks(report),
        _checks(report),
        _signals(report),
        _degradations(report),
        _faults(report),
        _rpo(report),
        _workloads(report),
        _caveats(report),
        _history(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def md(text: str) -> str:
    """``text`` on one line, its markup characters escaped."""
    return _SPECIAL.sub(r"\\\1", words.one_line(text)).replace("&", "&amp;").replace("<", "&lt;")


def _table(header: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _facts(report: Report) -> str:
    scenario = f", scenario {md(report.scenario)}" if report.scenario else ""
    commit = f", git {md(report.git['commit'][:12])}" if report.git.get("commit") else ""
    return (
        f"Drill {md(report.drill)}{scenario}; environment {md(report.environment.name)} ({md(report.environment.kind)}); "
        f"{words.when(report.started_utc)}, {format_s(report.duration_s)}; by {md(report.operator) or 'unknown'}{commit}; "
        f"seed {report.seed}; run {md(report.run_id)}."
    )


def _figures(report: Report) -> str:
    rows = [[md(figure.label), f"**{md(figure.value)}**", md(figure.note)] for figure in words.key_figures(report)]
    return _table(["", "measured", ""], rows)


def _objectives(report: Report) -> str:
    rows = [[md(o.name), md(o.subject or o.workload), words.bound(o), words.measured(o), o.verdict.value] for o in report.objectives]
    table = _table(["objective", "of", "bound", "measured", "verdict"], rows)
    return f"## Objectives\n\n{table}" if table else ""


def _findings(report: Report) -> str:
    lines = [f"- {found.verdict.value} **{md(found.code)}** {md(found.text)}" for found in report.findings]
    return "## Findings\n\n" + "\n".join(lines) if lines else ""


def _runbooks(report: Report) -> str:
    parts = []
    for one in report.runbooks:
        rows = [
            [
                md(step.phase),
                md(step.name),
                md(step.where) or "here",
                step.state,
                format_s(step.took_s) if step.took_s is not None else "–",
                format_s(step.budget_s) if step.budget_s is not None else "",
            ]
            for step in one.steps
        ]
        within = f" of {format_s(one.budget_s)} allowed" if one.budget_s is not None else ""
        table = _table(["phase", "step", "on", "state", "took", "budget"], rows)
        parts.append(f"## Runbook {md(one.name)}\n\n{'Done' if one.ok else 'Stopped'} after {format_s(one.took_s)}{within}.\n\n{table}")
    return "\n\n".join([*parts, *(md(text) for text in words.runbook_share(report) if text)])


def _checks(report: Report) -> str:
    rows = [[md(one.name), "holds" if one.held else "**does not hold**", md(one.seen), format_s(one.took_s)] for one in report.checks]
    table = _table(["check", "", "seen", "took"], rows)
    return f"## Checks\n\n{table}" if table else ""


def _signals(report: Report) -> str:
    rows = [[md(one.name), md(words.detected(one)), str(one.looks), str(one.unseen)] for one in report.detections]
    table = _table(["signal", "time to detect", "looks", "of these blind"], rows)
    return f"## Signals\n\n{table}" if table else ""


def _degradations(report: Report) -> str:
    rows = [
        [
            md(one.workload),
            str(one.operations),
            str(one.errors),
            words.latency(one.latency_p50_s),
            words.latency_span(one.latency_p99),
            words.back(one),
        ]
        for one in report.degradations
    ]
    table = _table(["workload", "operations", "not good", "latency p50", "p99", "back at its baseline"], rows)
    return f"## Under the fault\n\nFrom the fault's issue to its verified heal.\n\n{table}" if table else ""


def _faults(report: Report) -> str:
    if not report.faults:
        return "## Faults\n\nNo fault was injected."
    rows = [
        [
            md(words.fault_title(fault)),
            *[words.at(getattr(fault, state)) for state in ("issued", "landed", "heal_issued", "healed", "verified")],
        ]
        for fault in report.faults
    ]
    table = _table(["fault", "issued", "landed", "heal issued", "healed", "verified"], rows)
    proofs = [
        f"- {md(words.fault_title(fault))}: landed: {md(fault.proof.landed) or 'no proof'}; healed: {md(fault.proof.healed) or 'no proof'}"
        for fault in report.faults
    ]
    return f"## Faults\n\n{table}\n\n" + "\n".join(proofs)


def _rpo(report: Report) -> str:
    rpo = report.rpo
    if rpo is None:
        return ""
    other = (
        ", ".join(f"{name} {getattr(rpo, name)}" for name in ("recovered", "phantom", "duplicated", "mutated"))
        + f", split brain {rpo.split_brain}"
    )
    rows = [[md(r.label), md(r.source), words.at(r.began_s), str(r.acked_before), str(r.rows), str(r.lost)] for r in rpo.reads]
    table = _table(["read", "from", "began", "acknowledged before", "rows", "lost"], rows)
    lost_ids = f"\n\nFirst lost ids: {words.ranges(rpo.lost_ids)}" if rpo.lost_ids else ""
    return f"## Acknowledged writes (RPO)\n\n{words.lost(rpo)}; {other}.\n\n{table}{lost_ids}"


def _workloads(report: Report) -> str:
    rows = [
        [
            md(w.name),
            f"{w.rate_hz:g}/s",
            format_s(w.timeout_s),
            str(w.scheduled),
            str(w.good),
            str(w.bad),
            str(w.unsent),
            format_s(w.lag_p99_s),
        ]
        for w in report.workloads
    ]
    table = _table(["workload", "rate", "timeout", "scheduled", "good", "bad", "unsent", "lag p99"], rows)
    return f"## Workloads\n\n{table}" if table else ""


def _caveats(report: Report) -> str:
    return "\n".join(f"> {md(caveat)}" for caveat in report.caveats)


def _history(report: Report) -> str:
    if not report.history.sha256:
        return "No history file."
    return f"History {md(report.history.path)}: sha256 of the first {report.history.bytes} bytes `{report.history.sha256}`."

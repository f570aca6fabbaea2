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
    rows = [[md(o.name), md(o.workload), words.bound(o), words.measured(o), o.verdict.value] for o in report.objectives]
    table = _table(["objective", "workload", "bound", "measured", "verdict"], rows)
    return f"## Objectives\n\n{table}" if table else ""


def _findings(report: Report) -> str:
    lines = [f"- {found.verdict.value} **{md(found.code)}** {md(found.text)}" for found in report.findings]
    return "## Findings\n\n" + "\n".join(lines) if lines else ""


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

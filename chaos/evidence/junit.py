"""A drill as JUnit properties: names with dots, values as text, one fact each. Where they are attached is the plugin's affair."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.engine.outcome import DrillOutcome
from chaos.evidence.terminal import Plain, summary_dict

if TYPE_CHECKING:
    from chaos.evidence.report import ReportPaths

_FACTS = (
    "verdict",
    "expect",
    "as_expected",
    "scenario",
    "environment",
    "run_id",
    "seed",
    "rto_client_lo_s",
    "rto_client_hi_s",
    "rto_incident_lo_s",
    "rto_incident_hi_s",
    "rpo_acked",
    "rpo_lost",
    "availability",
    "duration_s",
)


def properties(outcome: DrillOutcome, paths: ReportPaths) -> list[tuple[str, str]]:
    """``gameday.verdict``, ``gameday.rto_client_lo_s`` …; what was not measured is left out, an upper bound never seen is ``inf``.

    All values are str, so that xdist carries them and every JUnit reader takes them.
    """
    summary = summary_dict(outcome, paths)
    facts = [(f"gameday.{name}", _text(name, summary)) for name in _FACTS]
    objectives = [
        (".".join(filter(None, ("gameday.objective", objective.name, objective.workload or objective.subject))), objective.verdict.value)
        for objective in paths.report.objectives
    ]
    findings = [("gameday.finding", f"{found.verdict.value} {found.code}") for found in paths.report.findings]
    files = [("gameday.report", str(paths.html)), ("gameday.report_json", str(paths.json))]
    return [(name, value) for name, value in facts if value] + objectives + findings + files


def _text(name: str, summary: dict[str, Plain]) -> str:
    value = summary[name]
    if value is None:
        unbounded = name.endswith("_hi_s") and summary[name.replace("_hi_s", "_lo_s")] is not None
        return "inf" if unbounded else ""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)

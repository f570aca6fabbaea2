"""One screen of result, rendered from plain summaries: so that it can be shown by a process that did not run the drill.

Nothing is printed here. ``summary_dict`` is made where the drill ran and crosses xdist's wire (plain types only);
``render_summary`` turns a list of them into a rich renderable, and ``plain_summary`` into text without colours.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from chaos.engine.outcome import DrillOutcome
from chaos.evidence import words
from chaos.evidence.model import Report

if TYPE_CHECKING:
    from chaos.evidence.report import ReportPaths

Plain: TypeAlias = "str | int | float | bool | None | list[Plain] | dict[str, Plain]"
Summary: TypeAlias = Mapping[str, Plain]

SCREEN_COLUMNS = 100
FAULTS_SHOWN = 8
FINDINGS_SHOWN = 4
_STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow", "invalid": "bold magenta", "aborted": "bold white"}
_STYLES["expected"] = "bold cyan"


def summary_dict(outcome: DrillOutcome, paths: ReportPaths) -> dict[str, Plain]:
    """What the terminal, the distribution and a controller need of a drill; nothing but plain types, whatever the outcome holds."""
    summary = report_summary(paths.report, html=str(paths.html), json=str(paths.json))
    return summary | {"as_expected": outcome.as_expected}


def report_summary(report: Report, *, html: str, json: str) -> dict[str, Plain]:
    """The same of a report that was loaded."""
    head, rto, rpo, up = words.headline(report), report.rto, report.rpo, words.main_availability(report)
    figures: list[Plain] = [
        {"label": figure.label, "value": figure.value, "note": figure.note, "verdict": figure.verdict}
        for figure in words.key_figures(report)
    ]
    return {
        "schema": "gameday.summary/1",
        "run_id": report.run_id,
        "drill": report.drill,
        "test": words.one_line(report.test),
        "scenario": report.scenario,
        "environment": report.environment.name,
        "verdict": report.verdict.value,
        "as_expected": report.expectation.as_expected,
        "expect": report.expectation.expect.value,
        "headline": head.verdict_line,
        "tone": head.tone,
        "sentence": words.one_line(head.sentence),
        "findings": [f"{found.verdict.value} {found.code}: {words.one_line(found.text)}" for found in words.other_findings(report)],
        "figures": figures,
        "faults": [f"{words.fault_title(fault)}: {words.fault_fate(fault)}" for fault in report.faults],
        "rto_client_lo_s": rto.client.lo_s if rto else None,
        "rto_client_hi_s": rto.client.hi_s if rto else None,
        "rto_incident_lo_s": rto.incident.lo_s if rto else None,
        "rto_incident_hi_s": rto.incident.hi_s if rto else None,
        "rpo_acked": rpo.acked if rpo else None,
        "rpo_lost": rpo.lost if rpo else None,
        "availability": up.ratio if up else None,
        "duration_s": report.duration_s,
        "seed": report.seed,
        "runbooks": [words.one_line(text) for text in words.runbook_share(report) if text],
        "error": words.one_line(report.error),
        "heal_error": words.one_line(report.heal_error),
        "caveats": [words.one_line(caveat) for caveat in report.caveats],
        "html": html,
        "json": json,
    }


def render_summary(summaries: Sequence[Summary]) -> RenderableType:
    """All drills of a run, one block each, for a rich console. With more than four, those that came out as expected get one line."""
    blocks: list[RenderableType] = []
    short = len(summaries) > 4
    for summary in summaries:
        blocks.append(_line(summary) if short and summary["as_expected"] else _block(summary))
    if len(summaries) > 1:
        blocks.append(_total(summaries))
    return Group(*blocks)


def plain_summary(summaries: Sequence[Summary], *, columns: int = SCREEN_COLUMNS) -> str:
    """``render_summary`` as text without colours or escapes."""
    return plain(render_summary(summaries), columns=columns)


def plain(renderable: RenderableType, *, columns: int = SCREEN_COLUMNS) -> str:
    """Any renderable as text; no line ends in blanks."""
    out = io.StringIO()
    Console(file=out, width=columns, color_system=None, force_terminal=False, legacy_windows=False, emoji=False).print(
        renderable, crop=False
    )
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _block(summary: Summary) -> RenderableType:
    style = _STYLES[str(summary["tone"])]
    head = Text.assemble((str(summary["headline"]), style), "  ", (str(summary["drill"]), "bold"))
    parts: list[RenderableType] = [head, Text(str(summary["sentence"]))]
    for label, key in (("error", "error"), ("healing failed", "heal_error")):
        if summary[key]:
            parts.append(Text(f"{label}: {summary[key]}", style="red"))
    body: list[RenderableType] = [_figures(_dicts(summary["figures"]))] if summary["figures"] else []
    body += _list("fault ", _texts(summary["faults"]), FAULTS_SHOWN)
    body += _list("steps ", _texts(summary.get("runbooks")), 3)
    body += _list("also  ", _texts(summary["findings"]), FINDINGS_SHOWN)
    body += _list("note  ", _texts(summary["caveats"]), 2)
    # A path that was broken over lines could not be clicked or copied.
    where = Text.assemble(("  report  ", "dim"), _near(str(summary["html"])), no_wrap=True, overflow="ignore")
    return Group(Rule(style="dim"), *parts, Padding(Group(*body), (0, 0, 0, 2)), where)


def _near(path: str) -> str:
    """Relative to where the person stands, if it lies below."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _figures(figures: Sequence[Mapping[str, Plain]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for _ in range(4):
        table.add_column(overflow="fold")
    for figure in figures:
        verdict = str(figure["verdict"])
        style = _STYLES.get(verdict.lower(), "")
        table.add_row(
            Text(str(figure["label"])), Text(str(figure["value"]), style="bold"), Text(str(figure["note"])), Text(verdict, style=style)
        )
    return table


def _list(label: str, lines: Sequence[str], most: int) -> list[RenderableType]:
    shown: list[RenderableType] = [_labelled(label.strip(), Text(line)) for line in lines[:most]]
    if len(lines) > most:
        shown.append(_labelled("", Text(f"and {len(lines) - most} more, in the report", style="dim")))
    return shown


def _labelled(label: str, text: Text) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=6, style="dim")
    grid.add_column(overflow="fold")
    grid.add_row(label, text)
    return grid


def _line(summary: Summary) -> RenderableType:
    figures = {str(figure["label"]): str(figure["value"]) for figure in _dicts(summary["figures"])}
    values = ", ".join(f"{label.partition(',')[0]} {value}" for label, value in figures.items() if not label.startswith("RTO, from"))
    return Text.assemble((str(summary["headline"]), _STYLES[str(summary["tone"])]), f"  {summary['drill']}  ", (values, "dim"))


def _total(summaries: Sequence[Summary]) -> RenderableType:
    unexpected = [summary for summary in summaries if not summary["as_expected"]]
    text = f"{len(summaries)} drills: {len(summaries) - len(unexpected)} as expected, {len(unexpected)} not"
    return Group(Rule(style="dim"), Text(text, style=_STYLES["fail"] if unexpected else _STYLES["pass"]))


def _texts(value: Plain) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _dicts(value: Plain) -> list[dict[str, Plain]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []

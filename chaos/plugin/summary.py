"""The end of a run, in the process that talks to the person: all drills on one screen, those of crashed workers included."""

from __future__ import annotations

import contextlib
import html
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from chaos.core.errors import BadInput
from chaos.evidence.distribution import render_distribution
from chaos.evidence.html_extras import COLUMNS, summary_cells
from chaos.evidence.model import Report
from chaos.evidence.paths import point_latest
from chaos.evidence.report import load_report
from chaos.evidence.terminal import Summary, plain, plain_summary, render_summary, report_summary
from chaos.plugin.keys import OPTIONS, SUMMARIES
from chaos.plugin.options import GamedayOptions

_REPEAT = re.compile(r"-\d+\]$")


def summaries(config: pytest.Config) -> list[Summary]:
    """Of every drill of this run that reached a verdict: first those whose tests reported, then what lies on disk besides.

    A worker that crashed after its report was written has reported nothing; the file counts. Attempts that were measured anew do not.
    """
    reported = config.stash[SUMMARIES].copy()
    told = {str(summary["drill"]) for summary in reported.values()}
    for report, file in _unreported(config):
        if report.drill not in told:
            reported[str(file)] = report_summary(report, html=str(file.with_suffix(".html")), json=str(file))
    return list(reported.values())


def earlier_attempts(config: pytest.Config) -> list[str]:
    """One line for each attempt at a drill that measured nothing and was made anew."""
    told = {str(summary["drill"]) for summary in config.stash[SUMMARIES].values()}
    return [
        f"measured anew, because {_reason(report)}: {report.drill}  {_shown(file.with_suffix('.html'))}"
        for report, file in _unreported(config)
        if report.drill in told
    ]


def _reason(report: Report) -> str:
    starved = any(finding.code == "starved" for finding in report.findings)
    return "it was starved" if starved else "the system was not well before"


def _unreported(config: pytest.Config) -> list[tuple[Report, Path]]:
    """Reports on the disk that no test of this run has told of last."""
    known = {str(summary["json"]) for summary in config.stash[SUMMARIES].values()}
    found = []
    for file in sorted(config.stash[OPTIONS].run_dir.glob("*/report.json")):
        if str(file) not in known:
            with contextlib.suppress(BadInput):  # half a report is none
                found.append((load_report(file), file))
    return found


def show(terminal: pytest.TerminalReporter, found: Sequence[Summary], options: GamedayOptions, anew: Sequence[str] = ()) -> None:
    """One screen, in colour where the terminal has it."""
    terminal.write_sep("=", "drills")
    columns = max(80, min(shutil.get_terminal_size().columns, 120))
    if terminal.hasmarkup:
        from rich.console import Console

        console = Console(width=columns, force_terminal=True, legacy_windows=False)
        with console.capture() as text:
            console.print(render_summary(found), crop=False)
        terminal.write(text.get())
    else:
        terminal.write(plain_summary(found, columns=columns))
    for group in repeats(found):
        terminal.write_sep("-", "repeats")
        terminal.write(plain(render_distribution(group), columns=columns))
    for line in anew:
        terminal.write_line(line)
    terminal.write_line(f"run {options.run_id}, seed {options.seed}: {_shown(options.run_dir)}")


def repeats(found: Sequence[Summary]) -> list[list[Summary]]:
    """The drills that ran more than once (``…[docker-1]``, ``…[docker-2]``), each with all its runs."""
    groups: dict[str, list[Summary]] = {}
    for summary in found:
        if numbered := _REPEAT.search(str(summary["drill"])):
            groups.setdefault(str(summary["drill"])[: numbered.start()], []).append(summary)
    return [group for group in groups.values() if len(group) > 1]


def finish_run(options: GamedayOptions) -> None:
    """``.gameday/runs/latest`` is this run. Nothing where it made no directory."""
    if options.run_dir.is_dir():
        point_latest(options.run_dir)


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def html_lines(config: pytest.Config) -> list[str]:
    """One escaped paragraph per drill."""
    lines = []
    for summary in summaries(config):
        text = f"{summary['drill']}: {summary['sentence']}"
        lines.append(f"<p><strong>{html.escape(str(summary['headline']))}</strong> {html.escape(text)}</p>")
    return lines


def header_cells() -> list[str]:
    """Of the columns that drills add to pytest-html's table."""
    return [f"<th>{html.escape(name)}</th>" for name in COLUMNS]


def row_cells(summary: Summary | None) -> list[str]:
    """As many for one row; empty ones for a test that is no drill."""
    return summary_cells(summary) if summary is not None else ["<td></td>"] * len(COLUMNS)

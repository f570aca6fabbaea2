"""The evidence of one drill on disk: ``report.json`` first, then what is rendered from it.

``report.json`` is the source of truth; HTML and Markdown can be made from it again at any time (:func:`render`). Judging is not done
here: verdicts come in with the outcome.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from chaos.core.errors import BadInput
from chaos.engine.outcome import DrillOutcome
from chaos.evidence.build import build_report
from chaos.evidence.chart import draw_svg
from chaos.evidence.markdown import render_markdown
from chaos.evidence.model import SCHEMA, Report
from chaos.evidence.page import render_html
from chaos.evidence.paths import drill_directory, point_latest, run_directory, safe_name, write_whole
from chaos.measure.history import History

__all__ = [
    "Report",
    "ReportPaths",
    "drill_directory",
    "load_report",
    "point_latest",
    "render",
    "run_directory",
    "safe_name",
    "write_report",
]


class ReportPaths(msgspec.Struct, frozen=True):
    """Where the report of a drill lies. ``report`` is what was written."""

    directory: Path
    json: Path
    html: Path
    markdown: Path
    report: Report


def write_report(outcome: DrillOutcome, directory: Path, *, history: History | None = None) -> ReportPaths:
    """Write ``report.json``, ``report.html`` and ``report.md`` into ``directory``, each whole or not at all, in this order.

    ``history`` saves reading it once more, where the judge already has.

    Raises:
        BadInput: where the directory cannot be written to.
    """
    directory = directory.absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        report = build_report(outcome, relative_to=directory, history=history)
        write_whole(directory / "report.json", msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
        return render(report, directory)
    except OSError as err:
        where, next_step = str(directory), "free space there, or choose another place with --drill-dir; then gameday report writes it again"
        raise BadInput("cannot write the report of a drill", where=where, observed=str(err), next_step=next_step) from err


def render(report: Report, directory: Path) -> ReportPaths:
    """Write what is rendered from ``report`` (HTML and Markdown) into ``directory``."""
    paths = ReportPaths(directory, directory / "report.json", directory / "report.html", directory / "report.md", report)
    chart, no_chart = "", report.timeline.note
    if not no_chart:
        try:
            chart = draw_svg(report, cache=_cache(directory))
        except (ImportError, ValueError, RuntimeError) as err:  # a chart that cannot be drawn must not cost the page
            no_chart = f"Drawing it failed: {type(err).__name__}: {err}"
    write_whole(paths.html, render_html(report, chart, no_chart=no_chart))
    write_whole(paths.markdown, render_markdown(report))
    return paths


def load_report(path: Path) -> Report:
    """The report in a ``report.json``, or in the directory that holds one.

    Raises:
        BadInput: where it is missing, or is not a report of this schema; the message says which field is wrong.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        return msgspec.json.decode(file.read_bytes(), type=Report)
    except OSError as err:
        raise BadInput(
            "cannot read the report", where=str(file), observed=str(err), next_step="name a report.json or its directory"
        ) from err
    except msgspec.DecodeError as err:
        raise BadInput("not a drill report", where=str(file), expected=f'a JSON document of schema "{SCHEMA}"', observed=str(err)) from err


def _cache(directory: Path) -> Path | None:
    """``.gameday/cache/matplotlib`` for a report below ``.gameday/runs``; None elsewhere (matplotlib then decides)."""
    runs = next((parent for parent in directory.parents if parent.name == "runs"), None)
    return None if runs is None else runs.parent / "cache" / "matplotlib"

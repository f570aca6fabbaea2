"""What a drill adds to pytest-html: cells for its row and a block with a small chart, self-contained and escaped.

pytest-html does not escape what plugins hand to it, so everything here does. Nothing is attached here: the plugin does that when the
report of the call is made, because what is set in fixtures vanishes. The small chart is drawn by hand: matplotlib is slow.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.engine.outcome import DrillOutcome
from chaos.evidence import words
from chaos.evidence.model import Report, Series
from chaos.evidence.terminal import Summary

if TYPE_CHECKING:
    from chaos.evidence.report import ReportPaths

COLUMNS = ("Verdict", "RTO", "Lost writes")
_COLOURS = {
    "pass": "#17663a",
    "fail": "#a61b10",
    "inconclusive": "#855200",
    "invalid": "#5b3fa6",
    "aborted": "#475467",
    "expected": "#0b5c74",
}
_WIDTH, _HEIGHT = 560, 60


def summary_cells(summary: Summary) -> list[str]:
    """``<td>`` elements for :data:`COLUMNS`, from a plain summary (so a controller can make them)."""
    figures = summary["figures"] if isinstance(summary["figures"], list) else []
    values = {str(figure["label"]): str(figure["value"]) for figure in figures if isinstance(figure, dict)}
    worst = ("RTO, as clients", "RTO of ")  # of several workloads all are shown
    rto = "; ".join(value for label, value in values.items() if label.startswith(worst))
    lost = "" if summary["rpo_lost"] is None else f"{summary['rpo_lost']} of {summary['rpo_acked']}"
    colour = _COLOURS[str(summary["tone"])]
    verdict = f'<td><strong style="color:{colour}">{html.escape(str(summary["headline"]))}</strong></td>'
    return [verdict, f"<td>{html.escape(rto)}</td>", f"<td>{html.escape(lost)}</td>"]


def row_html(outcome: DrillOutcome, paths: ReportPaths | None = None, *, link: str = "") -> str:
    """A block for the row of a drill: verdict, reason, figures, small chart, and a link to the report where ``link`` is given.

    ``paths`` (from ``write_report``) saves reading the history again.
    """
    if paths is None:
        from chaos.evidence.build import build_report  # numpy, only where the history must be read

        report = build_report(outcome, relative_to=Path(outcome.history_path).parent)
    else:
        report = paths.report
    head = words.headline(report)
    esc = html.escape
    figures = "".join(
        f'<span style="margin-right:22px"><span style="color:#52606d">{esc(figure.label)}</span> <b>{esc(figure.value)}</b></span>'
        for figure in words.key_figures(report)
    )
    faults = "; ".join(f"{words.fault_title(fault)}: {words.fault_fate(fault)}" for fault in report.faults[:5])
    trouble = "".join(f'<div style="color:#a61b10">{esc(text)}</div>' for text in (report.error, report.heal_error) if text)
    anchor = f'<div><a href="{esc(link, quote=True)}">Full report</a></div>' if link else ""
    return (
        '<div class="gameday" style="font:13px/1.5 system-ui,sans-serif;padding:8px 12px;border:1px solid #dfe5eb;border-radius:6px;'
        f'background:#fff;color:#1c2733;max-width:{_WIDTH + 120}px"><div><strong style="font-size:15px;color:{_COLOURS[head.tone]}">'
        f"{esc(head.verdict_line)}</strong> {esc(head.sentence)}</div>{trouble}<div>{figures}</div>{sparkline(report)}"
        f'<div style="color:#52606d">{esc(faults)}</div>{anchor}</div>'
    )


def sparkline(report: Report) -> str:
    """Throughput of the first gated workload as a small SVG: good, bad, fault shaded. "" where nothing was recorded."""
    series = next((one for one in report.timeline.series if one.gated), None) or next(iter(report.timeline.series), None)
    if series is None or not series.good:
        return ""
    line = report.timeline
    width_s = line.bin_s * len(series.good)

    def x(moment_s: float) -> float:
        return max(0.0, min(1.0, (moment_s - line.begin_s) / width_s)) * _WIDTH

    shades = "".join(
        f'<rect x="{x(fault.issued):.1f}" y="0" width="{x(fault.verified or line.begin_s + width_s) - x(fault.issued):.1f}" '
        f'height="{_HEIGHT}" fill="#b42318" fill-opacity=".14"/>'
        for fault in report.faults
        if fault.issued is not None
    )
    title = html.escape(f"{series.workload}: good (blue) and bad (red) operations over {width_s:.0f} s, fault shaded")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="{title}" style="display:block;margin:6px 0;max-width:100%"><title>{title}</title>{shades}{_areas(series)}</svg>'
    )


def _areas(series: Series) -> str:
    """Two step areas: everything in red, the good part over it in blue."""
    most = max(max(good + bad for good, bad in zip(series.good, series.bad, strict=True)), 1)
    both = [good + bad for good, bad in zip(series.good, series.bad, strict=True)]
    return "".join(f'<path fill="{colour}" d="{_area(values, most)}"/>' for values, colour in ((both, "#c2410c"), (series.good, "#4a7fb5")))


def _area(values: list[int], most: int) -> str:
    step = _WIDTH / len(values)
    points = [f"M0 {_HEIGHT}"]
    for index, value in enumerate(values):
        if index == 0 or value != values[index - 1]:
            points.append(f"H{index * step:.1f}V{_HEIGHT - (_HEIGHT - 9) * value / most:.1f}")
    return "".join([*points, f"H{_WIDTH}V{_HEIGHT}Z"])

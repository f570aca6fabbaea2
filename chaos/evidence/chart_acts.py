"""Rows of the chart's strip for what a drill did and saw besides its faults: runbooks, step by step, and signals. Draws; judges nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from chaos.core.durations import format_s
from chaos.evidence.model import Detection, Report, Runbook, Step

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEP_COLOURS = ("#0b5c74", "#7fb0c0")
TROUBLE = "#b42318"
ROWS_MOST = 4
Beside: TypeAlias = Callable[[float, float, int, str], None]
"""Writes a text beside what stands in a row from one moment to another."""


def act_rows(report: Report) -> int:
    """How many rows :func:`draw_acts` takes."""
    return min(len(report.runbooks), ROWS_MOST) + min(len(_fired(report)), ROWS_MOST)


def draw_acts(ax: Axes, report: Report, row: int, beside: Beside) -> Iterator[tuple[float, str]]:
    """One row a runbook and one a signal, from ``row`` on; yields where each is and what it is called."""
    for runbook in report.runbooks[:ROWS_MOST]:
        _steps(ax, runbook, row, beside)
        yield row, runbook.name
        row += 1
    for signal in _fired(report)[:ROWS_MOST]:
        assert signal.fired_s is not None
        ax.plot([signal.fired_s], [row], marker="D", markersize=5.5, color=STEP_COLOURS[0], linestyle="none")
        beside(signal.fired_s, signal.fired_s, row, f" fires +{signal.fired_s:.2f} s")
        yield row, signal.name
        row += 1


def _fired(report: Report) -> list[Detection]:
    return [one for one in report.detections if one.fired_s is not None]


def _steps(ax: Axes, runbook: Runbook, row: int, beside: Beside) -> None:
    """Steps in two shades by turns; red where one failed or took longer than it may. The longest is named."""
    longest: Step | None = None
    for number, step in enumerate(runbook.steps):
        if step.began_s is None or step.took_s is None:
            continue
        over = step.state == "failed" or (step.budget_s is not None and step.took_s > step.budget_s)
        ax.barh(row, step.took_s, left=step.began_s, height=0.62, color=TROUBLE if over else STEP_COLOURS[number % 2], edgecolor="none")
        if longest is None or step.took_s > (longest.took_s or 0):
            longest = step
    if longest is not None:
        name = longest.name if len(longest.name) <= 32 else f"{longest.name[:31]}…"
        beside(runbook.began_s, runbook.began_s + runbook.took_s, row, f"longest: {name}, {format_s(longest.took_s)}")

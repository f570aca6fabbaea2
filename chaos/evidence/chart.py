"""The timeline of a drill as one inline SVG: what was broken and when, what clients got, how long it took to recover.

Drawn from the report alone (its binned timeline), the same bytes every time. matplotlib is imported when a chart is drawn and
never before; its font cache goes below ``.gameday``. Verdicts and tables are not drawn here.
"""

from __future__ import annotations

import html
import io
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from chaos.evidence import words
from chaos.evidence.chart_acts import act_rows, draw_acts
from chaos.evidence.model import Fault, Outage, Report, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GOOD, BAD, INK = "#4a7fb5", "#c2410c", "#24303c"
FAULT, HEALING, PHASE = "#b42318", "#1f7a4a", "#dbe2ea"
P50, P99 = "#1f4e79", "#7f9fbe"
WIDTH_IN, LEFT_IN, RIGHT_IN, TOP_IN, BOTTOM_IN, GAP_IN = 10.0, 1.95, 0.2, 0.05, 0.5, 0.34
ROW_IN = 0.25
FONT_PT = 8.5
FAULT_ROWS_MOST = 8
PHASE_LANES_MOST = 4
LINED_FAULTS_MOST = 4
OUTAGES_LINED_MOST = 6
SERIES_MOST = 3
_STYLE: Mapping[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gameday",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": FONT_PT,
    "axes.edgecolor": "#c5ced8",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e8edf2",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": "#5a6877",
    "ytick.color": "#5a6877",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "hatch.linewidth": 0.6,
}


class _Bar(msgspec.Struct, frozen=True):
    """A stretch in a lane, with a label that starts where it starts unless it would leave the chart."""

    name: str
    begin_s: float
    end_s: float
    lane: int
    label_s: float
    labelled: bool


class _View(msgspec.Struct, frozen=True):
    """The stretch of time that is drawn, and how wide one point of text is in it."""

    begin_s: float
    end_s: float

    @property
    def seconds_per_inch(self) -> float:
        return (self.end_s - self.begin_s) / (WIDTH_IN - LEFT_IN - RIGHT_IN)

    def text_s(self, text: str) -> float:
        """Room that ``text`` takes, generously, in seconds."""
        return (len(text) * FONT_PT * 0.64 + 8) / 72 * self.seconds_per_inch


def draw_svg(report: Report, *, cache: Path | None = None) -> str:
    """The chart as an ``<svg>`` element, ready to stand in HTML. Text from outside is escaped by the SVG writer.

    ``cache`` is where matplotlib may keep its font list. At least one series must be there (``report.timeline.note`` is empty).
    """
    with _matplotlib(cache) as figure_class:
        figure = _figure(report, figure_class)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(out.getvalue(), report)


@contextmanager
def _matplotlib(cache: Path | None) -> Iterator[type[Figure]]:
    """matplotlib with our style alone: neither the user's matplotlibrc nor the caller's warning filters change a report."""
    before = os.environ.get("MPLCONFIGDIR")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if cache is not None and before is None:
            cache.mkdir(parents=True, exist_ok=True)
            os.environ["MPLCONFIGDIR"] = str(cache)
        try:
            import matplotlib
            import matplotlib.backends.backend_svg
            import matplotlib.figure
        finally:
            if before is None:
                os.environ.pop("MPLCONFIGDIR", None)
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_STYLE)
            yield matplotlib.figure.Figure


def _inline(svg: str, report: Report) -> str:
    """Without prolog and metadata, scalable, with the name and description that a screen reader says."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    head, body = svg.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    head += ' role="img" aria-labelledby="chart-title chart-desc" class="timeline"'
    title = f'<title id="chart-title">{html.escape(f"Timeline of {report.drill}")}</title>'
    return f'{head}>{title}<desc id="chart-desc">{html.escape(describe(report))}</desc>{body}'


def describe(report: Report) -> str:
    """The chart in sentences, for those who do not see it."""
    said = [f"{words.fault_title(fault)}: {words.fault_fate(fault)}." for fault in report.faults[:FAULT_ROWS_MOST]]
    for series in report.timeline.series:
        said.append(f"Workload {series.workload}: {words.count(sum(series.good))} good and {words.count(sum(series.bad))} bad operations.")
    if report.rto is not None:
        said.append(f"Recovery time as clients saw it: {words.span(report.rto.client)}.")
    return " ".join(said)


def _figure(report: Report, figure_class: type[Figure]) -> Figure:
    view = _view(report)
    lanes = _lanes(report, view)
    shown = sorted(report.timeline.series, key=lambda series: not series.gated)[:SERIES_MOST]
    errors = report.timeline.errors
    strip_rows = _strip_rows(report, lanes)
    heights = [strip_rows * ROW_IN + 0.1]
    heights += [1.4 if series.gated else 0.8 for series in shown]
    heights += [1.25] + ([len(errors) * 0.21 + 0.12] if errors else [])
    total = sum(heights) + GAP_IN * (len(heights) - 1) + TOP_IN + BOTTOM_IN
    figure = figure_class(figsize=(WIDTH_IN, total))
    axes, top = [], total - TOP_IN
    for height in heights:
        box = (LEFT_IN / WIDTH_IN, (top - height) / total, (WIDTH_IN - LEFT_IN - RIGHT_IN) / WIDTH_IN, height / total)
        axes.append(figure.add_axes(box))
        top -= height + GAP_IN
    _strip(axes[0], report, lanes, view)
    for ax, series in zip(axes[1:], shown, strict=False):
        _throughput(ax, report, series)
    _latency(axes[1 + len(shown)], report, shown[0])
    if errors:
        _errors(axes[-1], report)
    for ax in axes:
        ax.set_xlim(view.begin_s, view.end_s)
        ax.tick_params(which="both", length=0, labelbottom=ax is axes[-1])
        ax.yaxis.set_label_coords(-0.062, 0.5)
        _shade(ax, report, view, strip=ax is axes[0])
    axes[-1].set_xlabel("seconds since the drill began")
    return figure


def _view(report: Report) -> _View:
    line = report.timeline
    bins = max(len(series.good) for series in line.series)
    begins, ends = [line.begin_s], [line.begin_s + bins * line.bin_s]
    for fault in report.faults:
        moments = [moment for moment in (fault.issued, fault.landed, fault.heal_issued, fault.verified) if moment is not None]
        begins += moments
        ends += moments
    begin_s, end_s = min(begins), max(ends)
    margin = (end_s - begin_s) * 0.005
    return _View(begin_s - margin, end_s + margin)


def _lanes(report: Report, view: _View) -> list[_Bar]:
    """Phases packed into as few lanes as hold bars and labels without overlap."""
    free_s = [view.begin_s] * PHASE_LANES_MOST
    bars = []
    for phase in sorted(report.phases, key=lambda phase: phase.begin_s):
        begin_s, end_s = max(phase.begin_s, view.begin_s), min(view.end_s if phase.end_s is None else phase.end_s, view.end_s)
        if end_s < view.begin_s or begin_s > view.end_s:
            continue
        name = _short(phase.name, 40)
        label_s = max(view.begin_s, min(begin_s, view.end_s - view.text_s(name)))
        lane = next((lane for lane, free in enumerate(free_s) if min(begin_s, label_s) >= free - 1e-9), None)
        bars.append(_Bar(name, begin_s, end_s, PHASE_LANES_MOST - 1 if lane is None else lane, label_s, lane is not None))
        if lane is not None:
            free_s[lane] = max(end_s, label_s + view.text_s(name))
    return bars


def _phase_rows(lanes: Sequence[_Bar]) -> int:
    return max((bar.lane for bar in lanes), default=-1) + 1


def _strip_rows(report: Report, lanes: Sequence[_Bar]) -> int:
    fault_rows = min(len(report.faults), FAULT_ROWS_MOST) + (len(report.faults) > FAULT_ROWS_MOST)
    return _phase_rows(lanes) + fault_rows + act_rows(report) + (report.rto is not None)


def _strip(ax: Axes, report: Report, lanes: Sequence[_Bar], view: _View) -> None:
    """The rows above the panels: phases, faults, recovery."""
    ticks: list[tuple[float, str]] = []
    for bar in lanes:
        ax.barh(bar.lane, bar.end_s - bar.begin_s, left=bar.begin_s, height=0.8, color=PHASE, edgecolor="white")
        if bar.labelled:
            ax.text(bar.label_s + view.text_s("") * 0.5, bar.lane, bar.name, va="center_baseline", ha="left")
    row = _phase_rows(lanes)
    if row:
        ticks.append((0, "phases"))
    for fault in report.faults[:FAULT_ROWS_MOST]:
        ticks.append((row, _short(words.fault_title(fault), 28)))
        _fault_row(ax, fault, row, view, note=True)
        row += 1
    if len(report.faults) > FAULT_ROWS_MOST:
        for fault in report.faults[FAULT_ROWS_MOST:]:
            _fault_row(ax, fault, row, view, note=False)
        ticks.append((row, f"{len(report.faults) - FAULT_ROWS_MOST} more faults"))
        row += 1
    for place, name in draw_acts(ax, report, row, lambda begin_s, end_s, at, text: _beside(ax, begin_s, end_s, at, text, view)):
        ticks.append((place, _short(name, 28)))
        row += 1
    if report.rto is not None:
        ticks.append((row, "outage and RTO"))
        _rto_row(ax, report.rto.outages, words.span(report.rto.client), row, view)
        row += 1
    ax.set_ylim(max(row, 1) - 0.4, -0.6)
    ax.set_yticks([tick for tick, _ in ticks], [text for _, text in ticks])
    ax.grid(visible=False)
    ax.spines[["left", "bottom"]].set_visible(False)


def _fault_row(ax: Axes, fault: Fault, row: int, view: _View, *, note: bool) -> None:
    if fault.issued is None:
        return
    end_s = view.end_s if fault.verified is None else fault.verified
    ax.barh(row, end_s - fault.issued, left=fault.issued, height=0.62, color="#f6d9d5", edgecolor="none")
    if fault.landed is not None:
        stop_s = end_s if fault.heal_issued is None else fault.heal_issued
        ax.barh(row, max(stop_s - fault.landed, 0), left=fault.landed, height=0.62, color=FAULT, edgecolor="none")
    if fault.heal_issued is not None:
        ax.barh(row, end_s - fault.heal_issued, left=fault.heal_issued, height=0.62, color="#9fd3b6", edgecolor="none")
    if note:
        _beside(ax, fault.issued, end_s, row, _marks(fault), view)


def _marks(fault: Fault) -> str:
    if fault.landed is None:
        return "never landed"
    return "not healed" if fault.verified is None else f"{fault.landed:.2f} – {fault.verified:.2f} s"


def _rto_row(ax: Axes, outages: Sequence[Outage], text: str, row: int, view: _View) -> None:
    """Between the outer edges lies the outage; the dark part is proven, the light part is what its length is uncertain by."""
    if not outages:
        said = f"no operation failed; an outage that hid between two of them lasted {text}"
        ax.text(view.begin_s + view.text_s("") * 0.5, row, said, va="center_baseline")
        return
    for outage in outages:
        begin_s = outage.bad_settled_s if outage.good_sent_s is None else outage.good_sent_s
        end_s = view.end_s if outage.good_settled_s is None else outage.good_settled_s
        ax.barh(row, end_s - begin_s, left=begin_s, height=0.62, color="#f3b995", edgecolor="none")
        sure_s = max(outage.bad_sent_s - outage.bad_settled_s, 0)
        ax.barh(row, sure_s, left=outage.bad_settled_s, height=0.62, color=BAD, edgecolor="none")
        for edge_s in (begin_s, end_s) if outage.good_settled_s is not None else (begin_s,):
            ax.plot([edge_s, edge_s], [row - 0.42, row + 0.42], color=BAD, linewidth=1.6)
    longest = max(outages, key=lambda outage: outage.client.lo_s)
    first_s = outages[0].bad_settled_s
    last_s = view.end_s if longest.good_settled_s is None else max(outage.good_settled_s or view.end_s for outage in outages)
    _beside(ax, first_s, last_s, row, f"RTO {text}", view)


def _beside(ax: Axes, begin_s: float, end_s: float, row: int, text: str, view: _View) -> None:
    """Text right of a bar, or left of it where the chart ends, or upon it where it fills the chart."""
    gap_s, room_s = 0.06 * view.seconds_per_inch, view.text_s(text)
    if not text:
        return
    if end_s + room_s <= view.end_s:
        ax.text(end_s + gap_s, row, text, va="center_baseline", ha="left")
    elif begin_s - room_s >= view.begin_s:
        ax.text(begin_s - gap_s, row, text, va="center_baseline", ha="right")
    else:
        halo = {"facecolor": "white", "alpha": 0.92, "edgecolor": "none", "pad": 0.8}
        ax.text((begin_s + end_s) / 2, row, text, va="center_baseline", ha="center", bbox=halo, fontsize=FONT_PT - 0.8)


def _shade(ax: Axes, report: Report, view: _View, *, strip: bool) -> None:
    """Fault periods behind every panel; where few faults landed and were proven healed, a line each."""
    for begin_s, end_s in () if strip else _fault_periods(report, view):
        ax.axvspan(begin_s, end_s, color=FAULT, alpha=0.07, linewidth=0, zorder=0)
    for fault in report.faults if len(report.faults) <= LINED_FAULTS_MOST else ():
        for moment_s, colour in ((fault.landed, FAULT), (fault.verified, HEALING)):
            if moment_s is not None:
                ax.axvline(moment_s, color=colour, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    outages = report.rto.outages if report.rto and not strip else []
    for outage in outages if len(outages) <= OUTAGES_LINED_MOST else ():
        for moment_s in (outage.good_sent_s, outage.good_settled_s):
            if moment_s is not None:
                ax.axvline(moment_s, color=BAD, linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=1)


def _fault_periods(report: Report, view: _View) -> list[tuple[float, float]]:
    """When at least one fault was in place: overlapping periods are one."""
    periods = sorted(
        (fault.issued, view.end_s if fault.verified is None else fault.verified) for fault in report.faults if fault.issued is not None
    )
    merged: list[tuple[float, float]] = []
    for begin_s, end_s in periods:
        if merged and begin_s <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end_s))
        else:
            merged.append((begin_s, end_s))
    return merged


def _steps(report: Report, values: Sequence[Any]) -> tuple[list[float], list[Any]]:
    """Bin edges and values for a step plot that goes on to the end of the last bin."""
    line = report.timeline
    return [line.begin_s + index * line.bin_s for index in range(len(values) + 1)], [*values, values[-1]]


def _throughput(ax: Axes, report: Report, series: Series) -> None:
    per_bin = report.timeline.bin_s
    good = [number / per_bin for number in series.good]
    bad = [number / per_bin for number in series.bad]
    edges, low = _steps(report, good)
    _, high = _steps(report, [one + other for one, other in zip(good, bad, strict=True)])
    ax.fill_between(edges, low, step="post", color=GOOD, alpha=0.8, linewidth=0)
    ax.fill_between(edges, high, low, step="post", color=BAD, alpha=0.9, linewidth=0)
    ax.set_ylim(0, max(max(high), 1e-9) * 1.04)
    ax.set_ylabel("per second")
    kind = "operations" if series.gated else "operations (not gated)"
    _name(ax, f"{_short(series.workload, 40)}: {kind}", ((BAD, "bad"), (GOOD, "good")))


def _latency(ax: Axes, report: Report, series: Series) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    drawn = []
    for values, colour in ((series.latency_p99_s, P99), (series.latency_p50_s, P50)):
        edges, heights = _steps(report, [float("nan") if value is None else max(value, 1e-6) for value in values])
        ax.plot(edges, heights, drawstyle="steps-post", color=colour, linewidth=1.3)
        drawn += [height for height in heights if height == height]
    ax.set_yscale("log")
    if drawn:
        ax.set_ylim(min(drawn) / 2, max(drawn) * 4)
    ax.yaxis.set_major_locator(LogLocator(numticks=6))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words.latency(value)))
    ax.yaxis.set_minor_formatter(NullFormatter())
    _name(ax, f"{_short(series.workload, 40)}: latency of good operations", ((P50, "p50"), (P99, "p99")))


def _errors(ax: Axes, report: Report) -> None:
    line = report.timeline
    for row, error in enumerate(line.errors):
        most = max((number for _, number in error.at), default=1)
        for first, last, level in _runs([(index, math.ceil(4 * number / most)) for index, number in error.at]):
            left_s, width_s = line.begin_s + first * line.bin_s, (last - first + 1) * line.bin_s
            ax.barh(row, width_s, left=left_s, height=0.6, color=BAD, alpha=level / 4, linewidth=0)
    ax.set_yticks(range(len(line.errors)), [f"{_short(error.text, 22)} × {words.count(error.count)}" for error in line.errors])
    ax.set_ylim(len(line.errors) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    ax.spines["left"].set_visible(False)
    _name(ax, "errors, all workloads (darker: more)", ())


def _runs(cells: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Neighbouring cells of one level as (first, last, level)."""
    run: list[int] = []
    for index, level in cells:
        if run and run[1] == index - 1 and run[2] == level:
            run[1] = index
            continue
        if run:
            yield run[0], run[1], run[2]
        run = [index, index, level]
    if run:
        yield run[0], run[1], run[2]


def _name(ax: Axes, text: str, keys: Sequence[tuple[str, str]]) -> None:
    """A panel's name and its colours, in a line above it."""
    ax.annotate(text, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", va="bottom", ha="left", color="#44525f")
    right_pt = 0.0
    for colour, label in keys:
        place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom", "ha": "right"}
        ax.annotate(f"■ {label}", (1, 1), (right_pt, 4), color=colour, **place)
        right_pt -= 46


def _short(text: str, longest: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 1]}…"

"""What N runs of one drill say together (``--drill-repeat N``), and what they cannot say.

With n runs and zero losses, P(loss) ≤ 1 − 0.05^(1/n) at 95 % confidence: a loss as likely as that would have stayed away in all n with
probability 0.05. For the same reason the largest of n recovery times bounds the 0.05^(1/n) quantile. Both need runs that are
independent and alike; the first is why the phase of injection is random.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from chaos.core.durations import format_s
from chaos.evidence import words
from chaos.evidence.model import Span
from chaos.evidence.terminal import Plain, Summary

CONFIDENCE = 0.95
_BARS = 32


class Distribution(msgspec.Struct, frozen=True):
    """Repeats of one drill, counted. ``rto_hi_s`` are the upper bounds of the runs that recovered, ascending; ``unrecovered`` the
    number of those that did not. ``loss_runs`` of the ``rpo_runs`` in which RPO was judged lost something."""

    drill: str
    runs: int
    verdicts: dict[str, int]
    as_expected: int
    rto: tuple[Span, ...]
    unrecovered: int
    rpo_runs: int
    loss_runs: int
    lost_most: int


def loss_bound(n: int) -> float:
    """Upper bound (95 %) of the probability of a loss after ``n`` runs without one."""
    return 1.0 - math.pow(1.0 - CONFIDENCE, 1.0 / n)


def covered_quantile(n: int) -> float:
    """The quantile that the largest of ``n`` values bounds from above with 95 % confidence."""
    return math.pow(1.0 - CONFIDENCE, 1.0 / n)


def distribution(summaries: Sequence[Summary]) -> Distribution:
    """Count repeats. INVALID and ABORTED runs say nothing about the system: they are in ``verdicts`` only."""
    verdicts: dict[str, int] = {}
    for summary in summaries:
        verdicts[str(summary["verdict"])] = verdicts.get(str(summary["verdict"]), 0) + 1
    telling = [summary for summary in summaries if summary["verdict"] not in {"INVALID", "ABORTED"}]
    rto = [_span(summary) for summary in telling if summary["rto_client_lo_s"] is not None]
    lost = [_number(summary["rpo_lost"]) for summary in telling if summary["rpo_lost"] is not None]
    return Distribution(
        drill=str(summaries[0]["drill"]) if summaries else "",
        runs=len(summaries),
        verdicts=verdicts,
        as_expected=sum(bool(summary["as_expected"]) for summary in summaries),
        rto=tuple(sorted(rto, key=lambda span: (math.inf if span.hi_s is None else span.hi_s, span.lo_s))),
        unrecovered=sum(span.hi_s is None for span in rto),
        rpo_runs=len(lost),
        loss_runs=sum(number > 0 for number in lost),
        lost_most=int(max(lost, default=0)),
    )


def statements(found: Distribution) -> list[str]:
    """What the runs say, in sentences that hold."""
    said = []
    recovered = [span for span in found.rto if span.hi_s is not None]
    if found.unrecovered:
        said.append(f"{found.unrecovered} of {len(found.rto)} runs never recovered: no upper bound for any quantile beyond those that did.")
    elif recovered:
        n, largest = len(recovered), words.at_most(recovered[-1].hi_s or 0.0)
        share = f"{math.floor(covered_quantile(n) * 1e3) / 10:g} %"
        said.append(
            f"The largest of {n} recovery times is at most {largest}: at 95 % confidence, at least {share} of recoveries take no longer."
        )
    if found.rpo_runs and not found.loss_runs:
        bound = f"{math.ceil(loss_bound(found.rpo_runs) * 1e3) / 10:g} %"
        said.append(
            f"No write was lost in {found.rpo_runs} runs: at 95 % confidence, the probability of a loss in a run is at most {bound}."
        )
    elif found.loss_runs:
        said.append(f"Writes were lost in {found.loss_runs} of {found.rpo_runs} runs, {found.lost_most} in the worst: a loss is proven.")
    unsaid = found.verdicts.get("INVALID", 0) + found.verdicts.get("ABORTED", 0)
    if unsaid:
        said.append(f"{unsaid} of {found.runs} runs were invalid or aborted and say nothing.")
    return said


def render_distribution(summaries: Sequence[Summary]) -> RenderableType:
    """The distribution of the recovery time over repeats of one drill, and what N of them say. See ``terminal.plain`` for text."""
    found = distribution(summaries)
    verdicts = ", ".join(f"{number} {name}" for name, number in sorted(found.verdicts.items()))
    head = Text(f"{found.drill}: {found.runs} runs, {found.as_expected} as expected ({verdicts})", style="bold")
    parts: list[RenderableType] = [head]
    recovered = [span for span in found.rto if span.hi_s is not None]
    if recovered:
        parts += [Text(_quantiles(recovered)), _histogram(recovered)]
    parts += [Text(sentence) for sentence in statements(found)]
    return Group(*parts)


def _quantiles(spans: Sequence[Span]) -> str:
    """Nearest-rank quantiles of the upper bounds, with the interval of that run."""
    named = (("smallest", 0.0), ("median", 0.5), ("p90", 0.9), ("largest", 1.0))
    picked = [(name, spans[max(math.ceil(quantile * len(spans)) - 1, 0)]) for name, quantile in named if name != "p90" or len(spans) >= 10]
    return "RTO as clients saw it: " + "; ".join(f"{name} {words.span(span)}" for name, span in picked)


def _histogram(spans: Sequence[Span]) -> Table:
    """Counts of the intervals' middles in at most ten steps."""
    middles = [(span.lo_s + (span.hi_s or span.lo_s)) / 2 for span in spans]
    low, high = min(middles), max(middles)
    steps = 1 if high - low < 1e-3 else min(10, max(1, len(middles) // 2))
    width = (high - low) / steps or 1.0
    counts = [0] * steps
    for middle in middles:
        counts[min(int((middle - low) / width), steps - 1)] += 1
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    for step, number in enumerate(counts):
        begin, end = low + step * width, high if steps == 1 else low + (step + 1) * width
        label = format_s(begin) if steps == 1 else f"{begin:.3g} – {end:.3g} s"
        table.add_row(label, "█" * max(round(_BARS * number / max(counts)), number > 0), str(number))
    return table


def _span(summary: Summary) -> Span:
    hi = summary["rto_client_hi_s"]
    return Span(_number(summary["rto_client_lo_s"]), None if hi is None else _number(hi))


def _number(value: Plain) -> float:
    return float(value) if isinstance(value, int | float) else 0.0

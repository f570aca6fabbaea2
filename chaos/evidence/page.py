"""``report.html``: one file that opens offline, prints on A4 and holds no script. Everything in it comes from the report.

All text passes through jinja2's autoescape; only the chart, whose writer escapes on its own, and our style sheet go in as they are.
"""

from __future__ import annotations

import shlex
from importlib.resources import files

import jinja2
from markupsafe import Markup

from chaos.core.durations import format_s
from chaos.evidence import words
from chaos.evidence.model import Objective, Report, Runbook, Step, Workload

RPO_COUNTS = (
    ("recovered", "outcome unknown, found present"),
    ("phantom", "refused, yet present"),
    ("duplicated", "present more than once"),
    ("mutated", "present with other content"),
    ("split_brain", "acknowledged on a superseded timeline"),
)
OUTAGES_SHOWN = 10
MARKS = {"pass": "✓", "fail": "✗", "inconclusive": "≈", "invalid": "∅", "aborted": "■", "expected": "✓"}


def render_html(report: Report, chart: str, *, no_chart: str = "") -> str:
    """The page. ``chart`` is an ``<svg>`` element or "" (then ``no_chart`` says why)."""
    head = words.headline(report)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            head=head,
            mark=MARKS[head.tone],
            figures=words.key_figures(report),
            chart=Markup(chart),  # the SVG writer has escaped it
            no_chart=no_chart,
            css=Markup(_template("report.css")),
            outages_shown=OUTAGES_SHOWN,
            rpo_counts=RPO_COUNTS,
            fault_states=words.FAULT_STATES,
            runbook_share=words.runbook_share(report),
            shell_path=shlex.quote(report.history.path),
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(
        at=words.at,
        back=words.back,
        detected=words.detected,
        latency_span=words.latency_span,
        badge=badge,
        bound=words.bound,
        count=words.count,
        duration=format_s,
        fault_fate=words.fault_fate,
        fault_title=words.fault_title,
        latency=words.latency,
        lost=words.lost,
        measured=words.measured,
        gauge=gauge,
        params=words.params,
        ranges=words.ranges,
        role=role,
        share=words.share,
        span=words.span,
        step_bar=step_bar,
        when=words.when,
    )
    return environment


def _template(name: str) -> str:
    return files("chaos.evidence").joinpath("templates", name).read_text(encoding="utf-8")


def badge(verdict: str) -> Markup:
    """A verdict as a small pill."""
    return Markup('<span class="badge {}">{}</span>').format(verdict.lower(), verdict)


def gauge(objective: Objective) -> Markup:
    """A duration against its bound as a small bar, "" for anything else: the bound is the tick, the interval the dark part."""
    if objective.unit != "s" or objective.bound <= 0:
        return Markup("")
    full = max(objective.bound, objective.lo if objective.hi is None else objective.hi) * 1.1
    lo, hi, bound = (
        100 * min(value / full, 1) for value in (objective.lo, full if objective.hi is None else objective.hi, objective.bound)
    )
    parts = f'<i style="width:{lo:.2f}%"></i><b style="left:{lo:.2f}%;width:{max(hi - lo, 0.6):.2f}%"></b><u style="left:{bound:.2f}%"></u>'
    return Markup(f'<span class="gauge {objective.verdict.value.lower()}" aria-hidden="true">{parts}</span>')


def step_bar(step: Step, runbook: Runbook) -> Markup:
    """When in its runbook a step ran, as a small bar; "" for one that did not."""
    if step.began_s is None or step.took_s is None or runbook.took_s <= 0:
        return Markup("")
    left, width = ((100 * value / runbook.took_s) for value in (step.began_s - runbook.began_s, step.took_s))
    over = step.state == "failed" or (step.budget_s is not None and step.took_s > step.budget_s)
    bar = f'<b style="left:{min(max(left, 0), 99.2):.2f}%;width:{max(width, 0.8):.2f}%"></b>'
    return Markup(f'<span class="gauge step {"fail" if over else "done"}" aria-hidden="true">{bar}</span>')


def role(workload: Workload) -> str:
    """What a workload counts for."""
    parts = [name for name, counts in (("RTO and availability", workload.gated), ("ledger", workload.ledger)) if counts]
    return ", ".join(parts) or "shown only"

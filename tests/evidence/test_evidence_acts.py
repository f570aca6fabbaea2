"""Runbooks, checks, signals and degradation in every form of a report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import evidence_samples as samples
import msgspec
import pytest

from chaos.core.acts import RunbookOutcome
from chaos.core.model import Verdict
from chaos.evidence import words
from chaos.evidence.junit import properties
from chaos.evidence.markdown import render_markdown
from chaos.evidence.model import Objective, Report
from chaos.evidence.report import load_report, write_report
from chaos.evidence.terminal import plain_summary, summary_dict


@pytest.fixture
def report(history: Path, drill_dir: Path) -> Report:
    return write_report(samples.acts(history), drill_dir).report


def test_json_holds_what_was_done_and_seen(history: Path, drill_dir: Path) -> None:
    """Steps with their times from the drill's start, checks, signals and degradation are in ``report.json``."""
    found = json.loads(write_report(samples.acts(history), drill_dir).json.read_text(encoding="utf-8"))
    runbook = found["runbooks"][0]
    assert [(step["name"], step["state"], step["began_s"], step["took_s"]) for step in runbook["steps"]] == [
        ("look", "done", 3.2, 0.1),
        ("promote", "done", 3.4, 2.0),
    ]
    assert [(phase["name"], phase["took_s"], phase["budget_s"]) for phase in runbook["phases"]] == [
        ("assess", 0.1, 5),
        ("fail over", 2, 1.5),
    ]
    assert [(check["name"], check["held"], check["attempts"]) for check in found["checks"]] == [
        ("one primary", True, 3),
        ("no log", False, 1),
    ]
    assert found["detections"][0]["mttd"] == {"lo_s": 0.2, "hi_s": 0.45}
    assert found["degradations"][0]["error_rate"] == 0.145
    assert found["degradations"][0]["returned"]["interval"] == {"lo_s": 0.5, "hi_s": 0.75}


def test_a_report_of_an_earlier_release_still_loads(history: Path, drill_dir: Path) -> None:
    """A report without the newer fields is read, and they are empty."""
    path = write_report(samples.acts(history), drill_dir).json
    old = json.loads(path.read_text(encoding="utf-8"))
    for name in ("degradations", "detections", "checks", "runbooks"):
        del old[name]
    for objective in old["objectives"]:
        del objective["subject"]
    path.write_text(json.dumps(old), encoding="utf-8")
    loaded = load_report(path)
    assert (loaded.runbooks, loaded.checks, loaded.objectives[0].subject) == ([], [], "")


def test_every_gated_workload_has_its_own_rto_in_every_form(report: Report, history: Path, drill_dir: Path) -> None:
    """The terminal, the page, Markdown and JSON show the RTO of reads and of writes, each with its own objective."""
    paths = write_report(samples.acts(history), drill_dir)
    terminal = plain_summary([summary_dict(samples.acts(history), paths)], columns=140)
    page, markdown = paths.html.read_text(encoding="utf-8"), render_markdown(report)
    for text in (terminal, page, markdown):
        assert "RTO of writes" in text and "RTO of reads" in text
        assert "2.407 – 2.436 s" in text and "0.90 – 1.10 s" in text
    assert re.search(r"RTO of reads, as clients saw it +0\.90 – 1\.10 s +objective ≤ 5 s +PASS", terminal)
    assert [workload.rto is not None for workload in report.workloads] == [True, True]


def test_the_step_that_ate_the_rto_is_named(report: Report) -> None:
    """The sentence names the longest step inside the longest outage, as far as it lies in it."""
    assert words.runbook_share(report) == ["The step “promote” of the runbook lost primary took 2 s of the 2.44 s RTO."]
    calm = msgspec.structs.replace(report, rto=None)
    assert words.runbook_share(calm) == ["Of the 2.2 s of the runbook lost primary, the step “promote” took 2 s."]


def test_a_step_outside_the_outage_ate_nothing(history: Path, drill_dir: Path) -> None:
    """A runbook that ran after the service was back took none of its recovery."""
    late = msgspec.structs.replace(samples.rebuilt(), began_ns=samples.ns(9), ended_ns=samples.ns(12), steps=_later(samples.rebuilt()))
    found = write_report(msgspec.structs.replace(samples.acts(history), runbooks=(late,)), drill_dir).report
    assert words.runbook_share(found) == [""]


def _later(runbook: RunbookOutcome) -> tuple[Any, ...]:
    shift = samples.ns(9) - samples.ns(3.2)
    return tuple(
        msgspec.structs.replace(step, began_ns=(step.began_ns or 0) + shift, ended_ns=(step.ended_ns or 0) + shift)
        for step in runbook.steps
    )


def test_the_page_shows_steps_checks_and_signals(history: Path, drill_dir: Path) -> None:
    """Every step with phase, node and time; what is over its budget is marked; checks and signals have tables; the chart has their rows."""
    page = write_report(samples.acts(history), drill_dir).html.read_text(encoding="utf-8")
    for part in ("Runbook lost primary", "pg2 takes writes", '<td class="n over">2 s</td>', "no log", "error in line 3", "never, in 9.9 s"):
        assert part in page, part
    assert "unknown: it was never seen quiet" in page
    chart = page.partition("<svg")[2].partition("</svg>")[0]
    assert "longest: promote, 2 s" in chart and "fires +3.50 s" in chart


def test_a_step_that_was_not_run_is_shown_as_such(history: Path, drill_dir: Path) -> None:
    """A stopped runbook shows its failing step and those that were never reached."""
    outcome = msgspec.structs.replace(samples.acts(history), runbooks=(samples.rebuilt(failed=True),))
    paths = write_report(outcome, drill_dir)
    page, markdown = paths.html.read_text(encoding="utf-8"), render_markdown(paths.report)
    assert '<tr class="failed">' in page and '<tr class="not-run">' in page and "Stopped after 2.2 s" in page
    assert "| fail over | tell everybody | here | not run | – |  |" in markdown


def test_properties_name_signals_and_parts_of_runbooks(history: Path, drill_dir: Path) -> None:
    """JUnit has one property an objective, with the workload, the signal or the runbook's part in its name."""
    outcome = samples.acts(history)
    found = dict(properties(outcome, write_report(outcome, drill_dir)))
    assert found["gameday.objective.rto_client.reads"] == "PASS"
    assert found["gameday.objective.mttd.db-down"] == "PASS"
    assert found["gameday.objective.runbook.lost primary: fail over"] == "FAIL"


@pytest.mark.parametrize(
    ("name", "unit", "bound", "lo", "hi", "shown"),
    [
        ("error_rate", "ratio", 0.001, 0.0004, 0.0004, ("≤ 0.1 %", "0.04 %")),
        ("error_rate", "ratio", 0.0, 0.00001, 0.00001, ("0", "0.001 %")),
        ("error_rate", "ratio", 0.01, 0.0, 0.0, ("≤ 1 %", "0 %")),
        ("latency_p99", "s", 0.2, 0.0123, 0.0151, ("≤ 0.2 s", "12.3 – 15.1 ms")),
        ("latency_p99", "s", 0.2, 1.0, None, ("≤ 0.2 s", "≥ 1 s, no upper end")),
        ("mttd", "s", 5.0, 9.9, None, ("≤ 5 s", "≥ 9.9 s, it never fired")),
        ("baseline", "s", 5.0, 0.0, None, ("≤ 5 s", "it was not seen to return")),
        ("baseline", "s", 5.0, 0.0, 0.0, ("≤ 5 s", "at once")),
        ("runbook", "s", 5.0, 2.0004, 2.0004, ("≤ 5 s", "2.000 s")),
    ],
)
def test_objectives_read_as_people_say_them(
    name: str, unit: str, bound: float, lo: float, hi: float | None, shown: tuple[str, str]
) -> None:
    """Bound and measurement of every newer objective, in its own unit, never rounded to something better than it is."""
    objective = Objective(name, bound, lo, hi, unit, Verdict.PASS, "reads")
    assert (words.bound(objective), words.measured(objective)) == shown

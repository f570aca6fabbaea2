"""The other forms of a report: terminal, JUnit, pytest-html, Markdown, and what repeats say together."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import evidence_samples as samples
import msgspec
import pytest
from rich.console import Console

from chaos.core.model import Interval, Verdict
from chaos.evidence.distribution import covered_quantile, distribution, loss_bound, render_distribution, statements
from chaos.evidence.html_extras import COLUMNS, row_html, sparkline, summary_cells
from chaos.evidence.junit import properties
from chaos.evidence.report import ReportPaths, load_report, write_report
from chaos.evidence.terminal import plain, plain_summary, render_summary, report_summary, summary_dict
from chaos.measure.result import ObjectiveResult

MAKERS = [samples.outcome, samples.lossy, samples.never_recovered, samples.invalid, samples.acts, samples.hostile, samples.many_faults]


def summary(make: Any, history: Path, directory: Path) -> dict[str, Any]:
    outcome = make(history)
    return dict(summary_dict(outcome, write_report(outcome, directory)))


def plain_types(value: object) -> bool:
    """Exactly what execnet carries: no subclasses."""
    if type(value) is list:
        return all(plain_types(item) for item in value)
    if type(value) is dict:
        return all(type(name) is str and plain_types(item) for name, item in value.items())
    return value is None or type(value) in {str, int, float, bool}


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_summary_crosses_xdists_wire(make: Any, history: Path, drill_dir: Path) -> None:
    """A summary is made of plain types and survives execnet's own serialisation."""
    import execnet

    found = summary(make, history, drill_dir)
    assert plain_types(found)
    assert execnet.loads(execnet.dumps(found)) == found
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_terminal_is_one_screen_without_escapes(make: Any, history: Path, drill_dir: Path) -> None:
    """One drill fits a screen of 24 lines, begins with its verdict, ends with the path of its report, and holds no escape."""
    found = summary(make, history, drill_dir)
    found["html"] = ".gameday/runs/latest/drill/report.html"
    text = plain_summary([found])
    lines = text.splitlines()
    assert len(lines) <= 24
    assert lines[1].startswith(found["headline"])
    assert lines[-1].split() == ["report", ".gameday/runs/latest/drill/report.html"]
    assert "\x1b" not in text


def test_terminal_names_figures_bounds_and_faults(history: Path, drill_dir: Path) -> None:
    """The screen holds RTO as an interval with its bound, lost writes, availability, and the fate of every fault."""
    text = plain_summary([summary(samples.lossy, history, drill_dir)])
    for part in ("2.407 – 2.436 s", "objective ≤ 30 s", "152 lost", "81.1 %", "power-loss on pg1: landed +3.098 s, healed and verified"):
        assert part in text


def test_an_rto_from_the_heal_is_shown_with_its_bound(history: Path, drill_dir: Path) -> None:
    """Where the budget counts from the heal, that figure carries the objective and the others do not."""
    passed = samples.outcome(history)
    rto = msgspec.structs.replace(samples.rto_passed(), after_heal=Interval(0.9, 1.1))
    objective = ObjectiveResult("rto", 10.0, 0.9, 1.1, "s", Verdict.PASS, "writes")
    judgement = msgspec.structs.replace(passed.judgement, rto=rto, objectives=(objective,))
    healed = msgspec.structs.replace(passed, judgement=judgement)
    lines = plain_summary([summary_dict(healed, write_report(healed, drill_dir))]).splitlines()
    assert [" ".join(line.split()) for line in lines if "RTO" in line] == [
        "RTO, from the heal 0.90 – 1.10 s objective ≤ 10 s PASS",
        "RTO, as clients saw it 2.407 – 2.436 s not judged",
        "RTO, from the incident 2.39 – 2.55 s not judged",
    ]


def test_terminal_colours_only_where_there_are_some(history: Path, drill_dir: Path) -> None:
    """The same renderable has colours on a terminal that has them, and markup in texts is never interpreted."""
    found = summary(samples.outcome, history, drill_dir) | {"sentence": "[bold]not markup[/bold] :smile:"}
    console = Console(width=100, force_terminal=True, color_system="standard")
    with console.capture() as captured:
        console.print(render_summary([found]))
    assert "\x1b[1;32mPASS" in captured.get()
    assert "[bold]not markup[/bold] :smile:" in captured.get()


def test_many_drills_are_counted_and_the_unexpected_shown(history: Path, drill_dir: Path) -> None:
    """Of many drills those as expected take a line each, the others a block, and the last line counts them."""
    good, bad = summary(samples.outcome, history, drill_dir), summary(samples.never_recovered, history, drill_dir)
    text = plain_summary([good] * 5 + [bad], columns=160)
    assert text.splitlines()[-1] == "6 drills: 5 as expected, 1 not"
    assert text.count("no recovery seen") == 2


def test_summary_can_be_made_from_a_loaded_report(history: Path, drill_dir: Path) -> None:
    """A report that was loaded gives the summary that the drill gave."""
    found = summary(samples.lossy, history, drill_dir)
    loaded = report_summary(load_report(drill_dir), html=str(drill_dir / "report.html"), json=str(drill_dir / "report.json"))
    assert loaded == found


def test_light_modules_load_nothing_heavy() -> None:
    """What a controller needs for its summary loads neither numpy, nor jinja2, nor matplotlib."""
    code = (
        "import sys; from chaos.evidence import distribution, html_extras, junit, paths, terminal;"
        "print({'numpy', 'jinja2', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_junit_properties_are_text_with_dots(history: Path, drill_dir: Path) -> None:
    """JUnit properties are pairs of str, named ``gameday.…``, and hold verdict, intervals, objectives and the report's path."""
    outcome = samples.lossy(history)
    found = properties(outcome, write_report(outcome, drill_dir))
    assert all(type(name) is str and type(value) is str and name.startswith("gameday.") for name, value in found)
    facts = dict(found)
    assert facts["gameday.verdict"] == "FAIL"
    assert facts["gameday.as_expected"] == "true"
    assert (facts["gameday.rto_client_lo_s"], facts["gameday.rto_client_hi_s"]) == ("2.407", "2.436")
    assert facts["gameday.rpo_lost"] == "152"
    assert facts["gameday.objective.rpo"] == "FAIL"
    assert facts["gameday.report"] == str(drill_dir / "report.html")


def test_junit_says_inf_where_no_bound_was_seen(history: Path, drill_dir: Path) -> None:
    """A recovery never seen has an infinite upper bound; what was not judged is left out."""
    outcome = samples.never_recovered(history)
    facts = dict(properties(outcome, write_report(outcome, drill_dir)))
    assert math.isinf(float(facts["gameday.rto_client_hi_s"]))
    assert "gameday.rpo_lost" not in facts


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_row_is_escaped_well_formed_and_self_contained(make: Any, history: Path, drill_dir: Path) -> None:
    """The block for pytest-html is well-formed, holds its chart, and neither script nor reference to anything outside."""
    outcome = make(history)
    paths = write_report(outcome, drill_dir)
    for block in (row_html(outcome, paths), row_html(outcome)):
        root = ElementTree.fromstring(block)
        tags = [element.tag.rpartition("}")[2] for element in root.iter()]
        assert "script" not in tags
        assert "svg" in tags
        assert "url(" not in block
        assert "src=" not in block
    assert len(row_html(outcome, paths)) < 60_000


def test_row_links_where_it_is_told_to(history: Path, drill_dir: Path) -> None:
    """The link of a row is escaped as an attribute."""
    outcome = samples.outcome(history)
    root = ElementTree.fromstring(row_html(outcome, write_report(outcome, drill_dir), link='x"onclick="y'))
    assert [element.get("href") for element in root.iter("a")] == ['x"onclick="y']


def test_row_without_operations_has_no_chart(drill_dir: Path) -> None:
    """A drill that recorded nothing has a row without a chart."""
    paths: ReportPaths = write_report(samples.invalid(drill_dir / "history.jsonl"), drill_dir)
    assert sparkline(paths.report) == ""


def test_cells_match_their_columns(history: Path, drill_dir: Path) -> None:
    """There is a cell for every column, and text in them is escaped."""
    cells = summary_cells(summary(samples.lossy, history, drill_dir) | {"headline": "<b>FAIL</b>"})
    assert len(cells) == len(COLUMNS)
    assert "<b>" not in "".join(cells)
    assert cells[2] == "<td>152 of 2819</td>"


def test_markdown_holds_the_same_facts(history: Path, drill_dir: Path) -> None:
    """The Markdown has verdict, figures, objectives, faults with proofs, reads and the digest."""
    paths = write_report(samples.lossy(history), drill_dir)
    text = paths.markdown.read_text()
    assert text.startswith("# FAIL, as this drill expects: ")
    for part in (
        "| rto\\_client | writes | ≤ 30 s | 2.407 – 2.436 s | PASS |",
        "answers nobody",
        "| whole | pg2 |",
        paths.report.history.sha256,
    ):
        assert part in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


@pytest.mark.parametrize("n", [1, 5, 20, 59, 1000])
def test_bounds_are_those_of_the_binomial(n: int) -> None:
    """A loss as probable as the bound would stay away n times with probability 0.05; the largest of n falls below the quantile as often."""
    assert (1 - loss_bound(n)) ** n == pytest.approx(0.05)
    assert covered_quantile(n) ** n == pytest.approx(0.05)


def repeats(base: dict[str, Any], his: list[float | None], **more: Any) -> list[dict[str, Any]]:
    return [base | {"rto_client_lo_s": (hi or 5.0) - 0.03, "rto_client_hi_s": hi} | more for hi in his]


def test_distribution_says_what_n_says(history: Path, drill_dir: Path) -> None:
    """Twenty runs without a loss say that P(loss) is at most 14 %, and that 86 % of recoveries take no longer than the longest."""
    base = summary(samples.outcome, history, drill_dir)
    runs = repeats(base, [2.3 + 0.01 * index for index in range(19)] + [3.456])
    said = statements(distribution(runs))
    assert said[0] == "The largest of 20 recovery times is at most 3.46 s: at 95 % confidence, at least 86 % of recoveries take no longer."
    assert said[1] == "No write was lost in 20 runs: at 95 % confidence, the probability of a loss in a run is at most 14 %."
    text = plain(render_distribution(runs), columns=160)
    assert "median 2.36 – 2.39 s" in text or "median 2.360 – 2.390 s" in text
    assert "20 runs, 20 as expected (20 PASS)" in text


def test_distribution_does_not_bound_what_never_recovered(history: Path, drill_dir: Path) -> None:
    """A run that never recovered takes every statement about the largest away; a loss is proven by one run."""
    base = summary(samples.lossy, history, drill_dir)
    said = statements(distribution(repeats(base, [2.4, None, 2.5])))
    assert said[0].startswith("1 of 3 runs never recovered")
    assert said[1] == "Writes were lost in 3 of 3 runs, 152 in the worst: a loss is proven."


def test_distribution_leaves_out_runs_that_say_nothing(history: Path, drill_dir: Path) -> None:
    """INVALID runs are counted as such and in no bound."""
    base = summary(samples.outcome, history, drill_dir)
    runs = [*repeats(base, [2.4, 2.5]), *repeats(base, [2.4], verdict="INVALID", as_expected=False)]
    found = distribution(runs)
    assert (found.runs, found.rpo_runs, len(found.rto)) == (3, 2, 2)
    assert statements(found)[-1] == "1 of 3 runs were invalid or aborted and say nothing."
    assert distribution([]).runs == 0
    assert plain(render_distribution(runs[2:]))

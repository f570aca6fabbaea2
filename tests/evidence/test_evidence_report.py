"""What is written for a drill: the JSON that is the source of truth, its schema, and the pages made from it."""

from __future__ import annotations

import hashlib
import html.parser
import itertools
import json
import re
import time
from pathlib import Path
from typing import Any

import evidence_samples as samples
import jsonschema
import msgspec
import numpy as np
import pytest

from chaos.core.errors import BadInput
from chaos.core.model import Budget, Verdict
from chaos.evidence import words
from chaos.evidence.chart import draw_svg
from chaos.evidence.model import Report, Span
from chaos.evidence.report import load_report, render, write_report
from chaos.evidence.schema import SCHEMA_FILE, report_schema, schema_text
from chaos.evidence.timeline import bin_columns, bin_width_s
from chaos.measure.columns import Columns
from chaos.measure.history import HistoryWriter, SurvivorRead, WorkloadInfo, read_history
from chaos.measure.judge import judge

MAKERS = [samples.outcome, samples.lossy, samples.never_recovered, samples.invalid, samples.acts, samples.hostile, samples.many_faults]

DOCUMENTED_FIELDS = {
    "": "run_id drill test scenario environment operator host git versions seed started_utc ended_utc verdict findings objectives rto "
    "workloads rpo faults phases control history",
    "environment": "name kind identity",
    "objectives": "name bound lo hi unit verdict",
    "rto": "client incident after_heal total",
    "workloads": "name rate_hz timeout_s scheduled good bad unsent lag_p99_s rto availability",
    "rpo": "acked lost lost_ids time recovered phantom duplicated mutated split_brain reads",
    "faults": "kind node params planned armed issued landed heal_issued healed verified proof",
    "history": "path sha256",
}


def written(outcome: Any, directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(write_report(outcome, directory).json.read_text())
    return found


def test_json_holds_the_documented_fields(drill_dir: Path, history: Path) -> None:
    """``report.json`` names its schema and holds every documented field, times in seconds from the start."""
    report = written(samples.lossy(history), drill_dir)
    assert report["schema"] == "gameday.drill/1"
    for place, names in DOCUMENTED_FIELDS.items():
        part = report[place] if place else report
        part = part[0] if isinstance(part, list) else part
        assert set(names.split()) <= set(part), place
    assert report["rto"]["client"] == {"lo_s": 2.407, "hi_s": 2.436}
    assert report["faults"][0]["landed"] == pytest.approx(3.098)
    assert len(report["rpo"]["lost_ids"]) == 100
    assert report["rpo"]["lost"] == 152
    assert report["expectation"] == {"expect": "FAIL", "because": "rpo", "as_expected": True}


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_json_keeps_its_schema(make: Any, drill_dir: Path, history: Path) -> None:
    """Every report validates against the shipped schema, whatever the drill came to."""
    report = written(make(history), drill_dir)
    schema = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(report, schema, cls=jsonschema.Draft202012Validator)


def test_shipped_schema_is_that_of_the_types() -> None:
    """The shipped schema is what the report's types give; ``python -m chaos.evidence.schema`` writes it again."""
    assert SCHEMA_FILE.read_text() == schema_text()
    assert report_schema()["$defs"]["Fault"]["properties"]["landed"] == {"anyOf": [{"type": "number"}, {"type": "null"}]}


def test_schema_refuses_what_is_no_report(drill_dir: Path, history: Path) -> None:
    """A report without a verdict, or of another schema, is refused by the shipped schema."""
    report = written(samples.outcome(history), drill_dir)
    for broken in ({**report, "schema": "gameday.drill/2"}, {name: report[name] for name in report if name != "verdict"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, json.loads(SCHEMA_FILE.read_text()))


def test_states_never_reached_are_null(drill_dir: Path, history: Path) -> None:
    """States that a fault never reached, and bounds never seen, are null."""
    report = written(samples.never_recovered(history), drill_dir)
    assert report["faults"][0]["healed"] is None
    assert report["faults"][0]["verified"] is None
    assert report["rto"]["client"] == {"lo_s": 12.2, "hi_s": None}
    assert report["rpo"] is None


def test_history_is_named_and_pinned(drill_dir: Path, history: Path) -> None:
    """The report names its history relative to itself, and the digest is over as many bytes as it says, also when the file grows."""
    told = written(samples.outcome(history), drill_dir)["history"]
    with history.open("a") as file:
        file.write('["e",1,"note",{"text":"later"}]\n')
    assert told["path"] == "history.jsonl"
    assert told["sha256"] == hashlib.sha256(history.read_bytes()[: told["bytes"]]).hexdigest()
    assert told["begin_ns"] == samples.BEGIN_NS


def test_load_gives_back_what_was_written(drill_dir: Path, history: Path) -> None:
    """A report that is loaded equals the one that was written, and renders to the same bytes."""
    paths = write_report(samples.outcome(history), drill_dir)
    loaded = load_report(drill_dir)
    assert loaded == paths.report
    before = paths.html.read_bytes(), paths.markdown.read_bytes()
    again = render(loaded, drill_dir)
    assert (again.html.read_bytes(), again.markdown.read_bytes()) == before


def test_load_says_what_is_wrong(tmp_path: Path, drill_dir: Path, history: Path) -> None:
    """A file that is no report is refused with the place of what is wrong in it."""
    with pytest.raises(BadInput, match=r"name a report\.json"):
        load_report(tmp_path)
    paths = write_report(samples.outcome(history), drill_dir)
    paths.json.write_text(paths.json.read_text().replace('"verdict": "PASS"', '"verdict": "SPLENDID"', 1))
    with pytest.raises(BadInput, match=r"verdict"):
        load_report(paths.json)


def test_report_appears_whole(drill_dir: Path, history: Path) -> None:
    """Beside the history only the three files of the report remain, none of them temporary."""
    write_report(samples.outcome(history), drill_dir)
    write_report(samples.outcome(history), drill_dir)
    assert sorted(path.name for path in drill_dir.iterdir()) == ["history.jsonl", "report.html", "report.json", "report.md"]


def test_unwritable_place_is_one_clear_line(tmp_path: Path, history: Path) -> None:
    """Where the directory cannot be had, the error says which and what to do."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(BadInput, match=r"file/x: cannot write the report.*--drill-dir"):
        write_report(samples.outcome(history), blocked / "x")


class _Tags(html.parser.HTMLParser):
    """Collects the elements of a page, and whether they nest."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def parsed(page: str) -> _Tags:
    tags = _Tags()
    tags.feed(page)
    assert not tags.stack
    return tags


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_page_is_one_offline_file(make: Any, drill_dir: Path, history: Path) -> None:
    """The page nests properly, has a language and one h1, no script, and refers to nothing outside itself."""
    page = write_report(make(history), drill_dir).html.read_text()
    tags = parsed(page)
    names = [name for name, _ in tags.seen]
    assert "script" not in names
    assert names.count("h1") == 1
    assert dict(tags.seen)["html"]["lang"] == "en"
    for name, attributes in tags.seen:
        for attribute in ("src", "href", "xlink:href"):
            target = attributes.get(attribute) or "#"
            assert target.startswith(("#", "data:")), (name, target)
        assert not any(attribute.startswith("on") for attribute in attributes)
    assert "url(http" not in page
    assert "default-src 'none'" in page


def test_page_escapes_text_from_outside(drill_dir: Path, history: Path) -> None:
    """Markup in node ids, error texts, names and proofs is shown as text, terminal escapes are dropped, and formulas are not set."""
    samples.write_history(history, error=samples.HOSTILE)
    paths = write_report(samples.hostile(history), drill_dir)
    page = paths.html.read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page
    assert "\x1b" not in page + paths.markdown.read_text() + paths.json.read_text()
    assert "\\frac" in page
    assert "<script" not in paths.markdown.read_text()
    assert "[a](b)" not in paths.markdown.read_text().replace("\\[", "[ ")


def test_chart_is_the_same_every_time_and_describes_itself(drill_dir: Path, history: Path) -> None:
    """The chart's bytes do not change from one drawing to the next, and it has a title and a description."""
    report = write_report(samples.outcome(history), drill_dir).report
    first = draw_svg(report)
    assert first == draw_svg(report)
    assert '<title id="chart-title">Timeline of suites/failover' in first
    assert "Recovery time as clients saw it: 2.407 – 2.436 s." in first
    assert "matplotlib.org" not in first


def test_chart_that_fails_does_not_cost_the_page(drill_dir: Path, history: Path) -> None:
    """A timeline that cannot be drawn leaves a page that says so."""
    report = write_report(samples.outcome(history), drill_dir).report
    line = msgspec.structs.replace(report.timeline, series=[], note="")
    page = render(msgspec.structs.replace(report, timeline=line), drill_dir).html.read_text()
    assert "Drawing it failed: ValueError" in page


@pytest.mark.parametrize(("damage", "said"), [("missing", "history file is missing"), ("damaged", "could not be read")])
def test_history_that_cannot_be_read_is_said(damage: str, said: str, drill_dir: Path, history: Path) -> None:
    """A history that is missing or damaged costs the chart, not the report."""
    if damage == "missing":
        history.unlink()
    else:
        history.write_text('["o", nonsense\n["o"]\n')
    assert said in write_report(samples.outcome(history), drill_dir).html.read_text()


def test_expected_failure_says_so_first(drill_dir: Path, history: Path) -> None:
    """A broken twin's report begins with FAIL, as this drill expects, and the finding that it is about."""
    head = words.headline(write_report(samples.lossy(history), drill_dir).report)
    assert (head.verdict_line, head.tone) == ("FAIL, as this drill expects", "expected")
    assert head.sentence.startswith("152 of 2 819 acknowledged writes are gone")


def test_unexpected_pass_is_not_dressed_up(drill_dir: Path, history: Path) -> None:
    """A twin that passes where it had to fail is shown as a failure of the drill."""
    outcome = msgspec.structs.replace(samples.outcome(history), expectation=samples.lossy(history).expectation)
    head = words.headline(write_report(outcome, drill_dir).report)
    assert (head.verdict_line, head.tone) == ("PASS, but this drill expects FAIL because of rpo", "fail")


def test_error_beside_a_verdict_is_shown(drill_dir: Path, history: Path) -> None:
    """A failed heal never hides the verdict, and the verdict never hides it."""
    outcome = msgspec.structs.replace(samples.outcome(history), heal_error="pg1 did not boot")
    head = words.headline(write_report(outcome, drill_dir).report)
    assert (head.verdict_line, head.tone) == ("PASS, but healing failed", "fail")


@pytest.mark.parametrize(
    ("lo", "hi", "text"),
    [
        (2.407, 2.436, "2.407 – 2.436 s"),
        (2.4071, 2.5369, "2.40 – 2.54 s"),
        (0.0, 0.0051, "0 – 0.0051 s"),
        (3.0, 3.0, "3.000 s"),
        (0.0, 0.0, "0 s"),
        (12.2, None, "≥ 12.20 s, no recovery seen"),
        (71.0, 95.5, "71 – 96 s"),
    ],
)
def test_intervals_are_rounded_outwards(lo: float, hi: float | None, text: str) -> None:
    """A printed interval holds the measured one, with no more digits than its width deserves."""
    assert words.span(Span(lo, hi)) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.99999, "99.999 %"), (0.99999999, "99.999 %"), (1.0, "100 %"), (0.8199, "81.9 %"), (0.9957, "99.57 %"), (0.0, "0 %")],
)
def test_availability_is_rounded_down(ratio: float, text: str) -> None:
    """Only a whole availability reads as 100 %."""
    assert words.percent(ratio) == text


def test_bins_hold_every_operation(drill_dir: Path, history: Path) -> None:
    """The bins of the timeline add up to the operations of the history."""
    line = write_report(samples.outcome(history), drill_dir).report.timeline
    lines = [json.loads(text) for text in history.read_text().splitlines()]
    for index, series in enumerate(line.series):
        mine = [op for op in lines if op[0] == "o" and op[1] == index]
        assert sum(series.good) + sum(series.bad) == len(mine)
        assert sum(series.good) == sum(op[6] == 0 and op[5] - op[4] <= 1_000_000_000 for op in mine)
    assert sum(error.count for error in line.errors) == sum(op[0] == "o" and op[11] != "" for op in lines)


def test_quantiles_of_bins_are_nearest_rank(history: Path) -> None:
    """p50 and p99 of a bin are operations' own latencies; a bin without a good operation has none."""
    columns = million(200)
    line = bin_columns(columns, [WorkloadInfo(0, "w", 100.0, 1.0, 0)], begin_ns=0)
    inside = columns.s // round(line.bin_s * 1e9) == 3
    latency = np.sort((columns.r - columns.s)[inside]) / 1e9
    assert line.series[0].latency_p50_s[3] == pytest.approx(latency[int(np.ceil(0.5 * len(latency))) - 1], abs=1e-6)
    assert line.series[0].latency_p99_s[3] == pytest.approx(latency[-1], abs=1e-6)


@pytest.mark.parametrize(("span_s", "rate_hz", "bin_s"), [(16, 200, 0.1), (3600, 200, 20), (16, 1, 0.5), (0.5, 2000, 0.005)])
def test_bins_are_round_and_few(span_s: float, rate_hz: float, bin_s: float) -> None:
    """Bins are 1, 2 or 5 times a power of ten, at most 300, and not emptier than they have to be."""
    assert bin_width_s(span_s, rate_hz) == pytest.approx(bin_s)


def million(number: int) -> Columns:
    """So many operations at 100 a second, one in a hundred of them failed."""
    rng = np.random.default_rng(1)
    s = np.arange(number, dtype=np.int64) * 10_000_000
    t = s + rng.integers(0, 200_000, number)
    r = t + (2_000_000 * rng.lognormal(0, 0.5, number)).astype(np.int64)
    k = np.arange(number, dtype=np.int64)
    bad = k % 100 == 50
    zeros = np.zeros(number, np.int32)
    return Columns(
        w=zeros.astype(np.int16),
        k=k,
        s=s,
        t=t,
        r=r,
        outcome=np.where(bad, 1, 0).astype(np.int8),
        kind=zeros.astype(np.int16),
        id=k,
        node=zeros.astype(np.int16),
        timeline=zeros,
        error=bad.astype(np.int32),
        node_names=("pg1",),
        error_texts=("", "refused"),
    )


def test_a_million_operations_stay_small_and_quick(drill_dir: Path, history: Path) -> None:
    """A million operations give a chart below 1 MB, within seconds."""
    report = write_report(samples.outcome(history), drill_dir).report
    begun = time.perf_counter()
    line = bin_columns(million(1_000_000), [WorkloadInfo(0, "writes", 100.0, 1.0, 0)], begin_ns=0)
    svg = draw_svg(msgspec.structs.replace(report, timeline=line))
    assert time.perf_counter() - begun < 10
    assert len(svg) < 1_000_000
    assert len(line.series[0].good) <= 301


def test_labels_of_phases_do_not_overlap(drill_dir: Path, history: Path) -> None:
    """However many phases there are, labels of one lane keep apart."""
    from chaos.evidence.chart import _lanes, _view

    report: Report = write_report(samples.many_faults(history), drill_dir).report
    view = _view(report)
    lanes: dict[int, list[tuple[float, float]]] = {}
    for bar in _lanes(report, view):
        if bar.labelled:
            lanes.setdefault(bar.lane, []).append((bar.label_s, bar.label_s + view.text_s(bar.name)))
    for spans in lanes.values():
        assert all(earlier[1] <= later[0] + 1e-6 for earlier, later in itertools.pairwise(spans))


def test_user_settings_do_not_change_the_chart(drill_dir: Path, history: Path) -> None:
    """A user's matplotlib settings neither change the chart nor are changed by it."""
    import matplotlib

    report = write_report(samples.outcome(history), drill_dir).report
    plain = draw_svg(report)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        assert draw_svg(report) == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_verdict_enum_is_text_in_json(drill_dir: Path, history: Path) -> None:
    """Verdicts are plain words in the JSON."""
    report = written(samples.lossy(history), drill_dir)
    assert report["verdict"] == Verdict.FAIL.value
    assert re.fullmatch(r"[0-9a-f]{64}", report["history"]["sha256"])


def test_a_judged_history_becomes_a_report(drill_dir: Path, history: Path) -> None:
    """What the judge makes of a history stands in the report: the lost writes, the intervals, the moments that bracket them."""
    columns = read_history(history).columns
    present = tuple(int(number) for number in columns.id[columns.outcome == 0][40:])
    writer = HistoryWriter(history)
    for label, moment_s in (("recovered", 10.9), ("healed", 13.1), ("whole", 15.9)):
        read = SurvivorRead(label, samples.ns(moment_s), samples.ns(moment_s + 0.02), present, (), "pg2")
        writer.event("read", read, samples.ns(moment_s + 0.02))
    writer.close()
    found = read_history(history)
    budget = Budget(rto_s=30.0, rpo_count=0)
    judgement = judge(found, budget=budget, faults=(samples.power_loss(),), window_s=5.0, detect_s=1.5, end_ns=samples.ns(samples.END_S))
    outcome = msgspec.structs.replace(samples.outcome(history), budget=budget, judgement=judgement)
    report = write_report(outcome, drill_dir, history=found).report
    assert (report.verdict, report.findings[0].code) == (Verdict.FAIL, "rpo")
    assert report.rpo is not None
    assert report.rpo.lost == 40
    assert [round(read.began_s, 3) for read in report.rpo.reads] == [10.9, 13.1, 15.9]
    assert report.rto is not None
    truth_s = samples.OUT_UNTIL_S - samples.OUT_FROM_S
    assert report.rto.client.lo_s <= truth_s
    assert truth_s <= (report.rto.client.hi_s or 0.0)
    assert report.rto.outages[0].good_sent_s == pytest.approx(samples.OUT_FROM_S, abs=0.02)
    assert report.rto.outages[0].good_settled_s == pytest.approx(samples.OUT_UNTIL_S, abs=0.05)

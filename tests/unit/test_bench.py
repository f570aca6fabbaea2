"""The benches' own bookkeeping: which there are, how their lines become a table, what a missed figure does. Measures nothing."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench.__main__ import BEGIN, BENCHES, END, Measured, markdown, parse, show, update
from bench.row import ROOT, WIDTH, Row, command, exit_code, finish, read_rows, spread

ROWS = [Row("a [very] fast thing", "≤ 1 s", "0.5 s", True), Row("a slow thing", "≤ 1 s", "2 s", False), Row("a remark", "", "3 | 4")]
FACTS = [("machine", "a small one")]


def test_list_names_every_bench() -> None:
    """``python -m bench --list`` names exactly the modules beside it that can be run."""
    done = subprocess.run([sys.executable, "-m", "bench", "--list"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    runnable = {file.stem for file in (ROOT / "bench").glob("*.py") if '__name__ == "__main__"' in file.read_text(encoding="utf-8")}
    assert {line.split()[0] for line in done.stdout.splitlines()} == runnable - {"__main__"} == set(BENCHES)


def test_an_unknown_bench_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that no bench has ends the run before anything is measured, with the names that there are."""
    with pytest.raises(SystemExit):
        parse(["trut"])
    assert "no bench is named 'trut'; there are truth, " in capsys.readouterr().err


def test_only_a_whole_run_updates_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    """Figures of one document come from one whole run."""
    with pytest.raises(SystemExit):
        parse(["truth", "--update", "docs/performance.md"])
    assert "--update takes a whole run" in capsys.readouterr().err


def test_rows_are_handed_over_unchanged(tmp_path: Path) -> None:
    """What a bench hands over is what is read, and a missed figure is exit code 1."""
    options = command("example", "An example.").parse_args([f"--rows={tmp_path / 'rows.json'}"])
    assert finish(ROWS, options) == 1
    assert read_rows(tmp_path / "rows.json") == ROWS


def test_a_line_without_a_demand_misses_nothing() -> None:
    """Only a figure that was demanded and not reached makes the exit code 1."""
    assert exit_code([ROWS[0], ROWS[2]]) == 0


def test_the_table_fits_and_shows_every_line() -> None:
    """The table is at most 100 columns wide and holds every text as it is, brackets included."""
    out = Console(file=io.StringIO(), width=WIDTH, highlight=False)
    show([Measured("example", ROWS, 1.0, 0.5)], FACTS, out, quick=True)
    assert isinstance(out.file, io.StringIO)
    shown = out.file.getvalue()
    assert all(len(line) <= WIDTH for line in shown.splitlines())
    assert all(row.what in shown and row.measured in shown for row in ROWS)
    assert "1 of 2 figures reached" in shown and "50% busy before" in shown


def test_a_document_is_updated_between_its_marks(tmp_path: Path) -> None:
    """Only what stands between the two marks is replaced; a document without them is refused and stays as it is."""
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    update(document, markdown([Measured("example", ROWS, 1.0, 0.0)], FACTS))
    text = document.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}\n- machine: a small one\n") and text.endswith(f"{END}\nafter\n") and "old" not in text
    assert "| a slow thing | ≤ 1 s | 2 s | **no** |  |" in text and r"3 \| 4" in text
    document.write_text("no marks", encoding="utf-8")
    with pytest.raises(SystemExit, match="observed 0"):
        update(document, "new")
    assert document.read_text(encoding="utf-8") == "no marks"


def test_a_spread_shows_median_range_and_number() -> None:
    """Several values become their median, their range and their number."""
    assert spread([3.0, 1.0, 2.0]) == "2.00 s (1.00–3.00, n = 3)"

"""The page in a real browser: it renders, complains of nothing, asks for nothing, and prints on few pages.

Needs Chromium; without it these tests are skipped, unless ``TESTS_REQUIRE`` names ``chromium``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import evidence_samples as samples
import pytest

from chaos.evidence.report import write_report

MAKERS = [samples.outcome, samples.never_recovered, samples.invalid, samples.hostile]
CONSOLE = re.compile(r"CONSOLE.*")


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser's program, or a skip that says what is missing."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        missing = "no chromium, chromium-browser or google-chrome on PATH: apt-get install chromium"
        if "chromium" in os.environ.get("TESTS_REQUIRE", "").split(","):
            pytest.fail(f"TESTS_REQUIRE asks for chromium, but there is {missing}")
        pytest.skip(missing)
    return found


def browse(chromium: str, profile: Path, page: Path, *what: str) -> subprocess.CompletedProcess[str]:
    """Open ``page`` in a fresh profile, with no way out to any network."""
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-gpu"]
    alone = ["--headless", "--no-sandbox", f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr"]
    argv = [chromium, *quiet, *alone, "--window-size=1200,2400", *what, page.as_uri()]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_page_renders_without_complaint(make: Any, chromium: str, tmp_path: Path, history: Path, drill_dir: Path) -> None:
    """The browser shows verdict and chart, and its console is silent: nothing was blocked, nothing was asked for, no script ran."""
    paths = write_report(make(history), drill_dir)
    done = browse(chromium, tmp_path / "profile", paths.html, "--dump-dom")
    assert f"<strong>{paths.report.verdict.value}</strong>" in done.stdout
    assert ("<svg" in done.stdout) == bool(paths.report.timeline.series)
    assert "<script" not in done.stdout
    assert not CONSOLE.findall(done.stderr)


def test_silent_console_would_have_spoken(chromium: str, tmp_path: Path, history: Path, drill_dir: Path) -> None:
    """A page that does ask for something outside itself is blocked by its own policy, and the console says so."""
    page = write_report(samples.outcome(history), drill_dir).html
    page.write_text(page.read_text().replace("<main>", '<main><img src="http://127.0.0.1:9/x.png" alt="x">', 1))
    assert CONSOLE.findall(browse(chromium, tmp_path / "profile", page, "--dump-dom").stderr)


def test_page_prints_on_few_pages(chromium: str, tmp_path: Path, history: Path, drill_dir: Path) -> None:
    """A typical report prints on at most four A4 pages."""
    page = write_report(samples.outcome(history), drill_dir).html
    pdf = tmp_path / "report.pdf"
    browse(chromium, tmp_path / "profile", page, "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf.read_bytes())
    assert 2 <= len(boxes) <= 4
    assert {(round(float(width)), round(float(height))) for width, height in boxes} <= {(595, 842), (596, 842), (595, 843)}

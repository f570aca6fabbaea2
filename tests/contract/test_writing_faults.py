"""The worked example of ``docs/writing-faults.md``, as somebody would type it: installed by its entry point, through both suites."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chaos.core.errors import Unavailable
from chaos.environments.microhost.provider import Microhosts
from chaos.testing.grounds import not_here

PAGE = Path(__file__).resolve().parents[2] / "docs" / "writing-faults.md"
FILES = ("short_backlog.py", "catalogue.py", "test_short_backlog.py")


def blocks(language: str) -> list[str]:
    """The code of the page."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """The page's files, and the metadata that installing them would have made."""
    try:
        Microhosts().check()
    except Unavailable as err:
        not_here(err, "embedded")
    for name, text in zip(FILES, blocks("python"), strict=True):
        pytester.path.joinpath(name).write_text(text, encoding="utf-8")
    installed = pytester.mkdir("short_backlog-1.0.dist-info")
    registered = next(text for text in blocks("toml") if "chaos.faults" in text)
    points = registered.replace('[project.entry-points."chaos.faults"]', "[chaos.faults]").replace('"', "")
    (installed / "entry_points.txt").write_text(points, encoding="utf-8")
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: short-backlog\nVersion: 1.0\n", encoding="utf-8")
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    for name in ("PYTEST_ADDOPTS", "CRASH"):
        monkeypatch.delenv(name, raising=False)
    return pytester


def test_the_worked_example_keeps_the_contract(project: pytest.Pytester) -> None:
    """Both examples of the page's fault pass every test of the suite on micro-hosts, none of them skipped."""
    result = project.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-k", "TestContract", timeout=500)
    result.assert_outcomes(passed=22)


def test_the_worked_example_survives_whoever_dies(project: pytest.Pytester) -> None:
    """Killed at three of the moments, its runner leaves nothing: the healer knew the page's fault by its entry point."""
    moments = "after-intent or mid-inject or observing"
    result = project.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-k", f"TestCrashes and ({moments})", timeout=500)
    result.assert_outcomes(passed=3)

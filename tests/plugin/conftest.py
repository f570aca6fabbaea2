"""A project of its own for every plugin test: pytest in a subprocess, the installed plugin, nothing of this repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from plugin_project import Run


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty project with strict settings, away from this run's own options."""
    for name in [name for name in os.environ if name.startswith(("DRILL_", "PYTEST_"))]:
        monkeypatch.delenv(name)
    pytester.makefile(".ini", pytest="[pytest]\naddopts = --strict-markers --strict-config\nfilterwarnings = error\n")
    return pytester


@pytest.fixture
def run(project: pytest.Pytester) -> Run:
    """``pytest`` in a process of its own, as a person would type it."""

    def run(*args: str | Path) -> pytest.RunResult:
        return project.runpytest_subprocess(*args, timeout=120)

    return run

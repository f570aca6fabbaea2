"""A project of its own for every plugin test: pytest in a subprocess, the installed plugin, nothing of this repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from plugin_project import Run

HERE = Path(__file__).parent


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty project with strict settings, away from this run's own options."""
    for name in [name for name in os.environ if name.startswith(("DRILL_", "PYTEST_"))]:
        monkeypatch.delenv(name)
    pytester.makefile(".ini", pytest="[pytest]\naddopts = --strict-markers --strict-config\nfilterwarnings = error\ndrill_again = 5\n")
    return pytester


@pytest.fixture
def box(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with the box system, in an environment that an installed package brings by its entry point."""
    for source, name in (("box_conftest", "conftest"), ("box_operations", "box_operations"), ("box_environment", "box_environment")):
        project.makepyfile(**{name: (HERE / f"{source}.py").read_text(encoding="utf-8")})
    installed = project.mkdir("boxes-1.0.dist-info")
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: boxes\nVersion: 1.0\n", encoding="utf-8")
    (installed / "entry_points.txt").write_text("[chaos.environments]\nhere = box_environment:Here\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(project.path))
    return project


@pytest.fixture
def run(project: pytest.Pytester) -> Run:
    """``pytest`` in a process of its own, as a person would type it."""

    def run(*args: str | Path) -> pytest.RunResult:
        return project.runpytest_subprocess(*args, timeout=120)

    return run

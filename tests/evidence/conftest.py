"""Fixtures of the evidence tests: a history as a real drill writes it, and a place for its report."""

from __future__ import annotations

from pathlib import Path

import pytest
from evidence_samples import write_history


@pytest.fixture
def drill_dir(tmp_path: Path) -> Path:
    """A directory as the plugin makes it: below ``.gameday/runs``."""
    path = tmp_path / ".gameday" / "runs" / "r1" / "drill"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def history(drill_dir: Path) -> Path:
    """The history of a drill with one outage."""
    return write_history(drill_dir / "history.jsonl")

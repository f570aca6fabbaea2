"""Where evidence lies: names that are safe and unique, a link that is never missing, files that are whole."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.core.errors import BadInput
from chaos.evidence.paths import drill_directory, point_latest, run_directory, safe_name, write_whole


@given(st.text(max_size=400))
def test_safe_name_is_one_harmless_component(text: str) -> None:
    """Whatever the node id, its name is short plain ASCII, no option, not hidden, and no path."""
    name = safe_name(text)
    assert name.isascii()
    assert 0 < len(name) <= 96
    assert name[0] not in ".-"
    assert not set(name) & set("/\\ \0\n:*?<>|[]")


@given(st.text(max_size=40), st.text(max_size=40))
def test_safe_names_differ_where_ids_differ(one: str, other: str) -> None:
    """Two ids have one name only where they are the same id."""
    assert (safe_name(one) == safe_name(other)) == (one == other)


def test_safe_name_is_readable() -> None:
    """The test's name and environment can be read in it."""
    name = safe_name("suites/failover/test_pg.py::test_power_loss[embedded]")
    assert name.startswith("suites-failover-test_pg.py.test_power_loss-embedded-")


def test_a_drill_that_runs_twice_keeps_both(tmp_path: Path) -> None:
    """A drill that runs again in its run gets a directory of its own."""
    run = run_directory(tmp_path / ".gameday", "r1")
    first, second = drill_directory(run, "a::b"), drill_directory(run, "a::b")
    assert first != second
    assert second.name == f"{first.name}.2"


@pytest.mark.parametrize("run_id", ["", "..", "a/b", "latest", "x y"])
def test_run_ids_are_plain_names(tmp_path: Path, run_id: str) -> None:
    """A run id that is no plain file name is refused."""
    with pytest.raises(BadInput, match="run id"):
        run_directory(tmp_path, run_id)


def test_directories_that_cannot_be_made_are_one_line(tmp_path: Path) -> None:
    """A file in the way is named, with what to do."""
    (tmp_path / ".gameday").write_text("")
    with pytest.raises(BadInput, match=r"\.gameday/runs/r1: cannot make.*--drill-dir"):
        run_directory(tmp_path / ".gameday", "r1")


def test_latest_points_to_the_newest_run_and_is_never_missing(tmp_path: Path) -> None:
    """While two runs take turns as the latest, a reader always finds one of them."""
    runs = [run_directory(tmp_path, name) for name in ("r1", "r2")]
    link = point_latest(runs[0])
    stop = threading.Event()
    missing = []

    def watch() -> None:
        while not stop.is_set():
            if not link.exists():
                missing.append(link)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for turn in range(200):
        point_latest(runs[turn % 2])
    stop.set()
    watcher.join(10)
    assert not missing
    assert link.resolve() == runs[1]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["latest", "r1", "r2"]


def test_latest_does_not_replace_a_directory(tmp_path: Path) -> None:
    """Where somebody made a directory of that name, it is left alone and named."""
    run = run_directory(tmp_path, "r1")
    (tmp_path / "runs" / "latest").mkdir()
    with pytest.raises(BadInput, match="expected a symlink"):
        point_latest(run)


def test_write_whole_leaves_the_old_file_where_it_fails(tmp_path: Path) -> None:
    """Content that cannot be written leaves what was there, and nothing temporary."""
    path = tmp_path / "report.json"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\ud800")
    (tmp_path / "sub").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "sub", "x")
    assert path.read_text() == "old"
    assert sorted(child.name for child in tmp_path.iterdir()) == ["report.json", "sub"]

"""What a crash leaves on this machine: a drill in a process of its own, everything that descends from it, and the host before and after.

No fixtures and no assertions. Nothing here is ended but what was started here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from chaos.testing.host import MARK, Host, Traces, descendants

ROOT = Path(__file__).resolve().parents[2]
DRILL = "suites/failover/test_postgres_power_loss.py"
GONE_WITHIN_S = 5.0


def project(directory: Path) -> Path:
    """A copy of this project's first drill, with nothing beside it, so that any file that appears is the drill's doing."""
    shutil.copytree(ROOT / "fixtures", directory / "fixtures", ignore=shutil.ignore_patterns("__pycache__", "images"))
    (directory / DRILL).parent.mkdir(parents=True)
    for name in ("conftest.py", "pyproject.toml", DRILL):
        shutil.copy(ROOT / name, directory / name)
    return directory


def files_below(directory: Path) -> set[str]:
    """Every path there."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


@dataclass
class Run:
    """A pytest process and what it has: ``outside`` holds its home, its temporary files and its working directory;
    ``flushed`` is what its history held when it was killed."""

    process: subprocess.Popen[bytes]
    outside: Path
    drill_dir: Path
    mark: str
    files: set[str]
    traces: Traces
    flushed: bytes = b""

    def watch(self) -> None:
        """Note what it has now."""
        self.traces.watch(self.process.pid)

    def remnants(self) -> list[str]:
        """Processes that carry its mark, live in its namespaces, or descend from it."""
        return self.traces.remnants()

    def new_files(self) -> set[str]:
        """Files that appeared outside the drill's directory."""
        return files_below(self.outside) - self.files

    def history(self) -> Path | None:
        """The drill's history, once it exists."""
        return next(iter(self.drill_dir.glob("runs/*/*/history.jsonl")), None)

    def log(self) -> str:
        return (self.drill_dir.parent / "log").read_text(errors="replace")


def start(directory: Path, *more: str) -> Run:
    """Start the drill. ``directory`` is this run's alone."""
    outside, drill_dir, mark = directory / "outside", directory / "drills", uuid.uuid4().hex
    project(outside / "project")
    for name in ("home", "tmp", "cache", "state"):
        (outside / name).mkdir()
    drill_dir.mkdir()
    environ = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(outside / "home"),
        "TMPDIR": str(outside / "tmp"),
        "XDG_CACHE_HOME": str(outside / "cache"),
        "XDG_STATE_HOME": str(outside / "state"),
        "PYTHONDONTWRITEBYTECODE": "1",
        MARK: mark,
    }
    environ |= {name: value for name, value in os.environ.items() if name in ("DRILL_PG_BIN", "PGBIN", "LD_LIBRARY_PATH")}
    argv = [
        sys.executable,
        "-m",
        "pytest",
        DRILL,
        "--drill-env",
        "embedded",
        "-p",
        "no:cacheprovider",
        "--drill-dir",
        str(drill_dir),
        *more,
    ]
    files = files_below(outside)
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(
            argv, cwd=outside / "project", env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    return Run(process, outside, drill_dir, mark, files, Traces(mark))


@contextlib.contextmanager
def running(directory: Path, *more: str) -> Iterator[Run]:
    """As ``start``, ended in any case."""
    run = start(directory, *more)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
        run.process.wait(10)


def supervisors(run: Run) -> list[tuple[int, int]]:
    """The supervisor stubs below it, each with its sandbox's PID 1."""
    found = []
    for process in descendants(run.process.pid):
        with contextlib.suppress(psutil.Error):
            if process.name() == "gd:sandbox":
                found.append((process.ppid(), process.pid))
    return found


def residue(run: Run, before: Host, within_s: float = GONE_WITHIN_S) -> list[str]:
    """What is left a few seconds after the end; waits only as long as something is."""
    deadline = time.monotonic() + within_s
    while True:
        left = (
            [f"process: {text}" for text in run.remnants()] + Host.now().more_than(before) + [f"file: {name}" for name in run.new_files()]
        )
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def kill_at(run: Run, moment_s: float, began: float) -> bool:
    """SIGKILL pytest ``moment_s`` after ``began``, watching until then. False where it ended by itself before."""
    while time.monotonic() - began < moment_s:
        if run.process.poll() is not None:
            return False
        run.watch()
        time.sleep(min(0.1, max(0.0, moment_s - (time.monotonic() - began))))
    run.watch()
    history = run.history()
    run.flushed = history.read_bytes() if history is not None else b""
    run.process.kill()
    run.process.wait(10)
    return run.process.returncode == -signal.SIGKILL

"""What a crash leaves on this machine: a drill in a process of its own, everything that descends from it, and the host before and after.

No fixtures and no assertions. Nothing here is ended but what was started here.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
DRILL = "suites/failover/test_postgres_power_loss.py"
MARK = "GAMEDAY_CRASH_MARK"
GONE_WITHIN_S = 5.0
# Docker's interfaces and mounts come and go on a machine with an engine; a sandbox's would be named br0, veth1 … and gameday.
DOCKERS = re.compile(r"veth[0-9a-f]{7}$|br-[0-9a-f]{12}$|docker|/containerd/|/run/netns/|nsfs")


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
    namespaces: set[str] = field(default_factory=set)
    flushed: bytes = b""

    def watch(self) -> None:
        """Note the user namespaces of everything that descends from it: whoever is in one of them later is a remnant."""
        for process in descendants(self.process.pid):
            name = user_namespace(process.pid)
            if name and name != user_namespace(os.getpid()):
                self.namespaces.add(name)

    def remnants(self) -> list[str]:
        """Processes that carry its mark, live in its namespaces, or descend from it."""
        found = []
        for entry in os.listdir("/proc"):
            if (
                entry.isdigit()
                and int(entry) != os.getpid()
                and (user_namespace(int(entry)) in self.namespaces or self._marked(int(entry)))
            ):
                found.append(described(int(entry)))
        return [text for text in found if text]

    def _marked(self, pid: int) -> bool:
        try:
            return f"{MARK}={self.mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False  # it ended, or is another user's

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
    return Run(process, outside, drill_dir, mark, files)


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


def descendants(pid: int) -> list[psutil.Process]:
    """``pid`` and everything below it."""
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def supervisors(run: Run) -> list[tuple[int, int]]:
    """The supervisor stubs below it, each with its sandbox's PID 1."""
    found = []
    for process in descendants(run.process.pid):
        with contextlib.suppress(psutil.Error):
            if process.name() == "gd:sandbox":
                found.append((process.ppid(), process.pid))
    return found


def user_namespace(pid: int) -> str:
    """Its name; "" where there is no such process, or it may not be looked at."""
    try:
        return os.readlink(f"/proc/{pid}/ns/user")
    except OSError:
        return ""


def described(pid: int) -> str:
    """A process for an error message; "" for one that is gone or only a zombie."""
    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{pid} {process.name()} {process.cmdline()[:4]}"
    except psutil.Error:
        return ""


@dataclass(frozen=True)
class Host:
    """What this machine shows of itself outside of any sandbox."""

    things: dict[str, frozenset[str]]

    @classmethod
    def now(cls) -> Host:
        interfaces = (line.partition(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:])
        mounts = (" ".join(line.split()[3:]) for line in Path("/proc/self/mountinfo").read_text().splitlines())
        ours = ("gameday", "pytest-gameday")
        temporary = (
            str(path) for place in ("/tmp", "/var/tmp", "/run", "/mnt") for path in Path(place).glob("*") if path.name.startswith(ours)
        )
        return cls(
            {
                "network interface": _kept(interfaces),
                "mount": _kept(mounts),
                "shared memory": _kept(os.listdir("/dev/shm")),
                "System V": _kept(f"{kind}: {line}" for kind in ("shm", "sem", "msg") for line in _ipc_keys(kind)),
                "packet rule": _kept(line for line in _iptables() if "gameday" in line.lower()),
                "file": _kept(temporary),
            }
        )

    def more_than(self, before: Host) -> list[str]:
        """What is here now and was not then."""
        return [f"{kind}: {thing}" for kind, now in self.things.items() for thing in sorted(now - before.things[kind])]


def _kept(things: Iterable[str]) -> frozenset[str]:
    return frozenset(thing for thing in things if not DOCKERS.search(thing))


def _ipc_keys(kind: str) -> list[str]:
    """Key and id of every object."""
    return [" ".join(line.split()[:2]) for line in Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]]


def _iptables() -> list[str]:
    program = shutil.which("iptables-save", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None or os.geteuid() != 0:
        return []  # an ordinary user can neither read nor change them
    return subprocess.run([program], capture_output=True, text=True, timeout=10, check=False).stdout.splitlines()


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

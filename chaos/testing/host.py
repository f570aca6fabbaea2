"""What this machine shows of processes that were started here: who is left of them, and which interfaces, mounts, memory, files and
packet rules there are beside them. It ends nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

MARK = "GAMEDAY_CRASH_MARK"
"""Environment variable that every descendant of a marked process carries."""
# Docker's interfaces and mounts come and go on a machine with an engine; a sandbox's would be named br0, veth1 … and gameday.
DOCKERS = re.compile(r"veth[0-9a-f]{7}$|br-[0-9a-f]{12}$|docker|/containerd/|/run/netns/|nsfs")


def descendants(pid: int) -> list[psutil.Process]:
    """``pid`` and everything below it."""
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


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


@dataclass
class Traces:
    """The processes that carry ``mark``, and those in the user namespaces that were seen below them."""

    mark: str
    namespaces: set[str] = field(default_factory=set)

    def watch(self, pid: int) -> None:
        """Note the user namespaces of everything that descends from ``pid``: whoever is in one of them later is a remnant."""
        own = user_namespace(os.getpid())
        self.namespaces |= {name for process in descendants(pid) if (name := user_namespace(process.pid)) and name != own}

    def remnants(self) -> list[str]:
        """Processes that carry the mark or live in those namespaces."""
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

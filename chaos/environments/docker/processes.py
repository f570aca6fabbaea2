"""Reads ``/proc`` of a container: the shell commands that print it and signal one process, and what they print as data. Runs nothing."""

from __future__ import annotations

import re

from chaos.environments.base import Process

READ_PROCESSES = 'grep -aH "" /proc/[0-9]*/stat /proc/[0-9]*/cmdline 2>/dev/null; true'
_PROC_LINE = re.compile(r"^/proc/(\d+)/(stat|cmdline):(.*)$")
# Checks the start time and the state and sends the signal in one shell: a reused pid would need the pid space to wrap in between.
SIGNAL = """
read -r l < /proc/$1/stat 2>/dev/null || exit 3
set -- "$1" "$2" "$3" ${l##*) }
[ "${23}" = "$2" ] && [ "$4" != Z ] || exit 3
kill -$3 $1
"""


def parse_processes(printed: str) -> list[Process]:
    """What :data:`READ_PROCESSES` printed, by pid; whoever read it is among them."""
    stats: dict[int, str] = {}
    commands: dict[int, list[str]] = {}
    for line in printed.split("\n"):
        found = _PROC_LINE.match(line)
        if found:
            pid, kind, text = int(found[1]), found[2], found[3]
            if kind == "stat":
                stats[pid] = text
            else:
                commands.setdefault(pid, []).append(text)
    processes = []
    for pid, stat in stats.items():
        name, _, rest = stat.partition("(")[2].rpartition(") ")
        fields = rest.split()
        cmdline = tuple("\n".join(commands.get(pid, [])).rstrip("\0").split("\0"))
        processes.append(Process(pid, int(fields[1]), int(fields[19]), name, cmdline, fields[0]))
    return sorted(processes, key=lambda p: p.pid)

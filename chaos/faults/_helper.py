"""Programs that a fault leaves running on a node: started in the background, found again and ended by the fault's tag alone.

No fault of its own. The tag travels in the environment of the program and of everything that it starts, so that whoever heals needs
neither a pid nor the process that started it. Needs a POSIX shell, ``grep`` and ``/proc`` on the node.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from chaos.core.clock import wait_for
from chaos.core.errors import BadInput, EnvironmentFailed
from chaos.environments.base import Exec, Node, require

VARIABLE = "GAMEDAY_FAULT"
END_WITHIN_S = 10.0
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_FIND = "grep -lszxF '{variable}={tag}' /proc/[0-9]*/environ | cut -d/ -f3"


def start(node: Node, tag: str, argv: Sequence[str], *, for_what: str, privileged: bool = True) -> None:
    """Run ``argv`` on ``node`` in the background, with no terminal and its output thrown away. Returns once it was started; whether it
    works is for the fault's own proof to see."""
    command = f"{VARIABLE}={_checked(tag)} exec {shlex.join(argv)}"
    script = f"(setsid sh -c {shlex.quote(command)} </dev/null >/dev/null 2>&1 &)"
    done = require(node, Exec, for_what=for_what).run(("sh", "-c", script), privileged=privileged)
    if done.code != 0:
        raise EnvironmentFailed(f"could not start {argv[0]}", where=str(node.ref), observed=done.err.strip()[-300:])


def alive(node: Node, tag: str, *, for_what: str) -> list[int]:
    """Pids (as the node sees them) of the programs that carry ``tag``."""
    done = require(node, Exec, for_what=for_what).run(("sh", "-c", find_script(tag)), privileged=True)
    return [int(word) for word in done.out.split() if word.isdigit()]


def stop(node: Node, tag: str, *, for_what: str) -> None:
    """End every program that carries ``tag``, and wait until none is left. A no-op where there is none."""

    def attempt() -> bool:
        require(node, Exec, for_what=for_what).run(("sh", "-c", stop_script(tag)), privileged=True)
        return not alive(node, tag, for_what=for_what)

    wait_for(attempt, timeout_s=END_WITHIN_S, what=f"the helper of {tag} on {node.name} to end", interval_s=0.05)


def stop_script(tag: str) -> str:
    """The same as a shell script, for a dead-man's switch: asked first (up to half a second, in which a program may let go of what it
    holds), then killed, in three rounds, because a program may fork between look and kill."""
    find = find_script(tag)
    ask = f"for p in $({find}); do kill -15 $p 2>/dev/null; done"
    wait = f'n=0; while [ $n -lt 10 ] && [ -n "$({find})" ]; do n=$((n + 1)); sleep 0.05; done'
    return f"{ask}; {wait}; for round in 1 2 3; do for p in $({find}); do kill -9 $p 2>/dev/null; done; done; true"


def find_script(tag: str) -> str:
    """A shell script that prints their pids, a line each."""
    return _FIND.format(variable=VARIABLE, tag=_checked(tag))


def _checked(tag: str) -> str:
    if not _TAG.fullmatch(tag):
        raise BadInput(f"tag {tag!r} is not usable", expected="up to 128 of A-Z a-z 0-9 _ . -")
    return tag

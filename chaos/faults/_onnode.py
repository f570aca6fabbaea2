"""What faults ask of a node through its own shell and ``/proc``: its processes as the node itself numbers them, and scripts that must work.

No fault of its own. The pids here are the node's; those of the capability ``processes`` may be numbered from outside. Needs a POSIX
shell on the node.
"""

from __future__ import annotations

import msgspec

from chaos.core.errors import EnvironmentFailed, Unavailable
from chaos.core.model import Json, Step, Undo
from chaos.environments.base import Exec, Node, Power, require

# One line per process: pid, parent, start time, state, uid, gid, soft and hard limit of open files, name. Shell builtins only.
_LIST = r"""
for d in /proc/[0-9]*; do
  { read -r stat < "$d/stat"; } 2>/dev/null || continue
  name=${stat#*(}; name=${name%)*}
  uid=; gid=; soft=; hard=
  while read -r key value _; do
    case $key in Uid:) uid=$value ;; Gid:) gid=$value; break ;; esac
  done 2>/dev/null < "$d/status"
  while read -r one two three four five _; do
    case "$one $two $three" in "Max open files") soft=$four; hard=$five; break ;; esac
  done 2>/dev/null < "$d/limits"
  [ -n "$uid" ] && [ -n "$hard" ] || continue
  set -- ${stat##*) }
  echo "${d#/proc/} $2 ${20} $1 $uid $gid $soft $hard $name"
done 2>/dev/null
true
"""
# Becomes the owner of a process, because a container's root may neither look into nor limit what is another user's.
AS = r"""
as() {
  u=$1 g=$2; shift 2
  if [ "$(id -u)" = "$u" ]; then "$@"; else setpriv --reuid "$u" --regid "$g" --clear-groups -- "$@"; fi
}
"""


class Found(msgspec.Struct, frozen=True):
    """A process as its node sees it. ``soft`` and ``hard`` are its limits of open files; pid and ``started`` name it for good."""

    pid: int
    parent: int
    started: int
    state: str
    uid: int
    gid: int
    soft: int
    hard: int
    name: str


def on_power(node: Node) -> bool:
    """False where the node is known to be without power: nothing that ran there can be left."""
    return node.powered() if isinstance(node, Power) else True


def script(node: Node, text: str, *arguments: str, for_what: str) -> str:
    """What ``text``, run by ``sh`` as the node's administrator with ``arguments``, prints.

    Raises:
        EnvironmentFailed: it ended with another code than 0.
    """
    done = require(node, Exec, for_what=for_what).run(("sh", "-c", text, "sh", *arguments), privileged=True)
    if done.code != 0:
        raise EnvironmentFailed(f"a script of {for_what} failed", where=str(node.ref), observed=(done.err or done.out).strip()[-300:])
    return done.out


def needs(node: Node, *programs: str, package: str, for_what: str) -> None:
    """Raises Unavailable where one of ``programs`` is not on the node, with the package that brings it."""
    tests = "; ".join(f"command -v {program} >/dev/null || echo {program}" for program in programs)
    missing = script(node, tests, for_what=for_what).split()
    if missing:
        raise Unavailable(
            f"{for_what} needs {missing[0]}, which this node lacks",
            where=str(node.ref),
            next_step=f"install it there: apt-get install {package}",
            capability=missing[0],
        )


def found(node: Node, *, for_what: str) -> list[Found]:
    """Every process of the node."""
    processes = []
    for line in script(node, _LIST, for_what=for_what).splitlines():
        fields = line.split(" ", 8)
        if len(fields) == 9 and fields[6].isdigit() and fields[7].isdigit():
            pid, parent, started, state, uid, gid, soft, hard, name = fields
            processes.append(Found(int(pid), int(parent), int(started), state, int(uid), int(gid), int(soft), int(hard), name))
    return processes


def first_found(processes: list[Found], name: str) -> list[Found]:
    """Those named ``name`` whose parent is not (see :func:`chaos.faults.kill.first_of_name`), and that live."""
    named = {p.pid for p in processes if p.name == name}
    return [p for p in processes if p.pid in named and p.parent not in named and p.state != "Z"]


def family(processes: list[Found], first: list[Found]) -> list[Found]:
    """``first`` and everything that descends from them, parents first."""
    members = list(first)
    for member in members:
        members.extend(p for p in processes if p.parent == member.pid and p not in members)
    return members


def with_steps(undo: Undo, *steps: tuple[str, str]) -> Undo:
    """``undo`` with what a dead-man's switch does on the fault's first node: pairs of act and argument."""
    return msgspec.structs.replace(undo, steps=tuple(Step(undo.nodes[0].name, do, argument) for do, argument in steps))


def strings(value: Json) -> list[str]:
    """A list of strings out of a journal."""
    return [str(one) for one in value] if isinstance(value, list) else []

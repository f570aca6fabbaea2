"""``ClockSkew``: a program that believes it to be another time. Only the program: the clock of the machine is never touched.

The program must have been started under libfaketime, because a running one cannot be lied to from outside.
"""

from __future__ import annotations

import math
import shlex
import time
from typing import ClassVar

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput, EnvironmentFailed, Unavailable
from chaos.core.model import Proof, Undo
from chaos.environments.base import Exec, Node, require
from chaos.faults._onnode import AS, Found, first_found, found, needs, on_power, script, strings, with_steps
from chaos.faults._single import OneNode, summary
from chaos.faults.base import Resolve

FILE, CACHE, UNCACHED, FIXED = "FAKETIME_TIMESTAMP_FILE", "FAKETIME_CACHE_DURATION", "FAKETIME_NO_CACHE", "FAKETIME"
DEFAULT_CACHE_S, LONGEST_CACHE_S = 10, 20
SCRATCH = ".gameday-faketime"  # beside the timestamp file, for a moment
SMALLEST_S = 2.0  # the proof reads whole seconds
FIX = (
    "start the service with LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1 (apt-get install libfaketime), "
    f"{FILE}=/run/faketime, {CACHE}=1 and FAKETIME_DONT_FAKE_MONOTONIC=1 in its environment"
)
# $1 pid, $2 uid, $3 gid: what it was started with that libfaketime heeds, then whether the library is there.
_ENVIRONMENT = (
    AS
    + r"""
as "$2" "$3" sh -c 'tr "\0" "\n" < "/proc/$0/environ" | grep -E "^(LD_PRELOAD|FAKETIME[A-Z_]*)="
  grep -o "/[^ ]*libfaketime[^ ]*" "/proc/$0/maps" | head -n 1 | sed "s/^/mapped=/"' "$1" 2>/dev/null
true
"""
)
# $1 the file: "absent", "link", or what is in it in hexadecimal.
_CONTENT = 'if [ -L "$1" ]; then echo link; elif [ -e "$1" ]; then echo "x$(od -An -v -tx1 "$1" | tr -d " \\n")"; else echo absent; fi'
# $1 the file, the rest an environment: real time, time as seen under it, when the file was last changed. The node may preload the
# library into everything that runs there.
_OBSERVE = 'unset LD_PRELOAD; f=$1; shift; date +%s; env "$@" date +%s; stat -c %Y "$f" 2>/dev/null || echo 0'


class ClockSkew(OneNode, frozen=True):
    """Sets the time that a process sees ``offset_s`` seconds off the real one (negative: behind; at least 2), by writing to the timestamp
    file that libfaketime reads for it. ``process`` is its name (the first of that name, as Kill chooses it); everything started with the
    same file follows. Healing puts the file back byte for byte, or removes it where there was none.

    Refuses a process without libfaketime, and one whose FAKETIME is fixed. libfaketime looks at the file again after
    FAKETIME_CACHE_DURATION (10 s unless set; at most 20 here), and landed and healed wait for that. PostgreSQL bears it (measured: one hour
    ahead, live). Needs the capability ``exec``. Nets: fixture, healer, dead-man.
    """

    process: str
    offset_s: float

    kind: ClassVar[str] = "clock-skew"
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer", "dead-man")
    landed_within_s: ClassVar[float] = 40.0

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        if not math.isfinite(self.offset_s) or abs(self.offset_s) < SMALLEST_S:
            raise BadInput(
                "ClockSkew: offset_s is too small", expected=f"at least {SMALLEST_S:g} s either way", observed=str(self.offset_s)
            )
        node = resolve(self.node)
        require(node, Exec, for_what="ClockSkew")
        needs(
            node, "od", "tr", "env", "date", "stat", "grep", "sed", "setpriv", package="coreutils grep sed util-linux", for_what="ClockSkew"
        )
        running = found(node, for_what="ClockSkew")
        victims = first_found(running, self.process)
        if not victims:
            names = ", ".join(sorted({p.name for p in running})) or "none"
            raise BadInput(f"ClockSkew: no process named {self.process!r} runs", where=str(self.node), expected=f"one of: {names}")
        environment = self._environment(node, victims[0])
        file = environment[FILE]
        before = script(node, _CONTENT, file, for_what="ClockSkew").strip()
        if before == "link":
            raise EnvironmentFailed(
                "the timestamp file is a symbolic link", where=str(self.node), observed=file, next_step="name the file itself"
            )
        if before == f"x{self._wanted().encode().hex()}":
            raise EnvironmentFailed("the process sees that time already, and not by this fault", where=str(self.node), observed=file)
        words = [f"{name}={value}" for name, value in environment.items()]
        cache_s = 0 if UNCACHED in environment else int(environment.get(CACHE, DEFAULT_CACHE_S))
        undo = self.undo_record(fault_id, resolve, file=file, before=before, environment=list(words), cache_s=cache_s)
        return with_steps(undo, ("shell", _put(file, before)))

    def _environment(self, node: Node, process: Found) -> dict[str, str]:
        """What libfaketime heeds of the environment that the process was started with.

        Raises:
            Unavailable: it is not under libfaketime, or not so that a file moves its time.
        """
        printed = script(node, _ENVIRONMENT, str(process.pid), str(process.uid), str(process.gid), for_what="ClockSkew")
        seen = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
        trouble = ""
        if not seen.pop("mapped", ""):
            trouble = "libfaketime is not loaded into it"
        elif FILE not in seen or not seen[FILE].startswith("/"):
            trouble = f"{FILE} is not set to a path"
        elif FIXED in seen:
            trouble = f"{FIXED} is set, which goes before any file"
        elif UNCACHED not in seen and not seen.get(CACHE, "0").isdigit():
            trouble = f"{CACHE} is {seen[CACHE]!r}"
        elif UNCACHED not in seen and int(seen.get(CACHE, DEFAULT_CACHE_S)) > LONGEST_CACHE_S:
            trouble = f"{CACHE} is {seen[CACHE]} s, more than {LONGEST_CACHE_S}"
        if trouble:
            raise Unavailable(
                f"ClockSkew needs libfaketime, which the process {process.name} of this node lacks: {trouble}",
                where=str(node.ref),
                next_step=FIX,
                capability="libfaketime",
            )
        return seen

    def _wanted(self) -> str:
        return f"{self.offset_s:+.3f}\n"

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        put = _put(str(undo.prior["file"]), f"x{self._wanted().encode().hex()}")
        script(resolve(self.node), put, for_what="ClockSkew")

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """A program with the same environment sees the time so far off, and has done so for longer than anybody caches."""
        offset_s, age_s = _observe(resolve(self.node), undo)
        if abs(offset_s - self.offset_s) > SMALLEST_S - 0.5 or age_s <= int(str(undo.prior["cache_s"])):
            return None
        return Proof(now_ns(), f"{self.process} on {self.node.name} sees the time {offset_s:+d} s off")

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        """Put the file back. Where that means to remove it there is no age to tell by later, so wait here until nobody believes it."""
        file, before = str(undo.prior["file"]), str(undo.prior["before"])
        node = resolve(undo.nodes[0])
        there = script(node, _CONTENT, file, for_what="ClockSkew").strip()
        script(node, _put(file, before), for_what="ClockSkew")
        if before == "absent" and there != before:
            time.sleep(int(str(undo.prior["cache_s"])))

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """The file is as before, long enough for everybody to have looked again, and so is the node's state."""
        node = resolve(undo.nodes[0])
        now = node.state()
        if now != undo.prior["state"] or not on_power(node):
            return None
        file, before = str(undo.prior["file"]), str(undo.prior["before"])
        offset_s, age_s = _observe(node, undo)
        if script(node, _CONTENT, file, for_what="ClockSkew").strip() != before or age_s <= int(str(undo.prior["cache_s"])):
            return None
        return Proof(now_ns(), f"{file} on {undo.nodes[0].name} is as before, the time {offset_s:+d} s off: {summary(now)}")


def _observe(node: Node, undo: Undo) -> tuple[int, int]:
    """How far off the time is under the recorded environment, and for how long the file has been as it is; both in whole seconds."""
    printed = script(node, _OBSERVE, str(undo.prior["file"]), *strings(undo.prior["environment"]), for_what="ClockSkew").split()
    real, seen, changed = map(int, printed)
    return seen - real, real - changed


def _put(file: str, content: str) -> str:
    """A script that makes ``file`` hold ``content`` ("absent", or x and hexadecimal) in one step, with the owner and mode that it has.
    A no-op where it holds that already."""
    quoted = shlex.quote(file)
    if content == "absent":
        return f'f={quoted}; rm -f "${{f%/*}}/{SCRATCH}" "$f"'
    octal = "".join(f"\\{byte:03o}" for byte in bytes.fromhex(content[1:]))
    return f"""
f={quoted}; t=${{f%/*}}/{SCRATCH}; rm -f "$t"
[ -e "$f" ] && [ "x$(od -An -v -tx1 "$f" | tr -d ' \\n')" = {content} ] && exit 0
[ ! -e "$f" ] || cp -p "$f" "$t" || exit 1
printf '{octal}' > "$t" && mv -f "$t" "$f"
"""

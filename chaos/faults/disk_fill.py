"""``DiskFill``: a volume without space. What is there can be read, and nothing can grow."""

from __future__ import annotations

import shlex
from typing import ClassVar

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput, EnvironmentFailed
from chaos.core.model import Json, Proof, Undo
from chaos.environments.base import Node
from chaos.faults import _helper
from chaos.faults._disk import NO_SPACE, PREFIX, DiskFault, FileSystem, execute, first_line, measure, tag_of, volume_for
from chaos.faults.base import Resolve

ROUNDS = 3
TOLERANCE_SHARE = 0.01
# The file is opened once: when it is removed while this still runs, what is yet to be written goes with it. fallocate is fast and may fail
# for what is exactly free, or be absent; what it leaves is written. Writing ends with the space, which is no failure.
FILL = """
exec 3>>"$1" || exit 4
fallocate -o "$(stat -L -c %s /proc/self/fd/3)" -l "$2" /proc/self/fd/3 2>/dev/null && [ "$3" != full ] && exit 0
had=$(($(stat -L -c %s /proc/self/fd/3) - $4))
if [ "$3" = full ]; then cat /dev/zero >&3; elif [ "$had" -lt "$2" ]; then head -c "$(($2 - had))" /dev/zero >&3; fi 2>/dev/null
true
"""
# One block more, into our own file: a file of its own could be left behind.
PROBE = 'head -c "$2" /dev/zero >> "$1"'


class DiskFill(DiskFault, frozen=True):
    """Fills one volume with a file of this fault's own: until ``percent`` of it is used, until ``leave_bytes`` are left for users, or
    (neither given) until nothing is, for root neither. Healing removes the file and starts the services that ended meanwhile.

    The file is ``.gameday-<fault id>`` at the top of the volume and belongs to root; space is taken with ``fallocate`` where that
    works, else written. Space that somebody else frees afterwards stays free. Needs the capabilities ``volumes`` and ``exec``. Nets:
    fixture, healer, dead-man (``rm -f``).
    """

    percent: float | None = None
    leave_bytes: int | None = None

    kind: ClassVar[str] = "disk-fill"

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        node = resolve(self.node)
        if self.percent is not None and self.leave_bytes is not None:
            raise BadInput("DiskFill takes percent or leave_bytes, not both", where=str(self.node))
        if (self.percent is not None and not 0 < self.percent <= 100) or (self.leave_bytes is not None and self.leave_bytes < 0):
            raise BadInput("DiskFill: out of range", where=str(self.node), expected="0 < percent <= 100, or leave_bytes >= 0")
        volume = volume_for(node, self.path, what="DiskFill")
        now = measure(node, volume.path, what="DiskFill")
        if self._missing(now) <= 0:
            raise BadInput(
                "DiskFill: the volume is as full already",
                where=f"{self.node}:{volume.path}",
                observed=f"{now.used_percent:.1f} % used, {now.available_bytes} bytes left",
            )
        return self.record(fault_id, node, resolve, file=f"{volume.path}/{PREFIX}{tag_of(fault_id)}", **_numbers(now))

    @property
    def _full(self) -> bool:
        return self.percent in (None, 100) and not self.leave_bytes

    def _missing(self, now: FileSystem) -> int:
        """Bytes to take."""
        if self._full:
            return now.free_bytes
        if self.leave_bytes is not None:
            return now.available_bytes - self.leave_bytes
        used = now.size_bytes - now.free_bytes
        return int((used + now.available_bytes) * (self.percent or 0.0) / 100) - used

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        """In rounds, because others write and remove meanwhile."""
        node, file = resolve(self.node), str(undo.prior["file"])
        for _ in range(ROUNDS):
            now = measure(node, file.rpartition("/")[0] or "/", what="DiskFill")
            missing = self._missing(now)
            if missing < now.block_bytes:
                return
            size = first_line(node, 'stat -c %s "$1" 2>/dev/null || echo 0', file, what="DiskFill")
            arguments = (file, str(missing), "full" if self._full else "some", size)
            done = execute(node, FILL, *arguments, what="DiskFill", tag=tag_of(undo.fault_id))
            if done.code != 0:
                raise EnvironmentFailed("DiskFill: its file could not be written", where=f"{self.node}:{file}", observed=done.err.strip())

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """The file system says so; and where it is to be full, a write by root fails for want of space."""
        node, file = resolve(self.node), str(undo.prior["file"])
        volume = file.rpartition("/")[0] or "/"
        now = measure(node, volume, what="DiskFill")
        if self._missing(now) > max(2 * now.block_bytes, 0 if self._full else int(now.size_bytes * TOLERANCE_SHARE)):
            return None
        if not _exists(node, file):
            return None
        text = f"{now.used_percent:.1f} % of {volume} on {node.name} are used, {now.available_bytes} bytes left"
        if not self._full:
            return Proof(now_ns(), text)
        tried = execute(node, PROBE, file, str(now.block_bytes), what="DiskFill", timeout_s=30.0)
        if tried.code == 0 or NO_SPACE not in tried.err:
            return None
        return Proof(now_ns(), f"{text}; a write fails: {NO_SPACE}")

    @classmethod
    def undo_script(cls, undo: Undo) -> str:
        return f"{_helper.stop_script(tag_of(undo.fault_id))}; rm -f -- {shlex.quote(str(undo.prior['file']))}"

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """Our file is gone, nobody of ours holds it open, there is space again (how much is for others to say, who write too), and the
        node is as before."""
        node, file = resolve(undo.nodes[0]), str(undo.prior["file"])
        now = measure(node, file.rpartition("/")[0] or "/", what="DiskFill")
        if _exists(node, file) or _helper.alive(node, tag_of(undo.fault_id), for_what="DiskFill") or not now.available_bytes:
            return None
        rest = super().healed(undo, resolve)
        if rest is None:
            return None
        return Proof(rest.observed_ns, f"{file} is gone, {now.available_bytes} bytes left (before: {undo.prior['available']}); {rest.text}")


def _numbers(now: FileSystem) -> dict[str, Json]:
    return {"size": now.size_bytes, "available": now.available_bytes}


def _exists(node: Node, file: str) -> bool:
    return execute(node, '[ -e "$1" ]', file, what="DiskFill", timeout_s=30.0).code == 0

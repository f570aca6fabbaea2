"""``InodeExhaustion``: a volume on which no file can be made, although there is space: what many small files do to a file system."""

from __future__ import annotations

import shlex
from typing import ClassVar

from chaos.core.clock import now_ns
from chaos.core.errors import EnvironmentFailed, Unavailable
from chaos.core.model import Proof, Undo
from chaos.faults import _helper
from chaos.faults._disk import NO_SPACE, PREFIX, DiskFault, execute, measure, tag_of, volume_for
from chaos.faults.base import Resolve

MOST_FILES = 2_000_000
# Empty files in one directory of our own, made by the shell alone: 120 000 a second. It ends where the directory is removed under it.
TAKE = """
mkdir -p -- "$1" && cd -- "$1" || exit 4
i=$(date +%s%N)
last=$((i + $2))
while [ $i -lt $last ] && true > $i; do i=$((i + 1)); done 2>/dev/null
true
"""
PROBE = 'true > "$1/probe.$$" && rm -f "$1/probe.$$"'


class InodeExhaustion(DiskFault, frozen=True):
    """Makes empty files in a directory of this fault's own until the volume takes none any more. Healing removes the directory and starts
    the services that ended meanwhile.

    A volume with more than two million free inodes is refused, as is a file system that has no fixed number of them (btrfs, some xfs
    and zfs). Needs the capabilities ``volumes`` and ``exec``. Nets: fixture, healer, dead-man (``rm -rf`` of its own directory).
    """

    kind: ClassVar[str] = "inode-exhaustion"
    landed_within_s: ClassVar[float] = 30.0

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        node = resolve(self.node)
        volume = volume_for(node, self.path, what="InodeExhaustion")
        now = measure(node, volume.path, what="InodeExhaustion")
        where = f"{self.node}:{volume.path}"
        if not now.files or now.free_files > MOST_FILES:
            raise Unavailable(
                "InodeExhaustion: the volume has no end of inodes that could be reached",
                where=where,
                expected=f"1 to {MOST_FILES} free",
                observed=f"{now.free_files} of {now.files} free",
                next_step="make the file system with fewer (mkfs.ext4 -N, mount -t tmpfs -o nr_inodes=)",
                capability="volumes",
            )
        if not now.free_files:
            raise EnvironmentFailed("InodeExhaustion: no inode is free even now", where=where, next_step="remove files first")
        return self.record(fault_id, node, resolve, directory=f"{volume.path}/{PREFIX}{tag_of(fault_id)}", free=now.free_files)

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        """Bounded by what was free when it was looked at, and some."""
        node, directory = resolve(self.node), str(undo.prior["directory"])
        most = measure(node, directory.rpartition("/")[0] or "/", what="InodeExhaustion").free_files
        done = execute(node, TAKE, directory, str(min(most, MOST_FILES) + 64), what="InodeExhaustion", tag=tag_of(undo.fault_id))
        if done.code != 0:
            raise EnvironmentFailed("InodeExhaustion: no file could be made", where=f"{self.node}:{directory}", observed=done.err.strip())

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """No inode is free, there is space, and making a file fails for root."""
        node, directory = resolve(self.node), str(undo.prior["directory"])
        now = measure(node, directory.rpartition("/")[0] or "/", what="InodeExhaustion")
        if now.free_files or not now.free_bytes:
            return None
        tried = execute(node, PROBE, directory, what="InodeExhaustion", timeout_s=30.0)
        if tried.code == 0 or NO_SPACE not in tried.err:
            return None
        seen = f"0 of {now.files} inodes are free on {directory.rpartition('/')[0]} of {self.node.name}, {now.available_bytes} bytes are"
        return Proof(now_ns(), f"{seen}; making a file fails: {NO_SPACE}")

    @classmethod
    def undo_script(cls, undo: Undo) -> str:
        return f"{_helper.stop_script(tag_of(undo.fault_id))}; rm -rf -- {shlex.quote(str(undo.prior['directory']))}"

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """Our directory is gone, a file can be made again, and the node is as before."""
        node, directory = resolve(undo.nodes[0]), str(undo.prior["directory"])
        there = execute(node, '[ -e "$1" ]', directory, what="InodeExhaustion", timeout_s=30.0).code == 0
        now = measure(node, directory.rpartition("/")[0] or "/", what="InodeExhaustion")
        if there or not now.free_files or _helper.alive(node, tag_of(undo.fault_id), for_what="InodeExhaustion"):
            return None
        rest = super().healed(undo, resolve)
        if rest is None:
            return None
        return Proof(rest.observed_ns, f"{directory} is gone, {now.free_files} inodes are free (before: {undo.prior['free']}); {rest.text}")

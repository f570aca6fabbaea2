"""``ReadOnlyFilesystem``: a volume that refuses every change, as a file system does after an error of the disk below it."""

from __future__ import annotations

import shlex
from typing import ClassVar

from chaos.core.clock import now_ns
from chaos.core.errors import EnvironmentFailed, Unavailable
from chaos.core.model import Proof, Undo
from chaos.environments.base import Exec, Node, ReadOnlyVolumes, Volumes, require
from chaos.faults._disk import PREFIX, READ_ONLY, DiskFault, execute, tag_of, volume_for
from chaos.faults.base import Resolve

# On a volume that is not read-only it leaves nothing.
PROBE = 'true > "$1" && rm -f "$1"'


class ReadOnlyFilesystem(DiskFault, frozen=True):
    """Makes one volume read-only under the feet of who uses it, and writable again.

    How far that goes the kernel decides, and the proof says which. *Whole*: the file system is remounted, nobody writes any more; it
    refuses that while somebody has a file open for writing (EBUSY). Then *what is opened by path*: a read-only mount lies over
    the volume, new files and files opened by an absolute path are refused, and who has one open, or stands in a directory there
    (PostgreSQL does both), goes on. For such a service use ``DiskErrors(error="EROFS")``, which reaches open files too.

    Needs the capability ``readonlyvolumes``: micro-hosts. A container may not remount (no CAP_SYS_ADMIN). Nets: fixture, healer.
    What remounts stands beside the node, so nothing on the node could do it alone.
    """

    kind: ClassVar[str] = "read-only-filesystem"
    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer")

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        node = resolve(self.node)
        require(node, Exec, for_what="ReadOnlyFilesystem")
        if isinstance(node, Volumes) and not isinstance(node, ReadOnlyVolumes):
            raise Unavailable(
                "ReadOnlyFilesystem: this node cannot remount what it has mounted (a container lacks CAP_SYS_ADMIN)",
                where=str(self.node),
                next_step="run this drill in embedded, or use DiskErrors(error='EROFS') on the process that writes",
                capability="readonlyvolumes",
            )
        volumes = require(node, ReadOnlyVolumes, for_what="ReadOnlyFilesystem")
        volume = volume_for(node, self.path, what="ReadOnlyFilesystem")
        if volumes.read_only(volume.path):
            raise EnvironmentFailed("the volume is read-only already", where=f"{self.node}:{volume.path}", next_step="remount it first")
        probe = f"{volume.path}/{PREFIX}{tag_of(fault_id)}"
        return self.record(fault_id, node, resolve, volume=volume.path, probe=probe)

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        _remounter(resolve(self.node)).set_read_only(str(undo.prior["volume"]), on=True)

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """The kernel says so, and making a file fails because of it."""
        node, volume = resolve(self.node), str(undo.prior["volume"])
        how = _remounter(node).read_only(volume)
        tried = execute(node, PROBE, str(undo.prior["probe"]), what="ReadOnlyFilesystem", timeout_s=30.0)
        if not how or tried.code == 0 or READ_ONLY not in tried.err:
            return None
        reach = "nobody writes" if how == "whole" else "for what is opened by path; files that were open for writing still take it"
        return Proof(now_ns(), f"{volume} on {self.node.name} is read-only ({reach}); making a file fails: {READ_ONLY}")

    @classmethod
    def undo_script(cls, undo: Undo) -> str:
        """Only what a probe may have left; the volume itself is made writable from beside the node."""
        return f"rm -f -- {shlex.quote(str(undo.prior['probe']))}"

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        _remounter(resolve(undo.nodes[0])).set_read_only(str(undo.prior["volume"]), on=False)
        super().heal(undo, resolve)

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """The kernel says that it is writable, a file can be made, and the node is as before."""
        node = resolve(undo.nodes[0])
        if _remounter(node).read_only(str(undo.prior["volume"])):
            return None
        if execute(node, PROBE, str(undo.prior["probe"]), what="ReadOnlyFilesystem", timeout_s=30.0).code != 0:
            return None
        rest = super().healed(undo, resolve)
        return None if rest is None else Proof(rest.observed_ns, f"{undo.prior['volume']} takes files again; {rest.text}")


def _remounter(node: Node) -> ReadOnlyVolumes:
    return require(node, ReadOnlyVolumes, for_what="ReadOnlyFilesystem")

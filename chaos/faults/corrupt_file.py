"""``CorruptFile``: bytes of a file that are not what they were, as a disk returns them when it forgets."""

from __future__ import annotations

import random
import shlex
from typing import ClassVar, cast

from chaos.core.clock import now_ns
from chaos.core.errors import BadInput, EnvironmentFailed
from chaos.core.model import Json, Proof, Undo
from chaos.environments.base import Node, Volumes, require
from chaos.faults import _helper
from chaos.faults._disk import PREFIX, DiskFault, execute, measure, tag_of, volume_for
from chaos.faults.base import Resolve

MOST_BYTES = 4096
LOOK = """
[ -L "$1" ] && { echo a symbolic link; exit 3; }
[ -e "$1" ] || { echo absent; exit 3; }
[ -f "$1" ] || { echo no regular file; exit 3; }
[ "$(readlink -f -- "$1")" = "$1" ] || { echo reached over a symbolic link; exit 3; }
[ "$(stat -c %d -- "$1")" = "$(stat -c %d -- "$2")" ] || { echo on a file system mounted below the volume; exit 3; }
stat -c '%s %a %u:%g %Y %h' -- "$1"
sha256sum < "$1" | cut -d' ' -f1
"""
# The copy gets its name only when it is whole: what bears that name may be put back.
CORRUPT = """
file=$1 kept=$2 wanted=$3; shift 3
cp -p -- "$file" "$kept.part" || exit 4
[ "$(sha256sum < "$kept.part" | cut -d' ' -f1)" = "$wanted" ] || { rm -f -- "$kept.part"; echo it changes while it is looked at; exit 5; }
sync "$kept.part"; mv -- "$kept.part" "$kept" || exit 4
for at; do
  byte=$(od -An -tu1 -j "$at" -N 1 -- "$file")
  printf "\\\\$(printf %03o $((byte ^ 255)))" | dd of="$file" bs=1 seek="$at" conv=notrunc 2>/dev/null || exit 6
done
"""
# In place: who has the file open sees it mended. The copy goes last, and only when what it was made for is done.
RESTORE = """
rm -f -- {kept}.part
if [ -e {kept} ]; then
  cat {kept} > {file} && chmod --reference={kept} {file} && chown --reference={kept} {file} && touch -r {kept} {file} || exit 4
  cmp -s {kept} {file} || exit 5
  rm -f -- {kept}
fi
true
"""


class CorruptFile(DiskFault, frozen=True):
    """Inverts ``bytes_count`` bytes of the file ``path``, at offsets that ``seed`` chooses. The original is kept before, as
    ``.gameday-<fault id>`` at the top of the volume (tools of databases stumble over files that they do not know); healing writes its
    content back into the same file and restores mode, owner and time of change.

    What a service has written into this file meanwhile is gone then, and a file that its service writes all the time cannot be
    proven to be as before: choose one that rests. Nothing on the node need notice before it reads those bytes from the disk.
    Refused: what is absent, empty, no regular file, reached over a symbolic link, not on a volume of the node's own, or too large for its
    copy. ``path`` may be relative to the only volume. Needs the capabilities ``volumes`` and ``exec``. Nets: fixture, healer,
    dead-man (a shell script that copies back).
    """

    bytes_count: int = 64
    seed: int = 0

    kind: ClassVar[str] = "corrupt-file"

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        node = resolve(self.node)
        file, volume = self._file(node)
        seen = _look(node, file, volume)
        size = cast("int", seen["size"])
        if not 1 <= self.bytes_count <= min(size, MOST_BYTES):
            raise BadInput(
                "CorruptFile: so many bytes cannot be corrupted",
                where=f"{self.node}:{file}",
                expected=f"bytes_count from 1 to {min(size, MOST_BYTES)}",
                observed=f"{self.bytes_count}; the file has {size}",
            )
        free = measure(node, volume, what="CorruptFile")
        if free.free_bytes < size + 2 * free.block_bytes:
            raise EnvironmentFailed("CorruptFile: no room for the copy", where=f"{self.node}:{volume}", observed=f"{free.free_bytes} bytes")
        offsets: list[Json] = [*sorted(random.Random(self.seed).sample(range(size), self.bytes_count))]
        kept = f"{volume}/{PREFIX}{tag_of(fault_id)}"
        return self.record(fault_id, node, resolve, file=file, volume=volume, kept=kept, offsets=offsets, found=seen)

    def _file(self, node: Node) -> tuple[str, str]:
        """Its absolute path, and the volume of the node's own on which it lies."""
        require(node, Volumes, for_what="CorruptFile")
        if not self.path:
            raise BadInput("CorruptFile needs the path of a file", where=str(self.node))
        file = self.path if self.path.startswith("/") else f"{volume_for(node, '', what='CorruptFile').path}/{self.path}"
        return file, volume_for(node, file, what="CorruptFile").path

    def inject(self, undo: Undo, resolve: Resolve) -> None:
        node, found = resolve(self.node), cast("dict[str, Json]", undo.prior["found"])
        offsets = [str(at) for at in cast("list[int]", undo.prior["offsets"])]
        arguments = (str(undo.prior["file"]), str(undo.prior["kept"]), str(found["sha256"]), *offsets)
        done = execute(node, CORRUPT, *arguments, what="CorruptFile", tag=tag_of(undo.fault_id))
        if done.code != 0:
            said = (done.out + done.err).strip()[-300:]
            raise EnvironmentFailed("CorruptFile: the file was not corrupted", where=f"{self.node}:{undo.prior['file']}", observed=said)

    def landed(self, undo: Undo, resolve: Resolve) -> Proof | None:
        """The file differs from the copy that was kept, in exactly so many bytes."""
        node, file, kept = resolve(self.node), str(undo.prior["file"]), str(undo.prior["kept"])
        script = '[ -e "$2" ] && cmp -l -- "$1" "$2" | wc -l'
        differ = execute(node, script, file, kept, what="CorruptFile", timeout_s=60.0).out.strip()
        if differ != str(self.bytes_count):
            return None
        return Proof(now_ns(), f"{differ} bytes of {file} on {self.node.name} are inverted; the original is {kept}")

    @classmethod
    def undo_script(cls, undo: Undo) -> str:
        names = {name: shlex.quote(str(undo.prior[name])) for name in ("file", "kept")}
        return _helper.stop_script(tag_of(undo.fault_id)) + "\n" + RESTORE.format(**names)

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """Content (SHA-256), size, mode and owner are those found before, no copy is left, and the node is as before."""
        node, file, kept = resolve(undo.nodes[0]), str(undo.prior["file"]), str(undo.prior["kept"])
        left = execute(node, '[ -e "$1" ] || [ -e "$1.part" ]', kept, what="CorruptFile", timeout_s=30.0).code == 0
        now = _look(node, file, str(undo.prior["volume"]))
        if left or now != undo.prior["found"]:
            return None
        rest = super().healed(undo, resolve)
        return None if rest is None else Proof(rest.observed_ns, f"{file} has SHA-256 {str(now['sha256'])[:12]}… again; {rest.text}")


def _look(node: Node, file: str, volume: str) -> dict[str, Json]:
    """Size, mode, owner, time of change and content. Raises BadInput for what is no file to be corrupted."""
    done = execute(node, LOOK, file, volume, what="CorruptFile", timeout_s=60.0)
    if done.code == 3:
        raise BadInput("CorruptFile takes a regular file", where=f"{node.ref}:{file}", observed=done.out.strip())
    words = done.out.split()
    if done.code != 0 or len(words) != 6:
        raise EnvironmentFailed("CorruptFile: the file cannot be read", where=f"{node.ref}:{file}", observed=done.err.strip()[-300:])
    size, mode, owner, changed, links, digest = words
    return {"size": int(size), "mode": mode, "owner": owner, "changed": int(changed), "links": int(links), "sha256": digest}

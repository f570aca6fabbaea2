"""What faults on a node's disk share: choosing a volume of the node's own, looking at it, scripts that can be ended, services afterwards.

No fault of its own. A volume is only ever one that the node's environment names as the node's own (the capability
:class:`~chaos.environments.base.Volumes`); what lies there bears the fault's own name. Needs a POSIX shell, coreutils and ``grep`` on the
node.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import ClassVar, cast

import msgspec

from chaos.core.errors import BadInput, EnvironmentFailed, Unavailable
from chaos.core.model import Json, Proof, Step, Undo
from chaos.environments.base import Completed, Exec, Node, Services, Volume, Volumes, require
from chaos.faults import _helper
from chaos.faults._single import OneNode
from chaos.faults.base import Resolve
from chaos.faults.stop import start_again

PREFIX = ".gameday-"
NO_SPACE, READ_ONLY = "No space left on device", "Read-only file system"
SCRIPT_WITHIN_S = 300.0
HEAL_WITHIN_S = 120.0
_KEEP_OF_ID = 64


class FileSystem(msgspec.Struct, frozen=True):
    """A file system by its own account, in bytes and files. ``free_bytes`` is what root may still take, ``available_bytes`` what anybody
    else may: some keep a reserve for root. ``files`` 0: it does not count them."""

    size_bytes: int
    free_bytes: int
    available_bytes: int
    block_bytes: int
    files: int
    free_files: int

    @property
    def used_percent(self) -> float:
        """As ``df`` says it: the reserve counts as neither."""
        used = self.size_bytes - self.free_bytes
        return 100.0 * used / max(1, used + self.available_bytes)


class HealedByScript(OneNode, frozen=True):
    """Base of faults that a shell script on the node undoes: :meth:`undo_script`, which a dead-man's switch can do as well. Healing also
    starts the services that ran before: one that met a broken disk may have ended.
    """

    nets: ClassVar[tuple[str, ...]] = ("fixture", "healer", "dead-man")
    landed_within_s: ClassVar[float] = 15.0

    def record(self, fault_id: str, node: Node, resolve: Resolve, **more: Json) -> Undo:
        """Prior state, the services that run, and the steps that put the node back."""
        running = [name for name, runs in node.services().items() if runs] if isinstance(node, Services) else []
        undo = self.undo_record(fault_id, resolve, stopped=cast("list[Json]", running), **more)
        steps = [Step(node.name, "shell", self.undo_script(undo)), *(Step(node.name, "start_service", name) for name in running)]
        return msgspec.structs.replace(undo, steps=tuple(steps))

    @classmethod
    def undo_script(cls, undo: Undo) -> str:
        """POSIX shell, idempotent, a no-op where nothing was done."""
        raise NotImplementedError

    @classmethod
    def heal(cls, undo: Undo, resolve: Resolve) -> None:
        node = resolve(undo.nodes[0])
        done = execute(node, cls.undo_script(undo), what=cls.kind, timeout_s=HEAL_WITHIN_S)
        if done.code != 0:
            raise EnvironmentFailed(f"{cls.kind} could not be undone", where=str(node.ref), observed=(done.err or done.out).strip()[-300:])
        restart_services(undo, resolve)

    @classmethod
    def healed(cls, undo: Undo, resolve: Resolve) -> Proof | None:
        """Nothing of ours is left, and the node is as before; services that end meanwhile are started again."""
        restart_services(undo, resolve)
        return super().healed(undo, resolve)


class DiskFault(HealedByScript, frozen=True):
    """Base of faults on one volume of a node. ``path`` names the volume (or something on it); "" is the only one that the node has."""

    path: str = ""


def restart_services(undo: Undo, resolve: Resolve) -> None:
    """Start what ran before and does not now."""
    if undo.prior["stopped"]:
        start_again(undo, resolve)


def tag_of(fault_id: str) -> str:
    """The fault's name in file names and process environments: its id, shortened and made safe where it must be."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "-", fault_id)
    if safe == fault_id and len(safe) <= _KEEP_OF_ID:
        return safe
    return f"{safe[:_KEEP_OF_ID]}-{hashlib.sha256(fault_id.encode()).hexdigest()[:8]}"


def volume_for(node: Node, path: str, *, what: str) -> Volume:
    """The node's own volume that holds ``path``; for "" its only one.

    Raises:
        Unavailable: the node has no volume of its own, or ``path`` lies on none of them.
        BadInput: there are several and ``path`` is "".
    """
    volumes = list(require(node, Volumes, for_what=what).volumes())
    names = ", ".join(volume.path for volume in volumes) or "none"
    if not volumes or (path and not (found := _holding(volumes, path))):
        raise Unavailable(
            f"{what}: {path or 'the node'} {'lies on' if path else 'has'} no volume of the node's own with a size of its own",
            where=str(node.ref),
            expected="a file system that nothing but this node uses (the host's and the engine's disks are never touched)",
            observed=f"volumes of its own: {names}" + _shared_by(node, path),
            next_step="give the node a disk with a size (docker: NodeSpec(data={path: user}, disk_bytes=...), or a volume of type tmpfs)",
            capability="volumes",
        )
    if path:
        return found[-1]
    if len(volumes) > 1:
        raise BadInput(f"{what}: which volume?", where=str(node.ref), expected=f"path=, one of {names}")
    return volumes[0]


def _holding(volumes: Sequence[Volume], path: str) -> list[Volume]:
    """The innermost last."""
    wanted = PurePosixPath(path)
    if not wanted.is_absolute() or ".." in wanted.parts:
        raise BadInput(f"{path!r} is no plain absolute path", expected="the path of a volume, or of something on it")
    return sorted((v for v in volumes if wanted.is_relative_to(v.path)), key=lambda v: len(v.path))


def _shared_by(node: Node, path: str) -> str:
    if not path or not isinstance(node, Exec):
        return ""
    said = node.run(("df", "-P", "--", path)).out.splitlines()
    return f"; {path} is on {said[-1].split()[0]}, which others use too" if len(said) > 1 else f"; {path} is not there"


def measure(node: Node, path: str, *, what: str) -> FileSystem:
    """Ask the node's kernel. Raises EnvironmentFailed where it does not say."""
    done = require(node, Exec, for_what=what).run(("stat", "-f", "-c", "%S %b %f %a %c %d", "--", path), privileged=True)
    numbers = done.out.split()
    if done.code != 0 or len(numbers) != 6:
        raise EnvironmentFailed(f"{what}: {path} cannot be measured", where=str(node.ref), observed=(done.err or done.out).strip()[-300:])
    block, blocks, free, available, files, free_files = map(int, numbers)
    return FileSystem(blocks * block, free * block, available * block, block, files, free_files)


def execute(node: Node, script: str, *arguments: str, what: str, timeout_s: float = SCRIPT_WITHIN_S, tag: str = "") -> Completed:
    """Run a script as the node's administrator. With ``tag`` it can be found, and ended, by a script that knows only that."""
    command = ["env", "LC_ALL=C", *([f"{_helper.VARIABLE}={tag}"] if tag else []), "sh", "-c", script, "sh", *arguments]
    return require(node, Exec, for_what=what).run(command, timeout_s=timeout_s, privileged=True)


def first_line(node: Node, script: str, *arguments: str, what: str) -> str:
    """What a looking script prints, without its end of line."""
    return execute(node, script, *arguments, what=what, timeout_s=30.0).out.strip()

"""The dead-man's switch of attached containers: the kernel's own clock for packets, a warden for the rest.

Armed in one process and extended in another: what it knows stands beside the nodes (in the warden, in the kernel's tables), and what it
keeps in memory only saves it looking again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from chaos.core.clock import now_ns, seconds
from chaos.core.errors import EnvironmentFailed, Unavailable
from chaos.core.model import NodeRef, Step, Undo
from chaos.environments.docker.attach import nft
from chaos.environments.docker.attach.doors import Doors, Target
from chaos.environments.docker.attach.filter import NftFilter
from chaos.environments.docker.attach.node import SILENCE_TAG, AttachedNode
from chaos.environments.docker.attach.warden import Wardens, steps_files

_VERBS = {"power_on": "start", "start_service": "start", "thaw": "thaw", "shell": "shell"}

_KILL_WITHIN_S = 2


class Note(msgspec.Struct, frozen=True):
    """What this process knows of a fault that the kernel ends. ``containers`` may hold its tags (empty: whichever there are); ``held``
    are the elements that were seen there, none until something was dropped."""

    tags: tuple[str, ...]
    containers: tuple[str, ...]
    deadline_s: float
    at_ns: int
    held: dict[tuple[Target, str], nft.Elements] = {}


class AttachedDeadMan:
    """Implements :class:`~chaos.environments.base.DeadMan`."""

    def __init__(self, wardens: Wardens, doors: Doors, resolve: Callable[[NodeRef], AttachedNode], deadline_s: float) -> None:
        self._wardens, self._doors, self._resolve = wardens, doors, resolve
        self._default_s = deadline_s
        self._notes: dict[str, Note] = {}
        self._by_kernel: set[str] = set()  # faults of which the warden knows nothing

    def deadline_s(self, tag: str) -> float:
        """For how long drops under ``tag`` hold from now."""
        return next((note.deadline_s for note in self._notes.values() if tag in note.tags), self._default_s)

    def arm(self, undo: Undo, deadline_s: float) -> None:
        known = {ref.name: ref for ref in undo.nodes}
        steps: list[tuple[str, str, str]] = []
        dropped: list[tuple[str, str]] = []
        for step in undo.steps:
            if step.node not in known:
                raise EnvironmentFailed(f"the undo of {undo.fault_id} names a node that it does not hold", observed=step.node)
            container = known[step.node].locator["container"]
            if step.do == "undrop":
                dropped.append((step.argument, container))
            else:
                steps.append((_verb(step, undo), container, self._argument(step, known[step.node])))
        self._by_kernel.discard(undo.fault_id)
        if dropped:
            tags, containers = zip(*dropped, strict=True)
            self._notes[undo.fault_id] = Note(tuple(sorted(set(tags))), tuple(sorted(set(containers))), deadline_s, now_ns())
        if steps:
            kernel = "".join(f"{tag}\n" for tag in sorted({tag for tag, _ in dropped}))
            self._wardens.arm(undo.fault_id, {**steps_files(steps), "kernel": kernel}, deadline_s)

    def _argument(self, step: Step, ref: NodeRef) -> str:
        """Of a shell step its script, once it is known that there is a shell; of a start for how long a stop may still be under way."""
        if step.do == "power_on":
            return str(_KILL_WITHIN_S)
        if step.do == "start_service":
            return str(self._resolve(ref).patience_s + 1)
        if step.do != "shell":
            return ""
        if not self._resolve(ref).has_shell():
            raise Unavailable(
                "nothing could undo this beside us: the container has no shell",
                where=str(ref),
                next_step="choose a fault that needs none (Pause, Stop, PowerLoss, Partition)",
                capability="exec",
            )
        return step.argument

    def extend(self, fault_id: str, deadline_s: float) -> None:
        tags = None if fault_id in self._by_kernel else self._wardens.extend(fault_id, deadline_s)
        if tags == ():
            return  # the warden does it all
        note = self._notes.get(fault_id) or Note(tags or (fault_id,), (), deadline_s, now_ns())
        held = {**note.held, **self._look(note)}
        if not held and tags is None and fault_id not in self._notes:
            raise EnvironmentFailed("no dead-man's switch is armed, or it has acted and gone", where=fault_id)
        if held and tags is None:
            self._by_kernel.add(fault_id)
        self._notes[fault_id] = msgspec.structs.replace(note, deadline_s=deadline_s, at_ns=now_ns(), held=held)
        for (target, tag), elements in held.items():
            self._renew(fault_id, target, tag, elements, deadline_s)

    def _look(self, note: Note) -> dict[tuple[Target, str], nft.Elements]:
        """What the kernel holds of it that was not seen before: only where a door stands, because whoever drops opens one."""
        seen = {target for target, _ in note.held}
        held: dict[tuple[Target, str], nft.Elements] = {}
        for target in self._doors.targets():
            if target not in seen and (not note.containers or target.container in note.containers):
                found = self._filter(target).ruleset(target).held
                held |= {(target, tag): found[tag].elements for tag in note.tags if tag in found}
        return held

    def _renew(self, fault_id: str, target: Target, tag: str, elements: nft.Elements, deadline_s: float) -> None:
        if not self._doors.lives(target):
            raise EnvironmentFailed(
                "the node has restarted, and its drops ended with its network", where=fault_id, observed=target.container[:12]
            )
        try:
            self._filter(target).renew(target, tag, elements, deadline_s)
            return
        except EnvironmentFailed as err:
            now = self._filter(target).ruleset(target).held.get(tag)
            if now is None or not now.elements or dict(now.elements) == dict(elements):
                raise EnvironmentFailed("the kernel lets packets through again", where=fault_id, observed=str(err)) from err
        self._filter(target).renew(target, tag, now.elements, deadline_s)  # it was dropped anew, and otherwise
        self._notes[fault_id].held[target, tag] = now.elements

    def disarm(self, fault_id: str) -> None:
        """Drops that are still held are not undone: their end is the kernel's. Doors that nobody needs any more are removed."""
        self._wardens.disarm(fault_id)
        self._notes.pop(fault_id, None)
        self._by_kernel.discard(fault_id)
        needed = {container for other in self._notes.values() for container in other.containers}
        idle = {t.container for t in self._doors.targets() if not self._filter(t).ruleset(t).held}
        self._doors.close(lambda target: not self._doors.lives(target) or (target.container in idle and target.container not in needed))

    def armed(self) -> Mapping[str, float]:
        left: dict[str, float] = {}
        for target in self._doors.targets():
            for held in self._filter(target).ruleset(target).held.values():
                if held.left_s is not None and held.tag != SILENCE_TAG:
                    left[held.tag] = min(held.left_s, left.get(held.tag, held.left_s))
        for fault_id, note in self._notes.items():
            if not note.held and not set(note.tags) & set(left):  # armed, and nothing dropped yet
                left[fault_id] = note.deadline_s - seconds(now_ns() - note.at_ns)
        return {**left, **self._wardens.armed()}

    def _filter(self, target: Target) -> NftFilter:
        return NftFilter(self._doors, target.container[:12])


def _verb(step: Step, undo: Undo) -> str:
    try:
        return _VERBS[step.do]
    except KeyError:
        raise Unavailable(
            f"the dead-man's switch of docker attach cannot do {step.do!r}",
            where=undo.kind,
            expected=f"one of undrop, {', '.join(_VERBS)}",
            next_step="choose another fault",
        ) from None

"""What is still broken, and putting it back from the journals alone: for the healer, ``gameday status`` and ``gameday heal``, and the start
of the next drill. Knows journals, not drills; it never breaks anything.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from chaos.core.errors import EXIT_RESIDUE, BadInput, EnvironmentGone, GamedayError, HealFailed
from chaos.core.model import FaultState, Undo
from chaos.engine.audit import DONE, FAILED, AuditLog
from chaos.engine.audit import FILE as AUDIT_FILE
from chaos.engine.healing import heal_until_proven
from chaos.engine.journal import Journal, OpenFault, Origin, open_records, read_journal
from chaos.environments.base import Environment
from chaos.environments.registry import reopen
from chaos.faults.base import Fault
from chaos.faults.registry import kind_of

Only = Callable[[OpenFault], bool]
Audit = Callable[[OpenFault, str, str], None]
LOCK_SUFFIX = ".healing"


class Residue(GamedayError):
    """Something is still broken here, so nothing more may be. Exit code 11."""

    exit_code = EXIT_RESIDUE


class Found(msgspec.Struct, frozen=True):
    """One open fault and the journal that holds it. ``owner_dead``: nobody is going to heal it but its healer or a person."""

    journal: Path
    fault: OpenFault
    owner_dead: bool

    @property
    def environment(self) -> str:
        return environment_of(self.fault)


class Healing(msgspec.Struct, frozen=True):
    """What came of one attempt to put one fault back. ``text`` is the proof, or why not."""

    fault: OpenFault
    done: bool
    text: str


def everything(_: OpenFault) -> bool:
    """All that is open."""
    return True


def environment_of(fault: OpenFault) -> str:
    """The name of the environment that it was injected into."""
    return fault.origin.environment if fault.origin is not None else fault.undo.nodes[0].environment


def run_of(fault: OpenFault) -> str:
    """The run id within the fault's own: ``<run>-<seed>-<number>``."""
    return fault.undo.fault_id.rsplit("-", 2)[0]


def journals(directories: Sequence[Path]) -> list[Path]:
    """Every journal below these, oldest first."""
    found = [path for directory in directories if directory.is_dir() for path in directory.glob("*.jsonl")]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def find(directories: Sequence[Path]) -> list[Found]:
    """Every open fault, oldest first.

    Raises:
        JournalUnreadable: one of the journals; what it hides is not known.
    """
    found = []
    for path in journals(directories):
        for fault in open_records(read_journal(path)[0]):
            dead = fault.origin is None or fault.origin.owner.dead()
            found.append(Found(path, fault, dead))
    return found


def reopened(origin: Origin) -> Environment:
    """The environment as its runner saw it, from another process."""
    return reopen(origin.kind, origin.settings)


def heal_open(path: Path, *, only: Only = everything, by: str, dry_run: bool = False) -> list[Healing]:
    """Put back what ``path`` holds open and ``only`` accepts, newest first; all are tried. Writes what was done into the journal. One
    process at a time: another one that heals the same journal is waited for.

    Raises:
        JournalUnreadable: nothing was done.
    """
    with one_at_a_time(path):
        journal = Journal(path, by=by)
        try:
            chosen = [fault for fault in reversed(open_records(journal.records())) if only(fault)]
            if dry_run:
                return [Healing(fault, False, plan_of(fault)) for fault in chosen]
            audit = audit_beside(path, by)
            return [_heal(journal, fault, audit) for fault in chosen]
        finally:
            journal.close()


def acknowledge(path: Path, fault: OpenFault, *, by: str, why: str) -> None:
    """A person's word: what is left of this fault is known and accepted. It blocks nothing any more."""
    journal = Journal(path, by=by)
    try:
        journal.state(fault.undo.fault_id, FaultState.ACKNOWLEDGED, why)
        audit_beside(path, by)(fault, DONE, f"acknowledged: {why}")
    finally:
        journal.close()


def plan_of(fault: OpenFault) -> str:
    """How it would be undone, in words."""
    steps = ", ".join(f"{step.do} {step.argument or step.node}".strip() for step in fault.undo.steps if step.do != "shell")
    nodes = ", ".join(node.name for node in fault.undo.nodes)
    return f"undo {fault.undo.kind} on {nodes}" + (f" ({steps})" if steps else "")


def _heal(journal: Journal, fault: OpenFault, audit: Audit) -> Healing:
    undo = fault.undo
    try:
        text = _put_back(fault, journal.where)
    except GamedayError as err:
        if FaultState.HEAL_FAILED not in fault.states or fault.said != str(err):
            journal.state(undo.fault_id, FaultState.HEAL_FAILED, str(err))
            audit(fault, FAILED, str(err))
        return Healing(fault, False, str(err))
    journal.state(undo.fault_id, FaultState.VERIFIED, text)
    audit(fault, DONE, text)
    return Healing(fault, True, text)


def audit_beside(journal: Path, by: str) -> Audit:
    """Writes what became of a fault into the audit log of its standing environment, which lies beside the journals. What has happened
    already is not held up by a log that takes nothing: the journal has it."""

    def write(fault: OpenFault, decision: str, text: str) -> None:
        if fault.origin is None or fault.origin.disposable:
            return
        log = AuditLog(journal.parent.parent / AUDIT_FILE, environment=environment_of(fault), by=by, run=run_of(fault), drill=fault.drill)
        what = f"{fault.undo.kind} on {', '.join(n.name for n in fault.undo.nodes)} ({fault.undo.fault_id}): {text}"
        with contextlib.suppress(GamedayError):
            log.write("heal", decision, what)

    return write


def _put_back(fault: OpenFault, where: str) -> str:
    """The proof in words. Raises GamedayError."""
    undo, origin = fault.undo, fault.origin
    environment = reopened(origin) if origin is not None else reopen(undo.nodes[0].environment, {})
    if environment.disposable and (origin is None or origin.owner.dead()):
        environment.reclaim()
    try:
        proof = heal_until_proven(_kind_of(undo, environment), undo, environment.resolve, where=where)
    except EnvironmentGone as err:
        if environment.disposable:
            return f"gone with its environment: {err}"
        raise HealFailed(
            "a node that was broken does not exist any more",
            where=where,
            observed=str(err),
            next_step=f"look what became of it, then: gameday heal --acknowledge {undo.fault_id}",
        ) from err
    dead_man = environment.dead_man()
    if dead_man is not None:
        dead_man.disarm(undo.fault_id)
    return proof.text


def _kind_of(undo: Undo, environment: Environment) -> type[Fault]:
    """Raises BadInput where no such fault is registered, as those that a project's own drills define are not; but EnvironmentGone where
    nothing is left to be put back by it."""
    try:
        return kind_of(undo.kind)
    except BadInput:
        if environment.disposable:
            for node in undo.nodes:
                environment.resolve(node)
        raise


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Hold the right to heal this journal."""
    lock = os.open(path.with_suffix(LOCK_SUFFIX), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def abandoned(fault: OpenFault, environment: str) -> bool:
    """Was it injected into ``environment`` by a process that is gone?"""
    return environment_of(fault) == environment and (fault.origin is None or fault.origin.owner.dead())


def refuse_residue(found: Sequence[Found], environment: str) -> None:
    """Raises Residue where something of a dead run is still broken in ``environment``."""
    left = [one for one in found if one.environment == environment and one.owner_dead]
    if left:
        undos = [(one.fault.undo, one.fault.utc) for one in left]
        named = "; ".join(f"{undo.kind} on {', '.join(node.name for node in undo.nodes)} since {utc}" for undo, utc in undos)
        raise Residue(
            f"an earlier run left {len(left)} fault(s) that nobody has proven to be healed",
            where=environment,
            observed=named,
            next_step="gameday status, then gameday heal (or gameday heal --acknowledge FAULT)",
        )

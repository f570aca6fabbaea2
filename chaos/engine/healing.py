"""Putting one fault back, and proving it: what the drill, the healer and ``gameday heal`` have in common. Needs nothing but the undo.

Not the healer itself (a process, see ``healer``), and no search for what is left (see ``residue``).
"""

from __future__ import annotations

from collections.abc import Callable

from chaos.core.clock import NS, now_ns, seconds, wait_for
from chaos.core.errors import DeadlineExceeded, EnvironmentGone, GamedayError, HealFailed
from chaos.core.model import Proof, Undo
from chaos.faults.base import Fault, Resolve

PROOF_INTERVAL_S = 0.002
HEAL_ATTEMPTS = 3
HEAL_AGAIN_S = 5.0


def nothing() -> None:
    """For callers who need not be told."""


def heal_until_proven(kind: type[Fault], undo: Undo, resolve: Resolve, *, where: str, undone: Callable[[], None] = nothing) -> Proof:
    """Undo, and undo again while the proof stays out: what was put back may have been knocked over by what was still going on.
    ``undone`` is told after each undoing.

    Raises:
        HealFailed: it could not be undone, or the node never became as it was; ``where`` is the journal that holds the undo.
        EnvironmentGone: there is no node any more.
    """
    refuse_newer(kind, undo, where)
    deadline_ns = now_ns() + int(kind.healed_within_s * NS)
    names = ", ".join(node.name for node in undo.nodes)
    while True:
        _undo(kind, undo, resolve, where)
        undone()
        left_s = seconds(deadline_ns - now_ns())
        try:
            return wait_for(
                lambda: kind.healed(undo, resolve),
                timeout_s=min(left_s, HEAL_AGAIN_S),
                what=f"{undo.kind} on {names} to heal",
                interval_s=PROOF_INTERVAL_S,
                last="no proof",
            )
        except DeadlineExceeded as err:
            if left_s <= HEAL_AGAIN_S:
                raise HealFailed(f"{undo.kind} was undone, but the node is not as it was before", observed=str(err)) from err


def refuse_newer(kind: type[Fault], undo: Undo, where: str) -> None:
    """Raises HealFailed where a newer release wrote this undo: its meaning is not guessed at."""
    if undo.version > kind.version:
        raise HealFailed(
            f"the undo of {undo.kind} was written by a newer release",
            where=where,
            expected=f"version {kind.version} or older",
            observed=f"version {undo.version}",
            next_step="upgrade pytest-gameday here, then run: gameday heal",
        )


def _undo(kind: type[Fault], undo: Undo, resolve: Resolve, where: str) -> None:
    said: list[str] = []
    for _ in range(HEAL_ATTEMPTS):
        try:
            kind.heal(undo, resolve)
            return
        except EnvironmentGone:
            raise
        except (GamedayError, OSError) as err:
            said.append(str(err))
    raise HealFailed(
        f"{undo.kind} on {', '.join(node.name for node in undo.nodes)} could not be undone in {HEAL_ATTEMPTS} attempts",
        where=where,
        observed=said[-1],
        next_step="its undo stands in the journal: run gameday heal, or put it back by hand",
    )

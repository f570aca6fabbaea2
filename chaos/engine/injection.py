"""One fault from plan to proof of healing: journal first, then the dead-man's switch, then the effect, then the proofs. Knows nothing of
drills or workloads."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from chaos.core.clock import now_ns, wait_for
from chaos.core.errors import DeadlineExceeded, EnvironmentGone, FaultNotLanded, GamedayError
from chaos.core.model import FaultRecord, FaultState, Undo
from chaos.engine.healing import PROOF_INTERVAL_S, heal_until_proven
from chaos.engine.journal import Journal, Origin
from chaos.environments.base import DeadMan
from chaos.faults.base import Fault, Resolve

DEADLINE_S = 10.0
OnState = Callable[[FaultRecord, FaultState], None]
MOMENTS = ("before-intent", "after-intent", "after-arm", "mid-inject", "after-inject", "observing", "mid-heal", "after-heal")
"""What a crash suite stops at. ``mid-inject`` and ``mid-heal`` lie inside the fault's own calls, the others between its steps."""


class Switch(msgspec.Struct, frozen=True):
    """The dead-man's switch of a standing environment, and how long it waits for a heartbeat."""

    dead_man: DeadMan
    deadline_s: float = DEADLINE_S


def _pass(_: str) -> None:
    """Nobody wants to be told of the moments."""


class InjectedFault:
    """A fault in some state of its life. ``record`` is what is known of it so far. ``origin`` tells another process how to reach the
    nodes; ``switch`` is armed before the effect; ``at`` is told of each of :data:`MOMENTS` that is passed."""

    def __init__(
        self,
        fault: Fault,
        fault_id: str,
        resolve: Resolve,
        journal: Journal,
        on_state: OnState,
        *,
        cause: bool,
        origin: Origin | None = None,
        switch: Switch | None = None,
        at: Callable[[str], None] = _pass,
    ) -> None:
        self.fault, self._resolve, self._journal, self._on_state = fault, resolve, journal, on_state
        self._origin, self._switch, self._at = origin, switch, at
        self._undo: Undo | None = None
        self._journalled = self._armed = self._gone = False
        names = tuple(target.name for target in fault.targets)
        self.record = FaultRecord(fault_id, fault.kind, names, fault.params(), cause=cause)

    @property
    def open(self) -> bool:
        """It may have had an effect that nobody has proven to be gone."""
        return self._journalled and not self._gone and self.record.verified_ns is None

    def plan(self) -> Undo:
        """Look at the nodes, change nothing; what would be written down."""
        self._undo = self.fault.plan(self.record.fault_id, self._resolve)
        return self._undo

    def inject(self, drill: str) -> None:
        """Plan, journal, arm, effect, proof.

        Raises:
            FaultNotLanded: the effect was not observed in time (it is still to be healed).
            GamedayError: refused, before or during the effect.
        """
        undo = self.plan()
        self._at("before-intent")
        self._reach(FaultState.PLANNED)
        self._intend(undo, drill)
        self._at("after-intent")
        self._arm(undo)
        self._at("after-arm")
        self._reach(FaultState.ISSUED)
        self.fault.inject(undo, self._resolve)
        self._at("after-inject")
        where = f"{self.fault.kind} on {', '.join(self.record.nodes)} to land"
        try:
            proof = wait_for(
                lambda: self.fault.landed(undo, self._resolve),
                timeout_s=self.fault.landed_within_s,
                what=where,
                interval_s=PROOF_INTERVAL_S,
                last="no proof",
            )
        except DeadlineExceeded as err:
            raise FaultNotLanded(f"{self.fault.kind} was issued but its effect was not observed", observed=str(err)) from err
        self.record = msgspec.structs.replace(self.record, landed_proof=proof.text)
        self._journal.state(self.record.fault_id, FaultState.LANDED, proof.text)
        self._reach(FaultState.LANDED, proof.observed_ns)
        self._at("observing")

    def _intend(self, undo: Undo, drill: str) -> None:
        self._journalled = True  # before the record: an interruption right after it must not hide it
        try:
            self._journal.intent(undo, drill, self._origin)
        except GamedayError:
            self._journalled = False
            raise

    def _arm(self, undo: Undo) -> None:
        if self._switch is not None and "dead-man" in self.fault.nets:
            self._armed = True
            self._switch.dead_man.arm(undo, self._switch.deadline_s)
            self._journal.state(undo.fault_id, FaultState.ARMED)
        self._reach(FaultState.ARMED)

    def heal(self) -> None:
        """Put back, and prove it. A no-op where nothing was intended or the proof is there already.

        Raises:
            HealFailed: after three attempts, or where the node never became as it was.
            EnvironmentGone: there is no node any more, hence nothing to put back.
        """
        if self._undo is None or not self.open:
            return
        undo, fault_id = self._undo, self.record.fault_id
        if self.record.heal_issued_ns is None:
            self._reach(FaultState.HEAL_ISSUED)
        try:
            proof = heal_until_proven(type(self.fault), undo, self._resolve, where=self._journal.where, undone=self._undone)
            if self._armed and self._switch is not None:
                self._switch.dead_man.disarm(fault_id)
                self._armed = False
        except EnvironmentGone as err:
            if self._origin is None or not self._origin.disposable:
                self._journal.state(fault_id, FaultState.HEAL_FAILED, str(err))
                raise
            self._gone = True
            self._journal.state(fault_id, FaultState.VERIFIED, f"gone with its environment: {err}")
            raise
        except GamedayError as err:
            self._journal.state(fault_id, FaultState.HEAL_FAILED, str(err))
            raise
        self._at("after-heal")
        self.record = msgspec.structs.replace(self.record, healed_proof=proof.text)
        self._journal.state(fault_id, FaultState.VERIFIED, proof.text)
        self._reach(FaultState.VERIFIED, proof.observed_ns)

    def _undone(self) -> None:
        if self.record.healed_ns is None:
            self._reach(FaultState.HEALED)

    def _reach(self, state: FaultState, at_ns: int | None = None) -> None:
        at_ns = now_ns() if at_ns is None else at_ns
        self.record = msgspec.structs.replace(self.record, **{f"{state.value}_ns": at_ns})
        self._on_state(self.record, state)

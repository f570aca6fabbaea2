"""One fault from plan to proof of healing: journal first, then the effect, then the proofs. Knows nothing of drills or workloads."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from chaos.core.clock import NS, now_ns, seconds, wait_for
from chaos.core.errors import DeadlineExceeded, FaultNotLanded, GamedayError, HealFailed
from chaos.core.model import FaultRecord, FaultState, Proof, Undo
from chaos.engine.journal import Journal
from chaos.faults.base import Fault, Resolve

PROOF_INTERVAL_S = 0.002
HEAL_ATTEMPTS = 3
HEAL_AGAIN_S = 5.0
OnState = Callable[[FaultRecord, FaultState], None]


class InjectedFault:
    """A fault in some state of its life. ``record`` is what is known of it so far."""

    def __init__(self, fault: Fault, fault_id: str, resolve: Resolve, journal: Journal, on_state: OnState, *, cause: bool) -> None:
        self.fault, self._resolve, self._journal, self._on_state = fault, resolve, journal, on_state
        self._undo: Undo | None = None
        names = tuple(target.name for target in fault.targets)
        self.record = FaultRecord(fault_id, fault.kind, names, fault.params(), cause=cause)

    @property
    def open(self) -> bool:
        """It may have had an effect that nobody has proven to be gone."""
        return self.record.issued_ns is not None and self.record.verified_ns is None

    def inject(self, drill: str) -> None:
        """Plan, journal, effect, proof.

        Raises:
            FaultNotLanded: the effect was not observed in time (it is still to be healed).
            GamedayError: refused, before or during the effect.
        """
        undo = self._undo = self.fault.plan(self.record.fault_id, self._resolve)
        self._reach(FaultState.PLANNED, now_ns())
        self._journal.intent(undo, drill)
        self._reach(FaultState.ARMED, now_ns())
        self._reach(FaultState.ISSUED, now_ns())
        self.fault.inject(undo, self._resolve)
        try:
            proof = self._prove(lambda: self.fault.landed(undo, self._resolve), self.fault.landed_within_s, "land")
        except DeadlineExceeded as err:
            raise FaultNotLanded(f"{self.fault.kind} was issued but its effect was not observed", observed=str(err)) from err
        self.record = msgspec.structs.replace(self.record, landed_proof=proof.text)
        self._journal.state(self.record.fault_id, FaultState.LANDED)
        self._reach(FaultState.LANDED, proof.observed_ns)

    def heal(self) -> None:
        """Put back, and prove it. A no-op where nothing was issued or the proof is there already.

        Raises:
            HealFailed: after three attempts, or where the node never became as it was.
        """
        if self._undo is None or not self.open:
            return
        undo = self._undo
        if self.record.heal_issued_ns is None:
            self._reach(FaultState.HEAL_ISSUED, now_ns())
        proof = self._heal_until_proven(undo)
        self.record = msgspec.structs.replace(self.record, healed_proof=proof.text)
        self._journal.state(self.record.fault_id, FaultState.VERIFIED)
        self._reach(FaultState.VERIFIED, proof.observed_ns)

    def _heal_until_proven(self, undo: Undo) -> Proof:
        """Undo, and undo again while the proof stays out: what was put back may have been knocked over by what was still going on."""
        deadline_ns = now_ns() + int(self.fault.healed_within_s * NS)
        while True:
            self._try_to_heal(undo)
            if self.record.healed_ns is None:
                self._reach(FaultState.HEALED, now_ns())
            left_s = seconds(deadline_ns - now_ns())
            try:
                return self._prove(lambda: type(self.fault).healed(undo, self._resolve), min(left_s, HEAL_AGAIN_S), "heal")
            except DeadlineExceeded as err:
                if left_s <= HEAL_AGAIN_S:
                    raise HealFailed(f"{self.fault.kind} was undone, but the node is not as it was before", observed=str(err)) from err

    def _try_to_heal(self, undo: Undo) -> None:
        said: list[str] = []
        for _ in range(HEAL_ATTEMPTS):
            try:
                type(self.fault).heal(undo, self._resolve)
                return
            except (GamedayError, OSError) as err:
                said.append(str(err))
        raise HealFailed(
            f"{self.fault.kind} on {', '.join(self.record.nodes)} could not be undone in {HEAL_ATTEMPTS} attempts",
            where=str(self._journal.path),
            observed=said[-1],
            next_step="its undo stands in the journal: put it back by hand",
        )

    def _prove(self, look: Callable[[], Proof | None], within_s: float, what: str) -> Proof:
        where = f"{self.fault.kind} on {', '.join(self.record.nodes)} to {what}"
        return wait_for(look, timeout_s=within_s, what=where, interval_s=PROOF_INTERVAL_S, last="no proof")

    def _reach(self, state: FaultState, at_ns: int) -> None:
        self.record = msgspec.structs.replace(self.record, **{f"{state.value}_ns": at_ns})
        self._on_state(self.record, state)

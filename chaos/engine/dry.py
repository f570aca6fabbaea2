"""A drill that changes nothing: it resolves nodes, plans every fault, asks the guard, and writes down what would happen.

The test's own function runs, with this object in place of the drill: workloads are not started and no fault is injected, so what a test
expects of a broken system may not come about. Where it then raises, the plan ends there, and says so.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator

from chaos.core.acts import RunbookOutcome
from chaos.core.errors import BadInput, GamedayError
from chaos.core.model import Expectation, FaultRecord, Undo
from chaos.engine.clients import RunningWorkload
from chaos.engine.drill import Drill
from chaos.engine.guard import Guard
from chaos.engine.injection import InjectedFault
from chaos.engine.outcome import DrillOutcome
from chaos.engine.plan_table import PERMITTED, PlanRow, undo_words
from chaos.engine.runbook.run import planned
from chaos.engine.runbook.steps import Runbook
from chaos.engine.signalling import Signal
from chaos.engine.system import System
from chaos.environments.base import Environment
from chaos.faults.base import Fault
from chaos.faults.composition import Composition
from chaos.measure.live import Tail
from chaos.measure.workload import WorkloadSpec


class PlannedWorkload(RunningWorkload):
    """A workload that does not run; it never failed, so it has recovered."""

    def __init__(self, spec: WorkloadSpec) -> None:
        self.spec = spec

    def wait_recovered(self) -> bool:
        return True

    def wait_started(self, tail: Tail) -> None:
        """There is nothing to wait for."""

    def ended(self) -> str:
        return ""

    def stop(self) -> str:
        return ""


class PlannedFault(InjectedFault):
    """A fault that stays a plan."""

    def __init__(self, fault: Fault, fault_id: str) -> None:
        self.fault = fault
        self.record = FaultRecord(fault_id, fault.kind, tuple(target.name for target in fault.targets), fault.params())

    @property
    def open(self) -> bool:
        return False

    def inject(self, drill: str) -> None:
        """Nothing."""

    def heal(self) -> None:
        """There is nothing to put back."""


class PlannedSignal(Signal):
    """A signal that nobody looks at; nothing waits for it."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def fired(self) -> bool:
        return True

    def wait_fired(self, timeout: str | float) -> bool:
        return True

    def stop(self) -> None:
        """It was never begun."""


class DryDrill(Drill):
    """All that a test can ask of a :class:`~chaos.engine.drill.Drill`, without its effects. ``rows`` is what it found."""

    def __init__(
        self, *, node_id: str, run_id: str, seed: int, environment: Environment, guard: Guard, expectation: Expectation
    ) -> None:  # its parent's would open a history, which is an effect
        self.node_id, self.run_id, self.seed, self.environment = node_id, run_id, seed, environment
        self._guard, self._system = guard, None
        self._random = random.Random(seed)
        self._open: list[Undo] = []
        self._count = 0
        self.interruption = None
        refused = guard.planned(expectation)
        self.rows = [PlanRow(node_id, environment.name, decision=f"refused: {said}") for said in refused]

    def use(self, system: System) -> None:
        self._system = system

    def workload(self, spec: WorkloadSpec) -> RunningWorkload:
        return PlannedWorkload(spec)

    @contextlib.contextmanager
    def inject(self, fault: Fault | Composition, *, cause: bool = False) -> Iterator[InjectedFault]:
        """Plan it and write down what came of it; never refuses."""
        if not isinstance(fault, Composition):
            with self._plan_one(fault) as planned:
                yield planned
            return
        with contextlib.ExitStack() as lasting:
            for stage in fault.stages():
                with contextlib.ExitStack() as passing:
                    stack = lasting if stage.hold_s is None else passing
                    for part in stage.parts:
                        planned = stack.enter_context(self.inject(part))
            yield planned

    @contextlib.contextmanager
    def _plan_one(self, fault: Fault) -> Iterator[InjectedFault]:
        self._count += 1
        fault_id = f"{self.run_id}-{self.seed:08x}-{self._count}"
        undo, decision = self._planned(fault, fault_id)
        self.rows.append(self._row(fault, undo, decision))
        opened = [undo] if undo is not None else []
        self._open += opened
        try:
            yield PlannedFault(fault, fault_id)
        finally:
            for one in opened:
                self._open.remove(one)

    def _planned(self, fault: Fault, fault_id: str) -> tuple[Undo | None, str]:
        system = self._on()
        undo = None
        try:
            self._guard.would_permit(fault, system.nodes)
            undo = fault.plan(fault_id, system.resolve)
            self._guard.would_permit_undo(undo, system.nodes, self._open)
        except BadInput as err:
            return undo, f"refused: {err}"
        except GamedayError as err:
            return undo, f"impossible: {err}"
        return undo, PERMITTED

    def _row(self, fault: Fault, undo: Undo | None, decision: str) -> PlanRow:
        return PlanRow(
            self.node_id,
            self.environment.name,
            fault=fault.kind,
            nodes=", ".join(str(target.name) for target in fault.targets),
            params=", ".join(f"{name}={value}" for name, value in fault.params().items() if value not in (None, "", [], False)),
            nets=", ".join(fault.nets),
            undo=undo_words(undo) if undo is not None else "",
            decision=decision,
        )

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        yield

    def observe(self, seconds: float) -> None:
        """Nothing is there to be observed."""

    def note(self, text: str) -> None:
        """There is no history to write it into."""

    def check(self, name: str, function: Callable[[], object], *, within: str | float | None = None) -> str:
        """Nothing was broken, so there is nothing to be found out."""
        return f"dry run: {name} was not checked"

    def run(self, runbook: Runbook) -> RunbookOutcome:
        """None of its steps is run."""
        return planned(runbook)

    def signal(self, name: str, poll: Callable[[], bool], *, every_s: float = 0.25) -> Signal:
        return PlannedSignal(name)

    def abort(self, reason: str) -> None:
        """There is nothing to stop."""

    @property
    def damaged(self) -> bool:
        return False

    @property
    def residue(self) -> bool:
        return False

    @property
    def exercised(self) -> bool:
        return bool(self.rows)

    def conclude(self, error: BaseException | None) -> DrillOutcome:
        raise NotImplementedError("a dry run has no verdict")

    def release(self) -> None:
        """Nothing is held."""

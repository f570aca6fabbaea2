"""The drill: the one object that a test talks to. It runs a drill's life and hands over facts; the plugin writes the evidence.

::

    collect -> guard -> control window -> journal -> inject -> LANDED -> observe -> heal -> HEALED -> survivors -> judged

Not thread-safe, and not reusable: one drill, one object.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from chaos.core.acts import Acts, RunbookOutcome
from chaos.core.clock import NS, now_ns, utc_label, utc_now
from chaos.core.errors import BadInput, GamedayError, HealFailed, Judged, NotHealthy
from chaos.core.model import Budget, Expectation, FaultRecord, FaultState, Finding, Json, NodeRef, Phase, Verdict, badness, worst
from chaos.engine.acting import Acting
from chaos.engine.audit import DONE, FAILED
from chaos.engine.checks import Checks
from chaos.engine.clients import RunningWorkload
from chaos.engine.facts import git_facts, host_facts, version_facts
from chaos.engine.guard import Guard
from chaos.engine.injection import InjectedFault
from chaos.engine.nets import Nets
from chaos.engine.outcome import DrillOutcome, EnvironmentFacts
from chaos.engine.progress import Progress, Watch, WorkloadProgress
from chaos.engine.runbook.run import Runbooks
from chaos.engine.runbook.steps import Runbook
from chaos.engine.signalling import Signal, SignalsWatched
from chaos.engine.signals import Aborted, Signals
from chaos.engine.system import Replicated, System
from chaos.environments.base import Environment
from chaos.faults.base import Fault
from chaos.faults.choice import choose
from chaos.faults.composition import Composition, faults_of
from chaos.measure.degradation import STEP_S, all_returned, window_s
from chaos.measure.history import SCHEMA, HistoryWriter
from chaos.measure.judge import check_resolution, default_timeout_s, judge, minimum_window_s
from chaos.measure.live import Tail
from chaos.measure.reader import read
from chaos.measure.result import Judgement
from chaos.measure.workload import WorkloadSpec, completed

T = TypeVar("T")
TICK_S = 0.05
FRAME_S = 0.2


class DrillOptions(msgspec.Struct, frozen=True):
    """How long a drill looks (seconds). ``control_s``: the fault-free window before the first fault; ``phase_s``: the injection comes at a
    seeded random moment up to this much later; ``tail_s``: after the heal; ``whole_within_s``: until every member is back;
    ``horizon_s``: for recovery where the budget bounds no RTO."""

    control_s: float = 3.0
    phase_s: float = 0.5
    tail_s: float = 0.5
    whole_within_s: float = 60.0
    horizon_s: float = 120.0


class Drill:
    """See the module. ``directory`` receives the history and the workloads' logs; ``watch`` is told of progress."""

    def __init__(
        self,
        *,
        node_id: str,
        test_doc: str,
        run_id: str,
        directory: Path,
        scenario: str,
        budget: Budget,
        expectation: Expectation,
        environment: Environment,
        seed: int,
        nets: Nets,
        signals: Signals,
        at: Callable[[str], None],
        guard: Guard,
        watch: Watch,
        operator: str,
        options: DrillOptions,
    ) -> None:
        self.node_id, self.run_id, self.seed, self.environment = node_id, run_id, seed, environment
        self._doc, self._scenario, self._operator = test_doc, scenario, operator
        self._budget, self._expectation, self._options = budget, expectation, options
        self._guard = guard
        guard.permit_drill(expectation)
        guard.take()
        self._directory, self._nets, self._signals, self._at = directory, nets, signals, at
        directory.mkdir(parents=True, exist_ok=True)
        self._history_path = directory / "history.jsonl"
        self._history = HistoryWriter(self._history_path)
        self._tail = Tail(self._history_path)
        self._random = random.Random(seed)
        self._watch, self._frame_ns = watch, 0
        self._system: System | None = None
        self._described: dict[str, Json] = {}
        self._caveats: tuple[str, ...] = ()
        self._facts = EnvironmentFacts(environment.name, environment.kind, environment.identity())
        self._workloads: list[RunningWorkload] = []
        self._faults: list[InjectedFault] = []
        self._phases: list[Phase] = []
        self._extra: list[Finding] = []
        self._heal_error = ""
        self._given_up: list[InjectedFault] = []
        self._messages: deque[str] = deque()
        self._thread = threading.get_ident()
        self._released = False
        self.interruption: KeyboardInterrupt | None = None
        acting = Acting(self._tick_until, self._history.event, self._say, self.phase, lambda ref: self._on().resolve(ref))
        self._checks, self._runbooks, self._watched = Checks(acting), Runbooks(acting), SignalsWatched(acting)
        self._signals.expose()
        self._begin_ns, self._began_utc = now_ns(), utc_label(utc_now())
        self._history.event("start", {"schema": SCHEMA, "drill": node_id, "run_id": run_id, "utc": self._began_utc}, self._begin_ns)
        guard.watch(self.abort)

    # -- what fixtures and tests use

    def use(self, system: System) -> None:
        """Called by a system's fixture: this is what is under drill. It must be healthy, and its ledger is emptied."""
        self._system = system
        self._described, self._caveats = system.describe(), tuple(system.caveats())  # while it is well: later it may not answer
        self._nets.prepare()
        drill_id = f"{self.run_id}:{self.node_id}"
        self._busy("preparing the system", lambda: system.begin_drill(drill_id))

    def workload(self, spec: WorkloadSpec) -> RunningWorkload:
        """Start a workload where the system's clients live, and wait for its first operation.

        Raises:
            BadInput: a budget that its rate and timeout cannot resolve, or a name that is taken.
            EnvironmentFailed: it did not start; with its own words.
        """
        if (
            not spec.rate_hz > 0
            or (spec.connections is not None and spec.connections < 1)
            or (spec.timeout_s is not None and not spec.timeout_s > 0)
        ):
            raise BadInput(f"workload {spec.name!r}: rate, timeout and connections must be more than 0", observed=str(spec.rate_hz))
        budget = self._budget if spec.rto_s is None else msgspec.structs.replace(self._budget, rto_s=spec.rto_s)
        spec = completed(spec, default_timeout_s(budget))
        if any(one.name == spec.name for one in self._workloads):
            raise BadInput(f"two workloads named {spec.name!r} in one drill", next_step="give one of them name=…")
        if spec.gated:
            check_resolution(budget, spec.rate_hz, spec.timeout_s or 1.0)
        running = RunningWorkload(spec, len(self._workloads), self._on(), self._directory, self._wait_for_one)
        self._workloads.append(running)
        running.wait_started(self._tail)
        self._say(f"workload {spec.name}: {spec.rate_hz:g} op/s, timeout {spec.timeout_s:g} s")
        return running

    @contextlib.contextmanager
    def inject(self, fault: Fault | Composition, *, cause: bool = False) -> Iterator[InjectedFault]:
        """Break something, for the length of the ``with`` block; heal it at its end, whatever happened in it.

        The first injection waits for a fault-free control window. ``cause`` names this fault as the one that losses count from. Of a
        composition (``Together``, ``Sequence``, ``Repeat``) all but the last stage comes and goes before the block begins; what the
        block gets is its last fault.

        Raises:
            FaultNotLanded: the effect was not observed; the body does not run, the drill is INVALID.
        """
        if not isinstance(fault, Composition):
            with self._inject_one(fault, cause=cause) as injected:
                yield injected
            return
        for one in faults_of(fault):
            self._guard.permit(one, nodes=self._on().nodes)
        with contextlib.ExitStack() as lasting:
            for stage in fault.stages():
                with contextlib.ExitStack() as passing:
                    stack = lasting if stage.hold_s is None else passing
                    for part in stage.parts:
                        injected = stack.enter_context(self.inject(part, cause=cause))
                    self.observe(stage.hold_s or 0.0)
                self.observe(stage.pause_s)
            yield injected

    def choose(self, spec: str) -> tuple[NodeRef, ...]:
        """Nodes of the system by ``spec``: ``one``, ``minority``, ``majority``, ``primary``, ``replicas`` or ``all``; of the members
        that hold its data, where it says which those are. The choice follows the drill's seed, and is noted.

        Raises:
            BadInput: an unknown word, or nobody that fits.
        """
        system = self._on()
        primary = system.primary if isinstance(system, Replicated) else None
        replicas = system.replicas if isinstance(system, Replicated) else [node.ref for node in system.nodes.values()]
        members = sorted([*replicas, *([primary] if primary is not None else [])], key=lambda ref: ref.name)
        found = choose(spec, members, chance=self._random, primary=primary)
        self.note(f"{spec}: {', '.join(ref.name for ref in found)}")
        return found

    @contextlib.contextmanager
    def _inject_one(self, fault: Fault, *, cause: bool) -> Iterator[InjectedFault]:
        system = self._on()
        self._guard.permit(fault, nodes=system.nodes)
        if not self._faults:
            self._control_window()
        self._nets.ready()
        injected = self._injected(fault, system, cause=cause)
        if not self.environment.disposable:
            self._guard.permit_undo(injected.plan(), nodes=system.nodes)
        self._faults.append(injected)
        try:
            with self.phase(f"{fault.kind} on {', '.join(injected.record.nodes)}"):
                injected.inject(self.node_id)
                self._tick(force=True)
                yield injected
                self._read_survivors("recovered", only_if_recovered=True)
        finally:
            self._heal(injected)

    def _injected(self, fault: Fault, system: System, *, cause: bool) -> InjectedFault:
        fault_id = f"{self.run_id}-{self.seed:08x}-{len(self._faults) + 1}"
        nets = self._nets
        journal, origin, switch = nets.journal, nets.origin, nets.switch
        return InjectedFault(
            fault, fault_id, system.resolve, journal, self._on_state, cause=cause, origin=origin, switch=switch, at=self._at
        )

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Name a stretch of the drill; the timeline shows it."""
        index = len(self._phases)
        self._phases.append(Phase(name, now_ns()))
        self._history.event("phase", {"name": name, "edge": "begin"}, self._phases[index].begin_ns)
        try:
            yield
        finally:
            self._phases[index] = msgspec.structs.replace(self._phases[index], end_ns=now_ns())
            self._history.event("phase", {"name": name, "edge": "end"}, self._phases[index].end_ns)

    def observe(self, seconds: float) -> None:
        """Let the workloads run on for so long, with whatever is broken now."""
        until = now_ns() + int(seconds * NS)
        while now_ns() < until:
            self._tick()

    def check(self, name: str, function: Callable[[], object], *, within: str | float | None = None) -> str:
        """What must hold now (``within``: by then, asked again and again): ``function`` returns what it saw, and raises where it does not
        hold. Returns what was seen; the report keeps it.

        Raises:
            CheckFailed: it did not hold, which is the finding ``check`` of the verdict.
        """
        return self._checks.run(name, function, within)

    def run(self, runbook: Runbook) -> RunbookOutcome:
        """Run a runbook, step by step. The report shows what each step took.

        Raises:
            RunbookFailed: a step failed, and the rest was not run, which is the finding ``runbook`` of the verdict.
        """
        return self._runbooks.run(runbook)

    def signal(self, name: str, poll: Callable[[], bool], *, every_s: float = 0.25) -> Signal:
        """Watch a signal from now on: ``poll`` says whether it fires, from a thread of its own, and raises where that cannot be seen. How
        long it took since the fault is reported, and judged by ``mttd={name: …}``."""
        return self._watched.watch(name, poll, every_s)

    def note(self, text: str) -> None:
        """Write a line into the history, and show it."""
        self._history.event("note", {"text": text})
        self._say(text)

    @property
    def damaged(self) -> bool:
        """Did a heal fail? Then nobody should use the system again."""
        return bool(self._heal_error) or self.residue

    @property
    def residue(self) -> bool:
        """Is something still broken that somebody must put back?"""
        return any(one.open for one in self._faults)

    def abort(self, reason: str) -> None:
        """End this drill at once, from whatever thread: heal, and come out ABORTED."""
        self._signals.abort(reason)

    @property
    def exercised(self) -> bool:
        """Was anything run against the system at all?"""
        return bool(self._workloads or self._faults or self._checks.records or self._runbooks.outcomes)

    # -- the end, called by the plugin

    def conclude(self, error: BaseException | None) -> DrillOutcome:
        """Heal what is open, wait until the system is whole, read the survivors, stop the workloads, judge.

        Never raises for a verdict: a heal that failed is ``heal_error``, a test that raised is ``error``.
        """
        error = self._heal_all(error)
        if not self._heal_error and (still := [one.record.kind for one in self._faults if one.open]):
            self._heal_error = f"{', '.join(still)}: not proven to be healed"
        if self._system is not None and self._faults and not _interrupted(error):
            try:
                self._after_heal()
            except (KeyboardInterrupt, Aborted) as err:
                error = err
        self._signals.cover()
        try:
            with self._signals.shield(self._say):
                outcome = self._close_books(error)
        except KeyboardInterrupt as err:
            error = err  # it came while the verdict was made, which stands
        self.interruption = error if isinstance(error, KeyboardInterrupt) else None
        return outcome

    def _heal_all(self, error: BaseException | None) -> BaseException | None:
        """Everything that is open, newest first; the signal that came meanwhile, or else ``error``."""
        try:
            with self._signals.shield(self._say):
                for injected in reversed(self._faults):
                    if injected not in self._given_up:
                        self._heal(injected)
        except (KeyboardInterrupt, Aborted) as err:
            return err
        return error

    def _close_books(self, error: BaseException | None) -> DrillOutcome:
        """Stop the workloads, read the survivors, judge."""
        self._watched.stop()
        for workload in self._workloads:
            if trouble := workload.ended() or workload.stop():
                self._extra.append(Finding("workload", Verdict.INVALID, trouble))
        if self._system is not None and self._faults and not _interrupted(error):
            self._read_survivors("whole")
        end_ns = now_ns()
        self._tail.poll()
        if not self._history.flush():
            text = f"The history is incomplete, the disk does not take it: {self._history.trouble}"
            self._extra.append(Finding("history", Verdict.INVALID, text))
        judgement = self._judge(end_ns, error)
        self._show(judgement.verdict.value)
        return self._outcome(judgement, end_ns, error)

    def release(self) -> None:
        """Teardown; idempotent. Ends every workload, closes the history."""
        if self._released:
            return
        self._released = True
        self._watched.stop()
        for workload in self._workloads:
            workload.stop()
        self._history.close()
        self._guard.end()

    # -- inside

    def _on(self) -> System:
        if self._system is None:
            raise BadInput("this drill has no system", where=self.node_id, next_step="use a system fixture, such as postgres")
        return self._system

    def _on_state(self, record: FaultRecord, state: FaultState) -> None:
        proof = {FaultState.LANDED: record.landed_proof, FaultState.VERIFIED: record.healed_proof}.get(state, "")
        at_ns = getattr(record, f"{state.value}_ns")
        data: dict[str, Json] = {"id": record.fault_id, "kind": record.kind, "state": state.value, "params": record.params}
        self._history.event("fault", data | {"nodes": list(record.nodes), "cause": record.cause, "proof": proof}, at_ns)
        if proof:
            self._say(f"{record.kind} {state.value}: {proof}")
            self._audit(state.value, DONE, f"{record.kind} on {', '.join(record.nodes)} ({record.fault_id}): {proof}")

    def _audit(self, action: str, decision: str, text: str) -> None:
        """What has happened already, so a log that cannot be written stops nothing."""
        if trouble := self._guard.note(action, decision, text):
            self._say(trouble)

    def _control_window(self) -> None:
        """The workloads alone, for ``control_s`` and a seeded random moment. One bad operation in it makes the drill INVALID."""
        if not self._workloads:
            return
        with self.phase("control window"):
            self.observe(self._options.control_s)
            self.observe(self._random.uniform(0, self._options.phase_s))

    def _heal(self, injected: InjectedFault) -> None:
        """Never raises: a failed heal is an error of its own and hides nothing."""
        if not injected.open:
            return
        try:
            with self._signals.shield(self._say), self.phase(f"heal {injected.record.kind}"):
                self._busy(f"healing {injected.record.kind}", injected.heal)
        except Exception as err:  # noqa: BLE001  (whatever it is: the other faults must be healed, and the verdict written)
            self._given_up.append(injected)
            self._heal_error = "; ".join(filter(None, (self._heal_error, str(err) or repr(err))))
            self._say(f"HEAL FAILED: {err}")
            self._audit("heal", FAILED, f"{injected.record.kind} on {', '.join(injected.record.nodes)} ({injected.record.fault_id}): {err}")
            return
        if not any(one.open for one in self._faults):
            self._read_survivors("healed")

    def _after_heal(self) -> None:
        system = self._on()
        with self.phase("until whole"):
            try:
                seen = self._busy("waiting until the system is whole", lambda: system.prove_whole(self._options.whole_within_s))
                self.note(f"whole: {seen}")
            except GamedayError as err:
                self._extra.append(Finding("whole", Verdict.FAIL, f"After the heal the system did not become whole again: {err.what}"))
                self.note(f"not whole: {err}")
        gated = [one.name for one in self._workloads if one.spec.gated]
        if gated:
            self._wait_sustained(gated)
        if gated and self._budget.baseline_s is not None:
            self._wait_baseline(self._budget.baseline_s)
        self.observe(self._options.tail_s)

    def _wait_baseline(self, budget_s: float) -> None:
        """Until every gated workload's latency is back at its baseline, or so long that its budget is proven to be broken."""
        gated = [one.spec for one in self._workloads if one.spec.gated]
        slack_ns = int(max(spec.timeout_s or 1.0 for spec in gated) * NS)  # what is under way may still come out slow
        records = [one.record for one in self._faults]
        healed_ns = max(record.verified_ns or 0 for record in records)
        last_ns = healed_ns + int((budget_s + max(window_s(spec.rate_hz) for spec in gated) + 1.0) * NS) + slack_ns
        with self.phase("until latency is back"):
            while now_ns() < last_ns and not any(one.ended() for one in self._workloads):
                self.observe(STEP_S)
                began_ns = now_ns()
                if all_returned(read(self._history_path), records, began_ns - slack_ns):
                    return
                self.observe(3 * (now_ns() - began_ns) / NS)  # a long history takes its time to read: most of it belongs to the display

    def _wait_for_one(self, workload: RunningWorkload) -> bool:
        return self._wait_sustained([workload.name])

    def _window_s(self) -> float:
        return minimum_window_s(self._on().check_interval_s)

    def _wait_sustained(self, names: list[str]) -> bool:
        """Until these workloads have recovered in a sustained way since the fault (or the heal, where that is what counts)."""
        detect_s, sustained_s = self._on().detect_s, self._window_s()
        begun = now_ns()
        budgets_s = [self._budget.rto_s, *(one.spec.rto_s for one in self._workloads if one.name in names)]
        allowance_s = max((one for one in budgets_s if one is not None), default=self._options.horizon_s)
        horizon_ns = begun + int((max(allowance_s, detect_s) + 2 * sustained_s) * NS)
        while now_ns() < horizon_ns and not any(one.ended() for one in self._workloads if one.name in names):
            if self._history.trouble is not None:  # a full disk: nothing that is still to come would be recorded
                break
            self._tick()
            if self._sustained(names, detect_s, sustained_s):
                return True
        self._say("no sustained recovery within the horizon")
        return False

    def _sustained(self, names: list[str], detect_s: float, sustained_s: float) -> bool:
        issued = [one.record for one in self._faults if one.record.issued_ns is not None]
        if not issued:
            return True
        last = max(issued, key=lambda record: record.issued_ns or 0)
        since, landed = last.issued_ns or 0, last.landed_ns
        if self._budget.rto_from == "heal":
            if any(record.verified_ns is None for record in issued):
                return False
            # To the judge no run counts that ends before the manager could have noticed the fault, healed or not.
            noticed_ns = max(r.landed_ns or r.issued_ns or 0 for r in issued) + round(detect_s * NS)
            since, landed = max(r.heal_issued_ns or 0 for r in issued), max(r.verified_ns or 0 for r in issued)
            detect_s = max(0.0, (noticed_ns - landed) / NS)
        return self._tail.sustained_since(since, landed, detect_s, sustained_s, names)

    def _read_survivors(self, label: str, *, only_if_recovered: bool = False) -> None:
        if not any(workload.spec.ledger for workload in self._workloads):
            return
        system = self._on()
        names = [workload.name for workload in self._workloads if workload.spec.gated]
        if only_if_recovered and not (names and self._sustained(names, system.detect_s, self._window_s())):
            return
        try:
            found = self._busy(f"reading survivors ({label})", lambda: system.read_survivors(label))
            self._history.event("read", found)
        except (GamedayError, OSError) as err:
            self.note(f"survivors could not be read ({label}): {err}")
            if not only_if_recovered and self._bounds_loss():
                text = f"The survivors could not be read ({label}), so nothing is known of what was lost: {err}"
                self._extra.append(Finding("read", Verdict.INVALID, text))

    def _bounds_loss(self) -> bool:
        return self._budget.rpo_count is not None or self._budget.rpo_s is not None

    def _judge(self, end_ns: int, error: BaseException | None) -> Judgement:
        system = self._system
        detect_s, sustained_s = (system.detect_s, self._window_s()) if system is not None else (0.0, 5.0)
        records = [injected.record for injected in self._faults]
        judgement = judge(
            read(self._history_path),
            budget=self._budget,
            faults=records,
            window_s=sustained_s,
            detect_s=detect_s,
            end_ns=end_ns,
            acts=Acts(tuple(self._checks.records), tuple(self._runbooks.outcomes)),
        )
        extra = list(self._extra)
        if self._signals.reason:
            extra.append(Finding("aborted", Verdict.ABORTED, f"The drill was aborted and healed: {self._signals.reason}"))
        elif _interrupted(error):
            extra.append(Finding("interrupted", Verdict.ABORTED, f"The drill was interrupted ({type(error).__name__}) and healed."))
        elif error is not None and not isinstance(error, Judged):
            extra.append(Finding("error", Verdict.FAIL, f"The test raised {_named(error)}"))
        if not extra:
            return judgement
        lost = [f for f in judgement.findings if f.code == "rpo" and f.verdict is Verdict.FAIL]
        findings = sorted((*judgement.findings, *extra), key=lambda f: (f not in lost, -badness(f.verdict)))
        verdict = Verdict.FAIL if lost else worst([judgement.verdict, *(f.verdict for f in extra)])
        return msgspec.structs.replace(judgement, verdict=verdict, findings=tuple(findings))

    def _outcome(self, judgement: Judgement, end_ns: int, error: BaseException | None) -> DrillOutcome:
        told = error is not None and not isinstance(error, Judged)
        return DrillOutcome(
            run_id=self.run_id,
            drill=self.node_id,
            test=self._doc,
            scenario=self._scenario,
            environment=self._facts,
            operator=self._operator,
            host=host_facts(),
            git=git_facts(self._directory),
            versions=version_facts(),
            seed=self.seed,
            started_utc=self._began_utc,
            ended_utc=utc_label(utc_now()),
            begin_ns=self._begin_ns,
            end_ns=end_ns,
            budget=self._budget,
            expectation=self._expectation,
            judgement=judgement,
            faults=tuple(injected.record for injected in self._faults),
            phases=tuple(self._phases),
            system=self._described,
            caveats=self._caveats,
            history_path=str(self._history_path.resolve()),
            checks=tuple(self._checks.records),
            runbooks=tuple(self._runbooks.outcomes),
            error=_named(error) if told and error is not None else "",
            heal_error=self._heal_error,
        )

    # -- progress

    def _busy(self, what: str, work: Callable[[], T]) -> T:
        """Run ``work`` beside the display. A second thread, so that the frames go on; it is waited for to the end."""
        self._show(what)
        with ThreadPoolExecutor(1, thread_name_prefix="gameday") as pool:
            future = pool.submit(work)
            while not future.done():
                self._tick(what)
            return future.result()

    def _tick_until(self, what: str, *, until: threading.Event) -> None:
        """A tick that ends sooner where ``until`` is set."""
        until.wait(TICK_S)
        self._take_in(what)

    def _tick(self, what: str = "", *, force: bool = False) -> None:
        """Take in what the workloads wrote, and show a frame if one is due. Lasts TICK_S."""
        if not force:
            time.sleep(TICK_S)
        self._take_in(what, force=force)

    def _take_in(self, what: str, *, force: bool = False) -> None:
        self._tail.poll()
        if not self._signals.reason and (trouble := self._nets.trouble()):
            self.abort(trouble)
        if force or now_ns() - self._frame_ns >= FRAME_S * NS:
            self._show(what)

    def _say(self, text: str) -> None:
        """Show a line worth keeping; from another thread (a heal beside the display) it is shown with the next frame."""
        self._messages.append(text)
        if threading.get_ident() == self._thread:
            self._show()

    def _show(self, what: str = "") -> None:
        now = self._frame_ns = now_ns()
        running = [phase.name for phase in self._phases if phase.end_ns is None]
        issued = [one.record.issued_ns for one in self._faults if one.record.issued_ns is not None]
        frame = Progress(
            drill=self.node_id,
            phase=what or (running[-1] if running else "preparing"),
            elapsed_s=(now - self._begin_ns) / NS,
            since_fault_s=(now - issued[0]) / NS if issued else None,
            workloads=tuple(WorkloadProgress(c.name, c.good_per_s, c.bad_per_s, c.good, c.bad) for c in self._tail.counts(now)),
            message=self._messages.popleft() if self._messages else "",
        )
        self._watch(frame)
        if self._messages:
            self._show(what)


def _interrupted(error: BaseException | None) -> bool:
    return error is not None and not isinstance(error, Exception)


def _named(error: BaseException) -> str:
    """Type and first line."""
    text = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


__all__ = ["Drill", "DrillOptions", "HealFailed", "NotHealthy"]

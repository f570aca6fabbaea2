"""Concluded drills as data, with the history files that a real one writes: 200 op/s, 3 s control, a primary that loses power.

Plain arithmetic, seeded; nothing is broken and nothing is judged here.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from chaos.core.acts import CheckRecord, PhaseOutcome, RunbookOutcome, StepOutcome
from chaos.core.model import Budget, Expectation, FaultRecord, Finding, Interval, Phase, Verdict
from chaos.engine.outcome import DrillOutcome, EnvironmentFacts
from chaos.measure.history import SCHEMA, WorkloadInfo
from chaos.measure.result import (
    Availability,
    Control,
    Degradation,
    Detection,
    Judgement,
    ObjectiveResult,
    Outage,
    ReadSummary,
    Returned,
    Rpo,
    Rto,
    WorkloadResult,
)

BEGIN_NS = 7_000_000_000_000
DRILL = "suites/failover/test_postgres_power_loss.py::test_primary_power_loss[embedded]"
OUT_FROM_S, OUT_UNTIL_S, HEAL_S, VERIFIED_S, END_S = 3.104, 5.532, 11.2, 13.05, 16.0


def ns(moment_s: float) -> int:
    """Seconds from the drill's start on the history's clock."""
    return BEGIN_NS + round(moment_s * 1e9)


def write_history(
    path: Path,
    *,
    outages: Sequence[tuple[float, float]] = ((OUT_FROM_S, OUT_UNTIL_S),),
    end_s: float = END_S,
    rate_hz: float = 200.0,
    sticky: bool = True,
    error: str = "connection refused",
    seed: int = 7,
) -> Path:
    """A history in the documented format: operations of one or two workloads, and what was done to the system."""
    rng = random.Random(seed)
    lines: list[Any] = [["e", ns(0), "start", {"schema": SCHEMA, "drill": DRILL, "run_id": "r1", "utc": "2026-01-31T10:11:12.000Z"}]]
    names = ["writes", "sticky"] if sticky else ["writes"]
    for index, name in enumerate(names):
        info = WorkloadInfo(index, name, rate_hz if index == 0 else 50.0, 1.0, ns(0.2), ("append",), index == 0, True)
        lines.append(["e", ns(0.1), "workload", msgspec.to_builtins(info)])
        lines += _operations(index, info, outages, end_s, rng, error)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def _operations(
    index: int, info: WorkloadInfo, outages: Sequence[tuple[float, float]], end_s: float, rng: random.Random, error: str
) -> list[Any]:
    lines = []
    for k in range(int((end_s - 0.2) * info.rate_hz)):
        s = 0.2 + k / info.rate_hz
        t = s + rng.uniform(0.0001, 0.0006)
        out = next(((lo, hi) for lo, hi in outages if lo <= t < (hi if index == 0 else end_s)), None)
        latency = 0.002 * rng.lognormvariate(0, 0.45)
        outcome, text, settled = 0, "", t + latency
        if out is not None:
            hang = t < out[0] + 1.1
            outcome, settled = (2, t + 1.0) if hang else (3 if rng.random() < 0.4 else 1, t + 0.0008)
            text = "timeout after 1 s" if hang else (error if outcome == 1 else "no connection: no route to host")
        elif any(hi <= t < hi + 0.6 for _, hi in outages):
            settled = t + latency * 4
        line = [
            "o",
            index,
            k,
            ns(s),
            ns(t),
            ns(settled),
            outcome,
            0,
            index * 10**6 + k,
            "pg2" if outages and t > outages[0][1] else "pg1",
            1,
        ]
        lines.append([*line, text])
    return lines


def rto_passed() -> Rto:
    """One outage, bracketed by a millisecond or twenty."""
    outage = Outage(
        client=Interval(2.407, 2.436),
        incident=Interval(2.390, 2.541),
        g_sent_ns=ns(3.099),
        f_settled_ns=ns(3.106),
        l_sent_ns=ns(5.513),
        h_settled_ns=ns(5.535),
        bad=486,
    )
    return Rto(outage.client, Interval(2.390, 2.541), outage.client, None, (outage,))


def workload(name: str = "writes", *, gated: bool = True, rto: Rto | None = None) -> WorkloadResult:
    """Counts that fit the sample history."""
    return WorkloadResult(
        name=name,
        rate_hz=200.0 if gated else 50.0,
        timeout_s=1.0,
        gated=gated,
        ledger=True,
        scheduled=3160 if gated else 790,
        good=2674 if gated else 145,
        bad=290 if gated else 645,
        unsent=196 if gated else 0,
        lag_p99_s=0.0006,
        late_ratio=0.0,
        rto=rto,
        availability=Availability(0.8114, Interval(0.8108, 0.8132)) if gated else None,
        latency_p50_s=0.0021,
        latency_p99_s=0.0089,
    )


def rpo(*, lost: int = 0) -> Rpo:
    """A ledger of 2 819 acknowledged writes, read three times."""
    acked = 2819
    reads = tuple(
        ReadSummary(label, source, began_s, acked - lost, acked, lost)
        for label, source, began_s in (("recovered", "pg2", 10.9), ("healed", "pg2", 13.1), ("whole", "pg2", 15.9))
    )
    span = Interval(0.741, 0.768) if lost else Interval(0.0, 0.0)
    return Rpo(acked, lost, tuple(range(500, 500 + lost)), lost / acked, span, 3, 0, 0, 0, 0, reads)


def power_loss(number: int = 0, *, shift_s: float = 0.0) -> FaultRecord:
    """A fault that landed and healed, both proven."""
    return FaultRecord(
        fault_id=f"f{number}",
        kind="power-loss",
        nodes=("pg1",),
        params={"services": ["postgres"]},
        cause=True,
        planned_ns=ns(3.02 + shift_s),
        armed_ns=ns(3.04 + shift_s),
        issued_ns=ns(3.05 + shift_s),
        landed_ns=ns(3.098 + shift_s),
        heal_issued_ns=ns(HEAL_S + shift_s),
        healed_ns=ns(12.6 + shift_s),
        verified_ns=ns(VERIFIED_S + shift_s),
        landed_proof="pg1 (10.77.0.11) answers nobody: 3 of 3 echoes from pg2 lost, 0 processes left",
        healed_proof="state equals the one before: powered, 1 link up, services postgres running, no packet rules",
    )


def outcome(history: Path, **changes: Any) -> DrillOutcome:
    """A drill that passed; ``changes`` replace fields of the outcome, or of its judgement."""
    rto = rto_passed()
    judgement = Judgement(
        verdict=Verdict.PASS,
        findings=(),
        objectives=(
            ObjectiveResult("rto_client", 30.0, 2.407, 2.436, "s", Verdict.PASS, "writes"),
            ObjectiveResult("rto_incident", 30.0, 2.390, 2.541, "s", Verdict.PASS, "writes"),
            ObjectiveResult("rpo", 0, 0, 0, "writes", Verdict.PASS),
        ),
        rto=rto,
        rto_workload="writes",
        workloads=(workload(rto=rto), workload("sticky", gated=False)),
        rpo=rpo(),
        control=Control(ns(0.2), ns(3.05), 2.85, 570, 570, 0.0021, 0.0067),
    )
    of_judgement = {name: value for name, value in changes.items() if name in Judgement.__struct_fields__}
    of_outcome = {name: value for name, value in changes.items() if name not in of_judgement}
    sample = DrillOutcome(
        run_id="20260131-101112-7f3a",
        drill=DRILL,
        test="A replica takes over and no acknowledged write is lost when the primary loses power.",
        scenario="db-primary-failure",
        environment=EnvironmentFacts("embedded", "microhost", {"kernel": "6.1.0-18-amd64", "machine": "x86_64", "boot": "5f0c2a"}),
        operator="ada@example.org",
        host={"name": "drillbox", "cpus": "2", "memory": "7.8 GiB", "os": "Debian GNU/Linux 12"},
        git={"commit": "4f9c1f2a7be0c5a1d2e3f4a5b6c7d8e9f0a1b2c3", "branch": "main", "dirty": "no"},
        versions={"pytest-gameday": "0.1.0", "pytest": "9.2.0", "python": "3.11.2", "postgresql": "15.14"},
        seed=20260131,
        started_utc="2026-01-31T10:11:12.345Z",
        ended_utc="2026-01-31T10:11:28.412Z",
        begin_ns=ns(0),
        end_ns=ns(END_S + 0.067),
        budget=Budget(rto_s=30.0, rpo_count=0),
        expectation=Expectation(),
        judgement=msgspec.structs.replace(judgement, **of_judgement),
        faults=(power_loss(),),
        phases=(
            Phase("control window", ns(0.2), ns(3.02)),
            Phase("power-loss on pg1", ns(3.02), ns(11.2)),
            Phase("sustained run", ns(5.54), ns(10.6)),
            Phase("read survivors", ns(10.6), ns(11.2)),
            Phase("heal", ns(11.2), ns(13.05)),
            Phase("rejoin", ns(13.05), ns(15.9)),
        ),
        system={"postgresql": "15.14", "replication": "synchronous", "manager": "witness", "nodes": ["pg1", "pg2"], "detect_s": 1.5},
        caveats=("The witness promotes without fencing and without a quorum: it is a stand-in for an HA manager, not one.",),
        history_path=str(history),
    )
    return msgspec.structs.replace(sample, **of_outcome)


def lossy(history: Path) -> DrillOutcome:
    """The broken twin: asynchronous, 152 acknowledged writes lost, FAIL as expected."""
    return outcome(
        history,
        verdict=Verdict.FAIL,
        findings=(Finding("rpo", Verdict.FAIL, "152 of 2 819 acknowledged writes are gone (0 allowed), spanning 0.741 to 0.768 s."),),
        rpo=rpo(lost=152),
        expectation=Expectation(Verdict.FAIL, "rpo"),
        objectives=(
            ObjectiveResult("rto_client", 30.0, 2.407, 2.436, "s", Verdict.PASS, "writes"),
            ObjectiveResult("rpo", 0, 152, 152, "writes", Verdict.FAIL),
        ),
    )


def never_recovered(history: Path) -> DrillOutcome:
    """An outage without an end: no upper bound anywhere."""
    client, incident = Interval(12.2, None), Interval(12.18, None)
    outage = Outage(client, incident, ns(3.099), ns(3.106), ns(15.9), None, 2400)
    rto = Rto(client, incident, client, None, (outage,))
    fault = msgspec.structs.replace(power_loss(), heal_issued_ns=None, healed_ns=None, verified_ns=None, healed_proof="")
    return outcome(
        history,
        verdict=Verdict.FAIL,
        findings=(Finding("rto", Verdict.FAIL, "The service had not recovered when observation ended, 12.9 s after the fault."),),
        rto=rto,
        rpo=None,
        objectives=(ObjectiveResult("rto_client", 5.0, 12.2, None, "s", Verdict.FAIL, "writes"),),
        workloads=(workload(rto=rto),),
        faults=(fault,),
        heal_error="power-loss on pg1: the node did not boot within 30 s; last seen: no process answers",
    )


def invalid(history: Path) -> DrillOutcome:
    """Nothing was exercised: no fault, no control window."""
    return outcome(
        history,
        verdict=Verdict.INVALID,
        findings=(Finding("control", Verdict.INVALID, "There was no fault-free control window before the first fault."),),
        objectives=(),
        rto=None,
        rto_workload="",
        workloads=(),
        rpo=None,
        control=None,
        faults=(),
        phases=(),
    )


def rebuilt(name: str = "lost primary", *, failed: bool = False) -> RunbookOutcome:
    """A runbook of two phases; its second phase took longer than it may, or its last step failed."""
    return RunbookOutcome(
        name,
        not failed,
        ns(3.2),
        ns(5.4),
        (
            StepOutcome("look", "shell", "assess", "done", "postgres\npostgres", "pg2", 1.0, ns(3.2), ns(3.3)),
            StepOutcome("promote", "call", "fail over", "failed" if failed else "done", "pg2 takes writes", "", None, ns(3.4), ns(5.4)),
            *((StepOutcome("tell everybody", "playbook", "fail over"),) if failed else ()),
        ),
        (PhaseOutcome("assess", 5.0, ns(3.2), ns(3.3)), PhaseOutcome("fail over", 1.5, ns(3.4), ns(5.4))),
        30.0,
    )


def acts(history: Path) -> DrillOutcome:
    """Two gated workloads, a runbook with a phase over its budget, checks, a signal, and degradation."""
    reads_rto = Rto(Interval(0.9, 1.1), Interval(0.9, 1.2), Interval(0.9, 1.1), None, ())
    rto = rto_passed()
    returned = Returned(570, 0.0021, 0.0044, 0.00815, 0.0116, 2.0, 4, 0.0022, 0.0047, Interval(0.5, 0.75))
    over = ObjectiveResult("runbook", 1.5, 2.0, 2.0, "s", Verdict.FAIL, subject="lost primary: fail over")
    return outcome(
        history,
        verdict=Verdict.FAIL,
        findings=(
            Finding("runbook", Verdict.FAIL, "the phase 'fail over' of the runbook 'lost primary' took 2 s where 1.5 s are allowed"),
        ),
        expectation=Expectation(Verdict.FAIL, "runbook"),
        workloads=(workload(rto=rto), workload("reads", rto=reads_rto)),
        objectives=(
            ObjectiveResult("rto_client", 30.0, 2.407, 2.436, "s", Verdict.PASS, "writes"),
            ObjectiveResult("rto_client", 5.0, 0.9, 1.1, "s", Verdict.PASS, "reads"),
            ObjectiveResult("latency_p99", 0.2, 0.012, 0.015, "s", Verdict.PASS, "reads"),
            ObjectiveResult("error_rate", 0.001, 0.0004, 0.0004, "ratio", Verdict.PASS, "reads"),
            ObjectiveResult("baseline", 10.0, 0.5, 0.75, "s", Verdict.PASS, "reads"),
            ObjectiveResult("mttd", 5.0, 0.2, 0.45, "s", Verdict.PASS, subject="db-down"),
            over,
        ),
        degradations=(Degradation("writes", ns(3.05), ns(13.05), 2000, 290, 0.0021, Interval(1.0, None), returned),),
        detections=(
            Detection("db-down", 40, 1, "refused", ns(3.5), Interval(0.2, 0.45)),
            Detection("deaf", 40, 0, "", None, Interval(9.9, None)),
            Detection("blind", 2, 2, "refused", problem="it was never seen quiet"),
        ),
        checks=(
            CheckRecord("one primary", True, "pg2 takes writes", ns(6), ns(6.1), 3, 5.0),
            CheckRecord("no log", False, "error in line 3", ns(6.2), ns(6.3)),
        ),
        runbooks=(rebuilt(),),
    )


HOSTILE = "<script>alert('x')</script> & \"quotes\" $\\frac{1}{0}$ `code` | [a](b) \x1b[31mred\x1b[0m \x00"


def hostile(history: Path) -> DrillOutcome:
    """Text from outside that would like to be markup, everywhere it can get."""
    fault = msgspec.structs.replace(power_loss(), kind=HOSTILE, nodes=(HOSTILE,), landed_proof=HOSTILE, params={HOSTILE: HOSTILE})
    found = (Finding("rpo", Verdict.FAIL, HOSTILE), Finding(HOSTILE, Verdict.FAIL, HOSTILE))
    return outcome(
        history,
        verdict=Verdict.FAIL,
        findings=found,
        drill=f"suites/test_x.py::test_y[{HOSTILE}]",
        test=HOSTILE,
        scenario=HOSTILE,
        operator=HOSTILE,
        error=HOSTILE,
        heal_error=HOSTILE,
        caveats=(HOSTILE,),
        git={HOSTILE: HOSTILE},
        faults=(fault,),
        phases=(Phase(HOSTILE, ns(1), ns(4)),),
        runbooks=(
            RunbookOutcome(
                HOSTILE,
                False,
                ns(3),
                ns(4),
                (StepOutcome(HOSTILE, "shell", HOSTILE, "failed", HOSTILE, HOSTILE, None, ns(3), ns(4)),),
                (PhaseOutcome(HOSTILE, None, ns(3), ns(4)),),
            ),
        ),
        checks=(CheckRecord(HOSTILE, False, HOSTILE, ns(3), ns(4)),),
        detections=(Detection(HOSTILE, 1, 1, HOSTILE, ns(3.5), None, HOSTILE),),
        environment=EnvironmentFacts(HOSTILE, HOSTILE, {HOSTILE: HOSTILE}),
    )


def many_faults(history: Path, number: int = 40) -> DrillOutcome:
    """More faults, phases and long names than a chart has room for."""
    faults = tuple(power_loss(index, shift_s=0.05 * index) for index in range(number))
    phases = tuple(
        Phase(f"step {index} of a long story that nobody reads", ns(0.3 * index), ns(0.3 * index + 0.4)) for index in range(number)
    )
    return outcome(history, faults=faults, phases=phases)

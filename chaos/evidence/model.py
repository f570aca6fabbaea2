"""The report as typed data: what ``report.json`` holds, field by field. Every other form is rendered from it.

Not the place where facts become a report (:mod:`chaos.evidence.build`), nor where they are drawn. Times are seconds from
the drill's start, None where a state was never reached. ``docs/report.md`` explains every field to readers.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from chaos.core.model import Json, Verdict

SCHEMA: Literal["gameday.drill/1"] = "gameday.drill/1"


class Span(msgspec.Struct, frozen=True):
    """The truth lies in ``[lo_s, hi_s]``; ``hi_s`` None: no upper bound was seen (never recovered)."""

    lo_s: float
    hi_s: float | None


class Environment(msgspec.Struct, frozen=True):
    """Where the drill ran; ``identity`` pins the real thing (kernel, engine id, account)."""

    name: str
    kind: str
    identity: dict[str, str]


class Expectation(msgspec.Struct, frozen=True):
    """What the drill had to come out as. ``because`` is the code of the finding that must come first."""

    expect: Verdict
    because: str
    as_expected: bool


class Finding(msgspec.Struct, frozen=True):
    """One reason for a verdict."""

    code: str
    verdict: Verdict
    text: str


class Objective(msgspec.Struct, frozen=True):
    """One bound against what was measured, ``lo`` to ``hi``, in ``unit``. ``subject``: what it is about where that is no workload."""

    name: str
    bound: float
    lo: float
    hi: float | None
    unit: str
    verdict: Verdict
    workload: str
    subject: str = ""


class Outage(msgspec.Struct, frozen=True):
    """One outage with its corners: last good sent before, first bad settled, last bad sent, first good settled after."""

    client: Span
    incident: Span | None
    good_sent_s: float | None
    bad_settled_s: float
    bad_sent_s: float
    good_settled_s: float | None
    bad: int


class Rto(msgspec.Struct, frozen=True):
    """Recovery time. ``client``: as clients saw it; ``incident``: from the fault's issue; ``total``: all outages added up;
    ``after_heal``: from the heal, only where the drill asked for it. ``workload`` names the one it was measured on."""

    client: Span
    incident: Span
    after_heal: Span | None
    total: Span
    workload: str
    outages: list[Outage]


class Availability(msgspec.Struct, frozen=True):
    """``ratio``: good / scheduled; ``lo`` to ``hi``: the share of time without outage. Both from the fault to the end."""

    ratio: float
    lo: float
    hi: float | None


class Workload(msgspec.Struct, frozen=True):
    """One stream of operations. ``gated``: counts for RTO and availability; ``ledger``: its writes count for RPO."""

    name: str
    rate_hz: float
    timeout_s: float
    gated: bool
    ledger: bool
    scheduled: int
    good: int
    bad: int
    unsent: int
    lag_p99_s: float
    late_ratio: float
    latency_p50_s: float | None
    latency_p99_s: float | None
    rto: Rto | None
    availability: Availability | None


class Read(msgspec.Struct, frozen=True):
    """One read of everything that survived."""

    label: str
    source: str
    began_s: float
    rows: int
    acked_before: int
    lost: int


class Rpo(msgspec.Struct, frozen=True):
    """Acknowledged writes against what survived. ``lost_ids`` are the first 100; ``time`` is the span of the loss."""

    acked: int
    lost: int
    lost_ids: list[int]
    ratio: float
    time: Span
    recovered: int
    phantom: int
    duplicated: int
    mutated: int
    split_brain: int
    reads: list[Read]


class Proof(msgspec.Struct, frozen=True):
    """What was observed when the fault had landed, and when it had healed; empty: never observed."""

    landed: str
    healed: str


class Fault(msgspec.Struct, frozen=True):
    """One fault with the time (seconds from start) of every state that it reached."""

    id: str
    kind: str
    node: str
    nodes: list[str]
    params: dict[str, Json]
    cause: bool
    planned: float | None
    armed: float | None
    issued: float | None
    landed: float | None
    heal_issued: float | None
    healed: float | None
    verified: float | None
    proof: Proof


class Phase(msgspec.Struct, frozen=True):
    """A named stretch of the drill; ``end_s`` None: it never ended."""

    name: str
    begin_s: float
    end_s: float | None


class Control(msgspec.Struct, frozen=True):
    """The fault-free window that proves the system was up and the generator able."""

    begin_s: float
    end_s: float
    length_s: float
    operations: int
    good: int
    latency_p50_s: float | None
    latency_p99_s: float | None


class Returned(msgspec.Struct, frozen=True):
    """How latency came back to its baseline: ``interval`` counts from the heal's verification. ``limit_*``: what counts as back;
    ``last_*``: of the window of operations that decided."""

    baseline_operations: int
    baseline_p50_s: float
    baseline_p90_s: float
    limit_p50_s: float
    limit_p90_s: float
    window_s: float
    windows: int
    last_p50_s: float | None
    last_p90_s: float | None
    interval: Span | None


class Degradation(msgspec.Struct, frozen=True):
    """What clients of one workload saw from the fault's issue to its verified heal."""

    workload: str
    begin_s: float
    end_s: float
    operations: int
    errors: int
    error_rate: float | None
    latency_p50_s: float | None
    latency_p99: Span | None
    returned: Returned | None


class Detection(msgspec.Struct, frozen=True):
    """One signal that was watched. ``mttd`` None: it proves nothing, ``problem`` says why; without an upper end: it never fired."""

    name: str
    looks: int
    unseen: int
    fired_s: float | None
    mttd: Span | None
    problem: str


class Check(msgspec.Struct, frozen=True):
    """Something that had to hold, and what was seen."""

    name: str
    held: bool
    seen: str
    began_s: float
    took_s: float
    attempts: int
    within_s: float | None


class Step(msgspec.Struct, frozen=True):
    """One step of a runbook. ``state`` is ``done``, ``failed`` or ``not run``; ``where`` "": the machine of the drill."""

    name: str
    kind: str
    phase: str
    where: str
    state: str
    seen: str
    began_s: float | None
    took_s: float | None
    budget_s: float | None


class RunbookPhase(msgspec.Struct, frozen=True):
    """A part of a runbook; ``took_s`` None: it was not reached."""

    name: str
    began_s: float | None
    took_s: float | None
    budget_s: float | None


class Runbook(msgspec.Struct, frozen=True):
    """A runbook that was run. ``ok``: every step was done."""

    name: str
    ok: bool
    began_s: float
    took_s: float
    budget_s: float | None
    phases: list[RunbookPhase]
    steps: list[Step]


class Series(msgspec.Struct, frozen=True):
    """One workload, bin by bin. ``latency_*_s`` is None in a bin without a good operation."""

    workload: str
    gated: bool
    good: list[int]
    bad: list[int]
    latency_p50_s: list[float | None]
    latency_p99_s: list[float | None]


class ErrorLine(msgspec.Struct, frozen=True):
    """One error text, how often and when: ``at`` lists (bin, count)."""

    text: str
    count: int
    first_s: float
    last_s: float
    at: list[tuple[int, int]]


class Timeline(msgspec.Struct, frozen=True):
    """What the chart shows, so that it can be drawn again without the history.

    Bins are ``bin_s`` wide, the first begins at ``begin_s``; an operation falls into that of the time it was *scheduled* for,
    and its latency counts from there. ``note`` says why there is nothing to draw, where that is so.
    """

    begin_s: float
    bin_s: float
    note: str
    series: list[Series]
    errors: list[ErrorLine]


class History(msgspec.Struct, frozen=True):
    """The raw record. ``sha256`` is over its first ``bytes`` bytes; ``begin_ns`` is the drill's start on the history's clock.

    ``path`` is relative to the report where the history lies below it.
    """

    path: str
    sha256: str
    bytes: int
    begin_ns: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One drill, concluded, as an auditor reads it."""

    schema: Literal["gameday.drill/1"]
    run_id: str
    drill: str
    test: str
    scenario: str
    environment: Environment
    operator: str
    host: dict[str, str]
    git: dict[str, str]
    versions: dict[str, str]
    seed: int
    started_utc: str
    ended_utc: str
    duration_s: float
    verdict: Verdict
    expectation: Expectation
    findings: list[Finding]
    objectives: list[Objective]
    rto: Rto | None
    workloads: list[Workload]
    rpo: Rpo | None
    faults: list[Fault]
    phases: list[Phase]
    control: Control | None
    system: dict[str, Json]
    caveats: list[str]
    error: str
    heal_error: str
    timeline: Timeline
    history: History
    degradations: list[Degradation] = []
    detections: list[Detection] = []
    checks: list[Check] = []
    runbooks: list[Runbook] = []

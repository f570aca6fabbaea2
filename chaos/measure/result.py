"""What a judge returns: frozen data, in seconds, ready for a report. No arithmetic here."""

from __future__ import annotations

import msgspec

from chaos.core.model import Finding, Interval, Verdict


class Outage(msgspec.Struct, frozen=True):
    """One stretch between sustained runs in which at least one operation was bad.

    ``client`` is the RTO as clients saw it, ``incident`` the one from the fault's issue (None for a later outage of the same fault,
    after a sustained recovery). The four corner times (ns, monotonic) let a chart draw it: last good sent before (``g_sent_ns``),
    first bad settled (``f_settled_ns``), last bad sent (``l_sent_ns``), first good settled after (``h_settled_ns``; None: never
    recovered).
    """

    client: Interval
    incident: Interval | None
    g_sent_ns: int | None
    f_settled_ns: int
    l_sent_ns: int
    h_settled_ns: int | None
    bad: int


class Rto(msgspec.Struct, frozen=True):
    """Recovery time of one workload (seconds). ``client`` and ``incident`` are what the budget gates; ``total`` adds up every outage
    (flapping); ``after_heal`` counts from the heal and is set only where the drill asked for it. No outage at all: ``client``
    is ``[0, largest gap an outage could hide in]``."""

    client: Interval
    incident: Interval
    total: Interval
    after_heal: Interval | None
    outages: tuple[Outage, ...]


class Availability(msgspec.Struct, frozen=True):
    """``ratio`` = good / scheduled from the fault to the end of observation; ``time`` = 1 − Σ outage / T as an interval."""

    ratio: float
    time: Interval


class WorkloadResult(msgspec.Struct, frozen=True):
    """One workload, counted and measured. ``lag_p99_s`` is the dispatch lag t − s outside outages."""

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
    rto: Rto | None
    availability: Availability | None
    latency_p50_s: float | None
    latency_p99_s: float | None


class ReadSummary(msgspec.Struct, frozen=True):
    """One read of the survivors, counted. ``lost`` = acknowledged before the read began and absent from it."""

    label: str
    source: str
    began_s: float
    rows: int
    acked_before: int
    lost: int


class Rpo(msgspec.Struct, frozen=True):
    """The ledger against what survived. ``time`` is the span of loss in seconds (lo = hi = 0 where nothing is lost).

    ``recovered``: unknown outcome, present. ``phantom``: refused, present. ``split_brain``: acknowledged on a superseded
    timeline (those that are absent are in ``lost`` too).
    """

    acked: int
    lost: int
    lost_ids: tuple[int, ...]
    ratio: float
    time: Interval
    recovered: int
    phantom: int
    duplicated: int
    mutated: int
    split_brain: int
    reads: tuple[ReadSummary, ...]


class ObjectiveResult(msgspec.Struct, frozen=True):
    """One bound against what was measured. ``lo``/``hi`` in ``unit``; ``hi`` None: no upper bound was seen. ``subject``: what it is
    about where that is no workload: a signal, a runbook's part."""

    name: str
    bound: float
    lo: float
    hi: float | None
    unit: str
    verdict: Verdict
    workload: str = ""
    subject: str = ""


class Detection(msgspec.Struct, frozen=True):
    """One signal that was watched. ``mttd`` (seconds) lies in the interval, None where it proves nothing (``problem`` says why), with no
    upper end where it never fired. ``unseen`` of its ``looks`` could not see it."""

    name: str
    looks: int
    unseen: int
    last_unseen: str
    fired_ns: int | None = None
    mttd: Interval | None = None
    problem: str = ""


class Returned(msgspec.Struct, frozen=True):
    """How one workload's latency came back to its baseline after the heal. ``interval``: seconds from the heal's verification, None where
    no window could be looked at. ``limit_*``: what counts as back; ``last_*``: of the window that decided (the last one, if none did)."""

    baseline_operations: int
    baseline_p50_s: float
    baseline_p90_s: float
    limit_p50_s: float
    limit_p90_s: float
    window_s: float
    windows: int
    last_p50_s: float | None
    last_p90_s: float | None
    interval: Interval | None


class Degradation(msgspec.Struct, frozen=True):
    """What clients of one workload saw from the fault's issue to its verified heal. ``latency_p99``: where the 99th percentile lies, by
    order statistics; an operation that was not good counts as slower than any. ``returned``: None without a heal or a control window."""

    workload: str
    begin_ns: int
    end_ns: int
    operations: int
    errors: int
    latency_p50_s: float | None
    latency_p99: Interval | None
    returned: Returned | None

    @property
    def error_rate(self) -> float | None:
        return self.errors / self.operations if self.operations else None


class Control(msgspec.Struct, frozen=True):
    """The fault-free window before the first fault: the proof that the system was up and the generator able."""

    begin_ns: int
    end_ns: int
    length_s: float
    operations: int
    good: int
    latency_p50_s: float | None
    latency_p99_s: float | None


class Judgement(msgspec.Struct, frozen=True):
    """Verdict first; ``findings`` worst first, the first of them being the reason of the verdict (empty on PASS)."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    objectives: tuple[ObjectiveResult, ...]
    rto: Rto | None
    rto_workload: str
    workloads: tuple[WorkloadResult, ...]
    rpo: Rpo | None
    control: Control | None
    degradations: tuple[Degradation, ...] = ()
    detections: tuple[Detection, ...] = ()

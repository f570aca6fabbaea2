"""Counts, lags, latencies and availability of one workload. Pure; knows no budget and gives no verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from chaos.core.clock import NS
from chaos.core.model import Interval
from chaos.measure.columns import Bools, Int64
from chaos.measure.outage import Mark, Outages, Rules, measure_rto
from chaos.measure.result import Availability, Control, Rto, WorkloadResult
from chaos.measure.stream import Stream, interval_ns

LATE_FLOOR_NS = 10_000_000


def percentile_s(values_ns: Int64, percent: float) -> float | None:
    """A percentile in seconds; None of nothing."""
    return float(np.percentile(values_ns, percent)) / NS if len(values_ns) else None


def _drained(stream: Stream, late: Bools, found: Outages | None) -> Outages | None:
    """``found`` with each outage lasting until its backlog is gone: what waited for a connection through the outage is sent right after
    it, hence late by the outage's doing and not the generator's. That takes τ at most, as long as hung operations hold connections;
    whatever is late after that counts."""
    if found is None:
        return None
    due, on_time = stream.s, np.sort(stream.s[~late])
    spans = []
    for span in found.spans:
        if span.h_r is not None and len(due):
            next_on_time = np.searchsorted(on_time, span.h_r, "right")
            limit_ns = span.h_r + round(stream.info.timeout_s * NS)
            end_ns = int(on_time[next_on_time]) - 1 if next_on_time < len(on_time) else limit_ns
            spans.append(replace(span, h_r=min(max(end_ns, span.h_r), limit_ns)))
        else:
            spans.append(span)
    return replace(found, spans=tuple(spans))


def _outside(found: Outages | None, moments_ns: Int64) -> Bools:
    """Which moments lie outside every outage (from g sent to h settled; to the end where it never recovered)."""
    if found is None or not found.spans:
        return np.ones(len(moments_ns), np.bool_)
    forever = np.iinfo(np.int64).max
    begins = np.array([span.b_t if span.g_t is None else span.g_t for span in found.spans], np.int64)
    ends = np.array([forever if span.h_r is None else span.h_r for span in found.spans], np.int64)
    order = np.argsort(begins, kind="stable")
    begins, ends = begins[order], np.maximum.accumulate(ends[order])
    position = np.searchsorted(begins, moments_ns, "right") - 1
    return (position < 0) | (moments_ns > ends[np.maximum(position, 0)])


def lateness(stream: Stream, found: Outages | None) -> tuple[float, float]:
    """Dispatch lag p99 (seconds) of what was sent outside outages, and the share of operations due there that were sent later than
    ``s + max(Δ, 10 ms)`` or not at all (unsent, missing)."""
    lag = stream.t - stream.s
    late = (lag > max(interval_ns(stream.info), LATE_FLOOR_NS)) | stream.unsent
    found = _drained(stream, late, found)
    outside = _outside(found, stream.s)
    absent = int(_outside(found, stream.missing_s).sum())
    due = int(outside.sum()) + absent
    sent = lag[outside & ~stream.unsent]
    return percentile_s(sent, 99) or 0.0, (int((late & outside).sum()) + absent) / due if due else 0.0


def availability(stream: Stream, rto: Rto, first_ns: int, end_ns: int) -> Availability | None:
    """From the first fault to the end of observation; None where nothing was due then. Missing operations are scheduled and not good."""
    due = stream.s >= first_ns
    scheduled = int(due.sum()) + int((stream.missing_s >= first_ns).sum())
    if not scheduled:
        return None
    end_ns = min(end_ns, int(stream.r.max()))
    whole_s = max(1, end_ns - first_ns) / NS
    down_hi = 0.0
    for outage in rto.outages:
        begin_ns = first_ns if outage.g_sent_ns is None else max(first_ns, outage.g_sent_ns)
        down_hi += (end_ns - begin_ns) / NS if outage.client.hi is None else outage.client.hi
    if not rto.outages:
        down_hi = whole_s if rto.client.hi is None else rto.client.hi
    time = Interval(max(0.0, 1 - down_hi / whole_s), max(0.0, 1 - rto.total.lo / whole_s))
    return Availability(int((due & stream.good).sum()) / scheduled, time)


def workload_result(
    stream: Stream, marks: Sequence[Mark], rules: Rules, end_ns: int, *, after_heal: bool
) -> tuple[WorkloadResult, Outages | None]:
    """One workload, counted and measured; without a fault there is no RTO and no availability."""
    info = stream.info
    rto, found, available = None, None, None
    if marks and len(stream):
        rto, found = measure_rto(stream, marks, rules, after_heal=after_heal)
        available = availability(stream, rto, marks[0].issued_ns, end_ns)
    lag_p99_s, late_ratio = lateness(stream, found)
    latency = (stream.r - stream.s)[stream.good]
    result = WorkloadResult(
        name=info.name,
        rate_hz=info.rate_hz,
        timeout_s=info.timeout_s,
        gated=info.gated,
        ledger=info.ledger,
        scheduled=len(stream) + len(stream.missing_s),
        good=int(stream.good.sum()),
        bad=int(stream.bad.sum()),
        unsent=int(stream.unsent.sum()),
        lag_p99_s=lag_p99_s,
        late_ratio=late_ratio,
        rto=rto,
        availability=available,
        latency_p50_s=percentile_s(latency, 50),
        latency_p99_s=percentile_s(latency, 99),
    )
    return result, found


def control_of(streams: Sequence[Stream], first_ns: int) -> Control | None:
    """The window from the moment all gated workloads run to the first fault; None where one of them had settled nothing by then."""
    gated = [stream for stream in streams if stream.info.gated]
    settled = [stream.r <= first_ns for stream in gated]
    if not gated or not all(bool(mask.any()) for mask in settled):
        return None
    begin_ns = max(int(stream.t[mask].min()) for stream, mask in zip(gated, settled, strict=True))
    latency = np.concatenate([(stream.r - stream.s)[mask & stream.good] for stream, mask in zip(gated, settled, strict=True)])
    return Control(
        begin_ns=begin_ns,
        end_ns=first_ns,
        length_s=(first_ns - begin_ns) / NS,
        operations=sum(int(mask.sum()) for mask in settled),
        good=len(latency),
        latency_p50_s=percentile_s(latency, 50),
        latency_p99_s=percentile_s(latency, 99),
    )

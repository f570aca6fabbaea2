"""Histories for the tests of measuring: random ones with small numbers (ties and edges are common), simulated ones with a known truth."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import oracle
from hypothesis import strategies as st

from chaos.core.model import FaultRecord
from chaos.measure.columns import ReadColumns, columns_of
from chaos.measure.history import Event, History, Operation, Outcome, WorkloadInfo
from chaos.measure.outage import Mark, Rules
from chaos.measure.stream import Stream, stream_of

FOREVER = 2**62
MS = 1_000_000
S = 1_000_000_000


def workload_info(step: int, timeout: int, *, origin: int = 0, index: int = 0, name: str = "w", **more: object) -> WorkloadInfo:
    return WorkloadInfo(index, name, 1e9 / step, timeout / 1e9, origin, **more)  # type: ignore[arg-type]


def operations(ops: Iterable[oracle.Op], index: int = 0) -> list[Operation]:
    return [Operation(index, op.k, op.s, op.t, op.r, op.outcome, 0, op.id, None, op.timeline) for op in ops]


def stream(ops: Sequence[oracle.Op], setting: oracle.Setting) -> Stream:
    info = workload_info(setting.step, setting.timeout, origin=setting.origin)
    return stream_of(columns_of(operations(ops)), info, FOREVER)


def rules(setting: oracle.Setting) -> Rules:
    return Rules(setting.window, setting.detect, setting.epsilon)


def marks(faults: Sequence[oracle.Fault]) -> list[Mark]:
    return [Mark(fault.issued, fault.landed) for fault in sorted(faults, key=lambda fault: fault.issued)]


def history(
    ops: Sequence[Operation],
    infos: Sequence[WorkloadInfo],
    reads: Sequence[tuple[int, Sequence[int]]] = (),
    *,
    mutated: Sequence[int] = (),
    start_ns: int = 0,
) -> History:
    """A history in memory. Each read is (began, ids)."""
    columns = [
        ReadColumns(f"read{i}", "", began, began, np.array(ids, np.int64), np.array(mutated, np.int64))
        for i, (began, ids) in enumerate(reads)
    ]
    return History("", columns_of(ops), (Event(start_ns, "start", {}),), tuple(infos), tuple(columns))


def fault_record(issued: int | None, landed: int | None, **more: object) -> FaultRecord:
    return FaultRecord("f1", "power-loss", ("pg1",), {}, issued_ns=issued, landed_ns=landed, **more)  # type: ignore[arg-type]


# --- random, with small numbers

_SEGMENTS = ("good", "good", "good", "refuse", "hang", "unsent", "mixed", "absent", "late")


@st.composite
def random_histories(draw: st.DrawFn) -> tuple[list[oracle.Op], list[oracle.Fault], oracle.Setting]:
    """Stretches of good, refused, hanging, unsent, mixed, missing and late operations, cut by one to three faults anywhere."""
    step, timeout = draw(st.sampled_from([1, 5, 10])), draw(st.integers(1, 40))
    segments = draw(st.lists(st.tuples(st.sampled_from(_SEGMENTS), st.integers(1, 14)), min_size=1, max_size=9))
    rng = random.Random(draw(st.integers(0, 2**32)))
    ops: list[oracle.Op] = []
    k = 0
    for kind, length in segments:
        for _ in range(length):
            op = _random_operation(rng, kind, k, step, timeout)
            ops += [op] if op else []
            k += 1
    rng.shuffle(ops)
    end = k * step + 2 * timeout
    faults = []
    for issued in draw(st.lists(st.integers(0, end), min_size=1, max_size=3)):
        faults.append(oracle.Fault(issued, issued + draw(st.integers(0, 20))))
    epsilon = draw(st.sampled_from([0.0, 0.0, 0.0, 0.1, 0.3]))
    return ops, faults, oracle.Setting(timeout, draw(st.integers(1, 80)), draw(st.integers(0, 60)), epsilon, 0, step)


def _random_operation(rng: random.Random, kind: str, k: int, step: int, timeout: int) -> oracle.Op | None:
    s = k * step
    t = s + rng.randint(0, 3) + (rng.randint(0, 100) if kind == "late" else 0)
    if kind == "mixed":
        kind = rng.choice(["good", "refuse", "hang", "unsent"])
    quick, identity, timeline = rng.randint(0, min(timeout, 8)), rng.choice([None, k, k, k]), rng.choice([None, 1, 1, 2, 3])
    if kind == "absent":
        return None
    if kind == "refuse":
        return oracle.Op(k, s, t, t + quick, rng.choice([oracle.FAILED, oracle.UNKNOWN]), identity, timeline)
    if kind == "hang":
        return oracle.Op(
            k, s, t, t + timeout + rng.randint(0, 5), rng.choice([oracle.UNKNOWN, oracle.UNKNOWN, oracle.OK]), identity, timeline
        )
    if kind == "unsent":
        return oracle.Op(k, s, s + timeout, s + timeout, oracle.UNSENT, identity)
    return oracle.Op(k, s, t, t + quick, oracle.OK, identity, timeline)


# --- simulated, with a known truth


@dataclass(frozen=True)
class Simulated:
    """A server that is down in ``downs`` (half-open, ns) and the operations of a workload against it."""

    ops: list[Operation]
    info: WorkloadInfo
    downs: list[tuple[int, int]]
    end: int


def simulate(
    rng: random.Random,
    downs: Sequence[tuple[int, int]],
    *,
    length: int,
    mode: str,
    step: int = 5 * MS,
    timeout: int = 200 * MS,
    lag: int = MS,
    stalls: Sequence[tuple[int, int]] = (),
    connections: int = 10_000,
) -> Simulated:
    """Open-loop operations against a server that, while it is down, refuses (``refuse``), never answers (``hang``) or answers when it is
    back (``freeze``). It decides at an instant between sending and settling. ``stalls``: the generator sends nothing in them."""
    ops, busy_until = [], [0] * min(connections, 64)
    pooled = connections < 10_000
    for k in range(length // step):
        s = k * step
        t = s + rng.randint(0, lag)
        t = max([t] + [end for begin, end in stalls if begin <= t < end])
        slot = min(range(connections), key=lambda i: busy_until[i]) if pooled else 0
        if pooled and busy_until[slot] > t:
            if busy_until[slot] > s + timeout:
                ops.append(Operation(0, k, s, s + timeout, s + timeout, Outcome.UNSENT))
                continue
            t = busy_until[slot]
        there, back = rng.randint(10_000, 2 * MS), rng.randint(10_000, 2 * MS)
        down = next((one for one in downs if one[0] <= t + there < one[1]), None)
        if down is None:
            outcome, r = Outcome.OK, t + there + back
        elif mode == "refuse":
            outcome, r = rng.choice([Outcome.FAILED, Outcome.UNKNOWN]), t + there + back
        elif mode == "freeze" and down[1] + back - t <= timeout:
            outcome, r = Outcome.OK, down[1] + back
        else:
            outcome, r = Outcome.UNKNOWN, t + timeout
        busy_until[slot] = r
        ops.append(Operation(0, k, s, t, r, outcome))
    rng.shuffle(ops)
    return Simulated(ops, workload_info(step, timeout), list(downs), length)

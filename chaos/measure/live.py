"""Follows a history while it is being written: counters for the display, and "has it recovered?" for the runner. Gives no verdict.

Recovery is decided by the very function that the judge uses (:func:`chaos.measure.outage.find_outages`), on what has been written so far:
operations in flight are *missing* and hence not good. It is consulted only when recovery is possible at all (a whole window has passed
since the last bad operation) and its yes is kept until an operation arrives that is not good, or that leaves a gap in the numbers (an
operation in flight), so the cost per operation stays constant as long as all is well; while operations are unsent or in flight each look
goes over the whole history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from chaos.core.clock import NS, now_ns
from chaos.measure.columns import Int64
from chaos.measure.history import Operation, WorkloadInfo
from chaos.measure.outage import Mark, Rules, find_outages
from chaos.measure.reader import WireEvent, decode_lines
from chaos.measure.stream import Stream, classify, missing

READ_BYTES = 1 << 20
BUCKET_NS = 100_000_000
BUCKETS = 10


@dataclass(frozen=True, slots=True)
class Counts:
    """One workload so far. ``bad`` includes unsent operations; the rates are those of the last second."""

    name: str
    good: int
    bad: int
    unsent: int
    good_per_s: float
    bad_per_s: float


class _Follower:
    """One workload: its operations as growing arrays, its counters, and the recovery that was found last."""

    def __init__(self, info: WorkloadInfo) -> None:
        self.info = info
        self.good = self.bad = self.unsent = 0
        self._first, self._last, self._count = 1 << 62, -1, 0
        self._buckets: dict[int, list[int]] = {}
        self._chunks: list[Int64] = []
        self._latest_sent_ns = 0
        self._spoilt: list[Int64] = []
        self._found: tuple[Mark, Rules] | None = None

    def add(self, ops: Sequence[Operation]) -> None:
        n = len(ops)
        rows = np.array([(op.k, op.s, op.t, op.r, op.outcome) for op in ops], np.int64).T
        self._chunks.append(rows)
        good, unsent = classify(self.info, rows[2], rows[3], rows[4].astype(np.int8))
        n_good, n_unsent = int(good.sum()), int(unsent.sum())
        self.good += n_good
        self.bad += n - n_good
        self.unsent += n_unsent
        self._latest_sent_ns = max(self._latest_sent_ns, int(rows[2].max()))
        self._first, self._last, self._count = min(self._first, int(rows[0].min())), max(self._last, int(rows[0].max())), self._count + n
        if n_good < n or self._last - self._first + 1 != self._count:  # a number that is missing is an operation in flight: not good yet
            self._found = None
        if n_good < n:
            self._spoilt.append(rows[2:4, ~good & ~unsent])
        for bucket, fine in zip((rows[3] // BUCKET_NS).tolist(), good.tolist(), strict=True):
            self._buckets.setdefault(bucket, [0, 0])[0 if fine else 1] += 1

    def counts(self, at_ns: int) -> Counts:
        newest = at_ns // BUCKET_NS
        self._buckets = {bucket: pair for bucket, pair in self._buckets.items() if bucket > newest - 2 * BUCKETS}
        last = [pair for bucket, pair in self._buckets.items() if newest - BUCKETS <= bucket < newest]
        scale = NS / (BUCKET_NS * BUCKETS)
        good_per_s, bad_per_s = scale * sum(pair[0] for pair in last), scale * sum(pair[1] for pair in last)
        return Counts(self.info.name, self.good, self.bad, self.unsent, good_per_s, bad_per_s)

    def _possible(self, mark: Mark, rules: Rules) -> bool:
        """Could there be a sustained window by now? Cheap, and never wrongly no."""
        earliest = max(mark.issued_ns + rules.window_ns, mark.landed_ns + rules.detect_ns)
        if rules.epsilon == 0 and self._spoilt:
            spoilt = self._spoilt = [np.concatenate(self._spoilt, axis=1)]
            since = spoilt[0][:, spoilt[0][1] > mark.issued_ns]
            if since.shape[1]:
                earliest = max(earliest, int(since[0].max()) + rules.window_ns)
        return self._latest_sent_ns >= earliest

    def stream(self) -> Stream:
        """Everything so far, as the judge would see it."""
        rows = np.concatenate(self._chunks, axis=1) if self._chunks else np.empty((5, 0), np.int64)
        self._chunks = [rows]
        k, s, t, r = rows[0], rows[1], rows[2], rows[3]
        outcome = rows[4].astype(np.int8)
        good, unsent = classify(self.info, t, r, outcome)
        return Stream(self.info, k, s, t, r, np.zeros(len(k), np.int16), outcome, good, unsent, missing(self.info, k))

    def recovered(self, mark: Mark, rules: Rules) -> bool:
        if self._found == (mark, rules):
            return True
        if not self._possible(mark, rules):
            return False
        sustained = find_outages(self.stream(), [mark], rules).sustained
        self._found = (mark, rules) if sustained else None
        return sustained


class Tail:
    """Reads what was appended to a history since the last ``poll``. The file need not exist yet. Not thread-safe."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._offset = 0
        self._line = 1
        self._rest = b""
        self._followers: dict[int, _Follower] = {}
        self._early: dict[int, list[Operation]] = {}

    def poll(self) -> None:
        """Take in all complete lines that are there now.

        Raises:
            GamedayError: naming file and line, where one does not decode.
        """
        if not self.path.exists():
            return
        with open(self.path, "rb") as file:
            file.seek(self._offset)
            while block := file.read(READ_BYTES):
                self._offset += len(block)
                self._take(block)

    def _take(self, block: bytes) -> None:
        cut = block.rfind(b"\n") + 1
        if not cut:
            self._rest += block
            return
        data, self._rest = self._rest + block[:cut], block[cut:]
        lines = decode_lines(data, path=str(self.path), first_line=self._line)
        self._line += data.count(b"\n")
        by_workload: dict[int, list[Operation]] = {}
        for line in lines:
            if isinstance(line, WireEvent):
                if line.type == "workload":
                    info = msgspec.json.decode(line.data, type=WorkloadInfo)
                    self._followers[info.index] = _Follower(info)
            else:
                by_workload.setdefault(line.w, []).append(line)
        for index, ops in by_workload.items():
            early = self._early.pop(index, [])
            if index in self._followers:
                self._followers[index].add(early + ops)
            else:
                self._early[index] = early + ops
        for index in [index for index in self._early if index in self._followers]:
            self._followers[index].add(self._early.pop(index))

    def counts(self, at_ns: int | None = None) -> tuple[Counts, ...]:
        """Every workload so far; the rates are those of the second before ``at_ns`` (default: now)."""
        moment = now_ns() if at_ns is None else at_ns
        return tuple(follower.counts(moment) for _, follower in sorted(self._followers.items()))

    def sustained_since(
        self,
        fault_ns: int,
        landed_ns: int | None,
        detect_s: float,
        window_s: float,
        workloads: Sequence[str] | None = None,
        *,
        epsilon: float = 0.0,
    ) -> bool:
        """Has every workload named (default: every gated one) recovered in a sustained way, or not failed for as long, since the fault?

        ``fault_ns`` is when the last fault was issued, ``landed_ns`` when it was proven (None: count from the issue). False while a
        workload has not announced itself or there is none.
        """
        mark = Mark(fault_ns, fault_ns if landed_ns is None else landed_ns)
        rules = Rules.of(window_s, detect_s, epsilon)
        known = {follower.info.name: follower for follower in self._followers.values()}
        names = [name for name, follower in known.items() if follower.info.gated] if workloads is None else list(workloads)
        return bool(names) and all(name in known and known[name].recovered(mark, rules) for name in names)

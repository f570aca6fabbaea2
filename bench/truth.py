"""Is the reported recovery time true? Outages of known start and end, measured by the real workload process and the real arithmetic.

A loopback server (:mod:`bench.outage_server`) goes down and up on a seeded plan and logs when; its log is the truth. A workload of
200 op/s runs against it; every outage that the judge finds is compared with the truth it belongs to. An outage that was missed, split or
merged with another counts as wrong. Lengths are spread evenly on a logarithmic scale, phases at random.
"""

from __future__ import annotations

import math
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy

from bench.outage_server import OutagePlan, Truth, server_argv
from bench.row import Row, command, finish
from chaos.core.clock import NS, now_ns
from chaos.measure.history import read_history
from chaos.measure.outage import Mark, Rules, measure_rto
from chaos.measure.result import Outage
from chaos.measure.stream import stream_of
from chaos.measure.worker import WorkerSpec, drain_s, worker_argv, write_spec
from chaos.measure.workload import WorkloadSpec

RATE_HZ, TIMEOUT_S, WINDOW_S = 200.0, 0.2, 0.5
SHORTEST_S, LONGEST_S = 0.05, 5.0
_CLIENT = Path(__file__).resolve().parent / "line_client.py"
_SAYS = {"refuse": "refuses", "hang": "never answers"}


class Compared(NamedTuple):
    """One true outage beside what was reported for it (None: nothing, or not exactly one)."""

    truth_s: float
    reported: Outage | None

    @property
    def contained(self) -> bool:
        if self.reported is None:
            return False
        client = self.reported.client
        return client.lo <= self.truth_s and (client.hi is not None and self.truth_s <= client.hi)

    @property
    def width_s(self) -> float:
        if self.reported is None or self.reported.client.hi is None:
            return math.inf
        return self.reported.client.hi - self.reported.client.lo


class Pair:
    """One server and one workload against it."""

    def __init__(self, mode: str, outages: tuple[tuple[float, float], ...], directory: Path) -> None:
        self.mode, self.directory = mode, directory
        directory.mkdir()
        self.lasts_s = sum(gap + length for gap, length in outages) + WINDOW_S + 2 * TIMEOUT_S + 0.5
        plan = directory / "plan.json"
        plan.write_bytes(msgspec.json.encode(OutagePlan(mode, outages, str(directory / "truth.jsonl"))))
        self.server = subprocess.Popen(server_argv(plan), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.server.stdout is not None
        self.begin_ns = now_ns()
        port = int(self.server.stdout.readline())
        workload = WorkloadSpec(
            name=mode,
            operation=f"{_CLIENT}::ask",
            connect=f"{_CLIENT}::connect",
            params={"port": port},
            rate_hz=RATE_HZ,
            timeout_s=TIMEOUT_S,
        )
        spec = WorkerSpec(workload=workload, index=0, history=str(directory / "history.jsonl"))
        self.worker = subprocess.Popen(worker_argv(write_spec(directory / "spec.json", spec)), stdin=subprocess.PIPE)

    def finish(self) -> None:
        """Wait for the plan's end, then stop both."""
        time.sleep(max(0.0, self.begin_ns / NS + self.lasts_s - now_ns() / NS))
        self.worker.terminate()
        if code := self.worker.wait(drain_s(TIMEOUT_S)):
            sys.exit(f"the worker ended with {code}")
        self.server.communicate(timeout=5)

    def kill(self) -> None:
        """Whatever still runs ends."""
        for process in (self.worker, self.server):
            if process.poll() is None:
                process.kill()
                process.wait()

    def compared(self) -> list[Compared]:
        """Every true outage with what the judge says of it."""
        truths = msgspec.json.Decoder(Truth).decode_lines((self.directory / "truth.jsonl").read_bytes())
        history = read_history(self.directory / "history.jsonl")
        stream = stream_of(history.columns, history.workloads[0], now_ns())
        issued_ns = history.workloads[0].origin_ns + int(0.1 * NS)
        rto, _ = measure_rto(stream, [Mark(issued_ns, issued_ns)], Rules.of(WINDOW_S, 0.0))
        return [Compared((truth.up_ns - truth.down_ns) / NS, self._reported(truth, truths, rto.outages)) for truth in truths]

    def _reported(self, truth: Truth, truths: Sequence[Truth], outages: Sequence[Outage]) -> Outage | None:
        near = [outage for outage in outages if _overlap(outage, truth)]
        if len(near) != 1 or sum(_overlap(near[0], other) for other in truths) != 1:
            return None
        return near[0]


def _overlap(outage: Outage, truth: Truth) -> bool:
    return (
        outage.f_settled_ns >= truth.down_ns and (outage.g_sent_ns or 0) <= truth.up_ns and outage.l_sent_ns <= truth.up_ns + TIMEOUT_S * NS
    )


def plan(mode: str, count: int, seed: str) -> tuple[tuple[float, float], ...]:
    """``count`` outages: (gap before, length) in seconds."""
    rng = random.Random(seed)
    shortest_s = TIMEOUT_S if mode == "hang" else SHORTEST_S
    settle_s = WINDOW_S + (2 * TIMEOUT_S if mode == "hang" else 0.0) + 0.15
    lengths = [math.exp(rng.uniform(math.log(shortest_s), math.log(LONGEST_S))) for _ in range(count)]
    gaps = [settle_s + rng.uniform(0.0, 0.1) + (1.0 if number == 0 else 0.0) for number in range(count)]
    return tuple(zip(gaps, lengths, strict=True))


def run(mode: str, count: int, parallel: int, seed: int, directory: Path) -> list[Compared]:
    """``count`` outages, shared among ``parallel`` servers."""
    shares = [len(range(number, count, parallel)) for number in range(min(parallel, count))]
    pairs = []
    try:
        for number, share in enumerate(shares):
            pairs.append(Pair(mode, plan(mode, share, f"{seed}/{mode}/{number}"), directory / f"{mode}{number}"))
        for pair in pairs:
            pair.finish()
        return [one for pair in pairs for one in pair.compared()]
    finally:
        for pair in pairs:
            pair.kill()


def rows(mode: str, results: Sequence[Compared]) -> list[Row]:
    """The figures of one mode."""
    contained = sum(one.contained for one in results)
    width_ms = float(numpy.median([one.width_s for one in results])) * 1e3
    bound_ms = 25.0 + (2e3 * TIMEOUT_S if mode == "hang" else 0.0)
    formula = f"25 ms + 2τ = {bound_ms:g} ms" if mode == "hang" else "25 ms"
    lengths_s = [one.truth_s for one in results]
    what = f"{len(results)} outages of {min(lengths_s):.2f}–{max(lengths_s):.1f} s, server {_SAYS[mode]}: truth in the interval"
    share = contained / len(results)
    return [
        Row(what, "≥ 99 %", f"{share:.1%} ({contained} of {len(results)})", share >= 0.99),
        Row(
            f"median width of the interval, {RATE_HZ:g} op/s, τ = {TIMEOUT_S:g} s",
            f"≤ {formula}",
            f"{width_ms:.1f} ms",
            width_ms <= bound_ms,
        ),
    ]


def main(argv: Sequence[str]) -> int:
    """Print the table; 1 where a figure was not reached."""
    parser = command("truth", __doc__)
    parser.add_argument("--count", type=int, help="outages of each kind (default 200; quick: 20)")
    parser.add_argument("--parallel", type=int, default=4, help="servers and workloads at a time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mode", choices=["refuse", "hang"], action="append", help="default: both")
    options = parser.parse_args(argv)
    count = options.count or (20 if options.quick else 200)
    figures = []
    for mode in options.mode or ["refuse", "hang"]:
        with tempfile.TemporaryDirectory(prefix="gameday-truth-") as directory:
            results = run(mode, count, options.parallel, options.seed, Path(directory))
        figures += rows(mode, results)
        for one in results:
            if not one.contained:
                print(f"{mode}: truth {one.truth_s * 1e3:.3f} ms, reported {one.reported}", file=sys.stderr)
    return finish(figures, options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""How long the judge takes, and how much memory, from a history file to a verdict. Measured in a process of its own per size.

The history is the worst realistic one: every operation a write with an id, one outage, three reads of all survivors.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if not __package__:  # run as a file
    sys.path.insert(0, str(ROOT))

from bench.row import Row, command, finish  # noqa: E402

RATE_HZ = 2000
MUST_S, MUST_MB = 3.0, 500
ORIGIN_NS = 10**15
SIZES = (1_000_000, 5_000_000)
QUICK_SIZES = (1_000_000, 2_000_000)
LINEARITY = 1.5  # sorting and caches; quadratic would be 5


@dataclass(frozen=True)
class Cost:
    """One judging: from the file's name to the verdict, and the peak memory of the whole process."""

    operations: int
    seconds: float
    peak_mb: float
    verdict: str


def write_history(path: Path, operations: int) -> None:
    """A drill of ``operations`` writes with an outage of 2.5 s in the middle of it."""
    step_ns = 10**9 // RATE_HZ
    down, up = ORIGIN_NS + operations // 2 * step_ns, ORIGIN_NS + operations // 2 * step_ns + 2_500_000_000
    info = {"index": 0, "name": "appends", "rate_hz": RATE_HZ, "timeout_s": 1.0, "origin_ns": ORIGIN_NS}
    start = {"schema": "gameday.history/1", "drill": "bench", "run_id": "bench", "utc": "2026-01-01T00:00:00.000Z"}
    good: list[int] = []
    with open(path, "w", buffering=1 << 20) as file:
        file.write(json.dumps(["e", ORIGIN_NS, "start", start]) + "\n" + json.dumps(["e", ORIGIN_NS, "workload", info]) + "\n")
        for k in range(operations):
            s = ORIGIN_NS + k * step_ns
            if down <= s < up:
                file.write(f'["o",0,{k},{s},{s + 40_000},{s + 90_000},2,0,{k},null,null,"connection refused"]\n')
            else:
                good.append(k)
                file.write(f'["o",0,{k},{s},{s + 40_000},{s + 900_000 + k % 7 * 30_000},0,0,{k},"pg{1 + (s > up)}",{1 + (s > up)},""]\n')
        end = ORIGIN_NS + (operations + RATE_HZ) * step_ns
        for i, label in enumerate(("recovered", "healed", "whole")):
            read = {"label": label, "began_ns": end + i, "ended_ns": end + i, "ids": good, "source": "pg2"}
            file.write(json.dumps(["e", end + i, "read", read], separators=(",", ":")) + "\n")


def judge_file(path: Path, operations: int) -> Cost:
    """Judge one file in this very process."""
    from chaos.core.model import Budget, FaultRecord
    from chaos.measure.history import read_history
    from chaos.measure.judge import judge

    down = ORIGIN_NS + operations // 2 * (10**9 // RATE_HZ)
    fault = FaultRecord("f1", "power-loss", ("pg1",), {}, issued_ns=down - 1_000_000, landed_ns=down)
    began = time.perf_counter()
    history = read_history(path)
    judgement = judge(history, budget=Budget(rto_s=30, rpo_count=0), faults=[fault], window_s=5, detect_s=3, end_ns=ORIGIN_NS * 2)
    took = time.perf_counter() - began
    return Cost(operations, took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, judgement.verdict.value)


def measure(operations: int, directory: Path, times: int) -> Cost:
    """Write a history, judge it in a fresh process, remove it. Fastest of ``times``: the machine may be busy."""
    path = directory / f"{operations}.jsonl"
    write_history(path, operations)
    costs = []
    for _ in range(times):
        argv = [sys.executable, str(Path(__file__).resolve()), "--one", str(path), str(operations)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise RuntimeError(f"judging {path} failed: {done.stderr.strip()}")
        costs.append(Cost(**json.loads(done.stdout)))
    path.unlink()
    if any(cost.verdict != "PASS" for cost in costs):
        raise RuntimeError(f"judging {operations} operations gave {[cost.verdict for cost in costs]}, expected PASS")
    return min(costs, key=lambda cost: cost.seconds)


def rows(sizes: tuple[int, int], times: int) -> list[Row]:
    """The figures."""
    with tempfile.TemporaryDirectory() as directory:
        small, large = (measure(size, Path(directory), times) for size in sizes)
    growth = (large.seconds / large.operations) / (small.seconds / small.operations)
    return [
        Row(
            f"judging {small.operations:,} operations, from file to verdict",
            f"≤ {MUST_S:g} s, ≤ {MUST_MB} MB",
            f"{small.seconds:.2f} s, {small.peak_mb:.0f} MB",
            small.seconds <= MUST_S and small.peak_mb <= MUST_MB,
        ),
        Row(
            f"judging {large.operations:,}: time per operation against {small.operations:,}",
            f"≤ {LINEARITY:g} ×",
            f"{growth:.2f} × ({large.seconds:.2f} s, {large.peak_mb:.0f} MB)",
            growth <= LINEARITY,
        ),
    ]


def main(argv: Sequence[str]) -> int:
    """Print the table; 1 where a figure is not reached."""
    options = command("judge", __doc__).parse_args(argv)
    return finish(rows(QUICK_SIZES, 1) if options.quick else rows(SIZES, 3), options)


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "--one":
        print(json.dumps(asdict(judge_file(Path(sys.argv[2]), int(sys.argv[3])))))
    else:
        sys.exit(main(sys.argv[1:]))

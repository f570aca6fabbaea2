"""A whole drill in the embedded environment, as a person runs it: pytest from its start to its exit.

That is: micro-hosts and PostgreSQL from nothing, control window, power loss, promotion, sustained run, the old primary's return, three
reads, verdict, report. What the report itself says of the drill's length and recovery time stands beside it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.row import ROOT, Row, command, finish, scratch, spread

DRILL = "suites/failover/test_postgres_power_loss.py"
MUST_S = 25.0
DEADLINE_S = 180.0


class Interval(msgspec.Struct, frozen=True):
    """What a report says of a duration."""

    lo_s: float
    hi_s: float | None


class Rto(msgspec.Struct, frozen=True):
    client: Interval | None


class Finding(msgspec.Struct, frozen=True):
    text: str


class Report(msgspec.Struct, frozen=True):
    """What is read of ``report.json``."""

    verdict: str
    findings: tuple[Finding, ...]
    duration_s: float
    rto: Rto


class Run(NamedTuple):
    """One drill: pytest's whole time, and its report."""

    wall_s: float
    report: Report


def run(directory: Path) -> Run:
    """Run the drill once. Raises SystemExit where it does not pass."""
    argv = [sys.executable, "-m", "pytest", DRILL, "--drill-env", "embedded", f"--drill-dir={directory}", "-p", "no:cacheprovider"]
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTEST_ADDOPTS", "DRILL_REQUIRE")}
    begin = time.monotonic()
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False, env=environment)
    wall_s = time.monotonic() - begin
    reports = sorted((directory / "runs" / "latest").resolve().rglob("report.json"))
    if len(reports) != 1:
        raise SystemExit(f"expected one report, observed {len(reports)}; pytest ended with {done.returncode}: {done.stdout[-300:]}")
    report = msgspec.json.decode(reports[0].read_bytes(), type=Report)
    if done.returncode:
        raise SystemExit(f"the drill came out {report.verdict}: {' '.join(finding.text for finding in report.findings)}")
    return Run(wall_s, report)


def rows(rounds: int) -> list[Row]:
    """The figures."""
    runs = []
    for _ in range(rounds):
        with scratch("drill") as directory:
            runs.append(run(Path(directory)))
    wall_s = [one.wall_s for one in runs]
    clients = [one.report.rto.client for one in runs if one.report.rto.client is not None]
    known = [(client.lo_s, client.hi_s) for client in clients if client.hi_s is not None]
    figures = [
        Row(
            "power loss drill: pytest from start to exit",
            f"median ≤ {MUST_S:g} s",
            spread(wall_s, digits=1),
            statistics.median(wall_s) <= MUST_S,
        ),
        Row("of that the drill itself, as its report says", "", spread([one.report.duration_s for one in runs], digits=1)),
    ]
    if known:
        middle = statistics.median([(lo + hi) / 2 for lo, hi in known])
        width_ms = statistics.median([hi - lo for lo, hi in known]) * 1e3
        figures.append(Row("the recovery time that it reports", "", f"{middle:.2f} s ± {width_ms / 2:.0f} ms (medians)"))
    return figures


def main(argv: Sequence[str]) -> int:
    """Print the table; 1 where a figure was not reached."""
    parser = command("drill", __doc__)
    parser.add_argument("--rounds", type=int, help="drills (default 5; quick: 1)")
    options = parser.parse_args(argv)
    return finish(rows(options.rounds or (1 if options.quick else 5)), options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

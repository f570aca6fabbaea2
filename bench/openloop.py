"""Does the workload process keep its schedule? 2 000 inserts a second for 30 s against one PostgreSQL on this machine.

Measured from the history that the worker wrote: every operation must have been sent, and the dispatch lag (t − s) must stay below 5 ms
at the 99th percentile. Says nothing of PostgreSQL's own speed. ``--dsn`` takes a server that is already there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy
import psycopg
from psycopg.conninfo import conninfo_to_dict

from bench.plain_postgres import PlainPostgres
from bench.row import Row, exit_code, table
from chaos.measure.history import Event, Operation, Outcome
from chaos.measure.worker import WorkerSpec, drain_s, worker_argv, write_spec
from chaos.measure.workload import WorkloadSpec
from fixtures.postgres_client import LEDGER_DDL

_CLIENT = Path(__file__).resolve().parent.parent / "fixtures" / "postgres_client.py"
_LAG_BOUND_MS = 5.0


def run(dsn: str, *, rate_hz: float, seconds: float, connections: int, directory: Path) -> list[Operation]:
    """Run one worker against ``dsn``; returns its operations."""
    server = {key: value for key, value in conninfo_to_dict(dsn).items() if value is not None}
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(LEDGER_DDL)
    workload = WorkloadSpec(
        name="openloop",
        operation=f"{_CLIENT}::append",
        connect=f"{_CLIENT}::connect",
        params={
            "drill": "openloop",
            "nodes": [{"name": "pg1", "host": str(server["host"]), "port": int(server.get("port", 5432))}],
            "user": str(server["user"]),
            "dbname": str(server.get("dbname", "postgres")),
        },
        rate_hz=rate_hz,
        timeout_s=1.0,
        connections=connections,
    )
    history = directory / "history.jsonl"
    spec = write_spec(directory / "spec.json", WorkerSpec(workload=workload, index=0, history=str(history)))
    with subprocess.Popen(worker_argv(spec), stdin=subprocess.PIPE) as worker:
        while not history.exists() and worker.poll() is None:
            time.sleep(0.01)
        time.sleep(seconds + 0.1)
        worker.terminate()
        if code := worker.wait(drain_s(1.0)):
            sys.exit(f"the worker ended with {code}")
    lines = msgspec.json.Decoder(Operation | Event).decode_lines(history.read_bytes())
    return [line for line in lines if isinstance(line, Operation)]


def rows(operations: Sequence[Operation], *, rate_hz: float, seconds: float) -> list[Row]:
    """The figures."""
    lag_ms = numpy.array([op.t - op.s for op in operations]) / 1e6
    latency_ms = numpy.array([op.r - op.t for op in operations if op.outcome == Outcome.OK] or [0]) / 1e6
    sent = sum(op.outcome != Outcome.UNSENT for op in operations)
    good = sum(op.outcome == Outcome.OK for op in operations)
    expected = int(rate_hz * seconds)
    gaps = len({op.k for op in operations}) != max(op.k for op in operations) + 1
    everything = sent == len(operations) >= expected and not gaps
    p50, p99, top = (float(value) for value in numpy.percentile(lag_ms, [50, 99, 100]))
    name = f"open loop, {rate_hz:g} op/s for {seconds:g} s"
    return [
        Row(f"{name}: sent", "every operation", f"{sent} of {len(operations)} ({good} ok)", everything),
        Row(
            f"{name}: dispatch lag", f"p99 ≤ {_LAG_BOUND_MS:g} ms", f"p50 {p50:.2f}, p99 {p99:.2f}, max {top:.1f} ms", p99 <= _LAG_BOUND_MS
        ),
        Row(f"{name}: latency", "", "p50 {:.2f}, p99 {:.2f}, max {:.1f} ms".format(*numpy.percentile(latency_ms, [50, 99, 100]))),
    ]


def main(argv: Sequence[str]) -> int:
    """Print the table; 1 where a figure was not reached."""
    parser = argparse.ArgumentParser(prog="python -m bench.openloop", description=__doc__.split("\n")[0])
    parser.add_argument("--rate", type=float, default=2000.0, help="operations a second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--dsn", default="", help="libpq connection string of a server to use, with host and user")
    options = parser.parse_args(argv)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gameday-bench-")))
        dsn = options.dsn or stack.enter_context(PlainPostgres()).dsn
        operations = run(dsn, rate_hz=options.rate, seconds=options.seconds, connections=options.connections, directory=directory)
    figures = rows(operations, rate_hz=options.rate, seconds=options.seconds)
    print(table(figures))
    return exit_code(figures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

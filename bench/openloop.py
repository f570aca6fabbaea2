"""Does the workload process keep its schedule? 2 000 inserts a second for 30 s against the embedded PostgreSQL of the drills.

The worker runs where a drill's worker runs, on the client micro-host, and writes the history that a drill's worker writes. Measured from
that: every operation must have been sent, and the dispatch lag (t − s) must stay below 5 ms at the 99th percentile. Says nothing of
PostgreSQL's own speed. ``--plain`` takes one server without micro-hosts, ``--dsn`` one that is already there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import msgspec
import numpy
import psycopg
from psycopg.conninfo import conninfo_to_dict

from bench.plain_postgres import PlainPostgres
from bench.row import Row, command, finish, scratch
from chaos.core.clock import wait_for
from chaos.environments.base import ClientProcess
from chaos.environments.microhost.provider import Microhosts
from chaos.measure.history import Event, Operation, Outcome
from chaos.measure.worker import WorkerSpec, drain_s, worker_argv, write_spec
from chaos.measure.workload import WorkloadSpec
from fixtures.postgres_binaries import find_binaries
from fixtures.postgres_client import LEDGER_DDL
from fixtures.postgres_common import CLIENT_FILE, HostClient
from fixtures.postgres_embedded import EmbeddedPostgres

LAG_BOUND_MS = 5.0
TIMEOUT_S = 1.0
DRILL = "openloop"


class Target(Protocol):
    """A PostgreSQL with a ledger, and the place where its clients live."""

    def appends(self, rate: float, *, timeout_s: float, connections: int) -> WorkloadSpec: ...
    def spawn_client(self, argv: Sequence[str], *, log: Path) -> ClientProcess: ...


class ServerHere:
    """A server behind a libpq connection string; its clients are processes of this machine."""

    def __init__(self, dsn: str) -> None:
        self._server = {key: value for key, value in conninfo_to_dict(dsn).items() if value is not None}
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(LEDGER_DDL)

    def appends(self, rate: float, *, timeout_s: float, connections: int) -> WorkloadSpec:
        """See :meth:`fixtures.postgres_common.PostgresSystem.appends`."""
        return WorkloadSpec(
            name="appends",
            operation=f"{CLIENT_FILE}::append",
            connect=f"{CLIENT_FILE}::connect",
            params={
                "drill": DRILL,
                "nodes": [{"name": "pg1", "host": str(self._server["host"]), "port": int(self._server.get("port", 5432))}],
                "user": str(self._server["user"]),
                "dbname": str(self._server.get("dbname", "postgres")),
            },
            rate_hz=rate,
            timeout_s=timeout_s,
            connections=connections,
        )

    def spawn_client(self, argv: Sequence[str], *, log: Path) -> ClientProcess:
        """A child of this process."""
        with log.open("ab") as file:
            return HostClient(argv, file.fileno())


def run(target: Target, *, rate_hz: float, seconds: float, connections: int, directory: Path) -> list[Operation]:
    """Run one worker; returns its operations. Raises SystemExit with its own words where it fails."""
    history, log = directory / "history.jsonl", directory / "worker.log"
    workload = target.appends(rate_hz, timeout_s=TIMEOUT_S, connections=connections)
    spec = write_spec(directory / "spec.json", WorkerSpec(workload=workload, index=0, history=str(history)))
    worker = target.spawn_client(worker_argv(spec), log=log)
    try:
        wait_for(lambda: history.exists() or worker.poll() is not None, timeout_s=20.0, what="the worker to begin", interval_s=0.01)
        time.sleep(seconds + 0.1)
        worker.terminate()
        code = worker.wait(drain_s(TIMEOUT_S) + 5.0)
    finally:
        if worker.poll() is None:
            worker.kill()
    if code:
        raise SystemExit(f"the worker ended with {code}: {log.read_text(errors='replace')[-800:]}")
    lines = msgspec.json.Decoder(Operation | Event).decode_lines(history.read_bytes())
    return [line for line in lines if isinstance(line, Operation)]


def rows(operations: Sequence[Operation], *, where: str, rate_hz: float, seconds: float) -> list[Row]:
    """The figures."""
    lag_ms = numpy.array([op.t - op.s for op in operations]) / 1e6
    latency_ms = numpy.array([op.r - op.t for op in operations if op.outcome == Outcome.OK] or [0]) / 1e6
    sent = sum(op.outcome != Outcome.UNSENT for op in operations)
    good = sum(op.outcome == Outcome.OK for op in operations)
    expected = int(rate_hz * seconds)
    gaps = len({op.k for op in operations}) != max(op.k for op in operations) + 1
    everything = sent == len(operations) >= expected and not gaps
    p50, p99, top = (float(value) for value in numpy.percentile(lag_ms, [50, 99, 100]))
    lag = f"p50 {p50:.2f}, p99 {p99:.2f}, max {top:.1f} ms"
    return [
        Row(
            f"open loop, {rate_hz:g} op/s for {seconds:g} s, {where}",
            "every operation sent",
            f"{sent} of {len(operations)} ({good} ok)",
            everything,
        ),
        Row("its dispatch lag (t − s)", f"p99 ≤ {LAG_BOUND_MS:g} ms", lag, p99 <= LAG_BOUND_MS),
        Row("the latency of its writes", "", "p50 {:.2f}, p99 {:.2f}, max {:.1f} ms".format(*numpy.percentile(latency_ms, [50, 99, 100]))),
    ]


def target(options: argparse.Namespace, stack: ExitStack, directory: Path) -> tuple[Target, str]:
    """What is written to, and its name."""
    if options.dsn:
        return ServerHere(options.dsn), "a server given by --dsn"
    if options.plain:
        return ServerHere(stack.enter_context(PlainPostgres()).dsn), "one plain server"
    environment = Microhosts()
    environment.open(run_id="bench", state_dir=directory)
    stack.callback(environment.close)
    binaries = find_binaries()
    system = EmbeddedPostgres(environment, binaries, replication=options.replication)
    system.begin_drill(DRILL)
    return system, f"embedded PostgreSQL {binaries.major}, {options.replication}"


def main(argv: Sequence[str]) -> int:
    """Print the table; 1 where a figure was not reached."""
    parser = command("openloop", __doc__)
    parser.add_argument("--rate", type=float, default=2000.0, help="operations a second")
    parser.add_argument("--seconds", type=float, help="default 30; quick: 5")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--replication", choices=["sync", "async"], default="sync", help="of the embedded PostgreSQL")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--plain", action="store_true", help="one server of this machine, no micro-hosts, no replication")
    place.add_argument("--dsn", default="", help="libpq connection string of a server to use, with host and user")
    options = parser.parse_args(argv)
    seconds = options.seconds or (5.0 if options.quick else 30.0)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(scratch("openloop")))
        server, where = target(options, stack, directory)
        operations = run(server, rate_hz=options.rate, seconds=seconds, connections=options.connections, directory=directory)
    return finish(rows(operations, where=where, rate_hz=options.rate, seconds=seconds), options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

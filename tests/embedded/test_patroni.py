"""PostgreSQL under real Patroni on micro-hosts: bring-up, failover, and everybody's way back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from chaos.core.clock import wait_for
from chaos.core.errors import GamedayError, Unavailable
from chaos.environments.base import Process
from chaos.environments.microhost.provider import Microhosts
from chaos.faults.kill import first_of_name
from fixtures.postgres_binaries import Binaries, all_binaries, find_binaries
from fixtures.postgres_embedded_patroni import ARBITER, EmbeddedPatroni, Manager, find_manager
from fixtures.postgres_microhosts import DATA_NODES

FAILOVER_S, WHOLE_S = 30.0, 60.0
MakeCluster = Callable[..., EmbeddedPatroni]


@pytest.fixture(scope="module")
def new_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeCluster]:
    """Makes clusters that end with this module at the latest."""
    environment = Microhosts()
    environment.open(run_id="tests", state_dir=tmp_path_factory.mktemp("patroni"))

    def make(binaries: Binaries, replication: str = "sync", dcs: str = "raft") -> EmbeddedPatroni:
        return EmbeddedPatroni(environment, binaries, manager(dcs), replication=replication)

    with ExitStack() as stack:
        stack.callback(environment.close)
        yield make


@pytest.fixture(scope="module")
def cluster(new_cluster: MakeCluster) -> Iterator[EmbeddedPatroni]:
    """A synchronous cluster with Raft."""
    system = new_cluster(default_binaries())
    yield system
    system.close()


def manager(dcs: str) -> Manager:
    """Patroni with this DCS; skips, or fails where it is required, when it is not installed."""
    try:
        return find_manager(dcs)
    except Unavailable as err:
        if (dcs if dcs == "etcd" else "embedded") in os.environ.get("DRILL_REQUIRE", "") + os.environ.get("TESTS_REQUIRE", ""):
            pytest.fail(f"required (DRILL_REQUIRE, TESTS_REQUIRE), but {err}", pytrace=False)
        pytest.skip(str(err))


def default_binaries() -> Binaries:
    """The server that a drill would take; skips where there is none."""
    try:
        return find_binaries()
    except Unavailable as err:
        pytest.skip(str(err))


def other(name: str) -> str:
    return next(node for node in DATA_NODES if node != name)


def accepts_writes(cluster: EmbeddedPatroni, name: str) -> bool:
    try:
        return cluster.observer(name).query("select pg_is_in_recovery()") == [("False",)]
    except GamedayError:
        return False


def postmaster(cluster: EmbeddedPatroni, name: str) -> Process:
    """What ``Kill(node, process="postgres")`` would hit."""
    (server,) = first_of_name(cluster.nodes[name].processes(), "postgres")
    return server


def append(cluster: EmbeddedPatroni, count: int) -> list[int]:
    """Rows of the present drill that the primary acknowledged."""
    params = cluster.client_params()
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        for id in range(count):
            connection.execute("insert into gameday_ledger (drill, id, body) values (%s, %s, %s)", (params["drill"], id, id))
    return list(range(count))


def lose_power_and_come_back(cluster: EmbeddedPatroni) -> None:
    """The standby takes over with every acknowledged row; the old primary finds its way back by itself."""
    cluster.begin_drill("power loss")
    acknowledged = append(cluster, 50)
    old = cluster.primary.name
    cluster.nodes[old].power_off()
    wait_for(lambda: accepts_writes(cluster, other(old)), timeout_s=FAILOVER_S, what=f"{other(old)} to take over from {old}")
    assert list(cluster.read_survivors("after").ids) == acknowledged
    assert (cluster.nodes[old].disk / "data" / "postmaster.pid").exists()
    cluster.nodes[old].power_on()
    cluster.prove_whole(WHOLE_S)
    assert cluster.primary.name == other(old)


def test_a_cluster_comes_up_healthy_and_says_what_it_is(cluster: EmbeddedPatroni) -> None:
    """Servers and Patroni agree on who leads, one service a node runs, and the report names versions, settings and caveats."""
    assert "sync_standby" in cluster.prove_healthy(10)
    assert {name: dict(node.services()) for name, node in cluster.nodes.items()} == {
        ARBITER: {"raft": True},
        "pg1": {"patroni": True},
        "pg2": {"patroni": True},
        "client": {},
    }
    described = cluster.describe()
    assert isinstance(described["versions"], list) and "Patroni 3.1.2" in described["versions"]
    assert described["dcs"] == "raft" and described["replication"] == "synchronous"
    assert any("deprecated" in caveat for caveat in cluster.caveats())
    assert (cluster.detect_s, cluster.check_interval_s) == (8.0, 1.0)


def test_patroni_restarts_a_killed_postmaster_where_it_was(cluster: EmbeddedPatroni) -> None:
    """A postmaster that is killed is succeeded by another one on the same node, which is the primary still."""
    primary = cluster.primary.name
    victim = postmaster(cluster, primary)
    assert cluster.nodes[primary].signal(victim, signal.SIGKILL)

    def successor() -> bool:
        return accepts_writes(cluster, primary) and postmaster(cluster, primary).started != victim.started

    wait_for(successor, timeout_s=FAILOVER_S, what="Patroni to restart the server")
    cluster.prove_whole(WHOLE_S)
    assert cluster.primary.name == primary


def test_a_primary_without_power_is_succeeded_and_comes_back_by_itself(cluster: EmbeddedPatroni) -> None:
    """No acknowledged row is lost, and the rebooted node is a synchronous standby although its disk has the files of a running server."""
    lose_power_and_come_back(cluster)


def test_a_stopped_service_hands_over(cluster: EmbeddedPatroni) -> None:
    """Stopping Patroni stops its server and hands over to the standby; started again it follows."""
    old = cluster.primary.name
    cluster.nodes[old].stop_service("patroni")
    assert cluster.nodes[old].services() == {"patroni": False}
    assert first_of_name(cluster.nodes[old].processes(), "postgres") == []
    wait_for(lambda: accepts_writes(cluster, other(old)), timeout_s=FAILOVER_S, what=f"{other(old)} to take over")
    cluster.nodes[old].start_service("patroni")
    cluster.prove_whole(WHOLE_S)


def test_raft_needs_two_voters_of_three(cluster: EmbeddedPatroni) -> None:
    """Without the arbiter the two data nodes keep the primary beyond its lease; the arbiter's journal is there when it is back."""
    primary, loops = cluster.primary.name, cluster.settings.ttl_s + 2 * cluster.settings.loop_wait_s
    arbiter = cluster.nodes[ARBITER]
    arbiter.power_off()
    logged = cluster.nodes[primary].disk / "patroni.log"

    def led() -> int:
        return logged.read_text().count("the leader with the lock")

    before = led()
    wait_for(lambda: led() >= before + loops, timeout_s=FAILOVER_S, what="the primary to renew its lease without the arbiter")
    assert accepts_writes(cluster, primary)
    arbiter.power_on()
    cluster.prove_whole(WHOLE_S)
    assert any((arbiter.disk / "raft").glob("*.journal"))


@pytest.mark.parametrize("binaries", all_binaries()[1:], ids=lambda binaries: str(binaries.major))
def test_every_major_version_fails_over_and_comes_back(new_cluster: MakeCluster, binaries: Binaries) -> None:
    """Patroni fails over and takes back the old primary with every PostgreSQL found on this machine."""
    system = new_cluster(binaries, replication="async" if binaries.major < 16 else "sync")
    try:
        lose_power_and_come_back(system)
    finally:
        system.close()


def test_with_etcd_the_same_holds(new_cluster: MakeCluster) -> None:
    """Patroni fails over and takes back the old primary with etcd as its DCS."""
    system = new_cluster(default_binaries(), dcs="etcd")
    try:
        assert dict(system.nodes[ARBITER].services()) == {"etcd": True}
        lose_power_and_come_back(system)
    finally:
        system.close()


def test_a_cluster_that_does_not_come_up_says_why(new_cluster: MakeCluster, tmp_path: Path) -> None:
    """Where the server's programs fail the error has Patroni's own words, without waiting for the deadline."""
    (tmp_path / "initdb").write_text("#!/bin/sh\necho this initdb only complains >&2\nexit 1\n")
    (tmp_path / "initdb").chmod(0o755)
    first = default_binaries()
    for program in first.directory.iterdir():
        if program.name != "initdb":
            (tmp_path / program.name).symlink_to(program)
    with pytest.raises(GamedayError, match="Failed to bootstrap cluster"):
        new_cluster(Binaries(tmp_path, first.version, "test"))

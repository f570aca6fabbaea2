"""What is common to Patroni wherever it runs: judging its view of the members, and starting after a power loss."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.core.clock import wait_for
from chaos.core.errors import BadInput, Unavailable
from fixtures.patroni import ClusterMember, amiss, start_command
from fixtures.postgres_embedded_patroni import find_manager

LEADER = ClusterMember("pg1", "leader", "running", 2)
REPLICA = ClusterMember("pg2", "replica", "streaming", 2)
SYNC = ClusterMember("pg2", "sync_standby", "streaming", 2)


@pytest.mark.parametrize("members", [(LEADER, SYNC), (SYNC, LEADER)])
def test_a_leader_and_its_synchronous_standby_are_all_that_is_needed(members: tuple[ClusterMember, ...]) -> None:
    """With the leader running and the standby synchronous on its timeline nothing is amiss."""
    assert amiss(members, replicas=1, synchronous=True) == ""


@pytest.mark.parametrize(
    ("members", "synchronous", "missing"),
    [
        ((), False, "a leader and 1 replica"),
        ((REPLICA,), False, "a leader and 1 replica"),
        ((LEADER,), False, "a leader and 1 replica"),
        ((ClusterMember("pg1", "leader", "stopped", 2), REPLICA), False, "a leader and 1 replica"),
        ((LEADER, ClusterMember("pg2", "replica", "starting")), False, "a leader and 1 replica"),
        ((LEADER, ClusterMember("pg2", "replica", "streaming", 1)), False, "one timeline"),
        ((LEADER, REPLICA), True, "a synchronous standby"),
    ],
)
def test_what_is_missing_is_named(members: tuple[ClusterMember, ...], synchronous: bool, missing: str) -> None:
    """A member that is absent, not running, on another timeline or not synchronous as promised is named as what is missing."""
    assert amiss(members, replicas=1, synchronous=synchronous) == missing


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A member's disk after a power loss: the socket's files are there, and so is the data directory."""
    (tmp_path / "the data").mkdir()
    for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
        (tmp_path / name).touch()
    return tmp_path


def left_after_start(disk: Path, pid: str) -> set[str]:
    """Names that are left when a member starts with ``pid`` in its postmaster.pid."""
    data = disk / "the data"
    (data / "postmaster.pid").write_text(f"{pid}\n{data}\n")
    command = start_command([sys.executable, "-I", "-S", "-c", "print('started')"], data_dir=str(data), socket_dir=str(disk))
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "started\n"
    return {path.name for path in disk.rglob("*") if path.is_file() and path.name != "postgres"}


@pytest.fixture
def running_server(tmp_path: Path) -> Iterator[int]:
    """The pid of a program whose name, as the kernel has it, is ``postgres``."""
    program = tmp_path / "postgres"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as process:
        comm = Path(f"/proc/{process.pid}/comm")
        wait_for(lambda: comm.read_text() == "postgres\n", timeout_s=5, what="the program to run")
        yield process.pid
        process.kill()


@pytest.mark.parametrize("pid", ["1", "4194304999", ""])
def test_files_of_a_server_that_lost_power_are_gone_before_patroni_starts(disk: Path, pid: str) -> None:
    """Whether its pid is somebody else's by now, nobody's, or was never written: no file of the old server is left."""
    assert left_after_start(disk, pid) == set()


def test_files_of_a_server_that_still_runs_are_kept(disk: Path, running_server: int) -> None:
    """When only Patroni is restarted the running server keeps its files."""
    assert left_after_start(disk, str(running_server)) == {"postmaster.pid", ".s.PGSQL.5432", ".s.PGSQL.5432.lock"}


def test_a_missing_patroni_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Patroni the drill is unavailable, and says which pip command mends that."""
    monkeypatch.setitem(sys.modules, "patroni", None)
    with pytest.raises(Unavailable, match=r"pip install 'patroni\[raft\]==3\.1\.2'"):
        find_manager()


def test_another_patroni_than_the_drill_asks_for_is_refused() -> None:
    """A version that is not installed makes the drill unavailable: its expectations are of that version."""
    pytest.importorskip("patroni")
    with pytest.raises(Unavailable, match=r"another Patroni is installed.*expected version 3\.0\.2.*patroni\[raft\]==3\.0\.2"):
        find_manager(patroni="3.0.2")


def test_a_patroni_without_its_dcs_support_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patroni without pysyncobj cannot run Raft, and the extra that brings it is named."""
    pytest.importorskip("patroni")
    monkeypatch.setitem(sys.modules, "pysyncobj", None)
    with pytest.raises(Unavailable, match=r"missing: pysyncobj.*patroni\[raft\]"):
        find_manager()


def test_a_missing_etcd_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where etcd is asked for and not installed, its package is named and so is the way without it."""
    pytest.importorskip("etcd")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=r"apt-get install etcd-server.*dcs='raft'"):
        find_manager("etcd")


def test_an_unknown_dcs_is_a_mistake() -> None:
    """A DCS that there is not is refused as bad input."""
    with pytest.raises(BadInput, match=r"'zookeeper'.*raft or etcd"):
        find_manager("zookeeper")

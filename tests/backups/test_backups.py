"""Backups of a real cluster: what is restored is what was there, and what cannot be restored is refused with the reason."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import psycopg
import pytest

from chaos.core.clock import utc_now
from chaos.core.errors import EnvironmentFailed, Unavailable
from fixtures.backups import embedded, fingerprint
from fixtures.backups.base_backups import BaseBackups
from fixtures.backups.checks import DailyChecks
from fixtures.backups.contract import BackupDamaged, Policy, RestoreRefused, Target
from fixtures.backups.dumps import Dumps
from fixtures.backups.pgbackrest import PgBackRest
from fixtures.postgres_embedded import EmbeddedPostgres


@pytest.fixture
def backups(cluster: EmbeddedPostgres) -> Iterator[BaseBackups]:
    """An archive that fills, and one backup."""
    made = embedded.base_backups(cluster)
    made.take()
    yield made
    made.close()


@pytest.fixture
def numbers(cluster: EmbeddedPostgres) -> Iterator[None]:
    """A table with a thousand rows."""
    primary = cluster.observer(cluster.primary)
    primary.query("create table numbers as select n, md5(n::text) as text from generate_series(1, 1000) n")
    yield
    primary.query("drop table numbers")


def objects(cluster: EmbeddedPostgres) -> Path:
    """Where they lie, as this process names it."""
    return cluster.sandbox.outside(embedded.REPOSITORY) / "objects"


@contextlib.contextmanager
def writing(cluster: EmbeddedPostgres) -> Iterator[None]:
    """Somebody goes on writing meanwhile."""
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(cluster.dsn, autocommit=True) as connection:
            while not stop.is_set():
                connection.execute("insert into numbers values (0, 'meanwhile')")

    thread = threading.Thread(target=write)
    cluster.dsn  # noqa: B018  (starts the relay, which only one thread may do)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_restore_brings_back_exactly_what_was_there(cluster: EmbeddedPostgres, backups: BaseBackups, numbers: None) -> None:
    """While clients write, what is recovered up to a restore point has exactly the rows and checksums of that moment."""
    with writing(cluster):
        wanted = backups.fingerprint("here")
        backups.flush()
    server = backups.restore(backups.scratch, backups.scratch.disk / "restored", Target(point="here"))
    found = fingerprint.look(server.query)
    server.remove()
    assert wanted.tables["public.numbers"].rows >= 1000 and fingerprint.difference(wanted.tables, found) == []
    assert fingerprint.look(cluster.observer(cluster.primary).query)["public.numbers"].rows > found["public.numbers"].rows


def test_recovery_ends_just_before_the_moment(cluster: EmbeddedPostgres, backups: BaseBackups, numbers: None) -> None:
    """The commit at the moment itself is not recovered, the one before it is."""
    primary = cluster.observer(cluster.primary)
    for n in (2001, 2002):
        primary.query(f"insert into numbers values ({n}, 'late')")
    ((moment,),) = primary.query("select max(pg_xact_commit_timestamp(xmin)) from numbers where n = 2002")
    backups.flush()
    target = Target(time=datetime.fromisoformat(moment))
    server = backups.restore(backups.scratch, backups.scratch.disk / "restored", target)
    late = server.query("select n from numbers where n > 2000 order by n")
    server.remove()
    assert late == [("2001",)]


def test_a_moment_that_the_archive_does_not_reach_is_refused(backups: BaseBackups, numbers: None) -> None:
    """A recovery that misses its target is no recovery: the server's own reason is told."""
    with pytest.raises(RestoreRefused, match="before configured recovery target"):
        backups.restore(backups.scratch, backups.scratch.disk / "restored", Target(time=utc_now() + timedelta(hours=1)))


def test_a_moment_before_the_first_backup_is_refused(backups: BaseBackups) -> None:
    """Nothing can be recovered to a moment before the oldest backup."""
    with pytest.raises(BackupDamaged, match="no backup from before"):
        backups.restore(backups.scratch, backups.scratch.disk / "restored", Target(time=utc_now() - timedelta(hours=1)))


def test_a_damaged_segment_is_not_taken_for_the_end(cluster: EmbeddedPostgres, backups: BaseBackups, numbers: None) -> None:
    """Recovery to the archive's end stops with an error at a damaged segment, and does not promote with what came before it."""
    segment = backups.segment_being_written()
    backups.flush()
    backups.flush()
    path = objects(cluster) / "wal" / segment
    content = bytearray(path.read_bytes())
    content[5000] ^= 255
    path.write_bytes(content)
    with pytest.raises(RestoreRefused, match=r"not what was stored|could not restore|terminating"):
        backups.restore(backups.scratch, backups.scratch.disk / "restored")
    with pytest.raises(BackupDamaged, match=segment):
        backups.verify()


def test_expiry_keeps_what_the_kept_backups_need(backups: BaseBackups, numbers: None) -> None:
    """After expiry the newest backup still verifies and restores, and what only older ones needed is gone."""
    oldest = backups.list()[0]
    backups.flush()
    newest = backups.take()
    backups.expire(keep=1)
    assert [one.label for one in backups.list()] == [newest.label]
    assert f"wal/{oldest.first_wal}" not in backups.objects() and f"wal/{newest.first_wal}" in backups.objects()
    backups.verify()
    server = backups.restore(backups.scratch, backups.scratch.disk / "restored")
    assert server.query("select count(*) from numbers") == [("1000",)]
    server.remove()


def test_a_backup_that_breaks_off_is_not_kept(backups: BaseBackups) -> None:
    """Where ``pg_basebackup`` fails nothing new lies in the repository, although a pipe hides what its first program says."""
    before = {name for name in backups.objects() if name.startswith("base/")}
    backups.site = msgspec.structs.replace(backups.site, port=1)
    with pytest.raises(EnvironmentFailed):
        backups.take()
    assert {name for name in backups.objects() if name.startswith("base/")} == before
    backups.site = msgspec.structs.replace(backups.site, port=5432)


def test_a_dump_that_was_cut_off_before_it_was_sealed_is_found(cluster: EmbeddedPostgres, backups: BaseBackups, numbers: None) -> None:
    """A dump that is authentic but half, as after a full disk, is found by restoring all of it."""
    dumps, machine = Dumps(backups), backups.site.primary()
    dump = dumps.take()
    assert "checksums equal" in dumps.verify(dump)
    cut = msgspec.structs.replace(dump, label="cut")
    script = f'"$@" load {backups.config_of(machine)} {dump.object} | head -c 1500 | "$@" store {backups.config_of(machine)} {cut.object}'
    machine.run(["sh", "-c", script, "sh", *backups.site.courier[:4]])
    with pytest.raises(BackupDamaged, match="cannot be restored"):
        dumps.verify(cut)


def test_daily_checks_say_what_they_saw(cluster: EmbeddedPostgres, backups: BaseBackups, numbers: None) -> None:
    """On a healthy cluster with two backups every check holds; with one, only the retention does not."""
    policy = Policy(keep=2)
    with pytest.raises(BackupDamaged, match="fewer backups"):
        DailyChecks(cluster, backups, policy).retention()
    backups.take()
    seen = {name: look() for name, look in DailyChecks(cluster, backups, policy).all().items()}
    assert len(seen) == 7 and "rows came back, checksums equal" in seen["test restore"]


def test_unencrypted_backups_are_found_by_their_bytes(cluster: EmbeddedPostgres) -> None:
    """Not the settings but what lies there decides."""
    plain = embedded.base_backups(cluster, encrypted=False)
    plain.take()
    with pytest.raises(BackupDamaged, match="unencrypted"):
        plain.encryption()
    plain.close()


@pytest.fixture
def pgbackrest(cluster: EmbeddedPostgres) -> Iterator[PgBackRest]:
    """The same by pgBackRest, where it is installed."""
    try:
        made = embedded.pgbackrest(cluster)
    except Unavailable as err:
        pytest.skip(str(err))
    made.take()
    yield made
    made.close()


def test_pgbackrest_restores_what_was_there(pgbackrest: PgBackRest, numbers: None) -> None:
    """pgBackRest's own checks hold, its repository is encrypted, and a restore point comes back row for row."""
    pgbackrest.check()
    wanted = pgbackrest.fingerprint("here")
    pgbackrest.flush()
    assert "status: ok" in pgbackrest.verify() and "cipher text" in pgbackrest.encryption()
    server = pgbackrest.restore(pgbackrest.scratch, pgbackrest.scratch.disk / "restored", Target(point="here"))
    found = fingerprint.look(server.query)
    server.remove()
    assert fingerprint.difference(wanted.tables, found) == []


def test_pgbackrest_and_a_segment_that_is_missing(cluster: EmbeddedPostgres, pgbackrest: PgBackRest) -> None:
    """A gap after the backup, which ``pgbackrest verify`` itself passes over, is found."""
    for _ in range(3):
        pgbackrest.flush()
    segments = sorted(path for path in (cluster.sandbox.outside("backups") / "pgbackrest/archive").rglob("0*-*") if path.is_file())
    segments[-2].unlink()
    with pytest.raises(BackupDamaged, match=segments[-2].name[:24]):
        pgbackrest.verify()

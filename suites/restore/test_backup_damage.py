"""What is wrong with a backup must be found before it is needed: by looking at what it holds, not at whether it is there.

Each broken twin is a check as many have it, which says that all is well.
"""

import pytest

from chaos import CorruptFile
from fixtures.backups.contract import BackupDamaged
from fixtures.backups.dumps import Dumps
from fixtures.backups.embedded import machine_of, path_of
from fixtures.backups.faults import MissingFile, TruncatedFile

EMBEDDED = ["embedded"]


def detected(check, name):
    """A check of the backups must object, and name what is damaged."""

    def look():
        try:
            seen = check()
        except BackupDamaged as err:
            assert name in str(err), f"it objects to something else: {err}"
            return f"detected: {err}"
        raise AssertionError(f"not detected; the check said: {seen}")

    return look


def corrupt_backup(backups, backed_up):
    """A fault: some bytes of the newest backup are others."""
    label = backups.list()[-1].label
    return label, CorruptFile(backups.repository, path=path_of(backed_up, f"base/{label}.tar"))


def missing_segment(backups, backed_up):
    """A fault: a segment of the archive that the newest backup needs is not there."""
    segment = backups.segment_being_written()
    backups.flush()  # closes this one
    backups.flush()  # and another after it: a gap, not an end
    return segment, MissingFile(backups.repository, path=path_of(backed_up, f"wal/{segment}"))


@pytest.fixture
def documents(backed_up):
    """A table with something to lose."""
    primary = backed_up.observer(backed_up.primary)
    primary.query("create table documents as select n as id, md5(n::text) as body from generate_series(1, 5000) n")
    yield
    backed_up.observer(backed_up.primary).query("drop table documents")


@pytest.mark.drill(environments=EMBEDDED)
def test_a_corrupted_backup_is_detected(drill, postgres, backups, backed_up):
    """Verifying the backups finds 64 bytes that changed in the repository."""
    label, fault = corrupt_backup(backups, backed_up)
    drill.check("the backups are whole", backups.verify)
    with drill.inject(fault):
        drill.check("the corruption is detected", detected(backups.verify, label))


@pytest.mark.drill(environments=EMBEDDED, expect="FAIL", because="check")
def test_a_corrupted_backup_and_a_look_at_its_presence(drill, postgres, backups, backed_up):
    """The broken twin: a check that a backup is there, and how large it is, does not see the same 64 bytes."""
    label, fault = corrupt_backup(backups, backed_up)

    def presence():
        size = backups.objects().get(f"base/{label}.tar", 0)
        if size < 1 << 20:
            raise BackupDamaged("the backup is absent, or too small to be one", where=label, observed=str(size))
        return f"{label} is there and has {size} bytes"

    with drill.inject(fault):
        drill.check("the corruption is detected", detected(presence, label))


@pytest.mark.backups(kind="pgbackrest")
@pytest.mark.drill(environments=EMBEDDED)
def test_a_corrupted_backup_is_detected_by_pgbackrest(drill, postgres, backups):
    """``pgbackrest verify`` finds two bytes that changed in the smallest file of an encrypted backup."""
    newest = backups.list()[-1]
    drill.check("the backups are whole", backups.verify)
    with drill.inject(CorruptFile(backups.repository, path=backups.file_of(newest, "PG_VERSION"), bytes_count=2)):
        drill.check("the corruption is detected", detected(backups.verify, newest.label))


@pytest.mark.drill(environments=EMBEDDED)
def test_a_missing_segment_is_detected(drill, postgres, backups, backed_up):
    """Verifying the archive finds that one WAL segment of it is missing, and names it."""
    segment, fault = missing_segment(backups, backed_up)
    drill.check("the backups are whole", backups.verify)
    with drill.inject(fault):
        drill.check("the gap is detected", detected(backups.verify, segment))


@pytest.mark.drill(environments=EMBEDDED, expect="FAIL", because="check")
def test_a_missing_segment_and_a_test_of_the_backup_alone(drill, postgres, backups, backed_up):
    """The broken twin: a check that restores the backup, and none of what was archived after it, does not see the same gap."""
    segment, fault = missing_segment(backups, backed_up)
    with drill.inject(fault):
        drill.check("the gap is detected", detected(lambda: backups.manifest(backups.list()[-1]), segment))


@pytest.mark.drill(environments=EMBEDDED)
def test_a_truncated_dump_is_detected(drill, postgres, backups, backed_up, documents):
    """Restoring a dump of which only the first half is left is refused."""
    dumps = Dumps(backups)
    dump = dumps.take()
    drill.check("the dump is whole", lambda: dumps.verify(dump))
    with drill.inject(TruncatedFile(backups.repository, path=path_of(backed_up, dump.object))):
        drill.check("the truncation is detected", detected(lambda: dumps.verify(dump), dump.label))


@pytest.mark.backups(encrypted=False)
@pytest.mark.drill(environments=EMBEDDED, expect="FAIL", because="check")
def test_a_truncated_dump_and_its_table_of_contents(drill, postgres, backups, backed_up, documents):
    """The broken twin: ``pg_restore --list`` reads the table of contents, which stands at the beginning, and does not miss the rest."""
    dump = Dumps(backups).take()
    keeper, path = machine_of(backed_up, backups.repository.name), path_of(backed_up, dump.object)

    def contents():
        done = keeper.attempt([keeper.program("pg_restore"), "--list", path])
        if done.code != 0 or "TABLE DATA" not in done.out:
            raise BackupDamaged("the dump lists no table", where=dump.label, observed=done.err)
        return f"{done.out.count('TABLE DATA')} tables are listed"

    with drill.inject(TruncatedFile(backups.repository, path=path)):
        drill.check("the truncation is detected", detected(contents, dump.label))

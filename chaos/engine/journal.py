"""The journal of faults: what is about to be broken, and how to undo it, on disk before the effect.

Append-only, one record a line: ``crc32 json``. Every record is fsynced before the call returns. A torn last record (its writer died
while writing it) is tolerated by :func:`read_journal` and removed by the next writer; any other bad record is an error, because an
unreadable journal may hide a fault that is still in place.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from pathlib import Path

import msgspec

from chaos.core.clock import utc_label, utc_now
from chaos.core.errors import EXIT_JOURNAL_UNREADABLE, GamedayError
from chaos.core.model import FaultState, Undo

VERSION = 1


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """``undo`` stands in the first record of a fault (its intent, state ``planned``) and in no other."""

    v: int
    fault_id: str
    state: FaultState
    utc: str
    drill: str = ""
    undo: Undo | None = None


class JournalUnreadable(GamedayError):
    """A record before the last does not decode. Exit code 12."""

    exit_code = EXIT_JOURNAL_UNREADABLE


class Journal:
    """One writer's journal; several may share a file. Raises GamedayError where the disk does not take a record: then nothing may be
    injected; and JournalUnreadable where what stands there already does not decode."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(directory)  # the file's name, too, must survive
            finally:
                os.close(directory)
        except OSError as err:
            raise _not_taken(path, err.strerror or str(err)) from err

    def intent(self, undo: Undo, drill: str) -> None:
        """Before the effect: everything that is needed to put it back. Refuses an id that the journal holds already: two faults of one
        id could not be told apart, and the healing of one would hide the other."""
        records, _ = read_journal(self.path)
        if any(record.fault_id == undo.fault_id for record in records):
            raise GamedayError(f"the journal holds a fault {undo.fault_id!r} already", where=str(self.path), expected="ids that are unique")
        self._write(Record(VERSION, undo.fault_id, FaultState.PLANNED, utc_label(utc_now()), drill, undo))

    def state(self, fault_id: str, state: FaultState) -> None:
        self._write(Record(VERSION, fault_id, state, utc_label(utc_now())))

    def _write(self, record: Record) -> None:
        body = msgspec.json.encode(record)
        line = b"%08x %s\n" % (zlib.crc32(body), body)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            try:
                size = self._end_of_records()
                written = os.write(self._fd, line)
                if written != len(line):
                    os.ftruncate(self._fd, size)
                    raise _not_taken(self.path, f"{written} of {len(line)} bytes")
                os.fsync(self._fd)
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        except OSError as err:
            raise _not_taken(self.path, err.strerror or str(err)) from err

    def _end_of_records(self) -> int:
        """The file's size, without the torn record that a writer who died in the middle left: no effect followed that one."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            os.ftruncate(self._fd, whole)
        return whole

    def close(self) -> None:
        os.close(self._fd)


def _not_taken(path: Path, observed: str) -> GamedayError:
    return GamedayError(
        "the journal does not take a record, so no fault may be injected",
        where=str(path),
        observed=observed,
        next_step="free space there and run the drill again",
    )


def read_journal(path: Path) -> tuple[list[Record], bool]:
    """All records in order, and whether the last was torn.

    Raises:
        JournalUnreadable: where any other record does not decode, with its line number.
    """
    lines = path.read_bytes().split(b"\n")
    torn = lines.pop() != b""
    records = []
    for number, line in enumerate(lines, start=1):
        checksum, _, body = line.partition(b" ")
        try:
            if int(checksum, 16) != zlib.crc32(body):
                raise ValueError("checksum differs")
            records.append(msgspec.json.decode(body, type=Record))
        except (ValueError, msgspec.DecodeError) as err:
            if number == len(lines) and not torn:
                return records, True
            raise JournalUnreadable(
                "a record of the journal does not decode",
                where=f"{path}:{number}",
                observed=str(err),
                next_step="look at it by hand: a fault that it names may still be in place",
            ) from err
    return records, torn


def open_faults(records: list[Record]) -> list[Undo]:
    """What was intended and never verified as healed, oldest first. Undo it in the reverse order."""
    undos = {record.fault_id: record.undo for record in records if record.undo is not None}
    healed = {record.fault_id for record in records if record.state is FaultState.VERIFIED}
    return [undo for fault_id, undo in undos.items() if fault_id not in healed]

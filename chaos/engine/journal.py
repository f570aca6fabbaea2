"""The journal of faults: what is about to be broken, and how to undo it, on disk before the effect.

Append-only, one record a line: ``crc32 json``. Every record is fsynced before the call returns. A torn last record (its writer died
while writing it) is tolerated by :func:`read_journal` and removed by the next writer; any other bad record is an error, because an
unreadable journal may hide a fault that is still in place.

Where the records are kept is a :class:`Store`; a file first. It holds no opinion on who heals (see ``healing``).
"""

from __future__ import annotations

import fcntl
import os
import zlib
from pathlib import Path
from typing import Protocol

import msgspec

from chaos.core.clock import utc_label, utc_now
from chaos.core.errors import EXIT_JOURNAL_UNREADABLE, GamedayError
from chaos.core.model import FaultState, Json, Undo
from chaos.environments.owner import Owner

VERSION = 2
CLOSING = (FaultState.VERIFIED, FaultState.ACKNOWLEDGED)


class Origin(msgspec.Struct, frozen=True, omit_defaults=True):
    """What another process needs to reach the nodes of a fault: the provider ``kind`` and its ``settings`` (keyword arguments, no
    secrets); and whose fault it is. Version 1 had none."""

    environment: str
    kind: str
    disposable: bool
    settings: dict[str, Json]
    owner: Owner


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """``undo`` and ``origin`` stand in the first record of a fault (its intent, state ``planned``) and in no other. ``by`` is who wrote
    it: ``runner``, ``healer`` or a person's ``gameday heal``; ``text`` a proof, or why healing failed."""

    v: int
    fault_id: str
    state: FaultState
    utc: str
    drill: str = ""
    undo: Undo | None = None
    origin: Origin | None = None
    by: str = "runner"
    text: str = ""


class JournalUnreadable(GamedayError):
    """A record before the last does not decode, or a newer release wrote it. Exit code 12."""

    exit_code = EXIT_JOURNAL_UNREADABLE


class Store(Protocol):
    """Where a journal's bytes are kept. ``append`` returns once they would survive the loss of power; several processes may append."""

    where: str

    def read(self) -> bytes: ...
    def append(self, line: bytes) -> None:
        """Raises GamedayError where the line was not taken, whole; nothing of it is left then."""
        ...

    def close(self) -> None: ...


class FileStore:
    """A file. Its writers take turns by ``flock``; each removes what a writer that died in the middle left behind."""

    def __init__(self, path: Path) -> None:
        self.path, self.where = path, str(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(directory)  # the file's name, too, must survive
            finally:
                os.close(directory)
        except OSError as err:
            raise _not_taken(self.where, err.strerror or str(err)) from err

    def read(self) -> bytes:
        return self.path.read_bytes()

    def append(self, line: bytes) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            try:
                size = self._end_of_records()
                written = os.write(self._fd, line)
                if written != len(line):
                    os.ftruncate(self._fd, size)
                    raise _not_taken(self.where, f"{written} of {len(line)} bytes")
                os.fsync(self._fd)
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        except OSError as err:
            raise _not_taken(self.where, err.strerror or str(err)) from err

    def _end_of_records(self) -> int:
        """The size without the torn record that a writer who died in the middle left: no effect followed that one."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            os.ftruncate(self._fd, whole)
        return whole

    def close(self) -> None:
        os.close(self._fd)


class Journal:
    """One writer's journal; several may share a store. Raises GamedayError where the store does not take a record: then nothing may be
    injected; and JournalUnreadable where what stands there already does not decode."""

    def __init__(self, store: Path | Store, *, by: str = "runner") -> None:
        self._store = FileStore(store) if isinstance(store, Path) else store
        self._by = by

    @property
    def where(self) -> str:
        return self._store.where

    def records(self) -> list[Record]:
        """All that can be read now. Raises JournalUnreadable."""
        return parse_journal(self._store.read(), self.where)[0]

    def intent(self, undo: Undo, drill: str, origin: Origin | None = None) -> None:
        """Before the effect: everything that is needed to put it back. Refuses an id that the journal holds already: two faults of one
        id could not be told apart, and the healing of one would hide the other."""
        if any(record.fault_id == undo.fault_id for record in self.records()):
            raise GamedayError(f"the journal holds a fault {undo.fault_id!r} already", where=self.where, expected="ids that are unique")
        self._write(Record(VERSION, undo.fault_id, FaultState.PLANNED, utc_label(utc_now()), drill, undo, origin, self._by))

    def state(self, fault_id: str, state: FaultState, text: str = "") -> None:
        self._write(Record(VERSION, fault_id, state, utc_label(utc_now()), by=self._by, text=text))

    def _write(self, record: Record) -> None:
        body = msgspec.json.encode(record)
        self._store.append(b"%08x %s\n" % (zlib.crc32(body), body))

    def close(self) -> None:
        self._store.close()


def _not_taken(where: str, observed: str) -> GamedayError:
    return GamedayError(
        "the journal does not take a record, so no fault may be injected",
        where=where,
        observed=observed,
        next_step="free space there and run the drill again",
    )


def read_journal(path: Path) -> tuple[list[Record], bool]:
    """All records in order, and whether the last was torn.

    Raises:
        JournalUnreadable: where any other record does not decode, with its line number, or where a newer release wrote one.
    """
    try:
        content = path.read_bytes()
    except OSError as err:
        raise JournalUnreadable("the journal cannot be read", where=str(path), observed=err.strerror or str(err)) from err
    return parse_journal(content, str(path))


def parse_journal(content: bytes, where: str) -> tuple[list[Record], bool]:
    """:func:`read_journal` of bytes that were read already."""
    lines = content.split(b"\n")
    torn = lines.pop() != b""
    records = []
    for number, line in enumerate(lines, start=1):
        checksum, _, body = line.partition(b" ")
        try:
            if int(checksum, 16) != zlib.crc32(body):
                raise ValueError("checksum differs")
            _refuse_newer(body, f"{where}:{number}")
            records.append(msgspec.json.decode(body, type=Record))
        except (ValueError, msgspec.DecodeError) as err:
            if number == len(lines) and not torn:
                return records, True
            raise JournalUnreadable(
                "a record of the journal does not decode",
                where=f"{where}:{number}",
                observed=str(err),
                next_step="look at it by hand: a fault that it names may still be in place",
            ) from err
    return records, torn


class _Versioned(msgspec.Struct):
    v: int


def _refuse_newer(body: bytes, where: str) -> None:
    """A newer release may say things that this one would misread: whatever its record looks like, it is not guessed at."""
    version = msgspec.json.decode(body, type=_Versioned).v
    if version > VERSION:
        raise JournalUnreadable(
            "a newer release of pytest-gameday wrote this journal",
            where=where,
            expected=f"records of version {VERSION} or older",
            observed=f"version {version}",
            next_step="upgrade pytest-gameday here, then run: gameday heal",
        )


class OpenFault(msgspec.Struct, frozen=True):
    """One fault that was intended and never verified as healed. ``states`` are those journalled of it so far, in order; ``utc`` is when
    it was intended; ``said`` the last text written of it."""

    undo: Undo
    drill: str
    utc: str
    origin: Origin | None
    states: tuple[FaultState, ...]
    said: str = ""


def open_records(records: list[Record]) -> list[OpenFault]:
    """What was intended and never verified as healed, oldest first. Undo it in the reverse order."""
    found: dict[str, OpenFault] = {}
    for record in records:
        if record.undo is not None:
            found[record.fault_id] = OpenFault(record.undo, record.drill, record.utc, record.origin, (record.state,))
        elif record.fault_id in found:
            fault = found[record.fault_id]
            said = record.text or fault.said
            found[record.fault_id] = msgspec.structs.replace(fault, states=(*fault.states, record.state), said=said)
    return [fault for fault in found.values() if not any(state in CLOSING for state in fault.states)]


def open_faults(records: list[Record]) -> list[Undo]:
    """The undo of each open fault, oldest first."""
    return [fault.undo for fault in open_records(records)]

"""The audit log of a standing environment: who did what, where, when, and what the guard decided. Append-only and hash-chained.

One JSON object a line; each holds the hash of the one before, so that a line that was changed, removed or inserted breaks the chain from
there on. A chain cannot show that its *last* lines were cut off: note the head that ``gameday audit verify`` prints, or ship the file.
It holds no secrets: whoever writes a record passes none.
"""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import msgspec

from chaos.core.clock import utc_label, utc_now
from chaos.core.errors import GamedayError

FILE = "audit.jsonl"
FIRST = "0" * 64
PERMITTED, REFUSED, DONE, FAILED = "permitted", "refused", "done", "failed"


class AuditRecord(msgspec.Struct, frozen=True):
    """One line. ``decision`` is ``permitted`` or ``refused`` for what the guard was asked, ``done`` or ``failed`` for what happened.
    ``by`` is the person as given (``--drill-operator``), ``user`` the account. ``hash`` covers all the rest."""

    seq: int
    prev: str
    utc: str
    action: str
    decision: str
    environment: str
    text: str
    by: str = ""
    user: str = ""
    host: str = ""
    pid: int = 0
    run: str = ""
    drill: str = ""
    hash: str = ""


class Verified(msgspec.Struct, frozen=True):
    """A chain that holds: how many records, and the hash of the last."""

    count: int
    head: str


class AuditBroken(GamedayError):
    """The chain does not hold; ``where`` is the first line that does not fit."""


class AuditLog:
    """Writes records. Several processes may write one file; every record is on the disk before :meth:`write` returns."""

    def __init__(self, path: Path, *, environment: str, by: str = "", run: str = "", drill: str = "") -> None:
        self.path = path
        self._common = {"environment": environment, "by": by, "run": run, "drill": drill}

    def write(self, action: str, decision: str, text: str) -> None:
        """Append one record.

        Raises:
            GamedayError: the disk does not take it; then nothing may be broken.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                seq, prev, torn = _tail(fd)
                if torn:
                    seq, prev = self._append(fd, seq, prev, "torn", FAILED, f"its writer died in the middle of this record: {torn!r}")
                self._append(fd, seq, prev, action, decision, text)
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as err:
            raise GamedayError(
                "the audit log does not take a record, so nothing may be broken",
                where=str(self.path),
                observed=err.strerror or str(err),
                next_step="free space there, or make it writable, and run the drill again",
            ) from err

    def _append(self, fd: int, seq: int, prev: str, action: str, decision: str, text: str) -> tuple[int, str]:
        host, user = platform.node(), _user()
        bare = AuditRecord(
            seq + 1, prev, utc_label(utc_now()), action, decision, text=text, user=user, host=host, pid=os.getpid(), **self._common
        )
        record = msgspec.structs.replace(bare, hash=hash_of(bare))
        line = msgspec.json.encode(record) + b"\n"
        size = os.fstat(fd).st_size
        written = os.write(fd, line)
        if written != len(line):
            os.ftruncate(fd, size)
            raise OSError(28, f"took {written} of {len(line)} bytes")
        return record.seq, record.hash


def hash_of(record: AuditRecord) -> str:
    """SHA-256 over the record without its own hash, keys sorted."""
    bare = msgspec.structs.replace(record, hash="")
    return hashlib.sha256(msgspec.json.encode(bare, order="sorted")).hexdigest()


def _tail(fd: int) -> tuple[int, str, str]:
    """Number and hash of the last whole record, and the torn one behind it, which is taken out of the way (its text is kept in a
    record of its own)."""
    size = os.fstat(fd).st_size
    content = os.pread(fd, size, 0)
    whole = content.rfind(b"\n") + 1
    torn = content[whole:].decode(errors="replace")
    if torn:
        os.ftruncate(fd, whole)
    if not whole:
        return 0, FIRST, torn
    last = content[content.rfind(b"\n", 0, whole - 1) + 1 : whole - 1]
    try:
        record = msgspec.json.decode(last, type=AuditRecord)
    except (msgspec.DecodeError, ValueError):
        # The chain is broken already and says so when verified; what happens now is recorded all the same, chained to those bytes.
        return content.count(b"\n"), hashlib.sha256(last).hexdigest(), torn
    return record.seq, record.hash, torn


def read_audit(path: Path) -> Iterator[tuple[int, AuditRecord]]:
    """Line number and record, one after the other.

    Raises:
        AuditBroken: at the first line that is no record; GamedayError where there is no file.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as err:
        raise GamedayError("the audit log cannot be read", where=str(path), observed=err.strerror or str(err)) from err
    torn = lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            record = msgspec.json.decode(line, type=AuditRecord)
        except (msgspec.DecodeError, ValueError) as err:
            raise _broken(path, number, f"is no record: {err}") from err
        if msgspec.json.encode(record) != line:
            raise _broken(path, number, "was changed: it is not as this package writes it")
        yield number, record
    if torn:
        raise _broken(path, len(lines) + 1, "is torn: its writer died in the middle, or it was cut off")


def verify(path: Path, *, holds: str = "") -> Verified:
    """Check the whole chain; ``holds`` is a head noted earlier, which must still be in it.

    Raises:
        AuditBroken: naming the first line that does not fit.
    """
    prev, count, seen = FIRST, 0, not holds
    for number, record in read_audit(path):
        if record.hash != hash_of(record):
            raise _broken(path, number, "was changed: its content does not have the hash that it states")
        if record.prev != prev or record.seq != count + 1:
            raise _broken(path, number, "does not follow the one before: a record was removed, inserted or moved here")
        prev, count, seen = record.hash, record.seq, seen or record.hash == holds
    if not seen:
        raise _broken(path, count + 1, f"should follow: the head {holds[:12]}… is not in the chain, records were cut off or replaced")
    return Verified(count, prev)


def _broken(path: Path, number: int, what: str) -> AuditBroken:
    return AuditBroken(
        f"the record {what}", where=f"{path}:{number}", next_step="nothing from here on is proven: compare with a copy kept elsewhere"
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"

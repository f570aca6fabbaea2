"""Appends whole lines to the shared history file. Knows nothing of what the lines say.

Several processes append to one file. O_APPEND keeps their writes apart as long as each write is complete; a short write (full disk,
quota, file-size limit) would leave half a line for somebody else's line to run into. Such a half line is overwritten with blanks at
once (its blocks are allocated, so that needs no space) and the whole line is written again later: JSON ignores blanks before a value,
hence every line of the file stays readable whatever the disk does. Not durable: there is no fsync, a crash of the writer loses nothing
that was handed over, a crash of the machine may.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path


class LineFile:
    """One writer of a shared append-only file. Not thread-safe. ``add`` only remembers; ``flush`` hands over to the kernel."""

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.trouble: OSError | None = None
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._eraser = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)  # pwrite to an O_APPEND descriptor would append
        self._pending: list[bytes] = []

    def add(self, line: bytes) -> None:
        """``line`` ends in a newline and has no other."""
        self._pending.append(line)

    @property
    def pending_lines(self) -> int:
        """Lines that the kernel has not taken yet."""
        return sum(chunk.count(b"\n") for chunk in self._pending)

    def flush(self) -> bool:
        """Hand over what is pending; False where some of it has to wait (``trouble`` says why). Never raises for a full disk."""
        if not self._pending:
            return True
        data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        try:
            written = os.write(self._fd, data)
        except OSError as err:
            self.trouble = err
            self._pending = [data]
            return False
        if written == len(data):
            self.trouble = None
            self._pending.clear()
            return True
        whole = data.rfind(b"\n", 0, written) + 1
        if whole < written:
            end = os.lseek(self._fd, 0, os.SEEK_CUR)
            os.pwrite(self._eraser, b" " * (written - whole), end - (written - whole))
        self._pending = [data[whole:]]
        self.trouble = OSError(errno.ENOSPC, f"short write ({written} of {len(data)} bytes)")
        return False

    def close(self) -> None:
        """Gives the descriptors back; does not flush."""
        os.close(self._fd)
        os.close(self._eraser)

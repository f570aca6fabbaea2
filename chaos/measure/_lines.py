"""Appends whole lines to the shared history file. Knows nothing of what the lines say.

Several processes append to one file. O_APPEND keeps their writes apart as long as each write is complete; a short write (full disk,
quota, file-size limit) would leave half a line for somebody else's line to run into. Such a half line is overwritten with blanks at
once (its blocks are allocated, so that needs no space) and the whole line is written again later: JSON ignores blanks before a value,
hence every line of the file stays readable whatever the disk does. Not durable: there is no fsync, a crash of the writer loses nothing
that was handed over, a crash of the machine may.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

RETRY_S = 0.02


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


class Scribe:
    """Feeds a :class:`LineFile` from a thread of its own, so that whoever adds a line never waits for the disk: a write may stand still
    for tens of milliseconds behind somebody else's fsync, real-time priority or not. Lines keep their order. ``complain`` is told once
    for each stretch in which the disk takes nothing."""

    def __init__(self, file: LineFile, complain: Callable[[str], None]) -> None:
        self._file, self._complain = file, complain
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="scribe", daemon=True)
        self._thread.start()

    def add(self, line: bytes) -> None:
        """As :meth:`LineFile.add`; handed over as soon as the disk takes it."""
        self._lines.put(line)

    def finish(self, within_s: float) -> int:
        """Hand over what is left; returns how many lines the disk did not take within that time. Nothing may be added afterwards."""
        self._lines.put(None)
        self._thread.join(within_s)
        return self._file.pending_lines + max(0, self._lines.qsize() - 1) if self._thread.is_alive() else 0

    def _run(self) -> None:
        ended = False
        while not ended:
            ended = self._gather(self._lines.get())
            told = False
            while not self._file.flush():
                if not told:
                    self._complain(f"history {self._file.path}: {self._file.trouble}; records are kept in memory until it takes them")
                told = True
                time.sleep(RETRY_S)

    def _gather(self, line: bytes | None) -> bool:
        """Take ``line`` and whatever is there behind it; True where that was the end."""
        with contextlib.suppress(queue.Empty):
            while line is not None:
                self._file.add(line)
                line = self._lines.get_nowait()
            return True
        return False

"""``DiskErrors``: flushes and writes of a process that fail, as on a disk with bad sectors or a pool that is out of blocks."""

from __future__ import annotations

from typing import ClassVar

from chaos.core.errors import BadInput
from chaos.core.model import Undo
from chaos.faults._trace import TracedProcess
from chaos.faults.base import Resolve

ERRORS = ("EIO", "ENOSPC", "EROFS", "EDQUOT")
CALLS = ("fsync", "fdatasync", "pwrite64", "pwritev")


class DiskErrors(TracedProcess, frozen=True):
    """Lets the system calls ``calls`` of the process named ``process`` and its descendants fail with ``error``: every one, or every
    ``every``-th of each thread, without being done. By strace, so nothing reaches the disk that failed.

    The default calls are those that only files take; ``write`` would hit sockets and pipes as well. PostgreSQL answers EIO from
    fdatasync with PANIC, and recovers when it can. What ends meanwhile is started again by healing. Needs the capability ``exec``, and
    on the node strace, setpriv and the right to trace (tried beforehand). Nets: fixture, healer, dead-man (a shell script that
    ends strace). A call that is being failed at the very moment strace ends may return ENOSYS.
    """

    error: str = "EIO"
    calls: tuple[str, ...] = CALLS
    every: int = 1

    kind: ClassVar[str] = "disk-errors"
    marked: ClassVar[str] = "(INJECTED)"

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        if self.error not in ERRORS:
            raise BadInput(f"DiskErrors: error {self.error!r}", where=str(self.node), expected=f"one of {', '.join(ERRORS)}")
        if not 1 <= self.every <= 65535:
            raise BadInput("DiskErrors: out of range", where=str(self.node), expected="1 <= every <= 65535", observed=str(self.every))
        return super().plan(fault_id, resolve)

    def expression(self) -> str:
        when = f":when={self.every}+{self.every}" if self.every > 1 else ""
        return f"{','.join(self.calls)}:error={self.error}{when}"

    def traced_calls(self) -> tuple[str, ...]:
        return self.calls

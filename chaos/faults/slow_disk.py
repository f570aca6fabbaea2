"""``SlowDisk``: every flush of a process takes longer, as on a disk that is overloaded or about to die. Nothing fails."""

from __future__ import annotations

from typing import ClassVar

from chaos.core.errors import BadInput
from chaos.core.model import Undo
from chaos.faults._trace import TracedProcess
from chaos.faults.base import Resolve

FLUSHES = ("fsync", "fdatasync", "sync_file_range", "msync")


class SlowDisk(TracedProcess, frozen=True):
    """Delays each of the system calls ``calls`` (flushes) of the process ``process`` and its descendants by ``delay_ms``, with strace.

    Being traced costs the process something at every system call (tens of microseconds), whether it is delayed or not. Landed means
    that a delayed call was seen: a process that flushes nothing does not land. Needs the capability ``exec``, and on the node strace,
    setpriv and the right to trace (tried beforehand). Nets: fixture, healer, dead-man (a shell script that ends strace).
    Measured: fdatasync delayed by 300 ms makes an insert into PostgreSQL take 301 ms.
    """

    delay_ms: float = 100.0
    calls: tuple[str, ...] = FLUSHES

    kind: ClassVar[str] = "slow-disk"
    marked: ClassVar[str] = "(DELAYED)"

    def plan(self, fault_id: str, resolve: Resolve) -> Undo:
        if not 0 < self.delay_ms <= 60_000:
            raise BadInput("SlowDisk: out of range", where=str(self.node), expected="0 < delay_ms <= 60000", observed=str(self.delay_ms))
        return super().plan(fault_id, resolve)

    def expression(self) -> str:
        return f"{','.join(self.calls)}:delay_enter={int(self.delay_ms * 1000)}"

    def traced_calls(self) -> tuple[str, ...]:
        return self.calls

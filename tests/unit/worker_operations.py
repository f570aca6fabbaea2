"""Operations that the workload process runs in its tests: one line there, one back, against ``TinyServer`` of ``worker_harness``."""

from __future__ import annotations

import asyncio
import sys

from bench.line_client import ask, connect
from chaos.measure.workload import Call, Refused

__all__ = ["ask", "connect"]


async def never_connects(call: Call) -> object:
    """A connect that hangs."""
    await asyncio.Event().wait()
    return object()


async def stubborn(call: Call) -> None:
    """Hangs, and takes its time when cancelled."""
    call.is_write = True
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(3600)


async def misbehaving(call: Call) -> None:
    """Of five operations one divides by zero, one exits, one raises something odd, one is refused and one is well."""
    call.node, call.timeline = "n\udc80ode", 1 << 40
    match call.k % 5:
        case 0:
            raise ZeroDivisionError(f"{1}/0 «über»\n\udcff")
        case 1:
            sys.exit(3)
        case 2:
            raise BaseExceptionGroup("odd", [KeyboardInterrupt()])
        case 3:
            raise Refused("not today")


async def quick(call: Call) -> None:
    """Does nothing, as a write of kind 1."""
    call.is_write, call.kind, call.node, call.timeline = True, 1, "n1", 7


not_async = len

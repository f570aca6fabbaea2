"""A process that asks the scheduler to be run soon after it wakes, for a short while each time. Linux only; a no-op elsewhere."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

SHORTEST_NS = 100_000
"""The kernel's own lower bound (sched(7))."""
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274, "ppc64le": 355, "s390x": 345}
"""The C library has no name for this call before glibc 2.41."""


class _Attributes(ctypes.Structure):
    """``struct sched_attr`` of linux/sched/types.h, its first version."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


def take_short_slices() -> bool:
    """Ask for them, for this process; False where the kernel does not know them. Kernels before 6.12 take no notice."""
    number = _SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)  # the call sets it, too: to what it is
    attributes = _Attributes(size=ctypes.sizeof(_Attributes), nice=nice, runtime=SHORTEST_NS)
    return int(ctypes.CDLL(None).syscall(number, 0, ctypes.byref(attributes), 0)) == 0

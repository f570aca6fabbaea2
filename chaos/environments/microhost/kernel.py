"""The few system calls that Python 3.11 has no name for: namespaces, mounts, capabilities, process control.

Thin and checked: every failing call raises OSError with the call's name. No policy here.
"""

from __future__ import annotations

import ctypes
import os
import struct

CLONE_FLAGS = {
    "mnt": 0x00020000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "time": 0x00000080,
}
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x4000, 0x40000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_CAP_AMBIENT = 1, 4, 15, 47
PR_CAP_AMBIENT_RAISE = 2
CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_PTRACE, CAP_SYS_ADMIN = 10, 12, 13, 19, 21
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> int:
    encoded = [a.encode() if isinstance(a, str) else a for a in arguments]
    result = int(getattr(_libc, name)(*encoded))
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{name}: {os.strerror(errno)}")
    return result


def unshare(*namespaces: str) -> None:
    """Leave the named namespaces (``mnt uts ipc user pid net time``) for fresh ones; ``pid`` and ``time`` take effect for children."""
    flags = 0
    for name in namespaces:
        flags |= CLONE_FLAGS[name]
    _call("unshare", flags)


def setns(fd: int, namespace: str) -> None:
    """Enter the namespace behind ``fd``; ``pid`` takes effect for children."""
    _call("setns", fd, CLONE_FLAGS[namespace])


def unshare_clock(offset_s: int) -> None:
    """Children of this process read CLOCK_MONOTONIC and CLOCK_BOOTTIME ``offset_s`` seconds ahead. Before any of them is started."""
    unshare("time")
    with open("/proc/self/timens_offsets", "w", encoding="ascii") as file:
        file.write(f"monotonic {offset_s} 0\nboottime {offset_s} 0\n")


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    _call("mount", source, target, kind, ctypes.c_ulong(flags), options or None)


def umount(target: str, flags: int = 0) -> None:
    _call("umount2", target, flags)


def make_mounts_private() -> None:
    """Keep every later mount of this namespace from spreading to the parent's."""
    _call("mount", None, "/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)


def sethostname(name: str) -> None:
    _call("sethostname", name, len(name.encode()))


def prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _call("prctl", ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero)


def set_process_name(name: str) -> None:
    """What ``ps`` shows as the command name (15 bytes)."""
    zero = ctypes.c_ulong(0)
    _call("prctl", ctypes.c_int(PR_SET_NAME), ctypes.create_string_buffer(name.encode()[:15]), zero, zero, zero)


def keep_capabilities_over_exec(*capabilities: int) -> None:
    """Make ``capabilities`` ambient, so that a program executed by a non-zero uid keeps them."""
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION_3, 0))
    data = ctypes.create_string_buffer(24)
    _call("capget", header, data)
    effective0, permitted0, _, effective1, permitted1, _ = struct.unpack("6I", data.raw)
    inheritable = struct.pack("6I", effective0, permitted0, permitted0, effective1, permitted1, permitted1)
    _call("capset", header, ctypes.create_string_buffer(inheritable))
    zero = ctypes.c_ulong(0)
    for capability in capabilities:
        _call("prctl", ctypes.c_int(PR_CAP_AMBIENT), ctypes.c_ulong(PR_CAP_AMBIENT_RAISE), ctypes.c_ulong(capability), zero, zero)

"""Who owns what was started or broken, and is that process dead? A process is named by its pid and its start time, within a *scope*
(machine and pid namespace). Where the scope is not ours, its pid means nothing to us and the owner counts as alive: state may be shared
by machines, and by containers that see the same directory or hold the same engine's socket. It ends and removes nothing.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import msgspec


class Owner(msgspec.Struct, frozen=True):
    """One process of one machine. ``started`` is the kernel's own stamp, ``boot`` the boot's id, ``scope`` says where the pid means
    something (:func:`scope`)."""

    pid: int
    started: str
    boot: str
    scope: str
    user: str = ""

    @classmethod
    def of(cls, pid: int) -> Owner:
        """The process ``pid`` as it is now."""
        return cls(pid, start_of(pid), boot_id(), scope(), str(os.geteuid()))

    def dead(self) -> bool:
        """Is it known to be gone? False where that cannot be known from here."""
        machine, _, namespace = self.scope.rpartition("/")
        own_machine, _, own_namespace = scope().rpartition("/")
        if not (self.started and self.boot) or machine != own_machine:
            return False
        if self.boot != boot_id():
            return True
        return namespace == own_namespace and start_of(self.pid) != self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.scope.partition(':')[2].rpartition('/')[0] or 'this machine'}"


def start_of(pid: int) -> str:
    """The start time of ``pid`` in the kernel's own unit; "" where it is gone or a zombie."""
    if sys.platform != "linux":
        import psutil

        try:
            return repr(psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return ""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]


def boot_id() -> str:
    """Differs after every boot of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil

        return str(int(psutil.boot_time()))


def scope() -> str:
    """``<machine>/<pid namespace>``: where a pid means what it means here."""
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = ""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = "host"
    return f"{machine}:{platform.node()}/{namespace}"

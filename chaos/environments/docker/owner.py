"""Whose container is it, and is that process dead? Labels in, a judgement out. It removes nothing (see ``sweep``).

A process is named by its pid and its start time, within a *scope* (machine and pid namespace). Where the scope is not ours, its
pid means nothing to us and the owner counts as alive: an engine may be shared by machines and by containers that hold its socket.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

PREFIX = "org.pytest-gameday"
RUN = f"{PREFIX}.run"
OWNER_PID = f"{PREFIX}.owner-pid"
OWNER_START = f"{PREFIX}.owner-start"
OWNER_SCOPE = f"{PREFIX}.owner-scope"


def owner_labels(run_id: str) -> dict[str, str]:
    """Labels that say that this process owns what bears them."""
    pid = os.getpid()
    return {RUN: run_id, OWNER_PID: str(pid), OWNER_START: f"{_start_of(pid)}@{_boot()}", OWNER_SCOPE: _scope()}


def owner_is_dead(labels: Mapping[str, str]) -> bool:
    """Is the process that these labels name known to be gone? False where that cannot be known from here."""
    start, _, boot = labels.get(OWNER_START, "").partition("@")
    machine, _, namespace = labels.get(OWNER_SCOPE, "").rpartition("/")
    own_machine, _, own_namespace = _scope().rpartition("/")
    pid = labels.get(OWNER_PID, "")
    if not (start and boot and pid.isdigit()) or machine != own_machine:
        return False
    if boot != _boot():
        return True
    return namespace == own_namespace and _start_of(int(pid)) != start


def _start_of(pid: int) -> str:
    """The start time of ``pid`` in the kernel's own unit; "" where it is gone or a zombie."""
    if sys.platform != "linux":
        try:
            return repr(psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return ""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(int(psutil.boot_time()))


def _scope() -> str:
    """``<machine>/<pid namespace>``."""
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = ""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = "host"
    return f"{machine}:{platform.node()}/{namespace}"

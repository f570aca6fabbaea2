"""A micro-host's disk: a tmpfs with a size and a number of files of its own, so that a full one is a real ENOSPC.

Runs inside the sandbox only (see :mod:`chaos.environments.microhost.hosts`). It survives power loss as a disk does; there is no cache
to lose on a tmpfs.
"""

from __future__ import annotations

import os
from pathlib import Path

from chaos.core.errors import EnvironmentFailed
from chaos.environments.microhost import kernel

MS_RDONLY, MS_REMOUNT, MS_BIND, MNT_DETACH = 0x1, 0x20, 0x1000, 0x2
OWN_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV
BYTES_PER_FILE = 4096
LEAST_FILES = 4096
WHOLE, NEW = "whole", "new"


def make(disk: Path, size_bytes: int) -> None:
    """Mount it. As many files as it has pages, as many file systems have, and never so few that an empty service does not fit."""
    disk.mkdir(parents=True, exist_ok=True)
    files = max(LEAST_FILES, size_bytes // BYTES_PER_FILE)
    kernel.mount("gameday", str(disk), "tmpfs", OWN_FLAGS, f"size={size_bytes},nr_inodes={files},mode=0755")


def set_read_only(disk: Path, init_pid: int, *, on: bool, by_path: bool) -> None:
    """Idempotent. ``by_path``: a read-only mount on top of it in the host's own view, for what is opened from now on.

    Raises:
        OSError: EBUSY where somebody has a file open for writing and ``by_path`` is not asked for.
    """
    if on and not by_path:
        kernel.mount("gameday", str(disk), "tmpfs", OWN_FLAGS | MS_REMOUNT | MS_RDONLY)
        return
    if on:
        if not init_pid:
            raise EnvironmentFailed("no power", where=disk.name)
        _in_view_of(init_pid, disk, cover=True)
        return
    kernel.mount("gameday", str(disk), "tmpfs", OWN_FLAGS | MS_REMOUNT)
    if init_pid and look(disk, init_pid) == NEW:
        _in_view_of(init_pid, disk, cover=False)


def look(disk: Path, init_pid: int) -> str:
    """``""``, ``whole`` or ``new``, by what the kernel says of the disk itself and of the host's view of it."""
    if os.statvfs(disk).f_flag & os.ST_RDONLY:
        return WHOLE
    try:
        seen = os.statvfs(f"/proc/{init_pid}/root{disk}") if init_pid else None
    except FileNotFoundError:
        return ""  # it lost power while we looked
    return NEW if seen is not None and seen.f_flag & os.ST_RDONLY else ""


def _in_view_of(init_pid: int, disk: Path, *, cover: bool) -> None:
    """In the host's mount namespace, by a child: the supervisor stays where it is."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            namespace = os.open(f"/proc/{init_pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            kernel.setns(namespace, "mnt")
            _cover(disk) if cover else _uncover(disk)
        except BaseException as err:  # noqa: BLE001  (the last frame of a forked child: report, then _exit)
            os.write(writer, repr(err).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        trouble = pipe.read().decode(errors="replace")
    os.waitpid(child, 0)
    if trouble:
        raise EnvironmentFailed("the host's view of its disk could not be changed", where=disk.name, observed=trouble)


def _cover(disk: Path) -> None:
    if not os.statvfs(disk).f_flag & os.ST_RDONLY:
        kernel.mount(str(disk), str(disk), "none", MS_BIND)
    kernel.mount("none", str(disk), "none", OWN_FLAGS | MS_REMOUNT | MS_BIND | MS_RDONLY)


def _uncover(disk: Path) -> None:
    """Writable first: a process that was started meanwhile stands in the covering mount, and goes on using it."""
    kernel.mount("none", str(disk), "none", OWN_FLAGS | MS_REMOUNT | MS_BIND)
    kernel.umount(str(disk), MNT_DETACH)

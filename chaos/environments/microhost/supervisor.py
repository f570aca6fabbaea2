"""The supervisor: one process per sandbox, started by pytest, holding everything that micro-hosts are made of.

Two processes really. The *stub* enters fresh namespaces (one user namespace with one uid, mapped to a non-zero inner uid, so that
PostgreSQL runs as it is even where pytest runs as root) and forks the sandbox's PID 1; from then on it only watches that pytest
lives. PID 1 serves requests, one at a time and never waiting. When pytest, the stub or PID 1 dies, however it dies, the kernel
ends every process, interface and mount of the sandbox: that, and not any code of ours, is the cleaning up.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from chaos.core.errors import GamedayError
from chaos.environments.microhost import kernel
from chaos.environments.microhost.protocol import Asked, Hello, Reply, receive_request, send_reply

if TYPE_CHECKING:
    from chaos.environments.microhost.serve import Server

INNER_UID = 1000
LOOK_AROUND_MS = 200


def main(argv: list[str]) -> int:
    """``FD ROOT``: our end of the socketpair, and the directory to mount the sandbox's own files over."""
    channel = socket.socket(fileno=int(argv[0]))
    channel.set_inheritable(False)  # it came by inheritance; no program on a micro-host may have it
    root, parent = Path(argv[1]), os.getppid()
    step = "start"
    try:
        step = "unshare (user, mnt, net, pid, ipc, uts)"
        uid, gid = os.geteuid(), os.getegid()
        kernel.unshare("user", "mnt", "net", "pid", "ipc", "uts")
        step = "map one uid"
        for name, value in (("setgroups", "deny"), ("uid_map", f"{uid or INNER_UID} {uid} 1"), ("gid_map", f"{gid or INNER_UID} {gid} 1")):
            Path(f"/proc/self/{name}").write_text(value)
        step = "fork"
        ready_reader, ready_writer = os.pipe2(os.O_CLOEXEC)
        pid1 = os.fork()
        if pid1 == 0:
            os.close(ready_reader)
            return _sandbox(channel, root, ready_writer)
        os.close(ready_writer)
        with os.fdopen(ready_reader, "rb") as pipe:
            trouble = pipe.read().decode(errors="replace")
        if trouble:
            step, _, reason = trouble.partition("\n")
            raise OSError(reason)
    except OSError as err:
        with contextlib.suppress(OSError):
            channel.send(msgspec.json.encode(Hello(error=str(err), step=step)))
        return 1
    with contextlib.suppress(OSError):  # where pytest is gone already, the watch below sees it
        channel.send(msgspec.json.encode(Hello(root_pid=pid1)))
    return _watch(pid1, channel, parent)


def _watch(pid1: int, channel: socket.socket, parent: int) -> int:
    """Until the sandbox ends, or pytest does (hang-up, or we are adopted)."""
    kernel.set_process_name("gd:stub")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a Ctrl-C is pytest's to handle; we end with pytest
    hangup = select.poll()
    hangup.register(channel, 0)
    while True:
        gone = any(event & (select.POLLHUP | select.POLLERR) for _, event in hangup.poll(LOOK_AROUND_MS))
        if gone or os.getppid() != parent:
            os.kill(pid1, signal.SIGKILL)
            os.waitpid(pid1, 0)
            return 0
        pid, status = os.waitpid(pid1, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status) & 0xFF


def _sandbox(channel: socket.socket, root: Path, ready: int) -> int:
    """PID 1: set the stage, then serve."""
    step = "PDEATHSIG"
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
        kernel.set_process_name("gd:sandbox")
        step = "make mounts private"
        kernel.make_mounts_private()
        step = "mount /proc"
        kernel.mount("proc", "/proc", "proc")
        step = f"mount tmpfs on {root}"
        kernel.mount("gameday", str(root), "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=64m,mode=0755")
        step = "mount tmpfs on /dev/shm"
        kernel.mount("gameday", "/dev/shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=64m")
        step = "make a bridge"
        from chaos.environments.microhost.serve import Server

        server = Server(root)
    except BaseException as err:  # noqa: BLE001  (the last frame of a forked child: report, then _exit)
        os.write(ready, f"{step}\n{err!r}".encode())
        os._exit(1)
    os.close(ready)
    _serve(channel, server)
    return 0


def _serve(channel: socket.socket, server: Server) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    while True:
        ready = poll.poll(LOOK_AROUND_MS)
        server.reap()
        if not ready:
            continue
        try:
            asked, fds = receive_request(channel)
            if asked is None:
                return
            send_reply(channel, _answer(server, asked, fds))
        except ConnectionError:
            return


def _answer(server: Server, asked: Asked, fds: list[int]) -> Reply:
    try:
        return msgspec.structs.replace(server.handle(asked.request, fds), number=asked.number)
    except GamedayError as err:
        return Reply(asked.number, error=str(err))
    except Exception as err:  # noqa: BLE001  (pyroute2 has errors of many kinds; the caller gets their text and goes on)
        print(f"gameday supervisor: {asked.request!r}: {err!r}", file=sys.stderr, flush=True)
        return Reply(asked.number, error=f"{type(err).__name__}: {err}")
    finally:
        for fd in fds:
            os.close(fd)

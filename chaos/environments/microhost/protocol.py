"""What pytest and the supervisor say to each other: one JSON datagram a request, one a reply, over a socketpair.

SOCK_SEQPACKET keeps message boundaries and its hang-up is how the supervisor learns that pytest is gone. File descriptors
(a program's stdin, stdout, stderr and the pipe for its exit status) travel beside the request by SCM_RIGHTS. Every request is
answered at once: whatever takes time runs in a child of the supervisor.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TypeAlias

import msgspec

from chaos.environments.base import DropRule, Process

MAX_MESSAGE = 1 << 20
MAX_FDS = 4


class ServiceSpec(msgspec.Struct, frozen=True):
    """A long-running program of a micro-host, started at every boot. ``log`` is a path as the host sees it."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = {}
    log: str = "/dev/null"


class AddHost(msgspec.Struct, frozen=True, tag=True):
    """Make a host (its disk and address) and boot it."""

    name: str
    disk_bytes: int
    services: tuple[ServiceSpec, ...] = ()


class PowerOff(msgspec.Struct, frozen=True, tag=True):
    """The link goes first, then every process."""

    host: str


class PowerOn(msgspec.Struct, frozen=True, tag=True):
    host: str


class Spawn(msgspec.Struct, frozen=True, tag=True):
    """Run a program on the host; comes with four descriptors: stdin, stdout, stderr, status. The exit status (decimal, negative
    for a signal) is written into the last; its end without one means that the host lost power."""

    host: str
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str = "/"
    privileged: bool = False


class ListProcesses(msgspec.Struct, frozen=True, tag=True):
    host: str


class Signal(msgspec.Struct, frozen=True, tag=True):
    """To exactly this process; the reply's ``done`` is False where it is gone."""

    host: str
    pid: int
    started: int
    number: int


class Freeze(msgspec.Struct, frozen=True, tag=True):
    host: str
    on: bool


class StartService(msgspec.Struct, frozen=True, tag=True):
    host: str
    service: str


class Look(msgspec.Struct, frozen=True, tag=True):
    """The host as it is now (:class:`HostState`)."""

    host: str


class Ping(msgspec.Struct, frozen=True, tag=True):
    """ICMP echoes from one host to another; ``answered`` says how many answers came, ``done`` whether any did."""

    source: str
    target: str
    timeout_s: float
    count: int = 1


class Block(msgspec.Struct, frozen=True, tag=True):
    """Drop packets by routing rules of ``host`` (where iptables is missing), under ``tag``; no rules: remove the tag's."""

    host: str
    tag: str
    rules: tuple[DropRule, ...]


class SetReadOnly(msgspec.Struct, frozen=True, tag=True):
    """Make the host's disk read-only (``done`` is False where a file of it is open for writing), or with ``by_path`` only what is opened
    by path from now on; or writable again."""

    host: str
    on: bool
    by_path: bool = False


class OffsetClock(msgspec.Struct, frozen=True, tag=True):
    """What is started on the host from now on reads its monotonic clock ``offset_s`` seconds ahead; it stays so over a reboot."""

    host: str
    offset_s: int


class Plug(msgspec.Struct, frozen=True, tag=True):
    """Unplug the host's cable, or plug it in again; it stays so over a reboot."""

    host: str
    on: bool


class HostState(msgspec.Struct, frozen=True):
    """``frozen``: every process is stopped, and by us. ``blocks``: tag -> rules held for this host. ``services``: name -> pid as the
    sandbox sees it, 0 where it does not run. ``rules``: dropping rules that this host's kernel holds. ``read_only``: see
    :class:`~chaos.environments.base.ReadOnlyVolumes`. ``traced``: names of processes that a debugger holds."""

    powered: bool
    link_up: bool
    address: str
    frozen: bool
    services: dict[str, int]
    blocks: dict[str, int]
    disk: str
    rules: int
    read_only: str = ""
    traced: tuple[str, ...] = ()
    clock_offset_s: int = 0


Request: TypeAlias = (
    AddHost
    | PowerOff
    | PowerOn
    | Spawn
    | ListProcesses
    | Signal
    | Freeze
    | StartService
    | Look
    | Ping
    | Block
    | SetReadOnly
    | OffsetClock
    | Plug
)


class Asked(msgspec.Struct, frozen=True):
    """A request and its number, which the reply carries too: one whose asker was interrupted while it waited is recognised later."""

    number: int
    request: Request


class Reply(msgspec.Struct, frozen=True):
    """``error`` empty: done as asked. Which of the others is set depends on the request."""

    number: int = 0
    error: str = ""
    done: bool = True
    pid: int = 0
    processes: tuple[Process, ...] = ()
    host: HostState | None = None
    answered: int = 0


class Hello(msgspec.Struct, frozen=True):
    """The supervisor's first message. ``root_pid`` is the sandbox's PID 1 as the outside sees it: ``/proc/<root_pid>/root`` shows
    the sandbox's files. ``error`` says which step failed where the kernel refused one."""

    root_pid: int = 0
    error: str = ""
    step: str = ""


_requests = msgspec.json.Decoder(Asked)
_replies = msgspec.json.Decoder(Reply)


def send_request(channel: socket.socket, asked: Asked, fds: tuple[int, ...] = ()) -> None:
    if fds:
        socket.send_fds(channel, [msgspec.json.encode(asked)], list(fds))
    else:
        channel.send(msgspec.json.encode(asked))


def receive_request(channel: socket.socket) -> tuple[Asked | None, list[int]]:
    """None where the other side is gone."""
    data, fds, _, _ = socket.recv_fds(channel, MAX_MESSAGE, MAX_FDS)
    for fd in fds:
        os.set_inheritable(fd, False)  # they arrive inheritable, whatever they were where they came from
    return (_requests.decode(data) if data else None), fds


def send_reply(channel: socket.socket, reply: Reply) -> None:
    """One that no datagram holds (a host with very many processes) becomes an error that says so."""
    try:
        channel.send(msgspec.json.encode(reply))
    except OSError as err:
        if err.errno != errno.EMSGSIZE:
            raise
        channel.send(msgspec.json.encode(Reply(reply.number, error=f"the answer fits no datagram: {len(reply.processes)} processes")))


def receive_reply(channel: socket.socket) -> Reply | None:
    """None where the other side is gone."""
    data = channel.recv(MAX_MESSAGE)
    return _replies.decode(data) if data else None

"""What pytest and the supervisor say to each other: one JSON datagram a request, one a reply, over a socketpair.

SOCK_SEQPACKET keeps message boundaries and its hang-up is how the supervisor learns that pytest is gone. File descriptors
(a program's stdin, stdout, stderr and the pipe for its exit status) travel beside the request by SCM_RIGHTS. Every request is
answered at once: whatever takes time runs in a child of the supervisor.
"""

from __future__ import annotations

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
    """An ICMP echo from one host to another; ``done`` says whether the answer came."""

    source: str
    target: str
    timeout_s: float


class Block(msgspec.Struct, frozen=True, tag=True):
    """Drop packets by routing rules of ``host`` (where iptables is missing), under ``tag``; no rules: remove the tag's."""

    host: str
    tag: str
    rules: tuple[DropRule, ...]


class HostState(msgspec.Struct, frozen=True):
    """``blocks``: tag -> rules that the kernel holds. ``services``: name -> pid as the sandbox
    sees it, 0 where it does not run. ``rules``: dropping rules that the kernel holds."""

    powered: bool
    link_up: bool
    address: str
    frozen: bool
    services: dict[str, int]
    blocks: dict[str, int]
    disk: str
    rules: int


Request: TypeAlias = AddHost | PowerOff | PowerOn | Spawn | ListProcesses | Signal | Freeze | StartService | Look | Ping | Block


class Reply(msgspec.Struct, frozen=True):
    """``error`` empty: done as asked. Which of the others is set depends on the request."""

    error: str = ""
    done: bool = True
    pid: int = 0
    processes: tuple[Process, ...] = ()
    host: HostState | None = None


class Hello(msgspec.Struct, frozen=True):
    """The supervisor's first message. ``root_pid`` is the sandbox's PID 1 as the outside sees it: ``/proc/<root_pid>/root`` shows
    the sandbox's files. ``error`` says which step failed where the kernel refused one."""

    root_pid: int = 0
    error: str = ""
    step: str = ""


_requests = msgspec.json.Decoder(Request)
_replies = msgspec.json.Decoder(Reply)


def send_request(channel: socket.socket, request: Request, fds: tuple[int, ...] = ()) -> None:
    if fds:
        socket.send_fds(channel, [msgspec.json.encode(request)], list(fds))
    else:
        channel.send(msgspec.json.encode(request))


def receive_request(channel: socket.socket) -> tuple[Request | None, list[int]]:
    """None where the other side is gone."""
    data, fds, _, _ = socket.recv_fds(channel, MAX_MESSAGE, MAX_FDS)
    return (_requests.decode(data) if data else None), fds


def receive_reply(channel: socket.socket) -> Reply | None:
    data = channel.recv(MAX_MESSAGE)
    return _replies.decode(data) if data else None

"""What an environment, and a node in it, must be able to do. Protocols only: providers implement them, faults use them.

Capabilities are separate protocols so that a node may lack some; ``require`` turns a missing one into
:class:`~chaos.core.errors.Unavailable` with the reason and the fix. All calls block, are safe to repeat, and raise
:class:`~chaos.core.errors.EnvironmentFailed` where the environment itself fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import msgspec

from chaos.core.errors import Unavailable
from chaos.core.model import Json, NodeRef


class Completed(msgspec.Struct, frozen=True):
    """A finished command. ``out`` and ``err`` are decoded with replacement and hold at most the last 1 MiB."""

    code: int
    out: str
    err: str


class Process(msgspec.Struct, frozen=True):
    """A process of a node. ``pid`` is the number that :meth:`Processes.signal` takes; with ``started`` (the kernel's
    start time in ticks) it names one process for good. ``service`` is the service it belongs to where known; ``state``
    is the kernel's letter (``T`` stopped, ``D`` uninterruptible, ``Z`` zombie)."""

    pid: int
    parent: int
    started: int
    name: str
    cmdline: tuple[str, ...]
    state: str


class ProbeLine(msgspec.Struct, frozen=True):
    """One line of ``gameday doctor``: what was looked at, whether it works, what was seen, the exact fix where not."""

    what: str
    ok: bool
    seen: str
    fix: str = ""


@runtime_checkable
class Node(Protocol):
    """One machine. ``address`` is the IP its peers use; ``zone`` and ``role`` are labels for people."""

    @property
    def ref(self) -> NodeRef: ...
    @property
    def name(self) -> str: ...
    @property
    def address(self) -> str: ...
    def state(self) -> dict[str, Json]:
        """Everything a fault could have changed, in comparable form (no pids, no times): powered, frozen, services that
        run, links, addresses, packet rules. Equal before a fault and after its heal."""
        ...


@runtime_checkable
class Exec(Protocol):
    """Runs commands on the node."""

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"", privileged: bool = False) -> Completed:
        """Run to the end. ``privileged`` keeps network administration rights on the node.

        Raises :class:`DeadlineExceeded` (the command is killed)."""
        ...


@runtime_checkable
class Power(Protocol):
    """Cuts and restores power. Peers see silence, never a closed connection."""

    def power_off(self) -> None: ...
    def power_on(self) -> None:
        """Boot: the link is back and the node's services have been started (not necessarily ready)."""
        ...

    def powered(self) -> bool: ...
    def reachable(self) -> bool:
        """The link is up and a process answers for the node's address (seen from a peer, not from the node)."""
        ...


@runtime_checkable
class Freeze(Protocol):
    """Stops and resumes every process of the node at once."""

    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def frozen(self) -> bool: ...


@runtime_checkable
class Processes(Protocol):
    """Lists and signals processes."""

    def processes(self) -> list[Process]: ...
    def signal(self, process: Process, signal_number: int) -> bool:
        """Send a signal to exactly this process (pid and start time); False where it is gone."""
        ...


@runtime_checkable
class Services(Protocol):
    """The long-running programs that a node starts when it boots."""

    def services(self) -> Mapping[str, bool]:
        """Service name -> does it run."""
        ...

    def start_service(self, name: str) -> None: ...
    def stop_service(self, name: str, *, timeout_s: float = 30.0) -> None:
        """The orderly way (SIGTERM or the service's own stop), then SIGKILL at the deadline."""
        ...


class DropRule(msgspec.Struct, frozen=True, order=True):
    """Packets to be dropped on one node: incoming (``inbound``) or outgoing, from/to ``peers`` (addresses or CIDRs; empty:
    everybody but loopback), optionally only TCP ``port`` (the node's own port for inbound and outbound alike)."""

    inbound: bool
    peers: tuple[str, ...] = ()
    port: int | None = None


@runtime_checkable
class PacketFilter(Protocol):
    """Drops packets, silently, in a chain of our own named after ``tag``."""

    def drop(self, tag: str, rules: Sequence[DropRule]) -> None:
        """Replaces what this tag held. Refuses where foreign state of the same name is in the way."""
        ...

    def undrop(self, tag: str) -> None:
        """No-op where nothing is held under ``tag``."""
        ...

    def drops(self) -> Mapping[str, int]:
        """Tag -> number of rules that the kernel holds now."""
        ...

    def passes(self, peer: Node) -> bool:
        """Does a packet get through to ``peer`` and back, right now (ICMP or UDP echo, at most 0.3 s)?"""
        ...


Capability = TypeVar("Capability")


def require(node: Node, capability: type[Capability], *, for_what: str) -> Capability:
    """``node`` seen as having ``capability``.

    Raises:
        Unavailable: naming the node, the capability and what wanted it.
    """
    if isinstance(node, capability):
        return node
    raise Unavailable(
        f"{for_what} needs the capability {capability.__name__.lower()}, which this node lacks",
        where=str(node.ref),
        next_step="choose another fault, or an environment whose nodes have it (gameday doctor lists them)",
        capability=capability.__name__.lower(),
    )


class ClientProcess(Protocol):
    """A process that a system runs where its clients live (a workload)."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def wait(self, timeout_s: float) -> int: ...


class Environment(Protocol):
    """A named place where systems run. One object per pytest process; constructing it is free, ``open`` is not."""

    name: str
    kind: str
    disposable: bool

    def doctor(self) -> list[ProbeLine]:
        """What this machine can do, item by item. Changes nothing, takes at most a few seconds."""
        ...

    def check(self) -> None:
        """Raises :class:`Unavailable` with reason and fix where the environment cannot work here."""
        ...

    def open(self, *, run_id: str, state_dir: Path) -> None:
        """Get ready to make systems: sweep what dead runs left behind; ``state_dir`` is ours to write to."""
        ...

    def identity(self) -> dict[str, str]:
        """What pins this environment (host, kernel, engine id …), for the report."""
        ...

    def close(self) -> None: ...

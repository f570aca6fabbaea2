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
from chaos.core.model import Json, NodeRef, Undo


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
    everybody but loopback), optionally only TCP ``port`` (the node's own port for inbound and outbound alike). ``share`` (0 < share ≤ 1)
    of them, chosen at random; a filter that can only drop all refuses a smaller one with Unavailable. ``reject``: TCP packets only, and
    whoever sent one is told by a reset; a filter that can only be silent refuses it with Unavailable."""

    inbound: bool
    peers: tuple[str, ...] = ()
    port: int | None = None
    share: float = 1.0
    reject: bool = False


@runtime_checkable
class PacketFilter(Protocol):
    """Drops packets, silently, in a chain of our own named after ``tag``."""

    def drop(self, tag: str, rules: Sequence[DropRule]) -> None:
        """Replaces what this tag held. Refuses where foreign state of the same name is in the way."""
        ...

    def undrop(self, tag: str) -> None:
        """No-op where nothing is held under ``tag``."""
        ...

    def check_drop(self, rules: Sequence[DropRule]) -> None:
        """Raises Unavailable, with the fix, where this filter cannot hold such rules. Changes nothing."""
        ...

    def drops(self) -> Mapping[str, int]:
        """Tag -> number of rules that the kernel holds now."""
        ...

    def dropped(self, tag: str) -> int | None:
        """Packets that the rules of ``tag`` have caught so far, by the kernel's own count; None where it does not count."""
        ...

    def passes(self, peer: Node) -> bool:
        """Does a packet get through to ``peer`` and back, right now (ICMP or UDP echo, at most 0.3 s)?"""
        ...


@runtime_checkable
class Echoes(Protocol):
    """Sends many echoes at once: what one at a time would take minutes to measure."""

    def echoes(self, peer: Node, count: int) -> int:
        """How many of ``count`` ICMP echoes to ``peer`` were answered in time."""
        ...


@runtime_checkable
class Link(Protocol):
    """Takes the network link of a node down and up again, as an unplugged cable would; its processes go on."""

    def link_down(self) -> None: ...
    def link_up(self) -> None:
        """Addresses and routes are as they were before. Idempotent."""
        ...

    def linked(self) -> bool: ...


@runtime_checkable
class Sysctls(Protocol):
    """Kernel settings of the node's own network namespace, never the host's. ``name`` is what comes after ``/proc/sys/net/``."""

    def sysctl(self, name: str) -> str: ...
    def set_sysctl(self, name: str, value: str) -> None: ...


class Volume(msgspec.Struct, frozen=True):
    """A file system that belongs to the node alone and has a size of its own: filling it fills nothing else. Bytes."""

    path: str
    size_bytes: int
    free_bytes: int


@runtime_checkable
class Volumes(Protocol):
    """Knows which of its file systems are its own. A path on any other (the host's root disk, a shared one) is never filled."""

    def volumes(self) -> Sequence[Volume]: ...


@runtime_checkable
class ReadOnlyVolumes(Protocol):
    """Can make one of its own volumes read-only while it is in use, and writable again."""

    def set_read_only(self, path: str, on: bool) -> None:
        """The whole file system where nobody has a file of it open for writing; else only what is opened by path from now on: who
        has a file open goes on writing. Idempotent."""
        ...

    def read_only(self, path: str) -> str:
        """``""`` writable, ``whole``, or ``new`` (only what is opened by path)."""
        ...


@runtime_checkable
class StartupClock(Protocol):
    """Gives what starts on the node from now on another monotonic clock. What runs keeps its own, and so does the machine."""

    def offset_clock(self, offset_s: int) -> None:
        """CLOCK_MONOTONIC and CLOCK_BOOTTIME are so many seconds ahead (negative: behind) for what is started; 0: as the machine's."""
        ...

    def clock_offset_s(self) -> int: ...


@runtime_checkable
class CpuQuota(Protocol):
    """Limits the processor time of the whole node."""

    def limit_cpu(self, cores: float | None) -> None:
        """At most so many cores; None: as many as there are."""
        ...

    def cpu_limit(self) -> float | None: ...


@runtime_checkable
class MemoryLimit(Protocol):
    """A node whose memory is bounded, apart from its host's."""

    def memory_limit_bytes(self) -> int | None:
        """None: not bounded; filling it would fill the host's."""
        ...

    def memory_used_bytes(self) -> int: ...


Capability = TypeVar("Capability")


def require(
    node: Node,
    capability: type[Capability],
    *,
    for_what: str,
    because: str = "",
    next_step: str = "choose another fault, or an environment whose nodes have it (gameday doctor lists them)",
) -> Capability:
    """``node`` seen as having ``capability``. ``because``: why a node may lack it, where that is known.

    Raises:
        Unavailable: naming the node, the capability and what wanted it.
    """
    if isinstance(node, capability):
        return node
    raise Unavailable(
        f"{for_what} needs the capability {capability.__name__.lower()}, which this node lacks" + (f": {because}" if because else ""),
        where=str(node.ref),
        next_step=next_step,
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


@runtime_checkable
class DeadMan(Protocol):
    """The dead-man's switch of a standing environment: undoes a fault on its own when nobody extends its deadline any more, whatever
    has become of runner, healer and network. It lives on or beside the nodes, is armed before the effect, and removes itself."""

    def arm(self, undo: Undo, deadline_s: float) -> None:
        """Ready to act on ``undo.steps`` in ``deadline_s`` from now. Raises Unavailable for a step that it cannot do."""
        ...

    def extend(self, fault_id: str, deadline_s: float) -> None:
        """The heartbeat: the deadline is ``deadline_s`` from now. Raises EnvironmentFailed where the switch is gone or has acted."""
        ...

    def disarm(self, fault_id: str) -> None:
        """It will not act; nothing of it is left for this fault. A no-op where nothing is armed."""
        ...

    def armed(self) -> Mapping[str, float]:
        """Fault id -> seconds left."""
        ...


class Environment(Protocol):
    """A named place where systems run. One object per pytest process; constructing it is free, ``open`` is not.

    A healer is another process, which finds the provider by ``kind`` (entry-point group ``chaos.environments``), constructs it with
    ``settings()`` and uses ``resolve``, ``reclaim`` and, of a standing one, ``dead_man``; it never calls ``open``.
    """

    name: str
    kind: str
    disposable: bool

    def settings(self) -> dict[str, Json]:
        """Keyword arguments with which the provider reaches the same nodes from another process. No secrets."""
        ...

    def resolve(self, ref: NodeRef) -> Node:
        """The node behind ``ref`` now, from its locator alone, in whatever process.

        Raises:
            EnvironmentGone: it does not exist any more, for good; EnvironmentFailed: it cannot be reached.
        """
        ...

    def reclaim(self) -> list[str]:
        """Remove what dead runs left of a disposable environment, and wait until it is gone; returns what. A standing one: nothing."""
        ...

    def dead_man(self) -> DeadMan | None:
        """The switch of a standing environment; None for a disposable one, whose nodes end with their run."""
        ...

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

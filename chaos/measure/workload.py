"""What a workload is, as data: an open-loop stream of operations that a process of its own will run.

The operation is a module-level async function, named by file and name, so that it may live in the very test file that
uses it; the worker (:mod:`chaos.measure.worker`) imports that file alone, in its own process.
"""

from __future__ import annotations

import math

import msgspec

from chaos.core.durations import parse_duration_s
from chaos.core.model import Json

_SPARE, _MOST_CONNECTIONS = 8, 256


class WorkloadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A stream of operations.

    ``operation`` and ``connect`` are ``/path/to/file.py::name``. ``connect`` (optional) makes one connection; there are at most
    ``connections`` of them; None: what the schedule needs (:func:`completed`). ``timeout_s`` None: the drill derives it from its
    budget. ``gated`` False keeps the workload out of RTO and availability; ``ledger`` True makes its acknowledged writes count for
    RPO. ``kinds`` names what ``Call.kind`` may be. ``rto`` (``"5s"``, seconds): its own budget of recovery time,
    instead of the drill's: reads may have to be back sooner than writes.
    """

    name: str
    operation: str
    connect: str = ""
    params: dict[str, Json] = {}
    rate_hz: float = 100.0
    timeout_s: float | None = None
    connections: int | None = None
    kinds: tuple[str, ...] = ("op",)
    gated: bool = True
    ledger: bool = False
    seed: int = 0
    rto: str | int | float | None = None

    @property
    def rto_s(self) -> float | None:
        """``rto`` in seconds. Raises BadInput where it does not parse."""
        return None if self.rto is None else parse_duration_s(self.rto, what=f"rto of workload {self.name!r}")


def completed(spec: WorkloadSpec, timeout_s: float) -> WorkloadSpec:
    """``spec`` with ``timeout_s`` (seconds) where it names none, and with as many connections as the schedule can ever need where it
    names no number: rate · τ operations are under way when each takes its whole timeout (Little's law). With fewer, a system that is slow
    for a moment holds them all, and what comes due then is sent late: the system's doing, which would read as a starved generator.
    At most 256, what a PostgreSQL server takes easily."""
    timeout_s = spec.timeout_s if spec.timeout_s is not None else timeout_s
    connections = spec.connections if spec.connections is not None else math.ceil(min(spec.rate_hz * timeout_s + _SPARE, _MOST_CONNECTIONS))
    return msgspec.structs.replace(spec, timeout_s=timeout_s, connections=connections)


class Refused(Exception):
    """Raised by an operation when the service answered *no*: the write is certainly not there (outcome FAILED)."""


class Call:
    """What an operation function gets, and what it may say about how it went.

    Signature of the functions a spec names::

        async def operation(call: Call) -> None      # returning = answered ok; Refused = FAILED; anything else = UNKNOWN
        async def connect(call: Call) -> Connection  # Connection.close() must be synchronous, immediate and abortive

    A connection may also have ``fileno()`` (its socket: one that the peer hung up while it rested is then never used) and
    ``usable() -> bool`` (asked before each use; False closes it and lets the operation connect anew).

    ``params`` are the spec's; ``state`` is one dict per worker process, shared by all calls (a discovered primary, a prepared
    client); ``k`` is the operation's number; ``id`` its drill-wide unique id; ``connection`` what ``connect`` returned.
    The function may set ``kind`` (an index into the spec's kinds), ``node`` and ``timeline``. For a write the function sets
    ``call.is_write = True`` *before* it sends, else no id is recorded.
    """

    __slots__ = ("connection", "id", "is_write", "k", "kind", "node", "params", "state", "timeline")

    def __init__(self, params: dict[str, Json], state: dict[str, object], k: int, id: int) -> None:
        self.params, self.state, self.k, self.id = params, state, k, id
        self.connection: object | None = None
        self.kind = 0
        self.node: str | None = None
        self.timeline: int | None = None
        self.is_write = False

"""The history of a drill: one append-only file, one JSON array a line, written by several processes.

Every writer opens the file with O_APPEND and hands the kernel whole lines, so lines never interleave; a crash of any
writer loses at most what it had not yet handed over. A torn last line (full disk, power loss) is tolerated by readers
and nothing else is. Two shapes of line exist:

``["o", w, k, s, t, r, outcome, kind, id, node, timeline, error]`` one operation (:class:`Operation`)
``["e", t, type, data]``                                            one event     (:class:`Event`)

All times are nanoseconds of CLOCK_MONOTONIC, which the processes of one machine share.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from chaos.core.model import Json

SCHEMA = "gameday.history/1"


class Outcome(IntEnum):
    """How an operation ended. ``OK``: answered ok (good only if within its timeout). ``FAILED``: the service said no, so
    a write must not be there. ``UNKNOWN``: no answer (timeout, broken connection), a write may be there. ``UNSENT``: no
    connection was to be had before the timeout, so nothing was sent."""

    OK = 0
    FAILED = 1
    UNKNOWN = 2
    UNSENT = 3


class Operation(msgspec.Struct, array_like=True, tag="o", frozen=True, gc=False):
    """One operation of a workload.

    ``w`` is the workload's index, ``k`` the operation's number in it; scheduled at ``s``, sent at ``t`` (its connect or
    write begins; equals ``r`` when unsent), settled at ``r``. ``kind`` indexes the workload's list of operation kinds.
    ``id`` is the unique id of a write (None for anything else), unique over all workloads of the drill. ``node`` and
    ``timeline`` say who answered and on which database timeline, where known. ``error`` is short and empty when ok.
    """

    w: int
    k: int
    s: int
    t: int
    r: int
    outcome: int
    kind: int = 0
    id: int | None = None
    node: str | None = None
    timeline: int | None = None
    error: str = ""


class Event(msgspec.Struct, array_like=True, tag="e", frozen=True):
    """Anything that is not an operation. ``type`` is one of

    ``start``    ``{"schema", "drill", "run_id", "utc"}``: first line of every history
    ``workload`` a :class:`WorkloadInfo` as an object
    ``phase``    ``{"name", "edge": "begin" | "end"}``
    ``fault``    ``{"id", "kind", "state", "nodes", "params", "cause", "proof"}`` at each :class:`~chaos.core.model.FaultState`
    ``read``     a :class:`SurvivorRead` as an object
    ``probe``    ``{"name", "value", "firing"}``
    ``note``     ``{"text"}``
    """

    t: int
    type: str
    data: dict[str, Json]


class WorkloadInfo(msgspec.Struct, frozen=True):
    """What the judge must know of a workload.

    ``gated``: its RTO and availability count. ``ledger``: its acknowledged writes count for RPO. A sticky workload has
    ``gated=False, ledger=True``. ``origin_ns`` is s_0. ``kinds`` names the operation kinds that ``Operation.kind`` indexes.
    """

    index: int
    name: str
    rate_hz: float
    timeout_s: float
    origin_ns: int
    kinds: tuple[str, ...] = ("op",)
    gated: bool = True
    ledger: bool = True


class SurvivorRead(msgspec.Struct, frozen=True):
    """What one read of the system found. ``ids`` are all write ids present (a duplicate stands twice), ``mutated`` those
    present whose content is not what was written. ``label`` is ``recovered``, ``healed`` or ``whole``."""

    label: str
    began_ns: int
    ended_ns: int
    ids: tuple[int, ...]
    mutated: tuple[int, ...] = ()
    source: str = ""

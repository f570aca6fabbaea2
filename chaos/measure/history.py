"""The history of a drill: one append-only file, one JSON array a line, written by several processes.

Every writer opens the file with O_APPEND and hands the kernel whole lines, so lines never interleave; a crash of any
writer loses at most what it had not yet handed over. A torn last line (full disk, power loss) is tolerated by readers
and nothing else is. Two shapes of line exist:

``["o", w, k, s, t, r, outcome, kind, id, node, timeline, error]`` one operation (:class:`Operation`)
``["e", t, type, data]``                                            one event     (:class:`Event`)

All times are nanoseconds of CLOCK_MONOTONIC, which the processes of one machine share.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from chaos.core.clock import now_ns
from chaos.core.errors import GamedayError
from chaos.core.model import Json
from chaos.measure._lines import LineFile

if TYPE_CHECKING:
    from chaos.measure.columns import Columns, ReadColumns

SCHEMA = "gameday.history/1"


class Outcome(IntEnum):
    """How an operation ended. ``OK``: answered ok (good only if within its timeout). ``FAILED``: the service said no, so
    a write must not be there. ``UNKNOWN``: no answer (timeout, broken connection), a write may be there. ``UNSENT``: no
    connection was to be had before the timeout, so nothing was sent."""

    OK = 0
    FAILED = 1
    UNKNOWN = 2
    UNSENT = 3


class Operation(msgspec.Struct, array_like=True, tag_field="shape", tag="o", frozen=True, gc=False):
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


class Event(msgspec.Struct, array_like=True, tag_field="shape", tag="e", frozen=True):
    """Anything that is not an operation. ``type`` is one of

    ``start``    ``{"schema", "drill", "run_id", "utc"}``: first line of every history
    ``workload`` a :class:`WorkloadInfo` as an object
    ``phase``    ``{"name", "edge": "begin" | "end"}``
    ``fault``    ``{"id", "kind", "state", "nodes", "params", "cause", "proof"}`` at each :class:`~chaos.core.model.FaultState`
    ``read``     a :class:`SurvivorRead` as an object
    ``probe``    ``{"name", "value", "firing", "began_ns"}``: one look at a signal; ``firing`` null where it could not be looked at
    ``check``    ``{"name", "held", "seen", "attempts", "began_ns"}`` when it was decided
    ``runbook``  ``{"name", "edge": "begin" | "end"}``
    ``step``     ``{"runbook", "phase", "name", "kind", "edge": "begin" | "end", "state", "seen"}``
    ``note``     ``{"text"}``
    """

    t: int
    type: str
    data: dict[str, Json]


class WorkloadInfo(msgspec.Struct, frozen=True):
    """What the judge must know of a workload.

    ``gated``: its RTO and availability count. ``ledger``: its acknowledged writes count for RPO. A sticky workload has
    ``gated=False, ledger=True``. ``origin_ns`` is s_0. ``kinds`` names the operation kinds that ``Operation.kind`` indexes.
    ``rto_s``: a recovery budget of its own, instead of the drill's.
    """

    index: int
    name: str
    rate_hz: float
    timeout_s: float
    origin_ns: int
    kinds: tuple[str, ...] = ("op",)
    gated: bool = True
    ledger: bool = True
    rto_s: float | None = None


class SurvivorRead(msgspec.Struct, frozen=True):
    """What one read of the system found. ``ids`` are all write ids present (a duplicate stands twice), ``mutated`` those
    present whose content is not what was written. ``label`` is ``recovered``, ``healed`` or ``whole``."""

    label: str
    began_ns: int
    ended_ns: int
    ids: tuple[int, ...]
    mutated: tuple[int, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """A history that was read. ``reads`` are in the order in which they began; their ids live there as arrays and are replaced by
    their number (``rows``) in ``events``. ``torn``: the last line was cut short and left out."""

    path: str
    columns: Columns
    events: tuple[Event, ...]
    workloads: tuple[WorkloadInfo, ...]
    reads: tuple[ReadColumns, ...]
    torn: bool = False


class HistoryWriter:
    """One of several writers of a history file. Whole lines only; never blocks for space and never raises for the lack of it:
    what the disk does not take is kept and offered again with the next line (``trouble`` says why). Events may come from several
    threads (a heal beside the display); everything else from one."""

    def __init__(self, path: str | Path) -> None:
        self._file = LineFile(path)
        self._lock = threading.Lock()

    @property
    def trouble(self) -> OSError | None:
        """Why lines are waiting; None where none is."""
        return self._file.trouble

    def event(self, type: str, data: msgspec.Struct | dict[str, Json], t_ns: int | None = None) -> None:
        """Write one event, now; ``data`` may be a struct (:class:`WorkloadInfo`, :class:`SurvivorRead`)."""
        moment = now_ns() if t_ns is None else t_ns
        line = _ENCODER.encode(("e", moment, type, data)) + b"\n"
        with self._lock:
            self._file.add(line)
            self._file.flush()

    def operations(self, ops: Iterable[Operation]) -> None:
        """Write operations, now, in one call of the kernel."""
        self._file.add(_ENCODER.encode_lines(ops))
        self._file.flush()

    def flush(self) -> bool:
        """Offer what waits once more; False where some of it still waits."""
        return self._file.flush()

    def close(self) -> None:
        """Flush and close.

        Raises:
            GamedayError: where lines are lost because the disk did not take them.
        """
        written, lost, why = self._file.flush(), self._file.pending_lines, self._file.trouble
        self._file.close()
        if not written:
            raise GamedayError(
                f"{lost} lines of the history could not be written ({why})",
                where=self._file.path,
                next_step="free space on that disk and run the drill again",
            )


_ENCODER = msgspec.json.Encoder()


def read_history(path: str | Path) -> History:
    """Everything in a history file.

    Raises:
        GamedayError: naming file and line, where a line other than a torn last one does not decode.
    """
    from chaos.measure import reader  # here, so that a writer's process does not load numpy

    return reader.read(path)

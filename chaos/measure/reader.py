"""Reads a history file into columns and events, in chunks. Judges nothing.

A torn last line (a writer died, the disk was full) is tolerated and reported; any other line that does not decode is an error that
names its place. Memory is bounded by the columns, one chunk and the longest line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from chaos.core.errors import GamedayError
from chaos.measure.columns import ColumnBuilder, ReadColumns
from chaos.measure.history import SCHEMA, Event, History, Operation, Outcome, SurvivorRead, WorkloadInfo

CHUNK_BYTES = 2 << 20


class WireEvent(msgspec.Struct, array_like=True, tag_field="shape", tag="e", frozen=True):
    """An event whose data is decoded later, by its type."""

    t: int
    type: str
    data: msgspec.Raw


Line = Operation | WireEvent
_LINE = msgspec.json.Decoder(Line)
_DATA = msgspec.json.Decoder(dict[str, Any])
_READ = msgspec.json.Decoder(SurvivorRead)
_WORKLOAD = msgspec.json.Decoder(WorkloadInfo)
_LAST_OUTCOME = max(Outcome)


def decode_lines(data: bytes, *, path: str, first_line: int) -> list[Line]:
    """The lines of ``data`` (whole ones).

    Raises:
        GamedayError: naming ``path:line`` and what is wrong with it.
    """
    try:
        return _LINE.decode_lines(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        number = first_line
        for line in data.split(b"\n"):
            if line.strip():
                try:
                    _LINE.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as err:
                    raise _bad_line(path, number, line, str(err)) from None
            number += 1
        raise


def _bad_line(path: str, number: int, line: bytes, why: str) -> GamedayError:
    seen = line if len(line) <= 120 else line[:117] + b"..."
    return GamedayError(
        f"a line of the history is damaged ({why})",
        where=f"{path}:{number}",
        expected='["o", …] or ["e", …]',
        observed=seen.decode("utf-8", "replace"),
        next_step="the history was altered or its disk failed; judge a copy of it that is whole",
    )


def _chunks(path: Path) -> Iterator[tuple[bytes, bool]]:
    """Whole lines, about ``CHUNK_BYTES`` at a time; what follows the last newline comes last, as ``(rest, True)``."""
    rest: list[bytes] = []
    try:
        with open(path, "rb") as file:
            while block := file.read(CHUNK_BYTES):
                cut = block.rfind(b"\n") + 1
                if not cut:
                    rest.append(block)
                    continue
                rest.append(block[:cut])
                yield b"".join(rest), False
                rest = [block[cut:]]
    except OSError as err:
        raise GamedayError(f"cannot read the history: {err.strerror}", where=str(path)) from err
    yield b"".join(rest), True


class _Collector:
    """Sorts lines into columns, events, workloads and reads."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.builder = ColumnBuilder()
        self.events: list[Event] = []
        self.workloads: list[WorkloadInfo] = []
        self.reads: list[ReadColumns] = []

    def take(self, lines: list[Line], first_line: int) -> None:
        ops = [line for line in lines if type(line) is Operation]
        if len(ops) < len(lines):
            for offset, line in enumerate(lines):
                if isinstance(line, WireEvent):
                    self._event(line, first_line + offset)
        try:
            self.builder.add(ops)
            if any(not 0 <= op.outcome <= _LAST_OUTCOME for op in ops):
                raise OverflowError("an outcome that does not exist")
        except OverflowError as err:
            where = f"{self.path}:{first_line}-{first_line + len(lines) - 1}"
            raise GamedayError(f"an operation of the history holds a number out of range ({err})", where=where) from None

    def _event(self, event: WireEvent, line: int) -> None:
        try:
            if event.type == "read":
                read = _READ.decode(event.data)
                ids, mutated = np.array(read.ids, np.int64), np.array(read.mutated, np.int64)
                self.reads.append(ReadColumns(read.label, read.source, read.began_ns, read.ended_ns, ids, mutated))
                data: dict[str, Any] = {"label": read.label, "source": read.source, "began_ns": read.began_ns, "ended_ns": read.ended_ns}
                data |= {"rows": len(ids), "mutated_rows": len(mutated)}
            else:
                data = _DATA.decode(event.data)
                if event.type == "workload":
                    self.workloads.append(_WORKLOAD.decode(event.data))
        except (msgspec.DecodeError, OverflowError) as err:
            raise _bad_line(self.path, line, bytes(event.data), f"event {event.type}: {err}") from None
        if event.type == "start" and data.get("schema") != SCHEMA:
            raise GamedayError(
                "the history is of another version",
                where=f"{self.path}:{line}",
                expected=SCHEMA,
                observed=str(data.get("schema")),
                next_step="judge it with the release that wrote it",
            )
        self.events.append(Event(event.t, event.type, data))


def read(path: str | Path) -> History:
    """See :func:`chaos.measure.history.read_history`."""
    collector, line, torn = _Collector(str(path)), 1, False
    for data, last in _chunks(Path(path)):
        if last and data.strip():
            try:
                lines = [_LINE.decode(data)]
            except (msgspec.DecodeError, UnicodeDecodeError):
                torn = True
                continue
            collector.take(lines, line)
        elif not last:
            collector.take(decode_lines(data, path=collector.path, first_line=line), line)
            line += data.count(b"\n")
    collector.reads.sort(key=lambda one: one.began_ns)
    return History(
        path=collector.path,
        columns=collector.builder.build(),
        events=tuple(collector.events),
        workloads=tuple(collector.workloads),
        reads=tuple(collector.reads),
        torn=torn,
    )

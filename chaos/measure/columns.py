"""Operations as columns: what the judge computes on. Holds no file access and no definition of good or bad.

One row is one operation, in the order of the file (which is about the order of settling). Integers only; texts are interned.
Roughly 55 bytes a row, so that five million operations fit where a list of objects would not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from chaos.measure.history import Operation

Int64: TypeAlias = npt.NDArray[np.int64]
Int32: TypeAlias = npt.NDArray[np.int32]
Int16: TypeAlias = npt.NDArray[np.int16]
Int8: TypeAlias = npt.NDArray[np.int8]
Bools: TypeAlias = npt.NDArray[np.bool_]

NONE = -1
MAX_TEXTS = 10_000
OTHER_TEXT = "(other)"


@dataclass(frozen=True, slots=True)
class Columns:
    """All operations of a history. ``id``, ``node`` and ``timeline`` are -1 where the operation had none; ``node`` indexes
    ``node_names`` and ``error`` indexes ``error_texts`` (0 is the empty text). ``s``, ``t``, ``r`` are monotonic nanoseconds."""

    w: Int16
    k: Int64
    s: Int64
    t: Int64
    r: Int64
    outcome: Int8
    kind: Int16
    id: Int64
    node: Int16
    timeline: Int32
    error: Int32
    node_names: tuple[str, ...]
    error_texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.t)


@dataclass(frozen=True, slots=True)
class ReadColumns:
    """A :class:`~chaos.measure.history.SurvivorRead` with its ids as arrays (a duplicate stands twice)."""

    label: str
    source: str
    began_ns: int
    ended_ns: int
    ids: Int64
    mutated: Int64


class _Texts:
    """Interns texts; beyond ``MAX_TEXTS`` different ones all further are the same, so that memory stays bounded."""

    def __init__(self, first: str | None = None) -> None:
        self._index: dict[str | None, int] = {} if first is None else {first: 0}

    def column(self, values: Sequence[str | None]) -> list[int]:
        index = self._index
        for value in dict.fromkeys(values):
            if value is not None and value not in index:
                if len(index) < MAX_TEXTS:
                    index[value] = len(index)
                else:
                    index.setdefault(OTHER_TEXT, len(index))
        other = index.get(OTHER_TEXT, NONE)
        return [NONE if value is None else index.get(value, other) for value in values]

    def texts(self) -> tuple[str, ...]:
        return tuple(text for text in self._index if text is not None)


_DTYPES: dict[str, Any] = {
    "w": np.int16,
    "k": np.int64,
    "s": np.int64,
    "t": np.int64,
    "r": np.int64,
    "outcome": np.int8,
    "kind": np.int16,
    "id": np.int64,
    "node": np.int16,
    "timeline": np.int32,
    "error": np.int32,
}


class ColumnBuilder:
    """Collects operations chunk by chunk; ``build`` joins them (and forgets the chunks as it goes)."""

    def __init__(self) -> None:
        self._chunks: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in _DTYPES}
        self._nodes, self._errors = _Texts(), _Texts("")

    def add(self, ops: Sequence[Operation]) -> None:
        """Raises OverflowError where a number does not fit its column."""
        if not ops:
            return
        n = len(ops)
        rows: dict[str, npt.NDArray[Any]] = {
            "w": np.fromiter((op.w for op in ops), np.int16, n),
            "k": np.fromiter((op.k for op in ops), np.int64, n),
            "s": np.fromiter((op.s for op in ops), np.int64, n),
            "t": np.fromiter((op.t for op in ops), np.int64, n),
            "r": np.fromiter((op.r for op in ops), np.int64, n),
            "outcome": np.fromiter((op.outcome for op in ops), np.int8, n),
            "kind": np.fromiter((op.kind for op in ops), np.int16, n),
            "id": np.fromiter((NONE if op.id is None else op.id for op in ops), np.int64, n),
            "node": np.array(self._nodes.column([op.node for op in ops]), np.int16),
            "timeline": np.fromiter((NONE if op.timeline is None else op.timeline for op in ops), np.int32, n),
            "error": np.array(self._errors.column([op.error for op in ops]), np.int32),
        }
        for name, values in rows.items():
            self._chunks[name].append(values)

    def build(self) -> Columns:
        """The columns of everything added so far. The builder is empty afterwards."""
        joined = {}
        for name, dtype in _DTYPES.items():
            chunks = self._chunks[name]
            joined[name] = np.concatenate(chunks) if chunks else np.empty(0, dtype)
            self._chunks[name] = []
        return Columns(**joined, node_names=self._nodes.texts(), error_texts=self._errors.texts())


def columns_of(ops: Sequence[Operation]) -> Columns:
    """Columns of operations that are in memory already."""
    builder = ColumnBuilder()
    builder.add(ops)
    return builder.build()

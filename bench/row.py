"""One line of the table that every bench prints: what was measured, what it must reach, what it did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """``ok`` None: nothing was demanded of it."""

    what: str
    must: str
    measured: str
    ok: bool | None = None


def table(rows: Sequence[Row]) -> str:
    """``rows`` as a Markdown table."""
    mark = {True: "yes", False: "NO", None: ""}
    cells = [("what", "must reach", "measured", "reached"), *((row.what, row.must, row.measured, mark[row.ok]) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    lines = ["| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def exit_code(rows: Sequence[Row]) -> int:
    """1 where a figure was not reached."""
    return 1 if any(row.ok is False for row in rows) else 0

"""One line of the table that every bench prints: what was measured, what it must reach, what it did. And how a bench hands its lines over.

Every bench is a module that can be run by itself (``python -m bench.NAME``); ``python -m bench`` runs them all, each in a process of its
own, and collects their lines by ``--rows``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 100
"""The table's width where there is no terminal, and the most that it takes of one."""


class Row(NamedTuple):
    """``ok`` None: nothing was demanded of it, or it could not be measured here (``measured`` then says why)."""

    what: str
    must: str
    measured: str
    ok: bool | None = None


def command(name: str, doc: str | None) -> argparse.ArgumentParser:
    """The options that every bench has; a bench may add its own."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{name}", description=(doc or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller counts: a look, not a measurement")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="write the lines there, as JSON, and print nothing")
    return parser


def finish(rows: Sequence[Row], options: argparse.Namespace) -> int:
    """Hand the lines over, or print them; 1 where a figure was not reached."""
    if options.rows is not None:
        options.rows.write_bytes(msgspec.json.encode(rows))
    else:
        out = console()
        table = new_table()
        add_rows(table, rows)
        out.print(table)
    return exit_code(rows)


def read_rows(path: Path) -> list[Row]:
    """What a bench has handed over."""
    return msgspec.json.decode(path.read_bytes(), type=list[Row])


def exit_code(rows: Iterable[Row]) -> int:
    """1 where a figure was not reached."""
    return 1 if any(row.ok is False for row in rows) else 0


def console() -> Console:
    """Standard output, at most :data:`WIDTH` columns of it."""
    out = Console(highlight=False)
    return Console(highlight=False, width=min(WIDTH, out.width) if out.is_terminal else WIDTH)


def new_table() -> Table:
    """Empty, with the four columns."""
    table = Table(box=SIMPLE_HEAD, expand=True, pad_edge=False, show_edge=False)
    table.add_column("what", ratio=43)
    table.add_column("must reach", ratio=22)
    table.add_column("measured", ratio=30)
    table.add_column("ok", width=3)
    return table


def add_rows(table: Table, rows: Sequence[Row], *, title: str = "") -> None:
    """A section of the table."""
    mark = {True: "[green]yes[/]", False: "[bold red]NO[/]", None: ""}
    table.add_section()
    if title:
        table.add_row(f"[bold]{title}[/]", "", "", "")
    for row in rows:
        table.add_row(plain(row.what), plain(row.must), plain(row.measured), mark[row.ok])


def plain(text: str) -> str:
    """``text`` as rich prints it unchanged."""
    return text.replace("[", r"\[")


def spread(values: Sequence[float], unit: str = "s", digits: int = 2) -> str:
    """Median, range and number: ``0.71 s (0.66–0.83, n = 7)``."""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} {unit} ({low}–{high}, n = {len(values)})"


def scratch(name: str) -> tempfile.TemporaryDirectory[str]:
    """A directory of ours on the disk that a drill's own files are on: what is flushed there costs what it costs in a drill."""
    own = ROOT / ".gameday" / "bench"
    own.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=f"{name}-", dir=own)

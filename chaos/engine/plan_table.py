"""What a dry run would do, as rows and as a table for the terminal. Rows are plain, so that they cross xdist's wire."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from chaos.core.model import Undo

if TYPE_CHECKING:
    from rich.table import Table

PERMITTED = "permitted"


class PlanRow(msgspec.Struct, frozen=True):
    """One fault of one drill, or the drill itself (``fault`` ""). ``decision`` is ``permitted``, or why not; ``undo`` says in words how it
    would be put back."""

    drill: str
    environment: str
    fault: str = ""
    nodes: str = ""
    params: str = ""
    nets: str = ""
    undo: str = ""
    decision: str = PERMITTED

    @property
    def permitted(self) -> bool:
        return self.decision == PERMITTED


def to_plain(rows: Sequence[PlanRow]) -> list[dict[str, str]]:
    return [msgspec.to_builtins(row) for row in rows]


def from_plain(rows: object) -> list[PlanRow]:
    return msgspec.convert(rows, list[PlanRow])


def undo_words(undo: Undo) -> str:
    """``power_on pg1; start_service postgres on pg1``, or where the fault has no steps, that its kind undoes it."""
    said = []
    for step in undo.steps:
        what = step.argument.strip().partition("\n")[0][:60] if step.do == "shell" else step.argument
        said.append(f"{step.do} {what} on {step.node}" if what else f"{step.do} {step.node}")
    return "; ".join(said) or f"{undo.kind} puts back the state that was found"


def render_plan(rows: Sequence[PlanRow]) -> Table:
    """One line a fault, under its drill."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="dry run: nothing was changed", title_justify="left", expand=False)
    for title in ("drill", "fault", "nodes", "nets", "undo", "decision"):
        table.add_column(title, overflow="fold")
    shown = ""
    for row in rows:
        name = f"{row.drill.rpartition('::')[2]}"
        decision = Text(row.decision, style="green" if row.permitted else "red")
        what = Text(row.fault + (f" ({row.params})" if row.params else "") if row.fault else "the drill itself")
        table.add_row("" if row.drill == shown else Text(name), what, Text(row.nodes), Text(row.nets), Text(row.undo), decision)
        shown = row.drill
    return table


def plain_plan(rows: Sequence[PlanRow], *, columns: int = 120, colour: bool = False) -> str:
    """The same as text."""
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=columns, force_terminal=colour, no_color=not colour, legacy_windows=False).print(render_plan(rows))
    return out.getvalue()

"""``gameday status`` and ``gameday heal``: what is broken now, and putting it back. A thin face over :mod:`chaos.engine.residue`.

Exit codes: 0 clean, 11 something remains, 12 a journal cannot be read.
"""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from chaos.core.errors import EXIT_RESIDUE, BadInput

if TYPE_CHECKING:
    from rich.table import Table

    from chaos.engine.residue import Found

STATE_DIR = ".gameday"
_directory = click.option("--dir", "directory", type=click.Path(path_type=Path), default=Path(STATE_DIR), help="The state directory.")


@click.command()
@_directory
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(directory: Path, as_json: bool) -> None:
    """What is broken now: where, since when, by which drill, and how it would be undone."""
    found = _find(directory)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode([_plain(one) for one in found])).decode())
    elif not found:
        click.echo("nothing is broken: every fault in every journal was proven to be healed")
    else:
        from rich.console import Console

        Console().print(_table(found))
        if left := [one for one in found if one.owner_dead]:
            click.echo(f"{len(left)} of {len(found)} left by runs that are gone; next: gameday heal")
    raise SystemExit(EXIT_RESIDUE if any(one.owner_dead for one in found) else 0)


@click.command()
@_directory
@click.option("--run", "run_id", default="", metavar="RUN", help="Only what this run broke.")
@click.option("--env", "environment", default="", metavar="NAME", help="Only in this environment.")
@click.option("--dry-run", is_flag=True, help="Say what would be undone; change nothing.")
@click.option("--acknowledge", default="", metavar="FAULT", help="Accept what is left of this fault: it blocks drills no longer.")
@click.option("--why", default="", metavar="TEXT", help="With --acknowledge: the reason, for the journal.")
def heal(directory: Path, run_id: str, environment: str, dry_run: bool, acknowledge: str, why: str) -> None:
    """Put back everything that dead runs left broken (or one run's, or one environment's). Harmless where nothing is."""
    from chaos.engine.residue import run_of

    found = _find(directory)
    if acknowledge:
        _acknowledge(found, acknowledge, why)
        return
    if run_id and not any(run_of(one.fault) == run_id for one in found) and not _known_run(directory, run_id):
        raise BadInput(f"no journal knows a run {run_id!r}", next_step="gameday status lists what is open, with its run")
    chosen = [one for one in found if (not run_id or run_of(one.fault) == run_id) and (not environment or one.environment == environment)]
    for one in chosen:
        if not one.owner_dead:
            click.echo(f"left alone: {_name(one)}: its drill still runs ({_owner(one)}); it heals it itself; to end it: gameday stop")
    failed = _heal([one for one in chosen if one.owner_dead], dry_run=dry_run)
    if not chosen:
        click.echo("nothing to heal")
    raise SystemExit(EXIT_RESIDUE if failed else 0)


def _heal(chosen: Sequence[Found], *, dry_run: bool) -> int:
    """How many could not be put back."""
    from chaos.engine.residue import heal_open

    failed, healed = 0, 0
    for path in reversed(dict.fromkeys(one.journal for one in chosen)):
        ids = {one.fault.undo.fault_id for one in chosen if one.journal == path}
        for healing in heal_open(path, only=lambda fault, ids=ids: fault.undo.fault_id in ids, by=_person(), dry_run=dry_run):  # type: ignore[misc]
            what = f"{healing.fault.undo.kind} on {', '.join(n.name for n in healing.fault.undo.nodes)} ({healing.fault.undo.fault_id})"
            if dry_run:
                click.echo(f"would {healing.text} ({healing.fault.undo.fault_id})")
            elif healing.done:
                healed += 1
                click.echo(f"healed: {what}: {healing.text}")
            else:
                failed += 1
                click.echo(f"NOT healed: {what}: {healing.text}", err=True)
                click.echo(_by_hand(healing.fault.undo, path), err=True)
    return failed


def _by_hand(undo: object, path: Path) -> str:
    prior = msgspec.json.format(msgspec.json.encode(msgspec.to_builtins(undo)), indent=2).decode()
    return f"  to put it back by hand, make the node as it was before (from {path}):\n" + "\n".join(f"    {x}" for x in prior.splitlines())


def _acknowledge(found: Sequence[Found], fault_id: str, why: str) -> None:
    from chaos.engine.residue import acknowledge

    one = next((one for one in found if one.fault.undo.fault_id == fault_id), None)
    if one is None:
        known = ", ".join(one.fault.undo.fault_id for one in found) or "(none)"
        raise BadInput(f"no open fault is called {fault_id!r}", expected=f"one of {known}")
    if not why:
        raise BadInput("an acknowledgement needs a reason", next_step="--why 'the node was rebuilt'")
    if not one.owner_dead:
        raise BadInput("its drill still runs and will heal it", where=_owner(one), next_step="to end it: gameday stop")
    acknowledge(one.journal, one.fault, by=_person(), why=why)
    click.echo(f"acknowledged: {_name(one)}")


def _find(directory: Path) -> list[Found]:
    from chaos.engine.places import journal_directories
    from chaos.engine.residue import find

    return find(journal_directories(directory))


def _known_run(directory: Path, run_id: str) -> bool:
    from chaos.engine.places import journal_directories

    return any(path.name.startswith(run_id) for where in journal_directories(directory) for path in where.glob("*.jsonl"))


def _name(one: Found) -> str:
    return f"{one.fault.undo.kind} on {', '.join(node.name for node in one.fault.undo.nodes)} ({one.fault.undo.fault_id})"


def _owner(one: Found) -> str:
    return str(one.fault.origin.owner) if one.fault.origin is not None else "an older release"


def _person() -> str:
    return f"{getpass.getuser()}: gameday heal"


def _plain(one: Found) -> dict[str, object]:
    from chaos.engine.residue import plan_of, run_of

    undo = one.fault.undo
    return {
        "fault": undo.fault_id,
        "run": run_of(one.fault),
        "kind": undo.kind,
        "nodes": [node.name for node in undo.nodes],
        "environment": one.environment,
        "drill": one.fault.drill,
        "since": one.fault.utc,
        "state": one.fault.states[-1].value,
        "said": one.fault.said,
        "owner": _owner(one),
        "owner_dead": one.owner_dead,
        "undo": plan_of(one.fault),
        "journal": str(one.journal),
    }


def _table(found: Sequence[Found]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="broken now", title_justify="left", box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for one in found:
        plain = _plain(one)
        who = Text("nobody: its run is gone", style="red") if one.owner_dead else Text(f"its drill, {_owner(one)}", style="green")
        table.add_row(str(plain["kind"]), Text(f"{', '.join(node.name for node in one.fault.undo.nodes)} in {one.environment}"))
        for label, value in (("since", one.fault.utc), ("drill", one.fault.drill), ("state", plain["state"]), ("said", one.fault.said)):
            if value:
                table.add_row(f"  {label}", Text(str(value)))
        table.add_row("  heals it", who)
        table.add_row("  undo", Text(str(plain["undo"])))
        table.add_row("  fault", Text(one.fault.undo.fault_id))
        table.add_row("  journal", Text(str(one.journal)))
    return table

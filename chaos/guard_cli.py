"""``gameday stop``, ``gameday resume`` and ``gameday audit``: the kill switch and the audit log, by hand. A thin face over the engine."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chaos.core.errors import BadInput, GamedayError, Unavailable

if TYPE_CHECKING:
    from chaos.environments.base import Environment, ProbeLine
    from chaos.environments.standing import HoldsStop
    from chaos.plugin.places import Places

STATE_DIR = ".gameday"
_directory = click.option("--dir", "directory", type=click.Path(path_type=Path), default=Path(STATE_DIR), help="The state directory.")
_environment = click.option("--env", "name", default="", metavar="NAME", help="Only drills in this environment (of gameday.toml).")


def identity_line(places: Places, environment: Environment) -> ProbeLine:
    """For ``gameday doctor``: is the standing environment the one that was pinned? Shows what would pin what is there."""
    from chaos.engine.guard import Refused, check_identity
    from chaos.environments.base import ProbeLine
    from chaos.environments.standing import pinned_identity

    declared = places.get(environment.name, where="gameday doctor").declared
    try:
        found = pinned_identity(environment)
        seen = "{ " + ", ".join(f'{key} = "{value}"' for key, value in found.items()) + " }"
        if declared is not None:
            check_identity(environment, declared, places.file.where("environments", environment.name))
    except Refused as err:
        return ProbeLine("identity", False, f"{err.what}: it is {seen}", f"if it is the right one, pin it: identity = {seen}")
    except GamedayError as err:
        return ProbeLine("identity", False, str(err), "make it reachable")
    return ProbeLine("identity", True, seen)


# -- the kill switch -------------------------------------------------------------------------------------------------------------


@click.command()
@_environment
@click.option("--reason", default="", metavar="TEXT", help="Why; running drills and refusals show it.")
@_directory
def stop(name: str, reason: str, directory: Path) -> None:
    """The kill switch: running drills abort and heal within 2 s, and none starts until `gameday resume`.

    Without --env it holds for all drills of this user on this machine. With it, for that environment from whatever checkout, and where its
    provider keeps a switch in the environment itself, from whatever machine.
    """
    from chaos.engine.switch import engage

    for file in _files(name, directory):
        try:
            engage(file, by=getpass.getuser(), reason=reason)
        except OSError as err:
            raise GamedayError("the kill switch could not be put there", where=str(file), observed=err.strerror or str(err)) from err
        click.echo(f"stop: {file}")
        _audited(file, "stop", reason or "no reason given", name)
    environment = _reached(name)
    if environment is not None:
        environment.request_stop(f"{getpass.getuser()}: {reason or 'no reason given'}")
        click.echo(f"stop: in the environment {name} itself")
    click.echo("next: gameday status, to see that everything is healed; gameday resume, when drills may run again")


@click.command()
@_environment
@_directory
def resume(name: str, directory: Path) -> None:
    """Take back what `gameday stop` did. Harmless where nothing is stopped."""
    from chaos.engine.switch import KillSwitch, disengage

    taken = 0
    for file in _files(name, directory):
        try:
            there = disengage(file)
        except OSError as err:
            raise GamedayError("the kill switch could not be taken away", where=str(file), observed=err.strerror or str(err)) from err
        if there:
            taken += 1
            click.echo(f"resumed: {file}")
            _audited(file, "resume", "", name)
    environment = _reached(name)
    if environment is not None:
        environment.clear_stop()
    if not taken:
        click.echo("nothing was stopped" + ("" if name else " (an environment stopped with --env is resumed with --env)"))
    if left := KillSwitch(()).engaged():
        click.echo(f"still stopped here: {left}", err=True)


def _files(name: str, directory: Path) -> Iterator[Path]:
    """Where the file is put: for one environment in its own state, else in the drill directory and the user's state."""
    from chaos.engine.places import user_state
    from chaos.engine.switch import FILE

    if name:
        yield _places(name).state_dir(name) / FILE
    else:
        yield directory.absolute() / FILE
        yield user_state() / FILE


def _places(name: str) -> Places:
    from chaos.plugin.places import Places

    places = Places.of(Path.cwd())
    if places.get(name, where="--env").disposable:
        raise BadInput(f"{name} is disposable: it has no switch of its own", where="--env", next_step="gameday stop, without --env")
    return places


def _reached(name: str) -> HoldsStop | None:
    """The environment, where it keeps a switch of its own and can be reached."""
    from chaos.environments.standing import HoldsStop

    if not name:
        return None
    try:
        environment = _places(name).make(name)
    except (BadInput, Unavailable) as err:
        click.echo(f"the environment itself was not told: {err}", err=True)
        return None
    return environment if isinstance(environment, HoldsStop) else None


def _audited(file: Path, action: str, text: str, name: str) -> None:
    """What is done to the user's state stands in the log beside it; a project's own directory has none."""
    from chaos.engine.audit import DONE, FILE, AuditLog
    from chaos.engine.places import user_state

    if file.is_relative_to(user_state()):
        AuditLog(file.with_name(FILE), environment=name or "all", by=getpass.getuser()).write(action, DONE, text)


# -- the audit log ---------------------------------------------------------------------------------------------------------------


@click.group()
def audit() -> None:
    """The hash-chained record of what drills did to standing environments."""


@audit.command()
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--head", default="", metavar="HASH", help="A head noted earlier, which must still be in the chain.")
def verify(path: Path | None, head: str) -> None:
    """Check the chain of PATH (default: every log of this user). Exits with 1 at the first line that does not fit."""
    from chaos.engine.audit import AuditBroken
    from chaos.engine.audit import verify as check

    broken = False
    for file in _logs(path):
        try:
            found = check(file, holds=head)
        except AuditBroken as err:
            broken = True
            click.echo(f"BROKEN {err}", err=True)
        else:
            click.echo(f"OK {file}: {found.count} records, head {found.head}")
    raise SystemExit(1 if broken else 0)


@audit.command()
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("-n", "last", type=int, default=50, show_default=True, help="Only the last so many records.")
def show(path: Path | None, last: int) -> None:
    """The records of PATH (default: every log of this user), oldest first."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from chaos.engine.audit import read_audit

    styles = {"permitted": "green", "refused": "red", "failed": "red"}
    for file in _logs(path):
        table = Table(title=str(file), title_justify="left", box=None, pad_edge=False)
        for title in ("when (UTC)", "who", "environment", "run", "action", "decision", "what"):
            table.add_column(title, overflow="fold")
        for _, one in list(read_audit(file))[-last:]:
            who = f"{one.by or one.user}@{one.host}" + (f" ({one.user})" if one.by and one.by != one.user else "")
            what = f"{one.drill.rpartition('::')[2]}: {one.text}" if one.drill else one.text
            cells = (one.utc, who, one.environment, one.run, one.action)
            table.add_row(*map(Text, cells), Text(one.decision, style=styles.get(one.decision, "")), Text(what))
        Console().print(table)


def _logs(path: Path | None) -> list[Path]:
    """Raises BadInput where there is none."""
    from chaos.engine.audit import FILE
    from chaos.engine.places import user_state

    if path is not None:
        return [path / FILE if path.is_dir() else path]
    found = sorted((*user_state().glob(FILE), *user_state().glob(f"*/{FILE}")))
    if not found:
        raise BadInput(f"there is no audit log below {user_state()}", next_step="one is made by the first drill in a standing environment")
    return found

"""The command ``gameday``: run drills, show their reports, say what this machine can do.

A thin face: running is pytest's, rendering is the evidence layer's. A person's mistake is one line on stderr, never a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chaos import __version__, guard_cli, heal_cli
from chaos.core.errors import BadInput, GamedayError, Unavailable

if TYPE_CHECKING:
    from rich.table import Table

    from chaos.environments.base import ProbeLine
    from chaos.plugin.places import Places

STATE_DIR = ".gameday"
EXIT_USAGE = 4
# This process is the package itself, so pytest cannot rewrite its assertions. It has none.
_LOADED_EARLY = "ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gameday")
def commands() -> None:
    """Disaster-recovery drills: real faults, measured recovery, evidence."""


@commands.command(context_settings={"ignore_unknown_options": False})
@click.argument("paths", nargs=-1, type=click.Path())
@click.option("--env", "environments", multiple=True, metavar="NAME", help="Environment to run in (repeatable).")
@click.option("-m", "markers", default="", metavar="MARKEXPR", help="Only drills that match this marker expression.")
@click.option("-k", "keyword", default="", metavar="EXPRESSION", help="Only drills whose names match.")
@click.option("-n", "workers", default="", metavar="N", help="Run N drills at a time (disposable environments).")
@click.option("--seed", default="", metavar="SEED", help="Seed of everything random.")
@click.option("--repeat", default="", metavar="N", help="Run every drill N times.")
@click.pass_context
def run(
    context: click.Context,
    paths: tuple[str, ...],
    environments: tuple[str, ...],
    markers: str,
    keyword: str,
    workers: str,
    seed: str,
    repeat: str,
) -> None:
    """Run the drills below PATHS (default: suites). What follows -- goes to pytest as it is."""
    import pytest

    own, passed_on = _split(paths)
    argv = ["-m", f"drill and ({markers})" if markers else "drill", "-W", _LOADED_EARLY, *_pairs("--drill-env", environments)]
    argv += _pairs("--drill-require", environments)  # who names an environment wants to hear that it does not work, not "1 skipped"
    argv += _pairs("-k", (keyword,)) + _pairs("-n", (workers,)) + _pairs("--drill-seed", (seed,)) + _pairs("--drill-repeat", (repeat,))
    targets = own or (["suites"] if Path("suites").is_dir() else [])
    context.exit(int(pytest.main([*argv, *passed_on, *targets])))


def _split(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stood before ``--`` on the command line, and after it (click hands over both as one)."""
    words = sys.argv[1:]
    if "--" not in words:
        return list(paths), []
    after = words[words.index("--") + 1 :]
    return list(paths[: len(paths) - len(after)]), after


def _pairs(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values if value for word in (option, value)]


@commands.command()
@click.argument("which", metavar="[RUN|latest]", default="latest")
@click.option("--format", "form", type=click.Choice(["text", "md", "json", "html-path"]), default="text", show_default=True)
@click.option("--open", "open_it", is_flag=True, help="Open the HTML reports in the browser.")
@click.option("--dir", "directory", type=click.Path(path_type=Path), default=Path(STATE_DIR), help="The state directory.")
def report(which: str, form: str, open_it: bool, directory: Path) -> None:
    """Show what a run found: a run id below .gameday/runs, or the path of a run or drill."""
    for folder in _drills(which, directory):
        page = folder / "report.html"
        click.echo(_rendered(folder, form))
        if open_it:
            click.launch(str(page))


def _drills(which: str, directory: Path) -> list[Path]:
    """The directories of the run's drills, in the order in which they ended.

    Raises:
        BadInput: where there is no such run, naming those that exist.
    """
    candidates = [directory / "runs" / which, Path(which)]
    run_dir = next((path for path in candidates if path.is_dir()), None)
    if run_dir is None:
        runs = sorted(path.name for path in (directory / "runs").glob("*") if path.is_dir() and not path.is_symlink())
        known = f"take one of {', '.join(runs[-5:])}" if runs else "run a drill first: gameday run"
        raise BadInput(f"there is no run {which!r} below {directory / 'runs'}", next_step=known)
    if (run_dir / "report.json").is_file():
        return [run_dir]
    found = sorted(run_dir.glob("*/report.json"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        raise BadInput("this run holds no report", where=str(run_dir), next_step="no drill got as far as a verdict; see its histories")
    return [path.parent for path in found]


def _rendered(folder: Path, form: str) -> str:
    if form == "html-path":
        return str((folder / "report.html").resolve())
    if form == "json":
        return (folder / "report.json").read_text(encoding="utf-8").rstrip("\n")
    if form == "md":
        return (folder / "report.md").read_text(encoding="utf-8").rstrip("\n")
    from chaos.evidence.report import load_report
    from chaos.evidence.terminal import plain_summary, report_summary

    summary = report_summary(load_report(folder), html=str(folder / "report.html"), json=str(folder / "report.json"))
    return plain_summary([summary]).rstrip("\n")


@commands.command()
@click.argument("environments", nargs=-1)
def doctor(environments: tuple[str, ...]) -> None:
    """What this machine can do, environment by environment (default: all), and the fix where it cannot.

    Exits with 1 where one of them cannot work here.
    """
    from rich.console import Console

    from chaos.plugin.places import Places

    places = Places.of(Path.cwd())
    console = Console()
    broken = False
    for name in environments or places.names():
        lines, usable = _examine(places, name)
        broken |= not usable
        console.print(_table(name, lines, usable))
    raise SystemExit(1 if broken else 0)


def _examine(places: Places, name: str) -> tuple[list[ProbeLine], bool]:
    """The lines of one environment, and whether drills can run in it."""
    from chaos.environments.base import ProbeLine

    try:
        places.require_provider(places.get(name, where="gameday doctor").name)
        environment = places.make(name)
    except Unavailable as err:
        return [ProbeLine("provider", False, err.what, err.next_step)], False
    except BadInput as err:
        if name not in places.names():
            raise
        return [ProbeLine("provider", False, err.what, err.next_step)], False
    lines, permitted = environment.doctor(), True
    if not environment.disposable:
        lines.append(guard_cli.identity_line(places, environment))
        permitted = lines[-1].ok
    try:
        environment.check()
    except Unavailable as err:
        return [*lines, ProbeLine("usable", False, err.what, err.next_step)], False
    return lines, permitted


def _table(name: str, lines: Sequence[ProbeLine], usable: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    title = Text.assemble((name, "bold"), ": ", ("ready", "green") if usable else ("cannot run drills here", "red"))
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_column(overflow="fold")
    for line in lines:
        seen = Text(line.seen)
        if line.fix and not line.ok:
            seen.append(f"\nfix: {line.fix}", style="yellow")
        table.add_row(Text("ok", style="green") if line.ok else Text("no", style="red"), Text(line.what), seen)
    return table


commands.add_command(heal_cli.status)
commands.add_command(heal_cli.heal)
commands.add_command(guard_cli.stop)
commands.add_command(guard_cli.resume)
commands.add_command(guard_cli.audit)


def main() -> None:
    """Entry point: our errors become one line and exit code 4 (a person's mistake), one of our own, or 1."""
    try:
        commands()
    except BadInput as err:
        click.echo(f"gameday: {err}", err=True)
        raise SystemExit(EXIT_USAGE) from None
    except GamedayError as err:
        click.echo(f"gameday: {err}", err=True)
        raise SystemExit(getattr(err, "exit_code", 1)) from None

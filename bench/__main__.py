"""``make bench``: the figures that the framework must reach, measured, as one table. Measures nothing itself.

Each bench runs in a process of its own, one after the other; before each it is noted how busy the machine was with something else.
The exit code is 1 where a figure is missed or a bench breaks. These are no tests: nothing here is run by ``make test``.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from bench import machine
from bench.row import ROOT, Row, add_rows, console, exit_code, new_table, plain, read_rows

BENCHES = {
    "truth": "is the reported recovery time true: outages of known length against a server whose log is the truth",
    "openloop": "does the workload keep its schedule: 2 000 op/s against PostgreSQL on micro-hosts",
    "embedded": "from nothing to healthy replicated PostgreSQL, embedded and docker side by side",
    "drill": "a whole embedded drill, pytest from start to exit",
    "faults": "from call to proof: partition of micro-hosts, kill of a container",
    "healing": "killed at random moments: is everything put back, and how fast",
    "judge": "judging histories of 1 000 000 and 5 000 000 operations",
    "plugin_cost": "pytest --collect-only on 1 000 empty tests, with the plugin and without",
}
DEADLINE_S = 3600.0
Facts = Sequence[tuple[str, str]]
BUSY = 0.15
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


class Measured(NamedTuple):
    """What one bench gave: its lines, how long it took, and how busy the machine was before."""

    name: str
    rows: list[Row]
    took_s: float
    busy: float

    @property
    def title(self) -> str:
        busy = f", machine {self.busy:.0%} busy before" if self.busy > BUSY else ""
        return f"{self.name} ({self.took_s:.0f} s{busy})"


def measure(name: str, *, quick: bool) -> Measured:
    """Run one bench. One that breaks gives a line that says so."""
    busy, begin = machine.busy_share(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gameday-bench-") as directory:
        handed = Path(directory) / "rows.json"
        argv = [sys.executable, "-m", f"bench.{name}", f"--rows={handed}", *(["--quick"] if quick else [])]
        try:
            done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
            trouble = " ".join(done.stderr.split())[-300:] or f"exit code {done.returncode}"
        except subprocess.TimeoutExpired:
            trouble = f"no end within {DEADLINE_S:g} s"
        rows = read_rows(handed) if handed.exists() else [Row(f"bench.{name} broke", "", trouble, False)]
    return Measured(name, rows, time.monotonic() - begin, busy)


def measure_all(names: Sequence[str], out: Console, *, quick: bool) -> list[Measured]:
    """In turn. Ctrl-C ends it early, with what there is."""
    measured: list[Measured] = []
    try:
        for name in names:
            said = f"{name}: {BENCHES[name]} …"
            if out.is_terminal:
                with out.status(plain(said)):
                    measured.append(measure(name, quick=quick))
            else:
                out.print(plain(said), soft_wrap=True)
                measured.append(measure(name, quick=quick))
    except KeyboardInterrupt:
        out.print("interrupted: what follows is not all")
    return measured


def show(measured: Sequence[Measured], facts: Facts, out: Console, *, quick: bool) -> None:
    """The table, with what it was measured on."""
    out.print()
    for name, value in facts:
        out.print(f"[bold]{name:11}[/]{plain(value)}")
    out.print()
    table = new_table()
    for one in measured:
        add_rows(table, one.rows, title=one.title)
    out.print(table)
    rows = [row for one in measured for row in one.rows]
    missed = [row for row in rows if row.ok is False]
    demanded = [row for row in rows if row.ok is not None]
    out.print(f"{len(demanded) - len(missed)} of {len(demanded)} figures reached{' (--quick: a look, not a measurement)' if quick else ''}")
    busy = [one.name for one in measured if one.busy > BUSY]
    if busy:
        out.print(f"the machine was busy with something else before {', '.join(busy)}: measure again when it is quiet")


def markdown(measured: Sequence[Measured], facts: Facts) -> str:
    """The same for a document: facts as a list, figures as a table with the command of each."""
    lines = [f"- {name}: {value}" for name, value in facts]
    lines += ["", "| what | must reach | measured | | command |", "|---|---|---|---|---|"]
    mark = {True: "yes", False: "**no**", None: ""}
    for one in measured:
        command = f"`python -m bench {one.name}`"
        for row in one.rows:
            cells = (row.what, row.must, row.measured, mark[row.ok], command)
            lines.append("| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells) + " |")
            command = ""
    return "\n".join(lines)


def update(document: Path, text: str) -> None:
    """Put ``text`` between the two marks of ``document``. Raises SystemExit where they are not there."""
    old = document.read_text(encoding="utf-8")
    new, count = re.subn(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}\n{text}\n{END}", old, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{document}: expected one {BEGIN} … {END}, observed {count}")
    document.write_text(new, encoding="utf-8")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """What a person asked for; a mistake ends here, before anything is measured."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the figures that the framework must reach.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all; --list names them")
    parser.add_argument("--list", action="store_true", help="name the benches and end")
    parser.add_argument("--quick", action="store_true", help="smaller counts: a look, not a measurement")
    parser.add_argument("--update", type=Path, metavar="FILE", help="put the table into this document (docs/performance.md)")
    options = parser.parse_args(argv)
    unknown = [name for name in options.names if name not in BENCHES]
    if unknown:
        parser.error(f"no bench is named {unknown[0]!r}; there are {', '.join(BENCHES)}")
    if options.update and (options.quick or options.names):
        parser.error("--update takes a whole run: without names and without --quick")
    if options.update and not options.update.is_file():
        parser.error(f"{options.update} is not a file")
    return options


def main(argv: Sequence[str]) -> int:
    """1 where a figure was not reached."""
    options = parse(argv)
    if options.list:
        print("\n".join(f"{name:12} {what}" for name, what in BENCHES.items()))
        return 0
    out = console()
    names = options.names or list(BENCHES)
    measured = measure_all(names, out, quick=options.quick)
    facts = machine.facts()
    show(measured, facts, out, quick=options.quick)
    if len(measured) < len(names):
        return 130
    if options.update:
        update(options.update, markdown(measured, facts))
    return exit_code(row for one in measured for row in one.rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

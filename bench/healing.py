"""Does everything get put back, and how fast: processes that break micro-hosts and containers are killed at random moments.

Kills: a victim (``chaos.testing.victim``) injects and heals one fault again and again, all faults in turn; it gets SIGKILL at a seeded
random moment after its first injection began. Then: the time until its journal holds nothing open, which is when somebody has proven the
node to be as before; and whatever is left, on the nodes, beside them and on this machine.

Alone: runner and healer are killed together while a container is cut off from everybody; the node must be back by itself, seen by a packet
from its neighbour.

Kill switch: a real pytest run stands in a drill with its fault on; the stop file is put there; the time until its journal holds nothing
open.

Overhead: what journal, dead-man's switch and the proof that a fault landed add to its bare effect, fault by fault, on micro-hosts. On
containers the switch is a line of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy

from bench.row import ROOT, Row, command, finish, scratch, spread
from chaos.core.clock import wait_for
from chaos.core.errors import EXIT_ABORTED, GamedayError, Unavailable
from chaos.core.model import Proof, Undo
from chaos.engine.injection import InjectedFault, Switch
from chaos.engine.journal import Journal
from chaos.engine.residue import find
from chaos.engine.switch import FILE as STOP_FILE
from chaos.engine.switch import engage
from chaos.environments.base import PacketFilter, require
from chaos.faults.base import Fault, Resolve
from chaos.testing.host import MARK, Host, Traces
from chaos.testing.places import Catalogue, Place, put_back
from chaos.testing.stops import DONE, FAILED, STARTED, UNAVAILABLE, Attached, Spec, heard, plain
from chaos.testing.tools import nothing, respied
from chaos.testing.wreck import deadline_s, differing

CATALOGUE = ROOT / "tests" / "contract" / "contract_places.py"
EMBEDDED, ATTACHED = "embedded", "docker-attach"
MUST_S = {EMBEDDED: 1.0, ATTACHED: 3.0}
OVERHEAD_MS, SLACK_S, STOPPED_S = 60.0, 1.0, 3.0
LONGEST_LIFE_S = {EMBEDDED: 1.5, ATTACHED: 6.0}
HEALED_WITHIN_S, GONE_WITHIN_S, STARTS_WITHIN_S = 60.0, 90.0, 60.0


_GAPS = (("before-intent", "after-intent"), ("after-intent", "after-arm"), ("look", "seen"), ("seen", "observing"))


class Kill(NamedTuple):
    """One victim, killed. ``open_s``: seconds until nothing was open and all was as before; None: nothing was open when it died."""

    kind: str
    open_s: float | None
    left: list[str]


class Victim:
    """A process that breaks one fault again and again, and its marks."""

    def __init__(self, place: str, kind: str, example: str, state: Path, *, standing: Place | None, stops: tuple[str, ...] = ()) -> None:
        state.mkdir(parents=True)
        attached, mark = None, uuid.uuid4().hex
        if standing is not None and standing.environment is not None:
            attached = Attached(standing.environment.kind, plain(standing.environment.settings()), standing.refs)
        self.kind, self.state, self.traces = kind, state, Traces(mark)
        spec = Spec(str(CATALOGUE), place, kind, example, str(state), stops, attached, cycles=1000)
        with (state / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "chaos.testing.victim", msgspec.json.encode(spec).decode()],
                cwd=state,
                env={**os.environ, MARK: mark, "XDG_STATE_HOME": str(state / "xdg"), "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def says(self, moment: str) -> bool:
        """Has it come that far? Raises Unavailable where its fault is not to be had, RuntimeError where it failed."""
        for line in heard(self.state):
            if line.moment == UNAVAILABLE:
                raise Unavailable(line.text, capability=line.capability)
            if line.moment == FAILED:
                raise RuntimeError(f"{self.kind}: {line.text}")
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.kind}: ended: {(self.state / 'log').read_text(errors='replace')[-500:]}")
        return any(line.moment in (moment, DONE) for line in heard(self.state))

    def await_(self, moment: str) -> None:
        wait_for(lambda: self.says(moment), timeout_s=STARTS_WITHIN_S, what=f"{self.kind} to be {moment}", interval_s=0.01)
        self.traces.watch(self.process.pid)

    def open_now(self) -> bool:
        return bool(find([self.state / "journal"]))

    def close(self) -> None:
        """End what is left of it, whatever happened."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(GONE_WITHIN_S)
        for text in self.traces.remnants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(text.partition(" ")[0]), signal.SIGKILL)
        shutil.rmtree(self.state, ignore_errors=True)


def kinds_of(catalogue: Catalogue, place: Place, name: str) -> tuple[list[tuple[str, str]], list[str]]:
    """The first example of each kind that can be drilled there, and the kinds that cannot."""
    first: dict[str, str] = {}
    for kind, example in catalogue.pairs(name):
        first.setdefault(kind, example)
    missing = []
    for kind, example in first.items():
        try:
            catalogue.examples[kind][example](*place.refs).plan("probe", place.resolve)
        except Unavailable:
            missing.append(kind)
    return [(kind, example) for kind, example in first.items() if kind not in missing], missing


def kill_once(place: str, kind: str, example: str, state: Path, chance: random.Random, standing: Place | None, host: Host) -> Kill:
    """Start a victim, kill it after a random time, and wait until all is well."""
    before = standing.states() if standing is not None else []
    if standing is not None and standing.environment is not None:
        standing.environment.close()
    victim = Victim(place, kind, example, state, standing=standing)
    try:
        victim.await_(STARTED)
        time.sleep(chance.random() * LONGEST_LIFE_S[place])
        victim.traces.watch(victim.process.pid)
        victim.process.kill()
        killed = time.monotonic()
        was_open = victim.open_now()
        with contextlib.suppress(GamedayError):
            wait_for(lambda: not victim.open_now(), timeout_s=HEALED_WITHIN_S, what="the journal to be closed", interval_s=0.005)
        healed_s = time.monotonic() - killed
        return Kill(kind, healed_s if was_open else None, residue(victim, host, standing, before))
    finally:
        victim.close()
        if standing is not None and standing.states() != before:
            put_back(standing, before)


def residue(victim: Victim, host: Host, standing: Place | None, before: Sequence[object]) -> list[str]:
    """What is left when it has had time to go."""

    def look() -> list[str]:
        left = [f"{victim.kind}: open in the journal"] if victim.open_now() else []
        beside = standing.leftovers() if standing is not None else ()
        found = (*victim.traces.remnants(), *Host.now().more_than(host), *beside)
        return left + [f"{victim.kind}: {text}" for text in found]

    with contextlib.suppress(GamedayError):
        wait_for(lambda: not look(), timeout_s=GONE_WITHIN_S, what="the rest to go", interval_s=0.05)
    left = look()
    if standing is not None and standing.states() != before:
        left.append(f"{victim.kind}: not as before: {differing(before, standing.states())}")  # type: ignore[arg-type]
    return left


@contextlib.contextmanager
def opened(catalogue: Catalogue, place: str, directory: Path) -> Iterator[Place]:
    """A place that outlives its victims."""
    with catalogue.places[place](directory) as standing:
        yield standing


def kills(place: str, count: int, directory: Path, seed: int) -> tuple[list[Kill], list[str]]:
    """All faults in turn, until ``count`` have been killed; and the kinds that are not to be had here."""
    catalogue, chance, host = Catalogue.read(CATALOGUE), random.Random(seed), Host.now()
    with contextlib.ExitStack() as stack:
        looked_at = stack.enter_context(opened(catalogue, place, directory / "place"))
        kinds, missing = kinds_of(catalogue, looked_at, place)
        standing = looked_at if place == ATTACHED else None
        turns = itertools.islice(itertools.cycle(kinds), count)
        done = [
            kill_once(place, kind, example, directory / f"kill-{number}", chance, standing, host)
            for number, (kind, example) in enumerate(turns)
        ]
    return done, missing


def kill_rows(place: str, count: int, directory: Path, seed: int) -> list[Row]:
    what = f"{place}: runner killed at {count} random moments (seed {seed})"
    must_s = MUST_S[place]
    try:
        done, missing = kills(place, count, directory, seed)
    except Unavailable as err:
        return [Row(what, "0 residue", f"skipped: {err}")]
    left = [text for one in done for text in one.left]
    broken = [one.open_s for one in done if one.open_s is not None]
    faults = len({one.kind for one in done})
    rows = [Row(f"{what}, {faults} faults in turn", "0 residue", f"{len(left)} left" + (f": {left[0]}" if left else ""), not left)]
    if broken:
        middle, p95 = numpy.percentile(broken, [50, 95])
        measured = f"median {middle:.2f}, p95 {p95:.2f}, most {max(broken):.2f} s (n = {len(broken)})"
        rows.append(Row("its faults that were open then: kill to healed", f"p95 ≤ {must_s:g} s", measured, bool(p95 <= must_s)))
        slowest = max((one for one in done if one.open_s is not None), key=lambda one: one.open_s or 0.0)
        rows.append(Row("the slowest of them", "", f"{slowest.kind}, {slowest.open_s:.2f} s"))
    if missing:
        rows.append(Row("not to be had there", "", ", ".join(missing)))
    return rows


def alone(count: int, directory: Path) -> list[float]:
    """Seconds from the death of runner and healer until a packet passes again."""
    catalogue, took = Catalogue.read(CATALOGUE), list[float]()
    with opened(catalogue, ATTACHED, directory / "place") as standing:
        a, b = (standing.resolve(ref) for ref in standing.refs[:2])
        before = standing.states()
        for number in range(count):
            victim = Victim(ATTACHED, "partition", "isolated", directory / f"alone-{number}", standing=standing, stops=("observing",))
            try:
                victim.await_("observing")
                line = next(one for one in heard(victim.state) if one.moment == "observing")
                for pid in (line.healer, line.pid):
                    os.kill(pid, signal.SIGKILL)
                killed = time.monotonic()
                within_s = deadline_s(standing) + 10 * SLACK_S
                node = require(b, PacketFilter, for_what="this bench")
                wait_for(lambda: node.passes(a), timeout_s=within_s, what="a packet to pass", interval_s=0.02)  # noqa: B023
                took.append(time.monotonic() - killed)
            finally:
                victim.close()
                put_back(standing, before)
    return took


def alone_rows(count: int, directory: Path) -> list[Row]:
    what = "runner and healer killed, node cut off from everybody: healed by the node itself"
    try:
        took = alone(count, directory)
    except Unavailable as err:
        return [Row(what, "", f"skipped: {err}")]
    within_s = 4.0 + SLACK_S
    good = sum(one <= within_s for one in took)
    return [
        Row(what, f"≤ deadline + {SLACK_S:g} s = {within_s:g} s, {count} of {count}", f"{good} of {count}: {spread(took)}", good == count)
    ]


DRILL = """
import time
import pytest

@pytest.mark.drill()
def test_long(drill, wreck):
    \"\"\"Something stays broken until somebody says stop.\"\"\"
    with drill.inject(wreck.fault):
        time.sleep(600)
"""


def stopped_once(kind: str, example: str, directory: Path) -> float:
    """Seconds from the stop file to a closed journal. Raises RuntimeError where the run did not come out as ABORTED."""
    directory.mkdir(parents=True)
    spec = Spec(str(CATALOGUE), EMBEDDED, kind, example, str(directory))
    (directory / "spec.json").write_bytes(msgspec.json.encode(spec))
    (directory / "conftest.py").write_text('pytest_plugins = ["chaos.testing.drilled"]\n', encoding="utf-8")
    (directory / "test_long.py").write_text(DRILL, encoding="utf-8")
    (directory / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    argv = [sys.executable, "-m", "pytest", "--drill-env=embedded", f"--drill-dir={directory}", "-p", "no:cacheprovider", "-p", "no:xdist"]
    environ = {**os.environ, "XDG_STATE_HOME": str(directory / "xdg")}
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=directory, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    journal = directory / "journal"
    try:
        wait_for(lambda: any("landed" in one.fault.states for one in find([journal])), timeout_s=60.0, what="the fault", interval_s=0.005)
        engage(directory / STOP_FILE, by="the bench", reason="to see how long it takes")
        said = time.monotonic()
        wait_for(lambda: not find([journal]), timeout_s=60.0, what="the journal to be closed", interval_s=0.002)
        took_s = time.monotonic() - said
        if (code := process.wait(60.0)) != EXIT_ABORTED:
            raise RuntimeError(f"the run ended with {code}: {(directory / 'log').read_text(errors='replace')[-500:]}")
        return took_s
    finally:
        process.kill()
        process.wait()


def stop_rows(count: int, directory: Path) -> list[Row]:
    kinds = ("pause", "power-loss", "partition", "cpu-stress")
    examples = dict(reversed(Catalogue.read(CATALOGUE).pairs(EMBEDDED)))
    turns = zip(range(count), itertools.cycle(kinds), strict=False)
    took = [stopped_once(kind, examples[kind], directory / f"stop-{number}") for number, kind in turns]
    what = f"kill switch (a file) to all healed, embedded: {', '.join(kinds)} in turn"
    return [Row(what, f"≤ {STOPPED_S:g} s", spread(took), max(took) <= STOPPED_S)]


class Cost(NamedTuple):
    """Milliseconds of one fault: the journal, the dead-man's switch, and the look that proved that it landed. Looks before that one found
    no effect yet: that time is the effect's own."""

    journal: float
    arm: float
    proof: float

    def added(self, *, arm: bool) -> float:
        """All but the bare call, with or without the switch."""
        return self.journal + self.proof + (self.arm if arm else 0.0)


def cost(fault: Fault, resolve: Resolve, journal: Path, switch: Switch | None) -> Cost:
    """Inject once, with a stamp at each moment, and heal."""
    stamps: dict[str, float] = {}

    def landed(_: Fault, undo: Undo, resolve: Resolve) -> Proof | None:
        stamps["look"] = time.monotonic()
        proof = fault.landed(undo, resolve)
        stamps["seen"] = time.monotonic()
        return proof

    def at(moment: str) -> None:
        stamps[moment] = time.monotonic()

    book = Journal(journal)
    try:
        running = InjectedFault(respied(fault, landed=landed), journal.stem, resolve, book, nothing, cause=False, switch=switch, at=at)
        try:
            running.inject("bench")
        finally:
            running.heal()
    finally:
        book.close()
    took_ms = [(stamps[to] - stamps[since]) * 1e3 for since, to in _GAPS]
    return Cost(took_ms[0] + took_ms[3], took_ms[1], took_ms[2])


def costs(place: str, rounds: int, directory: Path) -> dict[str, list[Cost]]:
    """By kind."""
    catalogue, found = Catalogue.read(CATALOGUE), dict[str, list[Cost]]()
    with opened(catalogue, place, directory / "place") as standing:
        environment = standing.environment
        dead_man = environment.dead_man() if environment is not None else None
        switch = Switch(dead_man, deadline_s(standing)) if dead_man is not None else None
        before = standing.states()
        for kind, example in kinds_of(catalogue, standing, place)[0]:
            fault = catalogue.examples[kind][example](*standing.refs)
            found[kind] = [cost(fault, standing.resolve, directory / f"{kind}-{n}.jsonl", switch) for n in range(rounds)]
            put_back(standing, before)
    return found


def cost_rows(place: str, rounds: int, directory: Path) -> list[Row]:
    what = f"{place}: journal, switch and landed proof over the bare effect"
    if place == ATTACHED:
        what = f"{place}: journal and landed proof over the bare effect"
    try:
        found = costs(place, rounds, directory)
    except Unavailable as err:
        return [Row(what, "", f"skipped: {err}")]
    whole = {kind: statistics.median(one.added(arm=place == EMBEDDED) for one in those) for kind, those in found.items()}
    above = [f"{kind} {ms:.0f} ms" for kind, ms in sorted(whole.items(), key=lambda pair: -pair[1]) if ms > OVERHEAD_MS]
    middle = statistics.median(whole.values())
    measured = f"{len(whole) - len(above)} of {len(whole)} faults; median of all {middle:.1f} ms"
    rows = [Row(what, f"≤ {OVERHEAD_MS:g} ms each (median)", measured, not above)]
    if above:
        rows.append(Row("those above it: their effect shows only over some time", "", ", ".join(above)))
    rows.append(Row("of that, the journal", "", spread([one.journal for those in found.values() for one in those], "ms", 1)))
    if place == ATTACHED:
        rows.append(
            Row("the dead-man's switch, counted apart", "", spread([one.arm for those in found.values() for one in those], "ms", 0))
        )
    return rows


def main(argv: Sequence[str]) -> int:
    """Print the table; 1 where a figure was not reached."""
    parser = command("healing", __doc__)
    parser.add_argument("--kills", type=int, help="victims, half of them on each place (default 200; quick: 40)")
    parser.add_argument("--alone", type=int, help="deaths of runner and healer together (default 50; quick: 5)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 16))
    options = parser.parse_args(argv)
    kill_count = options.kills or (40 if options.quick else 200)
    alone_count = options.alone or (5 if options.quick else 50)
    rounds = 3 if options.quick else 10
    rows: list[Row] = []
    with scratch("healing") as name:
        for place in (EMBEDDED, ATTACHED):
            rows += kill_rows(place, kill_count // 2, Path(name) / f"kills-{place}", options.seed)
        rows += alone_rows(alone_count, Path(name) / "alone")
        rows += stop_rows(4 if options.quick else 20, Path(name) / "stops")
        for place in (EMBEDDED, ATTACHED):
            rows += cost_rows(place, rounds if place == EMBEDDED else 3, Path(name) / f"cost-{place}")
    return finish(rows, options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

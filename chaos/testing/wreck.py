"""Ending a process that has broken something, at a moment and in a way, and looking at what becomes of it: the watcher's side of the crash
suite. It judges by looking at nodes, processes, engine and journals; the victim's own word counts for nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from chaos.core.clock import now_ns, seconds, wait_for
from chaos.core.errors import EXIT_RESIDUE, DeadlineExceeded, GamedayError, Unavailable
from chaos.core.model import Json
from chaos.engine.injection import DEADLINE_S
from chaos.engine.journal import Record, read_journal
from chaos.engine.residue import find
from chaos.testing.host import MARK, Host, Traces
from chaos.testing.places import Catalogue, Place, put_back
from chaos.testing.stops import DONE, FAILED, UNAVAILABLE, Attached, Line, Spec, heard, plain, release

SPEAKS_WITHIN_S = 90.0
HEALED_WITHIN_S = 90.0
GONE_WITHIN_S = 20.0
ENDS_BY_ITSELF_WITHIN_S = 90.0
"""A helper beside the nodes that nobody is left to remove."""
SLACK_S = 1.0
"""A dead-man's switch may act so much after its deadline."""

RUNNER, RUNNER_AND_HEALER = "runner", "runner+healer"
WORKER, TERMINATED, HUNG_UP, INTERRUPTED, CONTROLLER = "worker", "sigterm", "sighup", "interrupted-twice", "controller"
VICTIMS = (RUNNER, RUNNER_AND_HEALER)
"""Ways to die of a plain process; the others are those of a real pytest."""
ORDERLY = (TERMINATED, HUNG_UP, INTERRUPTED, CONTROLLER)
"""Ways that a runner survives for long enough to put everything back itself."""
WAYS = (*VICTIMS, WORKER, *ORDERLY)
_NEXT = {"mid-heal": "after-heal", "after-heal": "teardown"}
_COMMAND = "from chaos.cli import main; main()"
_TEST = '''
import pytest

@pytest.mark.drill()
def test_wreck(drill, wreck):
    """Something is broken, and put back."""
    with drill.inject(wreck.fault):
        pass
'''


class Case(msgspec.Struct, frozen=True):
    """One cell of the matrix."""

    place: str
    kind: str
    example: str
    moment: str
    way: str

    def __str__(self) -> str:
        return "-".join(filter(None, (self.place, self.kind, self.example, self.moment, self.way)))


@dataclass
class Aftermath:
    """What came of it. ``reached`` False: the fault has no such moment, and nobody was ended. ``wrong`` is empty where all is as before;
    ``healed_s`` is the time from the end of the process to a closed journal (or, without any healer, to a healed node)."""

    reached: bool = True
    healed_s: float | None = None
    by: str = ""
    wrong: list[str] = field(default_factory=list)


@dataclass
class Wreck:
    """A running victim. ``before``: the nodes of a place that outlives it; ``beside``: what stood beside them already."""

    case: Case
    spec: Spec
    process: subprocess.Popen[bytes]
    traces: Traces
    standing: Place | None
    before: Sequence[dict[str, Json]]
    beside: Sequence[str] = ()

    @property
    def state(self) -> Path:
        return Path(self.spec.state)

    @property
    def journals(self) -> Path:
        return self.state / "journal"

    def log(self) -> str:
        return (self.state / "log").read_text(errors="replace")[-3000:]

    def stopped(self, moment: str, number: int) -> Line | None:
        """Wait until it stands still at ``moment``, as its ``number``-th stop; None where it came to its end without.

        Raises:
            Unavailable: this fault is not to be had there. DeadlineExceeded: neither happened, or it failed; with its own words.
        """

        def look() -> Line | bool:
            lines = heard(self.state)
            for line in lines:
                if line.moment == UNAVAILABLE:
                    raise Gone(Unavailable(line.text, capability=line.capability))
                if line.moment == FAILED:
                    raise Gone(DeadlineExceeded(f"{self.case}: the victim failed before {moment}", observed=line.text))
            there = [line for line in lines if line.moment == moment]
            if len(there) and len([x for x in lines if x.moment in self.spec.stops]) >= number:
                return there[-1]
            return any(line.moment == DONE for line in lines) or self.process.poll() is not None

        try:
            seen = wait_for(look, timeout_s=SPEAKS_WITHIN_S, what=f"{self.case} to reach {moment}", interval_s=0.01)
        except Gone as err:
            raise err.cause from None
        if isinstance(seen, Line):
            return seen
        if not any(line.moment == DONE for line in heard(self.state)):
            raise DeadlineExceeded(f"{self.case}: the victim ended before {moment}", observed=self.log())
        return None

    def open_now(self) -> list[str]:
        """What its journals hold open. Raises JournalUnreadable."""
        return [one.fault.undo.fault_id for one in find([self.journals])]

    def records(self) -> list[Record]:
        return [record for path in sorted(self.journals.glob("*.jsonl")) for record in read_journal(path)[0]]


class Gone(Exception):
    """The victim has said its last word. No error of ours, so that nothing waits any longer for it."""

    def __init__(self, cause: GamedayError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def wreck(case: Case, catalogue: Catalogue, state: Path, *, standing: Place | None, host: Host, slack_s: float = SLACK_S) -> Aftermath:
    """Break, end, look. ``standing`` is the place where it outlives the victim; ``state`` an empty directory of this case alone, which is
    removed where all went well. Raises Unavailable where there can be no such case."""
    run = start(case, catalogue, state, standing)
    after = Aftermath()
    try:
        line = run.stopped(case.moment, 1)
        if line is None:
            after.reached = False
            run.process.wait(GONE_WITHIN_S)
        else:
            end(run, line, after, slack_s)
        look_around(run, host, line, catalogue, after)
    except Unavailable:
        shutil.rmtree(state, ignore_errors=True)
        raise
    except (GamedayError, OSError, subprocess.TimeoutExpired) as err:
        after.wrong.append(f"{type(err).__name__}: {err}")
    finally:
        _end_what_was_started(run)
    if after.wrong:
        after.wrong.append(f"log: {run.log()}")
        if standing is not None:
            with suppress(GamedayError):
                put_back(standing, run.before)
    else:
        shutil.rmtree(state, ignore_errors=True)
    return after


def start(case: Case, catalogue: Catalogue, state: Path, standing: Place | None) -> Wreck:
    """The victim, on its way. A plain process, or pytest where the way to die is pytest's."""
    state.mkdir(parents=True)
    attached, before, beside = None, list[dict[str, Json]](), list[str]()
    if standing is not None and standing.environment is not None:
        before = standing.states()
        standing.environment.close()  # what it keeps beside the nodes to look at them is not the victim's
        beside = [*standing.leftovers()]
        attached = Attached(standing.environment.kind, plain(standing.environment.settings()), standing.refs)
    stops = stops_of(case)
    spec = Spec(str(catalogue.path), case.place, case.kind, case.example, str(state), stops, attached)
    mark = uuid.uuid4().hex
    argv = [sys.executable, "-m", "chaos.testing.victim", msgspec.json.encode(spec).decode()]
    if case.way not in VICTIMS:
        argv = _pytest(case, spec)
    with (state / "log").open("wb") as log:
        process = subprocess.Popen(
            argv, cwd=state, env=_environ(state, mark), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    return Wreck(case, spec, process, Traces(mark), standing, before, beside)


def stops_of(case: Case) -> tuple[str, ...]:
    """Where it stops. Who is interrupted twice is so a second time while everything is being put back."""
    if case.way != INTERRUPTED:
        return (case.moment,)
    nothing_to_heal = case.moment == "before-intent"
    return (case.moment, "teardown" if nothing_to_heal else _NEXT.get(case.moment, "mid-heal"))


def _pytest(case: Case, spec: Spec) -> list[str]:
    """A small project of its own with one drill."""
    project = Path(spec.state) / "project"
    project.mkdir()
    (project / "spec.json").write_bytes(msgspec.json.encode(spec))
    (project / "conftest.py").write_text('pytest_plugins = ["chaos.testing.drilled"]\n', encoding="utf-8")
    (project / "test_wreck.py").write_text(_TEST, encoding="utf-8")
    (project / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    workers = ["-n1", f"--basetemp={spec.state}/basetemp"] if case.way in (WORKER, CONTROLLER) else ["-p", "no:xdist"]
    options = ["--drill-env", case.place.partition("-")[0], "--drill-dir", spec.state, "-p", "no:cacheprovider", *workers]
    return [sys.executable, "-m", "pytest", "--rootdir", str(project), str(project / "test_wreck.py"), *options]


def _environ(state: Path, mark: str) -> dict[str, str]:
    """This process' own, with directories of the case's, and its mark. What can be imported here can be there."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("DRILL_", "PYTEST_", "GAMEDAY_", "XDG_"))}
    made = {name: str(state / name.lower()) for name in ("TMPDIR", "XDG_STATE_HOME", "XDG_CACHE_HOME")}
    for directory in made.values():
        Path(directory).mkdir(exist_ok=True)
    path = os.pathsep.join(filter(None, sys.path))
    return {**own, **made, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", MARK: mark}


# -- the end ---------------------------------------------------------------------------------------------------------------------


def end(run: Wreck, line: Line, after: Aftermath, slack_s: float) -> None:
    """End it the way of its case, and wait until everything is put back."""
    run.traces.watch(run.process.pid)
    way = run.case.way
    if way == RUNNER_AND_HEALER:
        os.kill(line.healer, signal.SIGKILL)  # the runner stands still and does not notice
    if way in (*VICTIMS, WORKER):
        os.kill(line.pid, signal.SIGKILL)
    else:
        _signal(run, way)
    began_ns = now_ns()
    if way == RUNNER_AND_HEALER:
        run.process.wait(GONE_WITHIN_S)
        after.by = _nobody_but_the_node(run, after, began_ns, slack_s)
        return
    wait_for(lambda: not run.open_now(), timeout_s=HEALED_WITHIN_S, what=f"{run.case} to be healed", interval_s=0.01)
    after.healed_s = seconds(now_ns() - began_ns)
    run.process.wait(HEALED_WITHIN_S)
    after.by = ",".join(sorted({record.by for record in run.records() if record.state == "verified"}))
    if way in ORDERLY and after.by not in ("", "runner"):
        after.wrong.append(f"healed by {after.by}, and not in order by the runner itself")
    if way in ORDERLY and run.process.returncode == 0:
        after.wrong.append("the run that was ended came out with exit code 0")


def _signal(run: Wreck, way: str) -> None:
    number = {TERMINATED: signal.SIGTERM, HUNG_UP: signal.SIGHUP, INTERRUPTED: signal.SIGINT, CONTROLLER: signal.SIGTERM}[way]
    run.process.send_signal(number)
    release(run.state, 1)
    if way == INTERRUPTED and run.stopped(run.spec.stops[1], 2) is not None:
        run.process.send_signal(number)
    release(run.state, 2)


def _nobody_but_the_node(run: Wreck, after: Aftermath, began_ns: int, slack_s: float) -> str:
    """Runner and healer are gone: a standing node's own switch puts it back in time, a disposable one is gone; then the next person closes
    the books."""
    armed = any(record.state == "armed" for record in run.records())
    if run.standing is not None and armed:
        after.healed_s = heals_itself(run.standing, run.before, began_ns, deadline_s(run.standing) + slack_s)
    opened = run.open_now()
    _expect(run, after, "status", EXIT_RESIDUE if opened else 0)
    _expect(run, after, "heal", 0)
    _expect(run, after, "status", 0)
    if after.healed_s is None:
        after.healed_s = seconds(now_ns() - began_ns)
    return ("the node itself" if armed else "gameday heal") if opened else ""


def heals_itself(place: Place, before: Sequence[dict[str, Json]], began_ns: int, within_s: float) -> float:
    """Seconds from ``began_ns`` until the nodes were seen to be as before.

    Raises:
        DeadlineExceeded: a look that began later than ``within_s`` still found them otherwise. However long a look takes, it counts from
            its begin.
    """
    while True:
        looked_s = seconds(now_ns() - began_ns)
        now = place.states()
        if now == before:
            return seconds(now_ns() - began_ns)
        if looked_s > within_s:
            raise DeadlineExceeded(f"the node has not healed itself within {within_s:g} s", observed=str(differing(before, now)))


def differing(before: Sequence[dict[str, Json]], now: Sequence[dict[str, Json]]) -> list[tuple[object, object]]:
    """What is otherwise, node by node: as it was, as it is."""
    found: list[tuple[object, object]] = []
    for was, is_ in zip(before, now, strict=True):
        keys = [key for key in {**was, **is_} if was.get(key) != is_.get(key)]
        found += [({key: was.get(key) for key in keys}, {key: is_.get(key) for key in keys})] if keys else []
    return found


def deadline_s(place: Place) -> float:
    """Of its dead-man's switch."""
    given = place.environment.settings().get("deadline_s") if place.environment is not None else None
    return float(given) if isinstance(given, int | float) else DEADLINE_S


def _expect(run: Wreck, after: Aftermath, command: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND, command, "--dir", run.spec.state],
        cwd=run.state,
        env=_environ(run.state, run.traces.mark),
        capture_output=True,
        text=True,
        timeout=HEALED_WITHIN_S,
        check=False,
    )
    if done.returncode != code:
        after.wrong.append(f"gameday {command}: exit code {done.returncode} instead of {code}: {done.stdout}{done.stderr}")


# -- the aftermath ---------------------------------------------------------------------------------------------------------------


def look_around(run: Wreck, host: Host, line: Line | None, catalogue: Catalogue, after: Aftermath) -> None:
    """Nothing open, nobody left, nothing on the host, nothing beside the nodes, every node as it was."""
    after.wrong += [f"open in the journal: {fault_id}" for fault_id in run.open_now()]
    after.wrong += [f"process: {text}" for text in _settled(run.traces.remnants)]
    after.wrong += _settled(lambda: Host.now().more_than(host))
    pid = line.pid if line is not None else run.process.pid
    after.wrong += [f"beside the nodes: {text}" for text in _settled(lambda: catalogue.leftovers(run.case.place, pid))]
    if run.standing is None:
        return
    standing, before = run.standing, run.before
    if run.case.way == RUNNER_AND_HEALER and standing.environment is not None:
        standing.environment.reclaim()  # as the next start does; nobody else is left to
    within_s = ENDS_BY_ITSELF_WITHIN_S if run.case.way == RUNNER_AND_HEALER else GONE_WITHIN_S
    after.wrong += [f"beside the nodes: {text}" for text in _settled(lambda: left_beside(run), within_s)]
    with suppress(DeadlineExceeded):
        wait_for(lambda: standing.states() == before, timeout_s=2.0, what="the nodes to be as before", interval_s=0.1)
        return
    after.wrong.append(f"not as before: {differing(before, standing.states())}")


def left_beside(run: Wreck) -> list[str]:
    """What stands beside the nodes now, and did not before."""
    return [text for text in run.standing.leftovers() if text not in run.beside] if run.standing is not None else []


def _settled(look: Callable[[], Sequence[str]], within_s: float = GONE_WITHIN_S) -> list[str]:
    """What is left a while after the end; waits only as long as something is."""
    seen: list[str] = []

    def gone() -> bool:
        seen[:] = look()
        return not seen

    with suppress(DeadlineExceeded):
        wait_for(gone, timeout_s=within_s, what="the rest to go", interval_s=0.05)
    return seen


def _end_what_was_started(run: Wreck) -> None:
    """A case that went wrong must not disturb the next. Only what carries its mark is ended."""
    if run.process.poll() is None:
        run.process.kill()
    with suppress(subprocess.TimeoutExpired):
        run.process.wait(GONE_WITHIN_S)
    for text in run.traces.remnants():
        with suppress(ProcessLookupError):
            os.kill(int(text.partition(" ")[0]), signal.SIGKILL)

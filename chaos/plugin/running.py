"""One drill item, from its first fixture to its verdict: begin, finish (judge, write, decide), release; and how our errors read.

The verdict and its report exist before any teardown starts. A heal that failed is told at teardown, as an error of its own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest

from chaos.core.errors import EXIT_ABORTED, EXIT_RESIDUE, BadInput, GamedayError, Judged, Unavailable
from chaos.core.model import Finding, Verdict
from chaos.engine.attached import AttachedSystem
from chaos.engine.drill import Drill, DrillOptions
from chaos.engine.dry import DryDrill
from chaos.engine.guard import Refused
from chaos.engine.lease import LeaseHeld
from chaos.engine.outcome import DrillOutcome
from chaos.engine.progress import Progress
from chaos.engine.signals import Aborted
from chaos.environments.base import Environment
from chaos.evidence.junit import properties
from chaos.evidence.paths import drill_directory, safe_name
from chaos.evidence.report import ReportPaths, write_report
from chaos.evidence.terminal import summary_dict
from chaos.plugin import dry
from chaos.plugin.collect import placement_of
from chaos.plugin.keys import DRILL, EXTRAS, OPTIONS, PLACES, RUNNING, SERIES, SKIPPED, SPEC, SUMMARY, TERMINAL_FD
from chaos.plugin.live import LiveDisplay, MessageLog
from chaos.plugin.places import BUILT_IN
from chaos.plugin.series import Repeat, Series, add, read
from chaos.plugin.session import GamedaySession
from chaos.plugin.steps import leave_with


@dataclass
class Running:
    """What belongs to one running drill besides the drill itself."""

    directory: Path
    session: GamedaySession
    log: MessageLog
    display: LiveDisplay | None
    outcome: DrillOutcome | None = None

    def watch(self, progress: Progress) -> None:
        """To the log and, where there is one, to the display."""
        self.log(progress)
        if self.display is not None:
            self.display(progress)

    def dark(self, last_line: str = "") -> None:
        """Take the display away."""
        if self.display is not None:
            self.display.close(last_line)


def begin(item: pytest.Item, environment: Environment, session: GamedaySession) -> Drill:
    """The drill object of ``item``. Nothing is broken yet."""
    _skip_what_was_found(item, session)
    spec, options = item.stash[SPEC], session.options
    if options.dry_run:
        return dry.begin(item, environment, session)
    directory = drill_directory(session.run_dir, item.nodeid)
    running = Running(directory, session, MessageLog(), _display(item, session))
    item.stash[RUNNING] = running
    if running.display is not None:
        running.display.open()
    drill = Drill(
        node_id=item.nodeid,
        test_doc=_first_line(item),
        run_id=options.run_id,
        directory=directory,
        scenario=spec.scenario,
        budget=spec.budget,
        expectation=spec.expectation,
        environment=environment,
        seed=derived_seed(options.seed, _attempt(item)),
        nets=session.nets(environment),
        signals=session.signals,
        at=lambda moment: item.ihook.pytest_gameday_moment(item=item, moment=moment),
        guard=session.guard(environment, item.nodeid),
        watch=running.watch,
        operator=options.operator,
        options=DrillOptions(),
    )
    item.stash[DRILL] = drill
    return drill


def attach(item: pytest.Item, environment: Environment) -> AttachedSystem:
    """The system of the fixture ``attached``. Raises BadInput where its marker is not understood."""
    mark = item.get_closest_marker("attached")
    given = dict(mark.kwargs) if mark is not None else {}
    unknown = set(given) - {"detect_s", "check_interval_s"}
    if unknown or (mark is not None and mark.args) or not all(isinstance(value, int | float) for value in given.values()):
        raise BadInput("@pytest.mark.attached is not understood", expected="detect_s and check_interval_s in seconds", observed=str(given))
    return AttachedSystem(environment, **given)


def finish(item: pytest.Item, error: BaseException | None) -> None:
    """After the test function: heal, judge, write the evidence, and pass or fail.

    Raises whatever the test must end with; returns where it passed.
    """
    drill = item.stash[DRILL]
    if isinstance(drill, DryDrill):
        dry.finish(item, drill, error)
        return
    running = item.stash[RUNNING]
    try:
        outcome = running.outcome = drill.conclude(error)
        error = drill.interruption or error
        if isinstance(error, pytest.skip.Exception | Unavailable | BadInput) and not _broke_something(outcome):
            explain(item, error)
            raise error
        if not drill.exercised:
            outcome = running.outcome = _nothing_exercised(outcome)
        trouble = _write(item, outcome, running)
        running.dark(f"{_first_line_of(outcome)}  {item.nodeid}")
    finally:
        running.dark()
        if text := running.log.text():
            item.add_report_section("call", "drill", text)
    if outcome.verdict is Verdict.ABORTED:
        leave_with(item.config, EXIT_ABORTED)
    if isinstance(error, KeyboardInterrupt | SystemExit | pytest.exit.Exception):
        raise error
    _decide(item, outcome, error, trouble)


def _broke_something(outcome: DrillOutcome) -> bool:
    return any(fault.issued_ns is not None for fault in outcome.faults)


def _nothing_exercised(outcome: DrillOutcome) -> DrillOutcome:
    """A drill that ran no workload and injected no fault proves nothing, whatever the judge made of its empty history."""
    finding = Finding("nothing", Verdict.INVALID, "The drill exercised nothing: it ran no workload and injected no fault.")
    judgement = msgspec.structs.replace(outcome.judgement, verdict=Verdict.INVALID, findings=(finding,))
    return msgspec.structs.replace(outcome, judgement=judgement)


def _write(item: pytest.Item, outcome: DrillOutcome, running: Running) -> str:
    """Write the evidence and hang its summary on the item; returns why it could not be written, or nothing."""
    try:
        paths = write_report(outcome, running.directory)
    except BadInput as err:
        return f"The report could not be written: {err}"
    told = properties(outcome, paths)
    names = {name for name, _ in told}
    item.user_properties[:] = [pair for pair in item.user_properties if pair[0] not in names]  # of an attempt that measured nothing
    item.user_properties.extend(told)
    item.stash[SUMMARY] = summary_dict(outcome, paths)
    if item.config.pluginmanager.hasplugin("html"):
        item.stash[EXTRAS] = _html_extras(outcome, paths)
    return ""


def _html_extras(outcome: DrillOutcome, paths: ReportPaths) -> list[object]:
    """What goes into the row of pytest-html: the block with the small chart, and a link to the page."""
    from pytest_html import extras  # type: ignore[import-untyped]

    from chaos.evidence.html_extras import row_html

    return [extras.html(row_html(outcome, paths)), extras.url(paths.html.as_uri(), name="drill report")]


def _decide(item: pytest.Item, outcome: DrillOutcome, error: BaseException | None, trouble: str) -> None:
    """Pass, or fail with the verdict and its first reason in the first line."""
    first = _first_line_of(outcome)
    if trouble:
        pytest.fail(f"{first}\n{trouble}", pytrace=False)
    sought = _series(item, outcome)
    if isinstance(error, Judged):
        error = None  # the verdict tells it, as a finding of its own: "landed", "check" or "runbook"
    if isinstance(error, pytest.skip.Exception | pytest.xfail.Exception):
        # A test that leaves after it broke something does not get out of the verdict.
        pytest.fail(f"{first}\nThe test asked to be skipped after it had broken something: {error}{_where(item)}", pytrace=False)
    if error is not None and not isinstance(error, GamedayError):
        error.add_note(f"drill: {first}")
        raise error
    if error is not None or outcome.error:
        pytest.fail(f"{first}\n{error or outcome.error}{_where(item)}", pytrace=False)
    if outcome.as_expected or sought == "tolerated" or (outcome.heal_error and _verdict_as_expected(outcome)):
        return
    if sought:
        pytest.fail(f"{first}\n{sought}{_where(item)}", pytrace=False)
    pytest.fail(f"{first}{_rest(outcome)}{_where(item)}", pytrace=False)


def _verdict_as_expected(outcome: DrillOutcome) -> bool:
    """Apart from a failed heal, which the teardown reports."""
    return msgspec.structs.replace(outcome, heal_error="").as_expected


def _first_line_of(outcome: DrillOutcome) -> str:
    expected = outcome.expectation
    but = ""
    if expected.verdict is not Verdict.PASS and not _verdict_as_expected(outcome):
        but = f" (expected {expected.verdict} because of {expected.because})"
    findings = outcome.judgement.findings
    return f"{outcome.verdict}{but}: {findings[0].code}: {findings[0].text}" if findings else f"{outcome.verdict}{but}"


def _rest(outcome: DrillOutcome) -> str:
    return "".join(f"\n{found.verdict}: {found.code}: {found.text}" for found in outcome.judgement.findings[1:])


def _where(item: pytest.Item) -> str:
    return f"\nreport: {item.stash[RUNNING].directory / 'report.html'}"


def release(item: pytest.Item, drill: Drill) -> None:
    """Teardown of the fixture ``drill``: let everything go, then tell of a heal that failed."""
    if isinstance(drill, DryDrill):
        return
    running = item.stash[RUNNING]
    running.dark()
    outcome = running.outcome
    if drill.residue:
        leave_with(item.config, EXIT_RESIDUE)
    try:
        drill.release()
    except GamedayError as err:
        pytest.fail(str(err), pytrace=False)
    if outcome is not None and outcome.heal_error:
        pytest.fail(f"healing failed: {outcome.heal_error}\nThe verdict stands: {_first_line_of(outcome)}", pytrace=False)


def explain(item: pytest.Item, error: BaseException) -> None:
    """Raise what ``error`` means to pytest where it is one of ours; return where it is not."""
    if isinstance(error, Unavailable):
        environment = environment_name(item)
        if item.config.stash[OPTIONS].requires(environment, error.capability):
            pytest.fail(f"required by this run (--drill-require): {error}", pytrace=False)
        _skip(item, str(error))
    if isinstance(error, Aborted):
        leave_with(item.config, EXIT_ABORTED)
        pytest.fail(f"ABORTED before anything was broken: {error}", pytrace=False)
    if code := getattr(error, "exit_code", 0):
        leave_with(item.config, code)
    if isinstance(error, Refused | LeaseHeld):
        pytest.fail(f"refused: {error}", pytrace=False)
    if isinstance(error, BadInput):
        pytest.fail(f"bad input: {error}", pytrace=False)
    if isinstance(error, GamedayError):
        pytest.fail(f"{type(error).__name__}: {error}", pytrace=False)


def _skip(item: pytest.Item, reason: str) -> NoReturn:
    item.stash[SKIPPED] = reason
    pytest.skip(reason)


def environment_name(item: pytest.Item) -> str:
    """Where ``item`` runs: its placement, or the marker of an environment that any other test carries."""
    placement = placement_of(item)
    if placement is not None:
        return placement.environment
    known = item.config.stash[PLACES].names() if PLACES in item.config.stash else BUILT_IN
    return next((mark.name for mark in item.iter_markers() if mark.name in known), "")


def derived_seed(seed: int, node_id: str) -> int:
    """The seed of one drill: the run's seed and the drill's name decide it, nothing else."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{node_id}".encode()).digest()[:4], "big")


def _attempt(item: pytest.Item) -> str:
    """The drill's name, numbered from its second attempt on (pytest-rerunfailures counts): each has a seed and fault ids of its own."""
    number = getattr(item, "execution_count", 1)
    return item.nodeid if number <= 1 else f"{item.nodeid}#{number}"


def _first_line(item: pytest.Item) -> str:
    doc = getattr(getattr(item, "obj", None), "__doc__", None) or ""
    return doc.strip().partition("\n")[0]


def _display(item: pytest.Item, session: GamedaySession) -> LiveDisplay | None:
    descriptor = item.config.stash.get(TERMINAL_FD, None)
    return LiveDisplay(descriptor) if descriptor is not None and session.options.progress else None


# -- repeats until a verdict -----------------------------------------------------------------------------------------------------


def _series_file(item: pytest.Item, session: GamedaySession, series: Series) -> Path:
    return session.run_dir / "series" / f"{safe_name(series.key)}.jsonl"


def _skip_what_was_found(item: pytest.Item, session: GamedaySession) -> None:
    """A repeat that starts after its series found what it sought has nothing to add."""
    series = item.stash.get(SERIES, None)
    if series is None or not series.until:
        return
    found = next((repeat for repeat in read(_series_file(item, session, series)) if repeat.sought), None)
    if found is not None:
        _skip(item, f"repeat {found.number} came out as {found.verdict}, which is what was sought")


def _series(item: pytest.Item, outcome: DrillOutcome) -> str:
    """``tolerated`` for a repeat that may come out as it did because others follow or found it, a reason to fail for the last one
    of a series that found nothing, "" where the repeat stands for itself."""
    series, placement = item.stash.get(SERIES, None), placement_of(item)
    if series is None or placement is None or not series.until:
        return ""
    expected = outcome.expectation
    seeks = series.until == expected.verdict and expected.verdict is not Verdict.PASS
    sought = _verdict_as_expected(outcome) if seeks else outcome.verdict == series.until
    file = _series_file(item, item.stash[RUNNING].session, series)
    repeats = add(file, Repeat(placement.repeat, str(outcome.verdict), sought))
    if not seeks:
        return ""
    if len(repeats) < series.size or any(repeat.sought for repeat in repeats):
        return "tolerated"
    return f"none of {series.size} repeats came out as {expected.verdict} because of {expected.because}"

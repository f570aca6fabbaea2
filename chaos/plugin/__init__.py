"""The pytest plugin, as pytest loads it: hooks that find out quickly whether there is anything to do, and the fixtures.

Every pytest run of an environment where the package is installed imports this module, so it imports next to nothing; everything
else comes with the first drill that is collected. It decides nothing itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

from chaos.plugin import hookspecs
from chaos.plugin.keys import (
    COLLECTOR,
    DRILL,
    EXIT_CODE,
    EXTRAS,
    OPTIONS,
    PLAN,
    PLANS,
    SKIPPED,
    SPEC,
    SUMMARIES,
    SUMMARY,
    TERMINAL_FD,
    USAGE,
)
from chaos.plugin.options import WORKERINPUT, GamedayOptions, add_options, resolve

if TYPE_CHECKING:
    from chaos.engine.attached import AttachedSystem
    from chaos.engine.drill import Drill
    from chaos.engine.pool import SystemPool
    from chaos.environments.base import Environment
    from chaos.evidence.terminal import Summary
    from chaos.plugin.session import GamedaySession

MARKERS = (
    "drill(scenario=None, *, rto=None, rpo=None, availability=None, rto_from='fault', environments=None, expect='PASS', because='',"
    " repeat=None, until=None): a disaster-recovery drill, judged against these objectives",
    "attached(detect_s=0, check_interval_s=0): seconds that the HA manager of a standing system may take",
    "local: runs in a disposable environment, made and thrown away on this machine",
    "embedded: runs on micro-hosts made of Linux namespaces",
    "docker: runs in containers of a local Docker engine",
)


# -- start -----------------------------------------------------------------------------------------------------------------------


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    """Keep a way to the terminal from before pytest captures it, for the live display."""
    out = sys.__stdout__
    if out is not None and out is sys.stdout and out.isatty():
        early_config.stash[TERMINAL_FD] = os.dup(out.fileno())
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    options = config.stash[OPTIONS] = resolve(config)
    config.stash[USAGE], config.stash[SUMMARIES], config.stash[PLANS] = [], {}, []
    config.pluginmanager.register(Reports(config.stash[SUMMARIES], config.stash[PLANS]), "gameday-reports")
    if options.environments or options.require or (config.rootpath / "gameday.toml").exists():
        from chaos.plugin.steps import read_project

        read_project(config, options)


def pytest_unconfigure(config: pytest.Config) -> None:
    descriptor = config.stash.get(TERMINAL_FD, None)
    if descriptor is not None:
        del config.stash[TERMINAL_FD]
        os.close(descriptor)


# -- collection ------------------------------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker("drill")
    if mark is not None or ("gameday_session" in metafunc.fixturenames and "environment" in metafunc.fixturenames):
        from chaos.plugin.steps import collector_of

        collector_of(metafunc.config).generate(metafunc, mark)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """Before every other selection (``-m`` and ``-k``), and after it."""
    if COLLECTOR not in config.stash:
        return (yield)
    from chaos.plugin.steps import select, settle

    select(config, items)
    yield
    settle(config, items)


# -- xdist -----------------------------------------------------------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """In the controller: workers share its run id and its seed. What ends the controller must end its workers in order."""
    from chaos.plugin.steps import mind_signals

    mind_signals(node.config)  # type: ignore[attr-defined]
    options: GamedayOptions = node.config.stash[OPTIONS]  # type: ignore[attr-defined]
    node.workerinput[WORKERINPUT] = {"run_id": options.run_id, "seed": options.seed}  # type: ignore[attr-defined]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """In the controller: what a worker found wrong before it ran anything, and the exit code that it asks for."""
    config: pytest.Config = node.config  # type: ignore[attr-defined]
    output: dict[str, object] = getattr(node, "workeroutput", {})
    lines = output.get("gameday_usage")
    if isinstance(lines, list):
        config.stash[USAGE].extend(line for line in lines if line not in config.stash[USAGE])
    code = output.get("gameday_exit_code")
    if isinstance(code, int):
        config.stash[EXIT_CODE] = max(code, config.stash.get(EXIT_CODE, 0))


# -- running ---------------------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    _let_a_crash_be_one(item)
    try:
        return (yield)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as err:
        _explain(item, err)
        raise


def _let_a_crash_be_one(item: pytest.Item) -> None:
    """pytest-rerunfailures would take the crash of an xdist worker for one failure more that may be tried again, whatever its condition
    says. What a drill broke when its worker died is nobody's to try again."""
    if SPEC in item.stash and hasattr(item.config, "workerinput") and hasattr(item.config, "failures_db"):
        item.config.failures_db.set_test_reruns(item.nodeid, 0)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """The verdict is computed and written here, before any teardown starts."""
    error: BaseException | None = None
    try:
        yield
    except BaseException as err:  # noqa: BLE001 - whatever it was: heal and judge first
        error = err
    if DRILL in item.stash:
        from chaos.plugin.running import finish

        finish(item, error)
    elif error is not None:
        if isinstance(error, Exception):
            _explain(item, error)
        raise error


def _explain(item: pytest.Item, error: BaseException) -> None:
    """A skip or one clean line instead of a traceback, where the error is one of ours."""
    if "chaos.core.errors" in sys.modules:
        from chaos.plugin.running import explain

        try:
            explain(item, error)
        except BaseException as told:
            told.__suppress_context__ = True  # what it was made from says the same once more
            raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Hang on the report what must cross to the controller (plain data) and what pytest-html shows in the row."""
    report = yield
    if report.when == "call" and SUMMARY in item.stash:
        report.gameday = item.stash[SUMMARY]  # type: ignore[attr-defined]
        report.extras = [*getattr(report, "extras", []), *item.stash.get(EXTRAS, [])]  # type: ignore[attr-defined]
    if report.when == "call" and PLAN in item.stash:
        report.gameday_plan = item.stash[PLAN]  # type: ignore[attr-defined]
    if report.skipped and SKIPPED in item.stash:
        path, line, _ = item.location
        report.longrepr = (path, (line or 0) + 1, f"Skipped: {item.stash[SKIPPED]}")
    return report


@pytest.fixture(scope="session")
def gameday_session(request: pytest.FixtureRequest) -> Iterator[GamedaySession]:
    """What drills of one pytest process share: environments, pooled systems, the run's directory."""
    from chaos.plugin.session import GamedaySession

    session = GamedaySession(request.config)
    yield session
    session.close()


@pytest.fixture(scope="session")
def gameday_options(request: pytest.FixtureRequest) -> GamedayOptions:
    """The options of this run, typed."""
    return request.config.stash[OPTIONS]


@pytest.fixture(scope="session")
def system_pool(gameday_session: GamedaySession) -> SystemPool:
    """Systems kept between the drills of this process, by environment and parameters."""
    return gameday_session.pool


@pytest.fixture
def environment(request: pytest.FixtureRequest, gameday_session: GamedaySession) -> Environment:
    """The environment that this item runs in, opened once per process; skips (or fails, where required) if it cannot work here."""
    return gameday_session.environment(request.param.environment)


def pytest_gameday_systems() -> Sequence[hookspecs.SystemSupport]:
    return [hookspecs.SystemSupport("attached", ("standing",))]


@pytest.fixture
def attached(request: pytest.FixtureRequest, drill: Drill, environment: Environment) -> Iterator[AttachedSystem]:
    """What is there already, in a standing environment: ``attached["node"]``. ``@pytest.mark.attached(detect_s=…, check_interval_s=…)``
    says what its HA manager takes."""
    from chaos.plugin.running import attach

    system = attach(request.node, environment)
    drill.use(system)
    yield system
    system.close()


@pytest.fixture
def drill(request: pytest.FixtureRequest, environment: Environment, gameday_session: GamedaySession) -> Iterator[Drill]:
    """The one object that a drill talks to: workloads, faults, phases."""
    from chaos.plugin.running import begin, release

    begun = begin(request.node, environment, gameday_session)
    yield begun
    release(request.node, begun)


# -- end -------------------------------------------------------------------------------------------------------------------------


def pytest_report_header(config: pytest.Config) -> list[str]:
    options = config.stash[OPTIONS]
    given = options.environments or options.require or options.repeat or config.getoption("--drill-seed")
    return [f"gameday: run {options.run_id}, seed {options.seed}"] if given else []


class Reports:
    """Hears of every report, in the controller too, and keeps the summaries of drills."""

    def __init__(self, summaries: dict[str, Summary], plans: list[dict[str, str]]) -> None:
        self._summaries, self._plans = summaries, plans

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        summary = getattr(report, "gameday", None)
        if summary is not None:
            self._summaries[report.nodeid] = summary
        self._plans.extend(getattr(report, "gameday_plan", ()))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if config.stash[USAGE]:
        session.exitstatus = pytest.ExitCode.USAGE_ERROR
    elif EXIT_CODE in config.stash:
        session.exitstatus = config.stash[EXIT_CODE]
    if not hasattr(config, "workerinput") and config.stash[OPTIONS].run_dir.is_dir():
        from chaos.plugin.summary import finish_run

        finish_run(config.stash[OPTIONS])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    config = terminalreporter.config
    for line in config.stash[USAGE]:
        terminalreporter.write_line(f"ERROR: {line}", red=True)
    if config.stash[PLANS]:
        from chaos.plugin.dry import show_plan

        show_plan(terminalreporter, config.stash[PLANS])
    if config.stash[SUMMARIES] or config.stash[OPTIONS].run_dir.is_dir():
        from chaos.plugin.summary import earlier_attempts, show, summaries

        if found := summaries(config):
            show(terminalreporter, found, config.stash[OPTIONS], earlier_attempts(config))


@pytest.hookimpl(optionalhook=True)
def pytest_html_results_summary(prefix: list[str], session: pytest.Session) -> None:
    """pytest-html: what came out, above the table of tests. It escapes nothing, so what is added here is escaped already."""
    config = session.config
    if config.stash[SUMMARIES] or config.stash[OPTIONS].run_dir.is_dir():
        from chaos.plugin.summary import html_lines

        prefix.extend(html_lines(config))


@pytest.hookimpl(optionalhook=True)
def pytest_html_results_table_header(cells: list[str]) -> None:
    """pytest-html: columns for verdict, recovery time and lost writes, before the links. Empty for tests that are no drills."""
    from chaos.plugin.summary import header_cells

    cells[-1:-1] = header_cells()


@pytest.hookimpl(optionalhook=True)
def pytest_html_results_table_row(report: pytest.TestReport, cells: list[str]) -> None:
    from chaos.plugin.summary import row_cells

    cells[-1:-1] = row_cells(getattr(report, "gameday", None))

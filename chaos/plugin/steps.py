"""What the plugin does at each step of collection, once there is something to do. Imported with the first drill."""

from __future__ import annotations

import pytest

from chaos.core.errors import BadInput
from chaos.engine.signals import Signals
from chaos.plugin.collect import Collector
from chaos.plugin.keys import COLLECTOR, EXIT_CODE, OPTIONS, PLACES, SIGNALS
from chaos.plugin.options import GamedayOptions
from chaos.plugin.places import BUILT_IN, Places

WORKEROUTPUT = "gameday_usage"


def read_project(config: pytest.Config, options: GamedayOptions) -> Places:
    """The project's environments, their markers registered, and every environment that an option names checked.

    Raises:
        pytest.UsageError: one line.
    """
    if PLACES in config.stash:
        return config.stash[PLACES]
    try:
        places = Places.of(config.rootpath)
        for name in options.environments:
            places.get(name, where="--drill-env")
        for entry in sorted(options.require):
            places.get(entry.partition(":")[0], where=f"--drill-require {entry}")
    except BadInput as err:
        raise pytest.UsageError(str(err)) from err
    for name in places.names():
        if name not in BUILT_IN:
            config.addinivalue_line("markers", f"{name}: runs in the environment {name!r}")
    config.stash[PLACES] = places
    return places


def collector_of(config: pytest.Config) -> Collector:
    """The one collector of this run."""
    if COLLECTOR not in config.stash:
        options = config.stash[OPTIONS]
        config.stash[COLLECTOR] = Collector(config, options, read_project(config, options))
    return config.stash[COLLECTOR]


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    """First of all: report what a person got wrong, and take out what was not asked for."""
    collector = config.stash[COLLECTOR]
    collector.check_expression(items)
    if collector.problems:
        refuse(config, items, list(collector.problems))
        return
    collector.choose(items)


def settle(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Last of all, after every other selection: is what remains able to run?"""
    collector = config.stash[COLLECTOR]
    if collector.problems:
        return
    collector.check_systems(items)
    if collector.problems:
        refuse(config, items, list(collector.problems))
        return
    collector.prepare(items)
    if config.getoption("collectonly"):
        return
    try:
        collector.preflight(items)
    except BadInput as err:
        refuse(config, items, [str(err)])


def refuse(config: pytest.Config, items: list[pytest.Item], lines: list[str]) -> None:
    """End the run with these lines and pytest's exit code for usage errors.

    An xdist worker cannot do that itself: it hands the lines to the controller and collects nothing.
    """
    if hasattr(config, "workeroutput"):
        config.workeroutput[WORKEROUTPUT] = lines
        items.clear()
        return
    raise pytest.UsageError(*lines)


def mind_signals(config: pytest.Config) -> None:
    """SIGTERM and SIGHUP end this process as Ctrl-C does. Idempotent."""
    if SIGNALS not in config.stash:
        config.stash[SIGNALS] = signals = Signals()
        signals.install()
        config.add_cleanup(signals.uninstall)


def leave_with(config: pytest.Config, code: int) -> None:
    """Let the run end with this exit code of ours (the highest one wins), from an xdist worker too."""
    config.stash[EXIT_CODE] = max(code, config.stash.get(EXIT_CODE, 0))
    if hasattr(config, "workeroutput"):
        config.workeroutput["gameday_exit_code"] = config.stash[EXIT_CODE]

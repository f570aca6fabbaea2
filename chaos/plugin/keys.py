"""Where the plugin keeps its state: one key each, on pytest's own stashes. No state lives in modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chaos.plugin.options import GamedayOptions

if TYPE_CHECKING:
    from chaos.engine.drill import Drill
    from chaos.engine.signals import Signals
    from chaos.evidence.terminal import Summary
    from chaos.plugin.collect import Collector
    from chaos.plugin.marker import DrillSpec
    from chaos.plugin.places import Places
    from chaos.plugin.running import Running
    from chaos.plugin.series import Series

# On the config.
OPTIONS: pytest.StashKey[GamedayOptions] = pytest.StashKey()
TERMINAL_FD: pytest.StashKey[int] = pytest.StashKey()
PLACES: pytest.StashKey[Places] = pytest.StashKey()
COLLECTOR: pytest.StashKey[Collector] = pytest.StashKey()
USAGE: pytest.StashKey[list[str]] = pytest.StashKey()
SUMMARIES: pytest.StashKey[dict[str, Summary]] = pytest.StashKey()
PLANS: pytest.StashKey[list[dict[str, str]]] = pytest.StashKey()
EXIT_CODE: pytest.StashKey[int] = pytest.StashKey()
SIGNALS: pytest.StashKey[Signals] = pytest.StashKey()

# On the item.
SPEC: pytest.StashKey[DrillSpec] = pytest.StashKey()
SERIES: pytest.StashKey[Series] = pytest.StashKey()
DRILL: pytest.StashKey[Drill] = pytest.StashKey()
RUNNING: pytest.StashKey[Running] = pytest.StashKey()
SKIPPED: pytest.StashKey[str] = pytest.StashKey()
PLAN: pytest.StashKey[list[dict[str, str]]] = pytest.StashKey()
SUMMARY: pytest.StashKey[Summary] = pytest.StashKey()
EXTRAS: pytest.StashKey[list[object]] = pytest.StashKey()

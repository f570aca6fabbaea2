"""The hooks that this plugin offers to systems under drill, and the data they speak. Light on purpose: imported at plugin load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class SystemSupport:
    """A system fixture and the environments (by name or by kind) in which it can build or reach its system.

    ``check`` looks at the markers of an item that uses the fixture, touches nothing, and raises :class:`~chaos.core.errors.BadInput` for a
    mistake in them: it is called for every selected item before the first test starts. What it returns is ignored.
    """

    fixture: str
    environments: tuple[str, ...]
    check: Callable[[pytest.Item], object] | None = None


@pytest.hookspec
def pytest_gameday_systems() -> Sequence[SystemSupport]:  # type: ignore[empty-body]
    """The system fixtures of the module (or plugin) that implements this hook.

    A drill runs in the environments that *all* of its system fixtures support. A fixture that no implementation names
    does not restrict anything. Asked once, when the first drill is collected; it must touch nothing.
    """


@pytest.hookspec
def pytest_gameday_moment(item: pytest.Item, moment: str) -> None:
    """A fault of this drill has reached one of :data:`chaos.engine.injection.MOMENTS`: ``before-intent``, ``after-intent`` (the journal
    has it), ``after-arm`` (a dead-man's switch is armed), ``after-inject`` (not proven yet), ``observing`` (landed), ``after-heal``.

    Called in the drill's own thread, or in the one that heals; what it raises counts as raised by the fault.
    """

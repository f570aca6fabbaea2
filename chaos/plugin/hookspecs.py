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

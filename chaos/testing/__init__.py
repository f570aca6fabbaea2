"""For those who write faults: the suites that every fault of this package passes, to be run over faults of other packages.

``FaultContract`` (what a fault must keep), ``CrashContract`` (whoever dies, whenever: nothing stays broken), the places where they run, and
the tools they are made of. See ``docs/writing-faults.md``. Needs pytest where a suite is used; part of the wheel, but never of a drill.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos.testing.contract import FaultContract as FaultContract
    from chaos.testing.crash import CrashContract as CrashContract
    from chaos.testing.microhosts import micro_hosts as micro_hosts
    from chaos.testing.places import Catalogue as Catalogue
    from chaos.testing.places import Place as Place
    from chaos.testing.tools import Bare as Bare
    from chaos.testing.tools import Interrupting as Interrupting
    from chaos.testing.tools import Watching as Watching

_HOME = {
    "FaultContract": "chaos.testing.contract",
    "CrashContract": "chaos.testing.crash",
    "micro_hosts": "chaos.testing.microhosts",
    "Catalogue": "chaos.testing.places",
    "Place": "chaos.testing.places",
    "Bare": "chaos.testing.tools",
    "Interrupting": "chaos.testing.tools",
    "Watching": "chaos.testing.tools",
}
_SUITES = ("chaos.testing.contract", "chaos.testing.crash")

__all__ = [*_HOME]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if _HOME[name] in _SUITES:
        _rewritten()
    return getattr(import_module(_HOME[name]), name)


def _rewritten() -> None:
    """Let pytest say what an assertion saw, in the suites as in a test file. Before they are imported, and not where no test runs."""
    import sys

    import pytest

    pytest.register_assert_rewrite(*(module for module in _SUITES if module not in sys.modules))

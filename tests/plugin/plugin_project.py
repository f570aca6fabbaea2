"""What the plugin tests share: how to read the output of a run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]


def said(result: pytest.RunResult) -> str:
    """Everything that the run printed."""
    return "\n".join([*result.outlines, *result.errlines])


def errors(result: pytest.RunResult) -> list[str]:
    """The lines that begin with ``ERROR:``."""
    return [line for line in said(result).splitlines() if line.startswith("ERROR:")]


def collected(result: pytest.RunResult) -> list[str]:
    """The ids that ``--collect-only -q`` printed, without the file."""
    return [line.partition("::")[2] for line in result.outlines if "::" in line and not line.startswith(("ERROR", "E "))]

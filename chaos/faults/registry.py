"""Which kinds of fault are installed: the entry points of the group ``chaos.faults``. Loads a kind only when it is asked for."""

from __future__ import annotations

import difflib
from importlib.metadata import entry_points
from typing import cast

from chaos.core.errors import BadInput
from chaos.faults.base import Fault

GROUP = "chaos.faults"


def names() -> list[str]:
    """All registered kinds, sorted."""
    return sorted(point.name for point in entry_points(group=GROUP))


def kind_of(name: str) -> type[Fault]:
    """The class registered as ``name``.

    Raises:
        BadInput: nothing installed has that name; with the nearest that has.
    """
    for point in entry_points(group=GROUP, name=name):
        return cast("type[Fault]", point.load())
    near = difflib.get_close_matches(name, names(), 1)
    known = f"did you mean {near[0]!r}?" if near else "install the package that brings it"
    raise BadInput(f"no fault is registered as {name!r}", expected=f"one of {', '.join(names())}", next_step=known)


def registered() -> dict[str, type[Fault]]:
    """Every kind that is installed, by name."""
    return {name: kind_of(name) for name in names()}

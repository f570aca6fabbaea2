"""What a runbook consists of, as frozen data. Nothing is run here, but what is wrong is refused when it is written down.

Every step has a ``name`` (unique in its runbook), a ``timeout`` (it is ended then, and has failed), and may have a ``budget`` (it goes on,
but the drill fails) and an ``expect``: a regular expression that is searched in what the step said, or a function that gets that text and
returns False or raises where it is not what it should be.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, TypeAlias

import msgspec

from chaos.core.durations import parse_duration_s
from chaos.core.errors import BadInput, Unavailable
from chaos.core.model import Json, NodeRef

INSTALL = "pip install 'pytest-gameday[ansible]'"
Duration: TypeAlias = "str | int | float"
Expect: TypeAlias = "str | re.Pattern[str] | Callable[[str], object] | None"


class Shell(msgspec.Struct, frozen=True):
    """A program (a list of words), or a script for ``sh -e`` (a text). On the machine of the drill, or on ``node``; ``privileged`` with
    rights to administer the node's network. It must end with 0. ``env`` and ``cwd`` are for the machine of the drill only."""

    name: str
    command: Sequence[str] | str
    node: NodeRef | None = None
    expect: Expect = None
    timeout: Duration = "30s"
    budget: Duration | None = None
    env: Mapping[str, str] = {}
    cwd: str | Path | None = None
    privileged: bool = False

    kind: ClassVar[str] = "shell"

    def __post_init__(self) -> None:
        _checked(self)
        if not self.command:
            raise BadInput("a shell step without a command", where=self.name)
        if self.node is not None and (self.env or self.cwd):
            raise BadInput(
                "env and cwd of a shell step are for the machine of the drill", where=self.name, next_step="put them into the script"
            )

    @property
    def argv(self) -> list[str]:
        return ["/bin/sh", "-ec", self.command] if isinstance(self.command, str) else [str(word) for word in self.command]


class Call(msgspec.Struct, frozen=True):
    """A Python function without arguments. What it returns is what was seen; whatever it raises, the step has failed. A function cannot be
    ended from outside: when its time is up the drill goes on without it."""

    name: str
    function: Callable[[], object]
    expect: Expect = None
    timeout: Duration = "30s"
    budget: Duration | None = None

    kind: ClassVar[str] = "call"

    def __post_init__(self) -> None:
        _checked(self)
        if not callable(self.function):
            raise BadInput("a call step needs a function", where=self.name, observed=repr(self.function))


class Playbook(msgspec.Struct, frozen=True):
    """An Ansible playbook, by ansible-runner. ``inventory``: a file, or the text of one; by default this machine.

    Raises Unavailable where the extra ``ansible`` is not installed: when it is written down, before anything is broken.
    """

    name: str
    path: str | Path
    inventory: str | Path = "localhost ansible_connection=local"
    variables: Mapping[str, Json] = {}
    expect: Expect = None
    timeout: Duration = "5m"
    budget: Duration | None = None

    kind: ClassVar[str] = "playbook"

    def __post_init__(self) -> None:
        _checked(self)
        if not _installed("ansible_runner") or not _installed("ansible"):
            raise Unavailable(f"the step {self.name!r} needs ansible-runner and ansible-core", next_step=INSTALL)
        if not Path(self.path).is_file():
            raise BadInput(f"the step {self.name!r} names a playbook that does not exist", where=str(Path(self.path).absolute()))


Step: TypeAlias = "Shell | Call | Playbook"


class Phase(msgspec.Struct, frozen=True):
    """A named part of a runbook, and how long it may take from its first step's beginning to its last one's end."""

    name: str
    steps: tuple[Step, ...]
    budget: Duration | None = None

    def __post_init__(self) -> None:
        _budget_s(self.name, self.budget)
        if not self.name or not self.steps:
            raise BadInput(f"the phase {self.name!r} needs a name and a step")


class Runbook(msgspec.Struct, frozen=True):
    """Steps, or phases of steps, in order. ``budget``: of the whole. ``secrets``: texts that are blotted out of everything that is kept
    or shown of what the steps said."""

    name: str
    steps: tuple[Step | Phase, ...]
    budget: Duration | None = None
    secrets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _budget_s(self.name, self.budget)
        names = [step.name for _, step in self.walk()]
        twice = sorted({name for name in names if names.count(name) > 1})
        phases = [one.name for one in self.steps if isinstance(one, Phase)]
        twice += sorted({name for name in phases if phases.count(name) > 1})
        if not self.name or not names:
            raise BadInput(f"the runbook {self.name!r} needs a name and a step")
        if twice:
            raise BadInput(f"the runbook {self.name!r} has two steps or phases of one name", observed=", ".join(twice))

    def walk(self) -> Iterator[tuple[Phase | None, Step]]:
        """Every step with its phase, in order."""
        for one in self.steps:
            if isinstance(one, Phase):
                yield from ((one, step) for step in one.steps)
            else:
                yield None, one


def timeout_s(step: Step) -> float:
    """How long it may run."""
    return parse_duration_s(step.timeout, what=f"timeout of {step.name!r}")


def budget_s(one: Step | Phase | Runbook) -> float | None:
    """How long it should take; None: not judged."""
    return _budget_s(one.name, one.budget)


def _budget_s(name: str, budget: Duration | None) -> float | None:
    return None if budget is None else parse_duration_s(budget, what=f"budget of {name!r}")


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # somebody has put something else in its place
        return False


def _checked(step: Shell | Call | Playbook) -> None:
    if not step.name:
        raise BadInput(f"a {step.kind} step needs a name")
    if not timeout_s(step) > 0:
        raise BadInput(f"the timeout of {step.name!r} must be more than 0", observed=str(step.timeout))
    _budget_s(step.name, step.budget)
    if isinstance(step.expect, str):
        try:
            re.compile(step.expect)
        except re.error as err:
            raise BadInput(f"expect of {step.name!r} is not a regular expression", observed=step.expect, next_step=str(err)) from None

"""What a drill did besides breaking things: what it checked, and what its runbooks did. Frozen data; nothing is run or judged here.

Times are nanoseconds of the monotonic clock, None where it did not come to that.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from chaos.core.clock import NS

StepState = Literal["done", "failed", "not run"]


class CheckRecord(msgspec.Struct, frozen=True):
    """One thing that had to hold. ``seen`` is what the check saw, or why it did not hold; ``within_s`` None: at once."""

    name: str
    held: bool
    seen: str
    began_ns: int
    ended_ns: int
    attempts: int = 1
    within_s: float | None = None


class StepOutcome(msgspec.Struct, frozen=True):
    """One step of a runbook. ``kind`` is ``shell``, ``call`` or ``playbook``; ``where`` the node, "" for the machine of the drill."""

    name: str
    kind: str
    phase: str
    state: StepState = "not run"
    seen: str = ""
    where: str = ""
    budget_s: float | None = None
    began_ns: int | None = None
    ended_ns: int | None = None

    @property
    def took_s(self) -> float | None:
        return None if self.began_ns is None or self.ended_ns is None else (self.ended_ns - self.began_ns) / NS


class PhaseOutcome(msgspec.Struct, frozen=True):
    """A phase of a runbook: from the beginning of its first step to the end of the last that ran."""

    name: str
    budget_s: float | None = None
    began_ns: int | None = None
    ended_ns: int | None = None

    @property
    def took_s(self) -> float | None:
        return None if self.began_ns is None or self.ended_ns is None else (self.ended_ns - self.began_ns) / NS


class RunbookOutcome(msgspec.Struct, frozen=True):
    """A runbook that was run. ``ok``: every step was done, whatever it took."""

    name: str
    ok: bool
    began_ns: int
    ended_ns: int
    steps: tuple[StepOutcome, ...]
    phases: tuple[PhaseOutcome, ...] = ()
    budget_s: float | None = None

    @property
    def took_s(self) -> float:
        return (self.ended_ns - self.began_ns) / NS

    @property
    def failed(self) -> StepOutcome | None:
        """The step that stopped it."""
        return next((step for step in self.steps if step.state == "failed"), None)

    @property
    def slowest(self) -> StepOutcome | None:
        """The step that took longest."""
        return max((step for step in self.steps if step.took_s is not None), key=lambda step: step.took_s or 0.0, default=None)

    def step(self, name: str) -> StepOutcome:
        """The step of this name. Raises KeyError."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(f"the runbook {self.name!r} has no step {name!r}")


class Acts(msgspec.Struct, frozen=True):
    """All that a drill did besides breaking things."""

    checks: tuple[CheckRecord, ...] = ()
    runbooks: tuple[RunbookOutcome, ...] = ()

"""Errors that a person can act on: what went wrong, where, what was expected and seen, and what to do next.

Not a place for control flow: a verdict is data (:mod:`chaos.core.model`), never an exception.
"""

from __future__ import annotations

EXIT_ABORTED = 10
EXIT_RESIDUE = 11
EXIT_JOURNAL_UNREADABLE = 12


class GamedayError(Exception):
    """Base of every error that this package raises on purpose.

    ``what`` is one sentence; the other parts are optional and are appended in a fixed order, so that the text
    reads the same wherever it surfaces.
    """

    def __init__(self, what: str, *, where: str = "", expected: str = "", observed: str = "", next_step: str = "") -> None:
        self.what, self.where = what, where
        self.expected, self.observed, self.next_step = expected, observed, next_step
        super().__init__(self._text())

    def _text(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.observed:
            parts.append(f"observed {self.observed}")
        if self.next_step:
            parts.append(f"next: {self.next_step}")
        return "; ".join(parts)


class BadInput(GamedayError):
    """A person's mistake, found before anything was touched. The plugin turns it into ``pytest.UsageError``."""


class Unavailable(GamedayError):
    """This machine or node cannot do what is asked. ``next_step`` names the exact fix. Becomes a skip, or a failure
    where the run requires it (``--drill-require``). ``capability`` is what a node lacks ("": the environment as a whole)."""

    def __init__(
        self, what: str, *, where: str = "", expected: str = "", observed: str = "", next_step: str = "", capability: str = ""
    ) -> None:
        self.capability = capability
        super().__init__(what, where=where, expected=expected, observed=observed, next_step=next_step)


class EnvironmentFailed(GamedayError):
    """The environment itself broke (a supervisor died, an engine refused): no statement about the system under drill."""


class EnvironmentGone(EnvironmentFailed):
    """The environment, or the part of it that holds the system, has ended for good: waiting for it is pointless, and no wait does."""


class NotHealthy(GamedayError):
    """The system did not reach, or keep, its steady state within the deadline."""


class Judged(GamedayError):
    """It ended the test, and the verdict tells it already by a finding of its own: it is no error of the test besides."""


class FaultNotLanded(Judged):
    """The fault was issued, but its effect was never observed. The drill is INVALID."""


class CheckFailed(Judged):
    """Something that had to hold did not (``drill.check``). The drill is FAIL, for the finding ``check``."""


class RunbookFailed(Judged):
    """A step of a runbook failed, and the rest was not run (``drill.run``). The drill is FAIL, for the finding ``runbook``."""


class HealFailed(GamedayError):
    """One or more faults could not be undone, or their undoing could not be proven. Residue remains."""


class DeadlineExceeded(GamedayError):
    """A wait ran out. ``observed`` is the last thing seen."""

"""What a concluded drill hands to the evidence layer: facts as data, nothing rendered."""

from __future__ import annotations

import msgspec

from chaos.core.acts import CheckRecord, RunbookOutcome
from chaos.core.model import Budget, Expectation, FaultRecord, Json, Phase, Verdict
from chaos.measure.result import Judgement


class EnvironmentFacts(msgspec.Struct, frozen=True):
    """Where it ran. ``identity`` is what pins the environment (engine id, host, kernel)."""

    name: str
    kind: str
    identity: dict[str, str]


class DrillOutcome(msgspec.Struct, frozen=True):
    """One drill, concluded.

    ``drill`` is the pytest node id, ``test`` the test's docstring (first line), ``begin_ns``/``end_ns`` monotonic; every ``*_ns`` of
    faults and phases is on the same clock. ``history_path`` is absolute. ``error`` is the text of an exception that the test body
    raised ("" for none). ``heal_error`` likewise for a heal that failed: it never replaces the verdict.
    """

    run_id: str
    drill: str
    test: str
    scenario: str
    environment: EnvironmentFacts
    operator: str
    host: dict[str, str]
    git: dict[str, str]
    versions: dict[str, str]
    seed: int
    started_utc: str
    ended_utc: str
    begin_ns: int
    end_ns: int
    budget: Budget
    expectation: Expectation
    judgement: Judgement
    faults: tuple[FaultRecord, ...]
    phases: tuple[Phase, ...]
    system: dict[str, Json]
    caveats: tuple[str, ...]
    history_path: str
    checks: tuple[CheckRecord, ...] = ()
    runbooks: tuple[RunbookOutcome, ...] = ()
    error: str = ""
    heal_error: str = ""

    @property
    def verdict(self) -> Verdict:
        return self.judgement.verdict

    @property
    def as_expected(self) -> bool:
        """PASS where PASS was asked for; else exactly the expected verdict with that first finding."""
        if self.error or self.heal_error:
            return False
        if self.expectation.verdict is Verdict.PASS:
            return self.verdict is Verdict.PASS
        first = self.judgement.findings[0].code if self.judgement.findings else ""
        return self.verdict is self.expectation.verdict and first == self.expectation.because

"""What the drill marker means when it is right."""

from __future__ import annotations

import pytest

from chaos.core.errors import BadInput
from chaos.core.model import Budget, Expectation, Verdict
from chaos.plugin.catalogue import shipped
from chaos.plugin.marker import DrillSpec, budget_of, parse


def _parse(*args: object, **kwargs: object) -> DrillSpec:
    return parse(pytest.mark.drill(*args, **kwargs).mark, shipped(), where="here")


def test_a_bare_marker_judges_nothing() -> None:
    """A drill without arguments has no scenario and no objective, and must pass."""
    assert _parse() == DrillSpec("", Budget(), Expectation(), None, 0, "")


def test_a_scenario_brings_its_documented_budgets() -> None:
    """Budgets of the catalogue hold unless the drill states its own."""
    assert _parse("db-primary-failure").budget == Budget(rto_s=300, rpo_count=0)
    assert _parse("db-primary-failure", rto="30s", rpo="5m").budget == Budget(rto_s=30, rpo_s=300)
    assert _parse("db-primary-failure", rpo=None).budget == Budget(rto_s=300)
    assert _parse("disk-full").budget == Budget(rto_s=60, rpo_count=0, rto_from="heal")


@pytest.mark.parametrize(("given", "ratio"), [("99.9%", 0.999), (0.999, 0.999), (1, 1.0), ("100 %", 1.0)])
def test_availability_is_a_ratio_or_a_percentage(given: object, ratio: float) -> None:
    """Both ways of writing availability mean the same."""
    assert _parse(availability=given).budget.availability == pytest.approx(ratio)


def test_a_broken_twin_expects_a_verdict_and_its_reason() -> None:
    """``expect`` and ``because`` become the expectation."""
    assert _parse(expect="FAIL", because="rpo").expectation == Expectation(Verdict.FAIL, "rpo")


def test_every_shipped_scenario_has_budgets_that_parse() -> None:
    """The catalogue holds 23 scenarios under their own ids, and all their budgets are valid."""
    catalogue = shipped()
    assert len(catalogue) == 23
    for key, scenario in catalogue.items():
        assert key == scenario.id
        assert budget_of(scenario, where=key) != Budget()


def test_what_clients_may_notice_is_an_objective() -> None:
    """Latency, errors, the return to the baseline and the time to detect become budgets."""
    budget = _parse(latency_p99="200ms", error_rate="0.1%", must_return_to_baseline=10, mttd={"disk-full": "20s"}).budget
    assert budget == Budget(latency_p99_s=0.2, error_rate=pytest.approx(0.001), baseline_s=10, mttd_s={"disk-full": 20})
    assert _parse("db-primary-failure", latency_p99=1).budget == Budget(rto_s=300, rpo_count=0, latency_p99_s=1)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"latency_p99": 0}, "nothing is as fast"),
        ({"latency_p99": "fast"}, "is not a duration"),
        ({"error_rate": 2}, 'error_rate=2 is not a ratio; next: write e.g. 0.001 or "0.1%"'),
        ({"mttd": "20s"}, "the budget of each signal by its name"),
        ({"mttd": {"alert": "soon"}}, "is not a duration"),
        ({"must_return_to_baseline": True}, "is not a duration"),
    ],
)
def test_objectives_that_mean_nothing_are_refused(arguments: dict[str, object], why: str) -> None:
    """Each refusal names the argument and what would do."""
    with pytest.raises(BadInput) as caught:
        _parse(**arguments)
    assert why in str(caught.value)

"""Time to detect, from looks whose truth is known."""

from __future__ import annotations

import random

import pytest
from measure_histories import MS, S, fault_record

from chaos.core.model import Verdict
from chaos.measure.detection import judge_detections, looks_of
from chaos.measure.history import Event
from chaos.measure.outage import marks_of

FAULT = fault_record(10 * S, 10 * S + 30 * MS)


def probes(name: str, *looks: tuple[float, float, bool | None]) -> list[Event]:
    """Looks as (began, ended, firing) in seconds."""
    return [
        Event(round(ended * S), "probe", {"name": name, "value": "x", "firing": on, "began_ns": round(began * S)})
        for began, ended, on in looks
    ]


def judged(events: list[Event], budget_s: float, name: str = "alert") -> tuple[Verdict, str]:
    _, (objectives, findings) = judge_detections(events, marks_of([FAULT]), {name: budget_s})
    if findings:
        assert findings[0].code == "mttd"
        return findings[0].verdict, findings[0].text
    return objectives[0].verdict, ""


def test_the_truth_lies_in_the_interval() -> None:
    """Of 500 signals that begin to fire at a known moment, looked at in random looks, each truth lies in its interval."""
    rng = random.Random(4)
    for _ in range(500):
        fires = 10 + rng.uniform(0.05, 8)
        moment, looks = rng.uniform(0, 1), []
        while moment < 20:
            lasts = rng.uniform(0.001, 0.4)
            seen = moment + rng.uniform(0, lasts)
            looks.append((moment, moment + lasts, None if rng.random() < 0.1 else seen >= fires))
            moment += lasts + rng.uniform(0, 0.5)
        found, _ = judge_detections(probes("alert", *looks), marks_of([FAULT]), {})
        assert found[0].mttd is not None and found[0].mttd.hi is not None
        assert found[0].mttd.lo <= fires - 10 + 1e-9
        assert fires - 10.03 <= found[0].mttd.hi + 1e-9
        assert found[0].unseen == sum(on is None for _, _, on in looks)


@pytest.mark.parametrize(("budget_s", "expected"), [(5, Verdict.PASS), (2.5, Verdict.INCONCLUSIVE), (1, Verdict.FAIL)])
def test_a_budget_is_held_against_the_whole_interval(budget_s: float, expected: Verdict) -> None:
    """A signal that fired between 2 and 3 s after the fault."""
    events = probes("alert", (9, 9.1, False), (12.03, 12.1, False), (12.9, 13, True))
    assert judged(events, budget_s)[0] is expected


def test_a_signal_that_never_fires_has_failed() -> None:
    """It is a FAIL that says for how long it was watched."""
    verdict, text = judged(probes("alert", (9, 9, False), (15, 15, False)), 20)
    assert verdict is Verdict.FAIL
    assert text == "the signal 'alert' never fired: it was watched for 4.97 s after the fault (budget 20 s)"


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([], "it was never watched"),
        (probes("alert", (8, 8, False), (9, 9, True), (11, 11, True)), "it fired before the fault was issued"),
        (probes("alert", (11, 11, True)), "it was never seen quiet"),
        (probes("alert", (8, 8, None), (11, 11, None)), "2 looks of 2 saw nothing, the last: x"),
    ],
)
def test_what_proves_nothing_is_invalid(events: list[Event], why: str) -> None:
    """A signal that was not watched, was on before, was never seen quiet or never seen at all."""
    verdict, text = judged(events, 20)
    assert verdict is Verdict.INVALID
    assert why in text


def test_the_cause_is_the_last_fault_unless_one_is_named() -> None:
    """Of two faults the later one counts, unless the earlier is named as the cause."""
    events = probes("alert", (9, 9, False), (14, 14.5, False), (15, 15, True))
    second = fault_record(13 * S, 13 * S)
    (one,), _ = judge_detections(events, marks_of([FAULT, second]), {})
    assert one.mttd is not None and (one.mttd.lo, one.mttd.hi) == (1, 2)
    named = fault_record(10 * S, 10 * S, cause=True)
    (one,), _ = judge_detections(events, marks_of([named, second]), {})
    assert one.mttd is not None and (one.mttd.lo, one.mttd.hi) == (4, 5)


def test_looks_are_ordered_by_time() -> None:
    """Looks that were written out of order (a slow one) are put in order."""
    looks = looks_of(probes("alert", (3, 4, True), (1, 2, False)))["alert"]
    assert [look.firing for look in looks] == [False, True]

"""The vocabulary: durations, waiting, errors, verdicts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.core.clock import now_ns, seconds, utc_label, utc_now, wait_for
from chaos.core.durations import format_s, parse_duration_s
from chaos.core.errors import BadInput, DeadlineExceeded, GamedayError, HealFailed, NotHealthy, Unavailable
from chaos.core.model import Interval, NodeRef, Verdict, worst


@pytest.mark.parametrize(
    ("text", "value_s"),
    [
        ("30s", 30), ("5m", 300), ("5min", 300), ("1h30m", 5400), ("250ms", 0.25), ("250 ms", 0.25), (" 1 h 2 s ", 3602),
        ("1.5s", 1.5), ("2d", 172800), (0, 0), (7, 7), (0.5, 0.5),
    ],
)  # fmt: skip
def test_durations_parse(text: str | float, value_s: float) -> None:
    """Every documented form is understood, and a bare number is seconds."""
    assert parse_duration_s(text) == pytest.approx(value_s)


@pytest.mark.parametrize(
    "text", ["5 parsecs", "", "  ", "s", "10", "-3s", "3s-", "1,5s", "1e3s", True, False, -1, float("nan"), float("inf")]
)
def test_what_is_no_duration_is_refused_with_the_forms_that_are(text: str | float) -> None:
    """Anything else is one clear line that names what it was for."""
    with pytest.raises(BadInput, match=r"^rto: .* is not a duration; next: write") as caught:
        parse_duration_s(text, what="rto")
    assert "\n" not in str(caught.value)


@given(st.integers(0, 10**6), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_units_scale(number: int, unit: str) -> None:
    """``Nx`` is N times ``1x``."""
    assert parse_duration_s(f"{number}{unit}") == pytest.approx(number * parse_duration_s(f"1{unit}"))


@pytest.mark.parametrize(
    ("value_s", "text"),
    [(None, "never"), (0, "0 ms"), (0.0123, "12.3 ms"), (2.534, "2.53 s"), (100.4, "100 s"), (250, "4 min 10 s"), (7260, "2 h 1 min")],
)
def test_durations_read_well(value_s: float | None, text: str) -> None:
    """A duration is shown in the unit that a person would use."""
    assert format_s(value_s) == text


def test_waiting_returns_what_was_looked_for() -> None:
    """The first true thing is returned; errors on the way count as not yet."""
    answers = iter([None, NotHealthy("no primary"), OSError("refused"), 0, "up"])

    def look() -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert wait_for(look, timeout_s=10, what="a primary", interval_s=0.001) == "up"


def test_waiting_in_vain_quotes_the_last_thing_seen() -> None:
    """The timeout says how long, for what, and what was seen last."""

    def look() -> None:
        raise NotHealthy("two primaries", where="pg1")

    with pytest.raises(DeadlineExceeded, match=r"timed out after 0\.01 s waiting for one primary; observed pg1: two primaries"):
        wait_for(look, timeout_s=0.01, what="one primary", interval_s=0.001)
    with pytest.raises(DeadlineExceeded, match="observed nothing"):
        wait_for(lambda: None, timeout_s=0, what="anything")
    with pytest.raises(DeadlineExceeded, match=r"observed \[\]"):
        wait_for(list, timeout_s=0, what="anything")


def test_a_mistake_in_the_look_is_not_swallowed() -> None:
    """Only our own errors and those of the operating system count as not yet."""
    with pytest.raises(ZeroDivisionError):
        wait_for(lambda: 1 // 0, timeout_s=5, what="nothing")


def test_clocks() -> None:
    """The monotonic clock never goes back, and labels are UTC with milliseconds."""
    first = now_ns()
    assert now_ns() >= first
    assert seconds(2_500_000_000) == 2.5
    assert utc_now().tzinfo is UTC
    east = datetime(2026, 1, 31, 12, 11, 12, 345678, tzinfo=timezone(timedelta(hours=2)))
    assert utc_label(east) == "2026-01-31T10:11:12.345Z"


def test_an_error_says_what_where_expected_observed_and_next() -> None:
    """The parts of an error come in a fixed order; those that are missing leave no trace."""
    full = GamedayError("it broke", where="pg1", expected="a", observed="b", next_step="mend it")
    assert str(full) == "pg1: it broke; expected a; observed b; next: mend it"
    assert str(GamedayError("it broke")) == "it broke"
    assert all(issubclass(kind, GamedayError) for kind in (BadInput, Unavailable, HealFailed, DeadlineExceeded))


def test_the_worst_verdict_wins() -> None:
    """ABORTED > INVALID > FAIL > INCONCLUSIVE > PASS, and nothing at all is a pass."""
    ladder = [Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL, Verdict.INVALID, Verdict.ABORTED]
    for position, verdict in enumerate(ladder):
        assert worst(reversed(ladder[: position + 1])) is verdict
    assert worst([]) is Verdict.PASS


def test_intervals_add_up() -> None:
    """Bounds add; an open bound stays open."""
    assert Interval(1, 2) + Interval(3, 5) == Interval(4, 7)
    assert Interval(1, 2) + Interval(3, None) == Interval(4, None)


def test_a_node_reference_reads_as_a_path() -> None:
    """Environment, system and name identify a node for people."""
    assert str(NodeRef("embedded", "postgres", "pg1", {"pid": "7"})) == "embedded/postgres/pg1"

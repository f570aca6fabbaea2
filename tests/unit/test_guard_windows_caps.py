"""Freeze windows and caps: pure decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.core.errors import BadInput
from chaos.engine.caps import Member, exceeded, share_of
from chaos.engine.policy import Caps, FreezeWindow
from chaos.engine.windows import frozen_until

OFFICE = FreezeWindow(cron="0 9 * * 1-5", duration="8h", timezone="Europe/Berlin", reason="office hours")


@pytest.mark.parametrize(
    ("at", "until"),
    [
        ("2026-01-05T07:59:59+00:00", None),  # Monday, a second before 9:00 in Berlin
        ("2026-01-05T08:00:00+00:00", "2026-01-05T17:00:00+01:00"),
        ("2026-01-05T15:59:59.9+00:00", "2026-01-05T17:00:00+01:00"),
        ("2026-01-05T16:00:00+00:00", None),
        ("2026-07-06T07:00:00+00:00", "2026-07-06T17:00:00+02:00"),  # summer: 9:00 is an hour earlier in UTC
        ("2026-01-10T10:00:00+00:00", None),  # Saturday
    ],
)
def test_a_window_holds_from_its_moment_for_its_duration(at: str, until: str | None) -> None:
    """Office hours in Berlin are frozen to the second, winter and summer, and not at the weekend."""
    found = frozen_until([OFFICE], datetime.fromisoformat(at))
    assert (found[1].isoformat() if found else None) == until


def test_a_window_over_midnight_and_over_a_clock_change_lasts_as_long_as_it_says() -> None:
    """Twelve hours from 20:00 on the night in which summer time begins end at 9:00 by the wall, twelve elapsed hours later."""
    night = FreezeWindow(cron="0 20 * * *", duration="12h", timezone="Europe/Berlin")
    begun = datetime.fromisoformat("2026-03-28T20:00:00+01:00")
    found = frozen_until([night], begun + timedelta(hours=11, minutes=59))
    assert found is not None
    assert found[1].isoformat() == "2026-03-29T09:00:00+02:00"
    assert frozen_until([night], begun + timedelta(hours=12)) is None


def test_of_several_windows_the_one_that_ends_last_counts() -> None:
    """Whoever is told "until" may drill then."""
    week = FreezeWindow(cron="0 0 * * 1", duration="7d", reason="release week")
    found = frozen_until([OFFICE, week], datetime(2026, 1, 5, 10, tzinfo=UTC))
    assert found is not None and found[0].reason == "release week"


@given(st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1)), st.integers(1, 3000))
def test_every_minute_cron_freezes_always(at: datetime, minutes: int) -> None:
    """A window that begins every minute and lasts one or more holds at every moment, in whatever zone."""
    window = FreezeWindow(cron="* * * * *", duration=f"{minutes}m", timezone="America/St_Johns")
    assert frozen_until([window], at.replace(tzinfo=UTC)) is not None


MEMBERS = [
    Member("pg1", "primary", "a"),
    Member("pg2", "replica", "a"),
    Member("pg3", "replica", "b"),
    Member("app", "app", "b"),
]


@pytest.mark.parametrize(
    ("caps", "down", "more", "said"),
    [
        (Caps(), (), ("pg1",), ""),
        (Caps(), ("pg1",), ("pg2",), "max_unavailable = 1: that is 1 of 4, and 2 would be down (pg1, pg2)"),
        (Caps(), ("pg1",), ("pg1",), ""),
        (Caps(max_unavailable="50%"), ("pg1",), ("app",), ""),
        (Caps(max_unavailable="49%"), ("pg1",), ("app",), "that is 1 of 4"),
        (Caps(max_unavailable=0), (), ("app",), "max_unavailable = 0"),
        (Caps(max_unavailable=4, per_role={"replica": 1}), ("pg2",), ("pg3",), "per_role.replica = 1: that is 1 of 2, and 2 would"),
        (Caps(max_unavailable=4, per_role={"replica": 1}), ("pg1",), ("pg3",), ""),
        (Caps(max_unavailable=4, per_zone={"*": 1}), ("pg1",), ("pg2",), "per_zone.a"),
        (Caps(max_unavailable=4, per_zone={"*": 1}), ("pg1",), ("pg3",), ""),
        (Caps(max_unavailable=4, min_healthy_replicas=2), (), ("pg2",), "only 1 of 2 replicas would be left (pg2 down)"),
        (Caps(max_unavailable=4, min_healthy_replicas=1), (), ("pg2", "pg1"), ""),
        (Caps(), (), ("stranger", "pg1"), "2 would be down (pg1, stranger)"),
        (Caps(), (), (), ""),
    ],
)  # fmt: skip
def test_caps_count_what_is_down_with_what_would_be(caps: Caps, down: tuple[str, ...], more: tuple[str, ...], said: str) -> None:
    """A cap counts nodes once, over everything open, in the whole, per role, per zone, and for the replicas that must stay."""
    found = exceeded(caps, MEMBERS, down, more)
    assert said in found
    assert bool(found) == bool(said)


@given(st.integers(0, 200), st.integers(0, 100))
def test_a_share_is_never_more_than_it_says(members: int, percent: int) -> None:
    """A percentage of nodes is rounded down."""
    assert share_of(f"{percent}%", members) * 100 <= members * percent < (share_of(f"{percent}%", members) + 1) * 100


@pytest.mark.parametrize("share", ["", "half", "-1%", "101%", -1, True, 1.5])
def test_what_is_no_share_is_refused(share: object) -> None:
    """Anything else than a number or a percentage up to 100 is no share."""
    with pytest.raises(BadInput, match="no share of nodes"):
        share_of(share, 3)  # type: ignore[arg-type]

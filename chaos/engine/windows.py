"""Freeze windows: is now a time in which nothing may be broken? Pure: the moment is given."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from chaos.core.durations import parse_duration_s
from chaos.core.errors import BadInput
from chaos.engine.policy import FreezeWindow

LONGEST = timedelta(days=366)


def check_window(window: FreezeWindow) -> None:
    """Raises BadInput where the window names no moment: a bad cron, time zone or duration. ``where`` is the key."""
    try:
        CronSim(window.cron, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as err:
        raise BadInput(
            f"{window.cron!r} is not a cron expression: {err}", where="cron", expected='five fields, e.g. "0 9 * * 1-5" (weekdays at 9:00)'
        ) from err
    try:
        ZoneInfo(window.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as err:
        raise BadInput(f"unknown time zone {window.timezone!r}", where="timezone", expected='an IANA name, e.g. "Europe/Berlin"') from err
    try:
        length = timedelta(seconds=parse_duration_s(window.duration))
    except BadInput as err:
        raise BadInput(err.what, where="duration", next_step=err.next_step) from err
    if not timedelta(0) < length <= LONGEST:
        raise BadInput(f"{window.duration!r} freezes nothing or everything", where="duration", expected="more than 0, at most 366d")


def frozen_until(windows: Sequence[FreezeWindow], at: datetime) -> tuple[FreezeWindow, datetime] | None:
    """The window that holds ``at`` (aware) and when it ends, in its own zone; the one that ends last where several hold. None: no one does.

    A window holds from the very moment that its cron names, to ``duration`` later (not included), in elapsed time: a night in which
    the clock changes is not frozen for longer or shorter.
    """
    holding = [(window, until) for window in windows if (until := _until(window, at)) is not None]
    return max(holding, key=lambda one: one[1], default=None)


def _until(window: FreezeWindow, at: datetime) -> datetime | None:
    zone = ZoneInfo(window.timezone)
    length = timedelta(seconds=parse_duration_s(window.duration))
    # The next second, seen backwards: a window that begins right now holds.
    moments = CronSim(window.cron, (at + timedelta(seconds=1)).astimezone(zone).replace(microsecond=0), reverse=True)
    begun = next(moments, None)
    if begun is None:
        return None
    until = begun.astimezone(UTC) + length
    return until.astimezone(zone) if until > at.astimezone(UTC) else None

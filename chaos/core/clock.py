"""One clock for durations, another for labels.

``now_ns`` is CLOCK_MONOTONIC, which all processes of one machine (micro-hosts and containers included) share, so
stamps written by different processes can be compared. UTC is for people: it is never subtracted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from chaos.core.errors import DeadlineExceeded

T = TypeVar("T")
NS = 1_000_000_000


def now_ns() -> int:
    """Nanoseconds of the monotonic clock."""
    return time.monotonic_ns()


def utc_now() -> datetime:
    """The wall clock, for labels only."""
    return datetime.now(UTC)


def utc_label(moment: datetime) -> str:
    """``2026-01-31T10:11:12.345Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(span_ns: int) -> float:
    """Nanoseconds as seconds."""
    return span_ns / NS


def wait_for(look: Callable[[], T | None], *, timeout_s: float, what: str, interval_s: float = 0.02, last: str = "nothing") -> T:
    """Poll ``look`` until it returns something true, and return that.

    ``look`` may raise :class:`~chaos.core.errors.GamedayError` or :class:`OSError`: that counts as "not yet" and its
    text is what the timeout quotes.

    Raises:
        EnvironmentGone: at once, where ``look`` does: there is nothing left to wait for.
        DeadlineExceeded: after ``timeout_s`` seconds, with the last thing seen.
    """
    from chaos.core.errors import EnvironmentGone, GamedayError

    deadline = now_ns() + int(timeout_s * NS)
    while True:
        try:
            seen = look()
            if seen:
                return seen
            last = repr(seen) if seen is not None else last
        except EnvironmentGone:
            raise
        except (GamedayError, OSError) as err:
            last = str(err)
        if now_ns() >= deadline:
            raise DeadlineExceeded(f"timed out after {timeout_s:g} s waiting for {what}", observed=last)
        time.sleep(interval_s)

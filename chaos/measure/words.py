"""Numbers and intervals as a sentence says them. No arithmetic beyond rounding."""

from __future__ import annotations

from chaos.core.clock import NS
from chaos.core.model import Interval


def count(number: int) -> str:
    """``1 204``."""
    return f"{number:,}".replace(",", " ")


def plural(number: int, noun: str) -> str:
    """``write`` for one, ``writes`` for any other number."""
    return noun if number == 1 else f"{noun}s"


def spelled(number: int, noun: str) -> str:
    """``1 step``, ``1 204 steps``."""
    return f"{count(number)} {plural(number, noun)}"


def within(value_s: float, digits: int = 2) -> str:
    """``4.21 s``; milliseconds below a tenth of a second."""
    if 0 < value_s < 0.1:
        return f"{value_s * 1000:.{max(1, digits - 2)}f} ms"
    return f"{value_s:.{digits}f} s"


def spans(interval: Interval, bound_s: float) -> str:
    """``between 4.21 s and 4.26 s``, with as many digits as it takes to tell both ends from ``bound_s`` (to the nanosecond)."""
    ends = [interval.lo] if interval.hi is None else [interval.lo, interval.hi]
    digits = 2
    while digits < 9 and any(
        end != bound_s and abs(end - bound_s) > 1 / NS and round(end, digits) == round(bound_s, digits) for end in ends
    ):
        digits += 1
    if interval.hi is None:
        return f"at least {within(interval.lo, digits)}"
    return f"between {within(interval.lo, digits)} and {within(interval.hi, digits)}"

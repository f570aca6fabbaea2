"""Durations as people write them in budgets: ``30s``, ``5m``, ``1h30m``, ``250 ms``. Bare numbers are seconds."""

from __future__ import annotations

import re

from chaos.core.errors import BadInput

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|min|s|m|h|d)\s*")


def parse_duration_s(text: str | int | float, *, what: str = "duration") -> float:
    """Seconds for ``text``.

    Raises:
        BadInput: where it does not parse or is negative; the message lists the forms that do.
    """
    if isinstance(text, bool):
        raise BadInput(f"{what}: {text!r} is not a duration", next_step="write e.g. 30s, 5m, 1h30m, 250ms")
    if isinstance(text, int | float):
        if text < 0 or text != text or text == float("inf"):
            raise BadInput(f"{what}: {text!r} is not a duration", next_step="write a number of seconds, 0 or more")
        return float(text)
    position, total = 0, 0.0
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            break
        total += float(part.group(1)) * _UNITS_S[part.group(2)]
        position = part.end()
    if position < len(text) or not text.strip():
        raise BadInput(f"{what}: {text!r} is not a duration", next_step="write e.g. 30s, 5m, 1h30m, 250ms")
    return total


def format_s(value_s: float | None) -> str:
    """A duration for people: ``2.53 s``, ``4 min 10 s``, ``never`` for None."""
    if value_s is None:
        return "never"
    if value_s < 0.0995:
        return f"{value_s * 1000:.3g} ms"
    if value_s < 120:
        return f"{value_s:.3g} s" if value_s < 100 else f"{value_s:.0f} s"
    minutes, rest_s = divmod(round(value_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest_s} s"

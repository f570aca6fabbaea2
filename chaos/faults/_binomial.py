"""How many of how many echoes must be missing before a loss of packets is believed. Exact binomial sums; no fault of its own.

A measurement of ``echoes`` echoes says *lossy* where at least ``least`` are missing, and *as asked* where also at most ``most`` are.
With the loss asked it says "as asked" but for a chance below ``WRONG``; with a tenth of that loss or less (what a busy machine
loses without any fault) it says "lossy" with a chance below ``WRONG``. The proof is looked for at most ``LOOKS`` times (a minute, back to
back), which ``WRONG`` allows for: over all looks either mistake stays below one in a million.
"""

from __future__ import annotations

import math

import msgspec

ONE_IN_A_MILLION, LOOKS = 1e-6, 10_000
WRONG = ONE_IN_A_MILLION / LOOKS
FEWEST_ECHOES = 200
BACKGROUND = 0.1
NEARLY_ALL = 0.95


class Measure(msgspec.Struct, frozen=True):
    """What to send, and the bounds of what may be missing."""

    echoes: int
    least: int
    most: int

    def lossy(self, missing: int) -> bool:
        return missing >= self.least

    def as_asked(self, missing: int) -> bool:
        return self.least <= missing <= self.most


def measure_for(loss: float) -> Measure:
    """The cheapest measurement (to a quarter) that tells ``loss``, the share of echoes that are to go missing, from a tenth of it and,
    up to 95 %, from a loss of everything."""
    echoes = FEWEST_ECHOES
    while True:
        least, most = _bounds(echoes, loss)
        if tail(echoes, BACKGROUND * loss, least) < WRONG and (most < echoes or loss > NEARLY_ALL):
            return Measure(echoes, least, most)
        echoes += echoes // 4


def tail(count: int, chance: float, least: int) -> float:
    """The chance that at least ``least`` of ``count`` happen, each with ``chance``."""
    return math.fsum(_exactly(count, chance, number) for number in range(least, count + 1))


def _bounds(count: int, chance: float) -> tuple[int, int]:
    """The narrowest range outside which fewer than ``WRONG`` fall (half of that on each side)."""
    least, below = 0, _exactly(count, chance, 0)
    while below < WRONG / 2:
        least += 1
        below += _exactly(count, chance, least)
    most, above = count, _exactly(count, chance, count)
    while above < WRONG / 2:
        most -= 1
        above += _exactly(count, chance, most)
    return least, most


def _exactly(count: int, chance: float, number: int) -> float:
    if chance <= 0 or chance >= 1:
        return float(number == (count if chance >= 1 else 0))
    log = math.lgamma(count + 1) - math.lgamma(number + 1) - math.lgamma(count - number + 1)
    return math.exp(log + number * math.log(chance) + (count - number) * math.log1p(-chance))

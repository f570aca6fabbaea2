"""How a loss of packets is believed: the bounds against exact fractions, and the promise of one in a million."""

from __future__ import annotations

import random
from fractions import Fraction
from math import comb

import pytest

from chaos.faults._binomial import BACKGROUND, LOOKS, ONE_IN_A_MILLION, WRONG, measure_for, tail


def exactly(count: int, chance: Fraction, numbers: range) -> Fraction:
    """The chance of these numbers, with no rounding at all."""
    return sum((comb(count, n) * chance**n * (1 - chance) ** (count - n) for n in numbers), Fraction(0))


@pytest.mark.parametrize(("count", "chance", "least"), [(10, "1/2", 3), (200, "1/10", 40), (200, "3/10", 26), (5, "0", 1), (5, "1", 5)])
def test_the_tail_is_the_binomial_one(count: int, chance: str, least: int) -> None:
    """To nine digits, also where it is very small, certain or impossible."""
    exact = float(exactly(count, Fraction(chance), range(least, count + 1)))
    assert tail(count, float(Fraction(chance)), least) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("percent", [10, 19, 30, 51, 75, 90, 99, 100])
def test_neither_mistake_is_likelier_than_one_in_a_million(percent: int) -> None:
    """Computed without rounding: the loss asked is outside the bounds, and a tenth of it above the lower one, with less than the chance
    promised for each look, and over all looks with less than one in a million."""
    loss = Fraction(percent, 100)
    measure = measure_for(float(loss))
    outside = 1 - exactly(measure.echoes, loss, range(measure.least, measure.most + 1))
    believed = exactly(measure.echoes, loss * Fraction(BACKGROUND).limit_denominator(), range(measure.least, measure.echoes + 1))
    assert outside < WRONG and believed < WRONG and LOOKS * WRONG <= ONE_IN_A_MILLION * 1.001


def test_a_small_loss_takes_more_echoes_and_stays_affordable() -> None:
    """One percent, the smallest that is taken, is told from a tenth of it by fewer than 15 000 echoes; half of all by 200."""
    sizes = [measure_for(loss).echoes for loss in (0.5, 0.1, 0.05, 0.01)]
    assert sizes == sorted(sizes) and sizes[0] == 200 and sizes[-1] < 15_000


def test_a_complete_loss_is_not_nine_tenths_of_it() -> None:
    """Where nothing passes, a loss of less than everything has not landed as asked."""
    for loss in (0.3, 0.51, 0.9, 0.95):
        measure = measure_for(loss)
        assert measure.lossy(measure.echoes) and not measure.as_asked(measure.echoes) and not measure.lossy(0)
    assert measure_for(1.0).as_asked(measure_for(1.0).echoes)


def test_tossed_coins_are_believed() -> None:
    """Two thousand seeded measurements: every one of the loss asked is as asked, none of a background of two percent is lossy."""
    chance, measure = random.Random(20), measure_for(0.3)
    for _ in range(1_000):
        assert measure.as_asked(sum(chance.random() < 0.3 for _ in range(measure.echoes)))
        assert not measure.lossy(sum(chance.random() < 0.02 for _ in range(measure.echoes)))

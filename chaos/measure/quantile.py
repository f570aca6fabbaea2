"""Bounds of a quantile from a sample, without an assumption about its distribution: order statistics and the binomial sum. Exact.

Of n independent values, the number of those at or below the true q-quantile is binomial (n, q). Hence the l-th smallest is a lower bound
with an error of P(B ≤ l − 1), and the u-th smallest an upper one with an error of P(B ≥ u). Values may be infinite.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt


@lru_cache(maxsize=4096)
def ranks(n: int, q: float, error: float) -> tuple[int | None, int | None]:
    """The ranks l and u (from 1) of a lower and an upper bound of the q-quantile of ``n`` values, each wrong with a probability of
    ``error`` at most; None where ``n`` is too small for one."""
    if n < 1:
        return None, None
    factorials = np.concatenate([np.zeros(1), np.cumsum(np.log(np.arange(1, n + 1)))])
    k = np.arange(n + 1)
    weights = np.exp(factorials[n] - factorials[k] - factorials[n - k] + k * math.log(q) + (n - k) * math.log1p(-q))
    below = np.cumsum(weights)  # P(B <= k)
    above = np.cumsum(weights[::-1])[::-1]  # P(B >= k)
    lower = int((below <= error).sum())
    upper = n + 1 - int((above <= error).sum())
    return lower or None, upper if upper <= n else None


def bounds(values: npt.NDArray[np.int64], q: float, error: float) -> tuple[int | None, int | None]:
    """A lower and an upper bound of the q-quantile of what ``values`` are a sample of."""
    lower, upper = ranks(len(values), q, error)
    ordered = np.sort(values)
    return (None if lower is None else int(ordered[lower - 1])), (None if upper is None else int(ordered[upper - 1]))


def fewest(q: float, error: float) -> int:
    """How many values an upper bound of the q-quantile takes."""
    return math.ceil(math.log(error) / math.log(q))

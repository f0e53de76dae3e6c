"""The odds ratio of a table of two by two given its margins: conditional maximum likelihood.

Given both margins, the first cell has Fisher's noncentral hypergeometric distribution, whose only
parameter is the odds ratio (Fisher 1935; Cornfield 1956). The estimate is that at which the cell's
mean is what was seen; the interval is exact, each end where the tail beyond it holds half of what
the interval leaves out. R's ``fisher.test`` tells the same figures to three digits or so.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from contract.statistics import special
from contract.statistics.estimates import CONFIDENCE, Estimate, checked_confidence

NAME = "conditional odds ratio"


def conditional_odds_ratio(table: NDArray[np.int64], confidence: float = CONFIDENCE) -> Estimate:
    """Return it for whole counts of two by two.

    It is 0 or infinite where the first cell is as small or as large as its margins allow, and NaN
    where they allow one table only.
    """
    left_out = (1 - checked_confidence(confidence)) / 2
    seen, row, column = int(table[0, 0]), int(table[0].sum()), int(table[:, 0].sum())
    other = int(table[1].sum())
    least, most = max(0, column - other), min(row, column)
    if least == most:
        note = "Its margins allow no other table."
        return Estimate(NAME, math.nan, low=0.0, high=math.inf, confidence=confidence, note=note)
    # The cell is a sum of independent yes-or-no parts (Harkness 1965), so at these odds it lies
    # within so many standard deviations of what was seen.
    reach = 100 + 20 * math.isqrt(most)
    least, most = max(least, seen - reach), min(most, seen + reach)
    cell = np.arange(least, most + 1, dtype=np.float64)
    logs = -sum(
        special.gammaln(part + 1)
        for part in (cell, row - cell, column - cell, other - column + cell)
    )

    def shares(log_odds: float) -> NDArray[np.float64]:
        found: NDArray[np.float64] = logs + log_odds * cell
        found = np.exp(found - found.max())
        return np.asarray(found / found.sum())

    start = math.log((seen + 0.5) / (row - seen + 0.5)) + math.log(
        (other - column + seen + 0.5) / (column - seen + 0.5)
    )
    place = seen - least
    value, low, high = 0.0, 0.0, math.inf
    if seen == most:
        value = math.inf
    elif seen > least:
        value = _root(lambda log: float(shares(log) @ cell) - seen, start)
    if seen > least:
        low = _root(lambda log: float(shares(log)[place:].sum()) - left_out, start)
    if seen < most:
        high = _root(lambda log: left_out - float(shares(log)[: place + 1].sum()), start)
    return Estimate(NAME, value, low=low, high=high, confidence=confidence)


def _root(rising: Callable[[float], float], start: float) -> float:
    """Return the odds ratio at whose logarithm a rising function is zero."""
    from scipy.optimize import brentq

    below = above = 1.0
    while rising(start - below) > 0:
        below *= 2
    while rising(start + above) < 0:
        above *= 2
    return math.exp(float(brentq(rising, start - below, start + above, xtol=1e-13)))

"""Quantiles of all sites' subjects together, from merged counts on a grid.

The quantile q of n values is the smallest one that at least q of them don't exceed: the
ceil(q n)-th in order (the inverse of the distribution function; type 1 of Hyndman and Fan 1996).
Merged counts tell in which cell of the grid it lies, so the answer is right within one cell,
however the subjects are spread over the sites. A mean of the sites' quantiles is not the pooled
quantile; there is none here.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from contract.dictionary import Variable
from contract.errors import DocumentError
from contract.statistics import special
from contract.statistics.estimates import CONFIDENCE, NOISY, cells, checked_confidence
from contract.statistics.summaries import Counts


@dataclass(frozen=True)
class Quantile:
    """A quantile: it lies in ``[low, high]``, one cell; ``value`` is interpolated within it.

    All in the variable's unit. ``interval_low`` and ``interval_high`` enclose the confidence
    interval by order statistics (exact binomial ranks, so of at least this confidence), outwards
    to the cells' ends; infinite where it leaves the grid.
    """

    q: float
    value: float
    low: float
    high: float
    n: int
    rank: int
    interval_low: float = math.nan
    interval_high: float = math.nan
    confidence: float = CONFIDENCE
    note: str = ""
    approximate: bool = False


def quantile(
    edges: ArrayLike,
    counts: ArrayLike,
    q: float,
    *,
    below: float = 0,
    above: float = 0,
    whole: bool = False,
    confidence: float = CONFIDENCE,
) -> Quantile:
    """Return one quantile from counts in cells.

    ``edges``: ascending, one more than ``counts``; a cell holds ``[edge, next)``, the last one both
    its ends. ``below``, ``above``: how many lie outside. ``whole``: the values are whole numbers,
    so a cell that holds one whole number gives it exactly. Counts below zero (noise) are taken as
    none, and the answer is ``approximate``.

    A quantile that lies outside the grid has NaN for a value and says on which side. Of nobody it
    is NaN. ``DocumentError``: q outside [0, 1], or edges that aren't a grid.
    """
    if not 0 <= q <= 1:
        raise DocumentError("A quantile is of a share from 0 to 1.")
    checked_confidence(confidence)
    grid = np.asarray(edges, dtype=np.float64)
    inside, noisy = cells(counts, 1)
    outside, noisy_outside = cells([below, above])
    noisy = noisy or noisy_outside
    if grid.size != inside.size + 1 or inside.size == 0 or not (np.diff(grid) > 0).all():
        raise DocumentError("Edges must ascend, and be one more than the counts.")
    # Below, the cells, above: their running totals are the ranks at which each ends.
    ends = np.cumsum(np.concatenate([outside[:1], inside, outside[1:]]))
    n = round(float(ends[-1]))
    note = NOISY if noisy else ""
    if n < 1:
        nan = math.nan
        return Quantile(q, nan, nan, nan, 0, 0, note="Nobody has a value.", approximate=noisy)
    # The decimal that was written, not its float64: 0.1 of 30 is the third, not the fourth.
    rank = max(1, math.ceil(Fraction(repr(float(q))) * n))
    place = _cell(ends, rank)
    low, high = _bounds(grid, place, whole)
    if math.isinf(low) or math.isinf(high):
        value = math.nan
        note = f"It lies {'below' if place == 0 else 'above'} the grid. {note}".strip()
    else:
        share = (rank - 0.5 - ends[place - 1]) / (ends[place] - ends[place - 1])
        share = min(max(float(share), 0.0), 1.0)
        if whole:
            value = min(low + math.floor(share * (high - low + 1)), high)
        else:
            value = low + share * (high - low)
    first, last = _ranks(n, q, confidence)
    return Quantile(
        q,
        value,
        low,
        high,
        n,
        rank,
        -math.inf if first < 1 else _bounds(grid, _cell(ends, first), whole)[0],
        math.inf if last > n else _bounds(grid, _cell(ends, last), whole)[1],
        confidence,
        note,
        noisy,
    )


def _cell(ends: np.ndarray, rank: int) -> int:
    """Return the first cell whose end reaches a rank; noise may leave the total half short."""
    return min(int(np.searchsorted(ends, rank, side="left")), int(np.argmax(ends)))


def _bounds(grid: np.ndarray, place: int, whole: bool) -> tuple[float, float]:
    """Return what a value in a cell can be; 0 is below the grid."""
    low = float(grid[place - 1]) if place else -math.inf
    high = float(grid[place]) if place < grid.size else math.inf
    if not whole:
        return low, high
    last = place >= grid.size - 1
    if math.isfinite(low):
        low = math.floor(low) + 1 if place == grid.size else math.ceil(low)
    if math.isfinite(high):
        high = math.floor(high) if last else math.ceil(high) - 1
    # A cell between two whole numbers can't hold one; then the grid and the data disagree.
    return (low, high) if low <= high else (float(grid[place - 1]), float(grid[place]))


def _ranks(n: int, q: float, confidence: float) -> tuple[int, int]:
    """Return the ranks between which the population's quantile lies; 0 and n + 1 are infinite.

    P(B < first) and P(B >= last) are at most half of 1 - confidence each, B binomial(n, q).
    """
    tail = (1 - confidence) / 2
    if q in {0.0, 1.0}:
        return (0, 1) if q == 0.0 else (n, n + 1)

    def under(rank: int) -> float:
        """P(B < rank), by the incomplete beta function."""
        if rank <= 0 or rank > n:
            return float(rank > n)
        return float(special.betainc(n - rank + 1, rank, 1 - q))

    ranks = range(n + 2)
    first = bisect_right(ranks, tail, key=under) - 1
    return first, bisect_left(ranks, 1 - tail, key=under)


def of_counts(
    counts: Counts, variable: Variable, shares: Sequence[float], confidence: float = CONFIDENCE
) -> list[Quantile]:
    """Return quantiles of a variable from its merged histogram; ``DocumentError``: no grid."""
    if variable.minimum is None or variable.maximum is None or variable.bins is None:
        raise DocumentError(f"The dictionary gives {variable.name} no grid for a histogram.")
    edges = np.linspace(variable.minimum, variable.maximum, variable.bins + 1)
    return [
        quantile(
            edges,
            counts.counts,
            q,
            below=counts.below,
            above=counts.above,
            whole=variable.whole,
            confidence=confidence,
        )
        for q in shares
    ]


def median(counts: Counts, variable: Variable, confidence: float = CONFIDENCE) -> Quantile:
    """Return the median: of an even number of values the lower of the middle two."""
    return of_counts(counts, variable, [0.5], confidence)[0]


@dataclass(frozen=True)
class Spread:
    """The interquartile range: it lies in ``[low, high]``, two cells wide at most."""

    value: float
    low: float
    high: float
    lower: Quantile
    upper: Quantile


def interquartile_range(counts: Counts, variable: Variable) -> Spread:
    """Return the range between the first and the third quartile, in the variable's unit."""
    lower, upper = of_counts(counts, variable, [0.25, 0.75])
    return Spread(
        upper.value - lower.value,
        max(upper.low - lower.high, 0.0),
        upper.high - lower.low,
        lower,
        upper,
    )

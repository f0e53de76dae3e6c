"""Quantiles of all sites' subjects together, from merged counts on a grid.

A quantile of n values is one of them in order, or lies between two neighbours. Which, and how far
between, Hyndman and Fan (1996) give nine definitions of; the seventh is R's own, the first the
inverse of the distribution function. Merged counts tell in which cell of the grid a value of any
rank lies: where cells hold one value each, all types are exact, and otherwise right within a cell's
width, however the subjects are spread over the sites. A mean of the sites' quantiles is not the
pooled quantile; there is none here.
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

TYPE = 7
"""Of Hyndman and Fan's: the default of R, NumPy, pandas and DataSHIELD."""
_PLOTTING: dict[int, tuple[Fraction, Fraction]] = {
    4: (Fraction(0), Fraction(1)),
    5: (Fraction(1, 2), Fraction(1, 2)),
    6: (Fraction(0), Fraction(0)),
    7: (Fraction(1), Fraction(1)),
    8: (Fraction(1, 3), Fraction(1, 3)),
    9: (Fraction(3, 8), Fraction(3, 8)),
}
"""Alpha and beta of the types that go between two values: Hyndman and Fan's p(k)."""

_ROUNDING = Fraction(1, 2**52)
"""How far, of itself, a product with a float64 may lie from the whole number that was meant."""


@dataclass(frozen=True)
class Quantile:
    """A quantile: it lies in ``[low, high]``, as wide as a cell; ``value`` is interpolated there.

    All in the variable's unit. ``rank`` is its place in order: 2.5 is half-way from the second
    value to the third. ``interval_low`` and ``interval_high`` enclose the confidence
    interval by order statistics (exact binomial ranks, so of at least this confidence), outwards
    to the cells' ends; infinite where it leaves the grid.
    """

    q: float
    value: float
    low: float
    high: float
    n: int
    rank: float
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
    kind: int = TYPE,
) -> Quantile:
    """Return one quantile from counts in cells, of type ``kind`` (1 to 9, as R numbers them).

    ``edges``: ascending, one more than ``counts``; a cell holds ``[edge, next)``, the last one both
    its ends. ``below``, ``above``: how many lie outside. ``whole``: the values are whole numbers,
    so a cell that holds one whole number gives it exactly. Counts below zero (noise) are taken as
    none, and the answer is ``approximate``.

    A quantile that lies outside the grid has NaN for a value and says on which side. Of nobody it
    is NaN. ``DocumentError``: q outside [0, 1], another type, or edges that aren't a grid.
    """
    if not 0 <= q <= 1:
        raise DocumentError("A quantile is of a share from 0 to 1.")
    checked_confidence(confidence)
    checked_type(kind)
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
    rank, further = _place(n, q, kind)
    known = [_known(grid, ends, at, whole) for at in (rank, rank + 1)[: 2 if further else 1]]
    weights = (1 - further, further)
    value, low, high = (
        float(sum(w * one for w, one in zip(weights, ordered, strict=False)))
        for ordered in zip(*known, strict=True)
    )
    if math.isinf(low) or math.isinf(high):
        value = math.nan
        note = f"It lies {'below' if math.isinf(low) else 'above'} the grid. {note}".strip()
    first, last = _ranks(n, q, confidence)
    return Quantile(
        q,
        value,
        low,
        high,
        n,
        rank + further,
        -math.inf if first < 1 else _bounds(grid, _cell(ends, first), whole)[0],
        math.inf if last > n else _bounds(grid, _cell(ends, last), whole)[1],
        confidence,
        note,
        noisy,
    )


def checked_type(kind: int) -> int:
    """Return a type of quantile; ``DocumentError`` for none of Hyndman and Fan's nine."""
    if kind not in range(1, 10):
        raise DocumentError("A quantile is of Hyndman and Fan's type 1 to 9; R's default is 7.")
    return kind


def _place(n: int, q: float, kind: int) -> tuple[int, float]:
    """Return a quantile's rank in n values, from 1, and its share of the way to the next rank."""
    p = Fraction(q)
    if kind in _PLOTTING:
        alpha, beta = _PLOTTING[kind]
        at = _as_meant(alpha + p * (n + 1 - alpha - beta))
        rank = math.floor(at)
        further = float(at - rank)
    else:
        at = _as_meant(n * p - (Fraction(1, 2) if kind == 3 else 0))
        rank = math.floor(at)
        further = 1.0 if at != rank else {1: 0.0, 2: 0.5, 3: float(rank % 2)}[kind]
    if further == 1.0:
        rank, further = rank + 1, 0.0
    if rank < 1:
        return 1, 0.0
    return (n, 0.0) if rank >= n else (rank, further)


def _as_meant(at: Fraction) -> Fraction:
    """Return a rank; a whole one where no float64 is nearer, as 0.1 of 30 is, or 1 / 3 of 27."""
    whole = Fraction(round(at))
    return whole if abs(at - whole) <= whole * _ROUNDING else at


def _known(
    grid: np.ndarray, ends: np.ndarray, rank: int, whole: bool
) -> tuple[float, float, float]:
    """Return the value of a rank, as if a cell's were spread evenly, and what it can be."""
    place = _cell(ends, rank)
    low, high = _bounds(grid, place, whole)
    if math.isinf(low) or math.isinf(high):
        return 0.0, low, high
    share = (rank - 0.5 - ends[place - 1]) / (ends[place] - ends[place - 1])
    share = min(max(float(share), 0.0), 1.0)
    if whole:
        return min(low + math.floor(share * (high - low + 1)), high), low, high
    return low + share * (high - low), low, high


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
    counts: Counts,
    variable: Variable,
    shares: Sequence[float],
    confidence: float = CONFIDENCE,
    kind: int = TYPE,
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
            kind=kind,
        )
        for q in shares
    ]


@dataclass(frozen=True)
class Spread:
    """The interquartile range: it lies in ``[low, high]``, two cells wide at most."""

    value: float
    low: float
    high: float


def interquartile_range(lower: Quantile, upper: Quantile) -> Spread:
    """Return the range between the first and the third quartile, in the variable's unit."""
    least = max(upper.low - lower.high, 0.0)
    return Spread(upper.value - lower.value, least, upper.high - lower.low)

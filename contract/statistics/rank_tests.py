"""Tests by ranks, from merged counts on a grid: Mann and Whitney's, Kruskal and Wallis'.

Subjects in one bin are tied, with the mean of their ranks. Each pair of subjects in one bin, one of
either group, counts 1/2 where the values themselves would have counted 0, 1/2 or 1; so the
statistic on the values is at most half the number of such pairs away. The tests give that bound,
and the range in which the p value on the values must lie (by the same normal or chi-squared
approximation).

Counts with noise: below zero is 0, the answer is ``approximate`` and the bound is that of the bins
alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from contract.errors import DocumentError
from contract.statistics.estimates import (
    CONFIDENCE,
    NOISY,
    Estimate,
    HypothesisTest,
    Table,
    cells,
    chi_squared_p,
    normal_p,
    undefined,
    z_quantile,
)
from contract.statistics.summaries import Counts


@dataclass(frozen=True)
class RankTest:
    """A test by ranks on bins, and what it can be on the values themselves.

    ``error``: the statistic on the values lies within this of the one given (for Kruskal and
    Wallis' it is the larger of both sides). ``least_p``, ``most_p``: the range of its p value.
    """

    test: HypothesisTest
    error: float
    least_p: float
    most_p: float


def ordered(counts: Counts) -> tuple[int, ...]:
    """Return a histogram's counts from low to high: below, the bins, above."""
    return (counts.below, *counts.counts, counts.above)


def mann_whitney(
    a: ArrayLike, b: ArrayLike, continuity: bool = True, confidence: float = CONFIDENCE
) -> RankTest:
    """Test whether one group's values tend to be larger (Mann and Whitney 1947).

    ``a``, ``b``: the groups' counts over the same bins, from low to high. The statistic is U of
    ``a``: over all pairs, 1 where a's value is larger, 1/2 where they share a bin. The p value is
    by the normal approximation, with the correction for ties and, if ``continuity``, for
    continuity. The estimate is U / (n m), the probability that a's is the larger, with the
    standard error of DeLong et al. 1988.
    """
    name = "Mann and Whitney's U test"
    table, noisy = _groups([a, b])
    n, m = (float(x) for x in table.sum(axis=1))
    if min(n, m) == 0:
        return RankTest(
            undefined(name, "A group holds nobody.", noisy), math.nan, math.nan, math.nan
        )
    u = _wins(table[0], table[1])
    error = float(table[0] @ table[1]) / 2
    estimate = _superiority(table, u / (n * m), confidence, noisy)
    total = n + m
    ties = table.sum(axis=0)
    untied = n * m * (total + 1) / 12
    variance = untied - n * m / 12 * float((ties**3 - ties).sum()) / max(total * (total - 1), 1)
    middle = n * m / 2
    if variance <= 1e-12 * untied:
        test = undefined(name, "Everybody is in one bin.", noisy)
        return RankTest(test, error, math.nan, math.nan)

    def p_of(distance: float, square: float) -> float:
        # Corrected to no nearer than the middle: a p value isn't above 1.
        distance = max(distance - 0.5, 0.0) if continuity else distance
        return normal_p(distance / math.sqrt(square))

    distance = abs(u - middle)
    farthest = min(distance + error, middle)
    test = HypothesisTest(
        name,
        u,
        p_of(distance, variance),
        estimate=estimate,
        note=NOISY if noisy else "",
        approximate=noisy,
    )
    return RankTest(test, error, p_of(farthest, variance), p_of(max(distance - error, 0.0), untied))


def kruskal_wallis(groups: ArrayLike) -> RankTest:
    """Test whether groups' values lie alike (Kruskal and Wallis 1952), with the tie correction.

    ``groups``: a row of counts for each group, over the same bins from low to high; groups of
    nobody are left out. The statistic is H, chi-squared with (groups - 1) degrees of freedom.
    """
    name = "Kruskal and Wallis' test"
    table, noisy = _groups(groups)
    table = table[table.sum(axis=1) > 0]
    if len(table) < 2:
        test = undefined(name, "Fewer than two groups hold anybody.", noisy)
        return RankTest(test, math.nan, math.nan, math.nan)
    ties = table.sum(axis=0)
    n = float(ties.sum())
    correction = 1 - float((ties**3 - ties).sum()) / (n**3 - n) if n > 1 else 0.0
    if correction <= 1e-12:
        test = undefined(name, "Everybody is in one bin.", noisy)
        return RankTest(test, math.nan, math.nan, math.nan)
    midranks = np.cumsum(ties) - (ties - 1) / 2
    size = table.sum(axis=1)
    shifts = table @ midranks / size - (n + 1) / 2
    # H is the square of a norm of the groups' mean ranks, so the norm of their errors bounds it.
    errors = (table * (ties - table)).sum(axis=1) / 2 / size
    scale = 12 / (n * (n + 1))
    norm, most = (math.sqrt(scale * float(size @ x**2)) for x in (shifts, errors))
    h = norm**2 / correction
    low, high = max(norm - most, 0.0) ** 2, (norm + most) ** 2 / correction
    degrees = len(table) - 1
    test = HypothesisTest(
        name,
        h,
        chi_squared_p(h, degrees),
        (degrees,),
        note=NOISY if noisy else "",
        approximate=noisy,
    )
    return RankTest(
        test,
        max(h - low, high - h),
        chi_squared_p(high, degrees),
        chi_squared_p(low, degrees),
    )


def _groups(groups: ArrayLike | list[ArrayLike]) -> tuple[Table, bool]:
    try:
        return cells(groups, 2)  # type: ignore[arg-type]
    except ValueError:
        raise DocumentError("The groups' counts have different bins.") from None


def _wins(a: Table, b: Table) -> float:
    """Return over all pairs how often a's is the larger, a tie counted half."""
    lower = np.cumsum(b) - b
    return float(a @ (lower + b / 2))


def _superiority(table: Table, value: float, confidence: float, noisy: bool) -> Estimate:
    """Return P(a > b) + P(a = b) / 2, with DeLong's standard error and Wald's interval."""
    name = "probability that the first is larger"
    error = delong_error(table[0], table[1])
    half = z_quantile(confidence) * error
    return Estimate(
        name,
        value,
        error,
        max(value - half, 0.0),
        min(value + half, 1.0),
        confidence,
        NOISY if noisy else "",
        noisy,
    )


def delong_error(a: Table, b: Table) -> float:
    """Return the standard error of P(a > b) + P(a = b) / 2 (DeLong, DeLong, Clarke-Pearson 1988).

    ``a``, ``b``: counts over the same bins, from low to high. NaN below two in either group.
    """
    n, m = float(a.sum()), float(b.sum())
    if min(n, m) < 2:
        return math.nan
    of_a = (np.cumsum(b) - b / 2) / m
    of_b = (n - np.cumsum(a) + a / 2) / n
    squares = 0.0
    for counts, places, size in ((a, of_a, n), (b, of_b, m)):
        centre = float(counts @ places) / size
        squares += float(counts @ (places - centre) ** 2) / (size - 1) / size
    return math.sqrt(squares)

"""Covariance and correlation of several variables, from merged co-moments.

Co-moments are n, the means, and the upper triangle by rows of the sums of products of deviations
from the means, in the variables' order: xx, xy, xz, yy, yz, zz. Everything is of the subjects that
have all the variables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contract.errors import DocumentError
from contract.statistics import special
from contract.statistics.estimates import (
    CONFIDENCE,
    NOISY,
    Estimate,
    HypothesisTest,
    Table,
    cells,
    t_p,
    undefined,
    z_quantile,
)

CONSTANT = "A variable doesn't vary."


@dataclass(frozen=True)
class Correlations:
    """Pearson's correlations of variables by variables, all matrices symmetric.

    ``low``, ``high``: Fisher's intervals (1921), NaN below four subjects. ``p_values``: of the t
    test of no correlation, NaN on the diagonal. A variable that doesn't vary has NaN throughout.
    """

    n: int
    matrix: Table
    low: Table
    high: Table
    p_values: Table
    confidence: float


def square(products: ArrayLike) -> Table:
    """Return the symmetric matrix of an upper triangle by rows; ``DocumentError`` for none."""
    flat = np.asarray(products, dtype=np.float64)
    size = (math.isqrt(8 * flat.size + 1) - 1) // 2
    if flat.ndim != 1 or size * (size + 1) // 2 != flat.size or size < 1:
        raise DocumentError("The products aren't the upper triangle of a matrix.")
    matrix = np.zeros((size, size))
    matrix[np.triu_indices(size)] = flat
    return np.asarray(matrix + np.triu(matrix, 1).T)


def covariance_matrix(n: int, products: ArrayLike) -> Table:
    """Return the sample covariances (divisor n - 1), variables by variables; NaN below n = 2."""
    matrix = square(products)
    return matrix / (n - 1) if n > 1 else np.full_like(matrix, math.nan)


def correlation_matrix(n: int, products: ArrayLike, confidence: float = CONFIDENCE) -> Correlations:
    """Return all pairs' correlations with intervals and p values."""
    matrix = square(products)
    size = len(matrix)
    parts = [np.full((size, size), math.nan) for _ in range(4)]
    for i in range(size):
        for j in range(i, size):
            test = correlation(n, matrix[i, i], matrix[i, j], matrix[j, j], confidence)
            found = test.estimate
            r, low, high, p = (
                (found.value, found.low, found.high, test.p_value)
                if found is not None
                else (math.nan,) * 4
            )
            if i == j:
                r = low = high = math.nan if math.isnan(r) else 1.0
                p = math.nan
            for part, value in zip(parts, (r, low, high, p), strict=True):
                part[i, j] = part[j, i] = value
    return Correlations(n, parts[0], parts[1], parts[2], parts[3], confidence)


def correlation(
    n: int, xx: float, xy: float, yy: float, confidence: float = CONFIDENCE
) -> HypothesisTest:
    """Return Pearson's correlation and the t test that there is none (n - 2 degrees of freedom).

    ``xx``, ``xy``, ``yy``: sums of products of deviations. Where noise takes the correlation
    out of [-1, 1] or a square below zero it is NaN.
    """
    name = "Pearson's correlation"
    if n < 2:
        return undefined(name, "It needs two subjects.")
    if xx <= 0 or yy <= 0:
        return undefined(name, CONSTANT)
    return _tested(name, n, xy / math.sqrt(xx) / math.sqrt(yy), 0, confidence)


def partial_correlation(
    n: int,
    products: ArrayLike,
    first: int,
    second: int,
    given: Sequence[int],
    confidence: float = CONFIDENCE,
) -> HypothesisTest:
    """Return the correlation of two variables with others held fixed (Yule 1907).

    ``first``, ``second``, ``given``: places in the variables' order. n - 2 - len(given) degrees of
    freedom. NaN where the given ones already determine one of the two, or each other.
    """
    name = "partial correlation"
    matrix = square(products)
    places = [first, second, *given]
    if len(set(places)) != len(places) or not all(0 <= p < len(matrix) for p in places):
        raise DocumentError("A partial correlation needs distinct variables of the co-moments.")
    if not given:
        return correlation(n, *_pair(matrix, first, second), confidence)
    scale = np.sqrt(np.maximum(np.diag(matrix)[places], 0.0))
    if n < 2 or (scale == 0).any():
        return undefined(name, CONSTANT)
    # Of correlations, so that the variables' units don't matter to what counts as determined.
    unit = matrix[np.ix_(places, places)] / np.outer(scale, scale)
    inner = unit[2:, 2:]
    if np.linalg.cond(inner) > 1e12:
        return undefined(name, "The given variables determine each other.")
    left = unit[:2, :2] - unit[:2, 2:] @ np.linalg.solve(inner, unit[2:, :2])
    if min(left[0, 0], left[1, 1]) < 1e-12:
        return undefined(name, "The given variables determine one of the two.")
    r = float(left[0, 1] / math.sqrt(left[0, 0] * left[1, 1]))
    return _tested(name, n, r, len(given), confidence)


def spearman(counts: ArrayLike, confidence: float = CONFIDENCE) -> HypothesisTest:
    """Return Spearman's correlation (1904) of two ordered variables, from their merged crosstab.

    ``counts``: levels or bins, from low to high, of the one by the other. Subjects in one row or
    column are tied and have the mean of their ranks. On bins it is that of the binned values.
    """
    name = "Spearman's correlation"
    table, noisy = cells(counts, 2)
    n = float(table.sum())
    if n < 2:
        return undefined(name, "It needs two subjects.", noisy)
    margins = table.sum(axis=1), table.sum(axis=0)
    x, y = (np.cumsum(m) - m / 2 - n / 2 for m in margins)
    xx, yy = float(margins[0] @ x**2), float(margins[1] @ y**2)
    if xx == 0 or yy == 0:
        return undefined(name, CONSTANT, noisy)
    r = float(x @ table @ y) / math.sqrt(xx * yy)
    return _tested(name, round(n), r, 0, confidence, noisy)


def _pair(matrix: NDArray[np.float64], i: int, j: int) -> tuple[float, float, float]:
    return float(matrix[i, i]), float(matrix[i, j]), float(matrix[j, j])


def _tested(
    name: str, n: int, r: float, fixed: int, confidence: float, noisy: bool = False
) -> HypothesisTest:
    """Return the test of a correlation with so many variables held fixed, and Fisher's interval."""
    if abs(r) > 1 + 1e-9:
        return undefined(name, "Noise leaves no correlation between -1 and 1.", True)
    r = min(max(r, -1.0), 1.0)
    degrees = n - 2 - fixed
    note = NOISY if noisy else ""
    low = high = error = math.nan
    if n - 3 - fixed > 0:
        if abs(r) < 1:
            half = z_quantile(confidence) / math.sqrt(n - 3 - fixed)
            low, high = math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)
        else:
            low = high = r
    if degrees < 1:
        note = f"Too few subjects for a test. {note}".strip()
        return HypothesisTest(
            name, math.nan, math.nan,
            estimate=Estimate(name, r, confidence=confidence, note=note, approximate=noisy),
            note=note, approximate=noisy,
        )  # fmt: skip
    left = (1 - r) * (1 + r)
    error = math.sqrt(left / degrees)
    t = r / error if error > 0 else math.copysign(math.inf, r)
    # Next to 1, t loses digits that the incomplete beta function of 1 - r^2 keeps.
    p = float(special.betainc(degrees / 2, 0.5, left)) if error > 0 else t_p(t, degrees)
    return HypothesisTest(
        name,
        t,
        p,
        (degrees,),
        Estimate(name, r, error, low, high, confidence, note, noisy),
        note,
        noisy,
    )

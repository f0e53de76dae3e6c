"""Bases of splines as R's ``splines`` makes them: ``bs``, and ``ns`` with linear tails.

Sources: de Boor, A practical guide to splines (the recursion); Hastie in Chambers, Hastie,
Statistical models in S, 7.3 (the natural basis: B-splines within the null space of the second
derivatives at the boundary).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
_ORDER = 4
"""Of a cubic spline."""


def b_spline(
    x: Vector, knots: Sequence[float], boundary: tuple[float, float], degree: int = 3
) -> Matrix:
    """Return R's ``bs(x, knots, degree, Boundary.knots)``: one column for each knot and degree.

    ``x`` lies within the boundary.
    """
    row = _row(knots, boundary, degree + 1)
    return _design(x, row, degree + 1)[:, 1:]


def natural(x: Vector, knots: Sequence[float], boundary: tuple[float, float]) -> Matrix:
    """Return R's ``ns(x, knots, Boundary.knots)``; beyond the boundary it goes on linearly."""
    low, high = boundary
    row = _row(knots, boundary, _ORDER)
    ends = np.array([low, high])
    bends = _design(ends, row, _ORDER, 2)[:, 1:]
    # The last columns of this Q are those B-splines' combinations that don't bend at the ends.
    q = np.linalg.qr(bends.T, mode="complete")[0][:, 2:]
    inside = np.clip(x, low, high)
    basis = _design(inside, row, _ORDER)[:, 1:]
    slopes = _design(ends, row, _ORDER, 1)[:, 1:]
    beyond = x - inside
    basis += np.where(beyond < 0, beyond, 0.0)[:, None] * slopes[0]
    basis += np.where(beyond > 0, beyond, 0.0)[:, None] * slopes[1]
    return np.asarray(basis @ q)


def _row(knots: Sequence[float], boundary: tuple[float, float], order: int) -> Vector:
    low, high = boundary
    return np.array([low] * order + list(knots) + [high] * order, dtype=np.float64)


def _design(x: Vector, row: Vector, order: int, derivative: int = 0) -> Matrix:
    """Return the B-splines of this order on a row of knots, or a derivative of theirs."""
    if derivative:
        lower = _design(x, row, order - 1, derivative - 1)
        found = np.zeros((len(x), len(row) - order))
        for i in range(found.shape[1]):
            left, right = row[i + order - 1] - row[i], row[i + order] - row[i + 1]
            if left > 0:
                found[:, i] += (order - 1) / left * lower[:, i]
            if right > 0:
                found[:, i] -= (order - 1) / right * lower[:, i + 1]
        return found
    # The last interval that isn't empty takes the right end, too.
    distinct = np.unique(row)
    place = np.clip(np.searchsorted(distinct, x, side="right") - 1, 0, len(distinct) - 2)
    start = distinct[place]
    found = np.zeros((len(x), len(row) - 1))
    for i in range(len(row) - 1):
        if row[i] < row[i + 1]:
            found[:, i] = start == row[i]
    for k in range(2, order + 1):
        higher = np.zeros((len(x), len(row) - k))
        for i in range(higher.shape[1]):
            left, right = row[i + k - 1] - row[i], row[i + k] - row[i + 1]
            if left > 0:
                higher[:, i] += (x - row[i]) / left * found[:, i]
            if right > 0:
                higher[:, i] += (row[i + k] - x) / right * found[:, i + 1]
        found = higher
    return found

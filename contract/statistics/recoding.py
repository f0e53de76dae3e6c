"""Columns that steps are worked out in, instead of a model's own, and the way back.

Powers of a number are nearly collinear: of NIST's Filip, a polynomial of degree 10, sums of them
keep no digit. So the sites work in Chebyshev's polynomials on the dictionary's range, which span
the same, and the fit is turned back at the end, exactly but for one rounding.

Source: Higham, Accuracy and stability of numerical algorithms, 2nd edition, chapter 22.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]


def chebyshev(x: Vector, bounds: tuple[float, float], degree: int) -> Vector:
    """Return Chebyshev's polynomial of this degree on a range, at values in it."""
    low, high = bounds
    u = ((x - low) + (x - high)) / (high - low)
    before, now = np.ones_like(u), u
    for _ in range(degree - 1):
        before, now = now, 2 * u * now - before
    return now


@dataclass(frozen=True)
class Polynomials:
    """One number's columns, by degree: their places in the matrix, and their power series."""

    bounds: tuple[float, float]
    places: Sequence[int]
    series: Sequence[Sequence[Fraction]]


def way_back(width: int, groups: Sequence[Polynomials], intercept: int | None) -> Matrix:
    """Return the matrix that makes a model's own coefficients of those that steps are of.

    ``intercept`` is the place of the intercept's column; None where a constant doesn't matter.
    """
    found = np.eye(width)
    for group in groups:
        for degree, row in enumerate(_chebyshev_series(group.bounds, len(group.places)), start=1):
            own = _in(row, group.series)
            place = group.places[degree - 1]
            found[place, place] = 0.0
            if intercept is not None:
                found[intercept, place] = float(own[0])
            for lower in range(1, degree + 1):
                found[group.places[lower - 1], place] = float(own[lower])
    return found


def _chebyshev_series(bounds: tuple[float, float], most: int) -> list[list[Fraction]]:
    """Return the power series of the polynomials of degree 1 to ``most``."""
    low, high = Fraction(bounds[0]), Fraction(bounds[1])
    u = [-(low + high) / (high - low), 2 / (high - low)]
    found = [[Fraction(1)], u]
    for _ in range(most - 1):
        double = [2 * one for one in _times(u, found[-1])]
        before = found[-2] + [Fraction(0)] * (len(double) - len(found[-2]))
        found.append([a - b for a, b in zip(double, before, strict=True)])
    return found[1 : most + 1]


def _times(a: Sequence[Fraction], b: Sequence[Fraction]) -> list[Fraction]:
    found = [Fraction(0)] * (len(a) + len(b) - 1)
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            found[i + j] += one * other
    return found


def _in(wanted: Sequence[Fraction], series: Sequence[Sequence[Fraction]]) -> list[Fraction]:
    """Return a polynomial as a sum of 1 and polynomials of degree 1, 2, ..."""
    left = list(wanted)
    found = [Fraction(0)] * len(left)
    for degree in range(len(left) - 1, 0, -1):
        own = series[degree - 1]
        found[degree] = left[degree] / own[degree]
        for k in range(degree + 1):
            left[k] -= found[degree] * own[k]
    found[0] = left[0]
    return found

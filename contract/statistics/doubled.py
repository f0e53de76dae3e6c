"""A matrix' triangular factor in about twice the precision of a double, by fast products.

LAPACK's QR leaves errors in R of some units in the last place of the largest numbers. Here they are
taken away again: of X and LAPACK's Q, the products Q'X and Q'Q are worked out with some 70 bits,
and X'X = M'M with M = (I - F/2) Q'X, where F = Q'Q - I. M is small, and nearly triangular;
Householder's reflections in doubled numbers make it so. What is left out is of the order of 1e-32
of X'X.

In a product numbers are split into their leading 20 bits and the rest. The sums of products of
leading parts are exact in whatever order BLAS adds them, and the others are a millionth of them.

Sources: Dekker 1971 (doubled numbers); Ozaki, Ogita, Oishi, Rump 2012 (split products).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Doubled = tuple[Matrix, Matrix]
"""Numbers as the unevaluated sums of a double and a much smaller one."""

_SPLIT = 134217729.0
_BITS = 20
_ROWS = 1 << (53 - 2 * _BITS)
"""How many products of two leading parts have an exact sum."""


def triangle(rows: Matrix, low: Matrix | None = None) -> Doubled:
    """Return the square R of a QR of rows (and of what is below their last place).

    Its diagonal isn't below zero, so that it is unique.
    """
    width = rows.shape[1]
    if len(rows) < width:
        empty = np.zeros((width - len(rows), width))
        rows = np.vstack([rows, empty])
        low = None if low is None else np.vstack([low, empty])
    exponents = np.frexp(np.abs(rows).max(axis=0, initial=0.0))[1]
    rows = np.ldexp(rows, -exponents)
    q = np.linalg.qr(rows)[0]
    high, rest = product(q, np.hstack([q, rows]))
    off = (high[:, :width] - np.eye(width)) + rest[:, :width]
    below = rest[:, width:] - off @ high[:, width:] / 2
    if low is not None:
        below = below + q.T @ np.ldexp(low, -exponents)
    r = _reflected(_sum(high[:, width:], below))
    return np.ldexp(r[0], exponents), np.ldexp(r[1], exponents)


def product(left: Matrix, right: Matrix) -> Doubled:
    """Return left' right with some 70 bits, of the columns' largest numbers."""
    total = np.zeros((left.shape[1], right.shape[1]))
    rest = np.zeros_like(total)
    for start in range(0, len(left), _ROWS):
        ours, theirs = left[start : start + _ROWS], right[start : start + _ROWS]
        one, other = _leading(ours), _leading(theirs)
        total, error = two_sum(total, one.T @ other)
        rest += error + (one.T @ (theirs - other) + (ours - one).T @ theirs)
    return _sum(total, rest)


def _leading(matrix: Matrix) -> Matrix:
    """Return a matrix' leading bits, of each column's largest number."""
    exponents = np.frexp(np.abs(matrix).max(axis=0, initial=0.0))[1] - _BITS
    scale = np.ldexp(1.0, exponents)
    return np.asarray(np.rint(matrix / scale) * scale)


def solve(r: Doubled, right: Doubled, inverse: Matrix) -> Matrix:
    """Return the solution of r x = right, mended until it stays; ``inverse`` is about that of r."""
    x, rest = inverse @ right[0], np.zeros_like(right[0])
    for _ in range(4):
        high, low = multiply((right[0], right[1]), (np.ones_like(x), np.zeros_like(x)))
        for column in range(len(x)):
            own = (r[0][:, column], r[1][:, column])
            term = multiply(own, (np.full_like(x, x[column]), np.full_like(x, rest[column])))
            high, low = add((high, low), (-term[0], -term[1]))
        x, rest = _sum(x, rest + inverse @ (high + low))
    return x


# ---- doubled numbers -----------------------------------------------------------------------------


def two_sum(a: Matrix, b: Matrix) -> Doubled:
    """Return a + b and what is below its last place (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _sum(high: Matrix, low: Matrix) -> Doubled:
    total = high + low
    return total, low - (total - high)


def add(a: Doubled, b: Doubled) -> Doubled:
    """Return a + b."""
    total, error = two_sum(a[0], b[0])
    return _sum(total, error + (a[1] + b[1]))


def multiply(a: Doubled, b: Doubled) -> Doubled:
    """Return a b, number by number."""
    whole = a[0] * b[0]
    a_high, b_high = _halved(a[0]), _halved(b[0])
    a_low, b_low = a[0] - a_high, b[0] - b_high
    error = ((a_high * b_high - whole) + a_high * b_low + a_low * b_high) + a_low * b_low
    return _sum(whole, error + (a[0] * b[1] + a[1] * b[0]))


def _halved(a: Matrix) -> Matrix:
    scaled = a * _SPLIT
    return scaled - (scaled - a)


def _total(a: Doubled) -> Doubled:
    """Return the sums over the first axis."""
    high, low = a
    while len(high) > 1:
        half = len(high) // 2
        summed = add((high[:half], low[:half]), (high[half : 2 * half], low[half : 2 * half]))
        high = np.concatenate([summed[0], high[2 * half :]])
        low = np.concatenate([summed[1], low[2 * half :]])
    return high[0], low[0]


def _divided(a: Doubled, b: Doubled) -> Doubled:
    quotient = a[0] / b[0]
    taken = multiply(b, (quotient, np.zeros_like(quotient)))
    left = add(a, (-taken[0], -taken[1]))
    return _sum(quotient, (left[0] + left[1]) / b[0])


def _root(a: Doubled) -> Doubled:
    root = np.sqrt(a[0])
    square = multiply((root, np.zeros_like(root)), (root, np.zeros_like(root)))
    left = add(a, (-square[0], -square[1]))
    return _sum(root, np.where(root > 0, (left[0] + left[1]) / np.maximum(2 * root, 1e-300), 0.0))


def _reflected(a: Doubled) -> Doubled:
    """Return the triangle that Householder's reflections make of a square."""
    high, low = a[0].copy(), a[1].copy()
    width = len(high)
    for k in range(width):
        column = high[k:, k].copy(), low[k:, k].copy()
        norm = _root(_total(multiply(column, column)))
        if not norm[0] > 0:
            continue
        sign = -1.0 if column[0][0] > 0 else 1.0
        top = add((column[0][:1], column[1][:1]), (-sign * norm[0][None], -sign * norm[1][None]))
        column[0][:1], column[1][:1] = top
        square = _total(multiply(column, column))
        own = column[0][:, None], column[1][:, None]
        rest = high[k:, k:], low[k:, k:]
        factor = _total(multiply(own, rest))
        factor = _divided(factor, (square[0] / 2, square[1] / 2))
        taken = multiply(own, (factor[0][None], factor[1][None]))
        high[k:, k:], low[k:, k:] = add(rest, (-taken[0], -taken[1]))
    signs = np.where(np.diag(high) < 0, -1.0, 1.0)[:, None]
    return np.triu(high * signs), np.triu(low * signs)

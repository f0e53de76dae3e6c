"""Linear models over sites, by merged QR: a site sends the triangular factor of its rows.

Stacked factors have the R of the pooled rows, so the estimate is the pooled one; and a QR keeps
digits that sums of squares and products lose. A factor is worked out, sent and merged with more
digits than a double has, for the estimate is not to depend on how the rows were split: where the
outcome's noise is large beside the coefficients, rounded factors cost half of their digits.

Source: Golub, Van Loan, Matrix computations, 5.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from contract.errors import DocumentError
from contract.statistics import doubled
from contract.statistics.design import Matrix
from contract.statistics.fit import Fit, check_enough, check_weights, singular

Vector = NDArray[np.float64]
_SINGULAR_QR = 1e-13
"""Of a column, what the others before it must leave of its length. NIST's Filip leaves 2e-11."""


@dataclass(frozen=True)
class Factor:
    """A site's part of a linear model, or all sites': the R of a QR of (X, y), and ``n``.

    ``constant`` is the sum of the weights' logarithms, and ``low`` what is below R's last places.
    """

    n: int
    r: Matrix
    constant: float = 0.0
    low: Matrix | None = None

    @classmethod
    def of(
        cls, x: Matrix, y: Vector, weights: Vector | None = None, offset: Vector | None = None
    ) -> Factor:
        """Return the local half. Its diagonal is not below zero, so that it is unique."""
        rows = np.column_stack([x, y if offset is None else y - offset])
        constant = 0.0
        if weights is not None:
            check_weights(weights)
            rows, constant = rows * np.sqrt(weights)[:, None], float(np.log(weights).sum())
        r, low = doubled.triangle(rows)
        return cls(len(y), r, constant, low)

    def merge(self, other: Factor) -> Factor:
        """Return the factor of both parts' rows."""
        return merged([self, other])

    def spread(self, to: Matrix) -> Factor:
        """Return this factor in the coefficients b of which ``to @ b`` are this site's.

        ``to`` copies columns: it has one 1 in a column.
        """
        spread = [np.column_stack([r[:, :-1] @ to, r[:, -1]]) for r in (self.r, self._low)]
        r, low = doubled.triangle(*spread)
        return replace(self, r=r, low=low)

    @property
    def _low(self) -> Matrix:
        return np.zeros_like(self.r) if self.low is None else self.low

    @property
    def whole(self) -> doubled.Doubled:
        """R with what is below its last places."""
        return self.r, self._low


def merged(factors: Sequence[Factor]) -> Factor:
    """Return the factor of all parts' rows."""
    if len({factor.r.shape for factor in factors}) != 1:
        raise DocumentError("Two parts of a model have different columns.")
    parts = [factor.whole for factor in factors]
    r, low = doubled.triangle(np.vstack([p[0] for p in parts]), np.vstack([p[1] for p in parts]))
    n, constant = sum(f.n for f in factors), math.fsum(f.constant for f in factors)
    return Factor(n, r, constant, low)


def upper(rows: Matrix) -> Matrix:
    """Return the square R of a QR of rows, its diagonal not below zero."""
    width = rows.shape[1]
    if len(rows) < width:
        rows = np.vstack([rows, np.zeros((width - len(rows), width))])
    r = np.linalg.qr(rows, mode="r")
    return np.asarray(r * np.where(np.diag(r) < 0, -1.0, 1.0)[:, None])


def finish_linear(
    factor: Factor, *, intercept: bool = False, names: Sequence[str] | None = None
) -> Fit:
    """Return the least-squares fit of a merged factor. ``DocumentError`` when it is singular.

    ``intercept`` says whether the first column is one, for the null deviance.
    """
    p = factor.r.shape[1] - 1
    check_enough(factor.n, p)
    triangle, right = factor.r[:p, :p], factor.r[:p, p]
    coefficients, inverse = solve_triangle(triangle, right, names)
    whole = factor.whole
    coefficients = doubled.solve(
        (whole[0][:p, :p], whole[1][:p, :p]), (whole[0][:p, p], whole[1][:p, p]), inverse
    )
    deviance = float(factor.r[p, p]) ** 2
    dispersion = deviance / (factor.n - p)
    return Fit(
        "linear",
        factor.n,
        coefficients,
        inverse @ inverse.T * dispersion,
        dispersion,
        deviance,
        1,
        True,
        float(np.square(factor.r[int(intercept) :, p]).sum()),
        gaussian(factor.n, deviance, factor.constant),
    )


def score(factor: Factor, beta: Vector) -> Vector:
    """Return the score of a factor's rows: the columns' products with the residuals."""
    p = len(beta)
    r = factor.r[:p, :p]
    return np.asarray(r.T @ (factor.r[:p, p] - r @ beta), dtype=np.float64)


def solve_triangle(
    triangle: Matrix, right: Vector, names: Sequence[str] | None = None
) -> tuple[Vector, Matrix]:
    """Return the solution and the triangle's inverse; ``DocumentError`` when it is singular."""
    lengths = np.sqrt(np.square(triangle).sum(axis=0))
    left = np.abs(np.diag(triangle))
    for place in range(len(left)):
        if not lengths[place] > 0 or left[place] <= _SINGULAR_QR * lengths[place]:
            raise DocumentError(singular(place, names))
    scaled = triangle / lengths
    inverse = np.linalg.solve(scaled, np.eye(len(scaled))) / lengths[:, None]
    return np.asarray(np.linalg.solve(scaled, right) / lengths, dtype=np.float64), inverse


def gaussian(n: int, deviance: float, log_weights: float) -> float:
    if deviance <= 0:
        return math.inf
    return 0.5 * (log_weights - n * (math.log(2 * math.pi * deviance / n) + 1))

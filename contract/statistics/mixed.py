"""A linear model with a random intercept by site, from the sites' factors alone.

A site's R with the intercept first has the site's means in its first row and what is centred below.
A random intercept of variance ``ratio * sigma^2`` weighs that first row by 1 / sqrt(1 + n ratio),
and nothing else. So one round of sums gives the likelihood at every ratio, and the estimate is that
of all rows together.

Sources: Laird, Ware 1982; Harville 1977 (REML); Bates et al. 2015, lme4, section 3.4 (profiling).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from contract.errors import DocumentError
from contract.statistics.design import Matrix
from contract.statistics.fit import Fit
from contract.statistics.least_squares import Factor, solve_triangle, upper
from contract.statistics.regression import Vector

Method = Literal["reml", "ml"]
LEAST_SITES = 3
_NOTHING = 1e-26
"""The share of the squares that rounding leaves."""
_LARGEST = 1e8
"""The largest ratio of variances that is looked at."""


class _Counted(Protocol):
    @property
    def n(self) -> int: ...


def check_sites(parts: Sequence[_Counted]) -> None:
    """Raise ``DocumentError`` below three sites with rows."""
    if sum(part.n > 0 for part in parts) < LEAST_SITES:
        raise DocumentError(f"A random intercept needs {LEAST_SITES} sites with rows.")


@dataclass(frozen=True)
class Mixed:
    """The fit, and what the sites' intercepts vary by. ``fit.dispersion`` is the residual variance.

    ``effects`` are the sites' predicted deviations from the common intercept (BLUPs).
    """

    fit: Fit
    site_variance: float
    effects: Vector

    @property
    def intraclass_correlation(self) -> float:
        """The share of the variance that lies between sites."""
        return self.site_variance / (self.site_variance + self.fit.dispersion)


@dataclass(frozen=True)
class _Profile:
    coefficients: Vector
    inverse: Matrix
    deviance: float
    variance: float
    minus_two: float
    slope: float
    """Of ``minus_two`` in the ratio."""


def fit_random_intercept(
    factors: Sequence[Factor], method: Method = "reml", names: Sequence[str] | None = None
) -> Mixed:
    """Return the fit of sites' factors, of which the first column is the intercept.

    ``DocumentError`` below three sites with rows, and when the columns are singular.
    """
    from scipy.optimize import brentq

    check_sites(factors)
    held = [f for f in factors if f.n]
    n, p = sum(f.n for f in held), held[0].r.shape[1] - 1
    if n <= p:
        raise DocumentError("A model has as many coefficients as subjects.")
    degrees = n - p if method == "reml" else n

    def at(ratio: float) -> _Profile:
        weights = [1 / (1 + f.n * ratio) for f in held]
        rows = [
            np.vstack([f.r[:1] * math.sqrt(w), f.r[1:]]) for f, w in zip(held, weights, strict=True)
        ]
        r = upper(np.vstack(rows))
        coefficients, inverse = solve_triangle(r[:p, :p], r[:p, p], names)
        deviance = float(r[p, p]) ** 2
        if deviance <= _NOTHING * float(np.square(r[:, p]).sum()):
            raise DocumentError("The model explains the outcome perfectly.")
        minus_two = degrees * (1 + math.log(2 * math.pi * deviance / degrees))
        minus_two -= sum(math.log(w) for w in weights)
        if method == "reml":
            minus_two += 2 * float(np.log(np.diag(r)[:p]).sum())
        slope = 0.0
        for f, w in zip(held, weights, strict=True):
            residual = float(f.r[0, p] - f.r[0, :p] @ coefficients)
            slope += f.n * w - degrees / deviance * f.n * (residual * w) ** 2
            if method == "reml":
                slope -= f.n * w**2 * float(np.square(f.r[0, :p] @ inverse).sum())
        return _Profile(coefficients, inverse, deviance, deviance / degrees, minus_two, slope)

    grid = np.concatenate([[0.0], np.geomspace(1e-10, _LARGEST, 100)])
    looked = [at(float(ratio)) for ratio in grid]
    best = int(np.argmin([one.minus_two for one in looked]))
    ratio = float(grid[best])
    low, high = max(best - 1, 0), min(best + 1, len(grid) - 1)
    if looked[low].slope < 0 < looked[high].slope:
        ratio = float(brentq(lambda r: at(r).slope, grid[low], grid[high], xtol=1e-16, rtol=1e-14))
    profile = at(ratio)
    effects = []
    for f in factors:
        # A site's mean residual, shrunk towards zero.
        residual = float(f.r[0, p] - f.r[0, :p] @ profile.coefficients)
        mean = residual / f.r[0, 0] if f.n else 0.0
        effects.append(f.n * ratio / (1 + f.n * ratio) * mean)
    covariance = profile.inverse @ profile.inverse.T * profile.variance
    fit = Fit(
        "linear",
        n,
        profile.coefficients,
        covariance,
        profile.variance,
        profile.deviance,
        1,
        True,
        math.nan,
        -profile.minus_two / 2,
    )
    return Mixed(fit, ratio * profile.variance, np.array(effects))

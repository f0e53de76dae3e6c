"""Rubin's rules: one estimate out of those from each imputation.

Rubin 1987, *Multiple Imputation for Nonresponse in Surveys*, 3.1; degrees of freedom of small
samples by Barnard and Rubin 1999, Biometrika 86:948.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.errors import DocumentError
from contract.statistics import special


@dataclass(frozen=True)
class Pooled:
    """A figure pooled over imputations. Variances are squares of its unit."""

    estimate: float
    within: float
    """The mean of the imputations' own variances."""
    between: float
    """The variance of the imputations' estimates."""
    imputations: int
    degrees_of_freedom: float

    @property
    def variance(self) -> float:
        """The whole: within + (1 + 1 / m) between."""
        return self.within + (1 + 1 / self.imputations) * self.between

    @property
    def standard_error(self) -> float:
        """The square root of ``variance``."""
        return math.sqrt(self.variance)

    @property
    def missing_information(self) -> float:
        """The share of information that is missing: (r + 2 / (df + 3)) / (r + 1), r being the
        relative increase in variance and df Rubin's own, of large samples."""
        more = (1 + 1 / self.imputations) * self.between
        degrees = _degrees(self.within, self.between, self.imputations, math.inf)
        if not self.variance:
            return 0.0
        return (more + self.within * 2 / (degrees + 3)) / self.variance

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval, by Student's t."""
        quantile = _quantile(self.degrees_of_freedom, confidence)
        half = quantile * self.standard_error
        return self.estimate - half, self.estimate + half

    def p_value(self, null: float = 0.0) -> float:
        """Return the two-sided p value of the hypothesis that it is ``null``."""
        if self.variance == 0:
            return math.nan
        t = abs(self.estimate - null) / self.standard_error
        if math.isinf(self.degrees_of_freedom):
            return math.erfc(t / math.sqrt(2))
        return float(2 * special.stdtr(self.degrees_of_freedom, -t))


def pool(
    estimates: Sequence[float], variances: Sequence[float], complete: float = math.inf
) -> Pooled:
    """Return the pooled figure of two imputations or more.

    ``variances`` are the squared standard errors; ``complete`` the degrees of freedom that there
    would be without missing values, such as n - p of a regression. ``DocumentError`` for fewer
    than two, or for what is no variance.
    """
    q, u = np.array(estimates, dtype=np.float64), np.array(variances, dtype=np.float64)
    m = q.size
    if m < 2 or u.size != m:
        raise DocumentError("Rubin's rules pool two imputations or more, each with its variance.")
    if not np.isfinite(q).all() or not np.isfinite(u).all() or (u < 0).any():
        raise DocumentError("An imputation has no finite estimate, or no variance.")
    within, between = float(u.mean()), float(q.var(ddof=1))
    return Pooled(float(q.mean()), within, between, m, _degrees(within, between, m, complete))


def pool_vector(
    estimates: Sequence[NDArray[np.float64]],
    covariances: Sequence[NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return pooled coefficients and their covariance matrix: W + (1 + 1 / m) B."""
    q = np.stack(estimates)
    if len(q) < 2 or len(covariances) != len(q):
        raise DocumentError("Rubin's rules pool two imputations or more, each with its variance.")
    apart = q - q.mean(axis=0)
    between = apart.T @ apart / (len(q) - 1)
    return q.mean(axis=0), np.mean(np.stack(covariances), axis=0) + (1 + 1 / len(q)) * between


def _degrees(within: float, between: float, m: int, complete: float) -> float:
    whole = within + (1 + 1 / m) * between
    share = (1 + 1 / m) * between / whole if whole else 0.0
    old = (m - 1) / share / share if share > 1e-150 else math.inf
    if math.isinf(complete):
        return old
    observed = (complete + 1) / (complete + 3) * complete * (1 - share)
    if math.isinf(old):
        return observed
    return old * observed / (old + observed) if observed else 0.0


def _quantile(degrees: float, confidence: float) -> float:
    p = (1 + confidence) / 2
    # Beyond so many degrees of freedom Student's t is the normal distribution to all digits.
    return float(special.stdtrit(min(degrees, 1e10), p)) if degrees > 0 else math.inf

"""What a fitted model is, and the reasons for which there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.errors import DocumentError
from contract.statistics.design import Matrix

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """A fitted model: coefficients in the columns' order, their covariance, how it fits.

    The null model has the intercept (and offset) alone; of a Cox model its deviance is -2 log L.
    """

    family: str
    n: int
    coefficients: Vector
    covariance: Matrix
    dispersion: float
    deviance: float
    steps: int
    converged: bool
    null_deviance: float = math.nan
    log_likelihood: float = math.nan
    events: int = 0
    """Of a Cox model."""
    score_test: float = math.nan
    """Of a Cox model: chi-squared of the score test that all coefficients are zero."""
    proportionality: tuple[float, ...] = ()
    """Of a Cox model: chi-squared that each coefficient changes with time, and last of all."""
    pairs: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Of a Cox model: how many pairs within strata are concordant, discordant, tied."""
    site_variance: float = math.nan
    """Of a random intercept by site."""
    site_effects: tuple[float, ...] = ()
    """Sites' deviations from the common intercept: predicted if random; if fixed, from the first
    site's."""
    effects_fitted: int = 0
    """How many fixed effects of sites were estimated beside the coefficients."""
    each: tuple[Fit | str, ...] = ()
    """Each site's own fit, or why there is none; the coefficients are then pooled ones."""
    robust: Matrix | None = None
    """The robust covariance, where it was asked."""
    clusters: int = 0
    """Of standard errors by site: how many sites have rows."""

    @property
    def concordance(self) -> float:
        """Harrell's C within strata, ties for a half."""
        concordant, discordant, tied = self.pairs
        total = concordant + discordant + tied
        return (concordant + tied / 2) / total if total else math.nan

    @property
    def standard_errors(self) -> Vector:
        """The square roots of the covariance's diagonal: by the information, whatever is robust."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def vcov(self) -> Matrix:
        """The covariance that intervals and tests are by: the robust one, where it was asked."""
        return self.covariance if self.robust is None else self.robust

    @property
    def errors(self) -> Vector:
        """The standard errors that intervals and tests are by."""
        return np.sqrt(np.maximum(np.diag(self.vcov), 0.0))

    @property
    def residual_degrees(self) -> int:
        """Rows less coefficients, sites' effects among them."""
        return self.n - len(self.coefficients) - self.effects_fitted

    @property
    def parameters(self) -> int:
        """How many were estimated, variances among them."""
        fixed = len(self.coefficients) + self.effects_fitted
        return fixed + (self.family in ("linear", "gamma")) + (not math.isnan(self.site_variance))

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return 2 * self.parameters - 2 * self.log_likelihood

    @property
    def bic(self) -> float:
        """Schwarz' criterion; of a Cox model with the events for rows."""
        return math.log(self.events or self.n) * self.parameters - 2 * self.log_likelihood


def check_weights(weights: Vector) -> None:
    if (weights <= 0).any():
        raise DocumentError("Weights must be above zero.")


def check_enough(n: int, coefficients: int) -> None:
    if n <= coefficients:
        raise DocumentError("A model has as many coefficients as subjects.")


def singular(place: int, names: Sequence[str] | None) -> str:
    which = names[place] if names else f"number {place + 1}"
    return f"A model is singular: column {which} is empty, constant, or follows from the others."

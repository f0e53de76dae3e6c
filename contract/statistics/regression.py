"""Regression over sites: generalised linear models by federated IRLS, linear ones by merged QR.

A site sends sums over its rows only. Merged, they are those of the pooled rows, so that the
estimate is the pooled maximum-likelihood one.

Sources: Nelder, Wedderburn 1972 (IRLS); McCullagh, Nelder 1989; Golub, Van Loan, Matrix
computations, 5.3 (least squares by QR, whose stacked factors have the same R).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from contract.errors import DocumentError
from contract.statistics.design import Matrix

Vector = NDArray[np.float64]
Family = Literal["linear", "logistic", "poisson", "gamma"]
SMALLEST_STEP = 1e-10
"""Steps end when no coefficient moves by more, in standard errors of its own. To stop when the
deviance changes by 1e-8 of itself, which is usual, would leave 1e-7 in the coefficients."""
MOST_STEPS = 40
_SINGULAR = 1e-11


@dataclass(frozen=True)
class Sums:
    """A site's sums at given coefficients, or all sites' together.

    ``information`` is X'WX and ``score`` X'W(y - mu)/(dmu/deta); ``deviance`` that of the
    coefficients; ``pearson`` the sum of (y - mu)^2 / V(mu).
    """

    n: int
    information: Matrix
    score: Vector
    deviance: float
    pearson: float

    def merge(self, other: Sums) -> Sums:
        """Return the sums over both parts' rows."""
        if self.score.shape != other.score.shape:
            raise DocumentError("Two parts of a model have different columns.")
        return Sums(
            self.n + other.n,
            self.information + other.information,
            self.score + other.score,
            self.deviance + other.deviance,
            self.pearson + other.pearson,
        )


@dataclass(frozen=True)
class Factor:
    """A site's part of a linear model, or all sites': the R of a QR of (X, y), and ``n``."""

    n: int
    r: Matrix

    @classmethod
    def of(cls, x: Matrix, y: Vector) -> Factor:
        """Return the local half. Its diagonal is not below zero, so that it is unique."""
        return cls(len(y), _upper(np.column_stack([x, y])))

    def merge(self, other: Factor) -> Factor:
        """Return the factor of both parts' rows."""
        if self.r.shape != other.r.shape:
            raise DocumentError("Two parts of a model have different columns.")
        return Factor(self.n + other.n, _upper(np.vstack([self.r, other.r])))


def _upper(rows: Matrix) -> Matrix:
    width = rows.shape[1]
    if len(rows) < width:
        rows = np.vstack([rows, np.zeros((width - len(rows), width))])
    r = np.linalg.qr(rows, mode="r")
    return np.asarray(r * np.where(np.diag(r) < 0, -1.0, 1.0)[:, None])


@dataclass(frozen=True)
class Fit:
    """A fitted model: coefficients in the columns' order, their covariance, how it fits."""

    family: Family
    n: int
    coefficients: Vector
    covariance: Matrix
    dispersion: float
    deviance: float
    steps: int
    converged: bool

    @property
    def standard_errors(self) -> Vector:
        """The square roots of the covariance's diagonal."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def residual_degrees(self) -> int:
        """Rows less coefficients."""
        return self.n - len(self.coefficients)


def finish_linear(factor: Factor) -> Fit:
    """Return the least-squares fit of a merged factor. ``DocumentError`` when it is singular."""
    p = factor.r.shape[1] - 1
    if factor.n <= p:
        raise DocumentError("A model has as many coefficients as subjects.")
    upper, right = factor.r[:p, :p], factor.r[:p, p]
    _check_rank(np.abs(np.diag(upper)))
    coefficients = np.asarray(np.linalg.solve(upper, right), dtype=np.float64)
    inverse = np.linalg.solve(upper, np.eye(p))
    deviance = float(factor.r[p, p]) ** 2
    dispersion = deviance / (factor.n - p)
    covariance = inverse @ inverse.T * dispersion
    return Fit("linear", factor.n, coefficients, covariance, dispersion, deviance, 1, True)


def sums(family: Family, x: Matrix, y: Vector, beta: Vector) -> Sums:
    """Return a site's sums at ``beta``. ``DocumentError`` for an outcome that can't be."""
    _check_outcome(family, y)
    eta = x @ beta
    mu, weight, residual = _at(family, eta, y)
    return Sums(
        len(y),
        (x * weight[:, None]).T @ x,
        x.T @ residual,
        float(_deviance(family, y, mu).sum()),
        float(((y - mu) ** 2 / _variance(family, mu)).sum()),
    )


def _check_outcome(family: Family, y: Vector) -> None:
    wrong = {
        "logistic": bool(((y != 0) & (y != 1)).any()),
        "poisson": bool((y < 0).any()),
        "gamma": bool((y <= 0).any()),
    }.get(family, False)
    if wrong:
        raise DocumentError(f"An outcome has values that a {family} model can't have.")


def _at(family: Family, eta: Vector, y: Vector) -> tuple[Vector, Vector, Vector]:
    """Return mu, the weights of the information and the terms of the score."""
    match family:
        case "logistic":
            mu = 0.5 * (1 + np.tanh(eta / 2))
            mu = np.clip(mu, 1e-300, 1 - 1e-16)
            return mu, mu * (1 - mu), y - mu
        case "poisson":
            mu = np.exp(np.clip(eta, -700, 700))
            return mu, mu, y - mu
        case "gamma":  # with the logarithmic link
            mu = np.exp(np.clip(eta, -700, 700))
            return mu, np.ones_like(mu), (y - mu) / mu
        case _:
            return eta, np.ones_like(eta), y - eta


def _variance(family: Family, mu: Vector) -> Vector:
    match family:
        case "logistic":
            return mu * (1 - mu)
        case "poisson":
            return mu
        case "gamma":
            return mu**2
        case _:
            return np.ones_like(mu)


def _deviance(family: Family, y: Vector, mu: Vector) -> Vector:
    with np.errstate(divide="ignore", invalid="ignore"):
        match family:
            case "logistic":
                return -2 * np.where(y > 0.5, np.log(mu), np.log1p(-mu))
            case "poisson":
                return 2 * (np.where(y > 0, y * np.log(y / mu), 0.0) - (y - mu))
            case "gamma":
                return 2 * ((y - mu) / mu - np.log(y / mu))
            case _:
                return (y - mu) ** 2


@dataclass(frozen=True)
class State:
    """Where the steps of a model are: the coefficients to ask next, and what they were before."""

    beta: Vector
    before: Sums | None = None
    step: int = 0
    halvings: int = 0
    direction: Vector | None = None


def start(width: int) -> State:
    """Return the first coefficients: all zero."""
    return State(np.zeros(width))


def advance(family: Family, state: State, merged: Sums) -> State | Fit:
    """Return the next coefficients, or the fit once they stay.

    A step after which the deviance rises is halved. ``DocumentError`` when the information is
    singular; a fit whose steps don't end (perfect separation) says that it hasn't converged.
    """
    before = state.before
    if before is not None:
        rising = merged.deviance - before.deviance > 1e-9 * (abs(before.deviance) + 0.1)
        if (rising or not np.isfinite(merged.deviance)) and state.halvings < 30:
            assert state.direction is not None
            smaller = state.direction / 2
            return State(state.beta - smaller, before, state.step, state.halvings + 1, smaller)
    direction = _solve(merged.information, merged.score)
    moved = float(np.max(np.abs(direction) * np.sqrt(np.diag(merged.information))))
    if moved < SMALLEST_STEP or state.step >= MOST_STEPS:
        return _finish(family, state, merged, converged=moved < SMALLEST_STEP)
    return State(state.beta + direction, merged, state.step + 1, 0, direction)


def _finish(family: Family, state: State, merged: Sums, *, converged: bool) -> Fit:
    p = len(state.beta)
    if merged.n <= p:
        raise DocumentError("A model has as many coefficients as subjects.")
    dispersion = merged.pearson / (merged.n - p) if family in ("linear", "gamma") else 1.0
    covariance = _inverse(merged.information) * dispersion
    return Fit(
        family,
        merged.n,
        state.beta,
        covariance,
        dispersion,
        merged.deviance,
        state.step,
        converged,
    )


def _scaled(information: Matrix) -> tuple[Matrix, Vector]:
    """Return the information with a diagonal of ones, and what it was scaled by."""
    scale = np.sqrt(np.diag(information))
    if not np.isfinite(information).all() or (scale <= 0).any():
        raise DocumentError("A model is singular: a column is constant or empty.")
    return information / np.outer(scale, scale), scale


def _solve(information: Matrix, score: Vector) -> Vector:
    scaled, scale = _scaled(information)
    _check_rank(np.asarray(np.linalg.eigvalsh(scaled), dtype=np.float64))
    return np.asarray(np.linalg.solve(scaled, score / scale) / scale)


def _inverse(information: Matrix) -> Matrix:
    scaled, scale = _scaled(information)
    return np.asarray(np.linalg.inv(scaled) / np.outer(scale, scale))


def _check_rank(sizes: Vector) -> None:
    if sizes.min() <= _SINGULAR * sizes.max():
        raise DocumentError("A model is singular: a column follows from the others.")

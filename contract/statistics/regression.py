"""Regression over sites: generalised linear models by federated IRLS.

A site sends sums over its rows only. Merged, they are those of the pooled rows, so that the
estimate is the pooled maximum-likelihood one. Weights are prior weights, as those of R's ``glm``.

Sources: Nelder, Wedderburn 1972 (IRLS); McCullagh, Nelder 1989.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from contract.errors import DocumentError
from contract.statistics import special
from contract.statistics.design import Matrix
from contract.statistics.fit import Fit, check_enough, check_weights, singular
from contract.statistics.least_squares import gaussian

Vector = NDArray[np.float64]
Family = Literal["linear", "logistic", "poisson", "gamma"]
Link = Literal["log", "inverse"]
"""Of a gamma model."""
SMALLEST_STEP = 1e-10
"""Steps end when no coefficient moves by more, in standard errors of its own. To stop when the
deviance changes by 1e-8 of itself, which is usual, would leave 1e-7 in the coefficients."""
ROUNDING = 1e-7
"""Steps below it that get no smaller are rounding: sums over large counts have no more digits."""
MOST_STEPS = 40
_MOST_SLOW = 8
"""Newton's steps get smaller quadratically. If so many are small and they still don't end, the
likelihood has no maximum (separation). Of a gamma model, whose link isn't the canonical one, they
get smaller by a factor."""
_SLOW = 0.1
_NEARLY = 1e-4
"""If the last step of all that a gamma model may take is smaller, it is as near as R's usually."""
_SINGULAR = 1e-11
IMPOSSIBLE = 1e200
"""The deviance of coefficients at which a model isn't defined, or its sums could overflow: the step
that led there is halved."""

UNDEFINED = DocumentError(
    "The model's steps lead to where it isn't defined: something may tell the outcome apart, or "
    "the dictionary's ranges are far too wide."
)


@dataclass(frozen=True)
class Sums:
    """A site's sums at given coefficients, or all sites' together.

    ``information`` is X'WX and ``score`` X'W(y - mu)/(dmu/deta); ``deviance`` that of the
    coefficients; ``pearson`` the sum of (y - mu)^2 / V(mu). ``weight`` is the sum of weights.
    ``constant`` is what the log-likelihood has beside: of a Poisson model that of the saturated
    one, of a gamma model the sum of log y.
    """

    n: int
    information: Matrix
    score: Vector
    deviance: float
    pearson: float
    weight: float = 0.0
    constant: float = 0.0

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
            self.weight + other.weight,
            self.constant + other.constant,
        )

    def spread(self, to: Matrix) -> Sums:
        """Return these sums in the coefficients b of which ``to @ b`` are this site's."""
        return replace(self, information=to.T @ self.information @ to, score=to.T @ self.score)


def sums(
    family: Family,
    x: Matrix,
    y: Vector,
    beta: Vector,
    weights: Vector | None = None,
    offset: Vector | None = None,
    link: Link = "log",
    observe: Callable[[Vector], None] = lambda _: None,
) -> Sums:
    """Return a site's sums at ``beta``. ``DocumentError`` for an outcome that can't be.

    ``observe`` is told what each row weighs in the information.
    """
    _check_outcome(family, y)
    w = np.ones(len(y)) if weights is None else weights
    check_weights(w)
    eta = x @ beta
    if offset is not None:
        eta = eta + offset
    defined = not (family == "gamma" and link == "inverse" and bool((eta <= 0).any()))
    if not defined:
        eta = np.ones_like(eta)
    mu, weight, residual = _at(family, eta, y, link)
    observe(w * weight)
    return Sums(
        len(y),
        (x * (w * weight)[:, None]).T @ x,
        x.T @ (w * residual),
        float(w @ _deviance(family, y, mu)) if defined else IMPOSSIBLE,
        float(w @ ((y - mu) ** 2 / _variance(family, mu))),
        float(w.sum()),
        _constant(family, y, w),
    )


def scores(
    family: Family,
    x: Matrix,
    y: Vector,
    beta: Vector,
    weights: Vector | None = None,
    offset: Vector | None = None,
    link: Link = "log",
) -> tuple[Matrix, Vector]:
    """Return the rows' parts of the score at ``beta``, and what multiplies each row's columns."""
    eta = x @ beta if offset is None else x @ beta + offset
    if family == "gamma" and link == "inverse" and bool((eta <= 0).any()):
        raise UNDEFINED
    by = _at(family, eta, y, link)[2]
    if weights is not None:
        by = by * weights
    return x * by[:, None], by


def log_likelihood(family: Family, eta: Vector, y: Vector) -> Vector:
    """Return rows' log-likelihoods, of logistic and Poisson models."""
    if family == "logistic":
        return np.asarray(y * eta - np.logaddexp(0, eta), dtype=np.float64)
    return np.asarray(y * eta - np.exp(eta) - special.gammaln(y + 1), dtype=np.float64)


def slopes(family: Family, eta: Matrix, y: Matrix) -> tuple[Matrix, Matrix]:
    """Return the log-likelihood's derivatives in the predictor, and less the second ones.

    Of logistic and Poisson models, whose links are the canonical ones.
    """
    _, weight, residual = _at(family, eta, y, "log")
    return residual, weight


def impossible(n: int, width: int) -> Sums:
    """Return the part of a site at coefficients from which a step must turn back."""
    return Sums(n, np.eye(width), np.zeros(width), IMPOSSIBLE, 1.0)


def _check_outcome(family: Family, y: Vector) -> None:
    wrong = {
        "logistic": bool(((y != 0) & (y != 1)).any()),
        "poisson": bool((y < 0).any()),
        "gamma": bool((y <= 0).any()),
    }.get(family, False)
    if wrong:
        raise DocumentError(f"An outcome has values that a {family} model can't have.")


def _at(family: Family, eta: Vector, y: Vector, link: Link) -> tuple[Vector, Vector, Vector]:
    """Return mu, the weights of the information and the terms of the score."""
    match family:
        case "logistic":
            mu = 0.5 * (1 + np.tanh(eta / 2))
            mu = np.clip(mu, 1e-300, 1 - 1e-16)
            return mu, mu * (1 - mu), y - mu
        case "poisson":
            mu = np.exp(eta)
            return mu, mu, y - mu
        case "gamma" if link == "inverse":
            mu = 1 / eta
            return mu, mu**2, mu - y
        case "gamma":
            mu = np.exp(eta)
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


def _constant(family: Family, y: Vector, weights: Vector) -> float:
    match family:
        case "poisson":
            return float(weights @ (special.xlogy(y, y) - y - special.gammaln(y + 1)))
        case "gamma":
            return float(weights @ np.log(y))
        case _:
            return 0.0


def _log_likelihood(family: str, merged: Sums) -> float:
    deviance, weight = merged.deviance, merged.weight
    match family:
        case "poisson":
            return merged.constant - deviance / 2
        case "gamma":
            # As R's: at the dispersion deviance / weight.
            if deviance <= 0:
                return math.inf
            shape = weight / deviance
            scaled = deviance / 2 + weight + merged.constant
            return float(
                (shape - 1) * merged.constant
                - shape * scaled
                + weight * (shape * math.log(shape) - special.gammaln(shape))
            )
        case "linear":
            return gaussian(merged.n, deviance, 0.0)
        case _:
            return -deviance / 2


@dataclass(frozen=True)
class Setting:
    """What steps must know of a model beside its family.

    ``intercept``: whether the first column is one; the steps then go by the null model.
    """

    intercept: bool = False
    offset: bool = False
    link: Link = "log"
    names: tuple[str, ...] | None = None
    """The columns', for messages."""


@dataclass(frozen=True)
class State:
    """Where the steps of a model are: the coefficients to ask next, and what they were before."""

    beta: Vector
    before: Sums | None = None
    step: int = 0
    halvings: int = 0
    direction: Vector | None = None
    null_deviance: float = math.nan
    score_test: float = math.nan
    slow: int = 0
    """How many steps have been small already."""


def start(width: int, link: Link = "log") -> State:
    """Return the first coefficients: all zero, but where that is no model."""
    beta = np.zeros(width)
    if link == "inverse":
        beta[0] = 1.0
    return State(beta)


def advance(family: str, state: State, merged: Sums, setting: Setting = Setting()) -> State | Fit:
    """Return the next coefficients, or the fit once they stay. ``family`` is a model's, or cox.

    A step after which the deviance rises is halved. ``DocumentError`` when the information is
    singular; a fit whose steps don't end (perfect separation) says that it hasn't converged.
    """
    if math.isnan(state.null_deviance):
        found = _towards_null(family, state, merged, setting)
        if isinstance(found, State):
            return found
        score_test = math.nan
        if family == "cox":
            if not merged.pearson:
                raise DocumentError("No site has an event: nothing to explain.")
            score_test = float(merged.score @ _solve(merged, setting.names))
        state = replace(state, null_deviance=found, before=None, score_test=score_test)
    before = state.before
    if before is not None:
        rising = merged.deviance - before.deviance > 1e-9 * (abs(before.deviance) + 0.1)
        if (rising or not np.isfinite(merged.deviance)) and state.halvings < 30:
            assert state.direction is not None
            smaller = state.direction / 2
            return replace(
                state,
                beta=state.beta - smaller,
                halvings=state.halvings + 1,
                direction=smaller,
            )
    if merged.deviance >= IMPOSSIBLE:
        raise UNDEFINED
    direction = _solve(merged, setting.names)
    scale = np.sqrt(np.diag(merged.information))
    moved = float(np.max(np.abs(direction) * scale))
    slow = state.slow + (moved < _SLOW and family != "gamma")
    stays = is_end(moved, state, scale, quadratic=family != "gamma")
    if stays or state.step >= MOST_STEPS or slow > _MOST_SLOW:
        nearly = family == "gamma" and moved < _NEARLY
        return _finish(family, state, merged, setting, converged=stays or nearly)
    return replace(
        state,
        beta=state.beta + direction,
        before=merged,
        step=state.step + 1,
        halvings=0,
        direction=direction,
        slow=slow,
    )


def is_end(moved: float, state: State, scale: Vector, *, quadratic: bool = True) -> bool:
    """Say whether coefficients stay that would move by so many standard errors.

    ``scale`` makes standard errors of the step before. ``quadratic`` steps get smaller by more than
    a factor, until they are rounding.
    """
    if moved < SMALLEST_STEP:
        return True
    if not quadratic or state.direction is None or len(state.direction) != len(scale):
        return False
    return moved < ROUNDING and moved > float(np.max(np.abs(state.direction) * scale)) / 10


def _towards_null(family: str, state: State, merged: Sums, setting: Setting) -> State | float:
    """Return a step of the intercept alone, or the null model's deviance when it is there."""
    if not setting.intercept or family in ("cox", "linear"):
        return merged.deviance
    if merged.deviance >= IMPOSSIBLE:
        raise UNDEFINED
    if state.step == 0:
        intercept = _intercept(family, merged, setting)
    else:
        spread = math.sqrt(merged.information[0, 0])
        by = float(merged.score[0]) / spread**2
        if not setting.offset or abs(by) * spread < SMALLEST_STEP or state.step >= MOST_STEPS:
            return merged.deviance
        intercept = float(state.beta[0]) + by
    beta = np.zeros_like(state.beta)
    beta[0] = intercept
    return replace(state, beta=beta, step=state.step + 1)


def _intercept(family: str, merged: Sums, setting: Setting) -> float:
    """Return the null model's intercept from the sums at the start; with an offset nearly."""
    score, information = float(merged.score[0]), float(merged.information[0, 0])
    if not information > 0:
        raise DocumentError("No site has a row for the model.")
    match family:
        case "logistic":
            if setting.offset:
                return score / information
            share = 0.5 + score / merged.weight
            if not 1e-12 < share < 1 - 1e-12:
                raise DocumentError("The outcome is the same for all rows: nothing to explain.")
            return math.log(share / (1 - share))
        case "poisson":
            mean = 1 + score / information
            if mean <= 0:
                raise DocumentError("The outcome is zero for all rows: nothing to explain.")
            return math.log(mean)
        case _:
            if setting.link == "inverse":
                return 1 / (1 - score / merged.weight)
            return math.log(1 + score / merged.weight)


def _finish(family: str, state: State, merged: Sums, setting: Setting, *, converged: bool) -> Fit:
    p = len(state.beta)
    check_enough(merged.n, p)
    dispersion = merged.pearson / (merged.n - p) if family in ("linear", "gamma") else 1.0
    return Fit(
        family,
        merged.n,
        state.beta,
        _inverse(merged, setting.names) * dispersion,
        dispersion,
        merged.deviance,
        state.step,
        converged,
        state.null_deviance,
        _log_likelihood(family, merged),
        round(merged.pearson) if family == "cox" else 0,
        state.score_test,
    )


def _scaled(merged: Sums, names: Sequence[str] | None) -> tuple[Matrix, Vector]:
    """Return the information with a diagonal of ones, and what it was scaled by."""
    information = merged.information
    if not np.isfinite(information).all():
        raise DocumentError("A model's sums overflow: its coefficients don't stay in range.")
    scale = np.sqrt(np.diag(information))
    for place in range(len(scale)):
        if not scale[place] > 0:
            raise DocumentError(singular(place, names))
    return information / np.outer(scale, scale), scale


def _solve(merged: Sums, names: Sequence[str] | None) -> Vector:
    scaled, scale = _scaled(merged, names)
    sizes, vectors = np.linalg.eigh(scaled)
    if sizes[0] <= _SINGULAR * sizes[-1]:
        # Of the columns that make the dependency the last, as a reader would leave it out.
        part = np.abs(vectors[:, 0])
        raise DocumentError(singular(int(np.flatnonzero(part > 1e-4)[-1]), names))
    return np.asarray(np.linalg.solve(scaled, merged.score / scale) / scale)


def _inverse(merged: Sums, names: Sequence[str] | None) -> Matrix:
    scaled, scale = _scaled(merged, names)
    return np.asarray(np.linalg.inv(scaled) / np.outer(scale, scale))

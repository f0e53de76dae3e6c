"""Logistic and Poisson models with a random intercept by site: a site's part, and the steps.

All rows of a site share one intercept b = sigma u, of which u is standard normal. So a site's
likelihood is an integral over one number, which the site works out itself by adaptive Gauss-Hermite
quadrature; sites' logarithms add up. Their derivatives follow from what the rows' are on average
over u, given the outcomes: the score is the mean of the joint one, the information the mean of the
joint one less the joint score's variance. Newton's steps are in the coefficients and in sigma,
whose sign means nothing: where sites don't differ it goes to zero.

Sources: Pinheiro, Bates 1995 (the quadrature; R's ``glmer`` with ``nAGQ = 25`` has the same
maximum); Louis 1982 (the information).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from contract.errors import DocumentError
from contract.statistics.design import Matrix
from contract.statistics.fit import Fit, check_enough, singular
from contract.statistics.regression import (
    IMPOSSIBLE,
    MOST_STEPS,
    UNDEFINED,
    Family,
    State,
    Sums,
    Vector,
    is_end,
    log_likelihood,
    slopes,
)

Block = tuple[Matrix, Vector, Vector | None]
NODES = 25
FIRST_SIGMA = 0.5
"""Of the first step; where sigma is zero the likelihood is level in it."""
SMALL = 0.1
"""Of the pooled fit's steps, in standard errors."""
NO_DIFFERENCE = 1e-4
"""A sigma below it is zero: the likelihood at its maximum doesn't tell it from that."""
LARGEST_SIGMA = 20.0
APART = DocumentError(
    "Sites' intercepts differ without end: at some of them the outcome is the same for all."
)
_MOST_HALVINGS = 30
_MODE_STEPS = 50
_SINGULAR = 1e-11


def sums(
    family: Family,
    blocks: Callable[[], Iterable[Block]],
    width: int,
    beta: Vector,
    observe: Callable[[Vector], None] = lambda _: None,
) -> Sums:
    """Return a site's sums at ``beta``, the coefficients and last sigma.

    ``blocks`` yields its rows' columns, outcomes and offsets, some at once. ``deviance`` is -2 log
    L. ``observe`` is told what rows weigh in the information, on average over u.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # as where a step must turn back
        return _Site(family, blocks, width, beta, observe).sums()


class _Site:
    def __init__(
        self,
        family: Family,
        blocks: Callable[[], Iterable[Block]],
        width: int,
        beta: Vector,
        observe: Callable[[Vector], None],
    ) -> None:
        self._family, self._blocks, self._width = family, blocks, width
        self._beta, self._sigma = beta[:width], float(beta[width])
        self._observe = observe
        self._rows = [
            (x @ self._beta if offset is None else x @ self._beta + offset, y)
            for x, y, offset in blocks()
        ]

    def _at(self, shift: float) -> tuple[float, float, float]:
        """Return the log-likelihood with the intercept moved, and its two derivatives."""
        told = [0.0, 0.0, 0.0]
        for eta, y in self._rows:
            residual, weight = slopes(self._family, eta + shift, y)
            told[0] += float(log_likelihood(self._family, eta + shift, y).sum())
            told[1] += float(residual.sum())
            told[2] += float(weight.sum())
        return told[0], told[1], told[2]

    def _mode(self) -> tuple[float, float]:
        """Return the u that is likeliest given the outcomes, and how far others lie from it."""
        sigma, u = self._sigma, 0.0
        log, first, second = self._at(0.0)
        best = log
        for _ in range(_MODE_STEPS):
            step = (sigma * first - u) / (sigma**2 * second + 1)
            # The logarithm is concave; a step that overshoots is halved.
            for _ in range(_MOST_HALVINGS):
                log, first, second = self._at(sigma * (u + step))
                if log - (u + step) ** 2 / 2 >= best - 1e-12 * abs(best):
                    break
                step /= 2
            u += step
            best = log - u**2 / 2
            if abs(step) < 1e-10:
                break
        return u, 1 / math.sqrt(sigma**2 * second + 1)

    def _gained(self, shift: float, by: Vector) -> Vector:
        """Return what the log-likelihood gains where the intercept, moved by ``shift``, moves on.

        As small terms of each row, for differences of the whole would lose their digits.
        """
        found = np.zeros(len(by))
        for eta, y in self._rows:
            residual, _ = slopes(self._family, eta + shift, y)
            mu, grown = y - residual, np.expm1(by)
            found += float(residual.sum()) * by
            if self._family == "poisson":
                found -= float(mu.sum()) * (grown - by)
            else:
                found -= (np.log1p(mu[:, None] * grown) - mu[:, None] * by).sum(axis=0)
        return found

    def sums(self) -> Sums:
        n = sum(len(y) for _, y in self._rows)
        width, sigma = self._width, self._sigma
        if not n:
            side = width + 1
            return Sums(0, np.zeros((side, side)), np.zeros(side), 0.0, 0.0)
        z, w = np.polynomial.hermite.hermgauss(NODES)
        mode, spread = self._mode()
        u = mode + math.sqrt(2) * spread * z
        gained = self._gained(sigma * mode, sigma * (u - mode))
        logs = gained - (u**2 - mode**2) / 2 + z**2 + np.log(w)
        beyond = float(np.logaddexp.reduce(logs))
        share = np.exp(logs - beyond)
        log = self._at(sigma * mode)[0] - mode**2 / 2 + beyond
        log += math.log(spread / math.sqrt(math.pi))
        score = np.zeros((width + 1, NODES))
        information = np.zeros((width + 1, width + 1))
        for (eta, y), (x, _, _) in zip(self._rows, self._blocks(), strict=True):
            residual, weight = slopes(self._family, eta[:, None] + sigma * u, y[:, None])
            score[:width] += x.T @ residual
            score[width] += u * residual.sum(axis=0)
            mean = weight @ share
            self._observe(mean)
            information[:width, :width] += (x * mean[:, None]).T @ x
            information[:width, width] += x.T @ (weight @ (share * u))
            information[width, width] += float(weight.sum(axis=0) @ (share * u**2))
        information[width, :width] = information[:width, width]
        expected = score @ share
        apart = score - expected[:, None]
        information -= (apart * share) @ apart.T
        if not (math.isfinite(log) and np.isfinite(information).all()):
            return impossible(n, width)
        return Sums(n, information, expected, -2 * log, 0.0)


def impossible(n: int, width: int) -> Sums:
    """Return the part of a site at coefficients from which a step must turn back."""
    return Sums(n, np.eye(width + 1), np.zeros(width + 1), IMPOSSIBLE, 0.0)


def begin(pooled: State | Fit, merged: Sums) -> State:
    """Return the first coefficients with a sigma once the pooled fit's steps are small.

    ``merged`` is of the step that led to ``pooled``. Not where the pooled fit has ended: sites may
    see that a step apart, by the last digit, and are to go on together.
    """
    if isinstance(pooled, Fit):
        return State(np.append(pooled.coefficients, FIRST_SIGMA), step=pooled.steps)
    if pooled.direction is None or pooled.halvings:
        return pooled
    moved = np.abs(pooled.direction) * np.sqrt(np.abs(np.diag(merged.information)))
    if float(moved.max(initial=0.0)) > SMALL:
        return pooled
    return State(np.append(pooled.beta, FIRST_SIGMA), step=pooled.step)


def advance(family: str, state: State, merged: Sums, names: tuple[str, ...] | None) -> State | Fit:
    """Return the next coefficients, or the fit once they stay.

    Away from the maximum the information may not be positive: its eigenvalues' sizes are taken, so
    that a step still leads up. A step after which the deviance rises is halved.
    """
    if state.before is not None and not merged.deviance <= state.before.deviance + 1e-11 * abs(
        state.before.deviance
    ):
        if state.halvings >= _MOST_HALVINGS or state.direction is None:
            raise UNDEFINED
        smaller = state.direction / 2
        return replace(
            state,
            beta=state.beta - smaller,
            direction=smaller,
            halvings=state.halvings + 1,
        )
    if merged.deviance >= IMPOSSIBLE:
        raise UNDEFINED
    if abs(state.beta[-1]) > LARGEST_SIGMA:
        raise APART
    scale = np.sqrt(np.maximum(np.abs(np.diag(merged.information)), 1e-300))
    sizes, vectors = np.linalg.eigh(merged.information / np.outer(scale, scale))
    sizes = np.abs(sizes)
    if sizes.min() <= _SINGULAR * sizes.max():
        part = np.abs(vectors[:-1, int(sizes.argmin())])
        raise DocumentError(singular(int(part.argmax()), names))
    direction = (vectors @ ((vectors.T @ (merged.score / scale)) / sizes)) / scale
    sigma = float(state.beta[-1])
    reach = abs(sigma) / 2 + FIRST_SIGMA
    if abs(direction[-1]) > reach:
        direction = direction * (reach / abs(direction[-1]))
    moved = float(np.max(np.abs(direction) * scale))
    stays = is_end(moved, state, scale)
    if stays or state.step >= MOST_STEPS:
        return _finish(family, state, merged, converged=stays)
    return replace(
        state,
        beta=state.beta + direction,
        before=merged,
        step=state.step + 1,
        halvings=0,
        direction=direction,
    )


def _finish(family: str, state: State, merged: Sums, *, converged: bool) -> Fit:
    width = len(state.beta) - 1
    check_enough(merged.n, width)
    sigma = float(state.beta[width])
    if abs(sigma) < NO_DIFFERENCE:
        covariance = np.linalg.inv(merged.information[:width, :width])
        sigma = 0.0
    else:
        covariance = np.linalg.inv(merged.information)[:width, :width]
    return Fit(
        family,
        merged.n,
        state.beta[:width],
        np.asarray(covariance, dtype=np.float64),
        1.0,
        merged.deviance,
        state.step,
        converged,
        log_likelihood=-merged.deviance / 2,
        site_variance=sigma**2,
    )

"""Whether predicted probabilities are right, from merged figures by bins of the prediction.

Brier's score, the mean prediction and calibration in the large need only the moments of the
prediction among those with the outcome and those without, and are then exact. The table, the slope
and Hosmer and Lemeshow's test are made of bins: in each the prediction is the bin's middle, or its
mean where moments by bin were asked for. ``brier_of_bins`` bounds what the bins can have changed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from contract.errors import DocumentError
from contract.statistics import special
from contract.statistics.estimates import (
    CONFIDENCE,
    NOISY,
    Estimate,
    HypothesisTest,
    Table,
    about,
    cells,
    chi_squared_p,
    undefined,
    z_quantile,
)
from contract.statistics.proportions import wilson
from contract.statistics.summaries import Moments

_NEAREST = 1e-6
"""A prediction nearer than this to 0 or 1 counts as that far from it, for its logit."""


@dataclass(frozen=True)
class CalibrationBin:
    """One bin of the prediction: what was predicted and what happened, with Wilson's interval."""

    low: float
    high: float
    n: float
    events: float
    predicted: float
    observed: Estimate


@dataclass(frozen=True)
class Calibration:
    """A calibration table and what follows from it.

    ``ratio``: observed over expected events. ``intercept``: calibration in the large, the shift of
    the logit with slope 1. ``slope``, with ``slope_intercept``: of a logistic regression of the
    outcome on the logit of the bins' predictions (Cox 1958); 1 is well calibrated, below 1 too
    extreme. ``expected_error``, ``largest_error``: the mean and the largest difference between
    predicted and observed over bins, the mean weighted by n. ``hosmer_lemeshow``: on these bins.
    """

    bins: tuple[CalibrationBin, ...]
    ratio: Estimate
    intercept: Estimate
    slope: Estimate
    slope_intercept: Estimate
    expected_error: float
    largest_error: float
    hosmer_lemeshow: HypothesisTest


def calibration(
    edges: ArrayLike,
    positives: ArrayLike,
    negatives: ArrayLike,
    predicted: ArrayLike | None = None,
    *,
    fitted: bool = True,
    confidence: float = CONFIDENCE,
) -> Calibration:
    """Return the calibration of probabilities counted in bins, with and without the outcome.

    ``edges``: in [0, 1], one more than the counts. ``predicted``: the mean prediction in each bin;
    its middle if not given. ``fitted``: whether the model was fitted to these subjects, so that
    Hosmer and Lemeshow's test has bins - 2 degrees of freedom; of other subjects it has bins.
    Empty bins are left out.
    """
    grid, table, noisy = _binned(edges, positives, negatives)
    size = table.sum(axis=0)
    at = (grid[1:] + grid[:-1]) / 2 if predicted is None else np.asarray(predicted, np.float64)
    if at.shape != size.shape:
        raise DocumentError("There must be one mean prediction for each bin.")
    held = np.flatnonzero(size > 0)
    if not ((at[held] >= 0) & (at[held] <= 1)).all():
        raise DocumentError("A predicted probability lies between 0 and 1.")
    events, n, p = table[0][held], size[held], at[held]
    bins = tuple(
        CalibrationBin(
            float(grid[i]), float(grid[i + 1]), float(size[i]), float(table[0][i]), float(at[i]),
            wilson(float(table[0][i]), float(size[i]), confidence, "observed"),
        )
        for i in held
    )  # fmt: skip
    apart = np.abs(events / n - p)
    logit = special.logit(np.clip(p, _NEAREST, 1 - _NEAREST))
    note = NOISY if noisy else ""
    intercept = _logistic(logit[:, None] * 0 + 1, logit, events, n)
    both = _logistic(np.column_stack([np.ones_like(logit), logit]), logit * 0, events, n)
    return Calibration(
        bins,
        _observed_over_expected(events, n, p, confidence, note),
        _fit("calibration in the large", intercept, 0, confidence, note),
        _fit("calibration slope", both, 1, confidence, note),
        _fit("intercept beside the slope", both, 0, confidence, note),
        float((n * apart).sum() / n.sum()) if held.size else math.nan,
        float(apart.max()) if held.size else math.nan,
        hosmer_lemeshow(events, n, p, fitted=fitted, noisy=noisy),
    )


def hosmer_lemeshow(
    events: ArrayLike, n: ArrayLike, predicted: ArrayLike, *, fitted: bool = True,
    noisy: bool = False,
) -> HypothesisTest:  # fmt: skip
    """Test whether groups' events are as predicted (Hosmer and Lemeshow 1980).

    ``predicted``: each group's mean prediction. A group of which nothing is left to chance
    (predicted 0 or 1) is left out.
    """
    name = "Hosmer and Lemeshow's test"
    o, size, p = (np.asarray(x, dtype=np.float64) for x in (events, n, predicted))
    held = (size > 0) & (p > 0) & (p < 1)
    o, size, p = o[held], size[held], p[held]
    degrees = int(held.sum()) - (2 if fitted else 0)
    if degrees < 1:
        return undefined(name, "Too few groups hold anybody.", noisy)
    expected = size * p
    statistic = float(((o - expected) ** 2 / (expected * (1 - p))).sum())
    notes = [NOISY] if noisy else []
    if float(np.minimum(expected, size - expected).min()) < 5:
        notes.append("An expected count is under 5.")
    return HypothesisTest(
        name, statistic, chi_squared_p(statistic, degrees), (degrees,), note=" ".join(notes),
        approximate=noisy,
    )  # fmt: skip


def brier(positives: Moments, negatives: Moments) -> float:
    """Return the Brier score (1950), exactly: the mean of (prediction - outcome)^2.

    From the moments of the prediction among those with the outcome and those without. NaN of
    nobody.
    """
    n = positives.n + negatives.n
    if n < 1:
        return math.nan
    with_it = positives.m2 + positives.n * (1 - positives.mean) ** 2 if positives.n else 0.0
    without = negatives.m2 + negatives.n * negatives.mean**2 if negatives.n else 0.0
    return (with_it + without) / n


@dataclass(frozen=True)
class BrierOfBins:
    """A Brier score on bins' middles; on the predictions themselves it is in ``[least, most]``."""

    value: float
    least: float
    most: float
    approximate: bool = False


def brier_of_bins(edges: ArrayLike, positives: ArrayLike, negatives: ArrayLike) -> BrierOfBins:
    """Return the Brier score of counts in bins, and what it can be at most and at least."""
    grid, table, noisy = _binned(edges, positives, negatives)
    n = float(table.sum())
    if n == 0:
        return BrierOfBins(math.nan, math.nan, math.nan, noisy)
    low, high = grid[:-1], grid[1:]

    def score(with_it: Table, without: Table) -> float:
        return float(table[0] @ (1 - with_it) ** 2 + table[1] @ without**2) / n

    middle = (low + high) / 2
    return BrierOfBins(score(middle, middle), score(high, low), score(low, high), noisy)


def discrimination_slope(
    positives: Moments, negatives: Moments, confidence: float = CONFIDENCE
) -> Estimate:
    """Return the mean prediction with the outcome less that without (Yates 1982), with Wald's."""
    name = "discrimination slope"
    if min(positives.n, negatives.n) < 2:
        return Estimate(name, math.nan, note="It needs two subjects with and two without.")
    squares = [max(m.m2, 0.0) / (m.n - 1) / m.n for m in (positives, negatives)]
    return about(
        name, positives.less(negatives), math.sqrt(sum(squares)), z_quantile(confidence),
        confidence,
    )  # fmt: skip


def discrimination_slope_of_bins(
    edges: ArrayLike,
    positives: ArrayLike,
    negatives: ArrayLike,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Return the discrimination slope of predictions counted in bins, each taken for its middle.

    On the predictions themselves it is at most one bin's width away.
    """
    grid, table, noisy = _binned(edges, positives, negatives)
    middles = (grid[1:] + grid[:-1]) / 2
    with_it, without = (_at(middles, counts) for counts in table)
    found = discrimination_slope(with_it, without, confidence)
    return replace(found, note=NOISY, approximate=True) if noisy else found


def _at(values: Table, counts: Table) -> Moments:
    n = round(float(counts.sum()))
    if not n:
        return Moments()
    mean = float(values @ counts) / n
    return Moments(n, 0, mean, float(counts @ (values - mean) ** 2))


def _binned(
    edges: ArrayLike, positives: ArrayLike, negatives: ArrayLike
) -> tuple[Table, Table, bool]:
    grid = np.asarray(edges, dtype=np.float64)
    rows = [cells(counts, 1) for counts in (positives, negatives)]
    if grid.ndim != 1 or any(counts.size != grid.size - 1 for counts, _ in rows):
        raise DocumentError("Edges must be one more than the counts, with and without the outcome.")
    if not (np.diff(grid) > 0).all() or grid[0] < 0 or grid[-1] > 1:
        raise DocumentError("The bins of a probability ascend from 0 to 1 at most.")
    return grid, np.stack([counts for counts, _ in rows]), any(touched for _, touched in rows)


def _observed_over_expected(
    events: Table, n: Table, p: Table, confidence: float, note: str
) -> Estimate:
    """Return O / E, with the interval of log O by a binomial count (Debray et al. 2017)."""
    name = "observed over expected"
    observed, expected, total = float(events.sum()), float(n @ p), float(n.sum())
    noisy = bool(note)
    if expected == 0 or observed == 0:
        value = observed / expected if expected else math.nan
        note = f"No event was observed or expected. {note}".strip()
        return Estimate(name, value, confidence=confidence, note=note, approximate=noisy)
    value = observed / expected
    error = math.sqrt(max(1 - observed / total, 0.0) / observed)
    factor = math.exp(z_quantile(confidence) * error)
    return Estimate(name, value, error, value / factor, value * factor, confidence, note, noisy)


_Fit = tuple[Table, Table] | str


def _logistic(design: Table, offset: Table, events: Table, n: Table) -> _Fit:
    """Return coefficients and covariance of a logistic regression of binned counts, or why not."""
    total, happened = float(n.sum()) if n.size else 0.0, float(events.sum()) if n.size else 0.0
    if not 0 < happened < total:
        return "Nobody has the outcome, or everybody has."
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return "The predictions lie in one bin."
    beta = np.zeros(design.shape[1])

    def likelihood(at: Table) -> float:
        eta = design @ at + offset
        return float(events @ eta - n @ np.logaddexp(0.0, eta))

    before = likelihood(beta)
    for _ in range(100):
        mean = special.expit(design @ beta + offset)
        information = (design * (n * mean * (1 - mean))[:, None]).T @ design
        if np.linalg.cond(information) > 1e14:
            break
        step = np.linalg.solve(information, design.T @ (events - n * mean))
        after = likelihood(beta + step)
        while after < before - 1e-12 * (abs(before) + 1) and np.abs(step).max() > 1e-14:
            step = step / 2
            after = likelihood(beta + step)
        beta, before = beta + step, after
        if np.abs(step).max() < 1e-10 * (1 + np.abs(beta).max()):
            return beta, np.linalg.inv(information)
    return "The predictions separate the outcomes, so the likelihood has no maximum."


def _fit(name: str, found: _Fit, place: int, confidence: float, note: str) -> Estimate:
    noisy = bool(note)
    if isinstance(found, str):
        note = f"{found} {note}".strip()
        return Estimate(name, math.nan, confidence=confidence, note=note, approximate=noisy)
    value, error = float(found[0][place]), math.sqrt(float(found[1][place, place]))
    half = z_quantile(confidence) * error
    return Estimate(name, value, error, value - half, value + half, confidence, note, noisy)

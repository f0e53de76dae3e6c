"""Standardised differences between two groups: of numbers, shares, and variables of many levels.

For the balance of baseline variables, and table 1. They don't grow with n. About 0.1 is the usual
limit of what is negligible (Austin 2009).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from contract.errors import DocumentError
from contract.statistics.estimates import CONFIDENCE, NOISY, Estimate, cells, z_quantile
from contract.statistics.mean_tests import gap
from contract.statistics.summaries import Moments

NAME = "standardised mean difference"
NOBODY = "A group holds nobody."


def of_numbers(a: Moments, b: Moments, confidence: float = CONFIDENCE) -> Estimate:
    """Return (mean a - mean b) / sqrt((variance a + variance b) / 2), as Austin 2009."""
    if min(a.n, b.n) < 2:
        return Estimate(NAME, math.nan, confidence=confidence, note="A variance needs two values.")
    noisy = min(a.m2, b.m2) < 0
    variance = (max(a.m2, 0.0) / (a.n - 1) + max(b.m2, 0.0) / (b.n - 1)) / 2
    return _standardised(gap(a, b), variance, a.n, b.n, confidence, noisy)


def hedges_g(a: Moments, b: Moments, confidence: float = CONFIDENCE) -> Estimate:
    """Return the effect size (mean a - mean b) / pooled standard deviation, without its bias.

    Hedges 1981: by the exact factor, Gamma(m / 2) / (sqrt(m / 2) Gamma((m - 1) / 2)), m = n - 2.
    """
    name, degrees = "Hedges' g", a.n + b.n - 2
    if min(a.n, b.n) < 1 or degrees < 2:
        return Estimate(
            name, math.nan, confidence=confidence, note="It needs four values, some in each group."
        )
    noisy = min(a.m2, b.m2) < 0
    variance = (max(a.m2, 0.0) + max(b.m2, 0.0)) / degrees
    plain = _standardised(gap(a, b), variance, a.n, b.n, confidence, noisy)
    factor = math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees - 1) / 2)) / math.sqrt(
        degrees / 2
    )
    return Estimate(
        name, plain.value * factor, plain.standard_error * factor, plain.low * factor,
        plain.high * factor, confidence, plain.note, noisy,
    )  # fmt: skip


def of_shares(
    first: float, n: float, second: float, m: float, confidence: float = CONFIDENCE
) -> Estimate:
    """Return the standardised difference of ``first`` of ``n`` and ``second`` of ``m`` subjects.

    (p - q) / sqrt((p (1 - p) + q (1 - q)) / 2), as Austin 2009.
    """
    (first, n, second, m), noisy = cells(np.array([first, n, second, m]))
    if min(n, m) == 0:
        return Estimate(NAME, math.nan, confidence=confidence, note=NOBODY, approximate=noisy)
    p, q = min(first / n, 1.0), min(second / m, 1.0)
    variance = (p * (1 - p) + q * (1 - q)) / 2
    return _standardised(p - q, variance, n, m, confidence, noisy)


def of_levels(a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """Return the standardised difference of a variable of several levels (Yang and Dalton 2012).

    ``a``, ``b``: the groups' counts by level. It is the Mahalanobis distance of the shares of all
    levels but one, over the mean of both groups' multinomial covariances; not below zero. Of two
    levels it is ``of_shares`` without its sign. Infinite where the groups have no level in common.
    """
    (first, noisy), (second, noisy_too) = cells(a, 1), cells(b, 1)
    noisy = noisy or noisy_too
    if first.size != second.size:
        raise DocumentError("The groups' counts have different levels.")
    n, m = float(first.sum()), float(second.sum())
    if min(n, m) == 0:
        return Estimate(NAME, math.nan, confidence=confidence, note=NOBODY, approximate=noisy)
    held = (first + second) > 0
    p, q = first[held] / n, second[held] / m
    if p.size < 2:
        return _standardised(0.0, 0.0, n, m, confidence, noisy)
    if not (np.minimum(p, q) > 0).any():
        return _standardised(1.0, 0.0, n, m, confidence, noisy)
    covariance = (np.diag(p + q) - np.outer(p, p) - np.outer(q, q)) / 2
    difference = (p - q)[1:]
    square = float(difference @ np.linalg.solve(covariance[1:, 1:], difference))
    return _standardised(math.sqrt(max(square, 0.0)), 1.0, n, m, confidence, noisy)


def _standardised(
    difference: float, variance: float, n: float, m: float, confidence: float, noisy: bool
) -> Estimate:
    """Return the estimate with the interval of Hedges and Olkin 1985."""
    note = NOISY if noisy else ""
    if variance == 0:
        value = math.copysign(math.inf, difference) if difference else math.nan
        note = f"Neither group varies. {note}".strip()
        return Estimate(NAME, value, confidence=confidence, note=note, approximate=noisy)
    value = difference / math.sqrt(variance)
    error = math.sqrt((n + m) / (n * m) + value**2 / (2 * (n + m)))
    half = z_quantile(confidence) * error
    return Estimate(NAME, value, error, value - half, value + half, confidence, note, noisy)

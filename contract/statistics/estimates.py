"""What a finish returns: an estimate with its interval, a test with its p value.

A figure that isn't defined is NaN, and ``note`` says why. What is worked out from figures that
carry noise is ``approximate``: its interval and p value count the sampling, not the noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contract.errors import DocumentError
from contract.statistics import special

Table = NDArray[np.float64]
CONFIDENCE = 0.95
NOISY = "Counts with noise were used as if they were exact."


@dataclass(frozen=True)
class Estimate:
    """One figure with its standard error and the ends of its confidence interval."""

    name: str
    value: float
    standard_error: float = math.nan
    low: float = math.nan
    high: float = math.nan
    confidence: float = CONFIDENCE
    note: str = ""
    approximate: bool = False


@dataclass(frozen=True)
class HypothesisTest:
    """A test: its statistic, degrees of freedom and two-sided p value, and what it estimates."""

    name: str
    statistic: float
    p_value: float
    degrees: tuple[float, ...] = ()
    estimate: Estimate | None = None
    note: str = ""
    approximate: bool = False


def undefined(name: str, note: str, approximate: bool = False) -> HypothesisTest:
    """Return a test that couldn't be made, with the reason."""
    return HypothesisTest(name, math.nan, math.nan, note=note, approximate=approximate)


def cells(counts: ArrayLike, dimensions: int | None = None) -> tuple[Table, bool]:
    """Return counts as float64 from zero up, and whether they must carry noise.

    A count below zero becomes 0; a broken one stays. Either shows that there is noise.
    ``DocumentError``: not numbers, not finite, or not of so many ``dimensions``.
    """
    table = np.asarray(counts, dtype=np.float64)
    if dimensions is not None and table.ndim != dimensions:
        raise DocumentError(f"Counts of {dimensions} dimensions are needed, not of {table.ndim}.")
    if not np.isfinite(table).all():
        raise DocumentError("A count is not finite.")
    noisy = bool((table < 0).any() or (table != np.rint(table)).any())
    return np.maximum(table, 0.0), noisy


def checked_confidence(confidence: float) -> float:
    """Return a level of confidence; ``DocumentError`` unless it lies between 0 and 1."""
    if not 0 < confidence < 1:
        raise DocumentError("A level of confidence lies between 0 and 1.")
    return confidence


def checked_one_sided(confidence: float) -> float:
    """Return a level of confidence of an interval with one end; ``DocumentError`` up to 0.5."""
    if not 0.5 < confidence < 1:
        raise DocumentError("A one-sided level of confidence lies between 0.5 and 1.")
    return confidence


def z_quantile(confidence: float) -> float:
    """Return how many standard deviations hold so much of a normal distribution, both ways."""
    return -float(special.ndtri((1 - checked_confidence(confidence)) / 2))


def t_quantile(degrees: float, confidence: float) -> float:
    """Return the same of Student's distribution; its degrees of freedom may be broken."""
    if not degrees > 0:
        return math.nan
    return -float(special.stdtrit(degrees, (1 - checked_confidence(confidence)) / 2))


def normal_p(z: float) -> float:
    """Return the two-sided p value of a standard normal deviate."""
    return float(2 * special.ndtr(-abs(z)))


def t_p(t: float, degrees: float) -> float:
    """Return the two-sided p value of Student's t.

    By the incomplete beta function, which keeps its digits in the far tail.
    """
    if math.isnan(t) or not degrees > 0:
        return math.nan
    if math.isinf(t):
        return 0.0
    return float(special.betainc(degrees / 2, 0.5, degrees / (degrees + t * t)))


def f_p(f: float, numerator: float, denominator: float) -> float:
    """Return the upper p value of an F ratio."""
    if math.isnan(f) or not (numerator > 0 and denominator > 0):
        return math.nan
    return 0.0 if math.isinf(f) else float(special.fdtrc(numerator, denominator, f))


def chi_squared_p(statistic: float, degrees: float) -> float:
    """Return the upper p value of a chi-squared statistic."""
    if math.isnan(statistic) or not degrees > 0:
        return math.nan
    return float(special.chdtrc(degrees, statistic))


def about(
    name: str, value: float, error: float, quantile: float, confidence: float, note: str = ""
) -> Estimate:
    """Return an estimate with the interval value ± quantile · error."""
    half = quantile * error
    return Estimate(name, value, error, value - half, value + half, confidence, note)


def ratio(
    name: str, value: float, error_of_log: float, confidence: float, note: str = ""
) -> Estimate:
    """Return a ratio with the interval exp(log value ± z · error of the log).

    Its ``standard_error`` is that of the logarithm.
    """
    factor = math.exp(min(z_quantile(confidence) * error_of_log, 700.0))
    low, high = value / factor, value * factor
    return Estimate(name, value, error_of_log, low, high, confidence, note)


def adjusted(p_values: Sequence[float], method: str = "holm") -> list[float]:
    """Return p values adjusted for being several; NaN stays and isn't counted.

    ``bonferroni``; ``holm`` (1979), both for any one false rejection; ``benjamini-hochberg`` (1995)
    for the share of false ones among rejections; ``none`` leaves them as they are.
    """
    p = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(p))
    count = known.size
    order = known[np.argsort(p[known], kind="stable")]
    steps = np.arange(count)
    if method == "bonferroni":
        p[known] = np.minimum(p[known] * count, 1)
    elif method == "holm":
        p[order] = np.minimum(np.maximum.accumulate(p[order] * (count - steps)), 1)
    elif method == "benjamini-hochberg":
        scaled = p[order] * count / (steps + 1)
        p[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    elif method != "none":
        raise DocumentError(f"There is no adjustment called {method}.")
    return [float(x) for x in p]

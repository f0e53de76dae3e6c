"""Agreement of two or more raters, from merged crosstabs: Cohen's, weighted and Fleiss' kappa.

And of two methods of measuring, from merged co-moments: Bland and Altman's limits of agreement,
Lin's concordance.

A table of two raters has the first's levels in its rows and the second's in its columns, in one
order. For raters of whom some left subjects out see ``reliability`` (Krippendorff's alpha).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from contract.errors import DocumentError
from contract.statistics.estimates import (
    CONFIDENCE,
    NOISY,
    Estimate,
    HypothesisTest,
    Table,
    about,
    cells,
    normal_p,
    t_quantile,
    z_quantile,
)
from contract.statistics.proportions import wilson

Weights = Literal["none", "linear", "quadratic"]
NOBODY = "Nobody was rated."
CERTAIN = "Chance alone would agree always: all ratings are one level."


@dataclass(frozen=True)
class Kappa:
    """A kappa: agreement beyond chance, as a share of what was possible.

    ``observed`` and ``expected`` are the (weighted) shares that agree and that chance would have
    agree. ``estimate`` has the standard error for an interval; ``test`` is of a kappa of 0, with
    the standard error that then holds.
    """

    estimate: Estimate
    test: HypothesisTest
    observed: float
    expected: float


def percent_agreement(counts: ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """Return the share of subjects on whom two raters agree, 0 to 1, with Wilson's interval."""
    table, noisy = _square(counts)
    found = wilson(float(np.trace(table)), float(table.sum()), confidence, name="percent agreement")
    return replace(found, approximate=noisy or found.approximate)


def cohen_kappa(
    counts: ArrayLike,
    weights: Weights = "none",
    confidence: float = CONFIDENCE,
    scores: Sequence[float] | None = None,
) -> Kappa:
    """Return the kappa of two raters (Cohen 1960; weighted, 1968).

    ``weights``: of a disagreement, its distance (``linear``) or the square of it (``quadratic``).
    ``scores``: the levels' places on their scale; 0, 1, 2 ... by default. Standard errors by
    Fleiss, Cohen and Everitt 1969. NaN when all ratings are one level.
    """
    table, noisy = _square(counts)
    name = "Cohen's kappa" if weights == "none" else f"weighted kappa ({weights})"
    n = float(table.sum())
    if n == 0:
        return _no_kappa(name, NOBODY, confidence, noisy)
    p = table / n
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    w = _weights(len(p), weights, scores)
    observed, expected = float((w * p).sum()), float(rows @ w @ columns)
    if 1 - expected < 1e-12:
        return _no_kappa(name, CERTAIN, confidence, noisy, observed, expected)
    kappa = (observed - expected) / (1 - expected)
    # Each cell's weight beside what its row and its column would lead one to expect.
    beside = (w @ columns)[:, None] + (rows @ w)[None, :]
    spread = float((p * (w - beside * (1 - kappa)) ** 2).sum())
    square = max(spread - (kappa - expected * (1 - kappa)) ** 2, 0.0)
    error = math.sqrt(square / n) / (1 - expected)
    chance = float((np.outer(rows, columns) * (w - beside) ** 2).sum()) - expected**2
    error_of_none = math.sqrt(max(chance, 0.0) / n) / (1 - expected)
    return _kappa(name, kappa, error, error_of_none, observed, expected, confidence, noisy)


def _weights(size: int, weights: Weights, scores: Sequence[float] | None) -> Table:
    if weights == "none":
        return np.eye(size)
    at = np.arange(size, dtype=np.float64) if scores is None else np.asarray(scores, np.float64)
    if at.shape != (size,):
        raise DocumentError("Weighted kappa needs one score for each level.")
    apart = np.abs(at[:, None] - at[None, :])
    if apart.max() == 0:
        return np.ones((size, size))
    apart = apart / apart.max()
    return np.asarray(1 - (apart if weights == "linear" else apart**2))


def fleiss_kappa(pairs: Sequence[ArrayLike], raters: int, confidence: float = CONFIDENCE) -> Kappa:
    """Return Fleiss' kappa (1971) of three or more raters who each rated every subject.

    ``pairs``: the crosstab of each pair of raters, raters (raters - 1) / 2 of them, levels by
    levels. They suffice: Fleiss' kappa is made of how many pairs of ratings agree and of the
    levels' shares. Of two raters it is Scott's pi. The test's standard error is that of Fleiss,
    Nee and Landis 1979; there is none for an interval. ``DocumentError``: another number of pairs,
    or pairs of different numbers of subjects.
    """
    if raters < 2 or len(pairs) != raters * (raters - 1) // 2:
        raise DocumentError("Fleiss' kappa needs the crosstab of every pair of raters.")
    held = [_square(pair) for pair in pairs]
    noisy = any(touched for _, touched in held)
    if len({table.shape for table, _ in held}) > 1:
        raise DocumentError("The pairs of raters have different levels.")
    sizes = {float(table.sum()) for table, _ in held}
    if len(sizes) > 1 and not noisy:
        raise DocumentError("Fleiss' kappa needs every rater's rating of every subject.")
    total = np.asarray(sum(table for table, _ in held))
    return _fleiss(total + total.T, float(total.sum()) / len(held), raters, confidence, noisy)


def fleiss_kappa_of_ratings(ratings: ArrayLike, confidence: float = CONFIDENCE) -> Kappa:
    """Return Fleiss' kappa from how many raters gave each subject (rows) each level."""
    table, noisy = cells(ratings, 2)
    raters = {float(x) for x in table.sum(axis=1)}
    if len(raters) != 1 or max(raters) < 2:
        raise DocumentError("Fleiss' kappa needs as many ratings, at least two, of every subject.")
    together = table.T @ table - np.diag(table.sum(axis=0))
    return _fleiss(together, float(len(table)), int(max(raters)), confidence, noisy)


def _fleiss(together: Table, n: float, raters: int, confidence: float, noisy: bool) -> Kappa:
    name = "Fleiss' kappa"
    if n == 0:
        return _no_kappa(name, NOBODY, confidence, noisy)
    p = together.sum(axis=1) / together.sum()
    observed, expected = float(np.trace(together) / together.sum()), float((p**2).sum())
    if 1 - expected < 1e-12:
        return _no_kappa(name, CERTAIN, confidence, noisy, observed, expected)
    left = p * (1 - p)
    square = left.sum() ** 2 - float((left * (1 - 2 * p)).sum())
    error = math.sqrt(2 * max(square, 0.0) / (n * raters * (raters - 1))) / float(left.sum())
    kappa = (observed - expected) / (1 - expected)
    return _kappa(name, kappa, math.nan, error, observed, expected, confidence, noisy)


def _kappa(
    name: str,
    kappa: float,
    error: float,
    error_of_none: float,
    observed: float,
    expected: float,
    confidence: float,
    noisy: bool,
) -> Kappa:
    estimate = about(name, kappa, error, z_quantile(confidence), confidence)
    if noisy:
        estimate = replace(estimate, note=NOISY, approximate=True)
    z = kappa / error_of_none if error_of_none > 0 else math.nan
    notes = [NOISY] if noisy else []
    if math.isnan(z):
        notes.append("By chance alone it could only be 0.")
    test = HypothesisTest(f"{name} of 0", z, normal_p(z), (), estimate, " ".join(notes), noisy)
    return Kappa(replace(estimate, high=min(estimate.high, 1.0)), test, observed, expected)


def _no_kappa(
    name: str,
    note: str,
    confidence: float,
    noisy: bool,
    observed: float = math.nan,
    expected: float = math.nan,
) -> Kappa:
    estimate = Estimate(name, math.nan, confidence=confidence, note=note, approximate=noisy)
    test = HypothesisTest(f"{name} of 0", math.nan, math.nan, (), estimate, note, noisy)
    return Kappa(estimate, test, observed, expected)


def _square(counts: ArrayLike) -> tuple[Table, bool]:
    table, noisy = cells(counts, 2)
    if table.shape[0] != table.shape[1] or table.size == 0:
        raise DocumentError("Both raters' levels must be the same.")
    return table, noisy


@dataclass(frozen=True)
class LimitsOfAgreement:
    """Bland and Altman's (1986): between the limits lie 95 % of differences, if they are normal.

    All in the variable's unit; each with its own interval. ``coverage`` is the share of
    differences meant. The plot itself has a point for each subject, so there is none.
    """

    bias: Estimate
    lower: Estimate
    upper: Estimate
    standard_deviation: float
    coverage: float


def bland_altman(
    n: int,
    means: Sequence[float],
    products: Sequence[float],
    coverage: float = 0.95,
    confidence: float = CONFIDENCE,
) -> LimitsOfAgreement:
    """Return bias and limits of agreement of two methods, the first less the second.

    ``means`` (2) and ``products`` (3: xx, xy, yy) of co-moments. The limits' standard errors are
    sqrt(s^2 (1 / n + z^2 / (2 (n - 1)))), Bland and Altman 1999. NaN below two subjects.
    """
    bias = float(means[0] - means[1])
    if n < 2:
        nothing = Estimate("bias", bias if n else math.nan, note="It needs two subjects.")
        gone = replace(nothing, value=math.nan)
        return LimitsOfAgreement(
            nothing, replace(gone, name="lower limit"), replace(gone, name="upper limit"),
            math.nan, coverage,
        )  # fmt: skip
    xx, xy, yy = products
    deviation = math.sqrt(max(xx + yy - 2 * xy, 0.0) / (n - 1))
    z, t = z_quantile(coverage), t_quantile(n - 1, confidence)
    error = deviation * math.sqrt(1 / n + z * z / (2 * (n - 1)))
    noisy = min(xx, yy, xx + yy - 2 * xy) < -1e-9 * (abs(xx) + abs(yy))
    found = [
        about("bias", bias, deviation / math.sqrt(n), t, confidence),
        about("lower limit", bias - z * deviation, error, t, confidence),
        about("upper limit", bias + z * deviation, error, t, confidence),
    ]
    if noisy:
        found = [replace(one, note=NOISY, approximate=True) for one in found]
    return LimitsOfAgreement(found[0], found[1], found[2], deviation, coverage)


def concordance(
    n: int,
    means: Sequence[float],
    products: Sequence[float],
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Return Lin's concordance correlation (1989) of two methods, with his interval by Fisher's z.

    2 s_xy / (s_x^2 + s_y^2 + (mean x - mean y)^2), variances with divisor n; interval as corrected
    in 2000. Below three subjects it has no interval.
    """
    name = "concordance correlation"
    if n < 2:
        return Estimate(name, math.nan, confidence=confidence, note="It needs two subjects.")
    xx, xy, yy = (x / n for x in products)
    shift = float(means[0] - means[1])
    if min(xx, yy) <= 0:
        return Estimate(name, math.nan, confidence=confidence, note="A method doesn't vary.")
    value = 2 * xy / (xx + yy + shift**2)
    deviations = math.sqrt(xx) * math.sqrt(yy)
    r = xy / deviations
    if n < 3 or abs(r) < 1e-100 or abs(r) >= 1 or abs(value) >= 1:
        return Estimate(name, value, confidence=confidence, note="It has no standard error.")
    u2 = shift**2 / deviations
    left, c2 = 1 - r * r, value * value
    square = (
        left * c2 / ((1 - c2) * r * r)
        + 2 * value**3 * (1 - value) * u2 / (r * (1 - c2) ** 2)
        - value**4 * u2**2 / (2 * r * r * (1 - c2) ** 2)
    ) / (n - 2)
    if square <= 0:
        return Estimate(name, value, confidence=confidence, note="It has no standard error.")
    half = z_quantile(confidence) * math.sqrt(square)
    centre = math.atanh(value)
    error = (1 - c2) * math.sqrt(square)
    return Estimate(
        name, value, error, math.tanh(centre - half), math.tanh(centre + half), confidence
    )

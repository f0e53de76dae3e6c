"""Tests and intervals of means, from merged moments: t, analysis of variance, Bartlett's.

A paired test needs the pairs' products: from co-moments of the two variables, not from moments of
each. Levene's and Brown and Forsythe's tests need deviations from each group's centre, so they
don't follow from moments.

Moments with noise can have a sum of squares below zero; it is taken as 0 and the answer is
``approximate``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from contract.statistics.estimates import (
    CONFIDENCE,
    NOISY,
    Estimate,
    HypothesisTest,
    about,
    adjusted,
    checked_one_sided,
    chi_squared_p,
    f_p,
    t_p,
    t_quantile,
    undefined,
)
from contract.statistics.summaries import Moments

TOO_FEW = "A variance needs two values."
CONSTANT = "Nothing varies."
Alternative = Literal["two-sided", "less", "greater"]


def gap(a: Moments, b: Moments) -> float:
    """Return the mean of ``a`` less that of ``b``."""
    return a.less(b)


def mean_interval(moments: Moments, confidence: float = CONFIDENCE) -> Estimate:
    """Return the mean with Student's interval, in the variable's unit; NaN below two values."""
    name = "mean"
    if moments.n < 1:
        return Estimate(name, math.nan, confidence=confidence, note="Nobody has a value.")
    if moments.n < 2:
        return Estimate(name, moments.mean, confidence=confidence, note=TOO_FEW)
    error = math.sqrt(_squares(moments) / (moments.n - 1) / moments.n)
    quantile = t_quantile(moments.n - 1, confidence)
    return _marked_estimate(about(name, moments.mean, error, quantile, confidence), [moments])


def one_sample_t(
    moments: Moments, mean: float = 0.0, confidence: float = CONFIDENCE
) -> HypothesisTest:
    """Test whether the mean is a given one (Student 1908). n - 1 degrees of freedom."""
    name = "one-sample t test"
    if moments.n < 2:
        return undefined(name, TOO_FEW)
    estimate = mean_interval(moments, confidence)
    return _t(name, estimate, moments.mean - mean + moments.mean_low, moments.n - 1)


def directed(
    test: HypothesisTest,
    alternative: Alternative = "two-sided",
    null: float = 0.0,
    confidence: float = CONFIDENCE,
) -> HypothesisTest:
    """Return a t test of another hypothesis: that the estimate is ``null``, or not below or above.

    ``less``: against the alternative that it is less; the interval then has no lower end. As R's
    ``t.test`` has them.
    """
    estimate = test.estimate
    if (alternative, null) == ("two-sided", 0.0) or estimate is None or math.isnan(test.statistic):
        return test
    (degrees,) = test.degrees
    error = estimate.standard_error
    t = test.statistic - null / error
    p = t_p(t, degrees)
    name = test.name if null == 0 else f"{test.name} of {null:g}"
    if alternative == "two-sided":
        return replace(test, name=name, statistic=t, p_value=p)
    reach = t_quantile(degrees, 2 * checked_one_sided(confidence) - 1) * error
    low, high = -math.inf, estimate.value + reach
    if alternative == "greater":
        low, high = estimate.value - reach, math.inf
    toward = t < 0 if alternative == "less" else t > 0
    return replace(
        test,
        name=f"{name}, one-sided ({alternative})",
        statistic=t,
        p_value=p / 2 if toward else 1 - p / 2,
        estimate=replace(estimate, low=low, high=high),
    )


def student_t(a: Moments, b: Moments, confidence: float = CONFIDENCE) -> HypothesisTest:
    """Test whether two groups' means are alike, with one variance for both (Student 1908).

    The estimate is the mean of ``a`` less that of ``b``. n - 2 degrees of freedom.
    """
    name = "Student's t test"
    if min(a.n, b.n) < 1 or a.n + b.n < 3:
        return undefined(name, "It needs three values, and one in each group.")
    degrees = a.n + b.n - 2
    variance = (_squares(a) + _squares(b)) / degrees
    error = math.sqrt(variance * (1 / a.n + 1 / b.n))
    return _difference(name, [a, b], error, degrees, confidence)


def welch_t(a: Moments, b: Moments, confidence: float = CONFIDENCE) -> HypothesisTest:
    """Test whether two groups' means are alike, whatever their variances (Welch 1947).

    The estimate is the mean of ``a`` less that of ``b``. Degrees of freedom by Satterthwaite 1946.
    """
    name = "Welch's t test"
    if min(a.n, b.n) < 2:
        return undefined(name, "It needs two values in each group.")
    parts = [_squares(group) / (group.n - 1) / group.n for group in (a, b)]
    total = sum(parts)
    if total == 0:
        return undefined(name, CONSTANT)
    degrees = 1 / sum((p / total) ** 2 / (g.n - 1) for p, g in zip(parts, (a, b), strict=True))
    return _difference(name, [a, b], math.sqrt(total), degrees, confidence)


def paired_t(
    n: int,
    means: Sequence[float],
    products: Sequence[float],
    confidence: float = CONFIDENCE,
) -> HypothesisTest:
    """Test whether two measurements of the same subjects have one mean.

    ``means`` (2) and ``products`` (3: xx, xy, yy, sums of products of deviations) are those of
    co-moments. The estimate is the mean of x - y.
    """
    name = "paired t test"
    if n < 2:
        return undefined(name, TOO_FEW)
    xx, xy, yy = products
    # Where the two are all but equal, what rounding leaves is no variance.
    left = xx + yy - 2 * xy
    squares = left if left > 8 * np.finfo(float).eps * (xx + yy) else 0.0
    difference = means[0] - means[1]
    error = math.sqrt(squares / (n - 1) / n)
    quantile = t_quantile(n - 1, confidence)
    return _t(
        name, about("difference of means", difference, error, quantile, confidence), difference,
        n - 1,
    )  # fmt: skip


def _difference(
    name: str, groups: Sequence[Moments], error: float, degrees: float, confidence: float
) -> HypothesisTest:
    difference = gap(groups[0], groups[1])
    quantile = t_quantile(degrees, confidence)
    estimate = about("difference of means", difference, error, quantile, confidence)
    return _t(name, _marked_estimate(estimate, groups), difference, degrees)


def _t(name: str, estimate: Estimate, shift: float, degrees: float) -> HypothesisTest:
    error = estimate.standard_error
    if error == 0:
        return replace(undefined(name, CONSTANT, estimate.approximate), estimate=estimate)
    t = shift / error
    return HypothesisTest(
        name,
        t,
        t_p(t, degrees),
        (degrees,),
        estimate,
        estimate.note,
        estimate.approximate,
    )


@dataclass(frozen=True)
class AnalysisOfVariance:
    """A one-way table: sums of squares and mean squares in the unit squared, and the F test.

    ``eta_squared`` is between / total (R squared); ``omega_squared`` is Hays' (1963).
    """

    test: HypothesisTest
    between: float
    within: float
    between_degrees: int
    within_degrees: int
    eta_squared: float
    omega_squared: float

    @property
    def mean_square_between(self) -> float:
        """Between the groups, by degree of freedom."""
        return self.between / self.between_degrees if self.between_degrees > 0 else math.nan

    @property
    def mean_square_within(self) -> float:
        """Within the groups, by degree of freedom."""
        return self.within / self.within_degrees if self.within_degrees > 0 else math.nan

    @property
    def residual_standard_deviation(self) -> float:
        """The square root of the mean square within."""
        return math.sqrt(self.mean_square_within)


def anova(groups: Sequence[Moments]) -> AnalysisOfVariance:
    """Return the one-way analysis of variance (Fisher 1925); groups of nobody are left out.

    Of fewer than two groups, of one value in each, or of constants it is NaN with the reason.
    """
    name = "one-way analysis of variance"
    held = [group for group in groups if group.n > 0]
    between = _between(held, [float(g.n) for g in held])
    within = math.fsum(_squares(group) for group in held)
    n, count = sum(group.n for group in held), len(held)
    of_between, of_within = max(count - 1, 0), n - count
    total = between + within
    eta = between / total if total > 0 else math.nan
    omega = math.nan
    if count < 2:
        test = undefined(name, "Fewer than two groups hold anybody.")
    elif of_within < 1:
        test = undefined(name, "No group holds two values.")
    elif total == 0:
        test = undefined(name, CONSTANT)
    else:
        error = within / of_within
        f = between / of_between / error if error > 0 else math.inf
        omega = (between - of_between * error) / (total + error)
        test = HypothesisTest(name, f, f_p(f, of_between, of_within), (of_between, of_within))
    return AnalysisOfVariance(
        _marked(test, held), between, within, of_between, of_within, eta, omega
    )


def welch_anova(groups: Sequence[Moments]) -> HypothesisTest:
    """Test whether groups' means are alike, whatever their variances (Welch 1951).

    Groups of nobody are left out; each other needs two values and a variance.
    """
    name = "Welch's analysis of variance"
    held = [group for group in groups if group.n > 0]
    count = len(held)
    if count < 2:
        return undefined(name, "Fewer than two groups hold anybody.")
    if min(group.n for group in held) < 2:
        return undefined(name, "It needs two values in each group.")
    if min(_squares(group) for group in held) == 0:
        return _marked(undefined(name, "A group doesn't vary, so it has no weight."), held)
    weights = [group.n / (_squares(group) / (group.n - 1)) for group in held]
    total = sum(weights)
    lack = sum((1 - w / total) ** 2 / (g.n - 1) for w, g in zip(weights, held, strict=True))
    f = (_between(held, weights) / (count - 1)) / (1 + 2 * (count - 2) / (count * count - 1) * lack)
    degrees = (count - 1, (count * count - 1) / (3 * lack))
    return _marked(HypothesisTest(name, f, f_p(f, *degrees), degrees), held)


def bartlett(groups: Sequence[Moments]) -> HypothesisTest:
    """Test whether groups have one variance (Bartlett 1937). It presumes normal values."""
    name = "Bartlett's test"
    held = [group for group in groups if group.n > 0]
    count = len(held)
    if count < 2:
        return undefined(name, "Fewer than two groups hold anybody.")
    if min(group.n for group in held) < 2:
        return undefined(name, "It needs two values in each group.")
    if min(_squares(group) for group in held) == 0:
        return _marked(undefined(name, "A group doesn't vary."), held)
    free = [group.n - 1 for group in held]
    variances = [_squares(group) / d for group, d in zip(held, free, strict=True)]
    total = sum(free)
    pooled = sum(v * d for v, d in zip(variances, free, strict=True)) / total
    statistic = math.fsum(d * math.log(pooled / v) for v, d in zip(variances, free, strict=True))
    statistic /= 1 + (sum(1 / d for d in free) - 1 / total) / (3 * (count - 1))
    statistic = max(statistic, 0.0)
    return _marked(
        HypothesisTest(name, statistic, chi_squared_p(statistic, count - 1), (count - 1,)), held
    )


def jarque_bera(n: int, m2: float, m3: float, m4: float) -> HypothesisTest:
    """Test whether values are normal by their skewness and kurtosis (Jarque and Bera 1980).

    ``m2``, ``m3``, ``m4``: sums of powers of deviations from the mean. The chi-squared
    distribution, with 2 degrees of freedom, holds for large n only.
    """
    name = "Jarque and Bera's test"
    if n < 2 or m2 <= 0:
        return undefined(name, CONSTANT if n > 1 else TOO_FEW)
    skewness = (m3 / n) / (m2 / n) ** 1.5
    excess = (m4 / n) / (m2 / n) ** 2 - 3
    statistic = n / 6 * (skewness**2 + excess**2 / 4)
    return HypothesisTest(name, statistic, chi_squared_p(statistic, 2), (2,))


@dataclass(frozen=True)
class PairOfGroups:
    """One of several comparisons: the groups' places, the test, its adjusted p value."""

    first: int
    second: int
    test: HypothesisTest
    adjusted_p: float


def pairwise(
    groups: Sequence[Moments],
    kind: Literal["welch", "student"] = "welch",
    method: str = "holm",
    confidence: float = CONFIDENCE,
) -> list[PairOfGroups]:
    """Return the t test of each pair of groups, with p values adjusted by ``method``.

    The intervals are each for itself, not adjusted. ``method``: see ``estimates.adjusted``.
    """
    make = welch_t if kind == "welch" else student_t
    pairs = [(i, j) for i in range(len(groups)) for j in range(i + 1, len(groups))]
    tests = [make(groups[i], groups[j], confidence) for i, j in pairs]
    return [
        PairOfGroups(i, j, test, p)
        for (i, j), test, p in zip(
            pairs, tests, adjusted([test.p_value for test in tests], method), strict=True
        )
    ]


def _between(groups: Sequence[Moments], weights: Sequence[float]) -> float:
    """Return the weighted sum of squares of means about their mean, without cancellation."""
    if not groups:
        return 0.0
    shifts = [gap(group, groups[0]) for group in groups]
    total = math.fsum(weights)
    centre = math.fsum(w * s for w, s in zip(weights, shifts, strict=True)) / total
    return math.fsum(w * (s - centre) ** 2 for w, s in zip(weights, shifts, strict=True))


def _squares(moments: Moments) -> float:
    return max(moments.m2, 0.0)


def _is_noisy(groups: Sequence[Moments]) -> bool:
    return any(group.m2 < 0 or group.n < 0 or group.missing < 0 for group in groups)


def _marked(test: HypothesisTest, groups: Sequence[Moments]) -> HypothesisTest:
    if not _is_noisy(groups):
        return test
    return replace(test, approximate=True, note=f"{test.note} {NOISY}".strip())


def _marked_estimate(estimate: Estimate, groups: Sequence[Moments]) -> Estimate:
    if not _is_noisy(groups):
        return estimate
    return replace(estimate, approximate=True, note=f"{estimate.note} {NOISY}".strip())

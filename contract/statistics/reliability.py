"""Reliability of several raters: Krippendorff's alpha and intraclass correlations.

Alpha is made of coincidences, which merge over sites and bear missing ratings. Intraclass
correlations are made of the raters' co-moments, of the subjects whom all have rated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contract.errors import DocumentError
from contract.statistics import special
from contract.statistics.correlation import square
from contract.statistics.estimates import (
    CONFIDENCE,
    NOISY,
    Estimate,
    Table,
    cells,
    checked_confidence,
    f_p,
)
from contract.statistics.summaries import Codes

Metric = Literal["nominal", "ordinal", "interval", "ratio"]


@dataclass(frozen=True)
class Coincidences:
    """How often two ratings of one subject were these levels, by how many ratings it has.

    ``pairs`` is (raters - 1) x levels x levels: in its first matrix the ordered pairs of ratings
    of subjects with two ratings, in its next with three, and so on. Whole numbers, so they merge
    exactly and may be summed in secret; each pair's weight, 1 / (ratings - 1), comes at the end.
    ``subjects`` counts those subjects by their ratings; ``alone`` those with one rating or none.
    """

    pairs: NDArray[np.int64]
    subjects: tuple[int, ...]
    alone: int = 0

    @classmethod
    def of(cls, codes: Codes, levels: int) -> Coincidences:
        """Return the local half: ``codes`` is subjects x raters, -1 where there is no rating.

        ``DocumentError``: fewer than two raters, or a code that is none of the levels.
        """
        if codes.ndim != 2 or codes.shape[1] < 2 or levels < 1:
            raise DocumentError("Coincidences need subjects by raters, two of them or more.")
        if codes.size and codes.max() >= levels:
            raise DocumentError("A code lies outside its variable's levels.")
        raters = codes.shape[1]
        given = (codes >= 0).sum(axis=1)
        pairs = np.zeros((raters - 1, levels, levels), dtype=np.int64)
        for ratings in range(2, raters + 1):
            rated = codes[given == ratings]
            counted = np.stack([(rated == level).sum(axis=1) for level in range(levels)], axis=1)
            pairs[ratings - 2] = counted.T @ counted - np.diag(counted.sum(axis=0))
        return cls(
            pairs,
            tuple(int((given == ratings).sum()) for ratings in range(2, raters + 1)),
            int((given < 2).sum()),
        )

    def merge(self, other: Coincidences) -> Coincidences:
        """Return the sums; ``DocumentError`` for other levels or another number of raters."""
        if self.pairs.shape != other.pairs.shape:
            raise DocumentError("Two parts of one statistic have different raters or levels.")
        return Coincidences(
            self.pairs + other.pairs,
            tuple(a + b for a, b in zip(self.subjects, other.subjects, strict=True)),
            self.alone + other.alone,
        )

    @property
    def matrix(self) -> Table:
        """Krippendorff's coincidence matrix: the pairs over ratings less one, summed."""
        weights = 1 / np.arange(1, len(self.pairs) + 1)
        return np.asarray(np.tensordot(weights, self.pairs.astype(np.float64), axes=1))


def of_crosstabs(pairs: Sequence[ArrayLike], raters: int) -> Table:
    """Return the coincidence matrix of raters who each rated every subject.

    ``pairs``: the crosstab of every pair of raters, levels by levels. ``DocumentError`` for
    another number of them, or other shapes.
    """
    if raters < 2 or len(pairs) != raters * (raters - 1) // 2:
        raise DocumentError("It needs the crosstab of every pair of raters.")
    tables = [cells(pair, 2)[0] for pair in pairs]
    if len({t.shape for t in tables}) > 1 or tables[0].shape[0] != tables[0].shape[1]:
        raise DocumentError("All raters' levels must be the same.")
    total = np.asarray(sum(tables))
    return np.asarray((total + total.T) / (raters - 1))


def krippendorff_alpha(
    coincidences: ArrayLike, metric: Metric = "nominal", values: ArrayLike | None = None
) -> Estimate:
    """Return Krippendorff's alpha (2011): 1 less observed over expected disagreement.

    ``coincidences``: a coincidence matrix, levels by levels. ``values``: the levels' numbers, for
    ``interval`` and ``ratio``; 0, 1, 2 ... by default. There is no interval: it is had by
    resampling subjects, which merged figures can't be. NaN without pairs, or when all ratings are
    one level.
    """
    name = f"Krippendorff's alpha ({metric})"
    matrix, _ = cells(coincidences, 2)
    noisy = bool((np.asarray(coincidences) < 0).any())
    if matrix.shape[0] != matrix.shape[1] or not np.allclose(matrix, matrix.T):
        raise DocumentError("A coincidence matrix is square and symmetric.")
    margins = matrix.sum(axis=1)
    n = float(margins.sum())
    if n <= 1:
        return Estimate(name, math.nan, note="No subject has two ratings.", approximate=noisy)
    apart = _differences(margins, metric, values)
    observed, expected = float((matrix * apart).sum()), float(margins @ apart @ margins)
    if expected <= 0:
        return Estimate(name, math.nan, note="All ratings are one level.", approximate=noisy)
    value = 1 - (n - 1) * observed / expected
    return Estimate(name, value, note=NOISY if noisy else "", approximate=noisy)


def _differences(margins: Table, metric: Metric, values: ArrayLike | None) -> Table:
    """Return the squared difference of each two levels, by the metric."""
    size = margins.size
    if metric == "nominal":
        return 1 - np.eye(size)
    if metric == "ordinal":
        # A level's place is the middle of its ratings' ranks.
        ranks = np.cumsum(margins) - margins / 2
        return np.asarray((ranks[:, None] - ranks[None, :]) ** 2)
    at = np.arange(size, dtype=np.float64) if values is None else np.asarray(values, np.float64)
    if at.shape != (size,) or not np.isfinite(at).all():
        raise DocumentError("Alpha needs one number for each level.")
    apart = (at[:, None] - at[None, :]) ** 2
    if metric == "interval":
        return np.asarray(apart)
    if (at < 0).any():
        raise DocumentError("A ratio scale has no numbers below zero.")
    sums = (at[:, None] + at[None, :]) ** 2
    return np.divide(apart, sums, out=np.zeros_like(apart), where=sums > 0)


@dataclass(frozen=True)
class IntraclassCorrelations:
    """Shrout and Fleiss' six (1979), with the mean squares they are made of.

    The first number is the model: 1 each subject has raters of its own, 2 raters are a random
    sample, 3 raters are the only ones of interest. ``single`` are of one rating, ``average`` of
    the mean of all raters'. ``p_values`` are of the F tests that each is 0, by model.
    """

    single: tuple[Estimate, Estimate, Estimate]
    average: tuple[Estimate, Estimate, Estimate]
    p_values: tuple[float, float, float]
    between_subjects: float
    within_subjects: float
    between_raters: float
    residual: float


def intraclass_correlations(
    n: int, means: Sequence[float], products: ArrayLike, confidence: float = CONFIDENCE
) -> IntraclassCorrelations:
    """Return the intraclass correlations of raters' numbers, from their co-moments.

    ``means``: each rater's. ``products``: the upper triangle of sums of products of deviations.
    They hold all the mean squares: between subjects, sum of all products / (k (n - 1)); residual,
    the rest of the trace; between raters, from the means. Intervals by F (Shrout and Fleiss 1979).
    NaN below two subjects, or where nothing varies. ``DocumentError``: fewer than two raters.
    """
    checked_confidence(confidence)
    matrix = square(products)
    k = len(matrix)
    at = np.asarray(means, dtype=np.float64)
    if k < 2 or at.shape != (k,):
        raise DocumentError("An intraclass correlation needs two raters or more.")
    if n < 2:
        return _no_icc("It needs two subjects.", confidence)
    subjects = max(float(matrix.sum()) / k, 0.0)
    left = max(float(np.trace(matrix)) - subjects, 0.0)
    raters = n * float(((at - at.mean()) ** 2).sum())
    if subjects + left + raters <= 0:
        return _no_icc("Nothing varies.", confidence)
    bms, jms = subjects / (n - 1), raters / (k - 1)
    ems = left / ((n - 1) * (k - 1))
    wms = (raters + left) / (n * (k - 1))
    one = _icc1(bms, wms, n, k, confidence)
    two = _icc2(bms, jms, ems, n, k, confidence)
    three = _icc3(bms, ems, n, k, confidence)
    averages = (
        _average("ICC(1,k)", one, 1 - wms / bms if bms > 0 else math.nan, k),
        _average("ICC(2,k)", two, _share(bms - ems, bms + (jms - ems) / n), k),
        _average("ICC(3,k)", three, 1 - ems / bms if bms > 0 else math.nan, k),
    )
    of_two = f_p(_share(bms, ems), n - 1, (n - 1) * (k - 1))
    p_values = (f_p(_share(bms, wms), n - 1, n * (k - 1)), of_two, of_two)
    return IntraclassCorrelations((one, two, three), averages, p_values, bms, wms, jms, ems)


def _icc1(bms: float, wms: float, n: int, k: int, confidence: float) -> Estimate:
    value = _share(bms - wms, bms + (k - 1) * wms)
    return _bounded("ICC(1,1)", value, _share(bms, wms), (n - 1, n * (k - 1)), k, confidence)


def _icc3(bms: float, ems: float, n: int, k: int, confidence: float) -> Estimate:
    value = _share(bms - ems, bms + (k - 1) * ems)
    degrees = (n - 1, (n - 1) * (k - 1))
    return _bounded("ICC(3,1)", value, _share(bms, ems), degrees, k, confidence)


def _icc2(bms: float, jms: float, ems: float, n: int, k: int, confidence: float) -> Estimate:
    """Return ICC(2,1); its interval has Satterthwaite's degrees of freedom."""
    value = _share(bms - ems, bms + (k - 1) * ems + k * (jms - ems) / n)
    if math.isnan(value) or value >= 1 or jms + ems == 0:
        return Estimate("ICC(2,1)", value, confidence=confidence, note=_reason(value))
    a = k * value / (n * (1 - value))
    b = 1 + k * value * (n - 1) / (n * (1 - value))
    if a * jms + b * ems == 0:
        note = "Nothing is left to chance, so it has no interval."
        return Estimate("ICC(2,1)", value, confidence=confidence, note=note)
    v = (a * jms + b * ems) ** 2 / ((a * jms) ** 2 / (k - 1) + (b * ems) ** 2 / ((n - 1) * (k - 1)))
    upper, lower = _f(n - 1, v, confidence), _f(v, n - 1, confidence)
    rest = k * jms + (k * n - k - n) * ems
    low = _share(n * (bms - upper * ems), upper * rest + n * bms)
    high = _share(n * (lower * bms - ems), rest + n * lower * bms)
    return Estimate("ICC(2,1)", value, math.nan, low, high, confidence)


def _bounded(
    name: str, value: float, f: float, degrees: tuple[int, int], k: int, confidence: float
) -> Estimate:
    """Return an estimate with the interval that F's distribution gives."""
    if math.isnan(value) or math.isinf(f):
        return Estimate(name, value, confidence=confidence, note=_reason(value))
    low = f / _f(*degrees, confidence)
    high = f * _f(degrees[1], degrees[0], confidence)
    return Estimate(
        name, value, math.nan, (low - 1) / (low + k - 1), (high - 1) / (high + k - 1), confidence
    )


def _average(name: str, single: Estimate, value: float, k: int) -> Estimate:
    """Return the reliability of the mean of k: Spearman and Brown's step up of the bounds."""
    low, high = (_stepped_up(x, k) for x in (single.low, single.high))
    note = single.note or _reason(value)
    if high == -math.inf:
        low = high = math.nan
        note = "Its interval is far below zero."
    return Estimate(name, value, math.nan, low, high, single.confidence, note)


def _stepped_up(single: float, k: int) -> float:
    """Return the bound of a mean of k; a correlation of -1 / (k - 1) or less has none below."""
    under = 1 + (k - 1) * single
    return -math.inf if under <= 0 else k * single / under


def _f(numerator: float, denominator: float, confidence: float) -> float:
    return float(special.fdtri(numerator, denominator, (1 + confidence) / 2))


def _share(over: float, under: float) -> float:
    if under == 0:
        return math.nan if over == 0 else math.copysign(math.inf, over)
    return over / under


def _reason(value: float) -> str:
    if math.isnan(value):
        return "Nothing varies between subjects or within them."
    return "The raters agree fully, so it has no interval." if value >= 1 else ""


def _no_icc(note: str, confidence: float) -> IntraclassCorrelations:
    nan = math.nan
    singles = [Estimate(f"ICC({m},1)", nan, confidence=confidence, note=note) for m in (1, 2, 3)]
    means = [Estimate(f"ICC({m},k)", nan, confidence=confidence, note=note) for m in (1, 2, 3)]
    return IntraclassCorrelations(
        (singles[0], singles[1], singles[2]),
        (means[0], means[1], means[2]),
        (nan, nan, nan),
        nan,
        nan,
        nan,
        nan,
    )

"""How well a score or a class tells an outcome: ROC, AUC, precision and recall, from merged counts.

A score is counted on a grid, apart for those with the outcome and those without. Pairs in one bin
are not ordered by it, so the area under the curve on the scores themselves is at most
sum P_b Q_b / (2 P Q) away from the binned one, P_b and Q_b being a bin's counts with and without.

Counts below zero (noise) are taken as 0; what follows is then ``approximate``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from contract.errors import DocumentError
from contract.statistics import special
from contract.statistics.estimates import (
    CONFIDENCE,
    NOISY,
    Estimate,
    Table,
    cells,
    ratio,
    z_quantile,
)
from contract.statistics.proportions import two_by_two, wilson
from contract.statistics.rank_tests import delong_error

ONE_SIDED = "Nobody has the outcome, or everybody has."


@dataclass(frozen=True)
class Curve:
    """Points of a curve, one for each threshold, from the highest to below all scores.

    ``thresholds``: who has this score or more is called positive; the first is infinite (nobody
    is), the last minus infinite. For ROC, ``x`` is 1 - specificity and ``y`` sensitivity; for
    precision and recall, ``x`` is recall and ``y`` precision (NaN while nobody is positive).
    """

    thresholds: tuple[float, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class Roc:
    """A ROC curve and its area.

    ``auc`` has an interval for sampling; ``error`` bounds what the bins can have changed, so the
    area on the scores themselves lies in ``[least, most]``.
    """

    curve: Curve
    auc: Estimate
    error: float
    least: float
    most: float


def roc(
    edges: ArrayLike,
    positives: ArrayLike,
    negatives: ArrayLike,
    method: Literal["delong", "hanley-mcneil"] = "delong",
    confidence: float = CONFIDENCE,
) -> Roc:
    """Return the ROC curve of a score, and the area under it.

    ``edges``: those of the bins, ascending; counts are one fewer (the bins), or one more (below,
    the bins, above: ``rank_tests.ordered``). ``positives``: those with the outcome. The area's
    standard error is that of DeLong et al. 1988 on the bins, or Hanley and McNeil's (1982); its
    interval is on the logit scale. NaN when one outcome is missing.
    """
    grid, table, noisy = _counted(edges, positives, negatives)
    note = NOISY if noisy else ""
    n, m = (float(x) for x in table.sum(axis=1))
    curve = Curve(_thresholds(grid, table), _from_the_top(table[1]), _from_the_top(table[0]))
    nan = math.nan
    if min(n, m) == 0:
        gone = Estimate("AUC", nan, confidence=confidence, note=ONE_SIDED, approximate=noisy)
        return Roc(curve, gone, nan, nan, nan)
    lower = np.cumsum(table[1]) - table[1]
    area = float(table[0] @ (lower + table[1] / 2)) / (n * m)
    bound = float(table[0] @ table[1]) / (2 * n * m)
    if method == "delong":
        error = delong_error(table[0], table[1])
    else:
        error = hanley_mcneil_error(area, n, m)
    low, high = _logit_interval(area, error, confidence)
    return Roc(
        curve,
        Estimate("AUC", area, error, low, high, confidence, note, noisy),
        bound,
        max(area - bound, 0.0),
        min(area + bound, 1.0),
    )


def hanley_mcneil_error(area: float, positives: float, negatives: float) -> float:
    """Return the standard error of an area under the curve by Hanley and McNeil 1982."""
    if min(positives, negatives) < 1:
        return math.nan
    q1, q2 = area / (2 - area), 2 * area * area / (1 + area)
    square = area * (1 - area)
    square += (positives - 1) * (q1 - area * area) + (negatives - 1) * (q2 - area * area)
    return math.sqrt(max(square, 0.0) / (positives * negatives))


def _logit_interval(area: float, error: float, confidence: float) -> tuple[float, float]:
    z = z_quantile(confidence)
    if not 0 < area < 1 or math.isnan(error):
        return math.nan, math.nan
    half = z * error / (area * (1 - area))
    centre = math.log(area / (1 - area))
    return float(special.expit(centre - half)), float(special.expit(centre + half))


@dataclass(frozen=True)
class PrecisionRecall:
    """The curve, and the average precision (area by steps: sum of precision x gain in recall)."""

    curve: Curve
    average_precision: float
    prevalence: float
    note: str = ""
    approximate: bool = False


def precision_recall(
    edges: ArrayLike, positives: ArrayLike, negatives: ArrayLike
) -> PrecisionRecall:
    """Return precision and recall at each edge of the bins. Arguments as of ``roc``."""
    grid, table, noisy = _counted(edges, positives, negatives)
    n, m = (float(x) for x in table.sum(axis=1))
    recall = np.array(_from_the_top(table[0]))
    hits, alarms = (np.concatenate([[0.0], np.cumsum(row[::-1])]) for row in table)
    called = hits + alarms
    precision = np.divide(hits, called, out=np.full_like(hits, math.nan), where=called > 0)
    curve = Curve(_thresholds(grid, table), tuple(recall.tolist()), tuple(precision.tolist()))
    if n == 0:
        return PrecisionRecall(curve, math.nan, 0.0 if m else math.nan, ONE_SIDED, noisy)
    average = float(np.nansum(precision[1:] * np.diff(recall)))
    return PrecisionRecall(curve, average, n / (n + m), NOISY if noisy else "", noisy)


def _counted(
    edges: ArrayLike, positives: ArrayLike, negatives: ArrayLike
) -> tuple[Table, Table, bool]:
    """Return the edges, and counts with (first row) and without the outcome: below, bins, above."""
    grid = np.asarray(edges, dtype=np.float64)
    rows = [cells(counts, 1) for counts in (positives, negatives)]
    noisy = any(touched for _, touched in rows)
    table = [counts for counts, _ in rows]
    if table[0].size != table[1].size or grid.ndim != 1 or not (np.diff(grid) > 0).all():
        raise DocumentError("The score's counts, with and without the outcome, need one grid.")
    if table[0].size == grid.size - 1:
        table = [np.concatenate([[0.0], row, [0.0]]) for row in table]
    if grid.size < 2 or table[0].size != grid.size + 1:
        raise DocumentError("The score's counts don't fit its grid.")
    return grid, np.stack(table), noisy


def _thresholds(grid: Table, table: Table) -> tuple[float, ...]:
    # Above the grid, each bin from its lower edge up, below the grid.
    return (math.inf, *(float(x) for x in grid[::-1]), -math.inf)


def _from_the_top(counts: Table) -> tuple[float, ...]:
    """Return the share at or above each threshold."""
    total = counts.sum()
    running = np.concatenate([[0.0], np.cumsum(counts[::-1])])
    return tuple((running / total if total > 0 else np.full_like(running, math.nan)).tolist())


@dataclass(frozen=True)
class Accuracy:
    """What a yes-or-no test is worth against the truth; proportions have Wilson's intervals.

    ``f1`` is the harmonic mean of sensitivity and positive predictive value; ``matthews`` the
    correlation phi; ``youden`` sensitivity + specificity - 1. The likelihood ratios have the
    intervals of Simel, Samsa and Matchar 1991. Predictive values hold at this prevalence only.
    """

    sensitivity: Estimate
    specificity: Estimate
    positive_predictive_value: Estimate
    negative_predictive_value: Estimate
    accuracy: Estimate
    prevalence: Estimate
    positive_likelihood_ratio: Estimate
    negative_likelihood_ratio: Estimate
    balanced_accuracy: float
    f1: float
    youden: float
    matthews: float


def accuracy(counts: ArrayLike, confidence: float = CONFIDENCE) -> Accuracy:
    """Return what a test is worth from ``[[tp, fp], [fn, tn]]``: rows the test, columns the truth.

    In the first row who tests positive, in the first column who has the outcome. A figure whose
    divisor is zero is NaN.
    """
    table, noisy = two_by_two(counts)
    (tp, fp), (fn, tn) = ((float(x) for x in row) for row in table)
    n = tp + fp + fn + tn
    sensitivity = wilson(tp, tp + fn, confidence, "sensitivity")
    specificity = wilson(tn, tn + fp, confidence, "specificity")
    margin = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    figures = [
        sensitivity,
        specificity,
        wilson(tp, tp + fp, confidence, "positive predictive value"),
        wilson(tn, tn + fn, confidence, "negative predictive value"),
        wilson(tp + tn, n, confidence, "accuracy"),
        wilson(tp + fn, n, confidence, "prevalence"),
        _likelihood("positive likelihood ratio", tp, tp + fn, fp, fp + tn, confidence),
        _likelihood("negative likelihood ratio", fn, tp + fn, tn, fp + tn, confidence),
    ]
    if noisy:
        figures = [replace(f, note=f"{f.note} {NOISY}".strip(), approximate=True) for f in figures]
    youden = sensitivity.value + specificity.value - 1
    return Accuracy(
        sensitivity=figures[0],
        specificity=figures[1],
        positive_predictive_value=figures[2],
        negative_predictive_value=figures[3],
        accuracy=figures[4],
        prevalence=figures[5],
        positive_likelihood_ratio=figures[6],
        negative_likelihood_ratio=figures[7],
        balanced_accuracy=(youden + 1) / 2,
        f1=2 * tp / (2 * tp + fp + fn) if tp + fp + fn > 0 else math.nan,
        youden=youden,
        matthews=(tp * tn - fp * fn) / math.sqrt(margin) if margin > 0 else math.nan,
    )


def _likelihood(
    name: str, with_it: float, n: float, without: float, m: float, confidence: float
) -> Estimate:
    if min(n, m) == 0:
        return Estimate(name, math.nan, confidence=confidence, note=ONE_SIDED)
    if with_it == 0 or without == 0:
        value = with_it / n / (without / m) if without else math.inf if with_it else math.nan
        return Estimate(name, value, confidence=confidence, note="A count is zero.")
    error = math.sqrt(max(1 / with_it - 1 / n + 1 / without - 1 / m, 0.0))
    return ratio(name, with_it / n / (without / m), error, confidence)


@dataclass(frozen=True)
class ClassReport:
    """One class of several against all others: counts by truth, and the usual three figures."""

    precision: float
    recall: float
    f1: float
    support: float


@dataclass(frozen=True)
class Confusion:
    """How well classes are told: by class, their plain mean (macro), weighted by support, and all.

    A class that nobody has or nobody was called counts 0 in the means where its figure is not
    defined, and stays NaN in its own row.
    """

    matrix: Table
    classes: tuple[ClassReport, ...]
    accuracy: Estimate
    macro: ClassReport
    weighted: ClassReport
    approximate: bool = False


def confusion(counts: ArrayLike, confidence: float = CONFIDENCE) -> Confusion:
    """Return the report of a crosstab of truth (rows) by class called (columns), same levels."""
    table, noisy = cells(counts, 2)
    if table.shape[0] != table.shape[1] or table.size == 0:
        raise DocumentError("Truth and class called must have the same levels.")
    n = float(table.sum())
    reports = [
        _report(float(table[i, i]), float(table[:, i].sum()), float(table[i].sum()))
        for i in range(len(table))
    ]
    share = wilson(float(np.trace(table)), n, confidence, "accuracy")
    if noisy:
        share = replace(share, note=NOISY, approximate=True)
    return Confusion(
        table,
        tuple(reports),
        share,
        _mean(reports, [1.0] * len(reports), n),
        _mean(reports, [report.support for report in reports], n),
        noisy,
    )


def _report(hits: float, called: float, support: float) -> ClassReport:
    return ClassReport(
        hits / called if called else math.nan,
        hits / support if support else math.nan,
        2 * hits / (called + support) if called + support else math.nan,
        support,
    )


def _mean(reports: Sequence[ClassReport], weights: Sequence[float], n: float) -> ClassReport:
    total = sum(weights)
    if total == 0:
        return ClassReport(math.nan, math.nan, math.nan, n)

    def of(name: str) -> float:
        held = (float(np.nan_to_num(getattr(report, name))) for report in reports)
        return sum(w * value for w, value in zip(weights, held, strict=True)) / total

    return ClassReport(of("precision"), of("recall"), of("f1"), n)

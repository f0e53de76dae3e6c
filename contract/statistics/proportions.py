"""Proportions and what compares two of them: difference, ratio, odds ratio, with intervals.

A table of two by two has the exposed (or first) group in its first row and those with the event in
its first column: ``[[a, b], [c, d]]``. Counts below zero (noise) are taken as 0; the answer is then
``approximate``.
"""

from __future__ import annotations

import math
from dataclasses import replace

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
    checked_confidence,
    ratio,
    z_quantile,
)

NOBODY = "A group holds nobody."
EMPTY_CELL = "A cell is empty, so it has no standard error."


def wilson(
    events: float, n: float, confidence: float = CONFIDENCE, name: str = "proportion"
) -> Estimate:
    """Return a proportion with Wilson's score interval (1927); NaN of nobody."""
    (events, n), noisy = _pair(events, n)
    if n <= 0:
        return Estimate(name, math.nan, confidence=confidence, note=NOBODY, approximate=noisy)
    p, z = events / n, z_quantile(confidence)
    scale = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    return Estimate(
        name,
        p,
        math.sqrt(p * (1 - p) / n),
        0.0 if events == 0 else max(centre - half, 0.0),
        1.0 if events == n else min(centre + half, 1.0),
        confidence,
        NOISY if noisy else "",
        noisy,
    )


def clopper_pearson(events: float, n: float, confidence: float = CONFIDENCE) -> Estimate:
    """Return a proportion with the exact interval (Clopper and Pearson 1934); NaN of nobody."""
    (events, n), noisy = _pair(events, n)
    if n <= 0:
        note = NOBODY
        return Estimate("proportion", math.nan, confidence=confidence, note=note, approximate=noisy)
    tail, p = (1 - checked_confidence(confidence)) / 2, events / n
    low = 0.0 if events == 0 else float(special.betaincinv(events, n - events + 1, tail))
    high = 1.0 if events == n else float(special.betaincinv(events + 1, n - events, 1 - tail))
    error = math.sqrt(p * (1 - p) / n)
    return Estimate("proportion", p, error, low, high, confidence, NOISY if noisy else "", noisy)


def risk_difference(counts: ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """Return the first group's risk less the second's, with Newcombe's interval.

    Newcombe 1998, method 10: from both groups' Wilson intervals. The standard error is Wald's.
    """
    name = "risk difference"
    table, noisy = two_by_two(counts)
    if table.sum(axis=1).min() == 0:
        return Estimate(name, math.nan, confidence=confidence, note=NOBODY, approximate=noisy)
    first, second = (wilson(row[0], row.sum(), confidence) for row in table)
    value = first.value - second.value
    return _marked(
        Estimate(
            name,
            value,
            math.hypot(first.standard_error, second.standard_error),
            value - math.hypot(first.value - first.low, second.high - second.value),
            value + math.hypot(first.high - first.value, second.value - second.low),
            confidence,
        ),
        noisy,
    )


def risk_ratio(
    counts: ArrayLike, confidence: float = CONFIDENCE, correction: float = 0.0
) -> Estimate:
    """Return the ratio of the first group's risk to the second's, with Katz' interval (1978).

    By the normal distribution of its logarithm, whose standard error it has. ``correction`` is
    added to each cell (0.5 after Haldane and Anscombe); without one, no events in a group leave
    the interval NaN.
    """
    name = "risk ratio"
    table, noisy = two_by_two(counts)
    table = table + correction
    n = table.sum(axis=1)
    if n.min() == 0:
        return Estimate(name, math.nan, confidence=confidence, note=NOBODY, approximate=noisy)
    events = table[:, 0]
    if events.min() == 0:
        return _unbounded(name, events[0] / n[0], events[1] / n[1], confidence, noisy)
    error = math.sqrt(float((1 / events - 1 / n).sum()))
    value = float(events[0] / n[0] / (events[1] / n[1]))
    return _marked(ratio(name, value, error, confidence), noisy)


def odds_ratio(
    counts: ArrayLike, confidence: float = CONFIDENCE, correction: float = 0.0
) -> Estimate:
    """Return the ratio of the first group's odds to the second's, with Woolf's interval (1955).

    As ``risk_ratio``: the standard error is of the logarithm, an empty cell leaves it NaN unless
    ``correction`` fills it.
    """
    name = "odds ratio"
    table, noisy = two_by_two(counts)
    table = table + correction
    if table.sum(axis=1).min() == 0:
        return Estimate(name, math.nan, confidence=confidence, note=NOBODY, approximate=noisy)
    (a, b), (c, d) = table
    if table.min() == 0:
        return _unbounded(name, a * d, b * c, confidence, noisy)
    error = math.sqrt(float((1 / table).sum()))
    return _marked(ratio(name, float(a * d / (b * c)), error, confidence), noisy)


def number_needed_to_treat(counts: ArrayLike, confidence: float = CONFIDENCE) -> Estimate:
    """Return 1 / risk difference, with the interval's ends inverted (Altman 1998).

    Where the interval of the difference holds 0 the number's is two half lines: then its ends are
    NaN and the note says so.
    """
    name = "number needed to treat"
    difference = risk_difference(counts, confidence)
    if math.isnan(difference.value) or difference.value == 0:
        note = difference.note or "The risks are alike."
        return replace(difference, name=name, value=math.nan, low=math.nan, high=math.nan,
                       standard_error=math.nan, note=note)  # fmt: skip
    low, high, note = 1 / difference.high, 1 / difference.low, difference.note
    if difference.low <= 0 <= difference.high:
        low = high = math.nan
        note = f"The interval of the difference holds 0. {note}".strip()
    return replace(
        difference, name=name, value=1 / difference.value, standard_error=math.nan, low=low,
        high=high, note=note,
    )  # fmt: skip


def two_by_two(counts: ArrayLike) -> tuple[Table, bool]:
    """Return a table of two by two, and whether noise touched it; ``DocumentError`` for others."""
    table, noisy = cells(counts, 2)
    if table.shape != (2, 2):
        raise DocumentError("A table of two by two is needed: groups by event.")
    return table, noisy


def _unbounded(name: str, over: float, under: float, confidence: float, noisy: bool) -> Estimate:
    value = math.nan if under == 0 == over else math.inf if under == 0 else 0.0
    if under > 0 and over > 0:
        value = float(over / under)
    note = f"{EMPTY_CELL} {NOISY if noisy else ''}".strip()
    return Estimate(name, value, confidence=confidence, note=note, approximate=noisy)


def _pair(events: float, n: float) -> tuple[tuple[float, float], bool]:
    (events, n), noisy = cells(np.array([events, n]))
    if events > n:
        return (float(n), float(n)), True
    return (float(events), float(n)), noisy


def _marked(estimate: Estimate, noisy: bool) -> Estimate:
    if not noisy:
        return estimate
    return replace(estimate, note=f"{estimate.note} {NOISY}".strip(), approximate=True)

"""What is measured of a cohort, as vectors of whole numbers that one subject moves only a little.

Guarantee: adding or removing one subject changes ``counts`` by at most 1 in L1, and ``totals`` and
``squares`` by at most ``STEPS`` each. For a subject has one row, is in at most one group, and there
in one cell (a level or bin, below, above, or missing); and a value is moved into its variable's
bounds before it is summed, whatever it is. The form depends on the question alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.documents import Project, Statistic, Variable
from contract.errors import Refused
from contract.statistics import answers
from contract.statistics.summaries import Codes, Numbers, grid_places

Columns = Mapping[str, Numbers | Codes]
STEPS = 2**20
"""Steps in which a value is counted, from the middle of its variable's bounds to either of them."""


@dataclass(frozen=True)
class Measure:
    """The exact figures of one statistic, by group one after the other. They never leave."""

    counts: list[int]
    totals: list[int]
    squares: list[int]


def bounds(statistic: Statistic, project: Project) -> tuple[float, float]:
    """Return the bounds of the variable asked about; ``Refused`` when it has none."""
    variable = answers.check(statistic, project)
    low, high = variable.minimum, variable.maximum
    if low is None or high is None or not math.isfinite(high - low):
        raise Refused(
            "no-bounds",
            f"Moments of {variable.name} can't have noise: the dictionary gives it no bounds.",
        )
    return low, high


def check(statistic: Statistic, project: Project) -> None:
    """Raise ``Refused`` for what can't be answered with noise, whatever the data."""
    if statistic.kind == "moments":
        bounds(statistic, project)


def groups(statistic: Statistic, project: Project) -> list[str]:
    """Return the groups of a statistic, in order; one without a name when there is no ``by``."""
    by = project.variable(statistic.by) if statistic.by else None
    return list(by.levels) if by else [""]


def measure(
    statistic: Statistic, project: Project, columns: Columns, cohort: NDArray[np.bool_] | None
) -> Measure:
    """Return the figures of one statistic over those of the cohort; None is everybody.

    Every step goes over all rows, whoever is in the cohort, so that the time it takes doesn't
    depend on how many are: those outside are counted too, in a place of their own.
    """
    variable = answers.check(statistic, project)
    column = columns[statistic.variable]
    group, names = _group(statistic, project, columns, column.size), groups(statistic, project)
    if cohort is not None:
        group = np.where(cohort, group, -1)
    if statistic.kind == "moments":
        return _moments(column, bounds(statistic, project), group, len(names))
    cell, cells = _cells(statistic, variable, column)
    return Measure(_tally(group, len(names), cell, cells), [], [])


def _group(statistic: Statistic, project: Project, columns: Columns, size: int) -> Codes:
    """Return the group of each row; -1 for none."""
    if statistic.by is None:
        return np.zeros(size, dtype=np.int64)
    return np.asarray(columns[statistic.by], dtype=np.int64)


def _cells(statistic: Statistic, variable: Variable, column: Numbers | Codes) -> tuple[Codes, int]:
    """Return the cell of each row, and how many there are: counts, missing, below and above."""
    if variable.kind == "category":
        codes = np.asarray(column, dtype=np.int64)
        if statistic.kind == "count":
            return np.where(codes < 0, 1, 0), 2
        return np.where(codes < 0, len(variable.levels), codes), len(variable.levels) + 1
    numbers = np.asarray(column, dtype=np.float64)
    missing = np.isnan(numbers)
    if statistic.kind == "count":
        return missing.astype(np.int64), 2
    bins = variable.bins or 0
    places = grid_places(numbers, variable)
    return np.where(missing, bins, np.where(places < bins, places, places + 1)), bins + 3


def _tally(group: Codes, number: int, cell: Codes, cells: int) -> list[int]:
    """Return how many rows are in each cell of each group."""
    place = np.where(group < 0, number * cells, group * cells + cell)
    return [int(n) for n in np.bincount(place, minlength=number * cells + 1)[:-1]]


def _moments(
    column: Numbers | Codes, range_: tuple[float, float], group: Codes, number: int
) -> Measure:
    low, high = range_
    values = np.asarray(column, dtype=np.float64)
    missing = np.isnan(values)
    steps = _steps(np.where(missing, low, values), low, high)
    squares = 2 * steps * steps // STEPS - STEPS
    with_value = np.where((group < 0) | missing, number, group)

    def summed(figures: Codes) -> list[int]:
        # Whole numbers, and their sums far below 2^53: exact in float64, in whatever order.
        return [int(n) for n in np.bincount(with_value, figures, minlength=number + 1)[:-1]]

    counts = _tally(group, number, missing.astype(np.int64), 2)
    return Measure(counts, summed(steps), summed(squares))


def _steps(values: Numbers, low: float, high: float) -> Codes:
    """Return values in steps from the middle of their bounds, moved into these first."""
    half = (high - low) / 2
    moved = (np.clip(values, low, high) - (low + half)) / half
    return np.clip(np.rint(moved * STEPS).astype(np.int64), -STEPS, STEPS)

"""What is measured of a cohort, as vectors of whole numbers that one subject moves only a little.

Guarantee: adding or removing one subject changes ``counts`` by at most 1 in L1, and each of
``sums`` by at most what ``sensitivities`` says of it. For a subject has one row, is in at most one
group, and there in one cell (a level, a bin or a combination of them, or missing); and a value is
moved into its variable's bounds before it is summed, whatever it is. The form depends on the
question alone.

Powers of a value u in [-1, 1] are summed as Chebyshev's polynomials T1 to T4 of it, which lie in
[-1, 1] too: with u = T1, u^2 = (T2 + 1) / 2, u^3 = (T3 + 3 T1) / 4, u^4 = (T4 + 4 T2 + 3) / 8 the
noise of the powers is smaller than if they were summed themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import Refused
from contract.statistics import answers
from contract.statistics.summaries import Codes, Numbers, grid_places, place_codes, places
from contract.work import Statistic

Columns = Mapping[str, Numbers | Codes]
STEPS = 2**20
"""Steps in which a value is counted, from the middle of its variable's bounds to either of them."""
MAX_DRAWN = 50_000
"""Figures of one statistic, all groups together: drawing more takes seconds, and tells little."""
ORDERS = {"moments": 2, "shape": 4}
"""Up to which order the powers of one number are summed."""


@dataclass(frozen=True)
class Measure:
    """The exact figures of one statistic, by group one after the other. They never leave.

    ``sums``: of moments and shape one list for each order; of comoments those of the numbers, and
    those of the products, row by row of the upper triangle.
    """

    counts: list[int]
    sums: tuple[list[int], ...] = ()


def bounds(statistic: Statistic, project: Project) -> list[tuple[float, float]]:
    """Return the bounds of each variable asked about; ``Refused`` when one has none."""
    answers.check(statistic, project)
    found = []
    for name in statistic.variables:
        variable = answers.known(name, project)
        low, high = variable.minimum, variable.maximum
        if low is None or high is None or not math.isfinite(high - low):
            raise Refused(
                "no-bounds",
                f"Moments of {name} can't have noise: the dictionary gives it no bounds.",
            )
        found.append((low, high))
    return found


def check(statistic: Statistic, project: Project) -> None:
    """Raise ``Refused`` for what can't be answered with noise, whatever the data."""
    if _is_summed(statistic):
        bounds(statistic, project)
    drawn = _figures(statistic, project) * len(groups(statistic, project))
    if drawn > MAX_DRAWN:
        raise Refused(
            "no-noise", f"At most {MAX_DRAWN} figures of one statistic are answered with noise."
        )


def _is_summed(statistic: Statistic) -> bool:
    return statistic.kind in ORDERS or statistic.kind == "comoments"


def _figures(statistic: Statistic, project: Project) -> int:
    """Return how many figures of each group are drawn."""
    variables = [answers.known(name, project) for name in statistic.variables]
    if _is_summed(statistic):
        width = len(variables)
        return 2 + ORDERS.get(statistic.kind, width + width * (width + 1) // 2)
    if statistic.kind == "count":
        return 2
    return 1 + math.prod(map(places, variables))


def groups(statistic: Statistic, project: Project) -> list[str]:
    """Return the groups of a statistic, in order; one without a name when there is no ``by``."""
    by = project.variable(statistic.by) if statistic.by else None
    return list(by.levels) if by else [""]


def sensitivities(statistic: Statistic) -> list[int]:
    """Return by how much, in L1, one subject more or less can change each of the sums."""
    if statistic.kind in ORDERS:
        return [STEPS] * ORDERS[statistic.kind]
    if statistic.kind == "comoments":
        width = len(statistic.variables)
        return [width * STEPS, width * (width + 1) // 2 * STEPS]
    return []


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
    if statistic.kind in ORDERS:
        [range_] = bounds(statistic, project)
        return _powers(column, range_, ORDERS[statistic.kind], group, len(names))
    if statistic.kind == "comoments":
        held = [columns[name] for name in statistic.variables]
        return _products(held, bounds(statistic, project), group, len(names))
    if statistic.kind == "crosstab":
        crossed = [answers.known(name, project) for name in statistic.variables]
        cell, cells = _crossed(crossed, [columns[v.name] for v in crossed])
    else:
        cell, cells = _cells(statistic, variable, column)
    return Measure(_tally(group, len(names), cell, cells))


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


def _crossed(
    variables: Sequence[Variable], columns: Sequence[Numbers | Codes]
) -> tuple[Codes, int]:
    """Return the combination of each row, the last one for who lacks any; and how many."""
    flat = np.zeros(columns[0].size, dtype=np.int64)
    gone = np.zeros(columns[0].size, dtype=np.bool_)
    cells = 1
    for variable, column in zip(variables, columns, strict=True):
        codes, width = place_codes(variable, column), places(variable)
        gone |= codes < 0
        flat = flat * width + codes
        cells *= width
    return np.where(gone, cells, flat), cells + 1


def _tally(group: Codes, number: int, cell: Codes, cells: int) -> list[int]:
    """Return how many rows are in each cell of each group."""
    place = np.where(group < 0, number * cells, group * cells + cell)
    return [int(n) for n in np.bincount(place, minlength=number * cells + 1)[:-1]]


def _powers(
    column: Numbers | Codes, range_: tuple[float, float], order: int, group: Codes, number: int
) -> Measure:
    scaled, missing = _scaled(column, range_)
    chebyshev = [scaled, 2 * scaled**2 - 1]
    while len(chebyshev) < order:
        chebyshev.append(2 * scaled * chebyshev[-1] - chebyshev[-2])
    counts = _tally(group, number, missing.astype(np.int64), 2)
    return Measure(
        counts, tuple(_sums(chebyshev[at], missing, group, number) for at in range(order))
    )


def _products(
    columns: Sequence[Numbers | Codes],
    ranges: Sequence[tuple[float, float]],
    group: Codes,
    number: int,
) -> Measure:
    """Return sums of numbers and products over rows that have all; squares are T2 of them."""
    both = [_scaled(column, range_) for column, range_ in zip(columns, ranges, strict=True)]
    scaled = [one for one, _ in both]
    missing = np.logical_or.reduce([gone for _, gone in both])
    counts = _tally(group, number, missing.astype(np.int64), 2)
    firsts = [_sums(one, missing, group, number) for one in scaled]
    products = [
        _sums(one * other if i < j else 2 * one**2 - 1, missing, group, number)
        for i, one in enumerate(scaled)
        for j, other in enumerate(scaled)
        if i <= j
    ]
    return Measure(counts, (_by_group(firsts), _by_group(products)))


def _by_group(sums: Sequence[Sequence[int]]) -> list[int]:
    """Return each group's sums one after the other, from each sum's groups."""
    return [one for group in zip(*sums, strict=True) for one in group]


def _sums(figures: Numbers, missing: NDArray[np.bool_], group: Codes, number: int) -> list[int]:
    """Return sums in steps of figures in [-1, 1], of each group's rows that aren't missing."""
    steps = _bounded(np.rint(figures * STEPS), -STEPS, STEPS)
    where = np.where((group < 0) | missing, number, group)
    # Whole numbers, and their sums far below 2^53: exact in float64, in whatever order.
    return [int(n) for n in np.bincount(where, steps, minlength=number + 1)[:-1]]


def _scaled(
    column: Numbers | Codes, range_: tuple[float, float]
) -> tuple[Numbers, NDArray[np.bool_]]:
    """Return values as -1 to 1 from bound to bound, moved into these first; and who has none."""
    low, high = range_
    values = np.asarray(column, dtype=np.float64)
    missing = np.isnan(values)
    half = (high - low) / 2
    moved = (_bounded(np.where(missing, low, values), low, high) - (low + half)) / half
    return _bounded(moved, -1.0, 1.0), missing


def _bounded(values: Numbers, low: float, high: float) -> Numbers:
    return np.clip(values, low, high)

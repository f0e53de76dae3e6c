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

from contract.documents import Project, Statistic
from contract.errors import Refused
from contract.statistics import answers
from contract.statistics.summaries import Codes, Counts, Numbers

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
    """Return the figures of one statistic over those of the cohort; None is everybody."""
    wanted = [statistic.variable, *([statistic.by] if statistic.by else [])]
    chosen = {n: columns[n] if cohort is None else columns[n][cohort] for n in wanted}
    if statistic.kind == "moments":
        return _moments(statistic, project, chosen)
    part = answers.answer_locally([statistic], project, chosen)[0]
    found: list[int] = []
    for summary in part.groups.values():
        assert isinstance(summary, Counts)
        found += [*summary.counts, summary.missing]
        if statistic.kind == "histogram":
            found += [summary.below, summary.above]
    return Measure(found, [], [])


def _moments(statistic: Statistic, project: Project, columns: Columns) -> Measure:
    low, high = bounds(statistic, project)
    values = np.asarray(columns[statistic.variable], dtype=np.float64)
    present = ~np.isnan(values)
    half = (high - low) / 2
    inside = np.clip(np.where(present, values, low), low, high)
    steps = np.rint((inside - (low + half)) / half * STEPS).astype(np.int64)
    np.clip(steps, -STEPS, STEPS, out=steps)
    squares = 2 * steps * steps // STEPS - STEPS
    found = Measure([], [], [])
    for chosen in _members(statistic, project, columns, values.size):
        with_value = chosen & present
        n = int(np.count_nonzero(with_value))
        found.counts.extend((n, int(np.count_nonzero(chosen)) - n))
        found.totals.append(int(steps[with_value].sum()))
        found.squares.append(int(squares[with_value].sum()))
    return found


def _members(
    statistic: Statistic, project: Project, columns: Columns, size: int
) -> list[NDArray[np.bool_]]:
    if statistic.by is None:
        return [np.ones(size, dtype=np.bool_)]
    codes = columns[statistic.by]
    return [codes == i for i in range(len(groups(statistic, project)))]

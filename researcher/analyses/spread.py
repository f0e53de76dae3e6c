"""How numbers spread, as pictures show it: box plots of one or more, the density of two together.

Both are of counts on the dictionary's grids: no point of anybody's is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics.quantiles import Quantile
from contract.work import Statistic
from researcher.analyses.crosstabs import shaped
from researcher.analyses.groups import ALL, counts_of, remarks, variable_of
from researcher.analyses.numbers import quantiles_of
from researcher.findings import Cell, Finding
from researcher.plots import Boxes, Density
from researcher.questions import crosstab, histogram
from researcher.statistics import StatisticsAnswer

FIVE = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The shares of a box plot's five numbers. Tukey's whiskers end at single subjects' values."""


def _on_a_grid(project: Project, name: str) -> Variable:
    variable = variable_of(project, name)
    if variable.bins is None:
        raise DocumentError(f"The dictionary gives {name} no grid to count it on.")
    return variable


# ---- boxes ---------------------------------------------------------------------------------------


def ask_boxes(project: Project, variables: Sequence[str], by: str | None) -> list[Statistic]:
    """Return what box plots are worked out from: one question, however many numbers."""
    return [histogram(_on_a_grid(project, name).name, by) for name in variables]


def box_plots(answer: StatisticsAnswer, by: str | None) -> Finding:
    """Return five quantiles of each number, of each group; each right within a cell's width."""
    rows: list[tuple[Cell, ...]] = []
    found: dict[tuple[str, str], list[Quantile]] = {}
    said: list[str] = []
    for part in answer.parts:
        variable = variable_of(answer.project, part.statistic.variable)
        if part.part.withheld:
            rows.append((variable.name, "", *(math.nan,) * 5, 0))
            continue
        for group, counts in counts_of(part).items():
            held = quantiles_of(counts, part, variable, FIVE)
            found[variable.name, group] = held
            of = "" if group == ALL else group
            rows.append((variable.name, of, *(q.value for q in held), counts.n))
            said += [q.note for q in held]
    units = {variable_of(answer.project, name).unit for name, _ in found}
    names = tuple(dict.fromkeys(name for name, _ in found))
    return Finding(
        title=f"Box plot of {', '.join(names)}" + (f" by {by}" if by else ""),
        columns=("variable", "group", "5 %", "Q1", "median", "Q3", "95 %", "n"),
        rows=tuple(rows),
        result=found,
        answers=(answer,),
        about="Boxes are of the quartiles of all sites' subjects together, whiskers of the 5th and "
        "95th percentile (Hyndman and Fan's type 7), each right within a cell's width of the "
        "dictionary's grid.",
        figure=Boxes(
            tuple(_label(name, group, len(names)) for name, group in found),
            tuple(tuple(q.value for q in held) for held in found.values()),
            (units.pop() or "") if len(units) == 1 else "",
        )
        if found
        else None,
        remarks=remarks(answer, *said),
    )


def _label(name: str, group: str, names: int) -> str:
    if group == ALL:
        return name
    return group if names == 1 else f"{name}, {group}"


# ---- two numbers together ------------------------------------------------------------------------


@dataclass(frozen=True)
class Together:
    """Counts of two numbers on their grids; those outside a grid are in none of its cells."""

    first_edges: tuple[float, ...]
    second_edges: tuple[float, ...]
    counts: NDArray[np.float64]
    """By the first's bins and the second's."""
    outside: float


def ask_density(project: Project, first: str, second: str) -> list[Statistic]:
    """Return what the density of two numbers is worked out from: their crosstab on the grids."""
    for name in (first, second):
        _on_a_grid(project, name)
    return [crosstab(first, second)]


def density(answer: StatisticsAnswer) -> Finding:
    """Return how many have two numbers in each pair of their grids' bins."""
    part = answer.parts[0]
    first, second = (variable_of(answer.project, name) for name in part.statistic.variables)
    table = shaped(part, answer.project)
    # A grid's places are its bins, below it and above it.
    counts = table[: first.bins, : second.bins]
    edges = _edges(first), _edges(second)
    rows: list[tuple[Cell, ...]] = [
        (*edges[0][i : i + 2], *edges[1][j : j + 2], float(counts[i, j]))
        for i, j in np.argwhere(counts)
    ]
    found = Together(*edges, counts, float(table.sum() - counts.sum()))
    held = counts_of(part)[ALL]
    return Finding(
        title=f"{first.name} and {second.name} together",
        columns=(
            *(f"{one.name}.{end}" for one in (first, second) for end in ("low", "high")),
            "count",
        ),
        rows=tuple(rows),
        result=found,
        answers=(answer,),
        about="Two numbers were counted together on the dictionary's grids.",
        figure=Density(*edges, tuple(map(tuple, counts.tolist())), _named(first), _named(second)),
        remarks=remarks(
            answer,
            f"{found.outside:g} lie outside a grid." if found.outside else "",
            f"{held.missing} lack a value of one of them." if held.missing else "",
        ),
    )


def _edges(variable: Variable) -> tuple[float, ...]:
    assert variable.minimum is not None and variable.maximum is not None and variable.bins
    return tuple(np.linspace(variable.minimum, variable.maximum, variable.bins + 1).tolist())


def _named(variable: Variable) -> str:
    return variable.name + (f" ({variable.unit})" if variable.unit else "")

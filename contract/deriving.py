"""What the operations of ``contract.derivations`` make of a table's columns.

A value that isn't known makes a result that isn't, and so does one that isn't finite: a division by
zero, an overflow, the logarithm of what isn't above 0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.cohorts import Cohort
from contract.derivations import (
    Add,
    Bins,
    Days,
    Divide,
    Exp,
    FirstKnown,
    Known,
    Log,
    MissingIf,
    Multiply,
    Of,
    Power,
    Recode,
    Sqrt,
    Subtract,
    Where,
    Years,
)
from contract.dictionary import Variable
from contract.errors import DataError
from contract.holdings import Operation

DAYS_A_YEAR = 365.25
Numbers = NDArray[np.float64]
"""One value for each row; NaN is missing."""
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Coded:
    """A category: for each row the index of its level, -1 when missing."""

    codes: NDArray[np.int64]
    levels: tuple[str, ...]


Column = Numbers | Coded


@dataclass(frozen=True)
class Table:
    """Columns of as many rows: variables by name, and days since some one day by date column."""

    rows: int
    variables: Mapping[str, Column]
    dates: Mapping[str, Numbers]


@dataclass(frozen=True)
class Lost:
    """Values that were made missing since the dictionary doesn't permit them."""

    out_of_range: int = 0
    not_whole: int = 0
    unknown_level: int = 0


def derive(node: Operation | float, table: Table) -> Column:
    """Return what an expression makes, for each row of a table. ``DataError`` if a column lacks."""
    if not isinstance(node, Operation):
        return np.full(table.rows, float(node))
    if type(node) not in _MAKERS:
        raise DataError(f"{type(node).__name__} isn't worked out from a table's columns alone.")
    with np.errstate(all="ignore"):
        found = _MAKERS[type(node)](node, table)
    return found if isinstance(found, Coded) else np.where(np.isfinite(found), found, np.nan)


def fit(column: Column, variable: Variable) -> tuple[Column, Lost]:
    """Return a derived column as the dictionary permits it, and what that made missing."""
    if isinstance(column, Coded):
        places = {level: at for at, level in enumerate(variable.levels)}
        to = np.array([*(places.get(level, -1) for level in column.levels), -1], dtype=np.int64)
        codes = to[column.codes]
        lost = int(np.count_nonzero((codes < 0) & (column.codes >= 0)))
        return Coded(codes, variable.levels), Lost(unknown_level=lost)
    values = column.copy()
    outside = np.zeros(values.size, dtype=np.bool_)
    if variable.minimum is not None and variable.maximum is not None:
        outside = (values < variable.minimum) | (values > variable.maximum)
        values[outside] = np.nan
    broken = np.zeros(values.size, dtype=np.bool_)
    if variable.whole:
        broken = ~np.isnan(values) & (values != np.rint(values))
        values[broken] = np.nan
    return values, Lost(int(outside.sum()), int(broken.sum()))


# ---- operations ----------------------------------------------------------------------------------


def _column(node: Of, table: Table) -> Column:
    if node.variable not in table.variables:
        raise DataError(
            f"The table has no column {node.variable}, which a variable is derived from."
        )
    return table.variables[node.variable]


def _number(node: Operation | float, table: Table) -> Numbers:
    found = derive(node, table)
    if isinstance(found, Coded):
        raise DataError("A category of the table stands where a number is calculated with.")
    return found


def _all(nodes: Sequence[Operation | float], table: Table) -> list[Numbers]:
    return [_number(node, table) for node in nodes]


def _between(names: tuple[str, str], table: Table) -> Numbers:
    for name in names:
        if name not in table.dates:
            raise DataError(f"The table has no date {name}, which a variable is derived from.")
    return table.dates[names[1]] - table.dates[names[0]]


def _first_known(node: FirstKnown, table: Table) -> Column:
    columns = [derive(one, table) for one in node.first_known]
    numbers = [c for c in columns if not isinstance(c, Coded)]
    coded = [c for c in columns if isinstance(c, Coded)]
    if numbers and coded:
        raise DataError("A number and a category of the table stand for one another.")
    if numbers:
        return functools.reduce(lambda a, b: np.where(np.isnan(a), b, a), numbers)
    levels = tuple(dict.fromkeys(level for c in coded for level in c.levels))
    aligned = [_aligned(c, levels) for c in coded]
    return Coded(functools.reduce(lambda a, b: np.where(a < 0, b, a), aligned), levels)


def _known(node: Known, table: Table) -> Numbers:
    held = [derive(one, table) for one in node.known]
    there = [c.codes >= 0 if isinstance(c, Coded) else ~np.isnan(c) for c in held]
    return np.asarray(np.sum(there, axis=0), dtype=np.float64)


def _aligned(column: Coded, levels: Sequence[str]) -> NDArray[np.int64]:
    places = {level: at for at, level in enumerate(levels)}
    return np.array([*(places[level] for level in column.levels), -1], dtype=np.int64)[column.codes]


def _missing_if(node: MissingIf, table: Table) -> Column:
    column, values = derive(node.missing_if, table), node.values
    if isinstance(column, Coded):
        gone = [at for at, level in enumerate(column.levels) if level in values]
        return Coded(np.where(np.isin(column.codes, gone), -1, column.codes), column.levels)
    numbers = [value for value in values if not isinstance(value, str)]
    return np.where(np.isin(column, numbers), np.nan, column)


def _bins(node: Bins, table: Table) -> Coded:
    values, levels = _number(node.bins, table), node.levels
    codes = np.searchsorted(np.array(node.edges), values, side="right").astype(np.int64)
    # Two bins may have one level's name.
    names = tuple(dict.fromkeys(levels))
    to = np.array([names.index(level) for level in levels], dtype=np.int64)
    return Coded(np.where(np.isnan(values), -1, to[np.minimum(codes, len(levels) - 1)]), names)


def _recode(node: Recode, table: Table) -> Coded:
    column = derive(node.recode, table)
    if not isinstance(column, Coded):
        found, places = np.unique(column, return_inverse=True)
        texts = tuple(number_text(value) for value in found.tolist())
        codes = np.where(np.isnan(column), -1, places.reshape(-1)).astype(np.int64)
        column = Coded(codes, texts)
    named = (*node.levels.values(), node.otherwise, node.absent)
    levels = tuple(dict.fromkeys(level for level in named if level is not None))
    places_of: dict[str | None, int] = {level: at for at, level in enumerate(levels)}
    to = [places_of.get(node.levels.get(old, node.otherwise), -1) for old in column.levels]
    to.append(places_of.get(node.absent, -1))
    return Coded(np.array(to, dtype=np.int64)[column.codes], levels)


def _where(node: Where, table: Table) -> Coded:
    holds, fails = _truth(node.where, table)
    return Coded(np.where(holds, 1, np.where(fails, 0, -1)).astype(np.int64), node.levels)


def _truth(cohort: Cohort, table: Table) -> tuple[Flags, Flags]:
    """Return for each row whether conditions hold, and whether they don't; neither where open.

    Kleene's logic of three values, which R's is.
    """
    if cohort.not_ is not None:
        holds, fails = _truth(cohort.not_, table)
        return fails, holds
    if cohort.variable is None:
        every = [_truth(one, table) for one in cohort.all or cohort.any or ()]
        held, failed = [h for h, _ in every], [f for _, f in every]
        if cohort.all is not None:
            return np.logical_and.reduce(held), np.logical_or.reduce(failed)
        return np.logical_or.reduce(held), np.logical_and.reduce(failed)
    column = _column(Of(variable=cohort.variable), table)
    coded = isinstance(column, Coded)
    gone = column.codes < 0 if isinstance(column, Coded) else np.isnan(column)
    if cohort.missing is not None:
        holds = gone == cohort.missing
        return holds, ~holds
    if coded != (cohort.levels is not None):
        raise DataError(f"A condition on {cohort.variable} isn't of the kind that the table has.")
    if isinstance(column, Coded):
        places = [at for at, level in enumerate(column.levels) if level in (cohort.levels or ())]
        holds = np.isin(column.codes, places)
    else:
        holds = ~gone
        holds &= column >= cohort.at_least if cohort.at_least is not None else True
        holds &= column > cohort.above if cohort.above is not None else True
        holds &= column <= cohort.at_most if cohort.at_most is not None else True
        holds &= column < cohort.below if cohort.below is not None else True
    return holds, ~holds & ~gone


def number_text(value: float) -> str:
    """Return a number as a level's text: without a decimal point when it is whole."""
    return str(int(value)) if value.is_integer() else repr(value)


_MAKERS: dict[type[Operation], Callable[[Any, Table], Column]] = {
    Of: _column,
    Add: lambda node, table: functools.reduce(np.add, _all(node.add, table)),
    Multiply: lambda node, table: functools.reduce(np.multiply, _all(node.multiply, table)),
    Subtract: lambda node, table: np.subtract(*_all(node.subtract, table)),
    Divide: lambda node, table: np.divide(*_all(node.divide, table)),
    Power: lambda node, table: np.power(_number(node.power[0], table), node.power[1]),
    Log: lambda node, table: np.log(_number(node.log, table)),
    Exp: lambda node, table: np.exp(_number(node.exp, table)),
    Sqrt: lambda node, table: np.sqrt(_number(node.sqrt, table)),
    Days: lambda node, table: _between(node.days, table),
    Years: lambda node, table: _between(node.years, table) / DAYS_A_YEAR,
    FirstKnown: _first_known,
    Known: _known,
    MissingIf: _missing_if,
    Bins: _bins,
    Recode: _recode,
    Where: _where,
}

"""By which strata each kind of statistic of one variable is exact.

Rules (C) and (D) of ``docs/reference/disclosure.md``: in each piece that answers can be cut into, a
level or bin is that of enough subjects, and no total is mostly one subject's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.dictionary import Variable
from contract.statistics.summaries import grid_places
from node.catalog.manifest import (
    MAX_ANALYSES,
    DeclaredVariable,
    ExactKind,
    Grid,
    Strata,
)
from node.catalog.strata import Blocks, Categories, Cells, Stratified

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Numbers = NDArray[np.float64]
Passes = Callable[[Ints], bool]


FEW_VALUES = {"moments": 3, "shape": 5}
"""A number with so few values is a category in disguise: its sums of powers tell how many have
each. Sums up to the p-th power, and the count, tell of p + 1 values."""
FEWEST = max(FEW_VALUES.values())


class Pieces:
    """Subjects as answers can cut them: those of one cell who are in the same sets.

    ``members`` are all of whom answers may tell; ``masks`` say in which sets each is, as bits.
    """

    def __init__(self, members: Bools, masks: Ints, cells: Cells, number: int) -> None:
        rows = np.flatnonzero(members)
        both = cells[rows].astype(np.int64) << MAX_ANALYSES | masks[rows]
        if number << MAX_ANALYSES <= rows.size << 4:  # few enough to be counted, not sorted
            keys = np.flatnonzero(np.bincount(both))
            again = np.zeros(number << MAX_ANALYSES, dtype=np.int64)
            again[keys] = np.arange(keys.size)
            self.of_row = again[both]
        else:
            keys, self.of_row = np.unique(both, return_inverse=True)
        self.cell: Ints = keys >> MAX_ANALYSES
        self.mask: Ints = keys & (2**MAX_ANALYSES - 1)
        self.rows = rows
        self.n: Ints = np.bincount(self.of_row, minlength=self.cell.size)
        self.cells = number

    def counts(self, codes: Ints, width: int) -> Ints:
        """Return how many of each code each piece holds; ``codes`` are of its rows."""
        flat = self.of_row * width + codes
        found: Ints = np.bincount(flat, minlength=self.cell.size * width)
        return found.reshape(self.cell.size, width)

    def totals(self, x: Numbers) -> Totals:
        """Return the sums of a number, whose values are those of the rows."""
        size, number = np.abs(x), self.cell.size
        x = x - (float(x.mean()) if x.size else 0.0)
        largest, least, most = np.zeros(number), np.full(number, np.inf), np.full(number, -np.inf)
        np.maximum.at(largest, self.of_row, size)
        np.minimum.at(least, self.of_row, x)
        np.maximum.at(most, self.of_row, x)
        squares = x * x
        sums = [
            np.bincount(self.of_row, power, minlength=number).astype(np.float64)
            for power in (size, x, squares, squares * x, squares * squares)
        ]
        return Totals(self.n, sums[0], largest, np.stack(sums[1:]), least, most)

    def groups(self, block: Ints, masks: Ints) -> Ints:
        """Return the group of each piece: those of one block that are in the same sets."""
        keys = np.stack((block[self.cell], masks))
        return np.unique(keys, axis=1, return_inverse=True)[1].reshape(-1)


@dataclass(frozen=True)
class Totals:
    """Sums of a number for each piece; ``powers`` about one middle of all, so that they keep their
    digits, from the 1st to the 4th.
    """

    n: Ints
    sizes: Numbers
    """Of |x|."""
    largest: Numbers
    """|x|."""
    powers: Numbers
    least: Numbers
    most: Numbers

    def none_dominates(self, groups: Ints, share: float, power: int) -> bool:
        """Say whether nobody has more than a share of a group's sum of |x|, or of the ``power``-th
        powers of its deviations (2 or 4; of lower ones nobody then has either).
        """
        number = int(groups.max(initial=-1)) + 1
        size, largest = np.bincount(groups, self.sizes, number), np.zeros(number)
        np.maximum.at(largest, groups, self.largest)
        if (largest > share * size).any():
            return False
        n = np.bincount(groups, self.n, number)
        s1, s2, s3, s4 = (np.bincount(groups, one, number) for one in self.powers)
        mean = s1 / n
        deviations = s2 - n * mean**2
        if power == 4:
            deviations = s4 - 4 * mean * s3 + 6 * mean**2 * s2 - 3 * n * mean**4
        low, high = np.full(number, np.inf), np.full(number, -np.inf)
        np.minimum.at(low, groups, self.least)
        np.maximum.at(high, groups, self.most)
        farthest = np.maximum(mean - low, high - mean) ** power
        rounding = 1e-12 * (s4 if power == 4 else s2)
        return bool(((farthest <= share * (deviations - rounding)) | (low == high)).all())


def possible_in(name: str, column: Categories | Numbers, cells: Stratified) -> Bools:
    """Return which levels can occur in each cell: all, but of a stratum only those of the cell.

    That nobody has another level in there is known from the question alone.
    """
    levels = column.levels if isinstance(column, Categories) else ()
    possible = np.ones((len(cells.cells), len(levels)), dtype=np.bool_)
    for place, stratum in enumerate(cells.strata):
        if stratum.variable == name and stratum.levels:
            for cell, members in enumerate(cells.cells):
                here = {stratum.levels[c[place]] for c in members if c[place] < len(stratum.levels)}
                possible[cell] = [level in here for level in levels]
    return possible


def of_variable(
    name: str,
    column: Categories | Numbers,
    pieces: Pieces,
    blocks: Blocks,
    possible: Bools,
    grid: Grid | None,
    least: int,
    share: float,
) -> DeclaredVariable:
    """Return by which strata each kind is exact.

    ``least``: how many must have a level or bin in a piece; ``share``: the most that one subject
    may have of a total.
    """
    by: dict[ExactKind, Strata] = {}
    in_analyses: list[ExactKind] = []
    inside = np.bincount(pieces.cell, pieces.n, minlength=pieces.cells)
    held = holds_somebody(inside, blocks.lacking((name,)))

    def settle(kind: ExactKind, passes: Passes) -> None:
        for masks in (pieces.mask, np.zeros_like(pieces.mask)):  # in analysis sets too, or not
            found = finest(blocks, _tested(pieces, masks, held, passes))
            if found is not None:
                by[kind] = found
                if masks is pieces.mask:
                    in_analyses.append(kind)
                return

    if not pieces.cells:
        return DeclaredVariable(name=name)
    settle("count", lambda groups: True)
    if isinstance(column, Categories):
        table = pieces.counts(column.codes[pieces.rows], len(column.levels))
        here = possible[pieces.cell]
        settle("levels", lambda groups: counts_are_large(table, here, groups, least))
        return DeclaredVariable(name=name, by=by, in_analyses=tuple(in_analyses))
    values = column[pieces.rows]
    totals, few = pieces.totals(values), few_values(values)
    powers: dict[ExactKind, int] = {"moments": 2, "shape": 4}
    for kind, power in powers.items():
        told = None
        if few is not None and few[1] <= FEW_VALUES[kind]:
            told = pieces.counts(*few)
        settle(kind, _sums_tell_of_many(totals, told, share, power, least))
    if grid is not None:
        variable = Variable(name=name, kind="number", **grid.model_dump())
        bins = pieces.counts(grid_places(values, variable), grid.bins + 2)
        settle("histogram", lambda groups: counts_are_large(bins, None, groups, least))
    return DeclaredVariable(name=name, by=by, in_analyses=tuple(in_analyses), grid=grid)


def few_values(values: Numbers) -> tuple[Ints, int] | None:
    """Return which of a number's few distinct values each is, and how many there are; None when
    there are more than ``FEWEST``.
    """
    if np.unique(values[:1000]).size > FEWEST:
        return None
    distinct, places = np.unique(values, return_inverse=True)
    return (places.reshape(-1), distinct.size) if distinct.size <= FEWEST else None


def _sums_tell_of_many(
    totals: Totals, told: Ints | None, share: float, power: int, least: int
) -> Passes:
    return lambda groups: (
        totals.none_dominates(groups, share, power)
        and (told is None or counts_are_large(told, None, groups, least))
    )


def holds_somebody(inside: Ints, lacking: Bools) -> Passes:
    """Return the test whether each block holds somebody, but those of cells that can't.

    ``lacking``: the cells of those without a value, as anybody knows from the strata.
    """

    def passes(block: Ints) -> bool:
        held = np.bincount(block, inside) > 0
        can = np.bincount(block, ~lacking) > 0
        return bool(held.any() and (held | ~can).all())

    return passes


def _tested(pieces: Pieces, masks: Ints, held: Passes, passes: Passes) -> Passes:
    return lambda block: held(block) and passes(pieces.groups(block, masks))


def finest(blocks: Blocks, passes: Passes) -> Strata | None:
    """Return the strata that tell most apart whose blocks pass."""
    return next((by for by in blocks.choices() if passes(blocks.of(by))), None)


def counts_are_large(table: Ints, possible: Bools | None, groups: Ints, least: int) -> bool:
    """Say whether each group has enough of each code that occurs at all. None is too few, unless
    it isn't possible.
    """
    number = int(groups.max(initial=-1)) + 1
    added = np.zeros((number, table.shape[1]), dtype=np.int64)
    np.add.at(added, groups, table)
    enough = (added >= least) | (added.sum(axis=0) == 0)
    if possible is not None:
        can = np.zeros((number, table.shape[1]), dtype=np.bool_)
        np.logical_or.at(can, groups, possible)
        enough |= ~can
    return bool(enough.all())

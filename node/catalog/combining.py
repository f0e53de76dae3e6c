"""Several variables at once: what subjects in analysis sets have of them, counted in pieces."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.dictionary import Variable
from contract.statistics.answers import MAX_CELLS
from contract.statistics.summaries import grid_places
from node.catalog.manifest import MAX_ANALYSES, DeclaredVariable, Strata
from node.catalog.pieces import Bools, Ints, Numbers, Pieces, few_values
from node.catalog.sets import bits_of
from node.catalog.strata import Blocks, Categories, Cells, Held

Names = tuple[str, ...]
Analyses = Mapping[str, Names]
_MOST_COUNTS = 2**24
"""Of a table of pieces and combinations; a larger one is not looked at, and so not exact."""


@dataclass(frozen=True)
class Coded:
    """A variable's places: levels, bins of its grid, or its few values."""

    codes: NDArray[np.int32]
    width: int
    possible: Bools | None = None
    """Which can occur in each cell; None: all."""


@dataclass(frozen=True)
class Exact:
    """In which analysis sets, as bits, something is exact, and by which strata."""

    sets: int
    by: Strata


class Combining:
    """Places of variables, and tables of their combinations in the pieces of analysis sets.

    ``masks`` say in which analysis sets each subject is, ``cells`` in which cell. ``least``: how
    many must have a combination; ``share``: the most that one subject may have of a sum;
    ``models``: whether models may be fitted, as they aren't to a release for secure sums alone.
    """

    def __init__(
        self,
        held: Held,
        declared: Mapping[str, DeclaredVariable],
        possible: Mapping[str, Bools],
        masks: Ints,
        cells: Cells,
        blocks: Blocks,
        least: int,
        share: float,
        models: bool = True,
    ) -> None:
        self.rows = np.flatnonzero(masks > 0)
        self._masks: Ints = masks[self.rows]
        self._cells: Cells = cells[self.rows]
        self.held = held
        self.declared = declared
        self._possible = possible
        self.blocks = blocks
        self.least = least
        self.share = share
        self.models = models
        self._coded: dict[str, Coded | None] = {}
        self._has_few: dict[str, bool] = {}
        self._pieces: dict[int, Pieces] = {}

    def settle(self, within: int, by_of: Callable[[int], Strata | None]) -> Exact | None:
        """Return by what something is exact in all sets of ``within`` at once, or else in the
        first in which it is by itself.
        """
        single = [1 << at for at in range(MAX_ANALYSES) if within >> at & 1]
        for bits in [within] * bool(within) + single * (len(single) > 1):
            by = by_of(bits)
            if by is not None:
                return Exact(bits, by)
        return None

    def finest(self, bits: int, passes: Callable[[Ints], bool]) -> Strata | None:
        """Return the first strata by which groups of pieces pass, the last ones given up first."""
        pieces = self.pieces(bits)
        names = self.blocks.names
        for number in range(len(names), -1, -1):
            by = names[:number]
            if passes(pieces.groups(self.blocks.of(by), pieces.mask)):
                return by
        return None

    def pieces(self, bits: int) -> Pieces:
        """Return the pieces into which these analysis sets cut the cells."""
        if bits not in self._pieces:
            masks = self._masks & bits
            self._pieces[bits] = Pieces(masks > 0, masks, self._cells, self.blocks.cells)
        return self._pieces[bits]

    def places(self, name: str) -> Coded | None:
        """Return a variable's places, None of a number that has no few values and no grid."""
        if name not in self._coded:
            self._coded[name] = self._make_places(name)
        return self._coded[name]

    def _make_places(self, name: str) -> Coded | None:
        column, grid = self.held[name], self.declared[name].grid
        if isinstance(column, Categories):
            codes = column.codes[self.rows].astype(np.int32)
            possible = self._possible[name]
            return Coded(codes, len(column.levels), None if possible.all() else possible)
        values = column[self.rows]
        few = few_values(values[~np.isnan(values)])
        if few is not None:  # finer than any grid
            codes = np.full(values.size, -1, dtype=np.int32)
            codes[~np.isnan(values)] = few[0]
            return Coded(codes, few[1])
        if grid is None:
            return None
        variable = Variable(name=name, kind="number", **grid.model_dump())
        return Coded(grid_places(values, variable).astype(np.int32), grid.bins + 2)

    def table(self, coded: Sequence[Coded], bits: int) -> tuple[Ints, Bools | None] | None:
        """Return for each piece how many have each combination that anybody in it all has, and
        which are possible; None where too few have one.
        """
        width = int(np.prod([one.width for one in coded]))
        if width > MAX_CELLS:
            return None
        pieces = self.pieces(bits)
        flat = self.flat(coded, pieces.rows)
        whole = np.bincount(flat, minlength=width)
        occurs = np.flatnonzero(whole)
        if (whole[occurs] < self.least).any() or occurs.size * pieces.cell.size > _MOST_COUNTS:
            return None
        again = np.zeros(width, dtype=np.int64)
        again[occurs] = np.arange(occurs.size)
        counts = pieces.counts(again[flat], occurs.size)
        codes = np.unravel_index(occurs, [one.width for one in coded])
        possible = None
        for one, code in zip(coded, codes, strict=True):
            if one.possible is not None:
                here = one.possible[pieces.cell][:, code]
                possible = here if possible is None else possible & here
        return counts, possible

    def flat(self, coded: Sequence[Coded], rows: Ints) -> NDArray[np.int32]:
        """Return the combination of each row as one number."""
        flat = np.zeros(rows.size, dtype=np.int32)
        everybody = rows.size == self.rows.size
        for one in coded:
            flat *= one.width
            flat += one.codes if everybody else one.codes[rows]
        return flat

    def dense(self, names: Names, pieces: Pieces, groups: Ints) -> Ints | None:
        """Return counts of all combinations in each group of pieces, an axis for each variable;
        None when these are too many.
        """
        coded = [c for c in map(self.places, names) if c is not None]
        widths = [one.width for one in coded]
        size, number = int(np.prod(widths)), int(groups.max()) + 1
        if number * size > _MOST_COUNTS:
            return None
        known = np.ones(pieces.rows.size, dtype=np.bool_)
        for one in coded:
            known &= one.codes >= 0
        flat = groups[pieces.of_row] * size + self.flat(coded, pieces.rows)
        found: Ints = np.bincount(flat[known], minlength=number * size)
        return found.reshape(number, *widths)

    def few(self, name: str) -> Coded | None:
        """Return the places of a variable that has few values; None of any other number."""
        if name not in self._has_few:
            column = self.held[name]
            self._has_few[name] = (
                isinstance(column, Categories) or few_values(_known(column[self.rows])) is not None
            )
        return self.places(name) if self._has_few[name] else None


def _known(values: Numbers) -> Numbers:
    return values[~np.isnan(values)]


def combinations(sets: Analyses, size: int) -> Iterator[Names]:
    """Yield which variables are together in any set, each once, the first named first."""
    seen: set[Names] = set()
    for names in sets.values():
        for some in itertools.combinations(names, size):
            key = tuple(sorted(some))
            if key not in seen:
                seen.add(key)
                yield key


def sets_with(names: Names, sets: Analyses) -> int:
    found: int = 2**MAX_ANALYSES - 1
    for name in names:
        found &= bits_of(name, list(sets.values()))
    return found

"""Cells: the strata of a release, merged until each holds enough subjects."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.errors import UsageError
from node.catalog.manifest import MAX_STRATA, Strata, Stratum

Column = NDArray[np.float64] | NDArray[np.int64]
Cells = NDArray[np.int32]
"""The cell of each subject; -1 is none."""
Combination = tuple[int, ...]
MAX_COMBINATIONS = 2000
PROPOSED = 3
"""How many strata are proposed at most."""
PROPOSED_LEVELS = 6


@dataclass(frozen=True)
class Categories:
    """A column of a category as codes, -1 for missing, and the levels that they stand for."""

    codes: NDArray[np.int64]
    levels: tuple[str, ...]


Held = Mapping[str, Categories | NDArray[np.float64]]
"""A release's columns by name: categories, or numbers with NaN for missing."""


@dataclass(frozen=True)
class StratumWish:
    """A variable that a steward wants cells by; ``cuts`` of a number."""

    variable: str
    cuts: tuple[float, ...] = ()


@dataclass(frozen=True)
class Stratified:
    """Strata, cells, whom each holds, and what it took."""

    strata: tuple[Stratum, ...]
    cells: tuple[tuple[Combination, ...], ...]
    of: Cells
    combinations: int
    """How many combinations of the strata's values there were before any were merged."""

    @property
    def excluded(self) -> int:
        """How many subjects are in no cell."""
        return int(np.count_nonzero(self.of < 0))


def stratify(held: Held, wishes: Sequence[StratumWish], minimum: int, subjects: int) -> Stratified:
    """Return cells by the strata wished for, each of at least ``minimum`` subjects, or none.

    A level, or a missing value, that fewer have is left out: nobody who has it is in a cell. A
    combination that fewer have goes together with others, so that the last strata are given up
    first. 0, 1 and ``minimum`` - 1 subjects are treated alike throughout.
    """
    if len(wishes) > MAX_STRATA:
        raise UsageError(f"A release has at most {MAX_STRATA} strata.")
    strata: list[Stratum] = []
    codes: list[NDArray[np.int64]] = []
    for wish in wishes:
        stratum, code = _stratum(held, wish, minimum)
        strata.append(stratum)
        codes.append(code)
    shape = tuple(stratum.values for stratum in strata)
    combinations = int(np.prod(shape, dtype=np.int64))
    if combinations > MAX_COMBINATIONS:
        raise UsageError(f"The strata make more than {MAX_COMBINATIONS} cells; take fewer.")
    inside = np.ones(subjects, dtype=np.bool_)
    flat = np.zeros(subjects, dtype=np.int64)
    for code, size in zip(codes, shape, strict=True):
        inside &= code >= 0
        flat = flat * size + code
    counts = np.bincount(flat[inside], minlength=combinations)
    merged = _merged(list(itertools.product(*map(range, shape))), counts.tolist(), minimum)
    number = np.full(combinations, -1, dtype=np.int32)
    for cell, members in enumerate(merged):
        for combination in members:
            at = int(np.ravel_multi_index(combination, shape)) if shape else 0
            number[at] = cell
    of = np.where(inside, number[np.where(inside, flat, 0)], -1).astype(np.int32)
    return Stratified(tuple(strata), tuple(merged), of, combinations if merged else 0)


def _stratum(held: Held, wish: StratumWish, minimum: int) -> tuple[Stratum, NDArray[np.int64]]:
    column = held.get(wish.variable)
    if column is None:
        raise UsageError(f"The release has no category or number {wish.variable!r} for cells.")
    if isinstance(column, Categories):
        if wish.cuts:
            raise UsageError(f"{wish.variable} is a category; cuts are those of a number.")
        counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.levels))
        kept = [i for i, count in enumerate(counts.tolist()) if count >= minimum]
        again = np.full(len(column.levels) + 1, -1, dtype=np.int64)  # the last is for -1
        again[kept] = np.arange(len(kept))
        gone = column.codes < 0
        missing = int(np.count_nonzero(gone)) >= minimum
        again[-1] = len(kept) if missing else -1
        if not kept:
            raise UsageError(f"No level of {wish.variable} is held by enough subjects for cells.")
        levels = tuple(column.levels[i] for i in kept)
        stratum = Stratum(variable=wish.variable, levels=levels, missing=missing)
        return stratum, again[column.codes]
    cuts = tuple(sorted(set(wish.cuts)))
    if not cuts:
        raise UsageError(f"{wish.variable} is a number; cells by it need cuts: {wish.variable}=50.")
    gone = np.isnan(column)
    missing = int(np.count_nonzero(gone)) >= minimum
    codes = np.searchsorted(np.array(cuts), np.where(gone, 0.0, column), side="right")
    codes = np.where(gone, len(cuts) + 1 if missing else -1, codes).astype(np.int64)
    return Stratum(variable=wish.variable, cuts=cuts, missing=missing), codes


def _merged(
    combinations: Sequence[Combination], counts: Sequence[int], minimum: int
) -> list[tuple[Combination, ...]]:
    """Merge each small cell with the one that it has most of the first strata in common with.

    Of several, a small one, else that of the fewest subjects. How small a small one is decides
    nothing.
    """
    cells = [
        _Cell([combination], combination, count)
        for combination, count in zip(combinations, counts, strict=True)
    ]
    while True:
        at = next((i for i, cell in enumerate(cells) if cell.count < minimum), None)
        if at is None:
            return sorted(tuple(sorted(cell.members)) for cell in cells)
        small = cells.pop(at)
        if not cells:
            return []
        other = min(cells, key=lambda cell: small.distance(cell, minimum))
        other.members += small.members
        other.shared = other.shared[: small.common(other)]
        other.count += small.count


@dataclass
class _Cell:
    members: list[Combination]
    shared: Combination
    """The values of the first strata that all members have."""
    count: int

    def common(self, other: _Cell) -> int:
        pairs = zip(self.shared, other.shared, strict=False)
        return next(
            (i for i, (a, b) in enumerate(pairs) if a != b),
            min(len(self.shared), len(other.shared)),
        )

    def distance(self, other: _Cell, minimum: int) -> tuple[int, int, Combination]:
        size = other.count if other.count >= minimum else 0
        return -self.common(other), size, min(other.members)


def propose(held: Held, minimum: int, subjects: int) -> list[StratumWish]:
    """Return the first categories that together make cells of which none need be merged."""
    wishes: list[StratumWish] = []
    for name, column in held.items():
        if not isinstance(column, Categories) or not 2 <= len(column.levels) <= PROPOSED_LEVELS:
            continue
        more = [*wishes, StratumWish(name)]
        try:
            found = stratify(held, more, minimum, subjects)
        except UsageError:
            continue
        whole = len(found.cells) == found.combinations
        if whole and len(found.strata[-1].levels) > 1 and found.excluded < minimum:
            wishes = more
        if len(wishes) == PROPOSED:
            break
    return wishes


class Blocks:
    """Cells put together as far as some of the strata don't tell them apart."""

    def __init__(self, strata: Sequence[Stratum], cells: Sequence[Sequence[Combination]]) -> None:
        self.names: Strata = tuple(stratum.variable for stratum in strata)
        self.cells = len(cells)
        self._strata = strata
        self._cells = cells
        self._known: dict[Strata, NDArray[np.int64]] = {}

    def of(self, by: Strata) -> NDArray[np.int64]:
        """Return the block of each cell, numbered from 0."""
        if by not in self._known:
            self._known[by] = self._blocks(by)
        return self._known[by]

    def _blocks(self, by: Strata) -> NDArray[np.int64]:
        places = [self.names.index(name) for name in by]
        leader = list(range(len(self._cells)))

        def find(cell: int) -> int:
            while leader[cell] != cell:
                cell = leader[cell]
            return cell

        first: dict[Combination, int] = {}
        for cell, members in enumerate(self._cells):
            for combination in members:
                seen = first.setdefault(tuple(combination[p] for p in places), cell)
                leader[find(cell)] = find(seen)
        numbers: dict[int, int] = {}
        found = [numbers.setdefault(find(c), len(numbers)) for c in range(len(self._cells))]
        return np.array(found, dtype=np.int64)

    def lacking(self, names: Collection[str]) -> NDArray[np.bool_]:
        """Return the cells of those who have no value of one of some strata."""
        found = np.zeros(self.cells, dtype=np.bool_)
        for place, stratum in enumerate(self._strata):
            if stratum.variable in names and stratum.missing:
                last = stratum.values - 1
                found |= [all(c[place] == last for c in members) for members in self._cells]
        return found

    def choices(self) -> list[Strata]:
        """Return all choices of strata, those that tell most apart and the first strata first."""
        names = self.names
        return [
            tuple(some)
            for size in range(len(names), -1, -1)
            for some in itertools.combinations(names, size)
        ]

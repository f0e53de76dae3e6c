"""Columns that are derived from one another, so that no two of them tell what one alone doesn't.

The sums of ``docs/reference/disclosure.md`` are of functions of one variable. A derived variable is
another name for a function of its sources, so what holds of a variable's sets, levels and bins must
hold of all kin together:

- *Sets.* Kin with values for the same subjects have one set. Otherwise the subjects with a value of
  each of them are a set beside the analysis sets, so that those who have the one and not the other
  are nobody or enough.
- *Counts.* Levels and bins of what is made of the same sources are counted if their combinations
  may be: two cuts through one number tell how many lie between. So do a bin's edge and a cut by
  which the number tells cells apart. Categories are so looked at if they share any source.
- *Sums.* n numbers made of the same sources give 4 n sums, which tell how many have each of 4 n + 1
  values; with so few values a number counts as a category. What else they tell: ``leverage``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.dictionary import Variable
from contract.statistics.summaries import grid_places
from node.catalog.manifest import DeclaredVariable, ExactKind, Grid, Strata
from node.catalog.pieces import Bools, Ints, Pieces, of_variable
from node.catalog.strata import Blocks, Categories, Held, Stratified

Names = tuple[str, ...]
_SUMS = 4
"""Of a number: of its first to fourth powers."""


@dataclass(frozen=True)
class Kinship:
    """Who is kin. ``groups``: derived from one another or from a common source; ``same``: made of
    the very same sources; ``shared``: categories that have a source in common."""

    groups: Sequence[Names] = ()
    same: Sequence[Names] = ()
    shared: Sequence[Names] = ()
    derived: Collection[str] = ()
    """Which of them are functions of others."""

    def of(self, name: str) -> Names:
        """Return a column's kin, itself among them."""
        return next((group for group in self.groups if name in group), (name,))


NO_KINSHIP = Kinship()


@dataclass(frozen=True)
class KinSets:
    """The sets beside the analysis sets: whose values they are of, and who has them."""

    names: Sequence[Names]
    whole: Sequence[Bools]
    without: frozenset[str]
    """Columns for which there is no room; they have no exact answers."""

    @property
    def apart(self) -> frozenset[str]:
        """Kin with values for other subjects than their kin."""
        return frozenset(name for some in self.names for name in some) | self.without

    def settled(self, present: Mapping[str, Bools], masks: Ints, first: int) -> dict[str, Bools]:
        """Return who has each value, of kin only who is in their set still."""
        found = dict(present)
        for at, names in enumerate(self.names):
            for name in names:
                found[name] = masks >> (first + at) & 1 > 0
        for name in self.without:
            found[name] = np.zeros_like(present[name])
        return found


@dataclass(frozen=True)
class Together:
    """What is exact of each variable, and how its counts are to be looked at beside those of
    others: categories as combinations with their kin."""

    declared: dict[str, DeclaredVariable]
    held: Held
    possible: Mapping[str, Bools]

    def once(self, kinship: Kinship) -> dict[str, DeclaredVariable]:
        """Return the declarations with one grid at most for numbers of the same sources."""
        found = dict(self.declared)
        for names in kinship.same:
            gridded = [n for n in names if n in found and found[n].grid is not None]
            for name in gridded[1:]:
                found[name] = found[name].model_copy(update={"grid": None})
        return found


def kin_sets(kinship: Kinship, present: Mapping[str, Bools], room: int) -> KinSets:
    """Return a set for each group of subjects that kin have values of, if there are several."""
    names: list[Names] = []
    whole: list[Bools] = []
    without: set[str] = set()
    for group in kinship.groups:
        alike: dict[bytes, list[str]] = {}
        for name in group:
            if name in present:
                alike.setdefault(present[name].tobytes(), []).append(name)
        if len(alike) < 2:
            continue
        if len(names) + len(alike) > room:
            without |= {name for some in alike.values() for name in some}
            continue
        for some in alike.values():
            names.append(tuple(some))
            whole.append(present[some[0]])
    return KinSets(names, whole, frozenset(without))


def owned(analyses: Sequence[Names], kinship: Kinship, sets: KinSets) -> list[Names]:
    """Return of which variables' own sets each set is a part: of its own, and of kin with values
    for the same subjects; where kin have not, each is its own set and no other."""
    found = []
    for names in analyses:
        more = {kin for name in names for kin in kinship.of(name)}
        found.append(tuple(sorted((set(names) | more) - sets.apart)))
    return [*found, *sets.names]


def cut_by(analyses: Sequence[Names], kinship: Kinship, sets: KinSets) -> list[Names]:
    """Return which variables' sums each set cuts: its own and all of their kin."""
    return [
        tuple(sorted({kin for name in names for kin in kinship.of(name)}))
        for names in (*analyses, *sets.names)
    ]


def counted_together(
    declared: Mapping[str, DeclaredVariable],
    kinship: Kinship,
    apart: Collection[str],
    held: Held,
    possible: Mapping[str, Bools],
    pieces: Mapping[str, Pieces],
    grids: Mapping[str, Grid],
    cells: Stratified,
    blocks: Blocks,
    least: int,
) -> Together:
    """Return the declarations with counts of kin exact only where their combinations' are.

    What is derived takes nothing from what is exact without it: the first named come first. Before
    all come the cuts by which a number tells cells apart, for how many a cell holds is exact.
    ``apart``: kin of which some have the one and not the other; of these nothing is exact that
    isn't in each set.
    """
    found = {name: _where_cut(one) if name in apart else one for name, one in declared.items()}
    columns, can_be = dict(held), dict(possible)
    cut = [stratum.variable for stratum in cells.strata if stratum.cuts]
    alone = [(n,) for n in cut if not any(n in names for names in kinship.same)]
    for names in (*kinship.same, *alone, *kinship.shared):
        known = [name for name in names if name in held and name in declared]
        numbers = [name for name in known if not isinstance(held[name], Categories)]
        few = [n for n in numbers if _distinct(held[n]).size <= _SUMS * len(numbers) + 1]
        cuts = [_by_cuts(name, held[name], cells) for name in known if name in cut]
        taken: dict[str, _Codes] = {}
        for name in known:
            if not _counts(name in few) & set(found[name].by):
                continue
            codes = _codes(name, held[name], grids.get(name), name in few, possible)
            if codes is None:
                continue
            together, can = _joined([*cuts, *taken.values(), codes])
            test = of_variable(name, together, pieces[name], blocks, can, None, least, 1.0)
            if "levels" in (test.in_analyses if name in apart else test.by):
                taken[name] = codes
            else:
                found[name] = _limited(found[name], None, name in few)
        if len(taken) + len(cuts) < 2 or not taken:
            continue
        together, can = _joined([*cuts, *taken.values()])
        for name in taken:
            test = of_variable(name, together, pieces[name], blocks, can, None, least, 1.0)
            found[name] = _limited(found[name], test, name in few)
            if isinstance(held[name], Categories):
                columns[name], can_be[name] = _with_former(
                    columns[name], can_be[name], together, can
                )
    return Together(found, columns, can_be)


@dataclass(frozen=True)
class _Codes:
    codes: Ints
    width: int
    possible: Bools


def _distinct(column: Categories | NDArray[np.float64]) -> NDArray[np.float64]:
    assert not isinstance(column, Categories)
    return np.unique(column[~np.isnan(column)])


def _codes(
    name: str,
    column: Categories | NDArray[np.float64],
    grid: Grid | None,
    few: bool,
    possible: Mapping[str, Bools],
) -> _Codes | None:
    """Return what tells subjects apart by a variable's counts; the last code is missing."""
    if isinstance(column, Categories):
        width = len(column.levels)
        codes = np.where(column.codes < 0, width, column.codes)
        can = np.concatenate((possible[name], np.ones((len(possible[name]), 1), bool)), axis=1)
        return _Codes(codes, width + 1, can)
    missing = np.isnan(column)
    if few:
        values = _distinct(column)
        codes, width = np.searchsorted(values, np.where(missing, 0, column)), values.size
    elif grid is not None:
        variable = Variable(name=name, kind="number", **grid.model_dump())
        codes, width = grid_places(np.where(missing, grid.minimum, column), variable), grid.bins + 2
    else:
        return None
    everything = np.ones((len(possible[name]), width + 1), dtype=np.bool_)
    return _Codes(np.where(missing, width, codes).astype(np.int64), width + 1, everything)


def _by_cuts(name: str, column: Categories | NDArray[np.float64], cells: Stratified) -> _Codes:
    """Return in which of a stratum's ranges each subject is, and which ranges each cell is of."""
    assert not isinstance(column, Categories)
    place, stratum = next((i, s) for i, s in enumerate(cells.strata) if s.variable == name)
    codes = np.searchsorted(np.array(stratum.cuts), column, side="right").astype(np.int64)
    codes[np.isnan(column)] = len(stratum.cuts) + 1
    width = len(stratum.cuts) + 2
    can = np.zeros((len(cells.cells), width), dtype=np.bool_)
    for cell, members in enumerate(cells.cells):
        can[cell, [combination[place] for combination in members]] = True
    return _Codes(codes, width, can)


def _joined(parts: Sequence[_Codes]) -> tuple[Categories, Bools]:
    """Return the combinations that occur, and which are possible in each cell."""
    widths = [one.width for one in parts]
    if math.prod(widths) < 2**62:  # one number for each combination sorts faster than a column
        flat = np.zeros(parts[0].codes.size, dtype=np.int64)
        for one in parts:
            flat = flat * one.width + one.codes
        found, codes = np.unique(flat, return_inverse=True)
        keys = np.stack(np.unravel_index(found, widths))
    else:
        columns = np.stack([one.codes for one in parts])
        keys, codes = np.unique(columns, axis=1, return_inverse=True)
    can = np.ones((len(parts[0].possible), keys.shape[1]), dtype=np.bool_)
    for one, of in zip(parts, keys, strict=True):
        can &= one.possible[:, of]
    return Categories(codes.reshape(-1), tuple(map(str, range(keys.shape[1])))), can


def _with_former(
    former: Categories | NDArray[np.float64], could: Bools, together: Categories, can: Bools
) -> tuple[Categories, Bools]:
    """Return combinations with those that a category was looked at in before."""
    assert isinstance(former, Categories)
    codes = np.where(former.codes < 0, len(former.levels), former.codes)
    could = np.concatenate((could, np.ones((len(could), 1), dtype=np.bool_)), axis=1)
    return _joined(
        [
            _Codes(codes, len(former.levels) + 1, could),
            _Codes(together.codes, len(together.levels), can),
        ]
    )


def _where_cut(one: DeclaredVariable) -> DeclaredVariable:
    by = {kind: strata for kind, strata in one.by.items() if kind in one.in_analyses}
    return one.model_copy(update={"by": by})


def _counts(few: bool) -> set[str]:
    """Return the kinds that are counts, or sums that tell counts."""
    return {"levels", "histogram"} | ({"moments", "shape"} if few else set())


def _limited(one: DeclaredVariable, test: DeclaredVariable | None, few: bool) -> DeclaredVariable:
    """Return a declaration with counts as far as the combinations' are exact; None: not at all."""
    by: dict[ExactKind, Strata] = {}
    inside = list(one.in_analyses)
    for kind, strata in one.by.items():
        if kind not in _counts(few):
            by[kind] = strata
            continue
        if test is None or "levels" not in test.in_analyses:
            inside = [other for other in inside if other != kind]
        if test is not None and "levels" in test.by:
            by[kind] = tuple(s for s in strata if s in test.by["levels"])
    inside = [kind for kind in inside if kind in by]
    return one.model_copy(update={"by": by, "in_analyses": tuple(inside)})

"""By which strata something of several variables of an analysis set is exact.

Rules (C), (B) and (D) of ``docs/reference/disclosure.md``, for combinations of two and three
variables and for products of two. A three is counted only if its pairs are exact, so that the work
is that of the pairs and of few threes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.documents import Variable
from contract.statistics.answers import MAX_CELLS
from contract.statistics.summaries import grid_places
from node.catalog.manifest import (
    MAX_ANALYSES,
    MAX_JOINED,
    DeclaredVariable,
    ExactKind,
    Joint,
    Strata,
)
from node.catalog.pieces import Bools, Ints, Numbers, Pieces, counts_are_large, few_values
from node.catalog.sets import bits_of
from node.catalog.strata import Blocks, Categories, Cells, Held

Names = tuple[str, ...]
Analyses = Mapping[str, Names]
_MOST_COUNTS = 2**24
"""Of a table of pieces and combinations; a larger one is not looked at, and so not exact."""
_MOST_STEPS = 10**9
"""Of looking for what bounds tell; when it would take more, they are taken to tell."""


@dataclass(frozen=True)
class _Coded:
    """A variable's places: levels, bins of its grid, or its few values."""

    codes: NDArray[np.int32]
    width: int
    possible: Bools | None = None
    """Which can occur in each cell; None: all."""


@dataclass(frozen=True)
class _Exact:
    """In which analysis sets, as bits, something is exact, and by which strata."""

    sets: int
    by: Strata


class Joining:
    """What is exact of several variables of a release's analysis sets.

    ``masks`` say in which analysis sets each subject is, ``cells`` in which cell.
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
    ) -> None:
        self._rows = np.flatnonzero(masks > 0)
        self._masks: Ints = masks[self._rows]
        self._cells: Cells = cells[self._rows]
        self._held = held
        self._declared = declared
        self._possible = possible
        self._blocks = blocks
        self._least = least
        self._share = share
        self._coded: dict[str, _Coded | None] = {}
        self._pieces: dict[int, Pieces] = {}
        self._steps = 0

    def of(self, analyses: Analyses) -> dict[str, tuple[tuple[Joint, ...], tuple[Joint, ...]]]:
        """Return for each analysis set its ``joint`` and its ``products``."""
        sets = {name: names[:MAX_JOINED] for name, names in analyses.items()}
        joint: dict[Names, _Exact] = {}
        products: dict[Names, _Exact] = {}
        if self._rows.size:
            joint = self._counted(sets)
            products = self._multiplied(sets, joint)
        return {
            name: (_of_set(joint, 1 << at), _of_set(products, 1 << at))
            for at, name in enumerate(sets)
        }

    # ---- counts of combinations ----------------------------------------------------------------

    def _counted(self, sets: Analyses) -> dict[Names, _Exact]:
        found: dict[Names, _Exact] = {}
        for names in _combinations(sets, 2):
            exact = self._settle(_sets_with(names, sets), self._count_by(names))
            if exact is not None and not self._is_bound_by_strata(names, exact):
                found[names] = exact
        pairs = dict(found)
        for names in _combinations(sets, 3):
            exact = self._settle(_sets_of_pairs(names, pairs), self._count_by(names))
            if exact is not None:
                found[names] = exact
        for names in _combinations(sets, 3):
            while names not in found and self._is_bound_by_pairs(names, found):
                counted = [pair for pair in _latest_first(names, sets) if pair in found]
                coarser = self._coarser(counted, found)
                if coarser is not None:
                    found |= coarser
                    continue
                # Giving up one that what it means may tell wouldn't help by itself.
                last = next((pair for pair in counted if not self._has_empty(pair)), counted[0])
                found = {n: exact for n, exact in found.items() if not {*last} <= {*n}}
        return found

    def _coarser(
        self, pairs: Sequence[Names], found: Mapping[Names, _Exact]
    ) -> dict[Names, _Exact] | None:
        """Return one of some pairs by a stratum less; None where that tells no less."""
        for pair in pairs:
            by, sets = found[pair].by, found[pair].sets
            if set(by) <= {*pair} or any({*pair} < {*names} for names in found):
                continue
            one = _Exact(sets, by[:-1])
            if not self._is_bound_by_strata(pair, one):
                return {pair: one}
        return None

    def _settle(self, within: int, by_of: Callable[[int], Strata | None]) -> _Exact | None:
        """Return by what something is exact in all sets of ``within`` at once, or else in the
        first in which it is by itself.
        """
        single = [1 << at for at in range(MAX_ANALYSES) if within >> at & 1]
        for bits in [within] * bool(within) + single * (len(single) > 1):
            by = by_of(bits)
            if by is not None:
                return _Exact(bits, by)
        return None

    def _count_by(self, names: Names) -> Callable[[int], Strata | None]:
        """Return by which strata, given some sets, counts of combinations are exact: rule (C)."""
        coded = [self._places(name) for name in names if self._is_counted(name)]
        known = [one for one in coded if one is not None]

        def by_of(bits: int) -> Strata | None:
            table = self._table(known, bits) if len(known) == len(names) else None
            if table is None:
                return None
            counts, possible = table
            return self._finest(
                bits, lambda groups: counts_are_large(counts, possible, groups, self._least)
            )

        return by_of

    def _is_counted(self, name: str) -> bool:
        """Say whether a variable's own counts, if any are exact, are so in analysis sets too.

        Combinations add up to these. Where the variable's own set alone were told of, the
        difference would tell of those in no analysis set.
        """
        one = self._declared[name]
        kinds: set[ExactKind] = {"levels", "histogram"}
        if self._few(name) is not None:
            kinds |= {"moments", "shape"}
        return kinds & set(one.by) <= set(one.in_analyses)

    def _finest(self, bits: int, passes: Callable[[Ints], bool]) -> Strata | None:
        """Return the first strata by which groups of pieces pass, the last ones given up first."""
        pieces = self._of(bits)
        names = self._blocks.names
        for number in range(len(names), -1, -1):
            by = names[:number]
            if passes(pieces.groups(self._blocks.of(by), pieces.mask)):
                return by
        return None

    def _of(self, bits: int) -> Pieces:
        """Return the pieces into which these analysis sets cut the cells."""
        if bits not in self._pieces:
            masks = self._masks & bits
            self._pieces[bits] = Pieces(masks > 0, masks, self._cells, self._blocks.cells)
        return self._pieces[bits]

    def _places(self, name: str) -> _Coded | None:
        """Return a variable's places, None of a number that has no few values and no grid."""
        if name not in self._coded:
            self._coded[name] = self._make_places(name)
        return self._coded[name]

    def _make_places(self, name: str) -> _Coded | None:
        column, grid = self._held[name], self._declared[name].grid
        if isinstance(column, Categories):
            codes = column.codes[self._rows].astype(np.int32)
            possible = self._possible[name]
            return _Coded(codes, len(column.levels), None if possible.all() else possible)
        values = column[self._rows]
        few = few_values(values[~np.isnan(values)])
        if few is not None:  # finer than any grid
            codes = np.full(values.size, -1, dtype=np.int32)
            codes[~np.isnan(values)] = few[0]
            return _Coded(codes, few[1])
        if grid is None:
            return None
        variable = Variable(name=name, kind="number", **grid.model_dump())
        return _Coded(grid_places(values, variable).astype(np.int32), grid.bins + 2)

    def _table(self, coded: Sequence[_Coded], bits: int) -> tuple[Ints, Bools | None] | None:
        """Return for each piece how many have each combination that anybody in it all has, and
        which are possible; None where too few have one.
        """
        width = int(np.prod([one.width for one in coded]))
        if width > MAX_CELLS:
            return None
        pieces = self._of(bits)
        flat = self._flat(coded, pieces.rows)
        whole = np.bincount(flat, minlength=width)
        occurs = np.flatnonzero(whole)
        if (whole[occurs] < self._least).any() or occurs.size * pieces.cell.size > _MOST_COUNTS:
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

    def _flat(self, coded: Sequence[_Coded], rows: Ints) -> NDArray[np.int32]:
        """Return the combination of each row as one number."""
        flat = np.zeros(rows.size, dtype=np.int32)
        everybody = rows.size == self._rows.size
        for one in coded:
            flat *= one.width
            flat += one.codes if everybody else one.codes[rows]
        return flat

    # ---- bounds --------------------------------------------------------------------------------

    def _is_bound_by_strata(self, names: Names, exact: _Exact) -> bool:
        """Say whether a pair's counts, with those of its variables by finer strata, tell how few
        have the pair in one of these: rule (B), a stratum being the third variable.
        """
        finer = set(exact.by)
        finer |= set.intersection(*(set(self._told_by(name)) for name in names))
        classes = self._of(2**MAX_ANALYSES - 1)
        inner = classes.groups(self._blocks.of(self._ordered(finer)), classes.mask)
        outer = classes.groups(self._blocks.of(exact.by), classes.mask & exact.sets)
        of = np.zeros(int(inner.max()) + 1, dtype=np.int64)
        of[inner] = np.where(classes.mask & exact.sets > 0, outer, -1)
        groups = [np.flatnonzero(of == group) for group in np.unique(of[of >= 0])]
        groups = [some for some in groups if some.size > 1]
        counts = self._dense(names, classes, inner) if groups else None
        return bool(groups) and (
            counts is None or any(self._tells(counts[some]) for some in groups)
        )

    def _is_bound_by_pairs(self, names: Names, found: Mapping[Names, _Exact]) -> bool:
        """Say whether the counts of a three's pairs tell how few have all three: rule (B).

        Two pairs are enough where the third has a combination that nobody has: that may be known
        from what the variables mean.
        """
        exact = {p: found[p] for p in itertools.combinations(names, 2) if p in found}
        others = [pair for pair in itertools.combinations(names, 2) if pair not in found]
        sets = 2**MAX_ANALYSES - 1
        for one in exact.values():
            sets &= one.sets
        if len(others) > 1 or not sets or not all(map(self._has_empty, others)):
            return False
        # By a stratum that is one of its own variables a pair is counted anyway.
        strata = {stratum for pair, one in exact.items() for stratum in {*one.by} - {*pair}}
        classes = self._of(2**MAX_ANALYSES - 1)
        inner = classes.groups(self._blocks.of(self._ordered(strata)), classes.mask)
        counts = self._dense(names, classes, inner)
        inside = np.unique(inner[classes.mask & sets > 0])
        return counts is None or any(self._tells(counts[group]) for group in inside)

    def _has_empty(self, names: Names) -> bool:
        """Say whether nobody has some combination of places that somebody has."""
        classes = self._of(2**MAX_ANALYSES - 1)
        if any(self._places(name) is None for name in names):
            return False
        counts = self._dense(names, classes, np.zeros(classes.cell.size, dtype=np.int64))
        if counts is None:
            return True
        some = counts[0][counts[0].any(axis=1)][:, counts[0].any(axis=0)]
        return bool((some == 0).any())

    def _told_by(self, name: str) -> Strata:
        """Return by which strata how many have a variable's places is told."""
        by = self._declared[name].by
        kinds: tuple[ExactKind, ...] = ("levels", "histogram", "shape", "moments")
        return tuple({stratum for kind in kinds for stratum in by.get(kind, ())})

    def _ordered(self, strata: set[str]) -> Strata:
        return tuple(name for name in self._blocks.names if name in strata)

    def _dense(self, names: Names, pieces: Pieces, groups: Ints) -> Ints | None:
        """Return counts of all combinations in each group of pieces, an axis for each variable;
        None when these are too many.
        """
        coded = [c for c in map(self._places, names) if c is not None]
        widths = [one.width for one in coded]
        size, number = int(np.prod(widths)), int(groups.max()) + 1
        if number * size > _MOST_COUNTS:
            return None
        known = np.ones(pieces.rows.size, dtype=np.bool_)
        for one in coded:
            known &= one.codes >= 0
        flat = groups[pieces.of_row] * size + self._flat(coded, pieces.rows)
        found: Ints = np.bincount(flat[known], minlength=number * size)
        return found.reshape(number, *widths)

    def _tells(self, counts: Ints) -> bool:
        """Say whether the sums over each axis of three tell that a few have some combination.

        They don't if subjects could be moved, all sums staying as they are, so that nobody has it,
        or so that enough do. Tried are the simplest moves: along the edges of a box.
        """
        t, least = counts, self._least
        small = np.argwhere((t > 0) & (t < least))
        self._steps += len(small) * t.size
        if self._steps > _MOST_STEPS:
            return True
        for a, b, c in small.tolist():
            out = np.minimum(t[a][None], t[:, b][:, None])
            np.minimum(out, t[:, :, c][:, :, None], out=out)
            into = np.minimum(t, t[:, b, c][:, None, None])
            np.minimum(into, t[a, :, c][None, :, None], out=into)
            np.minimum(into, t[a, b][None, None], out=into)
            free = (out >= t[a, b, c]) | (into >= least - t[a, b, c])
            free[a], free[:, b], free[:, :, c] = False, False, False
            if not free.any():
                return True
        return False

    # ---- sums of products ----------------------------------------------------------------------

    def _multiplied(self, sets: Analyses, joint: Mapping[Names, _Exact]) -> dict[Names, _Exact]:
        found: dict[Names, _Exact] = {}
        for names in _combinations(sets, 2):
            one, other = (isinstance(self._held[name], Categories) for name in names)
            if (one and other) or not all(map(self._has_sums, names)):
                continue
            coded = [self._few(name) for name in names]
            if coded[0] is not None and coded[1] is not None:
                exact = joint.get(names)  # a product of so few values tells how many have which
            else:
                exact = self._settle(_sets_with(names, sets), self._product_by(names, coded))
            if exact is not None:
                found[names] = exact
        return found

    def _has_sums(self, name: str) -> bool:
        kinds = self._declared[name].in_analyses
        return ("levels" if isinstance(self._held[name], Categories) else "moments") in kinds

    def _few(self, name: str) -> _Coded | None:
        """Return the places of a variable that has few values; None of any other number."""
        column = self._held[name]
        if isinstance(column, Categories) or few_values(_known(column[self._rows])) is not None:
            return self._places(name)
        return None

    def _product_by(
        self, names: Names, coded: Sequence[_Coded | None]
    ) -> Callable[[int], Strata | None]:
        """Return by which strata, given some sets, products are exact: rule (D), and (C)."""
        code = next((one for one in coded if one is not None), None)
        numbers = [
            column
            for name, one in zip(names, coded, strict=True)
            if one is None and not isinstance(column := self._held[name], Categories)
        ]

        def by_of(bits: int) -> Strata | None:
            pieces = self._of(bits)
            values = [column[self._rows[pieces.rows]] for column in numbers]
            if code is None:
                return self._finest(
                    bits, lambda groups: self._none_dominates(values, groups[pieces.of_row])
                )
            table = self._table([code], bits)
            if table is None:
                return None
            counts, possible = table
            places = code.codes[pieces.rows]
            return self._finest(
                bits,
                lambda groups: (
                    counts_are_large(counts, possible, groups, self._least)
                    and self._is_shared(
                        np.abs(values[0]), groups[pieces.of_row] * code.width + places
                    )
                ),
            )

        return by_of

    def _none_dominates(self, values: Sequence[Numbers], groups: Ints) -> bool:
        """Say whether nobody has more than the share of a group's sum of |x y|, or of the products
        of deviations."""
        n = np.bincount(groups)
        deviations = [x - (np.bincount(groups, x) / n)[groups] for x in values]
        raw = np.abs(values[0] * values[1])
        rounding = np.asarray(1e-12 * np.bincount(groups, raw), dtype=np.float64)
        return self._is_shared(raw, groups) and self._is_shared(
            np.abs(deviations[0] * deviations[1]), groups, rounding
        )

    def _is_shared(self, parts: Numbers, groups: Ints, slack: Numbers | float = 0.0) -> bool:
        whole = np.bincount(groups, parts)
        most = np.zeros(whole.size)
        np.maximum.at(most, groups, parts)
        return bool((most <= self._share * whole + slack).all())


def _known(values: Numbers) -> Numbers:
    return values[~np.isnan(values)]


def _combinations(sets: Analyses, size: int) -> Iterator[Names]:
    """Yield which variables are together in any set, each once, the first named first."""
    seen: set[Names] = set()
    for names in sets.values():
        for some in itertools.combinations(names, size):
            key = tuple(sorted(some))
            if key not in seen:
                seen.add(key)
                yield key


def _sets_with(names: Names, sets: Analyses) -> int:
    found: int = 2**MAX_ANALYSES - 1
    for name in names:
        found &= bits_of(name, list(sets.values()))
    return found


def _sets_of_pairs(names: Names, found: Mapping[Names, _Exact]) -> int:
    """Return the sets, as bits, in which all pairs of some variables are exact."""
    sets: int = 2**MAX_ANALYSES - 1
    for pair in itertools.combinations(names, 2):
        sets &= found[pair].sets if pair in found else 0
    return sets


def _latest_first(names: Names, sets: Analyses) -> list[Names]:
    """Return the pairs of three, first that of the two that are named last."""
    first = next(some for some in sets.values() if set(names) <= set(some))
    a, b, c = (name for name in first if name in names)
    return [tuple(sorted(pair)) for pair in ((b, c), (a, c), (a, b))]


def _of_set(found: Mapping[Names, _Exact], bit: int) -> tuple[Joint, ...]:
    chosen = [(n, exact.by) for n, exact in found.items() if exact.sets & bit]
    return tuple(
        Joint(variables=n, by=by) for n, by in sorted(chosen, key=lambda one: (len(one[0]), one[0]))
    )

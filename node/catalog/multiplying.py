"""By which strata sums of products of two variables of an analysis set are exact.

Rule (D) of ``docs/reference/disclosure.md``, and (C) of a category's levels. A product of two
variables of few values is a count. A model of several steps asks products with other weights at
each, so a number needs more values than it does for its moments not to be counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from node.catalog.combining import (
    Analyses,
    Coded,
    Combining,
    Exact,
    Names,
    combinations,
    sets_with,
)
from node.catalog.manifest import Strata
from node.catalog.pieces import Ints, Numbers, counts_are_large
from node.catalog.strata import Categories

FEWEST_WEIGHED = 40
"""A number with fewer values in a block is held to (C) as the category it is. Each step of a model
tells three sums of any function of one number (count, first and second power) with other weights,
so that of twelve steps after the first, more than fits take until they hardly move, come 3 x 13
equations: enough for the counts of 39 values."""


class Multiplying:
    """What products are exact in the analysis sets that ``within`` counts in."""

    def __init__(self, within: Combining) -> None:
        self._in = within
        self._values: dict[tuple[int, str], tuple[Ints, int]] = {}
        self._fewest: dict[tuple[int, str, Strata], int] = {}

    def of(self, sets: Analyses, joint: Mapping[Names, Exact]) -> dict[Names, Exact]:
        """Return of which two variables products are exact; ``joint``: which are counted."""
        found: dict[Names, Exact] = {}
        for names in combinations(sets, 2):
            one, other = (isinstance(self._in.held[name], Categories) for name in names)
            if (one and other) or not all(map(self._has_sums, names)):
                continue
            coded = [self._in.few(name) for name in names]
            if coded[0] is not None and coded[1] is not None:
                exact = joint.get(names)  # a product of so few values tells how many have which
            else:
                exact = self._in.settle(sets_with(names, sets), self._product_by(names, coded))
            if exact is not None:
                found[names] = exact
        return found

    def _has_sums(self, name: str) -> bool:
        kinds = self._in.declared[name].in_analyses
        return ("levels" if isinstance(self._in.held[name], Categories) else "moments") in kinds

    def _product_by(
        self, names: Names, coded: Sequence[Coded | None]
    ) -> Callable[[int], Strata | None]:
        """Return by which strata, given some sets, products are exact: rule (D), and (C)."""
        code = next((one for one in coded if one is not None), None)
        numbers = {
            name: column
            for name, one in zip(names, coded, strict=True)
            if one is None and not isinstance(column := self._in.held[name], Categories)
        }

        def by_of(bits: int) -> Strata | None:
            pieces = self._in.pieces(bits)
            values = [column[self._in.rows[pieces.rows]] for column in numbers.values()]
            if code is None:
                return self._finest(
                    bits, numbers, None, lambda by: self._none_dominates(values, by[pieces.of_row])
                )
            table = self._in.table([code], bits)
            if table is None:
                return None
            counts, possible = table
            places = code.codes[pieces.rows]
            return self._finest(
                bits,
                numbers,
                code,
                lambda groups: (
                    counts_are_large(counts, possible, groups, self._in.least)
                    and self._is_shared(
                        np.abs(values[0]), groups[pieces.of_row] * code.width + places
                    )
                ),
            )

        return by_of

    def _finest(
        self, bits: int, numbers: Iterable[str], code: Coded | None, passes: Callable[[Ints], bool]
    ) -> Strata | None:
        """Return the first strata by which groups of pieces pass, and numbers of few values do."""
        names = self._in.blocks.names
        for number in range(len(names), -1, -1):
            by = names[:number]
            many = not self._in.models or all(
                self._is_uncounted(bits, name, code, by) for name in numbers
            )
            if many and passes(self._groups(bits, by)):
                return by
        return None

    def _groups(self, bits: int, by: Strata) -> Ints:
        pieces = self._in.pieces(bits)
        return pieces.groups(self._in.blocks.of(by), pieces.mask)

    def _is_uncounted(self, bits: int, name: str, code: Coded | None, by: Strata) -> bool:
        """Say whether a number has many values in each block, or enough subjects each of few.

        Enough have each in every piece, and each with every level of a category beside it.
        """
        pieces = self._in.pieces(bits)
        places, width = self._places(bits, name)
        if width >= FEWEST_WEIGHED:  # where a block has fewer, nobody in it has some of the others
            key = bits, name, by
            if key not in self._fewest:
                block = self._in.blocks.of(by)[pieces.cell][pieces.of_row]
                distinct = np.unique(block * width + places) // width
                held = np.bincount(distinct)
                self._fewest[key] = int(held[held > 0].min())
            return self._fewest[key] >= FEWEST_WEIGHED
        possible = None
        if code is not None:
            places = code.codes[pieces.rows] * width + places
            if code.possible is not None:
                possible = np.repeat(code.possible[pieces.cell], width, axis=1)
            width *= code.width
        counts = pieces.counts(places, width)
        return counts_are_large(counts, possible, self._groups(bits, by), self._in.least)

    def _places(self, bits: int, name: str) -> tuple[Ints, int]:
        """Return which of a number's values each row in some sets has, and how many there are."""
        if (bits, name) not in self._values:
            column = self._in.held[name]
            assert not isinstance(column, Categories)
            rows = self._in.rows[self._in.pieces(bits).rows]
            distinct, places = np.unique(column[rows], return_inverse=True)
            self._values[bits, name] = places.reshape(-1).astype(np.int64), distinct.size
        return self._values[bits, name]

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
        return bool((most <= self._in.share * whole + slack).all())

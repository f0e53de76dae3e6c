"""By which strata sums of products of two variables of an analysis set are exact.

Rule (D) of ``docs/reference/disclosure.md``, and (C) of a category's levels. A product of two
variables of few values is a count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

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


class Multiplying:
    """What products are exact in the analysis sets that ``within`` counts in."""

    def __init__(self, within: Combining) -> None:
        self._in = within

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
        numbers = [
            column
            for name, one in zip(names, coded, strict=True)
            if one is None and not isinstance(column := self._in.held[name], Categories)
        ]

        def by_of(bits: int) -> Strata | None:
            pieces = self._in.pieces(bits)
            values = [column[self._in.rows[pieces.rows]] for column in numbers]
            if code is None:
                return self._in.finest(
                    bits, lambda groups: self._none_dominates(values, groups[pieces.of_row])
                )
            table = self._in.table([code], bits)
            if table is None:
                return None
            counts, possible = table
            places = code.codes[pieces.rows]
            return self._in.finest(
                bits,
                lambda groups: (
                    counts_are_large(counts, possible, groups, self._in.least)
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
        return bool((most <= self._in.share * whole + slack).all())

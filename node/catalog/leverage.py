"""What sums of derived numbers tell of one subject, given the sums of their kin.

Rule (D) among kin, of ``docs/reference/disclosure.md``. Whoever knows the sums of some functions
knows those of all their combinations, and one of these may be nearly the value of one subject
alone. How nearly is the subject's leverage: the squared row norm of an orthonormal basis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from contract.dictionary import Variable
from contract.statistics.summaries import grid_places
from node.catalog.kinship import Kinship, Together
from node.catalog.manifest import DeclaredVariable, ExactKind, Grid, Joint
from node.catalog.pieces import Ints, Numbers, Pieces
from node.catalog.strata import Blocks, Categories, Held

_MOST_NUMBERS = 2**26
"""Of one basis; what needs more is not exact."""
_ROUNDING = 32 * float(np.finfo(np.float64).eps)
_POWERS: dict[ExactKind, int] = {"moments": 2, "shape": 4}

Joined = tuple[tuple[Joint, ...], tuple[Joint, ...]]
"""An analysis set's combinations and products."""
Column = tuple[Numbers, float]
"""Values of at most 1, and how much of them is rounding."""


@dataclass(frozen=True)
class KinSums:
    """The numbers of a release, and what of their kin is exact beside them."""

    kinship: Kinship
    held: Held
    pieces: Mapping[str, Pieces]
    grids: Mapping[str, Grid]
    blocks: Blocks
    share: float

    def limited(self, together: Together) -> Together:
        """Return the declarations with sums of derived numbers as far as they tell of nobody.

        Of a subject whom the others' sums don't tell, all derived ones may add no more than
        ``share``. What is derived takes nothing from what it is derived from.
        """
        declared = together.declared
        found = dict(declared)
        later = [name for name in found if self._is_derived(name)]
        for name in later:
            found[name] = _without(found[name], *_POWERS)
        for name in later:
            for kind, power in _POWERS.items():
                by = declared[name].by.get(kind)
                if by is None or (kind == "shape" and "moments" not in found[name].by):
                    continue
                inside = kind in declared[name].in_analyses
                for strata in self.blocks.choices():
                    if set(strata) <= set(by) and self._passes(name, found, strata, inside, power):
                        one = found[name]
                        kinds = (*one.in_analyses, kind) if inside else one.in_analyses
                        found[name] = one.model_copy(
                            update={"by": {**one.by, kind: strata}, "in_analyses": kinds}
                        )
                        break
        return replace(together, declared=found)

    def kept(
        self, together: Mapping[str, Joined], declared: Mapping[str, DeclaredVariable]
    ) -> dict[str, Joined]:
        """Return what is exact of several variables of each analysis set, less the products of
        derived numbers that tell of somebody.
        """
        return {
            name: (joint, tuple(p for p in products if self._keeps(p, at, declared)))
            for at, (name, (joint, products)) in enumerate(together.items())
        }

    def _keeps(
        self, product: Joint, analysis: int, declared: Mapping[str, DeclaredVariable]
    ) -> bool:
        return all(
            self._product_passes(name, other, product, analysis, declared)
            for name, other in (product.variables, product.variables[::-1])
            if self._is_derived(name)
        )

    def _is_derived(self, name: str) -> bool:
        return (
            name in self.kinship.derived
            and name in self.pieces
            and not isinstance(self.held[name], Categories)
            and len([kin for kin in self.kinship.of(name) if kin in self.held]) > 1
        )

    def _passes(
        self,
        name: str,
        found: Mapping[str, DeclaredVariable],
        by: tuple[str, ...],
        inside: bool,
        power: int,
    ) -> bool:
        pieces = self.pieces[name]
        masks = pieces.mask if inside else np.zeros_like(pieces.mask)
        groups = pieces.groups(self.blocks.of(by), masks)[pieces.of_row]
        numbers = self._numbers(name, found)
        least = {**numbers, name: power}

        def columns(rows: Ints) -> tuple[list[Column], list[Column]]:
            known = [*self._sums(least, rows, derived=False), *self._counted(name, found, rows)]
            if len(known) > 1:
                return known, self._sums(least, rows, derived=True)
            # Of one number without kin (D) is asked as of any.
            more = [self._sums({n: least[n]}, rows, derived=True) for n in least]
            first = next((i for i, some in enumerate(more) if some), 0)
            return [*known, *more[first]], [one for some in more[first + 1 :] for one in some]

        return self._nobody(groups, pieces.rows, columns)

    def _product_passes(
        self,
        name: str,
        other: str,
        product: Joint,
        analysis: int,
        found: Mapping[str, DeclaredVariable],
    ) -> bool:
        pieces, by = self.pieces[name], self.held[other]
        groups = pieces.groups(self.blocks.of(product.by), pieces.mask)
        here = (pieces.mask >> analysis & 1 > 0)[pieces.of_row]
        of_row, all_rows = groups[pieces.of_row][here], pieces.rows[here]
        numbers = {**self._numbers(name, found), name: 2}
        if isinstance(by, Categories):
            of_row = of_row * (len(by.levels) + 1) + by.codes[all_rows] + 1
            numbers = dict.fromkeys(numbers, 1)

        def columns(rows: Ints) -> tuple[list[Column], list[Column]]:
            known = self._sums(numbers, rows, derived=False)
            more = self._sums(numbers, rows, derived=True)
            if not isinstance(by, Categories):
                factor = by[rows]
                known += [] if other in numbers else _powers(factor, 2)
                for kin in numbers:
                    column = self.held[kin]
                    assert not isinstance(column, Categories)
                    of = more if kin in self.kinship.derived else known
                    of += _times(column[rows], factor)
            return known, more

        return self._nobody(of_row, all_rows, columns)

    def _numbers(self, name: str, found: Mapping[str, DeclaredVariable]) -> dict[str, int]:
        """Return the kin of which sums are exact, and of which powers."""
        return {
            kin: 4 if "shape" in found[kin].by else 2
            for kin in self.kinship.of(name)
            if kin in found
            and "moments" in found[kin].by
            and not isinstance(self.held[kin], Categories)
        }

    def _sums(self, powers: Mapping[str, int], rows: Ints, *, derived: bool) -> list[Column]:
        found: list[Column] = [] if derived else [(np.ones(rows.size), 0.0)]
        for name, power in powers.items():
            column = self.held[name]
            if (name in self.kinship.derived) == derived and not isinstance(column, Categories):
                found += _powers(column[rows], power)
        return found

    def _counted(
        self, name: str, found: Mapping[str, DeclaredVariable], rows: Ints
    ) -> Iterator[Column]:
        """Return of whom levels and bins of the kin are counted: of enough, by (C)."""
        for kin in self.kinship.of(name):
            if kin not in found:
                continue
            column = self.held[kin]
            if isinstance(column, Categories):
                codes = column.codes[rows] if "levels" in found[kin].by else None
            elif "histogram" in found[kin].by:
                grid = self.grids[kin]
                variable = Variable(name=kin, kind="number", **grid.model_dump())
                values = column[rows]
                gone = np.isnan(values)
                places = grid_places(np.where(gone, grid.minimum, values), variable)
                codes = np.where(gone, -1, places)
            else:
                codes = None
            for code in [] if codes is None else np.unique(codes[codes >= 0]):
                yield (codes == code).astype(np.float64), 0.0

    def _nobody(
        self,
        groups: Ints,
        rows: Ints,
        columns: Callable[[Ints], tuple[list[Column], list[Column]]],
    ) -> bool:
        order = np.argsort(groups, kind="stable")
        starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
        return all(
            _is_nobodys(*columns(rows[some]), self.share)
            for some in sorted(np.split(order, starts[1:]), key=len)
            if some.size
        )


def _powers(x: Numbers, most: int) -> list[Column]:
    """Return who has a number, and its powers about their mean, all at most 1."""
    gone = np.isnan(x)
    if gone.all():
        return []
    z = np.where(gone, 0.0, x - x[~gone].mean())
    largest = float(np.abs(z).max())
    present: Column = ((~gone).astype(np.float64), 0.0)
    if largest == 0:
        return [present]
    z /= largest
    rounding = _ROUNDING * float(np.abs(x[~gone]).max()) / largest
    return [present, *((z**power, power * rounding) for power in range(1, most + 1))]


def _times(x: Numbers, y: Numbers) -> list[Column]:
    one, other = _powers(x, 1), _powers(y, 1)
    if len(one) < 2 or len(other) < 2:
        return []
    return [(one[1][0] * other[1][0], one[1][1] + other[1][1])]


def _is_nobodys(known: list[Column], more: list[Column], share: float) -> bool:
    """Say whether of nobody more than a share of what ``known`` leaves open is told by ``more``.

    A column's part that no combination of those before it gives counts in full, however small it
    is; but what could be rounding counts as such.
    """
    size = known[0][0].size
    if (len(known) + len(more)) * size > _MOST_NUMBERS:
        return False
    basis = np.empty((len(known) + len(more), size))
    number = before = 0
    open_part = np.ones(size)
    for at, (values, rounding) in enumerate([*known, *more]):
        if at == len(known):
            open_part = 1 - np.square(basis[:number]).sum(axis=0)
            before = number
        rest, q = values.copy(), basis[:number]
        for _ in range(2):
            rest -= (q @ rest) @ q
        if float(np.abs(rest).max()) <= rounding + _ROUNDING:
            continue
        for _ in range(2):  # scaled first: what is small must be as upright as the others
            rest /= np.linalg.norm(rest)
            rest -= (q @ rest) @ q
        basis[number] = rest / np.linalg.norm(rest)
        number += 1
    if not more or number == before:
        return True
    told = np.square(basis[before:number]).sum(axis=0)
    return bool((told <= share * np.maximum(open_part - 1e-6, 0.0)).all())


def _without(one: DeclaredVariable, *kinds: ExactKind) -> DeclaredVariable:
    by = {kind: strata for kind, strata in one.by.items() if kind not in kinds}
    inside = tuple(kind for kind in one.in_analyses if kind in by)
    return one.model_copy(update={"by": by, "in_analyses": inside})

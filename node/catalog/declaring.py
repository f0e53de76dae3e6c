"""What a release can be asked exactly, decided when it is made.

The rules are those of ``docs/reference/disclosure.md``: who is in which cell (``strata``) and set
(``sets``), and by which strata each kind of statistic may be asked: of one variable (``pieces``)
and of several at once (``joining``).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from contract.errors import UsageError
from node.catalog.joining import Joining
from node.catalog.kinship import NO_KINSHIP, Kinship, counted_together, cut_by, kin_sets, owned
from node.catalog.leverage import KinSums
from node.catalog.manifest import (
    MAX_ANALYSES,
    AnalysisSet,
    Declaration,
    DeclaredVariable,
    ExactKind,
    Grid,
)
from node.catalog.pieces import Pieces, finest, holds_somebody, of_variable, possible_in
from node.catalog.sets import bits_of, masks_of, members_of, propose_analysis
from node.catalog.strata import (
    Blocks,
    Categories,
    Cells,
    Held,
    StratumWish,
    propose,
    stratify,
)

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Minimums:
    """What the policy wants of a declaration."""

    cohort: int = 20
    cell: int = 10
    largest_contribution: float = 0.5


@dataclass(frozen=True)
class Wishes:
    """What a steward wants a release to be asked about. ``strata``: None to have them proposed."""

    strata: Sequence[StratumWish] | None = None
    analyses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    analysed: Sequence[str] | None = None
    """Of which variables an analysis set is proposed when none is wished; None: of none."""
    grids: Mapping[str, Grid] = field(default_factory=dict)
    minimums: Minimums = Minimums()
    kinship: Kinship = NO_KINSHIP
    """Which columns are derived from one another."""
    sums_only: bool = False
    """Whether it is asked in secure sums alone."""
    observe: Callable[[int, int], None] | None = field(default=None, compare=False)
    """Told how many combinations of variables are through, of how many."""


DEFAULT_WISHES = Wishes()


@dataclass(frozen=True)
class Loss:
    """What a declaration costs, for the steward's eyes."""

    subjects: int
    combinations: int
    cells: int
    in_no_cell: int
    by_variable: Mapping[str, int]
    """Of how many subjects in cells a value isn't told exactly."""
    by_analysis: Mapping[str, int]
    """How many complete subjects are not in the set."""
    nearly_alike: Mapping[tuple[str, str], int]
    """Of two analysis sets that differ by few subjects: by how many."""


@dataclass(frozen=True)
class Declared:
    """A declaration, and for each subject its cell and the sets that it is in."""

    declaration: Declaration
    cells: Cells
    variables: Mapping[str, Bools]
    analyses: Mapping[str, Bools]
    loss: Loss


def declare(held: Held, subjects: Sequence[str], wishes: Wishes) -> Declared:
    """Return what a table with one row for each of ``subjects`` can be asked exactly.

    ``held`` are its categories and numbers. Who leaves a set is drawn by the digests of the
    pseudonyms, which the node's key makes and which never leave: so the same table has the same
    declaration, and nobody else can foretell whom it leaves out.
    """
    minimums = wishes.minimums
    number = len(subjects)
    strata = wishes.strata
    if strata is None:
        strata = propose(held, minimums.cohort, number)
    if wishes.sums_only:
        strata = wishes.strata or ()
        _check_of_sums(strata, held, wishes.analyses)
    cells = stratify(held, strata, minimums.cohort, number)
    _check_analyses(wishes.analyses, held)
    draw = _draw(subjects)
    present = {name: _present(column) & (cells.of >= 0) for name, column in held.items()}
    if wishes.analysed is not None and not wishes.analyses:
        wishes = replace(wishes, analyses=propose_analysis(wishes.analysed, present, cells.of >= 0))
    analyses = list(wishes.analyses.values())
    complete = [np.logical_and.reduce([present[v] for v in names]) for names in analyses]
    kin = kin_sets(wishes.kinship, present, MAX_ANALYSES - len(analyses))
    masks = masks_of([*complete, *kin.whole], cells.of, minimums.cohort, number)
    own = owned(analyses, wishes.kinship, kin)
    settled = kin.settled(present, masks, len(analyses))
    members = members_of(settled, masks, own, cells.of, draw, minimums.cohort)
    blocks = Blocks(cells.strata, cells.cells)
    least, share = minimums.cell, minimums.largest_contribution
    possible = {name: possible_in(name, column, cells) for name, column in held.items()}
    declared: dict[str, DeclaredVariable] = {}
    pieces: dict[str, Pieces] = {}
    cut = cut_by(analyses, wishes.kinship, kin)
    for name, column in held.items():
        inside = masks & bits_of(name, analyses) > 0
        told = members[name] | inside
        for only in (told, inside) if _are_few(told & ~inside, inside) else (told,):
            by_sets = Pieces(only, masks & bits_of(name, cut), cells.of, len(cells.cells))
            one = of_variable(
                *(name, column, by_sets, blocks, possible[name]),
                *(wishes.grids.get(name), least, share),
            )
            if only is told or _is_better(one, declared[name]):
                declared[name], pieces[name] = one, by_sets
                members[name] = members[name] & only
            if name in kin.apart or len(wishes.kinship.of(name)) > 1:
                break
    kin_sums = KinSums(wishes.kinship, held, pieces, wishes.grids, blocks, share)
    counted = kin_sums.limited(
        counted_together(
            *(declared, wishes.kinship, kin.apart, held, possible, pieces),
            *(wishes.grids, cells, blocks, least),
        )
    )
    once = counted.once(wishes.kinship)
    of = masks & (2 ** len(analyses) - 1)
    joining = Joining(
        counted.held,
        once,
        counted.possible,
        of,
        cells.of,
        blocks,
        least,
        share,
        models=not wishes.sums_only,
    )
    together = kin_sums.kept(joining.of(wishes.analyses, wishes.observe), counted.declared)
    found = []
    for at, (name, names) in enumerate(wishes.analyses.items()):
        sizes = np.bincount(cells.of[masks >> at & 1 > 0], minlength=len(cells.cells))
        somebody = holds_somebody(sizes, blocks.lacking(names))
        by = finest(blocks, somebody) if cells.cells else None
        joint, products = together[name]
        found.append(AnalysisSet(name=name, variables=names, by=by, joint=joint, products=products))
    sets = {name: masks >> at & 1 > 0 for at, name in enumerate(wishes.analyses)}
    return Declared(
        Declaration(
            minimum_cohort=minimums.cohort,
            minimum_cell=minimums.cell,
            strata=cells.strata,
            cells=cells.cells,
            variables=tuple(counted.declared.values()),
            analyses=tuple(found),
            sums_only=wishes.sums_only,
        ),
        cells.of,
        members,
        sets,
        Loss(
            number,
            cells.combinations,
            len(cells.cells),
            cells.excluded,
            {n: number - cells.excluded - int(m.sum()) for n, m in members.items()},
            {
                name: int(np.count_nonzero(whole) - np.count_nonzero(sets[name]))
                for name, whole in zip(wishes.analyses, complete, strict=True)
            },
            dict(_nearly_alike(sets)),
        ),
    )


_FEW = 0.1


def _are_few(others: Bools, inside: Bools) -> bool:
    """Say whether those in no analysis set are so few that it may do without them."""
    return 0 < int(np.count_nonzero(others)) <= _FEW * int(np.count_nonzero(inside))


def _nearly_alike(sets: Mapping[str, Bools]) -> Iterator[tuple[tuple[str, str], int]]:
    """Yield pairs of sets of which those in one alone are few, with their number."""
    for one, other in itertools.combinations(sets, 2):
        both = sets[one] & sets[other]
        if _are_few(sets[one] ^ sets[other], both):
            yield (one, other), int(np.count_nonzero(sets[one] ^ sets[other]))


def _is_better(without: DeclaredVariable, whole: DeclaredVariable) -> bool:
    """Say whether more is exact in analysis sets once nobody beside them is told of."""
    kinds: set[ExactKind] = {"levels", "moments", "histogram"}
    return bool(kinds & set(whole.by) - set(whole.in_analyses) & set(without.in_analyses))


def _check_analyses(analyses: Mapping[str, tuple[str, ...]], held: Held) -> None:
    """Raise ``UsageError`` for too many analysis sets, or one of what isn't there."""
    if len(analyses) > MAX_ANALYSES:
        raise UsageError(f"A release has at most {MAX_ANALYSES} analysis sets.")
    for name, names in analyses.items():
        unknown = [v for v in names if v not in held]
        if unknown or not names:
            raise UsageError(f"Analysis {name}: {unknown[0] if unknown else 'no variable'}?")


def _check_of_sums(
    strata: Sequence[StratumWish], held: Held, analyses: Mapping[str, tuple[str, ...]]
) -> None:
    """Raise ``UsageError`` for what a release for sums alone can't declare: its answers are all
    over one set of rows, whole or by each level of one category.
    """
    if len(analyses) != 1:
        raise UsageError("A small site's release declares one analysis set: give one --analysis.")
    if len(strata) > 1 or any(not isinstance(held.get(s.variable), Categories) for s in strata):
        raise UsageError("A small site's release has one category as its cells, or none.")


def _draw(subjects: Sequence[str]) -> NDArray[np.uint64]:
    found = b"".join(hashlib.sha256(b"set" + s.encode()).digest()[:8] for s in subjects)
    return np.frombuffer(found, dtype=np.uint64)


def _present(column: Categories | NDArray[np.float64]) -> Bools:
    return column.codes >= 0 if isinstance(column, Categories) else ~np.isnan(column)

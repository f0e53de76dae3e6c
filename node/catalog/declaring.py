"""What a release can be asked exactly, decided when it is made.

The rule is that of ``docs/reference/disclosure.md``: within each cell, the subjects whose values of
one variable an exact answer can be about are cut into pieces by the sets that they are in, and each
piece holds nobody or at least ``minimum_cohort``. Who would be in a smaller piece leaves sets until
that is so; nobody joins a set. Then it is worked out by which strata each kind of statistic may be
asked, so that no count of a level or bin that an answer can be made to tell is a small one, and no
total is mostly one subject's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from contract.documents import Variable
from contract.errors import UsageError
from contract.statistics.summaries import grid_places
from node.catalog.manifest import (
    MAX_ANALYSES,
    AnalysisSet,
    Declaration,
    DeclaredVariable,
    ExactKind,
    Grid,
    Strata,
)
from node.catalog.strata import (
    Blocks,
    Categories,
    Cells,
    Held,
    Stratified,
    StratumWish,
    propose,
    stratify,
)

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Numbers = NDArray[np.float64]
Passes = Callable[[Ints], bool]


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
    grids: Mapping[str, Grid] = field(default_factory=dict)
    minimums: Minimums = Minimums()
    kin: Sequence[tuple[str, ...]] = ()
    """Columns that are derived from one another (``node.catalog.kinship``)."""


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
    cells = stratify(held, strata, minimums.cohort, number)
    if len(wishes.analyses) > MAX_ANALYSES:
        raise UsageError(f"A release has at most {MAX_ANALYSES} analysis sets.")
    for name, names in wishes.analyses.items():
        unknown = [v for v in names if v not in held]
        if unknown or not names:
            raise UsageError(f"Analysis {name}: {unknown[0] if unknown else 'no variable'}?")
    draw = _draw(subjects)
    analyses = list(wishes.analyses.values())
    present = {name: _present(column) & (cells.of >= 0) for name, column in held.items()}
    complete = [np.logical_and.reduce([present[v] for v in names]) for names in analyses]
    masks = _masks(complete, cells.of, minimums.cohort, number)
    members = _members(present, masks, analyses, cells.of, draw, minimums)
    blocks = Blocks(cells.strata, cells.cells)
    declared = []
    for name, column in held.items():
        of = masks & _bits(name, analyses)
        pieces = _Pieces(column, members[name], of, cells.of, len(cells.cells))
        possible = _possible(name, column, cells)
        declared.append(_of_variable(name, pieces, blocks, wishes, possible))
    found = []
    for at, (name, names) in enumerate(wishes.analyses.items()):
        inside = np.bincount(cells.of[masks >> at & 1 > 0], minlength=len(cells.cells))
        by = _finest(blocks, _holds_somebody(inside)) if cells.cells else None
        found.append(AnalysisSet(name=name, variables=names, by=by))
    subjects_in_cells = number - cells.excluded
    sets = {name: masks >> at & 1 > 0 for at, name in enumerate(wishes.analyses)}
    return Declared(
        Declaration(
            minimum_cohort=minimums.cohort,
            minimum_cell=minimums.cell,
            strata=cells.strata,
            cells=cells.cells,
            variables=tuple(declared),
            analyses=tuple(found),
        ),
        cells.of,
        members,
        sets,
        Loss(
            number,
            cells.combinations,
            len(cells.cells),
            cells.excluded,
            {n: subjects_in_cells - int(np.count_nonzero(m)) for n, m in members.items()},
            {
                name: int(np.count_nonzero(whole) - np.count_nonzero(sets[name]))
                for name, whole in zip(wishes.analyses, complete, strict=True)
            },
        ),
    )


def _draw(subjects: Sequence[str]) -> NDArray[np.uint64]:
    found = b"".join(hashlib.sha256(b"set" + s.encode()).digest()[:8] for s in subjects)
    return np.frombuffer(found, dtype=np.uint64)


def _present(column: Categories | Numbers) -> Bools:
    return column.codes >= 0 if isinstance(column, Categories) else ~np.isnan(column)


# ---- sets ----------------------------------------------------------------------------------------


def _masks(complete: Sequence[Bools], cells: Cells, least: int, subjects: int) -> Ints:
    """Return in which analysis sets each subject is, as bits: each combination in a cell is that
    of nobody or of ``least`` or more. Who has a rarer one leaves sets for the next common one.
    """
    masks = np.zeros(subjects, dtype=np.int64)
    if not complete:
        return masks
    for at, whole in enumerate(complete):
        masks |= whole.astype(np.int64) << at
    width = len(complete)
    keys = np.where((cells >= 0) & (masks > 0), (cells.astype(np.int64) << width) | masks, -1)
    unique, places, counts = np.unique(keys, return_inverse=True, return_counts=True)
    moved = np.zeros(unique.size, dtype=np.int64)
    mask, cell = unique & (2**width - 1), unique >> width
    for one in set(cell[unique >= 0].tolist()):
        here = np.flatnonzero((cell == one) & (unique >= 0))
        to = _common_masks(
            dict(zip(mask[here].tolist(), counts[here].tolist(), strict=True)), least
        )
        moved[here] = [to[m] for m in mask[here].tolist()]
    found: Ints = moved[places.reshape(-1)]
    return found


def _common_masks(counts: Mapping[int, int], least: int) -> dict[int, int]:
    """Return to which combination of sets each combination goes: within itself, and common."""
    held = {mask: (count, [mask]) for mask, count in counts.items()}
    while True:
        small = [m for m, (count, _) in held.items() if m and count < least]
        if not small:
            return {one: mask for mask, (_, some) in held.items() for one in some}
        mask = max(small, key=lambda m: (m.bit_count(), m))
        count, some = held.pop(mask)
        targets = ({mask & other for other in held} - {mask}) | {0}
        to = max(targets, key=lambda t: (t.bit_count(), t in held, t))
        known, others = held.get(to, (0, []))
        held[to] = (known + count, others + some)


def _bits(variable: str, analyses: Sequence[tuple[str, ...]]) -> int:
    return sum(1 << at for at, names in enumerate(analyses) if variable in names)


def _members(
    present: Mapping[str, Bools],
    masks: Ints,
    analyses: Sequence[tuple[str, ...]],
    cells: Cells,
    draw: NDArray[np.uint64],
    minimums: Minimums,
) -> dict[str, Bools]:
    """Return who is in each variable's own set.

    Those in an analysis set with the variable, and of the others in each cell nobody, or so many
    that the set's size is a step of a ladder. Its steps are at least the minimum apart, and the
    sizes of the classes of analysis sets, added up, are among them: so that sizes, subtracted from
    one another, tell no smaller number.
    """
    number = int(cells.max(initial=-1)) + 1
    order = np.lexsort((draw, cells))
    members = {}
    rest = {}
    for name, here in present.items():
        inside = masks & _bits(name, analyses) > 0
        members[name] = inside
        rest[name] = here & ~inside
    sizes = {name: np.bincount(cells[others], minlength=number) for name, others in rest.items()}
    steps = {name: np.zeros(number, dtype=np.int64) for name in rest}
    least = minimums.cohort
    inner = [np.bincount(cells[masks == m], minlength=number) for m in np.unique(masks[masks > 0])]
    base = {
        name: np.bincount(cells[masks & _bits(name, analyses) > 0], minlength=number)
        for name in rest
    }
    for cell in range(number):
        most = {name: int(base[name][cell] + of[cell]) for name, of in sizes.items()}
        ladder = _whole_ladder(
            list(most.values()), [int(held[cell]) for held in inner if held[cell]], least
        )
        for name, size in most.items():
            more = [step - int(base[name][cell]) for step in ladder]
            room = size - int(base[name][cell])
            steps[name][cell] = max((m for m in more if least <= m <= room), default=0)
    for name, others in rest.items():
        queue = order[others[order]]
        of = cells[queue]
        starts = np.concatenate(([0], np.cumsum(sizes[name])))[:-1]
        place = np.arange(queue.size) - starts[of] if number else np.empty(0, dtype=np.int64)
        members[name][queue[place < steps[name][of]] if number else queue[:0]] = True
    return members


def _whole_ladder(sizes: Sequence[int], classes: Sequence[int], least: int) -> list[int]:
    """Return a ladder on which the classes' sizes, added up one after the other, are steps."""
    found: list[int] = []
    start = 0
    for held in classes:
        room = held - least  # a step farther up would be too near to the next
        within = [min(size - start, room) for size in sizes if start <= size < start + held]
        found += [start + step for step in _ladder(within, least)]
        start += held
    return found + [start + step for step in _ladder([s - start for s in sizes], least)]


def _ladder(sizes: Sequence[int], least: int) -> list[int]:
    """Return steps from 0, at least ``least`` apart, that cost the sizes least when each is
    lowered to the step at or below it.
    """
    wanted = sorted(size for size in sizes if size >= least)
    if not wanted:
        return [0]
    found = {0}
    for size in wanted:
        found |= {size - down * least for down in range(3) if size >= (down + 1) * least}
    steps = sorted(found)
    sums = [0]
    for size in wanted:
        sums.append(sums[-1] + size)

    def cost(start: int, end: int | None) -> int:
        first = int(np.searchsorted(wanted, start))
        last = len(wanted) if end is None else int(np.searchsorted(wanted, end))
        return sums[last] - sums[first] - start * (last - first)

    best: dict[int, tuple[int, int | None]] = {}
    for at in range(len(steps) - 1, -1, -1):
        step = steps[at]
        choices: list[tuple[int, int | None]] = [(cost(step, None), None)]
        choices += [
            (cost(step, after) + best[after][0], after)
            for after in steps[at + 1 :]
            if after >= step + least
        ]
        best[step] = min(choices, key=lambda choice: (choice[0], choice[1] or 0))
    ladder: list[int] = [0]
    after = best[0][1]
    while after is not None:
        ladder.append(after)
        after = best[after][1]
    return ladder


# ---- by which strata -----------------------------------------------------------------------------


class _Pieces:
    """What is added up of one variable, for each piece: a cell, and which sets it is in there."""

    def __init__(
        self,
        column: Categories | NDArray[np.float64],
        members: Bools,
        masks: Ints,
        cells: Cells,
        number: int,
    ) -> None:
        self.column = column
        rows = np.flatnonzero(members)
        both = cells[rows].astype(np.int64) << MAX_ANALYSES | masks[rows]
        if number << MAX_ANALYSES <= rows.size << 4:  # few enough to be counted, not sorted
            keys = np.flatnonzero(np.bincount(both))
            again = np.zeros(number << MAX_ANALYSES, dtype=np.int64)
            again[keys] = np.arange(keys.size)
            self._piece = again[both]
        else:
            keys, self._piece = np.unique(both, return_inverse=True)
        self.cell: Ints = keys >> MAX_ANALYSES
        self.mask: Ints = keys & (2**MAX_ANALYSES - 1)
        self._rows = rows
        self.n: Ints = np.bincount(self._piece, minlength=self.cell.size)
        self.cells = number

    def counts(self, codes: Ints, width: int) -> Ints:
        """Return how many of each code each piece holds."""
        flat = self._piece * width + codes[self._rows]
        found: Ints = np.bincount(flat, minlength=self.cell.size * width)
        return found.reshape(self.cell.size, width)

    def values(self) -> NDArray[np.float64]:
        """Return for each piece: sum of |x|, largest |x|, sum, sum of squares, least, most; the
        last four about the middle of them all, so that squares keep their digits."""
        assert not isinstance(self.column, Categories)
        x = self.column[self._rows]
        about = float(x.mean()) if x.size else 0.0
        found = np.zeros((6, self.cell.size))
        size = np.abs(x)
        x = x - about
        for at, weights in ((0, size), (2, x), (3, x * x)):
            found[at] = np.bincount(self._piece, weights, minlength=self.cell.size)
        np.maximum.at(found[1], self._piece, size)
        found[4] = np.inf
        found[5] = -np.inf
        np.minimum.at(found[4], self._piece, x)
        np.maximum.at(found[5], self._piece, x)
        return found


def _holds_somebody(inside: Ints) -> Passes:
    return lambda block: bool((np.bincount(block, inside) > 0).all())


def _possible(name: str, column: Categories | Numbers, cells: Stratified) -> Bools:
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


def _of_variable(
    name: str, pieces: _Pieces, blocks: Blocks, wishes: Wishes, possible: Bools
) -> DeclaredVariable:
    minimums = wishes.minimums
    by: dict[ExactKind, Strata] = {}
    in_analyses: list[ExactKind] = []
    held = _holds_somebody(np.bincount(pieces.cell, pieces.n, minlength=pieces.cells))

    def settle(kind: ExactKind, passes: Passes) -> None:
        for masks in (pieces.mask, np.zeros_like(pieces.mask)):  # in analysis sets too, or not
            tested = _tested(pieces, masks, held, passes)
            found = _finest(blocks, tested)
            if found is not None:
                by[kind] = found
                if masks is pieces.mask:
                    in_analyses.append(kind)
                return

    if not pieces.cells:
        return DeclaredVariable(name=name)
    settle("count", lambda groups: True)
    if isinstance(pieces.column, Categories):
        table = pieces.counts(pieces.column.codes, len(pieces.column.levels))
        here = possible[pieces.cell]
        settle("levels", lambda groups: _counts_are_large(table, here, groups, minimums.cell))
        return DeclaredVariable(name=name, by=by, in_analyses=tuple(in_analyses))
    values, largest = pieces.values(), minimums.largest_contribution
    settle("moments", lambda groups: _none_dominates(pieces.n, values, groups, largest))
    grid = wishes.grids.get(name)
    if grid is not None:
        variable = Variable(name=name, kind="number", **grid.model_dump())
        bins = pieces.counts(grid_places(pieces.column, variable), grid.bins + 2)
        here = np.ones_like(bins, dtype=np.bool_)
        settle("histogram", lambda groups: _counts_are_large(bins, here, groups, minimums.cell))
    return DeclaredVariable(name=name, by=by, in_analyses=tuple(in_analyses), grid=grid)


def _tested(pieces: _Pieces, masks: Ints, held: Passes, passes: Passes) -> Passes:
    return lambda block: held(block) and passes(_groups(block, pieces, masks))


def _finest(blocks: Blocks, passes: Passes) -> Strata | None:
    return next((by for by in blocks.choices() if passes(blocks.of(by))), None)


def _groups(block: Ints, pieces: _Pieces, masks: Ints) -> Ints:
    """Return the group of each piece: those of one block that are in the same sets."""
    keys = np.stack((block[pieces.cell], masks))
    return np.unique(keys, axis=1, return_inverse=True)[1].reshape(-1)


def _counts_are_large(table: Ints, possible: Bools, groups: Ints, least: int) -> bool:
    """Say whether each group has enough of each code that occurs at all. None is too few, unless
    it isn't possible.
    """
    number = int(groups.max(initial=-1)) + 1
    added = np.zeros((number, table.shape[1]), dtype=np.int64)
    can = np.zeros((number, table.shape[1]), dtype=np.bool_)
    np.add.at(added, groups, table)
    np.logical_or.at(can, groups, possible)
    return bool(((added >= least) | ~can | (added.sum(axis=0) == 0)).all())


def _none_dominates(n: Ints, values: NDArray[np.float64], groups: Ints, largest: float) -> bool:
    """Say whether nobody has more than a share of a group's total, or of its squared deviations."""
    number = int(groups.max(initial=-1)) + 1
    size, most = np.bincount(groups, values[0], number), np.zeros(number)
    np.maximum.at(most, groups, values[1])
    if (most > largest * size).any():
        return False
    count = np.bincount(groups, n, number)
    mean = np.bincount(groups, values[2], number) / count
    squares = np.bincount(groups, values[3], number) - count * mean**2
    low, high = np.full(number, np.inf), np.full(number, -np.inf)
    np.minimum.at(low, groups, values[4])
    np.maximum.at(high, groups, values[5])
    farthest = np.maximum(mean - low, high - mean) ** 2
    slack = 1e-9 * np.abs(np.bincount(groups, values[3], number))
    return bool((farthest <= largest * squares + slack).all())

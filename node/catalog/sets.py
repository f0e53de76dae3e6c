"""Who is in which set of a release: analysis sets, and a set for each variable.

Rules (P) and (S) of ``docs/reference/disclosure.md``: within each cell, the classes of subjects by
the sets that they are in hold nobody or at least the minimum, and so do the differences of sets'
sizes. Who would be in a smaller class leaves sets until that is so; nobody joins one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from node.catalog.strata import Cells

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


PROPOSED_ANALYSIS = "complete"
"""What a proposed analysis set is called."""
_MOST_MISSING = 0.05
_LEAST_COMPLETE = 0.9


def propose_analysis(
    names: Sequence[str], present: Mapping[str, Bools], inside: Bools
) -> dict[str, tuple[str, ...]]:
    """Return one analysis set of those variables that few lack, so that most have all of them.

    ``inside``: who is in a cell. None is proposed of fewer than two variables.
    """
    subjects = int(np.count_nonzero(inside))
    whole, chosen = inside, []
    for name in dict.fromkeys(names):
        if name not in present:
            continue
        more = whole & present[name]
        if (
            np.count_nonzero(present[name]) >= (1 - _MOST_MISSING) * subjects
            and np.count_nonzero(more) >= _LEAST_COMPLETE * subjects
        ):
            whole = more
            chosen.append(name)
    return {PROPOSED_ANALYSIS: tuple(chosen)} if len(chosen) > 1 else {}


def masks_of(complete: Sequence[Bools], cells: Cells, least: int, subjects: int) -> Ints:
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


def bits_of(variable: str, analyses: Sequence[tuple[str, ...]]) -> int:
    """Return the analysis sets with a variable, as bits."""
    return sum(1 << at for at, names in enumerate(analyses) if variable in names)


def members_of(
    present: Mapping[str, Bools],
    masks: Ints,
    analyses: Sequence[tuple[str, ...]],
    cells: Cells,
    draw: NDArray[np.uint64],
    least: int,
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
        inside = masks & bits_of(name, analyses) > 0
        members[name] = inside
        rest[name] = here & ~inside
    sizes = {name: np.bincount(cells[others], minlength=number) for name, others in rest.items()}
    steps = {name: np.zeros(number, dtype=np.int64) for name in rest}
    inner = [np.bincount(cells[masks == m], minlength=number) for m in np.unique(masks[masks > 0])]
    base = {
        name: np.bincount(cells[masks & bits_of(name, analyses) > 0], minlength=number)
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

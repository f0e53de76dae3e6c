"""A crosstab on a page: a table of rows by columns, with counts and the shares of each row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.dictionary import Variable
from contract.statistics import crosstabs
from contract.statistics.summaries import Counts
from researcher.analyses.groups import ALL, share_of
from researcher.findings import Printed, fits, least_widths, shown
from researcher.statistics import place_names

TOTAL = "total"


@dataclass(frozen=True)
class _Block:
    """A table of two variables' counts, and of whom it is."""

    of: str
    counts: NDArray[np.float64]


@dataclass(frozen=True)
class _Line:
    label: str
    counts: tuple[str, ...]
    shares: tuple[str, ...]


def page(
    groups: Mapping[str, Counts], variables: Sequence[Variable], by: str | None
) -> Printed | None:
    """Return a crosstab as it is printed: one block for each group and level of a third variable.

    Of numbers' grids only the bins are there that somebody is in. A share stands beside its count,
    or under it where 80 columns don't hold both. There is none where they don't hold the counts.
    """
    names = [place_names(variable) for variable in variables]
    tables = {
        group: crosstabs.table_of(held.counts, [len(n) for n in names])
        for group, held in groups.items()
    }
    blocks = list(_blocks(tables, variables, names, by))
    if not blocks:
        return None
    kept = [_kept(variables[axis], names[axis], blocks, axis) for axis in (0, 1)]
    of_rows, of_columns = (
        [names[axis][at] for at in places] for axis, places in zip((0, 1), kept, strict=True)
    )
    columns = (f"{variables[0].name} / {variables[1].name}", *of_columns, TOTAL)
    told = [_told(block, block.counts[np.ix_(*kept)], of_rows) for block in blocks]
    for lay_out in (_beside, _under):
        rows = lay_out([line for lines in told for line in lines])
        if fits(least_widths(columns, rows), room=0):
            each = len(rows) // len(told)  # blocks are alike
            return Printed(columns, tuple(rows), tuple(range(each, len(rows) + 1, each)))
    return None


def _blocks(
    tables: Mapping[str, NDArray[np.float64]],
    variables: Sequence[Variable],
    names: Sequence[Sequence[str]],
    by: str | None,
) -> Iterator[_Block]:
    for group, table in tables.items():
        of = "" if group == ALL else f"{by} = {group}"
        if table.ndim == 2:
            yield _Block(of, table)
            continue
        for level, held in zip(names[2], np.moveaxis(table, 2, 0), strict=True):
            if held.any():
                stratum = f"{variables[2].name} = {level}"
                yield _Block(f"{of}, {stratum}" if of else stratum, held)


def _kept(
    variable: Variable, names: Sequence[str], blocks: Sequence[_Block], axis: int
) -> list[int]:
    there = range(len(names))
    if variable.kind == "category":
        return list(there)
    return [at for at in there if any(block.counts.take(at, axis).any() for block in blocks)]


def _told(block: _Block, counts: NDArray[np.float64], names: Sequence[str]) -> list[_Line]:
    """Return a block's lines: its heading where it has one, its rows, and their total."""
    width = counts.shape[1] + 1
    lines = [_Line(block.of, ("",) * width, ("",) * width)] if block.of else []
    for name, row in zip([*names, TOTAL], [*counts, counts.sum(axis=0)], strict=True):
        numbers = (*(shown(float(count)) for count in row), shown(float(row.sum())))
        shares = (*_shares(row.tolist()), "100%") if (row > 0).any() else ("",) * width
        lines.append(_Line(f"  {name}" if block.of else name, numbers, shares))
    return lines


def _shares(counts: Sequence[float]) -> Iterator[str]:
    return (f"{share_of(counts, place):.1%}" for place in range(len(counts)))


def _beside(lines: Sequence[_Line]) -> list[tuple[str, ...]]:
    """Return lines with each share beside its count, one below the other by their last digits."""
    wide = [max(map(len, numbers)) for numbers in zip(*(one.counts for one in lines), strict=True)]
    shares = [[f"({s})" if s else "" for s in one.shares] for one in lines]
    room = [max(map(len, column)) for column in zip(*shares, strict=True)]
    return [
        (
            one.label,
            *(
                f"{number:>{w}} {share:>{r}}".rstrip()
                for number, share, w, r in zip(one.counts, told, wide, room, strict=True)
            ),
        )
        for one, told in zip(lines, shares, strict=True)
    ]


def _under(lines: Sequence[_Line]) -> list[tuple[str, ...]]:
    """Return lines with each share under its count."""
    return [
        row
        for one in lines
        for row in ((one.label, *one.counts), ("", *one.shares))[: 2 if one.counts[-1] else 1]
    ]

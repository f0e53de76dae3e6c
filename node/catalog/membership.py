"""Who is in which cell and set of a release, row by row of its table."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from contract.errors import DataError
from node.catalog.declaring import Declared, Minimums, Wishes, declare
from node.catalog.deriving import BOOLEAN_LEVELS
from node.catalog.manifest import (
    COMPRESSION,
    MEMBERSHIP,
    SUBJECT,
    Declaration,
    ReleaseColumn,
    ReleaseManifest,
)
from node.catalog.strata import Categories, Cells, Held

if TYPE_CHECKING:
    import polars as pl

CELL = "cell"
VARIABLE, ANALYSIS = "variable:", "analysis:"
"""What the names of sets begin with; no variable's or analysis' name has a colon."""
_PIECE = 1 << 16


@dataclass(frozen=True)
class Membership:
    """Of each row of a release's table: its cell (-1: none), and the sets that it is in."""

    declaration: Declaration
    cells: Cells
    sets: Mapping[str, NDArray[np.bool_]]
    largest: NDArray[np.int64]
    """For each cell, how many subjects its largest set has."""
    everywhere: bool
    """Whether each row is in some cell."""

    @property
    def nbytes(self) -> int:
        """What is held in memory."""
        return self.cells.nbytes + sum(held.nbytes for held in self.sets.values())


def held_of(frame: pl.DataFrame, columns: Sequence[ReleaseColumn]) -> Held:
    """Return a table's categories and numbers; dates have no exact answers."""
    import polars as pl

    found: dict[str, Categories | NDArray[np.float64]] = {}
    for column in columns:
        values = frame[column.name]
        if column.type in ("integer", "number"):
            numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
            found[column.name] = np.ascontiguousarray(numbers, dtype=np.float64)
        elif column.type in ("category", "boolean"):
            text = values.cast(pl.String)
            known = BOOLEAN_LEVELS if column.type == "boolean" else column.levels
            more = sorted(set(text.drop_nulls().unique()) - set(known))
            levels = (*known, *more)
            codes = text.replace_strict(
                {level: code for code, level in enumerate(levels)},
                default=-1,
                return_dtype=pl.Int64,
            )
            found[column.name] = Categories(codes.fill_null(-1).to_numpy().copy(), levels)
    return found


def declare_table(
    frame: pl.DataFrame, columns: Sequence[ReleaseColumn], wishes: Wishes
) -> Declared | None:
    """Return what a table can be asked exactly; None unless it has one row for each subject."""
    subjects = frame[SUBJECT].to_list()
    if len(set(subjects)) != len(subjects):
        return None
    return declare(held_of(frame, columns), subjects, wishes)


def encode(declared: Declared, frame: pl.DataFrame) -> bytes:
    """Return the file that says who is in which cell and set."""
    import polars as pl

    columns: dict[str, object] = {SUBJECT: frame[SUBJECT], CELL: declared.cells}
    columns |= {VARIABLE + name: inside for name, inside in declared.variables.items()}
    columns |= {ANALYSIS + name: inside for name, inside in declared.analyses.items()}
    buffer = io.BytesIO()
    pl.DataFrame(columns).write_parquet(buffer, compression=COMPRESSION)
    return buffer.getvalue()


def load_membership(folder: Path, manifest: ReleaseManifest, minimums: Minimums) -> Membership:
    """Return who is in which cell and set of a release.

    A release of an older format is one cell, declared anew from its table by ``minimums``.
    """
    import polars as pl

    if manifest.declaration is not None:
        try:
            names = pl.read_parquet_schema(folder / MEMBERSHIP)
            frame = pl.read_parquet(folder / MEMBERSHIP, columns=[n for n in names if n != SUBJECT])
        except (OSError, pl.exceptions.PolarsError):
            raise DataError("A release's membership is not as its manifest says.") from None
        cells = frame[CELL].cast(pl.Int32).to_numpy()
        everybody = np.ones(len(frame), dtype=np.bool_)
        sets = {
            # Most sets of a table without gaps are all of it, which bits tell faster than bytes.
            name: everybody if frame[name].all() else frame[name].to_numpy()
            for name in frame.columns
            if name.startswith((VARIABLE, ANALYSIS))
        }
        return _membership(manifest.declaration, cells, sets)
    if manifest.table_path is None:
        raise DataError("The release has no table.")
    table = pl.read_parquet(folder / manifest.table_path)
    declared = declare_table(table, manifest.columns, Wishes(strata=(), minimums=minimums))
    if declared is None:
        raise DataError("Statistics need a release with one row for each subject.")
    return _membership(
        declared.declaration,
        declared.cells,
        {VARIABLE + name: inside for name, inside in declared.variables.items()},
    )


def _membership(
    declaration: Declaration, cells: Cells, sets: Mapping[str, NDArray[np.bool_]]
) -> Membership:
    count = len(declaration.cells)
    everybody = _counts(cells, cells >= 0, count)
    largest = np.zeros(count, dtype=np.int64)
    for held in sets.values():
        if not (largest < everybody).any():
            break  # no set is larger than that of everybody
        inside = everybody if held.all() else _counts(cells, held & (cells >= 0), count)
        np.maximum(largest, inside, out=largest)
    return Membership(declaration, cells, sets, largest, int(everybody.sum()) == cells.size)


def _counts(cells: Cells, held: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """Return how many of those that are held are in each cell."""
    found = np.zeros(count, dtype=np.int64)
    for start in range(0, cells.size, _PIECE):
        piece = slice(start, start + _PIECE)
        found += np.bincount(cells[piece][held[piece]], minlength=count)
    return found

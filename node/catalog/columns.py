"""A release's columns as arrays for statistics, and whether they fit a project's dictionary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from contract.dictionary import Variable
from contract.errors import DataError
from node.catalog.deriving import BOOLEAN_LEVELS, is_as_derived, misfit
from node.catalog.manifest import SUBJECT, ReleaseManifest

if TYPE_CHECKING:
    import polars as pl

Column = NDArray[np.float64] | NDArray[np.int64]


def load_columns(
    release_folder: Path, manifest: ReleaseManifest, variables: Sequence[Variable]
) -> dict[str, Column]:
    """Return each variable's values, one for each row of the release's table, by name.

    A number is float64 with NaN for missing. A category is int64: the index into the variable's
    own levels, -1 for missing. Only these columns are read. ``DataError`` when a variable doesn't
    fit the release (``check_dictionary`` says so beforehand).
    """
    frame = _read(release_folder, manifest, variables)
    return {variable.name: _array(frame[variable.name], variable) for variable in variables}


def in_blocks(
    release_folder: Path, manifest: ReleaseManifest, variables: Sequence[Variable]
) -> Iterator[dict[str, Column]]:
    """Return the same as ``load_columns``, a block of rows after the other.

    A block is what lies together in memory as it was read, and isn't copied.
    """
    frame = _read(release_folder, manifest, variables)
    blocks = [series.get_chunks() for series in frame]
    if len({tuple(map(len, chunks)) for chunks in blocks}) > 1:
        blocks = [[series.rechunk()] for series in frame]
    for block in zip(*blocks, strict=True):
        of = {series.name: series for series in block}
        yield {variable.name: _array(of[variable.name], variable) for variable in variables}


def _read(
    release_folder: Path, manifest: ReleaseManifest, variables: Sequence[Variable]
) -> pl.DataFrame:
    import polars as pl

    for variable in variables:
        problem = _problem(manifest, variable)
        if problem:
            raise DataError(f"The release doesn't fit the dictionary: {problem}.")
    names = list(dict.fromkeys(variable.name for variable in variables))
    if not names:
        return pl.DataFrame()
    return pl.read_parquet(_table(release_folder, manifest), columns=names)


def load_subjects(release_folder: Path, manifest: ReleaseManifest) -> NDArray[np.int64]:
    """Return, for each row, a number from 0 that is the same for all rows of one subject."""
    import polars as pl

    frame = pl.read_parquet(_table(release_folder, manifest), columns=[SUBJECT])
    ranks = frame[SUBJECT].rank("dense").cast(pl.Int64) - 1
    return np.ascontiguousarray(ranks.to_numpy(), dtype=np.int64)


def check_dictionary(manifest: ReleaseManifest, variables: Sequence[Variable]) -> list[str]:
    """Return what keeps the release from being asked for these variables; empty if nothing does.

    Levels count as the release's schema declares them, whether they occur or not: whether one does
    is the patients' secret, and the gate decides by the same.
    """
    problems = [problem for v in variables if (problem := misfits(manifest, v))]
    problems += [
        f"variable {v.name} was derived in another way; make the release again"
        for v in variables
        if not is_as_derived(manifest, variables, v.name)
    ]
    return problems


def misfits(manifest: ReleaseManifest, variable: Variable) -> str:
    """Return why a release can't be asked for a variable, by its manifest alone; else empty."""
    problem = _problem(manifest, variable)
    column = manifest.column(variable.name)
    if problem or column is None or variable.kind != "category":
        return problem
    levels = BOOLEAN_LEVELS if column.type == "boolean" else column.levels
    unknown = set(levels) - set(variable.levels)
    if not unknown:
        return ""
    return (
        f"variable {variable.name}: {len(unknown)} levels of the release are not in the dictionary"
    )


def _problem(manifest: ReleaseManifest, variable: Variable) -> str:
    column = manifest.column(variable.name)
    if column is None and variable.derive is not None:
        return (
            f"variable {variable.name} is derived and not in the release; make one of this "
            "dictionary (release create --dictionary)"
        )
    if column is None:
        return f"variable {variable.name} is not in the release"
    return misfit(column, variable)


def _table(folder: Path, manifest: ReleaseManifest) -> Path:
    if manifest.table_path is None:
        raise DataError("The release has no table.")
    return folder / manifest.table_path


def _array(values: pl.Series, variable: Variable) -> Column:
    import polars as pl

    if variable.kind == "number":
        numbers = values.cast(pl.Float64)
        if numbers.null_count():
            numbers = numbers.fill_null(float("nan"))
        return np.ascontiguousarray(numbers.to_numpy(), dtype=np.float64)
    codes = (
        values.cast(pl.String)
        .replace_strict(
            {level: code for code, level in enumerate(variable.levels)},
            default=-2,
            return_dtype=pl.Int64,
        )
        .set(values.is_null(), -1)
    )
    if (codes == -2).any():
        raise DataError(
            f"Variable {variable.name} has a level in the release that is not in the dictionary."
        )
    return np.ascontiguousarray(codes.to_numpy(), dtype=np.int64)

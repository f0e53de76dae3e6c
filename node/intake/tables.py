"""Clinical tables: from a file and its declared schema to a pseudonymous Parquet file.

CSV or Parquet, read in batches. An error names the row (of a CSV file its line, the header being
1) and the column, never a cell's content.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from contract.errors import DataError
from node.catalog.manifest import SUBJECT
from node.catalog.rows import TableRow
from node.catalog.store import Catalog
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.cells import Batch, csv_batches
from node.intake.clinical import OBSERVATIONS, ClinicalStore, SourceRow, Staging
from node.intake.conversion import Conversion, Unfit
from node.intake.parquet import parquet_batches
from node.intake.parquet_footer import MAGIC
from node.intake.quality import QualityReport
from node.intake.records import open_regular
from node.intake.schema import ColumnSchema, TableSchema
from node.intake.sorting import SortedTable
from node.intake.units import ucum
from node.intake.walk import chunks

if TYPE_CHECKING:
    import polars as pl


__all__ = ["Unfit", "convert", "ingest_table"]


@dataclass(frozen=True)
class TableReport:
    """What became of a table: counts only."""

    table: str
    rows: int
    subjects: int
    dropped: tuple[str, ...]
    """Columns of type text or identifier."""
    quality: QualityReport
    made_missing: dict[str, int] = field(default_factory=dict)
    """Cells out of range or of an unknown level, by variable, that ``lenient`` made missing."""
    unchanged: bool = False
    """Whether this very file was in the vault already."""
    observations: int = 0
    """Rows of observations made of a table with many rows for each subject."""


def ingest_table(
    data: bytes | Path,
    schema: TableSchema,
    pseudonyms: Pseudonyms,
    catalog: Catalog,
    home: NodeHome,
    *,
    now: datetime,
    lenient: bool = False,
    dry_run: bool = False,
    store: ClinicalStore | None = None,
) -> TableReport:
    """Take a file (or its bytes) into the vault and the catalogue, in place of one of its name.

    The same file, schema and leniency again change nothing. Raises ``Unfit`` (a ``DataError``) when
    the file doesn't fit its schema; then nothing is kept. A schema with many rows for each subject
    makes observations too, in ``store``.
    """
    pieces = (data,) if isinstance(data, bytes) else chunks(data)
    content = pseudonyms.source_of(pieces).encode()
    declared = schema.model_dump_json().encode()
    source = pseudonyms.source(b"table", declared, b"%d" % lenient, content)
    known = catalog.get_table(schema.table)
    dropped = tuple(
        column.name
        for column in schema.columns
        if column not in schema.kept and column.name != schema.subject
    )
    conversion = Conversion(schema, pseudonyms, lenient, now.date())
    name = f"table {schema.table}"
    if known is not None and known.source_digest == source and _file(home, known.digest).is_file():
        quality = conversion.quality
        return TableReport(
            schema.table, known.rows, known.subjects, dropped, quality, unchanged=True
        )
    many = schema.rows == "many"
    staging = Staging(None if dry_run else home.vault / "tables")
    table = SortedTable(None if dry_run else home.vault / "tables")
    try:
        for batch in _batches(data, schema):
            frame = conversion.convert(batch)
            if not conversion.failed:
                table.add(frame)
                if many:
                    staging.add("observations", observations(frame, schema))
        conversion.check()
        if not table.rows:
            raise DataError("The table has a header and no rows.")
        if schema.rows == "one" and table.rows > table.subjects:
            raise DataError(
                f"{table.rows - table.subjects} rows are of a subject that has one already; "
                "the schema says one row for each."
            )
        report = TableReport(
            schema.table,
            table.rows,
            table.subjects,
            dropped,
            conversion.quality,
            conversion.made_missing,
            observations=staging.counts.get("observations", 0),
        )
        if dry_run:
            return report
        digest = table.finish()
        row = TableRow(
            name=schema.table,
            digest=digest,
            schema_json=json.dumps(schema.model_dump(mode="json"), sort_keys=True),
            rows=report.rows,
            subjects=report.subjects,
            source_digest=source,
            ingested_at=now,
        )
        if store is not None:
            findings = conversion.quality.findings()
            store.replace_source(SourceRow(name, "table", source, now), staging, findings)
        # Last, because a table that is known isn't read again.
        catalog.put_table(row)
    finally:
        table.clear()
        staging.clear()
    used = {row.digest for row in catalog.list_tables()}
    if known is not None and known.digest not in used:
        _file(home, known.digest).unlink(missing_ok=True)
    return report


def convert(
    data: bytes | Path, schema: TableSchema, pseudonyms: Pseudonyms, *, lenient: bool = False
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the whole table, sorted by subject, and the cells that were made missing.

    See ``Conversion.convert`` for its columns.
    """
    import polars as pl

    conversion = Conversion(schema, pseudonyms, lenient)
    frames = [conversion.convert(batch) for batch in _batches(data, schema)]
    conversion.check()
    if not frames:
        raise DataError("The table has a header and no rows.")
    return pl.concat(frames).sort(SUBJECT, maintain_order=True), conversion.made_missing


def observations(frame: pl.DataFrame, schema: TableSchema) -> pl.DataFrame:
    """Return each value of a converted table as an observation at its row's time.

    Its code is the one that the schema declares, or else ``|table.variable``; a level's likewise.
    A boolean is 1 or 0. A row without a time makes observations without one.
    """
    import polars as pl

    time_column = next(column for column in schema.kept if column.name == schema.time)
    time = pl.col(time_column.variable).cast(pl.Datetime("us"))
    parts = []
    for column in schema.kept:
        if column is time_column:
            continue
        value = pl.col(column.variable)
        nothing, text = pl.lit(None, pl.Float64), pl.lit(None, pl.String)
        number, level, at = nothing, text, time
        if column.type == "category":
            names = {name: _level(column, name) for name in column.levels}
            level = value.replace_strict(names, default=None, return_dtype=pl.String)
        elif column.type == "date":
            at = value.cast(pl.Datetime("us"))
        else:
            number = value.cast(pl.Float64)
        parts.append(
            frame.lazy()
            .filter(value.is_not_null())
            .select(
                subject=pl.col(SUBJECT),
                code=pl.lit(_code(column, schema)),
                number=number,
                value=level,
                unit=pl.lit(ucum(column.unit) or ""),
                time=at,
            )
        )
    return pl.concat(parts).select(OBSERVATIONS).collect()


def _code(column: ColumnSchema, schema: TableSchema) -> str:
    if column.code:
        return f"{column.terminology}|{column.code}"
    return f"|{schema.table}.{column.variable}"


def _level(column: ColumnSchema, level: str) -> str:
    code = column.codes.get(level)
    return f"|{level}" if code is None else f"{code.terminology}|{code.code}"


def _batches(data: bytes | Path, schema: TableSchema) -> Iterator[Batch]:
    """Yield the batches of a CSV or Parquet file after checking its header."""

    def check(header: list[str]) -> None:
        _check_header(header, schema)

    if isinstance(data, Path) and _is_parquet(data):
        yield from parquet_batches(data, check)
        return
    file: BinaryIO = io.BytesIO(data) if isinstance(data, bytes) else open_regular(data)
    with file:
        for batch in csv_batches(file, schema.separator, check, encoding=schema.encoding):
            yield batch if schema.decimal == "." else _with_points(batch, schema)


def _with_points(batch: Batch, schema: TableSchema) -> Batch:
    """Return a batch whose numbers have a decimal point. What had one before is no number."""
    import polars as pl

    numbers = []
    for column in schema.kept:
        if column.type in ("integer", "number"):
            cell = pl.col(column.name)
            missing = cell.str.strip_chars().is_in(list(schema.missing_of(column)))
            pointed = pl.when(cell.str.contains(".", literal=True)).then(pl.lit("?"))
            written = pointed.otherwise(cell.str.replace(",", ".", literal=True))
            numbers.append(pl.when(missing).then(cell).otherwise(written).alias(column.name))
    return Batch(batch.frame.with_columns(numbers), batch.lines)


def _is_parquet(path: Path) -> bool:
    with open_regular(path) as file:
        return file.read(len(MAGIC)) == MAGIC


def _check_header(header: list[str], schema: TableSchema) -> None:
    declared = {column.name for column in schema.columns} | {schema.subject}
    absent = sorted(declared - set(header))
    if absent:
        more = f" (nor {len(absent) - 1} others of the schema)" if absent[1:] else ""
        raise DataError(f"The file has no column {absent[0]!r}{more}.")
    if len(set(header)) != len(header):
        twice = next(i for i, name in enumerate(header) if name in header[:i])
        raise DataError(f"The header of column {twice + 1} occurs twice.")
    # A file without a header has a patient in its first line, so an unknown one isn't quoted.
    undeclared = [str(i + 1) for i, name in enumerate(header) if name not in declared]
    if undeclared:
        raise DataError(
            f"{len(undeclared)} columns are not in the schema, at positions "
            f"{', '.join(undeclared[:10])}; declare them (type text or identifier is dropped)."
        )


def _file(home: NodeHome, digest: str) -> Path:
    return home.vault / "tables" / f"{digest}.parquet"

"""Clinical tables: from a CSV file and its declared schema to a pseudonymous Parquet file.

An error names the line of the file (the header is line 1) and the column, never a cell's content.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from contract.errors import DataError
from foundation.files import private_folder, write_durably
from node.catalog.manifest import SUBJECT
from node.catalog.rows import TableRow
from node.catalog.store import Catalog
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.schema import ColumnSchema, TableSchema

if TYPE_CHECKING:
    import polars as pl

MAX_CSV_BYTES = 8 * 2**30
MAX_CELL = 1_000_000
"""Characters in one cell."""

_TRUE = ("true", "yes", "1", "t", "y")
_FALSE = ("false", "no", "0", "f", "n")
_DATE_FORMATS = {
    "YYYY-MM-DD": "%Y-%m-%d",
    "YYYYMMDD": "%Y%m%d",
    "DD.MM.YYYY": "%d.%m.%Y",
    "DD/MM/YYYY": "%d/%m/%Y",
    "MM/DD/YYYY": "%m/%d/%Y",
}
_PHRASES = {
    "integer": "not an integer",
    "number": "not a number",
    "boolean": "not true or false",
}


@dataclass(frozen=True)
class TableReport:
    """What became of a table: counts only."""

    table: str
    rows: int
    subjects: int
    dropped: tuple[str, ...]
    """Columns of type text or identifier."""
    made_missing: dict[str, int] = field(default_factory=dict)
    """Cells out of range or of an unknown level, by variable, that ``lenient`` made missing."""
    unchanged: bool = False
    """Whether this very file was in the vault already."""


def ingest_table(
    data: bytes,
    schema: TableSchema,
    pseudonyms: Pseudonyms,
    catalog: Catalog,
    home: NodeHome,
    *,
    now: datetime,
    lenient: bool = False,
    dry_run: bool = False,
) -> TableReport:
    """Take a CSV file into the vault and the catalogue, where it replaces a table of its name.

    The same file, schema and leniency again change nothing. Raises ``DataError`` when the file
    doesn't fit its schema; then nothing is kept.
    """
    source = pseudonyms.source(b"table", schema.model_dump_json().encode(), b"%d" % lenient, data)
    known = catalog.get_table(schema.table)
    dropped = tuple(
        column.name
        for column in schema.columns
        if column not in schema.kept and column.name != schema.subject
    )
    if known is not None and known.source_digest == source and _file(home, known.digest).is_file():
        return TableReport(schema.table, known.rows, known.subjects, dropped, unchanged=True)
    frame, made_missing = convert(data, schema, pseudonyms, lenient=lenient)
    subjects = frame[SUBJECT].n_unique()
    report = TableReport(schema.table, frame.height, subjects, dropped, made_missing)
    if dry_run:
        return report
    parquet = io.BytesIO()
    frame.write_parquet(parquet, compression="zstd")
    digest = hashlib.sha256(parquet.getbuffer()).hexdigest()
    private_folder(_file(home, digest).parent)
    write_durably(_file(home, digest), parquet.getvalue())
    catalog.put_table(
        TableRow(
            name=schema.table,
            digest=digest,
            schema_json=json.dumps(schema.model_dump(mode="json"), sort_keys=True),
            rows=report.rows,
            subjects=subjects,
            source_digest=source,
            ingested_at=now,
        )
    )
    used = {row.digest for row in catalog.list_tables()}
    if known is not None and known.digest not in used:
        _file(home, known.digest).unlink(missing_ok=True)
    return report


def convert(
    data: bytes, schema: TableSchema, pseudonyms: Pseudonyms, *, lenient: bool = False
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the pseudonymous table, sorted by subject, and the cells that were made missing.

    Columns: ``subject`` (String), then Int64, Float64, String (category), Boolean and Date, in the
    schema's order. Dates are moved by the subject's own number of days.
    """
    import polars as pl

    text = _read(data, schema)
    subject = text[schema.subject].str.strip_chars()
    missing = subject.is_null() | subject.is_in(list(schema.missing))
    if missing.any():
        raise _cell_error(data, schema, schema.subject, missing, "the subject is missing")
    pseudonym_of = {value: pseudonyms.subject(value) for value in subject.unique()}
    days_of = {pseudonym: pseudonyms.days(pseudonym) for pseudonym in pseudonym_of.values()}
    people = subject.replace_strict(pseudonym_of, return_dtype=pl.String)
    made_missing: dict[str, int] = {}
    columns = [people.alias(SUBJECT)]
    for column in schema.kept:
        values, unfit = _convert_column(text[column.name], column, schema, data)
        if unfit.any():
            if not lenient:
                what = "unknown level" if column.type == "category" else "out of range"
                raise _cell_error(data, schema, column.name, unfit, what)
            made_missing[column.variable] = int(unfit.sum())
            values = values.set(unfit, None)
        if column.required and values.is_null().any():
            raise _cell_error(
                data, schema, column.name, values.is_null(), "missing, though it is required"
            )
        if column.type == "date":
            days = people.replace_strict(days_of, return_dtype=pl.Int64)
            values = values - pl.Series(days * 86_400_000_000).cast(pl.Duration("us"))
        columns.append(values.alias(column.variable))
    return pl.DataFrame(columns).sort(SUBJECT, maintain_order=True), made_missing


def _convert_column(
    cells: pl.Series, column: ColumnSchema, schema: TableSchema, data: bytes
) -> tuple[pl.Series, pl.Series]:
    """Return the values (null is missing), and which of them don't fit the declaration."""
    import polars as pl

    cells = cells.str.strip_chars()
    missing = cells.is_null() | cells.is_in(list(schema.missing_of(column)))
    cells = cells.set(missing, None)
    nothing = pl.repeat(False, len(cells), dtype=pl.Boolean, eager=True)
    unfit = nothing
    if column.type == "category":
        unfit = ~cells.is_in(list(column.levels)).fill_null(True)
        return cells, unfit
    if column.type == "integer":
        values = (
            cells.str.extract(r"^\+?(-?\d{1,15})(?:\.0*)?$").cast(pl.Int64)  # 15: exact as float
        )
    elif column.type == "number":
        pattern = r"^\+?(-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)$"
        values = cells.str.extract(pattern).cast(pl.Float64, strict=False)
        values = values.set(~values.is_finite().fill_null(True), None)
    elif column.type == "boolean":
        words = {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}
        lower = cells.str.to_lowercase()
        values = lower.replace_strict(words, default=None, return_dtype=pl.Boolean)
    else:
        values = cells.str.strptime(pl.Date, _DATE_FORMATS[column.format], strict=False)
    mistyped = values.is_null() & ~missing
    if mistyped.any():
        phrase = _PHRASES.get(column.type, f"not a date written {column.format}")
        raise _cell_error(data, schema, column.name, mistyped, phrase)
    if column.minimum is not None:
        unfit = unfit | (values < column.minimum).fill_null(False)
    if column.maximum is not None:
        unfit = unfit | (values > column.maximum).fill_null(False)
    return values, unfit


def _read(data: bytes, schema: TableSchema) -> pl.DataFrame:
    """Return the file's cells as text, without blank lines, after checking its shape."""
    import polars as pl

    blank: list[int] = []
    count = -1
    for count, (_, record) in enumerate(_records(data, schema)):
        if not record:
            blank.append(count)
    try:
        frame = pl.read_csv(data, separator=schema.separator, infer_schema=False)
    except pl.exceptions.PolarsError:
        raise DataError("The table is not a readable CSV file.") from None
    if frame.height != count + 1:
        raise DataError("The table is not a readable CSV file: its lines can't be told apart.")
    if blank:
        frame = frame.with_row_index("").filter(~pl.col("").is_in(blank)).drop("")
    if not frame.height:
        raise DataError("The table has a header and no rows.")
    return frame


def _records(data: bytes, schema: TableSchema) -> Iterator[tuple[int, list[str]]]:
    """Yield each record after the header with the line on which it begins.

    ``DataError`` for what is not UTF-8, for a header that isn't the schema's, and for a record
    that has not as many cells as the header. A blank line is an empty record.
    """
    reader = csv.reader(
        io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline=""),
        delimiter=schema.separator,
        strict=True,
    )
    csv.field_size_limit(MAX_CELL)
    line = 1
    try:
        header = next(reader, None)
        if not header:
            raise DataError("The table has no header.")
        _check_header(header, schema)
        line = reader.line_num + 1
        for record in reader:
            if record and len(record) != len(header):
                raise DataError(
                    f"row {line}: {len(record)} cells, but the header has {len(header)}."
                )
            yield line, record
            line = reader.line_num + 1
    except csv.Error:
        raise DataError(f"row {line}: not readable as CSV (quotes, separator?).") from None
    except UnicodeDecodeError:
        raise DataError(f"row {_line_of_bad_byte(data)}: not UTF-8; convert the file.") from None


def _line_of_bad_byte(data: bytes) -> int:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return data.count(b"\n", 0, error.start) + 1
    return 1


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


def _cell_error(
    data: bytes, schema: TableSchema, column: str, wrong: pl.Series, what: str
) -> DataError:
    first = int(wrong.arg_true()[0])
    lines = (line for line, record in _records(data, schema) if record)
    row = next(line for index, line in enumerate(lines) if index == first)
    more = int(wrong.sum()) - 1
    return DataError(f"row {row}, column {column}: {what}{f' ({more} more such)' if more else ''}.")


def _file(home: NodeHome, digest: str) -> Path:
    return home.vault / "tables" / f"{digest}.parquet"

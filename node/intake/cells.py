"""CSV files as batches of text cells, in memory that doesn't grow with the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from contract.errors import DataError

if TYPE_CHECKING:
    import polars as pl

MAX_CELL = 1_000_000
"""Characters in one cell."""
MAX_RECORD = 16_000_000
"""Characters in one record, over all its lines."""
BATCH_ROWS = 50_000
BATCH_CHARACTERS = 4_000_000


@dataclass(frozen=True)
class Batch:
    """Some rows of a table as text: a String column for each header, null where there is none."""

    frame: pl.DataFrame
    lines: list[int] | range
    """For each row its number in the file: the line on which it begins, the header's being 1."""


class _Lines:
    """The lines of a text file, none of them read past ``MAX_RECORD`` characters."""

    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file = file
        self.characters = 0
        """Read since the caller set it to 0, which it does after each record."""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline(MAX_RECORD + 1)
        if not line:
            raise StopIteration
        self.characters += len(line)
        if self.characters > MAX_RECORD:
            raise csv.Error("too long")
        return line


def csv_batches(
    file: BinaryIO,
    separator: str,
    check_header: Callable[[list[str]], None],
    *,
    encoding: str = "UTF-8",
    batch_rows: int = BATCH_ROWS,
) -> Iterator[Batch]:
    """Yield a CSV file's records, without blank lines.

    ``check_header`` raises for a header that isn't the one expected. ``DataError`` names the line
    of what is not in its encoding, has unbalanced quotes, or has not as many cells as the header
    (RFC 4180).
    """
    codec = "utf-8-sig" if encoding == "UTF-8" else encoding
    text = io.TextIOWrapper(file, codec, newline="")
    lines = _Lines(text)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    csv.field_size_limit(MAX_CELL)
    line = 1
    records: list[list[str]] = []
    numbers: list[int] = []
    characters = 0
    try:
        header = next(reader, None)
        if not header:
            raise DataError("The table has no header.")
        check_header(header)
        line, lines.characters = reader.line_num + 1, 0
        for record in reader:
            if record:
                if len(record) != len(header):
                    raise DataError(
                        f"row {line}: {len(record)} cells, but the header has {len(header)}."
                    )
                records.append(record)
                numbers.append(line)
                characters += lines.characters
                if len(records) >= batch_rows or characters >= BATCH_CHARACTERS:
                    yield _batch(header, records, numbers)
                    records, numbers, characters = [], [], 0
            line, lines.characters = reader.line_num + 1, 0
    except csv.Error:
        raise DataError(f"row {line}: not readable as CSV (quotes, separator?).") from None
    except UnicodeDecodeError as error:
        # Decoding runs ahead of reading by the whole lines of one piece.
        row = reader.line_num + 1 + error.object[: error.start].count(b"\n")
        what = "convert the file" if encoding == "UTF-8" else "is it the schema's?"
        raise DataError(f"row {row}: not {encoding}; {what}.") from None
    finally:
        text.detach()
    if records:
        yield _batch(header, records, numbers)


def _batch(header: list[str], records: list[list[str]], numbers: list[int]) -> Batch:
    import polars as pl

    columns = zip(*records, strict=True)
    # By name, for Polars calls a series without one "column_0".
    series = {
        name: pl.Series(name, cells, dtype=pl.String)
        for name, cells in zip(header, columns, strict=True)
    }
    return Batch(pl.DataFrame(series), numbers)

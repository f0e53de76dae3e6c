"""The process that decodes a Parquet file: ``python -m node.intake.parquet_decoding DESCRIPTOR``.

A page can claim any size, and the decoder ends its process when it can't have the memory. So it
has one of its own, within limits. It writes each batch to its standard output as an Arrow IPC file
behind its length (8 bytes, little endian), and an error as its text behind ``ERROR``.
"""

from __future__ import annotations

import io
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from contract.errors import DataError
from node.intake.cells import BATCH_CHARACTERS, BATCH_ROWS, MAX_CELL
from node.intake.parquet_footer import UNREADABLE, read_footer

if TYPE_CHECKING:
    import polars as pl

ERROR = 2**64 - 1
MAX_MEMORY_BYTES = 16 * 2**30
"""Of address space, most of which is never used."""


def main() -> None:
    """Decode the file of the descriptor that is named, for the process that started this one."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = sys.stdout.buffer
    path = Path(f"/proc/self/fd/{int(sys.argv[1])}")
    # What the decoder says of a panic may quote the file.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        for frame in batches(path):
            file = io.BytesIO()
            frame.write_ipc(file)
            out.write(file.getbuffer().nbytes.to_bytes(8, "little"))
            out.write(file.getbuffer())
    except DataError as error:
        out.write(ERROR.to_bytes(8, "little") + str(error).encode())
    out.flush()


def batches(path: Path) -> Iterator[pl.DataFrame]:
    """Yield a Parquet file's rows as text, group by group."""
    import polars as pl

    footer = read_footer(path)
    first = 0
    try:
        scan = pl.scan_parquet(path, glob=False, hive_partitioning=False, use_statistics=False)
        for rows in footer.group_rows:
            group = scan.slice(first, rows).collect()
            if group.height != rows or tuple(group.columns) != footer.columns:
                raise DataError(UNREADABLE)
            step = _step(group)
            for offset in range(0, rows, step):
                part = group.slice(offset, step)
                yield pl.DataFrame([_text(column, n) for n, column in enumerate(part, 1)])
            first += rows
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, MemoryError):
        raise DataError(UNREADABLE) from None


def _step(group: pl.DataFrame) -> int:
    """Return how many rows to turn into text at once."""
    import polars as pl

    for position, column in enumerate(group, 1):
        if column.dtype == pl.String and (column.str.len_bytes() > MAX_CELL).any():
            raise DataError(f"A cell of column {position} is longer than {MAX_CELL} bytes.")
    cells = max(1, group.width)
    per_row = max(1, int(group.estimated_size()) // max(1, group.height), 8 * cells)
    return max(1, min(BATCH_ROWS, 8 * BATCH_CHARACTERS // per_row))


def _text(column: pl.Series, position: int) -> pl.Series:
    import polars as pl

    kind = column.dtype
    if kind == pl.String:
        return column
    if kind.is_float():
        return column.fill_nan(None).cast(pl.Float64).cast(pl.String)
    if kind.is_integer() or kind == pl.Boolean or kind.is_decimal() or kind == pl.Null:
        return column.cast(pl.String)
    if kind in (pl.Date, pl.Datetime):
        return column.dt.strftime("%Y-%m-%d")
    if kind in (pl.Categorical, pl.Enum):
        return column.cast(pl.String)
    raise DataError(
        f"Column {position} is of a type that is not taken; write it as text, number or date."
    )


if __name__ == "__main__":
    main()

"""Parquet tables as batches of text cells, a row group at a time.

After a look at the footer (``parquet_footer``) a file is decoded by a process of its own
(``parquet_decoding``), whose end is this file's fault only.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from contract.errors import DataError
from node.intake.cells import Batch
from node.intake.parquet_decoding import ERROR
from node.intake.parquet_footer import UNREADABLE, read_footer

DECODING = "node.intake.parquet_decoding"


def parquet_batches(path: Path, check_header: Callable[[list[str]], None]) -> Iterator[Batch]:
    """Yield a Parquet file's rows; memory is that of one row group.

    Numbers, booleans, decimals and text become the text that a CSV file would have (a float's
    shortest that reads back the same, NaN as null), dates and times YYYY-MM-DD. ``DataError`` for
    columns of other types, and for what can't be decoded. Rows count from 1.
    """
    import polars as pl

    check_header(list(read_footer(path).columns))
    with path.open("rb") as file:
        descriptor = file.fileno()
        command = [sys.executable, "-P", "-m", DECODING, str(descriptor)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, pass_fds=(descriptor,)
        ) as decoder:
            try:
                first = 1
                for content in _messages(decoder):
                    frame = pl.read_ipc(content)
                    yield Batch(frame, range(first, first + frame.height))
                    first += frame.height
            finally:
                decoder.kill()


def _messages(decoder: subprocess.Popen[bytes]) -> Iterator[bytes]:
    assert decoder.stdout is not None
    while head := decoder.stdout.read(8):
        length = int.from_bytes(head, "little")
        if length == ERROR:
            raise DataError(decoder.stdout.read(1000).decode())
        content = decoder.stdout.read(length)
        if len(head) < 8 or len(content) < length:
            break
        yield content
    if decoder.wait() != 0:
        raise DataError(UNREADABLE)

"""Parquet tables as batches of text cells, a row group at a time, after a look at the footer.

The footer (FileMetaData of the Parquet format, Thrift's compact protocol) is read here first, in
Python and within limits, so that a file's own claims decide nothing: a table that is nested, too
wide, or written in row groups that don't fit in memory is refused before anything decodes it. The
rest is decoded by a process of its own (``parquet_decoding``), whose end is this file's fault only.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.errors import DataError
from node.intake.cells import Batch
from node.intake.parquet_decoding import ERROR, UNREADABLE

MAGIC = b"PAR1"
DECODING = "node.intake.parquet_decoding"
MAX_FOOTER_BYTES = 64 * 2**20
MAX_COLUMNS = 10_000
MAX_GROUP_BYTES = 512 * 2**20
"""Uncompressed bytes of one row group."""
MAX_GROUP_ROWS = 2**24
_MAX_DEPTH = 16


@dataclass(frozen=True)
class Footer:
    """What a Parquet file says of itself."""

    columns: tuple[str, ...]
    group_rows: tuple[int, ...]
    """The number of rows of each row group."""

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(self.group_rows)


def read_footer(path: Path) -> Footer:
    """Return a Parquet file's columns and row groups; ``DataError`` if they can't be taken."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < 12:
            raise DataError(UNREADABLE)
        file.seek(size - 8)
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != MAGIC or length > min(size - 12, MAX_FOOTER_BYTES):
            raise DataError(UNREADABLE)
        file.seek(size - 8 - length)
        data = file.read(length)
    try:
        return _footer(_Compact(data).struct(), size)
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, UnicodeDecodeError):
        raise DataError(UNREADABLE) from None


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


def _footer(metadata: dict[int, Any], size: int) -> Footer:
    elements = metadata[2]
    root, columns = elements[0], elements[1:]
    if any(element.get(5) for element in columns):
        raise DataError("The table has nested columns; flatten them.")
    if any(element.get(3) == 2 for element in columns):
        raise DataError("The table has repeated columns; flatten them.")
    if not columns or root[5] != len(columns) or len(columns) > MAX_COLUMNS:
        raise DataError(UNREADABLE)
    names = tuple(element[4].decode() for element in columns)
    groups = metadata.get(4) or []
    rows = tuple(int(group[3]) for group in groups)
    if any(n < 0 for n in rows) or sum(rows) != metadata[3]:
        raise DataError(UNREADABLE)
    for group in groups:
        uncompressed = sum(chunk[3][6] for chunk in group[1])
        compressed = sum(chunk[3][7] for chunk in group[1])
        if len(group[1]) != len(columns) or compressed > size or min(uncompressed, compressed) < 0:
            raise DataError(UNREADABLE)
        if uncompressed > MAX_GROUP_BYTES or group[3] > MAX_GROUP_ROWS:
            raise DataError(
                "The table's row groups are too large; write them of at most "
                f"{MAX_GROUP_BYTES // 2**20} MiB each."
            )
    return Footer(names, tuple(n for n in rows if n))


class _Compact:
    """A reader of Thrift's compact protocol: structs become dicts by field number."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > _MAX_DEPTH:
            raise ValueError("too deep")
        found: dict[int, Any] = {}
        field = 0
        while True:
            head = self._byte()
            kind = head & 15
            if kind == 0:
                return found
            field = field + (head >> 4) if head >> 4 else self._zigzag()
            found[field] = (kind == 1) if kind in (1, 2) else self._value(kind, depth)

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2, 3):
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 7:
            return self._take(8)
        if kind == 8:
            return self._take(self._varint())
        if kind in (9, 10):
            return self._list(depth)
        if kind == 12:
            return self.struct(depth + 1)
        raise ValueError("not a type of the metadata")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 != 15 else self._varint()
        if count > len(self._data) - self._at:
            raise ValueError("longer than the footer")
        return [self._value(head & 15, depth + 1) for _ in range(count)]

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise ValueError("longer than the footer")
        self._at += count
        return self._data[self._at - count : self._at]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("not a number")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

"""A Parquet file's footer, read within limits before anything decodes the file.

It is FileMetaData of the Parquet format in Thrift's compact protocol. It is read here in Python, so
that a file's own claims decide nothing: a table that is nested, too wide, or written in row groups
that don't fit in memory is refused first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.errors import DataError

MAGIC = b"PAR1"
UNREADABLE = "The table is not a readable Parquet file."
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

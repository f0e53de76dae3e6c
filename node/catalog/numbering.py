"""Numbers that stand for subjects, studies, terms and kinds of asset, and sets of such numbers."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, insert, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from contract.errors import StorageError
from node.catalog import schema

T = TypeVar("T")
AT_ONCE = 500
"""Keys that are looked up in one statement."""


def numbers(
    connection: Connection,
    table: Table,
    keys: Collection[tuple[Any, ...]],
    columns: Sequence[str],
    more: Mapping[str, Any],
) -> dict[tuple[Any, ...], int]:
    """Return each key's number in ``table``, by its ``columns``; new ones get one, with ``more``.

    Another writer may number the same keys meanwhile.
    """
    found = _look_up(connection, table, keys, columns)
    # In one order, so that two writers don't wait for each other.
    new = sorted(set(keys) - set(found))
    if new:
        rows = [{**dict(zip(columns, key, strict=True)), **more} for key in new]
        connection.execute(insert_or_ignore(connection, table), rows)
        found |= _look_up(connection, table, new, columns)
    return found


def subject_numbers(
    connection: Connection, subjects: Iterable[str], more: Mapping[str, Any]
) -> dict[str, int]:
    """Return the number of each subject, by its pseudonym; new ones get one."""
    keys = {(subject,) for subject in subjects}
    found = numbers(connection, schema.subjects, keys, ("subject",), more)
    return {key[0]: number for key, number in found.items()}


def _look_up(
    connection: Connection,
    table: Table,
    keys: Collection[tuple[Any, ...]],
    columns: Sequence[str],
) -> dict[tuple[Any, ...], int]:
    parts = [table.c[name] for name in columns]
    found: dict[tuple[Any, ...], int] = {}
    for some in batches(keys, AT_ONCE):
        among = (
            parts[0].in_([key[0] for key in some]) if len(parts) == 1 else tuple_(*parts).in_(some)
        )
        for row in connection.execute(select(table.c.number, *parts).where(among)):
            found[tuple(row[1:])] = row[0]
    return found


def insert_or_ignore(connection: Connection, table: Table) -> Any:
    """Return an INSERT that leaves rows alone that are there already."""
    return upsert(connection, table).on_conflict_do_nothing()


def upsert(connection: Connection, table: Table) -> Any:
    """Return the INSERT of the connection's database, which knows ``ON CONFLICT``."""
    name = connection.dialect.name
    if name == "postgresql":
        return postgresql.insert(table)
    if name == "sqlite":
        return sqlite.insert(table)
    return insert(table)


def batches(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the values in lists of at most ``size``."""
    iterator = iter(values)
    while some := list(islice(iterator, size)):
        yield some


# ---- sets of numbers -----------------------------------------------------------------------------


def bits_of(members: Iterable[int]) -> int:
    """Return a set of numbers as an integer whose bits they are."""
    chunks: dict[int, bytearray] = {}
    size = schema.CHUNK_BITS
    for number in members:
        chunk = chunks.get(number // size)
        if chunk is None:
            chunk = chunks[number // size] = bytearray(size // 8)
        at = number % size
        chunk[at >> 3] |= 1 << (at & 7)
    return joined((index, bytes(bits)) for index, bits in chunks.items())


def joined(chunks: Iterable[tuple[int, bytes]]) -> int:
    """Return the union of chunks of bits, each with its index, as one integer."""
    union: dict[int, int] = {}
    for index, bits in chunks:
        union[index] = union.get(index, 0) | int.from_bytes(bits, "little")
    if not union:
        return 0
    size = schema.CHUNK_BITS // 8
    whole = bytearray(size * (max(union) + 1))
    for index, value in union.items():
        whole[index * size : (index + 1) * size] = value.to_bytes(size, "little")
    return int.from_bytes(whole, "little")


def packed(bits: bytes | bytearray) -> bytes:
    """Return a chunk as it is kept: most hold few numbers."""
    return zlib.compress(bits, 1)


def unpacked(kept: bytes) -> bytes:
    """Return a chunk's bits; ``StorageError`` when it was damaged."""
    size = schema.CHUNK_BITS // 8
    reader = zlib.decompressobj()
    try:
        bits = reader.decompress(kept, size)
    except zlib.error:
        bits = b""
    if len(bits) != size:
        raise StorageError("The catalogue is damaged; restore it from a backup.")
    return bits


def members_of(bits: int) -> Iterator[int]:
    """Yield the numbers in a set, smallest first."""
    data = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
    for index, byte in enumerate(data):
        if byte:
            for at in range(8):
                if byte >> at & 1:
                    yield index * 8 + at


class Members:
    """A set of numbers that can be asked quickly whether it holds one."""

    def __init__(self, bits: int) -> None:
        self._data = bits.to_bytes((bits.bit_length() + 7) // 8, "little")

    def __contains__(self, number: int) -> bool:
        at = number >> 3
        return at < len(self._data) and bool(self._data[at] >> (number & 7) & 1)

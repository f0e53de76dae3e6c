"""Tensors without copies: safetensors buffers read as views, and written from the arrays' memory.

What is written and read is what ``contract.records`` writes and reads; only the copies are fewer.

Source of the layout: safetensors, "Format" (github.com/huggingface/safetensors): eight bytes of
header length (little-endian), a JSON header, then the tensors' bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from contract import wire_pb2 as wire
from contract.errors import DocumentError
from contract.records import (
    DTYPES,
    MAX_DIMENSIONS,
    Arrays,
    Config,
    Metrics,
    Records,
    decode_entry,
    encode_entry,
)

MAX_HEADER_BYTES = 64 * 2**20
MAX_VALUES = 2**59
"""What NumPy can shape, empty arrays of long sides included."""
_DTYPES = {
    "BOOL": "?", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "U8": "u1", "U16": "<u2",
    "U32": "<u4", "U64": "<u8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
_NAMES = {np.dtype(code).name: name for name, code in _DTYPES.items()}
_NOT_TENSORS = "A tensor blob is not safetensors."
OTHER_SIZE = "A tensor blob has another size than its message declares."


@dataclass(frozen=True)
class Place:
    """Where an array is in a blob's body, from byte ``start`` to ``end``, and what it is."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    start: int
    end: int


def header_bytes(start: bytes | memoryview, size: int) -> int:
    """Return the header's length by a blob's first eight bytes; ``DocumentError`` if it has none.

    ``size`` is the whole blob's.
    """
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8 or length > min(MAX_HEADER_BYTES, size - 8):
        raise DocumentError(_NOT_TENSORS)
    return length


def places(header: bytes, body: int) -> dict[str, Place]:
    """Return where the arrays are in a body of so many bytes; ``DocumentError`` if nowhere."""
    try:
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        found = {name: _place(entry, body) for name, entry in entries.items()}
        end = 0
        for place in sorted(found.values(), key=lambda one: (one.start, one.end)):
            if place.start != end:  # a hole, or two arrays in one place
                raise ValueError
            end = place.end
        if end != body:
            raise ValueError
        return found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DocumentError(_NOT_TENSORS) from None


def _place(entry: Mapping[str, object], body: int) -> Place:
    dtype = np.dtype(_DTYPES[str(entry["dtype"])])
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise TypeError
    if not all(type(number) is int and number >= 0 for number in (*shape, *offsets)):
        raise TypeError
    start, end = offsets
    if not start <= end <= body or len(shape) > MAX_DIMENSIONS:
        raise ValueError
    if math.prod(shape) * dtype.itemsize != end - start:
        raise ValueError
    if math.prod(max(length, 1) for length in shape) > MAX_VALUES:
        raise ValueError
    return Place(dtype, tuple(shape), start, end)


def views(buffer: bytes | memoryview) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a safetensors buffer as views of it; ``DocumentError`` if it is none."""
    data = memoryview(buffer)
    size = header_bytes(data[:8], len(data))
    body = data[8 + size :]
    return {
        name: np.frombuffer(body[place.start : place.end], place.dtype).reshape(place.shape)
        for name, place in places(bytes(data[8 : 8 + size]), len(body)).items()
    }


def read(message: wire.RecordDict, buffer: bytes | memoryview) -> Records:
    """Return a message's records, its arrays as views of ``buffer``.

    Like ``contract.records.decode``, but the buffer's digest was checked before: it isn't hashed
    again. Raises ``DocumentError`` when the buffer holds something else than the message declares.
    """
    if len(buffer) != message.tensors.size:
        raise DocumentError(OTHER_SIZE)
    return arrange(message, views(buffer) if len(buffer) else {}, Arrays)


class _Shaped(Protocol):
    @property
    def dtype(self) -> np.dtype[np.generic]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


S = TypeVar("S", bound=_Shaped)
G = TypeVar("G")


def arrange(
    message: wire.RecordDict, arrays: dict[str, S], group: Callable[[dict[str, S]], G]
) -> dict[str, G | Metrics | Config]:
    """Return a message's records: a ``group`` of its arrays, which ``arrays`` has by ordinal."""
    records: dict[str, G | Metrics | Config] = {}
    left = dict(arrays)
    ordinal = 0
    for record in message.records:
        if record.name in records:
            raise DocumentError("A message holds two records of one name.")
        if record.kind != wire.Record.ARRAYS:
            values = {entry.key: decode_entry(entry) for entry in record.entries}
            if len(values) != len(record.entries):
                raise DocumentError("A record holds two entries of one name.")
            metrics = record.kind == wire.Record.METRICS
            records[record.name] = Metrics(values) if metrics else Config(values)
            continue
        items: dict[str, S] = {}
        for spec in record.arrays:
            array = left.pop(str(ordinal), None)
            ordinal += 1
            if (
                array is None
                or spec.key in items
                or (array.dtype.name, array.shape) != (spec.dtype, tuple(spec.shape))
            ):
                raise DocumentError("A tensor blob doesn't hold what its message declares.")
            items[spec.key] = array
        records[record.name] = group(items)
    if left:
        raise DocumentError("A tensor blob holds more than its message declares.")
    return records


@dataclass(frozen=True)
class Encoded:
    """A message, and its blob in pieces: the header, and each array's own memory."""

    message: wire.RecordDict
    pieces: tuple[bytes | memoryview, ...]

    @property
    def blob(self) -> bytes:
        """The blob's bytes, put together; empty when there are no arrays."""
        return b"".join(self.pieces)


def encode(records: Records) -> Encoded:
    """Return a message and its blob, hashed; ``DocumentError`` for what can't travel."""
    encoded = lay_out(records)
    if encoded.pieces:
        digest = hashlib.sha256()
        for piece in encoded.pieces:
            digest.update(piece)
        encoded.message.tensors.digest = digest.hexdigest()
    return encoded


def lay_out(records: Records) -> Encoded:
    """Return a message and its blob, whose digest the message doesn't say yet."""
    message = wire.RecordDict()
    header: dict[str, object] = {}
    bodies: list[bytes | memoryview] = []
    end = 0
    for name, record in records.items():
        out = message.records.add(name=name)
        if not isinstance(record, Arrays):
            out.kind = wire.Record.METRICS if isinstance(record, Metrics) else wire.Record.CONFIG
            out.entries.extend(encode_entry(key, value) for key, value in record.items.items())
            continue
        out.kind = wire.Record.ARRAYS
        for key, array in record.items.items():
            if array.dtype.name not in DTYPES:
                raise DocumentError(f"An array of dtype {array.dtype.name} can't travel.")
            out.arrays.add(key=key, dtype=array.dtype.name, shape=array.shape)
            native = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            start, end = end, end + native.nbytes
            header[str(len(header))] = {
                "dtype": _NAMES[array.dtype.name],
                "shape": list(array.shape),
                "data_offsets": [start, end],
            }
            bodies.append(native.reshape(-1).view(np.uint8).data)
    if not header:
        return Encoded(message, ())
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    pieces: tuple[bytes | memoryview, ...] = (len(text).to_bytes(8, "little") + text, *bodies)
    message.tensors.size = sum(len(piece) for piece in pieces)
    return Encoded(message, pieces)

"""Colours of PALETTE COLOR images, from plain and from segmented lookup tables."""

from __future__ import annotations

import struct

import numpy as np

from node.deid.pixels.frames import Array
from node.deid.pixels.image import Bytes, Palette
from node.deid.reading import Unsafe

_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2
_MOST = 65_536


def colours(palette: Palette) -> Array:
    """Return the colours of a palette, shape (entries, 3), uint8; ``Unsafe`` when it is broken."""
    entries = palette.entries or _MOST
    columns = [_table(table, entries, palette) for table in _tables(palette)]
    return np.stack(columns, axis=-1)


def _tables(palette: Palette) -> tuple[Bytes, Bytes, Bytes]:
    return palette.red, palette.green, palette.blue


def _table(table: Bytes, entries: int, palette: Palette) -> Array:
    if palette.segmented:
        values = _expanded(table, entries, palette)
    elif len(table) >= 2 * entries:
        held16 = bytes(table[: 2 * entries])
        values = np.frombuffer(held16, "<u2" if palette.little_endian else ">u2")
    else:
        values = np.frombuffer(table, np.uint8)
    if len(values) < entries:
        raise Unsafe("undecodable-pixels")
    held = values[:entries]
    return (held >> 8 if held.max(initial=0) > 255 else held).astype(np.uint8)


def _expanded(table: Bytes, entries: int, palette: Palette) -> Array:
    """Expand a segmented table (PS3.3 C.7.9.2)."""
    width = 2 if palette.bits > 8 else 1
    order = "<" if palette.little_endian else ">"
    numbers = np.frombuffer(bytes(table)[: len(table) // width * width], f"{order}u{width}")
    values: list[int] = []
    try:
        _segments(numbers, 0, len(numbers), entries, values, order, again=True)
    except (IndexError, ValueError, struct.error):
        raise Unsafe("undecodable-pixels") from None
    return np.array(values, np.uint16)


def _segments(
    numbers: Array, at: int, count: int, entries: int, values: list[int], order: str, *, again: bool
) -> None:
    """Append what up to ``count`` segments from ``at`` say; one that points back may not again."""
    while at + 1 < len(numbers) and count and len(values) < entries:
        kind, length = int(numbers[at]), int(numbers[at + 1])
        count -= 1
        if kind == _DISCRETE:
            values += (int(v) for v in numbers[at + 2 : at + 2 + length])
            at += 2 + length
        elif kind == _LINEAR and values:
            first, last = values[-1], int(numbers[at + 2])
            steps = np.linspace(first, last, length + 1)[1:]
            values += (int(v) for v in np.rint(steps))
            at += 3
        elif kind == _INDIRECT and again:
            words = 4 // numbers.dtype.itemsize
            held = numbers[at + 2 : at + 2 + words].tobytes()
            back = struct.unpack(f"{order}L", held)[0] // numbers.dtype.itemsize
            _segments(numbers, back, length, entries, values, order, again=False)
            at += 2 + words
        else:
            raise ValueError(kind)

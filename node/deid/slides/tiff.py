"""The structure of a TIFF: directories and their entries, read within strict bounds.

TIFF 6.0 (Adobe, 1992), BigTIFF, and Hamamatsu's NDPI: a classic TIFF whose offsets have 64 bits,
the high halves of a directory's values standing after it. Nothing is read that nobody asks for.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from node.deid.reading import Unsafe

Numbers = npt.NDArray[np.uint64]

MAX_DIRECTORIES = 4096
MAX_ENTRIES = 4096
MAX_VALUE_BYTES = 32 << 20
MAX_ALL_VALUES_BYTES = 64 << 20
NDPI_MARK = 65420
NEXT_IMAGES = 330
"""SubIFDs (TIFF Technical Note 1)."""

ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SIGNED, DOUBLE = 2, 3, 4, 5, 7, 9, 12
LONG8, IFD8 = 16, 18
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
SIZES |= {16: 8, 17: 8, 18: 8}
_UNSIGNED = {1: "u1", 3: "u2", 4: "u4", 7: "u1", 13: "u4", 16: "u8", 18: "u8"}
_ANY = _UNSIGNED | {6: "i1", 8: "i2", 9: "i4", 17: "i8", 11: "f4", 12: "f8"}


class Variant(Enum):
    """How offsets are written."""

    CLASSIC = 4
    BIG = 8
    NDPI = -8


@dataclass(frozen=True)
class Entry:
    """One tag of a directory; ``data`` is its value if that stands in the directory itself."""

    tag: int
    kind: int
    count: int
    data: bytes
    offset: int

    @property
    def size(self) -> int:
        return SIZES[self.kind] * self.count


@dataclass(frozen=True)
class Directory:
    """An image file directory, where it stands, and how many bytes it takes there."""

    offset: int
    size: int
    entries: Mapping[int, Entry]
    again: tuple[Entry, ...]
    """Entries of a tag that was there already; some writers give two descriptions."""


class Tiff:
    """An open TIFF. Every method raises ``Unsafe`` for what is not within the file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self._budget = MAX_ALL_VALUES_BYTES
        head = self.read(0, min(16, self.size))
        if len(head) < 8 or not is_tiff(head):
            raise Unsafe("unreadable-slide")
        self.order = "<" if head[:2] == b"II" else ">"
        self.variant = Variant.CLASSIC
        version = struct.unpack(self.order + "H", head[2:4])[0]
        if version == 43:
            if len(head) < 16 or struct.unpack(self.order + "HH", head[4:8]) != (8, 0):
                raise Unsafe("unreadable-slide")
            self.variant = Variant.BIG
            first = struct.unpack(self.order + "Q", head[8:])[0]
        else:
            first = struct.unpack(self.order + "I", head[4:8])[0]
            if self._is_ndpi(head):
                self.variant = Variant.NDPI
                first = struct.unpack("<Q", head[4:12])[0]
        self.directories = self._chain(first)

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes at ``offset``."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise Unsafe("truncated")
        pieces = []
        while size:
            piece = os.pread(self._descriptor, size, offset)
            if not piece:
                raise Unsafe("truncated")
            pieces.append(piece)
            offset += len(piece)
            size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def value(self, entry: Entry, limit: int = MAX_VALUE_BYTES) -> bytes:
        """Return the bytes of an entry's value, at most ``limit`` of them."""
        size = min(entry.size, limit)
        self._budget -= size
        if size > MAX_VALUE_BYTES or self._budget < 0:
            raise Unsafe("unreadable-slide")
        return entry.data[:size] if entry.data else self.read(entry.offset, size)

    def unsigned(self, entry: Entry) -> Numbers:
        """Return an entry's whole numbers."""
        if entry.kind not in _UNSIGNED:
            raise Unsafe("unreadable-slide")
        form = np.dtype(self.order + _UNSIGNED[entry.kind])
        return np.frombuffer(self.value(entry), form).astype(np.uint64)

    def numbers(self, entry: Entry, most: int) -> tuple[Any, ...]:
        """Return the first ``most`` numbers of an entry: int, float, or Fraction of a rational.

        A rational with denominator 0 ends the list.
        """
        if entry.kind in (RATIONAL, 10):
            whole = self.value(entry, 8 * most)
            form = self.order + ("i" if entry.kind == 10 else "I") * (len(whole) // 4)
            pairs = struct.unpack(form, whole[: len(whole) // 4 * 4])
            found: list[Fraction] = []
            for top, bottom in zip(pairs[::2], pairs[1::2], strict=False):
                if not bottom:
                    break
                found.append(Fraction(top, bottom))
            return tuple(found)
        if entry.kind not in _ANY:
            raise Unsafe("unreadable-slide")
        number = np.dtype(self.order + _ANY[entry.kind])
        whole = self.value(entry, number.itemsize * most)
        return tuple(np.frombuffer(whole, number, len(whole) // number.itemsize).tolist())

    def directories_below(self, directory: Directory) -> list[Directory]:
        """Return the directories of SubIFDs, each without what follows it."""
        entry = directory.entries.get(NEXT_IMAGES)
        if entry is None:
            return []
        if entry.count > MAX_DIRECTORIES:
            raise Unsafe("unreadable-slide")
        offsets = [int(offset) for offset in self.unsigned(entry)]
        if len(set(offsets)) != len(offsets):
            raise Unsafe("unreadable-slide")
        return [self._directory(offset)[0] for offset in offsets]

    def _chain(self, offset: int) -> list[Directory]:
        found: list[Directory] = []
        seen: set[int] = set()
        while offset:
            if offset in seen or len(found) == MAX_DIRECTORIES:
                raise Unsafe("unreadable-slide")
            seen.add(offset)
            directory, offset = self._directory(offset)
            found.append(directory)
        if not found:
            raise Unsafe("unreadable-slide")
        return found

    def _is_ndpi(self, head: bytes) -> bool:
        # A classic TIFF whose first offset, read as 64 bits, leads to a directory with the mark.
        if self.order != "<" or len(head) < 12:
            return False
        self.variant = Variant.NDPI
        try:
            return NDPI_MARK in self._directory(struct.unpack("<Q", head[4:12])[0])[0].entries
        except Unsafe:
            return False
        finally:
            self.variant = Variant.CLASSIC

    def _directory(self, offset: int) -> tuple[Directory, int]:
        big, ndpi = self.variant is Variant.BIG, self.variant is Variant.NDPI
        count_form, entry_size, width = ("Q", 20, 8) if big else ("H", 12, 4)
        start = offset + struct.calcsize(count_form)
        count = struct.unpack(self.order + count_form, self.read(offset, start - offset))[0]
        if not 0 < count <= MAX_ENTRIES:
            raise Unsafe("unreadable-slide")
        raw = self.read(start, count * entry_size)
        end = start + len(raw)
        after = self.read(end, 8 if big or ndpi else 4)
        high = self.read(end + 8, 4 * count) if ndpi else b""
        entries: dict[int, Entry] = {}
        again: list[Entry] = []
        for index in range(count):
            place = raw[index * entry_size : (index + 1) * entry_size]
            entry = self._entry(place, width, high[4 * index : 4 * index + 4])
            if entry is None:
                continue
            if entry.tag in entries:
                again.append(entry)
            else:
                entries[entry.tag] = entry
        following = struct.unpack(self.order + ("I" if len(after) == 4 else "Q"), after)[0]
        size = end + len(after) + len(high) - offset
        return Directory(offset, size, entries, tuple(again)), following

    def _entry(self, place: bytes, width: int, high: bytes) -> Entry | None:
        form = self.order + ("HHQ" if width == 8 else "HHI")
        tag, kind, count = struct.unpack(form, place[:-width])
        if kind not in SIZES:
            return None  # readers skip a type that they don't know (TIFF 6.0, section 2)
        inside = SIZES[kind] * count <= width and not (high and kind == ASCII)
        if inside and high and high != bytes(4):
            if kind not in (LONG, SIGNED) or count != 1:
                raise Unsafe("unreadable-slide")
            return Entry(tag, LONG8 if kind == LONG else 17, count, place[-width:] + high, 0)
        if inside:
            return Entry(tag, kind, count, place[-width:][: SIZES[kind] * count], 0)
        pointer = place[-width:] + high
        offset = struct.unpack(self.order + ("Q" if len(pointer) == 8 else "I"), pointer)[0]
        return Entry(tag, kind, count, b"", offset)


def is_tiff(head: bytes) -> bool:
    """Say whether a file that begins so is a TIFF of some kind."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

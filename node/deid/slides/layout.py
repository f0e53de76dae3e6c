"""A new TIFF made of kept pictures: its head, and which bytes of the old file follow where.

Nothing of the old file comes along but tiles and strips. The head (header, directories, values)
stands first and its size follows from the tags alone, so the file is written in one pass.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from node.deid.reading import Unsafe
from node.deid.slides.tiff import ASCII, LONG, LONG8, RATIONAL, SIZES, Numbers, Variant

_FORMS = {1: "B", 3: "H", 4: "I", 7: "B", 9: "i", 12: "d", 16: "Q", 18: "Q", 11: "f"}
_ALIGN = 8
MAX_CLASSIC = 1 << 32


@dataclass(frozen=True)
class Field:
    """A tag to write: its value as bytes in the file's order."""

    tag: int
    kind: int
    count: int
    data: bytes


@dataclass(eq=False)
class Page:
    """A directory to write. ``blobs`` numbers its tiles among the copied ones, -1 for none."""

    fields: list[Field]
    tiled: bool
    blobs: np.ndarray[tuple[int], np.dtype[np.int64]]
    counts: Numbers
    below: list[Page] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Layout:
    """The head of a new file, and for each blob where it is to stand."""

    head: bytes
    places: Numbers
    size: int


def numbers(order: str, tag: int, kind: int, values: Iterable[int | float]) -> Field:
    """Return a tag with numbers."""
    listed = list(values)
    try:
        return Field(
            tag, kind, len(listed), struct.pack(f"{order}{len(listed)}{_FORMS[kind]}", *listed)
        )
    except (struct.error, OverflowError):
        raise Unsafe("unreadable-slide") from None


def rationals(order: str, tag: int, values: Iterable[Fraction]) -> Field:
    """Return a tag with fractions."""
    listed = [part for value in values for part in (value.numerator, value.denominator)]
    packed = numbers(order, tag, LONG, listed)
    return Field(tag, RATIONAL, len(listed) // 2, packed.data)


def words(tag: int, text: str) -> Field:
    """Return a tag with text, long enough that NDPI's readers and others find it in one place."""
    data = text.encode()
    data += bytes(max(1, 9 - len(data)))
    return Field(tag, ASCII, len(data), data)


def lay_out(variant: Variant, order: str, pages: list[Page], sizes: Numbers) -> Layout:
    """Return the new file of ``pages`` and of blobs with these sizes, in the blobs' order."""
    writer = _Writer(variant, order)
    start = writer.measure(pages)
    # A classic TIFF of almost 4 GiB has no room for more than words (TIFF 6.0, section 2).
    step = np.uint64(2 if variant is Variant.CLASSIC else _ALIGN)
    ends = np.cumsum((sizes + step - np.uint64(1)) // step * step)
    places = (np.concatenate([np.zeros(1, np.uint64), ends[:-1]]) if len(ends) else ends).astype(
        np.uint64
    ) + np.uint64(start)
    size = start + (int(ends[-1]) if len(ends) else 0)
    if variant is Variant.CLASSIC and size >= MAX_CLASSIC:
        raise Unsafe("too-large")
    return Layout(writer.write(pages, places), places, size)


class _Writer:
    def __init__(self, variant: Variant, order: str) -> None:
        self._variant, self._order = variant, order
        self._big = variant is Variant.BIG
        self._wide = variant is not Variant.CLASSIC
        self._starts: dict[int, int] = {}

    def measure(self, pages: list[Page]) -> int:
        """Give every page its place; return where the blobs begin."""
        place = 16
        for page in pages:
            for one in (page, *page.below):
                self._starts[id(one)] = place
                place += self._directory_size(one)
                place += sum(
                    _up(self._value_size(tag))
                    for tag in self._all(one, None)
                    if not self._fits(tag)
                )
        return place

    def write(self, pages: list[Page], places: Numbers) -> bytes:
        first = self._starts[id(pages[0])]
        if self._big:
            head = struct.pack(self._order + "2sHHHQ", self._mark, 43, 8, 0, first)
        else:
            head = struct.pack(self._order + "2sHI", self._mark, 42, first)
            # OpenSlide reads a big-endian file's first offset from here, four bytes too far.
            again = first if self._order == ">" else 0
            head += struct.pack(self._order + "II", again, 0)
        pieces = [head]
        for page, following in zip(pages, [*pages[1:], None], strict=True):
            pieces.append(self._directory(page, following, places))
            pieces += [self._directory(below, None, places) for below in page.below]
        return b"".join(pieces)

    @property
    def _mark(self) -> bytes:
        return b"II" if self._order == "<" else b"MM"

    def _all(self, page: Page, places: Numbers | None) -> list[Field]:
        """A page's tags in order. Without places, offsets are zeros of the right size."""
        kind = LONG8 if self._big else LONG
        form = np.dtype(f"{self._order}u{8 if self._wide else 4}")
        where = np.zeros(len(page.blobs), np.uint64)
        if places is not None and len(places):
            where = np.where(page.blobs < 0, np.uint64(0), places[page.blobs])
        listed = list(page.fields)
        pair = (324, 325) if page.tiled else (273, 279)
        for tag, values in zip(pair, (where, page.counts), strict=True):
            listed.append(Field(tag, kind, len(values), values.astype(form).tobytes()))
        if page.below:
            starts = [self._starts.get(id(below), 0) for below in page.below]
            listed.append(numbers(self._order, 330, kind, starts))
        return sorted(listed, key=lambda one: one.tag)

    def _fits(self, tag: Field) -> bool:
        # An NDPI offset or size has 64 bits and stands within the directory all the same.
        if self._is_wide_scalar(tag):
            return True
        return SIZES[tag.kind] * tag.count <= (8 if self._big else 4)

    def _is_wide_scalar(self, tag: Field) -> bool:
        return self._variant is Variant.NDPI and tag.tag in (273, 279) and tag.count == 1

    def _value_size(self, tag: Field) -> int:
        return len(tag.data)

    def _directory_size(self, page: Page) -> int:
        count = len(self._all(page, None))
        if self._big:
            return _up(8 + 20 * count + 8)
        return _up(2 + 12 * count + 4 + (4 + 4 * count if self._wide else 0))

    def _directory(self, page: Page, following: Page | None, places: Numbers) -> bytes:
        start = self._starts[id(page)]
        tags = self._all(page, places)
        size = self._directory_size(page)
        place = start + size
        lines, high, values = [], [], []
        width = 8 if self._big else 4
        for tag in tags:
            if self._fits(tag):
                inside = tag.data.ljust(8, b"\0")
            else:
                inside = struct.pack("<Q", place) if self._wide and not self._big else b""
                inside = inside or struct.pack(self._order + ("Q" if self._big else "I"), place)
                values.append(tag.data.ljust(_up(len(tag.data)), b"\0"))
                place += len(values[-1])
            form = self._order + ("HHQ" if self._big else "HHI")
            lines.append(struct.pack(form, tag.tag, tag.kind, tag.count) + inside[:width])
            high.append(inside[4:8])
        after = self._starts[id(following)] if following is not None else 0
        directory = struct.pack(self._order + ("Q" if self._big else "H"), len(tags))
        directory += b"".join(lines)
        directory += struct.pack(self._order + ("Q" if self._wide else "I"), after)
        if self._wide and not self._big:
            directory += b"".join(high)
        return directory.ljust(size, b"\0") + b"".join(values)


def _up(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN

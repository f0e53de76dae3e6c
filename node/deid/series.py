"""Files of one series, de-identified by how they differ from the one before.

Slices of a series have the same header but for a few values. Where a header's bytes are those of
the file before, so is what becomes of them; only elements that differ are read and acted upon. A
file that differs in anything that decides about other elements (whose it is, its character set,
what its pixels are) is none of the series, and goes the whole way.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from node.deid import gathering
from node.deid.binary import TRAILER_BYTES, ends_in_text
from node.deid.elements import PIXEL_DATA, Buffer, Element, File, Reader, parse_meta
from node.deid.part10 import prologue
from node.deid.parts import Parts
from node.deid.result import Deidentified
from node.deid.values import Values
from node.deid.walk import Top, Walk

_SOP_INSTANCE, _INSTANCE_NUMBER = 0x00080018, 0x00200013
_MEDIA_CLASS, _SYNTAX = 0x00020002, 0x00020010
_DECISIVE = frozenset(
    {
        *(0x00080005, 0x00080008, 0x00080016, 0x00080060, 0x00080070, 0x00081090, 0x00180015),
        *(0x00020010, 0x0020000D, 0x0020000E, 0x00200060, 0x00200062, 0x00080020, 0x00480105),
        *(0x00400560, 0x00880200, 0x00420011, 0x00420012, 0x00420015),
        *range(0x00280002, 0x00280104),
        *range(0x00280300, 0x00280304),
    }
)
"""Attributes that decide about others, or that the result tells."""
_MOST_DIFFERENCES = 40
_LONGEST_HEADER = 256 << 10
_LONG = 1 << 12


class Template:
    """A file that was de-identified, by which the next of its series is."""

    def __init__(
        self, file: File, top: Top, values: Values, result: Deidentified, start: int, end: int
    ) -> None:
        """``start`` and ``end`` bound the elements before the pixel data."""
        count = _count(file)
        elements = file.dataset.elements[:count]
        self.values = values
        self._elements = elements
        self._pixels = elements[-1]
        self._tail = _tail(file.data, self._pixels.after)
        self._headers = [element.header for element in elements]
        self._start = start
        self._out = top.parts.join(file.data, top.marks[count - 1][1])
        self._seen = np.frombuffer(file.data, np.uint8, end - start, start).copy()
        # Of the file itself only the header is held.
        self._file = replace(file, data=bytes(memoryview(file.data)[: self._pixels.start]))
        self._top = replace(top, parts=Parts())
        self._result = replace(result, parts=Parts(), source=b"")

    @classmethod
    def of(cls, file: File, top: Top, values: Values, result: Deidentified) -> Template | None:
        """Return a template of a file with native pixel data that stayed, and nothing after it."""
        count = _count(file)
        elements = file.dataset.elements[:count]
        if not result.spliced or not count or elements[-1].fragments is not None:
            return None
        start, end = elements[0].header, elements[-1].header
        last, mark = top.parts.all[-1], top.marks[count - 1]
        whole = (
            isinstance(last, tuple)
            and last[1] == elements[-1].after
            and last[0] <= end
            and mark[1] == mark[0]
            and mark[2] == top.parts.length
            and all(one.tag < other.tag for one, other in pairwise(elements))
        )
        if not whole or not _is_named(file) or end - start > _LONGEST_HEADER:
            return None
        return cls(file, top, values, result, start, end)

    def apply(self, data: Buffer, walk: Walk) -> Deidentified | None:
        """Return the de-identified file, or None if it is none of the series."""
        start = self._begin(data)
        if start is None:
            return None
        found = self._follow(data, start, walk)
        if found is None:
            return None
        parts, pixels, changed = found
        after = pixels + self._pixels.after - self._pixels.header
        header = bytes(memoryview(data)[pixels : pixels + self._pixels.start - self._pixels.header])
        if after > len(data) or header != self._pixel_header() or _tail(data, after) != self._tail:
            return None
        if ends_in_text(bytes(memoryview(data)[max(pixels, after - TRAILER_BYTES) : after])):
            return None
        instance = changed.pop(_SOP_INSTANCE, None)
        number = changed.pop(_INSTANCE_NUMBER, None)
        news: dict[str, Any] = {}
        if instance is not None:
            news["sop_instance_uid"] = self.values.uid(instance).decode().strip()[:64]
            if not news["sop_instance_uid"]:
                return None
        if number is not None:
            news["instance_number"] = self.values.instance_number(number)
        whole = Parts()
        result = self._result
        uid = news.get("sop_instance_uid", result.sop_instance_uid)
        whole.put(prologue(result.sop_class_uid, uid, self._file.transfer_syntax))
        whole.extend(parts)
        whole.take(pixels, after)
        return replace(result, parts=whole, source=data, **news)

    def _pixel_header(self) -> bytes:
        pixels = self._pixels
        return bytes(memoryview(self._file.data)[pixels.header : pixels.start])

    def _begin(self, data: Buffer) -> int | None:
        """Return where the data set begins, if its file meta group is like the template's."""
        if bytes(data[128:132]) != b"DICM":
            return None
        try:
            meta, start = parse_meta(data, 132)
        except Exception:
            return None  # whatever is wrong with it, the whole way says so
        mine = self._file.meta
        alike = all(meta.get(tag) == mine.get(tag) for tag in (_SYNTAX, _MEDIA_CLASS))
        return start if alike else None

    def _follow(
        self, data: Buffer, start: int, walk: Walk
    ) -> tuple[Parts, int, dict[int, bytes]] | None:
        """Go along both headers; return the parts, where pixel data begins, and what differs."""
        parts, changed = Parts(), dict[int, bytes]()
        elements, marks, seen, out = self._elements, self._top.marks, self._seen, self._out
        given = np.frombuffer(data, np.uint8, min(len(data) - start, 2 * _LONGEST_HEADER), start)
        read = Reader(data)
        index, mine, theirs = 0, 0, 0
        last = len(elements) - 1
        for _ in range(_MOST_DIFFERENCES):
            alike = _alike(seen[mine:], given[theirs:])
            first = bisect_right(self._headers, self._start + mine + alike) - 1
            if mine + alike >= len(seen):
                first = last
            if first > index:
                parts.put(out[marks[index][0] : marks[first][0]])
                theirs += elements[first].header - self._start - mine
                mine = elements[first].header - self._start
                index = first
            if index == last:
                parts.put(out[marks[last][0] : marks[last][1]])
                return parts, start + theirs, changed
            old = elements[index]
            try:
                new = read.element(start + theirs, self._file.dataset, 0)
            except Exception:
                return None  # whatever is wrong with it, the whole way says so
            if not self._replaces(new, old, data):
                return None
            before, own, _ = marks[index]
            parts.put(out[before:own])
            if old.tag not in self._top.inserted:
                walk.element(new, self._top.level, parts)
            changed[old.tag] = bytes(data[new.start : min(new.end, new.start + 512)])
            mine = old.after - self._start
            theirs = new.after - start
            index += 1
        return None

    def _replaces(self, new: Element, old: Element, data: Buffer) -> bool:
        """Say whether a changed element changes nothing but itself."""
        if new.tag != old.tag or new.vr != old.vr or new.after > len(data):
            return False
        if new.tag in _DECISIVE or new.tag >> 24 == 0x60 or new.fragments is not None:
            return False
        if new.tag >> 16 & 1 and new.tag & 0xFFFF <= 0xFF:
            return False
        return self._facts(new, data) == self._facts(old, self._file.data)

    def _facts(self, element: Element, data: Buffer) -> frozenset[gathering.Fact]:
        options = self.values.options
        return gathering.facts_of(data, element, self._top.level.charset, options)


def _is_named(file: File) -> bool:
    """Say whether a file is known by itself, and its patient by something that others share."""
    instance = next((e for e in file.dataset.elements if e.tag == _SOP_INSTANCE), None)
    if instance is None:
        return False
    uid = bytes(file.data[instance.start : instance.end]).decode("latin-1").strip(" \0")
    identifier, study = gathering.identity(file)
    return bool(uid) and bool(identifier or study not in ("", uid))


def _count(file: File) -> int:
    """Return how many elements there are up to the pixel data, 0 without it."""
    elements = file.dataset.elements
    return next((n for n in range(len(elements), 0, -1) if elements[n - 1].tag == PIXEL_DATA), 0)


def _tail(data: Buffer, after: int) -> tuple[int, bytes]:
    """Return how much follows the pixel data, and what it begins with."""
    return len(data) - after, bytes(memoryview(data)[after : after + 4])


def _alike(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    """Return how many bytes are the same at the beginning of both."""
    length, at = min(len(one), len(other)), 0
    while at < length:
        differs = one[at : min(at + _LONG, length)] != other[at : min(at + _LONG, length)]
        first = int(differs.argmax())
        if differs[first]:
            return at + first
        at += len(differs)
    return length

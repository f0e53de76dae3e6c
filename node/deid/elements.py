"""DICOM files as elements that point into the bytes they came from (PS3.5 section 7, PS3.10).

What isn't changed is never decoded: an element knows where its header and its value stand, so that
a writer can splice whole runs of a file. Sequences are read to the bottom. What real files get
wrong is read as pydicom reads it: a missing preamble or file meta group, a transfer syntax that the
elements don't have, an item in implicit VR inside an explicit file, UN of undefined length
(PS3.5 section 6.2.2 note 2).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from node.deid.dictionary import vr_of
from node.deid.reading import Unsafe

Buffer = bytes | memoryview

UNDEFINED = 0xFFFFFFFF
MAX_DEPTH = 48
"""Sequences within sequences; real files have a dozen at most."""
MAX_INFLATED = 2**30
"""Bytes that a deflated file may become."""
MAX_ELEMENTS = 5_000_000

ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA = 0x7FE00010
IMPLICIT, EXPLICIT, BIG, DEFLATED = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)
DEFLATED_SYNTAXES = frozenset({DEFLATED, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
"""Syntaxes whose data set is deflated: Explicit VR Little Endian, and JPIP Referenced."""

LONG = frozenset({
    "OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV",
})  # fmt: skip
"""Explicit VRs whose length has 32 bits (PS3.5 section 7.1.2)."""
_LONG = frozenset(vr.encode() for vr in LONG)
VRS = LONG | frozenset({
    "AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL",
    "SS", "ST", "TM", "UI", "UL", "US",
})  # fmt: skip
_VRS = frozenset(vr.encode() for vr in VRS)


class Element:
    """One element. ``start`` and ``end`` bound its value; ``header`` is where it begins.

    ``vr`` is the file's, or the dictionary's in implicit VR ("" where neither knows). ``items`` are
    a sequence's, ``fragments`` the bounds of encapsulated values, the offset table first. ``after``
    is where the next element begins.
    """

    __slots__ = ("after", "end", "fragments", "header", "items", "start", "tag", "undefined", "vr")

    def __init__(self, tag: int, vr: str, header: int, start: int, end: int) -> None:
        self.tag = tag
        self.vr = vr
        self.header = header
        self.start = start
        self.end = end
        self.after = end
        self.undefined = False
        self.items: list[Elements] | None = None
        self.fragments: list[tuple[int, int]] | None = None


@dataclass(slots=True)
class Elements:
    """The elements of a data set or of an item, and how they are encoded."""

    implicit: bool
    little: bool
    elements: list[Element] = field(default_factory=list)
    start: int = 0
    end: int = 0
    undefined: bool = False
    """Of an item: whether a delimiter ends it."""

    def get(self, tag: int) -> Element | None:
        """Return the first element with this tag, or None."""
        return next((element for element in self.elements if element.tag == tag), None)

    def walk(self) -> Iterator[tuple[Elements, Element]]:
        """Yield every element of every level with the data set or item that it is in."""
        for element in self.elements:
            yield self, element
            for item in element.items or ():
                yield from item.walk()


@dataclass(slots=True)
class File:
    """A DICOM file, read."""

    data: Buffer
    """What the elements' positions count in: the file, or what it inflates to."""
    meta: dict[int, bytes]
    """Values of the file meta group, by tag."""
    dataset: Elements
    transfer_syntax: str
    """The declared one where the elements fit it; otherwise the native one that they have."""
    declared: bool
    """Whether the file had the prefix DICM."""
    truncated: bool
    """Whether the file ends within an element. What was whole is there, and so is the part of a
    sequence or of pixel data that came; lengths in the file are then too large."""
    rest: int
    """Bytes after the last element that are none."""


class _Cut(Exception):
    """The bytes end within an element."""


def parse(data: Buffer) -> File:
    """Read a DICOM file; ``Unsafe`` says ``not-dicom``, ``unreadable`` or ``too-large``."""
    if not len(data):
        raise Unsafe("empty")
    declared = bytes(data[128:132]) == b"DICM"
    start = 132 if declared else 0
    if not declared and not _begins_like_dicom(data):
        raise Unsafe("not-dicom")
    try:
        meta, start = parse_meta(data, start)
    except (struct.error, _Cut):
        raise Unsafe("truncated" if declared else "not-dicom") from None
    syntax = _text(meta.get(0x00020010, b""))
    if syntax in DEFLATED_SYNTAXES:
        data, start = _inflate(data, start), 0
    if start >= len(data):
        raise Unsafe("truncated" if declared else "not-dicom")
    implicit, little = _encoding(data, start, syntax)
    reader = Reader(data)
    dataset = Elements(implicit, little)
    truncated, end = reader.top(dataset, start)
    if not dataset.elements:
        raise Unsafe("unreadable" if declared else "not-dicom")
    return File(
        data, meta, dataset, _syntax(syntax, implicit, little), declared, truncated, len(data) - end
    )


def value(data: Buffer, element: Element) -> bytes:
    """Return an element's value as it stands in the file."""
    return bytes(data[element.start : element.end])


def encode_header(tag: int, vr: str, length: int, *, implicit: bool, little: bool) -> bytes:
    """Return the header of an element (PS3.5 section 7.1); ``length`` may be ``UNDEFINED``."""
    order = "<" if little else ">"
    if implicit:
        return struct.pack(order + "HHL", tag >> 16, tag & 0xFFFF, length)
    code = (vr if vr in VRS else "UN").encode()
    if code in _LONG:
        return struct.pack(order + "HH2s2xL", tag >> 16, tag & 0xFFFF, code, length)
    return struct.pack(order + "HH2sH", tag >> 16, tag & 0xFFFF, code, length)


class Reader:
    """Reads elements of one buffer."""

    def __init__(self, data: Buffer) -> None:
        self.data = data
        self.size = len(data)
        self.count = 0
        self.cut = False

    def top(self, dataset: Elements, start: int) -> tuple[bool, int]:
        """Read to the end; return whether it is cut, and where the last whole element ends."""
        position, last = start, -1
        while position + 8 <= self.size:
            try:
                element = self.element(position, dataset, 0)
            except _Cut as cut:
                found = cut.args[0] if cut.args else None
                if not isinstance(found, Element) or not self._is_plausible(found, last):
                    return last < 0 or not self._is_rest(position, dataset, last), position
                if found.tag == PIXEL_DATA and found.items is None and not found.undefined:
                    found.end = found.after = self.size
                    dataset.elements.append(found)
                return True, self.size
            if element.tag >> 16 == 0xFFFE or (
                last >= PIXEL_DATA and not self._is_plausible(element, last)
            ):
                return False, position
            dataset.elements.append(element)
            position, last = element.after, max(last, element.tag)
        return self.cut, position

    def _is_plausible(self, element: Element, last: int) -> bool:
        """Say whether this can be an element, rather than bytes that stand after the last one."""
        if element.tag < last:
            return False
        return bool(element.tag >> 16 & 1) or bool(known_vr(element.tag))

    def _is_rest(self, position: int, dataset: Elements, last: int) -> bool:
        """Say whether what can't be read as an element is something else than a cut one."""
        order = "<" if dataset.little else ">"
        group, element = struct.unpack_from(order + "HH", self.data, position)
        tag = group << 16 | element
        return tag < last or not (group & 1 or known_vr(tag))

    def element(self, position: int, scope: Elements, depth: int) -> Element:
        """Read the element at ``position``; ``_Cut`` with what is known of it if bytes lack."""
        self.count += 1
        if self.count > MAX_ELEMENTS:
            raise Unsafe("too-large")
        data, little = self.data, scope.little
        if position + 8 > self.size:
            raise _Cut
        if little:
            group, number, vr, short = _HEAD_LITTLE(data, position)
        else:
            group, number, vr, short = _HEAD_BIG(data, position)
        tag = group << 16 | number
        if scope.implicit or (vr not in _VRS and not _looks_like_vr(vr)) or group == 0xFFFE:
            start = position + 8
            length = (_LENGTH_LITTLE if little else _LENGTH_BIG)(data, position + 4)[0]
            name = known_vr(tag)
        elif vr in _LONG:
            if position + 12 > self.size:
                raise _Cut
            start = position + 12
            length = (_LENGTH_LITTLE if little else _LENGTH_BIG)(data, position + 8)[0]
            name = vr.decode()
        else:
            start, length, name = position + 8, short, vr.decode("latin-1")
        if length == UNDEFINED:
            element = Element(tag, name, position, start, start)
            element.undefined = True
            return self._undefined(element, scope, depth)
        element = Element(tag, name, position, start, start + length)
        if start + length > self.size:
            if name != "SQ" or not known_vr(tag):
                raise _Cut(element)
            self.cut = True
            element.end = element.after = self.size
        if name == "SQ":
            element.items = self._items(start, element.end, scope, depth)
        elif name == "UN" and not scope.implicit and known_vr(tag) == "SQ" and length >= 8:
            element.items = self._unknown(element, depth)
        return element

    def _undefined(self, element: Element, scope: Elements, depth: int) -> Element:
        tag = element.tag
        is_pixels = tag == PIXEL_DATA or element.vr in ("OB", "OW", "OF", "OD", "OL", "OV")
        if is_pixels and element.vr != "SQ":
            element.fragments = []
            position = element.start
            while position + 8 <= self.size:
                found, length = self._item_header(position, scope.little)
                position += 8
                if found == SEQUENCE_END:
                    element.end, element.after = position - 8, position
                    return element
                if found != ITEM or length == UNDEFINED:
                    raise _Cut(element)
                element.fragments.append((position, min(position + length, self.size)))
                position += length
            if not element.fragments:
                raise _Cut(element)
            self.cut = True
            element.end = element.after = self.size
            return element
        inner = scope
        if element.vr == "UN" and not scope.implicit:
            inner = Elements(True, True)
        element.items = []
        position = element.start
        while position + 8 <= self.size:
            found, length = self._item_header(position, inner.little)
            if found == SEQUENCE_END:
                element.end, element.after = position, position + 8
                return element
            if found != ITEM:
                raise _Cut(element)
            item = self._item(position + 8, length, inner, depth, self.size)
            element.items.append(item)
            position = item.end + (8 if item.undefined else 0)
        if not element.items:
            raise _Cut(element)
        self.cut = True
        element.end = element.after = self.size
        return element

    def _items(self, position: int, end: int, scope: Elements, depth: int) -> list[Elements]:
        items: list[Elements] = []
        while position + 8 <= end:
            found, length = self._item_header(position, scope.little)
            if found == SEQUENCE_END:
                break
            if found != ITEM:
                raise Unsafe("unreadable")
            item = self._item(position + 8, length, scope, depth, end)
            items.append(item)
            position = item.end + (8 if item.undefined else 0)
        return items

    def _unknown(self, element: Element, depth: int) -> list[Elements] | None:
        """Read a sequence that an explicit file calls UN: implicit VR little endian."""
        try:
            if self._item_header(element.start, True)[0] != ITEM:
                return None
            return self._items(element.start, element.end, Elements(True, True), depth)
        except (Unsafe, _Cut, struct.error):
            return None

    def _item(self, start: int, length: int, scope: Elements, depth: int, limit: int) -> Elements:
        if depth >= MAX_DEPTH:
            raise Unsafe("unreadable")
        undefined = length == UNDEFINED
        end = limit if undefined else start + length
        if end > limit:
            if limit < self.size:
                raise Unsafe("unreadable")
            self.cut, end = True, limit
        implicit = scope.implicit
        if start + 6 <= end and scope.little:
            # Some writers put implicit items into explicit files, and the other way round.
            vr = bytes(self.data[start + 4 : start + 6])
            if not implicit and not _looks_like_vr(vr):
                implicit = bytes(self.data[start : start + 4]) != b"\xfe\xff\x0d\xe0"
            elif implicit and vr in _VRS and self._fits_explicit(start, end, vr):
                implicit = False
        item = Elements(implicit, scope.little, [], start, end, undefined)
        position = start
        while position + 8 <= end:
            try:
                element = self.element(position, item, depth + 1)
            except _Cut:
                if limit < self.size:
                    raise Unsafe("unreadable") from None
                self.cut, item.end = True, self.size
                return item
            if element.tag == ITEM_END:
                if not undefined:
                    raise Unsafe("unreadable")
                item.end = position
                return item
            if element.after > end or element.tag >> 16 == 0xFFFE:
                raise Unsafe("unreadable")
            item.elements.append(element)
            position = element.after
        if undefined:
            if limit < self.size:
                raise Unsafe("unreadable")
            self.cut, item.end = True, self.size
        return item

    def _fits_explicit(self, start: int, end: int, vr: bytes) -> bool:
        """Say whether an item that should be implicit makes sense as explicit only."""
        length = _LENGTH_LITTLE(self.data, start + 4)[0]
        return start + 8 + length > end and vr in _VRS

    def _item_header(self, position: int, little: bool) -> tuple[int, int]:
        if position + 8 > self.size:
            raise _Cut
        order = "<HHL" if little else ">HHL"
        group, number, length = struct.unpack_from(order, self.data, position)
        return group << 16 | number, length


_HEAD_LITTLE = struct.Struct("<HH2sH").unpack_from
_HEAD_BIG = struct.Struct(">HH2sH").unpack_from
_LENGTH_LITTLE = struct.Struct("<L").unpack_from
_LENGTH_BIG = struct.Struct(">L").unpack_from


@lru_cache(maxsize=65536)
def known_vr(tag: int) -> str:
    """Return the data dictionary's VR (its first, where it names two), "" if it has none."""
    if tag & 0xFFFF == 0:
        return "UL"
    if tag >> 16 & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else ""
    known = vr_of(tag)
    # "US or SS", "OB or OW", "US or SS or OW": the second is what fits every file.
    return known if len(known) == 2 else known[-2:]


def parse_meta(data: Buffer, position: int) -> tuple[dict[int, bytes], int]:
    """Return the file meta group's values by tag, and where the data set begins.

    The group's own length isn't believed.
    """
    meta: dict[int, bytes] = {}
    reader, scope = Reader(data), Elements(False, True)
    while position + 8 <= len(data):
        group = struct.unpack_from("<H", data, position)[0]
        if group != 2:
            break
        scope.implicit = not _looks_like_vr(bytes(data[position + 4 : position + 6]))
        element = reader.element(position, scope, 0)
        meta[element.tag] = value(data, element)
        position = element.after
    return meta, position


def _begins_like_dicom(data: Buffer) -> bool:
    """Say whether a file without prefix begins with an element of group 2 or 8, small enough."""
    if len(data) < 16:
        return False
    head = bytes(data[:8])
    for order in "<>":
        group, number, vr, short = struct.unpack(order + "HH2sH", head)
        if group not in (0x0002, 0x0004, 0x0008) or number > 0x3010:
            continue
        if vr in _VRS and (vr in _LONG or 8 + short <= len(data)):
            return True
        if struct.unpack(order + "L", head[4:])[0] <= min(len(data) - 8, 1 << 16):
            return True
    return False


def _encoding(data: Buffer, position: int, syntax: str) -> tuple[bool, bool]:
    """Return whether the data set is implicit, and whether it is little endian."""
    head = bytes(data[position : position + 8]).ljust(8, b"\0")
    explicit = head[4:6] in _VRS or _looks_like_vr(head[4:6])
    little = syntax != BIG
    group = struct.unpack("<H" if little else ">H", head[:2])[0]
    other = struct.unpack(">H" if little else "<H", head[:2])[0]
    if group > 0x00FF and other <= 0x00FF:
        little = not little
    if not explicit:
        length = struct.unpack("<L" if little else ">L", head[4:])[0]
        if length > len(data) and length != UNDEFINED:
            raise Unsafe("unreadable")
    return not explicit, little


def _syntax(declared: str, implicit: bool, little: bool) -> str:
    real = IMPLICIT if implicit else EXPLICIT if little else BIG
    native = {IMPLICIT, EXPLICIT, BIG, ""}
    return real if declared in native else declared


def _inflate(data: Buffer, start: int) -> bytes:
    for bits in (-zlib.MAX_WBITS, zlib.MAX_WBITS):
        inflater = zlib.decompressobj(wbits=bits)
        try:
            plain = inflater.decompress(bytes(data[start:]), MAX_INFLATED)
        except zlib.error:
            continue
        if inflater.unconsumed_tail:
            raise Unsafe("too-large")
        return plain
    raise Unsafe("unreadable")


def _looks_like_vr(code: bytes) -> bool:
    return len(code) == 2 and 65 <= code[0] <= 90 and 65 <= code[1] <= 90


def _text(raw: bytes) -> str:
    return raw.decode("latin-1").strip(" \0")

"""JPEG 2000 and HTJ2K without comments, and without the boxes of a JP2 file that decode nothing.

Markers are walked (ITU-T T.800 annex A, T.801 annex A, T.814); tile data is skipped by the length
of its tile-part. Where a header gets shorter, the lengths in SOT and TLM are set anew. Of comments
in the main header, encoders' signatures stay.
"""

from __future__ import annotations

import re

from node.deid.codestream_signatures import is_signature
from node.deid.codestream_splice import Splice
from node.deid.reading import Unsafe

CODESTREAM = b"\xff\x4f\xff\x51"
JP2 = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_SOT, _SOD, _EOC, _TLM, _COM = 0xFF90, 0xFF93, 0xFFD9, 0xFF55, 0xFF64
_KEPT = frozenset(
    {
        *(0xFF50, 0xFF51, 0xFF52, 0xFF53, _TLM, 0xFF56, 0xFF57, 0xFF58, 0xFF59),
        *(0xFF5A, 0xFF5B, 0xFF5C, 0xFF5D, 0xFF5E, 0xFF5F, 0xFF60, 0xFF61, 0xFF63),
        *range(0xFF70, 0xFF7A),
    }
)
"""CAP SIZ COD COC TLM PRF PLM PLT CPF, QPD QPC QCD QCC RGN POC PPM PPT CRG, and of part 2."""
_NEXT_PART = re.compile(rb"\xff(?:\x90\x00\x0a|\xd9)")
"""A marker above FF8F can't occur in tile data."""
_KEPT_BOXES = frozenset({b"jP  ", b"ftyp", b"ihdr", b"bpcc", b"colr", b"pclr", b"cmap", b"cdef"})
_MAX_PARTS = 1 << 20


def walk_jpeg2000(splice: Splice, start: int = 0) -> int:
    """Keep what decodes of the codestream or JP2 file at ``start``; return where it ends."""
    data = splice.data
    if data.startswith(JP2, start):
        return _walk_boxes(splice, start)
    begin = data.find(CODESTREAM, start)
    if begin < 0:
        raise Unsafe("unreadable-codestream")
    return _walk_codestream(splice, begin, len(data))


def _number(data: bytes, start: int, size: int) -> int:
    return int.from_bytes(data[start : start + size], "big")


def _segment(data: bytes, position: int, limit: int) -> tuple[int, int]:
    """Return the marker at ``position`` and the end of its segment."""
    marker = _number(data, position, 2)
    if 0xFF30 <= marker <= 0xFF3F:
        return marker, position + 2
    length = _number(data, position + 2, 2)
    if marker < 0xFF00 or length < 2 or position + 2 + length > limit:
        raise Unsafe("unreadable-codestream")
    return marker, position + 2 + length


def _is_signature(payload: bytes) -> bool:
    """Say whether a COM segment is text (T.800 A.9.2) and tells nothing but its encoder."""
    return payload[:2] == b"\0\1" and is_signature(payload[2:])


def _walk_codestream(splice: Splice, start: int, limit: int) -> int:
    data = splice.data
    position = start + 2
    kept: list[tuple[int, int]] = [(start, position)]
    lengths: list[tuple[int, int]] = []
    while (marker := _number(data, position, 2)) != _SOT:
        marker, stop = _segment(data, position, limit)
        if marker in _KEPT or (marker == _COM and _is_signature(data[position + 4 : stop])):
            kept.append((position, stop))
        position = stop
    pieces = _Pieces()
    while data.startswith(b"\xff\x90", position) and position + 12 <= limit:
        position, declared, actual = _walk_part(data, position, limit, pieces)
        lengths.append((declared, actual))
        if len(lengths) > _MAX_PARTS:
            raise Unsafe("unreadable-codestream")
    if not lengths:
        raise Unsafe("unreadable-codestream")
    shortened = any(declared != actual for declared, actual in lengths)
    new = [actual for _, actual in lengths]
    for first, last in kept:
        if shortened and data.startswith(b"\xff\x55", first):
            splice.put(_tile_lengths(data[first:last], new), first, last)
        else:
            splice.take(first, last)
    pieces.apply(splice)
    if data.startswith(b"\xff\xd9", position) and position + 2 <= limit:
        splice.take(position, position + 2)
        return position + 2
    return limit if not data[position:limit].strip(b"\0") else position


class _Pieces:
    """Tile-parts' kept ranges, held back until the main header before them is known."""

    def __init__(self) -> None:
        self._held: list[tuple[int, int, bytes | None]] = []

    def take(self, start: int, stop: int) -> None:
        self._held.append((start, stop, None))

    def put(self, new: bytes, start: int, stop: int) -> None:
        self._held.append((start, stop, new))

    def apply(self, splice: Splice) -> None:
        for start, stop, new in self._held:
            if new is None:
                splice.take(start, stop)
            else:
                splice.put(new, start, stop)


def _walk_part(data: bytes, start: int, limit: int, pieces: _Pieces) -> tuple[int, int, int]:
    """Keep a tile-part; return where the next begins, its declared and its actual length."""
    declared = _number(data, start + 6, 4)
    position = start + 12
    header: list[tuple[int, int]] = []
    while (marker := _number(data, position, 2)) != _SOD:
        marker, stop = _segment(data, position, limit)
        if marker in (_SOT, _EOC):
            raise Unsafe("unreadable-codestream")
        if marker in _KEPT:
            header.append((position, stop))
        position = stop
    stop = start + declared
    following = stop
    if not position + 2 <= stop <= limit or not _part_ends(data, stop, limit):
        # No length (Psot 0), or a wrong one: the next marker tells, and what is between it and
        # the declared end belongs to no tile.
        found = _NEXT_PART.search(data, position + 2, limit)
        following = limit if found is None else found.start()
        stop = min(stop, following) if stop >= position + 2 else following
    actual = 12 + sum(last - first for first, last in header) + stop - position
    if following == limit and start + declared > limit:
        actual += start + declared - limit  # a cut stream stays one
    new = 0 if declared == 0 else actual
    pieces.take(start, start + 6)
    pieces.put(new.to_bytes(4, "big"), start + 6, start + 10)
    pieces.take(start + 10, start + 12)
    for first, last in header:
        pieces.take(first, last)
    pieces.take(position, stop)
    return following, declared or actual, actual


def _part_ends(data: bytes, position: int, limit: int) -> bool:
    marker = data[position : position + 2]
    return marker in (b"\xff\x90", b"\xff\xd9") or not data[position:limit].strip(b"\0")


def _tile_lengths(segment: bytes, lengths: list[int]) -> bytes:
    """Return a TLM segment with the next of ``lengths`` in it, which are used up (T.800 A.7.1)."""
    if len(segment) < 6:
        return segment
    index = segment[5] >> 4 & 3
    size = 4 if segment[5] >> 6 & 1 else 2
    out = bytearray(segment)
    for position in range(6, len(segment) - index - size + 1, index + size):
        length = lengths.pop(0) if lengths else 0
        out[position + index : position + index + size] = length.to_bytes(8, "big")[-size:]
    return bytes(out)


def _walk_boxes(splice: Splice, start: int) -> int:
    """Keep a JP2 file's codestreams and what tells their colours (T.800 annex I)."""
    data = splice.data
    position = start
    decoded = False
    while position + 8 <= len(data) and not decoded:
        head, stop = _box(data, position, len(data))
        kind = data[position + 4 : position + 8]
        if kind == b"jp2h":
            _walk_header_box(splice, position, head, stop)
        elif kind == b"jp2c":
            if not data.startswith(CODESTREAM, head):
                raise Unsafe("unreadable-codestream")
            inner = Splice(data)
            end = _walk_codestream(inner, head, stop)
            if end == stop and inner.length == end - head:
                splice.take(position, head)
                splice.take(head, end)
            else:
                splice.put((inner.length + 8).to_bytes(4, "big") + kind, position, head)
                splice.put(inner.result(), head, stop)
            decoded = True
        elif kind in _KEPT_BOXES:
            splice.take(position, stop)
        position = stop
    if not decoded:
        raise Unsafe("unreadable-codestream")
    return position


def _walk_header_box(splice: Splice, start: int, head: int, stop: int) -> None:
    data = splice.data
    inner: list[tuple[int, int]] = []
    position = head
    while position + 8 <= stop:
        _, following = _box(data, position, stop)
        if data[position + 4 : position + 8] in _KEPT_BOXES:
            inner.append((position, following))
        position = following
    length = 8 + sum(last - first for first, last in inner)
    splice.put(length.to_bytes(4, "big") + b"jp2h", start, head)
    for first, last in inner:
        splice.take(first, last)


def _box(data: bytes, start: int, limit: int) -> tuple[int, int]:
    """Return where a box's content begins, and where it ends."""
    length, head = _number(data, start, 4), start + 8
    if length == 1:
        length, head = _number(data, start + 8, 8), start + 16
    stop = limit if length == 0 else start + length
    if not head <= stop <= limit:
        raise Unsafe("unreadable-codestream")
    return head, stop

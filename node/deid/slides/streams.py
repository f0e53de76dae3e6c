"""What may hold text inside a compressed tile: found, so that it can be written as zeros.

Comments and application segments of JPEG (ITU-T T.81 annex B), comments of JPEG 2000 (T.800 annex
A.9.2), chunks of WebP (RFC 9649) that are no picture, and whatever stands after the picture's
end. The places are overwritten and never cut, so that every offset into a tile stays right and
each of its other bytes is what it was. What encoders write about themselves is left alone, so
that a scanner's tiles stay the same bit for bit.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from node.deid.reading import Unsafe

Spans = list[tuple[int, int]]
"""Places from the blob's first byte, [start, stop)."""

NONE, LZW, JPEG, DEFLATE, DEFLATE_OLD, PACKBITS = 1, 5, 7, 8, 32946, 32773
APERIO_YCC, APERIO_RGB, JPEG_2000, WEBP = 33003, 33005, 34712, 50001
COMPRESSIONS = frozenset(
    {NONE, LZW, JPEG, DEFLATE, DEFLATE_OLD, PACKBITS, APERIO_YCC, APERIO_RGB, JPEG_2000, WEBP}
)
_WINDOW = 1 << 20
_MAX_SEGMENTS = 1 << 16
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""Neither a stuffed byte nor a restart marker nor a fill byte (T.81 B.1.1.2)."""
_OWN_WORDS = re.compile(
    rb"(Intel\(R\) (JPEG Library|IPP JPEG encoder)[, ]*\[?[Vv]?(ersion)? ?[\[\d., \]-]*"
    rb"|Lavc[\d.]+|Kakadu-v?[\d.]+|OpenJPEG|Created by OpenJPEG version [\d.]+"
    rb"|Hamamatsu NanoZoomer Digital Pathology|AppleMark\n"
    rb"|LEAD Technologies Inc\. V[\d.]+|CREATOR: gd-jpeg v[\d.]+ \(using IJG JPEG v\d+\)"
    rb"(, (default quality|quality = \d{1,3}))?\n?"
    rb"|Kdu-Layer-Info: log_2\{Delta-D\(MSE\)/\[2\^16\*Delta-L\(bytes\)\]\}, L\(bytes\)\n"
    rb"([-+ \d.,e]+\n)*)?\0*"
)
"""Comments in which an encoder names itself, or none at all."""


@dataclass(frozen=True)
class Blob:
    """A tile or strip, ``size`` bytes that are read from its own beginning."""

    fetch: Callable[[int, int], bytes]
    size: int

    def read(self, start: int, size: int) -> bytes:
        """Return ``size`` bytes; ``Unsafe`` if the blob has fewer."""
        if start + size > self.size:
            raise Unsafe("unreadable-slide")
        return self.fetch(start, size)

    def marker(self, start: int) -> tuple[int, int] | None:
        """Return the place and the code of the next marker of a JPEG, from ``start`` on."""
        while start < self.size:
            piece = self.read(start, min(_WINDOW, self.size - start))
            found = _MARKER.search(piece)
            if found is not None:
                return start + found.start(), piece[found.start() + 1]
            # A marker's first byte may be the last of this piece.
            start += max(len(piece) - 1, 1)
        return None

    def rest(self, start: int) -> Spans:
        """Return what follows ``start``, unless it is all zeros."""
        place = start
        while place < self.size:
            piece = self.read(place, min(_WINDOW, self.size - place))
            if piece.strip(b"\0"):
                return [(start, self.size)]
            place += len(piece)
        return []


def find_text(blob: Blob, compression: int, pixel_bytes: int) -> Spans:
    """Return what to overwrite in a blob whose pixels take ``pixel_bytes`` uncompressed.

    ``Unsafe`` for a compression that isn't known or a stream that isn't what it should be. LZW and
    PackBits have no place for text but after their end, which only decoding would find.
    """
    if compression == JPEG:
        return _jpeg(blob)
    if compression in (APERIO_YCC, APERIO_RGB, JPEG_2000):
        return _jpeg_2000(blob)
    if compression in (DEFLATE, DEFLATE_OLD):
        return _deflate(blob, pixel_bytes)
    if compression == WEBP:
        return _webp(blob)
    if compression == NONE:
        return blob.rest(pixel_bytes)
    if compression in (LZW, PACKBITS):
        return []
    raise Unsafe("slide-compression")


def clean_tables(tables: bytes) -> bytes:
    """Return JPEGTables with its tables alone (TIFF Technical Note 2)."""
    blob = Blob(lambda start, size: tables[start : start + size], len(tables))
    if tables[:2] != b"\xff\xd8":
        raise Unsafe("unreadable-slide")
    kept, place = b"\xff\xd8", 2
    while True:
        found = blob.marker(place)
        if found is None or found[1] == 0xD9:
            return kept + b"\xff\xd9"
        start, code = found
        stop = _segment(blob, start)
        if code in (0xDB, 0xC4, 0xDD, 0xCC):
            _check_tables(code, blob.read(start + 4, stop - start - 4))
            kept += blob.read(start, stop - start)
        place = stop


def _segment(blob: Blob, start: int) -> int:
    size = struct.unpack(">H", blob.read(start + 2, 2))[0]
    if size < 2 or start + 2 + size > blob.size:
        raise Unsafe("unreadable-slide")
    return start + 2 + int(size)


def _jpeg(blob: Blob) -> Spans:
    if blob.read(0, 2) != b"\xff\xd8":
        raise Unsafe("unreadable-slide")
    spans: Spans = []
    place, in_scan = 2, False
    for _ in range(_MAX_SEGMENTS):
        found = blob.marker(place)
        if found is None:
            if not in_scan:
                raise Unsafe("unreadable-slide")
            return spans  # no end: decoders take the stream as complete
        start, code = found
        if not in_scan:
            spans += _between(blob, place, start)
        if code == 0xD9:
            return spans + blob.rest(start + 2)
        stop = _segment(blob, start)
        size = stop - start - 4
        if code == 0xFE or 0xE0 <= code <= 0xEF:
            payload = blob.read(start + 4, size)
            harmless = _harmless(code, payload)
            if payload[harmless:].strip(b"\0"):
                spans.append((start + 4 + harmless, stop))
        elif code in (0xDB, 0xC4, 0xDD, 0xCC, 0xDC):
            _check_tables(code, blob.read(start + 4, size))
        elif 0xC0 <= code <= 0xCF and code != 0xC8:
            if size < 6 or size != 6 + 3 * blob.read(start + 9, 1)[0]:
                raise Unsafe("unreadable-slide")
        elif code == 0xDA:
            if size < 4 or size != 4 + 2 * blob.read(start + 4, 1)[0]:
                raise Unsafe("unreadable-slide")
            in_scan = True
        else:
            raise Unsafe("unreadable-slide")
        in_scan = in_scan and code in (0xDA, 0xDC)
        place = stop
    raise Unsafe("unreadable-slide")


def _between(blob: Blob, start: int, stop: int) -> Spans:
    """Bytes between two segments, of which only fill bytes may be there."""
    if stop - start > 1 << 16 or blob.read(start, stop - start).strip(b"\xff"):
        raise Unsafe("unreadable-slide")
    return []


def _harmless(code: int, payload: bytes) -> int:
    """Return how many first bytes of a comment or application segment hold no text."""
    if code == 0xE0 and payload[:5] == b"JFIF\0":
        return 14  # up to its thumbnail (T.871 section 10.1)
    if code == 0xEE and payload[:5] == b"Adobe":
        return 12
    return len(payload) if code == 0xFE and _OWN_WORDS.fullmatch(payload) else 0


def _check_tables(code: int, payload: bytes) -> None:
    """Raise ``Unsafe`` if a segment of tables has bytes that no table uses (T.81 B.2.4)."""
    place = 0
    if code in (0xDD, 0xDC):
        place = 2
    elif code == 0xCC:
        place = len(payload) // 2 * 2
    elif code == 0xDB:
        while place < len(payload):
            place += 129 if payload[place] >> 4 else 65
    else:
        while place < len(payload):
            place += 17 + sum(payload[place + 1 : place + 17])
    if place != len(payload):
        raise Unsafe("unreadable-slide")


def _jpeg_2000(blob: Blob) -> Spans:
    if blob.read(0, 4) != b"\xff\x4f\xff\x51":
        raise Unsafe("slide-compression")  # JP2's boxes, too, hold text
    spans: Spans = []
    place = _j2k_header(blob, 2, 0x90, spans)
    for _ in range(_MAX_SEGMENTS):
        code = blob.read(place, 2)
        if code == b"\xff\xd9":
            return spans + blob.rest(place + 2)
        if code != b"\xff\x90":
            raise Unsafe("unreadable-slide")
        size = struct.unpack(">I", blob.read(place + 6, 4))[0]
        data = _j2k_header(blob, place + 12, 0x93, spans)
        stop = place + size if size else blob.size
        if stop < data or stop > blob.size:
            raise Unsafe("unreadable-slide")
        if stop == blob.size:
            return spans
        place = stop
    raise Unsafe("unreadable-slide")


def _j2k_header(blob: Blob, place: int, last: int, spans: Spans) -> int:
    """Walk the segments from ``place``; return where the marker ``last`` stands."""
    for _ in range(_MAX_SEGMENTS):
        mark, code = blob.read(place, 2)
        if mark != 0xFF:
            raise Unsafe("unreadable-slide")
        if code == last:
            return place
        if not 0x50 <= code <= 0x64:
            raise Unsafe("unreadable-slide")
        stop = _segment(blob, place)
        if code == 0x64:
            text = blob.read(place + 6, stop - place - 6) if stop > place + 6 else b""
            if not _OWN_WORDS.fullmatch(text):
                spans.append((place + 6, stop))
        place = stop
    raise Unsafe("unreadable-slide")


def _deflate(blob: Blob, pixel_bytes: int) -> Spans:
    stream = zlib.decompressobj()
    place, out, piece = 0, 0, b""
    while not stream.eof:
        if not piece:
            piece = blob.read(place, min(_WINDOW, blob.size - place))
            place += len(piece)
        try:
            got = stream.decompress(piece, _WINDOW)
        except zlib.error:
            raise Unsafe("unreadable-slide") from None
        out += len(got)
        if out > pixel_bytes or not (got or piece or stream.eof):
            raise Unsafe("unreadable-slide")
        piece = stream.unconsumed_tail
    return blob.rest(place - len(stream.unused_data))


def _webp(blob: Blob) -> Spans:
    head = blob.read(0, 12)
    if head[:4] != b"RIFF" or head[8:] != b"WEBP":
        raise Unsafe("unreadable-slide")
    end = min(8 + int(struct.unpack("<I", head[4:8])[0]), blob.size)
    spans: Spans = []
    place = 12
    while place + 8 <= end:
        name, size = struct.unpack("<4sI", blob.read(place, 8))
        stop = place + 8 + size
        if stop > end:
            raise Unsafe("unreadable-slide")
        if name not in (b"VP8 ", b"VP8L", b"VP8X", b"ALPH") and size:
            spans.append((place + 8, stop))
        place = stop + size % 2
    return spans + blob.rest(min(place, blob.size))

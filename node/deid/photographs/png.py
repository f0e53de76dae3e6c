"""A PNG file with its picture bit for bit, and nothing else.

W3C Portable Network Graphics, third edition. Of the chunks stay those that a picture is decoded and
coloured with, each of the length that the standard gives it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from node.deid.photographs import exif
from node.deid.photographs.container import Pixels, Stripped, check_size, said_subject
from node.deid.photographs.icc import MAX_BYTES as MAX_PROFILE_BYTES
from node.deid.photographs.icc import clean_profile
from node.deid.reading import Unsafe

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_FIXED = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"cICP": 4, b"mDCV": 24, b"cLLI": 8}
_KNOWN = frozenset(
    (
        *(b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tIME", b"iCCP", b"bKGD", b"hIST", b"sPLT"),
        *(b"sTER", b"oFFs", b"pCAL", b"sCAL"),
    )
)
_ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
"""First column and row of each pass, and its steps across and down."""
_MAX_CHUNKS = 100_000
_IDAT_BYTES = 1 << 20


def strip(data: bytes) -> Stripped:
    """Return the file with its picture alone; ``Unsafe`` if it isn't whole."""
    header, chunks, trailing = _chunks(data)
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if depth not in _DEPTHS.get(colour, ()) or header[10:12] != b"\0\0" or interlaced > 1:
        raise Unsafe("unreadable")
    channels = _CHANNELS[colour]
    check_size(width, height, channels * (2 if depth == 16 else 1))
    kept: list[tuple[bytes, bytes]] = []
    removed: set[str] = {"trailing"} if trailing else set()
    turned, profile, density = 1, None, None
    packed: list[bytes] = []
    for kind, body in chunks:
        if kind == b"IDAT":
            packed.append(body)
        elif kind == b"iCCP":
            profile = _profile(body)
            removed |= {"profile"} if profile else {"profile", "whole-profile"}
        elif (value := _kept(kind, body, colour)) is not None:
            kept.append((kind, value))
            if kind == b"pHYs" and value[8] == 1:
                density = struct.unpack(">II", value[:8])
        else:
            turned = exif.orientation(body) if kind == b"eXIf" else turned
            removed.add(kind.decode() if kind in _KNOWN else "unknown-chunk")
    expected = sum(
        (1 + (columns * depth * channels + 7) // 8) * rows
        for columns, rows in _passes(width, height, bool(interlaced))
    )
    written = write(header, _ordered(kept, profile, turned), _exact(packed, expected))
    return Stripped(
        written,
        width,
        height,
        depth,
        "rgb" if colour in (2, 3, 6) else "grey",  # a palette is decoded to its colours
        turned,
        profile,
        density,
        removed=tuple(sorted(removed)),
    )


def with_subject(data: bytes, subject: str) -> bytes:
    """Return a stripped file with a comment (11.3.3.2) that says whose it is."""
    header, chunks, _ = _chunks(data)
    said = (b"tEXt", b"Comment\0" + said_subject(subject))
    kept = [one for one in chunks if one[0] != b"IDAT"]
    return write(header, [*kept, said], [body for kind, body in chunks if kind == b"IDAT"])


def decode(data: bytes) -> Pixels:
    """Return the picture, (rows, columns) or (rows, columns, channels), 8 or 16 bits."""
    import imagecodecs

    header, chunks, _ = _chunks(data)
    needed = [one for one in chunks if one[0] in (b"PLTE", b"tRNS")]
    packed = [body for kind, body in chunks if kind == b"IDAT"]
    try:
        # The decoder writes its warnings, with names that the file gives, to standard error.
        return np.asarray(imagecodecs.png_decode(write(header, needed, packed)))
    except (RuntimeError, ValueError, MemoryError):
        raise Unsafe("unreadable") from None


def encode(pixels: Pixels, like: Stripped) -> bytes:
    """Return a PNG of these pixels with the colours and the orientation of ``like``."""
    import imagecodecs

    header, chunks, _ = _chunks(bytes(imagecodecs.png_encode(pixels, level=6)))
    packed = [body for kind, body in chunks if kind == b"IDAT"]
    kept: list[tuple[bytes, bytes]] = []
    if like.data.startswith(SIGNATURE):
        _, others, _ = _chunks(like.data)
        kept = [(kind, body) for kind, body in others if kind in _FIXED]
    elif like.density is not None:
        kept.append((b"pHYs", struct.pack(">IIB", *like.density, 1)))
    return write(header, _ordered(kept, like.profile, like.orientation), packed)


def write(header: bytes, kept: list[tuple[bytes, bytes]], packed: list[bytes]) -> bytes:
    """Return a PNG file of a header, chunks before the picture, and the picture's own."""
    chunks = [(b"IHDR", header), *kept, *((b"IDAT", body) for body in packed), (b"IEND", b"")]
    return SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def _chunks(data: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bool]:
    """Return the header, all chunks between it and the end, and whether more follows."""
    found: list[tuple[bytes, bytes]] = []
    position = len(SIGNATURE)
    while True:
        if position + 12 > len(data) or len(found) > _MAX_CHUNKS:
            raise Unsafe("truncated" if position + 12 > len(data) else "too-large")
        length, kind = struct.unpack_from(">I4s", data, position)
        stop = position + 12 + length
        if stop > len(data):
            raise Unsafe("truncated")
        body = data[position + 8 : stop - 4]
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(kind + body) != int.from_bytes(data[stop - 4 : stop], "big"):
            raise Unsafe("unreadable")
        position = stop
        if kind == b"IEND":
            break
        if kind in (b"acTL", b"fcTL", b"fdAT"):
            raise Unsafe("several-images")
        if critical and kind not in (b"IHDR", b"PLTE", b"IDAT"):
            raise Unsafe("unsupported-image")
        found.append((kind, body))
    if not found or found[0][0] != b"IHDR" or len(found[0][1]) != 13:
        raise Unsafe("unreadable")
    return found[0][1], found[1:], position < len(data)


def _kept(kind: bytes, body: bytes, colour: int) -> bytes | None:
    """Return the chunk if it is one that a picture is decoded or coloured with."""
    lengths = {
        **_FIXED,
        b"sBIT": {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}[colour],
        b"tRNS": {0: 2, 2: 6}.get(colour, 0),
    }
    if kind == b"PLTE" or (kind == b"tRNS" and colour == 3):
        step = 3 if kind == b"PLTE" else 1
        return body if 0 < len(body) <= 256 * step and len(body) % step == 0 else None
    return body if lengths.get(kind) == len(body) else None


def _ordered(
    kept: list[tuple[bytes, bytes]], profile: bytes | None, turned: int
) -> list[tuple[bytes, bytes]]:
    """Return chunks in the order of the standard (5.6): colours, palette, the others."""
    first = [one for one in kept if one[0] in (*_FIXED, b"sBIT") and one[0] != b"pHYs"]
    if profile is not None:
        first.insert(0, (b"iCCP", b"icc\0\0" + zlib.compress(profile, 9)))
        first = [one for one in first if one[0] != b"sRGB"]
    last = [one for one in kept if one[0] in (b"tRNS", b"pHYs")]
    if turned != 1:
        last.append((b"eXIf", exif.with_orientation(turned)))
    # A chunk stands once, its first copy.
    ordered = [*first, *(one for one in kept if one[0] == b"PLTE"), *last]
    return [one for at, one in enumerate(ordered) if one[0] not in {o[0] for o in ordered[:at]}]


def _profile(body: bytes) -> bytes | None:
    name, _, rest = body.partition(b"\0")
    if len(name) > 79 or rest[:1] != b"\0":
        return None
    inflate = zlib.decompressobj()
    try:
        profile = inflate.decompress(rest[1:], MAX_PROFILE_BYTES + 1)
    except zlib.error:
        return None
    return clean_profile(profile)


def _passes(width: int, height: int, interlaced: bool) -> Iterator[tuple[int, int]]:
    """Yield columns and rows of each pass (8.1)."""
    if not interlaced:
        yield width, height
        return
    for left, top, across, down in _ADAM7:
        columns = (width - left + across - 1) // across
        rows = (height - top + down - 1) // down
        if columns > 0 and rows > 0:
            yield columns, rows


def _exact(packed: list[bytes], expected: int) -> list[bytes]:
    """Return the compressed picture as it came; anew if it holds more than the picture."""
    inflate = zlib.decompressobj()
    whole = bytearray()
    extra = False
    try:
        for body in packed:
            if inflate.eof:
                extra = extra or bool(body)
                continue
            whole += inflate.decompress(body, expected + 1 - len(whole))
            if inflate.unconsumed_tail or len(whole) > expected:
                extra = True
                break
    except zlib.error:
        raise Unsafe("unreadable") from None
    if len(whole) < expected:
        raise Unsafe("truncated")
    if not extra and not inflate.unused_data and inflate.eof:
        return packed
    again = zlib.compress(bytes(whole[:expected]), 6)
    return [again[at : at + _IDAT_BYTES] for at in range(0, len(again), _IDAT_BYTES)]

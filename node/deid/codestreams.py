"""Compressed pixel data without what is not pixels: comments, application segments, slack bytes.

A frame's stream is cleaned by what it is: JPEG and JPEG-LS, JPEG 2000 and HTJ2K, RLE, video. Pixels
decode as before. What is clean already comes back as the same object, so that a caller can splice.
Fragments, offset tables and lengths (PS3.5 section A.4) are kept consistent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from node.deid.codestream_deflated import clean_deflated
from node.deid.codestream_jpeg import walk_jpeg
from node.deid.codestream_jpeg2000 import CODESTREAM, JP2, walk_jpeg2000
from node.deid.codestream_jpegxl import clean_jpegxl
from node.deid.codestream_rle import clean_rle
from node.deid.codestream_splice import Splice
from node.deid.codestream_video import Coding, clean_video
from node.deid.reading import Unsafe

_UID = "1.2.840.10008.1.2."
_JPEG = frozenset(
    _UID + f"4.{number}" for number in (*range(50, 67), 70, 80, 81, *range(90, 94), 201, 202, 203)
)
"""JPEG, JPEG-LS, JPEG 2000 and HTJ2K: which of them a stream is, it says itself."""
_JPEGXL = frozenset(_UID + f"4.{number}" for number in (110, 111, 112))
_CODINGS: Mapping[int, Coding] = {
    **dict.fromkeys((100, 101), "mpeg2"),
    **dict.fromkeys(range(102, 107), "avc"),
    **dict.fromkeys((107, 108), "hevc"),
}
_VIDEO: Mapping[str, Coding] = {
    _UID + f"4.{number}{part}": coding for number, coding in _CODINGS.items() for part in ("", ".1")
}
_RLE = _UID + "5"
_DEFLATED = _UID + "8.1"
_UNCOMPRESSED = _UID + "1.98"
_BEGINS = (b"\xff\xd8\xff", CODESTREAM, JP2)
_ITEM = 8
"""Bytes of an item's tag and length."""


@dataclass(frozen=True)
class Offsets:
    """Where frames begin: the Basic Offset Table, and (7FE0,0001) with (7FE0,0002).

    Each is empty where the dataset has none. Offsets count from the first fragment's item tag.
    """

    basic: tuple[int, ...] = ()
    extended: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()


def clean_frame(data: bytes, transfer_syntax: str, *, pixels: int = 0) -> bytes:
    """Return one frame's stream without anything but pixels, of even length.

    ``pixels`` is Rows x Columns; RLE has no other sign of its end. ``Unsafe`` when the stream is
    not one that ``transfer_syntax`` names, or can't be walked.
    """
    return _clean(data, transfer_syntax, pixels, 1)[0]


def clean_fragments(
    fragments: Sequence[bytes],
    offsets: Offsets,
    transfer_syntax: str,
    *,
    frames: int = 1,
    pixels: int = 0,
) -> tuple[list[bytes], Offsets]:
    """Return the cleaned fragments (without the offset table's item) and their offsets.

    A frame that was spread over fragments is one fragment when it had to be changed, but for video,
    whose lengths never change. An offset table that doesn't point at fragments is computed anew.
    ``frames`` is Number of Frames, ``pixels`` Rows x Columns. Fragments that need no change are the
    same objects. ``Unsafe`` as in ``clean_frame``.
    """
    if transfer_syntax in _VIDEO:
        kept = Offsets() if _lie(offsets, fragments) else offsets
        return _clean_video(fragments, _VIDEO[transfer_syntax]), kept
    groups = _group(fragments, offsets, transfer_syntax, frames)
    streams = frames if len(groups) == 1 else 1
    cleaned: list[bytes] = []
    starts: list[int] = []
    lengths: list[int] = []
    position = 0
    for group in groups:
        data = group[0] if len(group) == 1 else b"".join(group)
        new, length = _clean(data, transfer_syntax, pixels, streams) if data else (data, 0)
        parts = [new] if new is not data else [_even(part) for part in group]
        starts.append(position)
        lengths.append(length)
        position += sum(_ITEM + len(part) for part in parts)
        cleaned.extend(parts)
    same = len(cleaned) == len(fragments) and all(
        len(new) == len(old) for new, old in zip(cleaned, fragments, strict=True)
    )
    if same and not _lie(offsets, fragments):
        return cleaned, offsets
    return cleaned, _offsets(offsets, starts, lengths, len(cleaned))


def trim_native(
    value_length: int,
    *,
    rows: int,
    columns: int,
    samples: int,
    bits: int,
    frames: int,
    photometric: str,
) -> int:
    """Return how many bytes of a native Pixel Data value are pixels; the others are padding.

    That is Rows x Columns x Samples x Bits Allocated x Frames (PS3.5 section 8.1.1), where
    YBR_FULL_422 has two and YBR_PARTIAL_420 one and a half samples for each pixel; files that say
    so and hold three are taken as they are. All of the value, if it has no more or a size is 0.
    """
    total, short = _native_bits(rows, columns, samples, bits, frames, photometric)
    full = -(-total // 8)
    if not total:
        return value_length
    real = full if value_length in (full, full + full % 2) else -(-short // 8)
    return min(real, value_length)


def spare_bits(*, rows: int, columns: int, samples: int, bits: int, frames: int) -> int:
    """Return how many of the last byte's highest bits are no pixel's: 0, unless pixels are bits."""
    return -rows * columns * samples * bits * frames % 8


def _native_bits(
    rows: int, columns: int, samples: int, bits: int, frames: int, photometric: str
) -> tuple[int, int]:
    total = rows * columns * samples * bits * frames
    if samples == 3 and photometric in ("YBR_FULL_422", "YBR_PARTIAL_422"):
        return total, total * 2 // 3
    if samples == 3 and photometric == "YBR_PARTIAL_420":
        return total, total // 2
    return total, total


def _clean(data: bytes, syntax: str, pixels: int, streams: int) -> tuple[bytes, int]:
    """Return the stream and its length before padding."""
    if syntax in _JPEG:
        new = _walk(data, streams)
    elif syntax == _RLE:
        new = clean_rle(data, pixels)
    elif syntax in _JPEGXL:
        new = clean_jpegxl(data)
    elif syntax in _VIDEO:
        new = clean_video(data, _VIDEO[syntax])
    elif syntax == _DEFLATED:
        new = clean_deflated(data)
    elif syntax == _UNCOMPRESSED:
        new = data
    else:
        raise Unsafe("unreadable-codestream")
    return _even(new), len(new)


def _walk(data: bytes, streams: int) -> bytes:
    splice = Splice(data)
    end = _walker(data, 0)(splice, 0)
    for _ in range(1, streams):
        start = next((at for at in range(end, min(end + 4, len(data))) if data[at]), len(data))
        if not data.startswith(_BEGINS, start):
            break
        end = _walker(data, start)(splice, start)
    return splice.result()


def _walker(data: bytes, start: int) -> Callable[[Splice, int], int]:
    found = data.find(b"\xff", start)
    if data.startswith(JP2, start) or data.startswith(CODESTREAM, max(found, 0)):
        return walk_jpeg2000
    return walk_jpeg


def _even(data: bytes) -> bytes:
    return data + b"\0" if len(data) % 2 else data


def _clean_video(fragments: Sequence[bytes], coding: Coding) -> list[bytes]:
    data = fragments[0] if len(fragments) == 1 else b"".join(fragments)
    new = clean_video(data, coding)
    if new is data:
        return [_even(part) for part in fragments]
    ends = list(accumulate(len(part) for part in fragments))
    return [_even(new[end - len(part) : end]) for part, end in zip(fragments, ends, strict=True)]


def _group(
    fragments: Sequence[bytes], offsets: Offsets, syntax: str, frames: int
) -> list[list[bytes]]:
    """Return the fragments by frame."""
    if not fragments:
        raise Unsafe("unreadable-codestream")
    starts = offsets.extended or offsets.basic
    single = syntax not in _JPEG | _JPEGXL or len(fragments) == frames != len(starts)
    if single:
        return [[part] for part in fragments]
    if starts and not _lie(offsets, fragments):
        begins = set(starts)
    else:
        begins = {
            at
            for at, part in zip(_starts(fragments), fragments, strict=True)
            if part.startswith(_BEGINS)
        }
    groups: list[list[bytes]] = []
    for at, part in zip(_starts(fragments), fragments, strict=True):
        if at in begins or not groups:
            groups.append([])
        groups[-1].append(part)
    return groups


def _starts(fragments: Sequence[bytes]) -> list[int]:
    return [0, *accumulate(_ITEM + len(part) for part in fragments)][:-1]


def _lie(offsets: Offsets, fragments: Sequence[bytes]) -> bool:
    """Return whether a table points at anything but fragments in their order, or has odd counts."""
    starts = _starts(fragments)
    known = set(starts)
    for table in (offsets.basic, offsets.extended):
        if table and (
            table[0] != 0 or list(table) != sorted(set(table)) or not known.issuperset(table)
        ):
            return True
    if len(offsets.extended) != len(offsets.lengths):
        return True
    sizes = dict(zip(starts, (len(part) for part in fragments), strict=True))
    return any(
        sizes[at] - length not in (0, 1)
        for at, length in zip(offsets.extended, offsets.lengths, strict=True)
    )


def _offsets(old: Offsets, starts: list[int], lengths: list[int], fragments: int) -> Offsets:
    new = replace(old, basic=tuple(starts) if old.basic else ())
    if not old.extended or len(starts) != fragments:
        return replace(new, extended=(), lengths=())
    return replace(new, extended=tuple(starts), lengths=tuple(lengths))

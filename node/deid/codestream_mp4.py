"""MP4 files without metadata, in place: boxes that no player needs become free space of zeros.

ISO/IEC 14496-12. Times of creation, names of handlers and of encoders are zeroed, tracks of text
and metadata are emptied, and so is what no sample lies in. Lengths and offsets stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from node.deid.codestream_blank import Blanks
from node.deid.reading import Unsafe

_CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf"})
_KEPT = frozenset(
    b"ftyp mdat mvhd tkhd edts mdhd hdlr vmhd smhd nmhd dref stsd stts ctts stsc stsz stco co64 "
    b"stss sdtp cslg tref iods".split()
)
_FRAGMENTED = frozenset({b"moof", b"mvex", b"stz2"})
_KEPT_IN_ENTRY = frozenset({b"avcC", b"hvcC", b"colr", b"pasp", b"btrt", b"fiel"})
_KEPT_IN_SOUND = frozenset({b"esds", b"dac3", b"dec3", b"dOps", b"damr"})
_MAX_SAMPLES = 1 << 24


@dataclass
class Samples:
    """Where units of video lie in the file."""

    parameter_sets: list[tuple[int, int]] = field(default_factory=list)
    """Units in a sample description."""
    pictures: list[tuple[int, int, int]] = field(default_factory=list)
    """A sample's begin and end, and how many bytes each unit's length has."""


@dataclass
class _Track:
    handler: bytes = b""
    length_size: int = 4
    tables: dict[bytes, tuple[int, int]] = field(default_factory=dict)


def walk_mp4(blanks: Blanks) -> Samples:
    """Overwrite a file's metadata; return where its video is. ``Unsafe`` when it has no movie."""
    samples = Samples()
    tracks: list[_Track] = []
    media: list[tuple[int, int]] = []
    _walk(blanks, 0, len(blanks.data), _Walk(samples, tracks, media))
    if not tracks or not media:
        raise Unsafe("unreadable-codestream")
    covered: list[tuple[int, int]] = []
    for track in tracks:
        for start, stop in _sample_ranges(blanks.data, track):
            covered.append((start, stop))
            if track.handler == b"vide":
                samples.pictures.append((start, stop, track.length_size))
            elif track.handler != b"soun":
                blanks.fill(start, stop)
    _fill_gaps(blanks, media, sorted(covered))
    return samples


@dataclass
class _Walk:
    samples: Samples
    tracks: list[_Track]
    media: list[tuple[int, int]]


def _boxes(data: bytes, start: int, stop: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield each box's type, begin, begin of its content, and end."""
    position = start
    while position + 8 <= stop:
        length, head = int.from_bytes(data[position : position + 4], "big"), position + 8
        kind = data[position + 4 : position + 8]
        if length == 1:
            length, head = int.from_bytes(data[position + 8 : position + 16], "big"), position + 16
        end = stop if length == 0 else position + length
        if not head <= end <= stop:
            raise Unsafe("unreadable-codestream")
        yield kind, position, head, end
        position = end
    if position != stop and data[position:stop].strip(b"\0"):
        raise Unsafe("unreadable-codestream")


def _walk(blanks: Blanks, start: int, stop: int, walk: _Walk, depth: int = 0) -> None:
    data = blanks.data
    for kind, begin, head, end in _boxes(data, start, stop):
        if kind in _FRAGMENTED or depth > 8:
            raise Unsafe("unreadable-codestream")
        if kind == b"trak":
            walk.tracks.append(_Track())
        track = walk.tracks[-1] if walk.tracks else _Track()
        if kind in _CONTAINERS:
            _walk(blanks, head, end, walk, depth + 1)
        elif kind not in _KEPT:
            blanks.set(begin + 4, b"free")
            blanks.fill(head, end)
        elif kind in (b"mvhd", b"tkhd", b"mdhd"):
            wide = data[head : head + 1] == b"\1"
            blanks.fill(head + 4, min(head + (20 if wide else 12), end))
        elif kind == b"hdlr":
            track.handler = data[head + 8 : head + 12]
            blanks.fill(head + 24, end)
        elif kind == b"dref":
            for _, _, content, last in _boxes(data, head + 8, end):
                blanks.fill(content + 4, last)
        elif kind == b"stsd":
            for _, _, content, last in _boxes(data, head + 8, end):
                _walk_entry(blanks, content, last, track, walk.samples)
        elif kind == b"mdat":
            walk.media.append((head, end))
        else:
            track.tables[kind] = (head, end)


def _walk_entry(blanks: Blanks, start: int, stop: int, track: _Track, samples: Samples) -> None:
    """Clean a sample's description: a video's has the encoder's name and boxes (12.1.3)."""
    data = blanks.data
    if track.handler == b"soun" and data[start + 8 : start + 10] == b"\0\0":
        for kind, begin, head, end in _boxes(data, min(start + 28, stop), stop):
            if kind not in _KEPT_IN_SOUND:
                blanks.set(begin + 4, b"free")
                blanks.fill(head, end)
        return
    if track.handler != b"vide":
        blanks.fill(start + 8, stop)
        return
    blanks.fill(start + 42, min(start + 74, stop))
    for kind, begin, head, end in _boxes(data, min(start + 78, stop), stop):
        if kind not in _KEPT_IN_ENTRY:
            blanks.set(begin + 4, b"free")
            blanks.fill(head, end)
        elif kind == b"avcC" and head + 5 <= end:
            track.length_size = (data[head + 4] & 3) + 1
        elif kind == b"hvcC" and head + 23 <= end:
            track.length_size = (data[head + 21] & 3) + 1
            samples.parameter_sets.extend(_parameter_sets(data, head, end))


def _parameter_sets(data: bytes, head: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the units in an HEVC description (ISO/IEC 14496-15 8.3.3.1)."""
    position = head + 23
    for _ in range(data[head + 22]):
        count = int.from_bytes(data[position + 1 : position + 3], "big")
        position += 3
        for _ in range(count):
            length = int.from_bytes(data[position : position + 2], "big")
            position += 2
            if position + length > end:
                raise Unsafe("unreadable-codestream")
            if length:
                yield position, position + length
            position += length


def _numbers(data: bytes, place: tuple[int, int], skip: int, width: int) -> list[int]:
    start, stop = place
    count = int.from_bytes(data[start + skip : start + skip + 4], "big")
    first = start + skip + 4
    if first + count * width > stop:
        raise Unsafe("unreadable-codestream")
    return [
        int.from_bytes(data[at : at + width], "big")
        for at in range(first, first + count * width, width)
    ]


def _sample_ranges(data: bytes, track: _Track) -> list[tuple[int, int]]:
    """Return where the track's samples lie (14496-12 8.7)."""
    tables = track.tables
    if b"stsz" not in tables or b"stsc" not in tables:
        raise Unsafe("unreadable-codestream")
    start, _ = tables[b"stsz"]
    uniform = int.from_bytes(data[start + 4 : start + 8], "big")
    if uniform:
        count = int.from_bytes(data[start + 8 : start + 12], "big")
        if count > _MAX_SAMPLES or count * uniform > len(data):
            raise Unsafe("unreadable-codestream")
        sizes = [uniform] * count
    else:
        sizes = _numbers(data, tables[b"stsz"], 8, 4)
    if b"stco" in tables:
        chunks = _numbers(data, tables[b"stco"], 4, 4)
    elif b"co64" in tables:
        chunks = _numbers(data, tables[b"co64"], 4, 8)
    else:
        raise Unsafe("unreadable-codestream")
    runs = [(run >> 64, run >> 32 & 0xFFFFFFFF) for run in _numbers(data, tables[b"stsc"], 4, 12)]
    ranges: list[tuple[int, int]] = []
    run = 0
    for number, chunk in enumerate(chunks, 1):
        while run + 1 < len(runs) and runs[run + 1][0] <= number:
            run += 1
        position = chunk
        for size in sizes[len(ranges) : len(ranges) + (runs[run][1] if runs else 0)]:
            ranges.append((position, position + size))
            position += size
        if position > len(data):
            raise Unsafe("unreadable-codestream")
    return ranges


def _fill_gaps(
    blanks: Blanks, media: list[tuple[int, int]], covered: list[tuple[int, int]]
) -> None:
    """Zero what lies in media data and in no sample."""
    for start, stop in media:
        position = start
        for first, last in covered:
            if last <= position or first >= stop:
                continue
            blanks.fill(position, min(first, stop))
            position = max(position, last)
        blanks.fill(position, stop)

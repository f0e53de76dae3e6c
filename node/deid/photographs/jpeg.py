"""A JPEG file with its coded picture bit for bit, and nothing else.

ITU-T T.81; JFIF 1.02; the ICC profile by ICC.1 annex B.4. Segments are rebuilt by
``node.deid.codestream_jpeg``; here come the file's own matters: its end, orientation and colours.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from node.deid.codestream_jpeg import walk_jpeg
from node.deid.codestream_splice import Splice
from node.deid.photographs import exif
from node.deid.photographs.container import Meaning, Pixels, Stripped, check_size, said_subject
from node.deid.photographs.icc import MAX_BYTES as MAX_PROFILE_BYTES
from node.deid.photographs.icc import clean_profile
from node.deid.reading import Unsafe

_SOS, _EOI, _COM = 0xDA, 0xD9, 0xFE
_APP0, _APP1, _APP2, _APP13, _APP14 = 0xE0, 0xE1, 0xE2, 0xED, 0xEE
_FRAMES = (0xC0, 0xC1, 0xC2)
"""Baseline, extended and progressive, all Huffman-coded."""
_OTHER_FRAMES = (0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
_EXIF, _ICC = b"Exif\0\0", b"ICC_PROFILE\0"
_CHUNK = 65_000
_MEANINGS: dict[int, Meaning] = {1: "grey", 3: "rgb", 4: "cmyk"}
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_KINDS = (
    (_APP1, _EXIF, "exif"),
    (_APP1, b"http://ns.adobe.com/x", "xmp"),
    (_APP2, b"MPF\0", "multi-picture"),
    (_APP13, b"Photoshop 3.0\0", "photoshop"),
)
_FEWEST_UNREAD = 4
_GARBAGE = (b"\x55\x2a\x6b\x34", b"\x2a\x55\x34\x6b")


@dataclass(frozen=True)
class _Segment:
    code: int
    start: int
    """Of its payload, after the length."""
    payload: bytes


def strip(data: bytes) -> Stripped:
    """Return the file with its first picture alone; ``Unsafe`` if it isn't whole."""
    frame, segments = _headers(data)
    bits, height, width, channels = struct.unpack(">BHHB", frame.payload[:6])
    check_size(width, height, channels)
    if bits != 8 or channels not in _MEANINGS:
        raise Unsafe("unsupported-image")
    splice = Splice(data)
    end = walk_jpeg(splice)
    picture = splice.result()
    picture = picture[:end] if picture is data else picture
    if data[end - 2 : end] != b"\xff\xd9" or not picture.endswith(b"\xff\xd9"):
        raise Unsafe("truncated")
    turned = _orientation(segments)
    profile = _profile(segments)
    return Stripped(
        _with_segments(picture, turned, profile),
        width,
        height,
        bits,
        _MEANINGS[channels],
        turned,
        profile,
        _density(segments),
        removed=_removed(segments, profile, trailing=end < len(data)),
    )


def with_subject(data: bytes, subject: str) -> bytes:
    """Return a stripped file with a comment (T.81, B.2.4.5) that says whose it is."""
    position = _after_jfif(data)
    return data[:position] + _segment(_COM, said_subject(subject)) + data[position:]


def decode(data: bytes) -> Pixels:
    """Return the picture, shape (rows, columns) or (rows, columns, 3 or 4), unsigned bytes."""
    import imagecodecs

    try:
        return np.asarray(imagecodecs.jpeg8_decode(data))
    except (RuntimeError, ValueError, MemoryError):
        raise Unsafe("unreadable") from None


def without_unread_bytes(data: bytes, pixels: Pixels) -> bytes:
    """Return the file without bytes inside its scans that no decoder reads.

    A scan ends at a marker, so bytes after its last coefficient can hold anything. Whether its last
    bytes are read is tried: others in their place change the picture, or nothing.
    """
    for start, end in reversed(_scans(data)):
        limit = end - start - 1
        if limit < _FEWEST_UNREAD or not _is_unread(data, end, _FEWEST_UNREAD, pixels):
            continue
        known, first_read = _FEWEST_UNREAD, 2 * _FEWEST_UNREAD
        while first_read < limit and _is_unread(data, end, first_read, pixels):
            known, first_read = first_read, first_read * 2
        first_read = min(first_read, limit + 1)
        while first_read - known > 1:
            middle = (known + first_read) // 2
            if _is_unread(data, end, middle, pixels):
                known = middle
            else:
                first_read = middle
        data = data[: end - known] + data[end:]
    return data


def _is_unread(data: bytes, end: int, size: int, pixels: Pixels) -> bool:
    """Say whether the scan's last ``size`` bytes make no difference."""
    for garbage in _GARBAGE:
        other = (garbage * (size // 4 + 1))[:size]
        changed = data[: end - size] + other + data[end:]
        try:
            if not np.array_equal(decode(changed), pixels):
                return False
        except Unsafe:
            return False
    return True


def _scans(data: bytes) -> list[tuple[int, int]]:
    """Return where the entropy-coded data of each scan starts and ends, of a stripped file."""
    found = []
    position = 2
    while (marker := _MARKER.search(data, position)) is not None:
        code, position = data[marker.start() + 1], marker.end()
        if code == _EOI:
            break
        position += int.from_bytes(data[position : position + 2], "big")
        if code == _SOS:
            following = _MARKER.search(data, position)
            stop = len(data) if following is None else following.start()
            found.append((position, stop))
            position = stop
    return found


def _headers(data: bytes) -> tuple[_Segment, list[_Segment]]:
    """Return the frame header and all segments before the first scan."""
    segments = []
    frame = None
    position = 2
    while (marker := _MARKER.search(data, position)) is not None:
        code = data[marker.start() + 1]
        if code in (_SOS, _EOI):
            break
        start = marker.end() + 2
        position = marker.end() + int.from_bytes(data[marker.end() : start], "big")
        if position < start:
            position = marker.end()
            continue
        segment = _Segment(code, start, data[start:position])
        segments.append(segment)
        if code in _OTHER_FRAMES:
            raise Unsafe("unsupported-image")
        if code in _FRAMES:
            frame = frame or segment
    if frame is None or len(frame.payload) < 6:
        raise Unsafe("unreadable")
    return frame, segments


def _orientation(segments: list[_Segment]) -> int:
    for segment in segments:
        if segment.code == _APP1 and segment.payload.startswith(_EXIF):
            return exif.orientation(segment.payload[len(_EXIF) :])
    return 1


def _profile(segments: list[_Segment]) -> bytes | None:
    parts = {}
    for segment in segments:
        payload = segment.payload
        if segment.code == _APP2 and payload.startswith(_ICC) and len(payload) > 14:
            parts[payload[12]] = payload[14:]
    whole = b"".join(parts[number] for number in sorted(parts))
    return clean_profile(whole) if 0 < len(whole) <= MAX_PROFILE_BYTES else None


def _density(segments: list[_Segment]) -> tuple[int, int] | None:
    for segment in segments:
        if segment.code == _APP0 and segment.payload.startswith(b"JFIF\0"):
            if len(segment.payload) < 12:
                return None
            units, across, down = struct.unpack_from(">BHH", segment.payload, 7)
            per_metre = {1: 1 / 0.0254, 2: 100.0}.get(units)
            if per_metre is None or not across or not down:
                return None
            return round(across * per_metre), round(down * per_metre)
    return None


def _removed(segments: list[_Segment], profile: bytes | None, *, trailing: bool) -> tuple[str, ...]:
    found = {kind for segment in segments for kind in _kinds(segment)}
    if profile is None and "profile" in found:
        found.add("whole-profile")
    if trailing:
        found.add("trailing")
    return tuple(sorted(found))


def _kinds(segment: _Segment) -> Iterator[str]:
    if segment.code == _COM:
        yield "comment"
    if segment.code == _APP2 and segment.payload.startswith(_ICC):
        yield "profile"
        return
    if segment.code == _APP0 and segment.payload.startswith(b"JFIF\0"):
        if len(segment.payload) > 14:
            yield "thumbnail"
        return
    if segment.code == _APP14:
        return
    if 0xE0 <= segment.code <= 0xEF:
        names = [
            name
            for code, start, name in _KINDS
            if segment.code == code and segment.payload.startswith(start)
        ]
        yield names[0] if names else "application"


def _with_segments(picture: bytes, turned: int, profile: bytes | None) -> bytes:
    """Put orientation and profile after the JFIF segment, or first if there is none."""
    position = _after_jfif(picture)
    new = b""
    if turned != 1:
        new += _segment(_APP1, _EXIF + exif.with_orientation(turned))
    parts = [profile[at : at + _CHUNK] for at in range(0, len(profile), _CHUNK)] if profile else []
    for number, part in enumerate(parts, start=1):
        new += _segment(_APP2, _ICC + bytes([number, len(parts)]) + part)
    return picture[:position] + new + picture[position:]


def _after_jfif(picture: bytes) -> int:
    return 4 + int.from_bytes(picture[4:6], "big") if picture[2:4] == b"\xff\xe0" else 2


def _segment(code: int, payload: bytes) -> bytes:
    return bytes([0xFF, code]) + (len(payload) + 2).to_bytes(2, "big") + payload

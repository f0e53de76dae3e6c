"""A colour profile's numbers without its texts (ICC.1:2022).

Descriptions, copyright, maker, dates and private tags are left out; a profile needs a description
and a copyright, so it gets ours. Each kept tag is cut to the length that its own type implies, and
the whole is laid out anew, so that nothing stands between tags.
"""

from __future__ import annotations

import struct

MAX_BYTES = 4 << 20
_HEADER = 128
_NUMERIC = {
    b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt", b"bkpt", b"lumi", b"chad",
    b"rTRC", b"gTRC", b"bTRC", b"kTRC",
    b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2", b"gamt",
}  # fmt: skip
_PARAMETERS = (1, 3, 4, 5, 7)
"""Numbers of a parametric curve, by its function (section 10.18)."""
_FIXED = {b"XYZ ": 20, b"sf32": 8 + 4 * 9}
_KEPT_HEADER = ((8, 24), (36, 40), (64, 80))
"""Version, class and colour spaces; the signature; intent and illuminant (section 7.2)."""


def clean_profile(profile: bytes) -> bytes | None:
    """Return a profile with the same numbers, or None for one that can't be cleaned."""
    try:
        return _clean(profile)
    except (struct.error, IndexError):
        return None


def _clean(profile: bytes) -> bytes | None:
    if not _HEADER + 4 <= len(profile) <= MAX_BYTES or profile[36:40] != b"acsp":
        return None
    count = struct.unpack_from(">I", profile, _HEADER)[0]
    if count > 100:
        return None
    kept: dict[bytes, bytes] = {b"desc": _description(profile[8]), b"cprt": _text(profile[8])}
    for index in range(count):
        name, start, size = struct.unpack_from(">4sII", profile, _HEADER + 4 + 12 * index)
        if name in _NUMERIC:
            data = profile[start : start + size]
            length = _length(data)
            if length is None or length > len(data):
                return None
            kept[name] = data[:4] + bytes(4) + data[8:length]
    if not ({b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"} <= kept.keys()
            or b"A2B0" in kept or b"kTRC" in kept):  # fmt: skip
        return None
    header = bytearray(_HEADER)
    for start, stop in _KEPT_HEADER:
        header[start:stop] = profile[start:stop]
    return _lay_out(header, kept)


def _lay_out(header: bytearray, tags: dict[bytes, bytes]) -> bytes:
    place = _HEADER + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    places: dict[bytes, int] = {}
    for name, data in tags.items():
        if data not in places:
            places[data] = place + len(body)
            body += data + bytes(-len(data) % 4)
        table += struct.pack(">4sII", name, places[data], len(data))
    struct.pack_into(">I", header, 0, place + len(body))
    return bytes(header) + table + body


def _length(data: bytes) -> int | None:
    """Return how many bytes a tag's own type says it has; None for a type that is not kept."""
    kind = data[:4]
    if kind in _FIXED:
        return _FIXED[kind]
    if kind == b"curv":
        return 12 + 2 * int(struct.unpack_from(">I", data, 8)[0])
    if kind == b"para":
        return 12 + 4 * _PARAMETERS[struct.unpack_from(">H", data, 8)[0]]
    inputs, outputs, grid = data[8], data[9], data[10]
    if kind == b"mft1":
        return int(48 + 256 * inputs + grid**inputs * outputs + 256 * outputs)
    if kind == b"mft2":
        before, after = struct.unpack_from(">HH", data, 48)
        return int(52 + 2 * (before * inputs + grid**inputs * outputs + after * outputs))
    return None


def _text(version: int) -> bytes:
    if version >= 4:
        return _unicode("None")
    return b"text" + bytes(4) + b"None\0"


def _description(version: int) -> bytes:
    if version >= 4:
        return _unicode("Profile")
    return b"desc" + bytes(4) + struct.pack(">I", 8) + b"Profile\0" + bytes(4 + 4 + 2 + 1 + 67)


def _unicode(text: str) -> bytes:
    data = text.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(data), 28) + data

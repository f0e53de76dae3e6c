"""Colour profiles without text: what turns numbers into colours stays, all else goes.

ICC.1:2022. A profile names its maker, its device's model and serial number, when it was measured,
and often who did it. Rebuilt is the header (clause 7.2) without dates, makers and identifiers, and
of the tags (clause 9) those with which colours are computed, each cut to what its own counts say.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

MAX_BYTES = 4 << 20
_HEADER = 128
_MAX_TAGS = 100
_CLASSES = (b"scnr", b"mntr", b"prtr", b"spac")
_SPACES = (b"RGB ", b"GRAY", b"CMYK", b"Lab ")
_CONNECTIONS = (b"XYZ ", b"Lab ")
_KEPT = (
    *(b"wtpt", b"bkpt", b"chad", b"lumi", b"cicp"),
    *(b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC", b"kTRC"),
    *(b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2", b"gamt"),
)
_REQUIRED = (b"desc", b"cprt")
_PARAMETERS = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}


def clean_profile(profile: bytes) -> bytes | None:
    """Return the profile with nothing but colour in it, None if it isn't one that can be."""
    try:
        return _clean(profile)
    except (struct.error, IndexError, ValueError):
        return None


def _clean(profile: bytes) -> bytes | None:
    if len(profile) > MAX_BYTES or profile[36:40] != b"acsp":
        return None
    kind, space, connection = profile[12:16], profile[16:20], profile[20:24]
    if kind not in _CLASSES or space not in _SPACES or connection not in _CONNECTIONS:
        return None
    version = min(profile[8], 4)
    tags: dict[bytes, bytes] = {name: _text(name, version) for name in _REQUIRED}
    (count,) = struct.unpack_from(">I", profile, _HEADER)
    if count > _MAX_TAGS:
        return None
    for number in range(count):
        name, start, size = struct.unpack_from(">4sII", profile, _HEADER + 4 + 12 * number)
        if name in _KEPT:
            element = _element(profile[start : start + size])
            if element is None:
                return None
            tags[name] = element
    (intent,) = struct.unpack_from(">I", profile, 64)
    header = bytearray(_HEADER)
    header[8], header[9] = version, profile[9]
    header[12:24] = kind + space + connection
    # A fixed date, as the field may not be empty: the first of January 2000.
    header[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    header[36:40] = b"acsp"
    header[64:68] = struct.pack(">I", intent if intent <= 3 else 0)
    header[68:80] = bytes.fromhex("0000f6d6000100000000d32d")  # D50, clause 7.2.16
    return _assemble(header, tags)


def _assemble(header: bytearray, tags: dict[bytes, bytes]) -> bytes:
    table, body = [], b""
    start = _HEADER + 4 + 12 * len(tags)
    places: dict[bytes, int] = {}
    for name, element in tags.items():
        if element not in places:
            places[element] = start + len(body)
            body += element + bytes(-len(element) % 4)
        table.append(struct.pack(">4sII", name, places[element], len(element)))
    whole = bytes(header) + struct.pack(">I", len(tags)) + b"".join(table) + body
    return struct.pack(">I", len(whole)) + whole[4:]


def _text(name: bytes, version: int) -> bytes:
    """Return a text that the standard requires and that says nothing (clauses 10.15, 10.24)."""
    if version >= 4:
        # One record, English (US): a hyphen in UTF-16.
        return b"mluc" + struct.pack(">III2s2sII", 0, 1, 12, b"en", b"US", 2, 28) + b"\0-"
    if name == b"desc":
        return b"desc" + struct.pack(">II", 0, 2) + b"-\0" + bytes(4 + 4 + 2 + 1 + 67)
    return b"text" + bytes(4) + b"-\0"


def _element(data: bytes) -> bytes | None:
    """Return a tag's element cut to its own size, None for a type that holds other things."""
    measure = _SIZES.get(data[:4])
    if measure is None:
        return None
    size = measure(data)
    if not 8 <= size <= len(data):
        return None
    return data[:4] + bytes(4) + data[8:size]


def _curve(data: bytes) -> int:
    return 12 + 2 * int(struct.unpack_from(">I", data, 8)[0])


def _parametric(data: bytes) -> int:
    return 12 + 4 * _PARAMETERS[min(struct.unpack_from(">H", data, 8)[0], 5)]


def _table(data: bytes) -> int:
    """lut8Type and lut16Type: input tables, colour table, output tables (10.10, 10.11)."""
    inputs, outputs, grid = data[8], data[9], data[10]
    if not 1 <= inputs <= 4 or not 1 <= outputs <= 4:
        raise ValueError
    colours: int = grid**inputs * outputs
    if data[:4] == b"mft1":
        return 48 + 256 * inputs + colours + 256 * outputs
    before, after = struct.unpack_from(">HH", data, 48)
    return 52 + 2 * (int(before) * inputs + colours + int(after) * outputs)


_SIZES: dict[bytes, Callable[[bytes], int]] = {
    b"XYZ ": lambda data: 20,
    b"curv": _curve,
    b"para": _parametric,
    b"sf32": lambda data: 8 + 9 * 4,
    b"mft1": _table,
    b"mft2": _table,
    b"cicp": lambda data: 12,
}

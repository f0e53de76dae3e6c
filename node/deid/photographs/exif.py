"""The one thing kept of Exif: which way up a picture is (Exif 2.32, tag 274)."""

from __future__ import annotations

import struct

_ORIENTATION = 274
_SHORT = 3
_MAX_ENTRIES = 1000


def orientation(exif: bytes) -> int:
    """Return the orientation (1 to 8) that a TIFF structure states, 1 if it states none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return 1
    (start,) = struct.unpack_from(f"{order}I", exif, 4)
    if start + 2 > len(exif):
        return 1
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    for number in range(min(count, _MAX_ENTRIES)):
        at = start + 2 + 12 * number
        if at + 12 > len(exif):
            break
        tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, at)
        if tag == _ORIENTATION:
            return int(value) if kind == _SHORT and 1 <= value <= 8 else 1
    return 1


def with_orientation(value: int) -> bytes:
    """Return a TIFF structure that states this orientation and nothing else."""
    return b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, _ORIENTATION, _SHORT, 1, value, 0, 0)

"""A NIfTI-1 volume in, the same voxels out, with no word about whose they are.

Kept are the voxels, their type and scale, and where they lie in space. Everything else of the file
goes: description, name of the database, further file and intent, times of acquisition, extensions,
what stands between header and voxels or after them, the packed file's name and time
(nifti1.h; RFC 1952, section 2.3). In the description's place stands the subject's pseudonym, so
that two patients' same voxels, of blank masks say, stay two files.

Voxels aren't looked at: that a volume is tomography, without writing in it, is the hospital's own
word. A head shows its face, as it does in DICOM.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from node.deid.elements import Buffer
from node.deid.photographs.container import said_subject
from node.deid.photographs.photograph import Matcher, check_nothing_left
from node.deid.reading import Unsafe

MAX_BYTES = 2**30
"""Of a volume's voxels."""
_HEADER, _VOXELS = 348, 352
_FURTHEST = 2**26
"""Where voxels may begin, behind extensions: no more is unpacked for these."""
_MAGIC = b"n+1\0"
_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4",
}  # fmt: skip
_PACKED = b"\x1f\x8b"
_DESCRIPTION, _DESCRIPTION_BYTES = 148, 80
_KNOWN_CODES = range(6)
"""Of the coordinates that the file's maps lead to."""
_SPATIAL_UNITS = 7


@dataclass(frozen=True)
class CleanVolume:
    """A volume that is safe: an unpacked ``.nii``, little-endian."""

    data: bytes
    slices: int
    rows: int
    columns: int


def is_volume(data: Buffer) -> bool:
    """Say whether a file is NIfTI-1 with its voxels in it, packed or not."""
    head = bytes(data[:_HEADER])
    if head[:2] == _PACKED:
        try:
            head = zlib.decompressobj(wbits=31).decompress(bytes(data[:65536]), _HEADER)
        except zlib.error:
            return False
    return head[344:348] == _MAGIC


def clean_volume(data: Buffer, *, matcher: Matcher | None, subject: str = "") -> CleanVolume:
    """Return the volume without anything but its voxels, where they lie, and ``subject``.

    ``Unsafe`` for what isn't one whole volume of real numbers, and when a word that identifies can
    be read in the voxels.
    """
    head, rest = _opened(data)
    order: Literal["<", ">"] = "<" if head[:4] == struct.pack("<i", _HEADER) else ">"
    if head[:4] != struct.pack(f"{order}i", _HEADER) or head[344:348] != _MAGIC:
        raise Unsafe("unsupported-image")
    number, *sides = struct.unpack_from(f"{order}8h", head, 40)
    code = struct.unpack_from(f"{order}h", head, 70)[0]
    if not 3 <= number <= 7 or min(sides[:number]) < 1 or code not in _TYPES:
        raise Unsafe("unsupported-image")
    if math.prod(sides[3:number]) != 1:
        raise Unsafe("several-images")
    columns, rows, slices = sides[:3]
    kind = np.dtype(_TYPES[code])
    size = columns * rows * slices * kind.itemsize
    start = struct.unpack_from(f"{order}f", head, 108)[0]
    if size > MAX_BYTES:
        raise Unsafe("too-large-pixels")
    if not _VOXELS <= start <= _FURTHEST:
        raise Unsafe("unsupported-image")
    stored = rest.read(int(start), size)
    if len(stored) != size:
        raise Unsafe("truncated")
    made = bytearray(_VOXELS)
    struct.pack_into("<i", made, 0, _HEADER)
    struct.pack_into("<8h", made, 40, 3, columns, rows, slices, 1, 1, 1, 1)
    struct.pack_into("<2h", made, 70, code, 8 * kind.itemsize)
    sides_mm = struct.unpack_from(f"{order}4f", head, 76)
    struct.pack_into("<8f", made, 76, *map(_number, sides_mm), 0, 0, 0, 0)
    slope, inter = struct.unpack_from(f"{order}2f", head, 112)
    struct.pack_into("<3f", made, 108, _VOXELS, _number(slope), _number(inter))
    made[123] = head[123] & _SPATIAL_UNITS
    maps = struct.unpack_from(f"{order}2h", head, 252)
    struct.pack_into("<2h", made, 252, *(n if n in _KNOWN_CODES else 0 for n in maps))
    places = struct.unpack_from(f"{order}18f", head, 256)
    struct.pack_into("<18f", made, 256, *map(_number, places))
    made[344:348] = _MAGIC
    voxels = np.frombuffer(stored, kind.newbyteorder(order)).astype(kind.newbyteorder("<"))
    body = voxels.tobytes()
    check_nothing_left(bytes(made) + body, matcher)
    struct.pack_into(f"{_DESCRIPTION_BYTES}s", made, _DESCRIPTION, said_subject(subject))
    return CleanVolume(bytes(made) + body, slices, rows, columns)


def _number(value: float) -> float:
    return value if math.isfinite(value) else 0.0


class _Plain:
    def __init__(self, data: Buffer) -> None:
        self._data = data

    def read(self, start: int, size: int) -> bytes:
        return bytes(self._data[start : start + size])


class _Packed:
    """Unpacks no more than is asked for, so that a small file can't become a large one."""

    def __init__(self, data: Buffer) -> None:
        self._data = data

    def read(self, start: int, size: int) -> bytes:
        unpacker = zlib.decompressobj(wbits=31)
        try:
            return unpacker.decompress(self._data, start + size)[start:]
        except zlib.error:
            raise Unsafe("unreadable") from None


def _opened(data: Buffer) -> tuple[bytes, _Plain | _Packed]:
    rest = _Packed(data) if bytes(data[:2]) == _PACKED else _Plain(data)
    head = rest.read(0, _HEADER)
    if len(head) < _HEADER:
        raise Unsafe("truncated")
    return head, rest

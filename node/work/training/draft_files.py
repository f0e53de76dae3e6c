"""What a draft may be: its name, and its kind by what the file's first bytes say. Pure.

A recipe wrote it, so it is a stranger's: nothing is decoded but a header of bounded size. Sources:
PNG (ISO/IEC 15948) sections 5 and 11.2.2; NIfTI-1.1 (nifti1.h); DICOM PS3.10 section 7.1.
"""

from __future__ import annotations

import json
import re
import struct
import zlib

from contract.errors import DocumentError

MAX_JSON_BYTES = 4 * 2**20
MAX_SIDE = 2**20
NAME = re.compile(
    r"(?P<asset>[0-9a-f]{64})(-[A-Za-z0-9_]{1,32})?\.(?P<suffix>dcm|png|nii|nii\.gz|json)"
)
KINDS = {
    "dcm": "dicom-seg",
    "png": "png",
    "nii": "nifti",
    "nii.gz": "nifti",
    "json": "json",
}
SEGMENTATION = b"1.2.840.10008.5.1.4.1.1.66.4"
_PNG = b"\x89PNG\r\n\x1a\n"
_HEADER_BYTES = 348
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT")


def check_name(name: str) -> tuple[str, str]:
    """Return the asset that a draft is of, and its kind; ``DocumentError`` for another name."""
    found = NAME.fullmatch(name)
    if found is None:
        raise DocumentError("A draft's name is not ASSET[-LABEL].SUFFIX.")
    return found["asset"], KINDS[found["suffix"]]


def check_content(name: str, data: bytes) -> None:
    """Raise ``DocumentError`` when a file isn't what its name says."""
    suffix = check_name(name) and name.partition(".")[2]
    sound = {
        "dcm": _is_segmentation,
        "png": _is_png,
        "nii": _is_nifti,
        "nii.gz": _is_packed_nifti,
        "json": _is_json,
    }[suffix](data)
    if not sound:
        raise DocumentError(f"A draft is no {KINDS[suffix]} file.")


def _is_png(data: bytes) -> bool:
    """Signature, an IHDR chunk of a possible size with its checksum, and an IEND chunk last."""
    if len(data) < 57 or not data.startswith(_PNG) or data[8:16] != b"\0\0\0\x0dIHDR":
        return False
    width, height, _, _, packed, filtered, interlaced = struct.unpack("!IIBBBBB", data[16:29])
    checked = struct.unpack("!I", data[29:33])[0] == zlib.crc32(data[12:29])
    sized = 0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE
    ends = data.endswith(b"\0\0\0\0IEND\xaeB`\x82")
    return checked and sized and ends and packed == filtered == 0 and interlaced in (0, 1)


def _is_nifti(data: bytes) -> bool:
    """NIfTI-1 in one file: size of the header, dimensions, magic, and voxels to the end."""
    if len(data) < _HEADER_BYTES:
        return False
    for order in ("<", ">"):
        if struct.unpack_from(f"{order}i", data)[0] == _HEADER_BYTES:
            dimensions = struct.unpack_from(f"{order}8h", data, 40)
            return (
                data[344:348] == b"n+1\0"
                and 1 <= dimensions[0] <= 7
                and all(side >= 1 for side in dimensions[1 : dimensions[0] + 1])
            )
    return False


def _is_packed_nifti(data: bytes) -> bool:
    try:
        head = zlib.decompressobj(wbits=31).decompress(data, _HEADER_BYTES)
    except zlib.error:
        return False
    return _is_nifti(head)


def _is_json(data: bytes) -> bool:
    if len(data) > MAX_JSON_BYTES:
        return False
    try:
        return isinstance(json.loads(data), dict | list)
    except (ValueError, RecursionError):
        return False


def _is_segmentation(data: bytes) -> bool:
    """A DICOM file whose file meta group names the class of segmentations."""
    if data[128:132] != b"DICM":
        return False
    at = 132
    try:
        while at < min(len(data), 65_536):
            group, element, vr = struct.unpack_from("<HH2s", data, at)
            if group != 2:
                return False
            if vr in _LONG:
                (length,) = struct.unpack_from("<I", data, at + 8)
                at += 12
            else:
                (length,) = struct.unpack_from("<H", data, at + 6)
                at += 8
            if element == 2:
                return data[at : at + length].rstrip(b"\0 ") == SEGMENTATION
            at += length
    except struct.error:
        pass
    return False

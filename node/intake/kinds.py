"""What kind of file something is, by what is in it; a name counts for text alone.

DICOM, slides, photographs, NIfTI volumes and text are taken in. An archive is never opened: what is
in it would be taken in without a name, a limit or a count. Other kinds are told apart so that a
quarantine's reasons say what a hospital has.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Literal

from node.deid.elements import Buffer
from node.deid.photographs import photograph
from node.deid.reading import Reason, Unsafe
from node.deid.slides import Format, recognise
from node.deid.volume import is_volume

Kind = Literal["dicom", "slide", "photograph", "volume", "report"]

REPORT_SUFFIX = ".txt"
MAX_REPORT_BYTES = 4 * 2**20
_ARCHIVES: tuple[tuple[int, bytes], ...] = (
    (0, b"PK\x03\x04"),
    (0, b"PK\x05\x06"),
    (0, b"PK\x07\x08"),
    (0, b"\x1f\x8b"),
    (0, b"BZh"),
    (0, b"\xfd7zXZ\x00"),
    (0, b"7z\xbc\xaf\x27\x1c"),
    (0, b"Rar!\x1a\x07"),
    (0, b"\x28\xb5\x2f\xfd"),
    (0, b"\x04\x22\x4d\x18"),
    (0, b"MSCF"),
    (0, b"\x1f\x9d"),
    (0, b"!<arch>\n"),
    (257, b"ustar"),
    (0x8001, b"CD001"),
)
_NAMED: tuple[tuple[int, bytes, Reason], ...] = (
    (344, b"n+1\0", "nifti"),
    (344, b"ni1\0", "nifti"),
    (4, b"n+2\0\r\n\x1a\n", "nifti"),
    (4, b"ni2\0\r\n\x1a\n", "nifti"),
    (0, b"%PDF-", "pdf"),
)
_NIFTI_HEAD = 352
_CODECS = ("utf-8-sig", "utf-16", "gb18030", "cp1252")


def kind_of(data: Buffer, path: Path | None, *, listed: bool) -> tuple[Kind, Format | None]:
    """Return what is to be taken in as what; ``Unsafe`` names what can't be.

    ``path`` is the file's, None for what came by network: only DICOM does. ``listed`` says whether
    the hospital's manifest has a line for it.
    """
    if not len(data):
        raise Unsafe("empty")
    if bytes(data[128:132]) == b"DICM" or path is None:
        return "dicom", None
    if is_volume(data):
        return "volume", None
    reason = _named(data)
    if reason is not None:
        raise Unsafe(reason)
    head = bytes(data[:8])
    slide = recognise(path)
    if slide is not None and slide is not Format.PLAIN_TIFF:
        if slide.refused:
            raise Unsafe("slide-format-refused")
        return "slide", slide
    if photograph.recognise(head) is not None:
        return "photograph", None
    if path.suffix.lower() == REPORT_SUFFIX and (listed or _is_text(data)):
        return "report", None
    return "dicom", None


def read_text(data: Buffer) -> str:
    """Return a report's text; ``Unsafe`` when it is none, or longer than a report."""
    if len(data) > MAX_REPORT_BYTES:
        raise Unsafe("too-large")
    if not _is_text(data):
        raise Unsafe("not-text")
    raw = bytes(data)
    for codec in _CODECS:
        if codec == "utf-16" and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            continue
        try:
            return raw.decode(codec)
        except UnicodeDecodeError:
            continue
    raise Unsafe("not-text")


def _named(data: Buffer) -> Reason | None:
    for place, magic, reason in _NAMED:
        if bytes(data[place : place + len(magic)]) == magic:
            return reason
    if any(bytes(data[at : at + len(magic)]) == magic for at, magic in _ARCHIVES):
        return "nifti" if _is_packed_nifti(data) else "archive"
    return None


def _is_packed_nifti(data: Buffer) -> bool:
    if bytes(data[:2]) != b"\x1f\x8b":
        return False
    try:
        head = zlib.decompressobj(wbits=31).decompress(bytes(data[:65536]), _NIFTI_HEAD)
    except zlib.error:
        return False
    return any(
        reason == "nifti" and head[at : at + len(magic)] == magic for at, magic, reason in _NAMED
    )


def _is_text(data: Buffer) -> bool:
    head = bytes(data[:4096])
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    return not any(byte < 32 and byte not in (9, 10, 12, 13, 27) for byte in head)

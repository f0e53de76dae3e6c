"""What a file is, by its first bytes; a name's ending proves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from node.deid.reading import Unsafe

Kind = Literal["dicom", "dicomdir", "archive", "photograph", "slide", "part-of-slide", "other"]

_DIRECTORY_CLASS = b"1.2.840.10008.1.3.10"
_ARCHIVES = (
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"PK\x07\x08",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"\x1f\x8b",
    b"\x1f\x9d",
    b"BZh",
    b"\xfd7zXZ\0",
    b"\x28\xb5\x2f\xfd",
    b"MSCF",
)
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NEVER_SLIDES = (b"\xff\xd8\xff", b"\x89PNG")


def kind_of(head: bytes, path: str) -> Kind:
    """Return the kind of a file that begins with ``head`` (400 bytes or more).

    "other" may still be a DICOM file without a preamble, or a slide that is refused by name.
    """
    if head[128:132] == b"DICM":
        return "dicomdir" if _DIRECTORY_CLASS in head[132:600] else "dicom"
    if head.startswith(_ARCHIVES) or head[257:262] == b"ustar":
        return "archive"
    if head.startswith(_PICTURES):
        return _picture(head, path)
    if path.lower().endswith((".dat", ".ini")) and _belongs_to_slide(path):
        return "part-of-slide"
    return "other"


def _picture(head: bytes, path: str) -> Kind:
    from node.deid.slides import Format, recognise

    if head.startswith(_NEVER_SLIDES) and not path.lower().endswith(".mrxs"):
        return "part-of-slide" if _belongs_to_slide(path) else "photograph"
    try:
        form = recognise(Path(path))
    except Unsafe:
        return "photograph"
    if form is None or form is Format.PLAIN_TIFF:
        return "photograph"
    return "slide"


def is_refused_slide(path: str) -> bool:
    """Say whether a file is a slide in a format that is refused."""
    from node.deid.slides import recognise

    try:
        form = recognise(Path(path))
    except Unsafe:
        return False
    return form is not None and form.refused


def _belongs_to_slide(path: str) -> bool:
    from node.deid.slides import belongs_to_slide

    return belongs_to_slide(Path(path))

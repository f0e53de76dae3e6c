"""Which slide format a file is in, by what is in it and never by its name's ending."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

from node.deid.reading import Unsafe
from node.deid.slides.facts import Format
from node.deid.slides.tiff import NDPI_MARK, Directory, Tiff, Variant, is_tiff

SLIDEDAT = "Slidedat.ini"
_HEAD_BYTES = 4096
_TEXT_BYTES = 1 << 16
_MAGIC = (
    (b"ZISRAWFILE", Format.CZI),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Format.OLE),
    (b"SIS\0", Format.ETS),
    (b"\x0a\xbe\xce\xda", Format.ND2),
    (b"\xda\xce\xbe\x0a", Format.ND2),
    (b"OLYMPUSRAWFORMAT", Format.OIR),
    (b"KFB\0", Format.KFB),
    (b"\x70\0\0\0", Format.LIF),
    (b"SQ\x02\0", Format.SDPC),
    (b"SQLite format 3\0", Format.SAKURA),
)
_WORDS = (
    (re.compile(rb"\[(Uncompressed )?Virtual Microscope Specimen\]"), Format.VMS),
    (re.compile(rb"<DataObject ObjectType=\"DPUfsImport\""), Format.ISYNTAX),
)
_APERIO = b"Aperio"


def recognise(path: Path) -> Format | None:
    """Return the format of the slide at ``path``, None when it is none.

    A MIRAX slide is the file beside a folder of the same name that has a Slidedat.ini. DICOM is
    not recognised here. ``Unsafe`` for a TIFF whose structure can't be read.
    """
    if _slidedat(path) is not None:
        return Format.MIRAX
    if not path.is_file():
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        head = os.pread(descriptor, _HEAD_BYTES, 0)
        # A DICOM file's preamble may be that of a TIFF (PS3.10 section 7.1).
        if is_tiff(head) and head[128:132] != b"DICM":
            return _recognise_tiff(Tiff(descriptor))
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError, struct.error):
        raise Unsafe("unreadable-slide") from None
    finally:
        os.close(descriptor)
    return _recognise_other(head)


def _recognise_other(head: bytes) -> Format | None:
    for magic, form in _MAGIC:
        if head.startswith(magic):
            return form if _is_whole(form, head) else None
    return next((form for words, form in _WORDS if words.search(head)), None)


def members(path: Path) -> tuple[Path, ...]:
    """Return the further files of the MIRAX slide at ``path``, sorted; of others none."""
    slidedat = _slidedat(path)
    return () if slidedat is None else tuple(sorted(slidedat.parent.iterdir()))


def belongs_to_slide(path: Path) -> bool:
    """Say whether a file is part of a MIRAX slide and comes in with its .mrxs, not by itself."""
    folder = path.parent
    return (folder / SLIDEDAT).is_file() and any(
        folder.with_name(folder.name + ending).is_file() for ending in (".mrxs", ".MRXS", ".Mrxs")
    )


def _slidedat(path: Path) -> Path | None:
    if not path.suffix or not path.is_file():
        return None
    slidedat = path.with_suffix("") / SLIDEDAT
    return slidedat if slidedat.is_file() else None


def _is_whole(form: Format, head: bytes) -> bool:
    """A short magic alone proves little."""
    if form is Format.LIF:
        return head[8:9] == b"\x2a"
    # Any SQLite database begins like a Sakura slide; only the caller's other readers can tell.
    return form is not Format.SAKURA or b"SVSlide" in head or b"svslide" in head.lower()


def _recognise_tiff(tiff: Tiff) -> Format:
    first = tiff.directories[0]
    description = _text(tiff, first, 270)
    program = _text(tiff, first, 305)
    refused = _refused_tiff(tiff, first, description, program)
    if refused is not None:
        return refused
    if tiff.variant is Variant.NDPI or NDPI_MARK in first.entries:
        if tiff.variant is not Variant.NDPI:
            raise Unsafe("unreadable-slide")
        return Format.NDPI
    if 322 not in first.entries:
        return Format.PLAIN_TIFF
    return Format.APERIO if description.startswith(_APERIO) else Format.TILED_TIFF


def _refused_tiff(
    tiff: Tiff, first: Directory, description: bytes, program: bytes
) -> Format | None:
    packets = [_text(tiff, one, 700) for one in tiff.directories[:64]]
    named = [_text(tiff, one, 270) for one in tiff.directories[:64]]
    rules = (
        (Format.VENTANA, any(b"<iScan" in one or b"<EncodeInfo" in one for one in packets)),
        (Format.VENTANA, program.startswith((b"ScanOutputManager", b"Ventana"))),
        (
            Format.VENTANA,
            any(one.startswith((b"Label_Image", b"Probability_Image")) for one in named),
        ),
        (Format.SCN, b"<scn" in description or b"leica-microsystems.com/scn" in description),
        (Format.PHILIPS, program.startswith(b"Philips") or b"DPUfsImport" in description),
        (Format.QPTIFF, program.startswith(b"PerkinElmer-QPI")),
        (Format.QPTIFF, b"<PerkinElmer-QPI-ImageDescription" in description),
        (Format.TRESTLE, program.startswith(b"MedScan")),
        (Format.ARGOS, _text(tiff, first, 65000).startswith(b"<Argos")),
        (Format.HURON, b"Huron" in _text(tiff, first, 271) or description.startswith(b"Huron")),
        (Format.LSM, 34412 in first.entries),
        (Format.VSI, 33560 in first.entries or 33471 in first.entries),
    )
    return next((form for form, holds in rules if holds), None)


def _text(tiff: Tiff, directory: Directory, tag: int) -> bytes:
    entry = directory.entries.get(tag)
    if entry is None or entry.kind not in (1, 2, 7):
        return b""
    try:
        return tiff.value(entry, _TEXT_BYTES)
    except Unsafe:
        return b""

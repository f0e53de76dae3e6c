"""What the three formats have in common: a picture's file taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy.typing as npt

from node.deid.reading import Unsafe

MAX_BYTES = 512 << 20
MAX_PIXELS = 1 << 27
MAX_SIDE = 65_535
MAX_DECODED_BYTES = 1 << 30

Pixels = npt.NDArray[Any]
Meaning = Literal["grey", "inverted-grey", "rgb", "palette", "cmyk"]


@dataclass(frozen=True)
class Stripped:
    """A file without anything but the picture, and what is known of it."""

    data: bytes
    width: int
    height: int
    bits: int
    """Of one sample, as stored."""
    meaning: Meaning
    """Of the samples, as they are decoded."""
    orientation: int = 1
    """Exif 2.32, tag 274: which way up the picture is to be shown; the pixels are as stored."""
    profile: bytes | None = None
    """The colour profile, cleaned."""
    density: tuple[int, int] | None = None
    """Pixels per metre across and down, if they are stated."""
    palette: Pixels | None = None
    """Shape (3, entries), 16 bits (TIFF)."""
    removed: tuple[str, ...] = ()
    """Kinds of what is gone, by the formats' own names."""


def said_subject(subject: str) -> bytes:
    """Return the one text that a made file has: whose it is, by the pseudonym; empty without one.

    By it two patients' same pictures are two files, as they are in DICOM.
    """
    return f"subject {subject}".encode() if subject else b""


def check_size(width: int, height: int, bytes_per_pixel: int) -> None:
    """Refuse a picture by what its header says, before any of it is decoded."""
    if width < 1 or height < 1:
        raise Unsafe("unreadable")
    if (
        max(width, height) > MAX_SIDE
        or width * height > MAX_PIXELS
        or width * height * bytes_per_pixel > MAX_DECODED_BYTES
    ):
        raise Unsafe("too-large")

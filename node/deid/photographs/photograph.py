"""A photograph in, the same picture out: no word in its file but a pseudonym, no face, no name.

Everything but the picture goes: Exif, XMP, IPTC, positions, thumbnails, makers' notes, comments,
further pictures, what follows the end. The coded picture of a JPEG or PNG stays bit for bit; a TIFF
is packed anew without loss. That the new file shows the same pixels is checked, not assumed.

Faces and text are blacked out and all other pixels stay as they were. A JPEG in which something had
to be blacked out becomes a PNG: coding it as JPEG again would change the other pixels.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from node.deid.byte_search import contains_any
from node.deid.photographs import jpeg, png, tiff
from node.deid.photographs.container import MAX_BYTES, Pixels, Stripped
from node.deid.photographs.views import upright, views, without_turn
from node.deid.pixels.image import Box
from node.deid.reading import Unsafe

if TYPE_CHECKING:
    from node.deid.photographs.faces import Face

Format = Literal["jpeg", "png", "tiff"]
Faces = Literal["mask", "quarantine", "keep"]
_SIGNATURES: tuple[tuple[bytes, Format], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (png.SIGNATURE, "png"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0\x08\0\0\0", "tiff"),
    (b"MM\0+\0\x08\0\0", "tiff"),
)
_MOST_LOOKS = 4
_SHORTEST_TERM = 6
"""Shorter words occur in compressed pixels by chance."""


class Matcher(Protocol):
    """What identifies this patient and hospital, to be found in text."""

    @property
    def terms(self) -> frozenset[str]:
        """Words and numbers that identify: NFKC, casefolded, letters and digits only."""

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return the sorted disjoint spans of ``text`` that identify."""

    def clean(self, text: str) -> str:
        """Return ``text`` without what identifies."""


@dataclass(frozen=True)
class Photograph:
    """A photograph that is safe, and what was done to it."""

    data: bytes
    format: Format
    """Of ``data``: a JPEG that was masked is a PNG."""
    width: int
    height: int
    bits: int
    """Of one sample."""
    orientation: int
    """Exif 2.32, tag 274; stated in ``data`` too unless it is 1."""
    faces: tuple[Box, ...]
    """Where faces were blacked out, in pixels as they are stored."""
    text: tuple[Box, ...]
    """Where text was."""
    removed: tuple[str, ...]
    """Kinds of what the file held besides the picture, by the formats' own names."""

    @property
    def masked(self) -> tuple[Box, ...]:
        """Everything that was blacked out."""
        return self.faces + self.text


def recognise(head: bytes) -> Format | None:
    """Return what a file is by its first 8 bytes; a slide's TIFF is a TIFF here too."""
    return next((kind for start, kind in _SIGNATURES if head.startswith(start)), None)


def clean_photograph(
    data: bytes,
    *,
    faces: Faces,
    matcher: Matcher | None,
    text: bool = True,
    subject: str = "",
) -> Photograph:
    """Return the photograph without anything that identifies, all other pixels as they were.

    ``faces`` is "keep" only for a picture whose consent covers faces. With ``text``, writing in the
    picture is read and blacked out unless it is known to be harmless. The file says ``subject``, a
    pseudonym, and no other word. ``Unsafe`` for what isn't one
    whole picture of a common kind, for a face under "quarantine", and for what may be a face or a
    lesion ("possible-face"): a person has to look.
    """
    if not data:
        raise Unsafe("empty")
    if len(data) > MAX_BYTES:
        raise Unsafe("too-large")
    form = recognise(data[:8])
    if form is None:
        raise Unsafe("unsupported-image")
    stripped, pixels = _stripped(data, form)
    masked_text = _text(stripped, pixels, matcher) if text else ()
    masked_faces = _faces(stripped, pixels, faces)
    removed = stripped.removed
    if masked_text or masked_faces:
        form = "tiff" if form == "tiff" else "png"
        stripped = _masked(stripped, pixels, masked_text + masked_faces, form)
    check_nothing_left(stripped.data, matcher)
    named = {"jpeg": jpeg, "png": png, "tiff": tiff}[form].with_subject if subject else None
    return Photograph(
        stripped.data if named is None else named(stripped.data, subject),
        form,
        stripped.width,
        stripped.height,
        stripped.bits,
        stripped.orientation,
        masked_faces,
        masked_text,
        removed,
    )


def _stripped(data: bytes, form: Format) -> tuple[Stripped, Pixels]:
    """Return the file with its picture alone, and the picture, after comparing both."""
    if form == "tiff":
        stripped, pixels = tiff.strip(data)
        again = tiff.strip(stripped.data)[1]
    else:
        module = jpeg if form == "jpeg" else png
        stripped = module.strip(data)
        pixels = module.decode(data)
        if form == "jpeg":
            stripped = replace(stripped, data=jpeg.without_unread_bytes(stripped.data, pixels))
        again = module.decode(stripped.data)
    if pixels.shape[:2] != (stripped.height, stripped.width):
        raise Unsafe("unreadable")
    if pixels.dtype != again.dtype or not np.array_equal(pixels, again):
        raise Unsafe("unreadable")
    return stripped, pixels


def _faces(stripped: Stripped, pixels: Pixels, faces: Faces) -> tuple[Box, ...]:
    """Return what has to be masked so that no face is left."""
    if faces == "keep":
        return ()
    masked: tuple[Box, ...] = ()
    for _ in range(_MOST_LOOKS):
        found = _seen(stripped, _painted(pixels, masked, stripped))
        if not found:
            return masked
        if faces == "quarantine":
            raise Unsafe("face")
        # What is left of a face beside its mask goes too.
        if any(not face.certain and not _touches(face.box, masked) for face in found):
            raise Unsafe("possible-face")
        masked += tuple(face.box for face in found)
    raise Unsafe("face")


def _seen(stripped: Stripped, pixels: Pixels) -> list[Face]:
    from node.deid.photographs.faces import find_faces

    return sorted({face for view in views(stripped, pixels) for face in find_faces(view)})


def _touches(box: Box, others: tuple[Box, ...]) -> bool:
    return any(box.meet(other).width > 0 and box.meet(other).height > 0 for other in others)


def _text(stripped: Stripped, pixels: Pixels, matcher: Matcher | None) -> tuple[Box, ...]:
    from node.deid.photographs.text import find_text

    found = {
        without_turn(box, stripped)
        for view in views(stripped, pixels)
        for box in find_text(upright(view, stripped.orientation), matcher)
    }
    return tuple(sorted(found))


def _masked(stripped: Stripped, pixels: Pixels, boxes: tuple[Box, ...], form: Format) -> Stripped:
    """Return the picture with black boxes, as a file without loss."""
    if form == "png" and stripped.meaning == "cmyk":
        # PNG has no such colours, and a JPEG's can't be changed without loss.
        raise Unsafe("unsupported-image")
    painted = _painted(pixels, boxes, stripped)
    if form == "tiff":
        data = tiff.encode(painted, stripped)
        again = tiff.strip(data)[1]
    else:
        data = png.encode(painted, stripped)
        again = png.decode(data)
    if not np.array_equal(painted, again):
        raise Unsafe("unreadable")
    bits = painted.dtype.itemsize * 8 if form == "png" else stripped.bits
    return replace(stripped, data=data, bits=bits)


def _painted(pixels: Pixels, boxes: tuple[Box, ...], stripped: Stripped) -> Pixels:
    """Return a copy in which the boxes are black, and opaque."""
    painted = pixels.copy()
    black = _black(stripped, pixels)
    for box in boxes:
        painted[box.y0 : box.y1, box.x0 : box.x1] = black
    return painted


def _black(stripped: Stripped, pixels: Pixels) -> Pixels:
    """Return the samples of an opaque black pixel, shape () or (samples,)."""
    most = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "ui" else 1
    if stripped.meaning == "palette" and stripped.palette is not None:
        return np.asarray(stripped.palette.astype(np.int64).sum(axis=0).argmin(), pixels.dtype)
    colours = {"grey": [0], "inverted-grey": [most], "rgb": [0] * 3, "cmyk": [0, 0, 0, most]}
    values = colours.get(stripped.meaning, [0])
    if pixels.ndim == 2:
        return np.asarray(values[0], pixels.dtype)
    return np.asarray(values + [most] * (pixels.shape[2] - len(values)), pixels.dtype)


def check_nothing_left(data: bytes, matcher: Matcher | None) -> None:
    """Look through the bytes for words that are known to identify, however they are hidden."""
    if matcher is None:
        return
    words = {
        spelling.encode(encoding, "ignore")
        for term in matcher.terms
        if len(term) >= _SHORTEST_TERM
        for spelling in (term, unicodedata.normalize("NFC", term))
        for encoding in ("utf-8", "utf-16-le", "utf-16-be")
    }
    if contains_any(data, words):
        raise Unsafe("identifier-left")

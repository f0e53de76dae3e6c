"""One slide in, one slide out that says nothing about its patient."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Protocol

from node.deid.pseudonyms import Pseudonyms
from node.deid.reading import Unsafe
from node.deid.slides.facts import Format, SlideFacts
from node.deid.slides.recognition import recognise


class Matcher(Protocol):
    """Finds what identifies a patient in a text."""

    def spans(self, text: str) -> list[tuple[int, int]]: ...


def clean_slide(
    source: Path,
    target: Path,
    *,
    matcher: Matcher | None,
    pseudonyms: Pseudonyms,
    subject: str,
) -> SlideFacts:
    """Write the slide at ``source`` anew as ``target`` and return what it is and what went.

    A new file is made of tiles, which are copied bit for bit, and of tags and texts that are built
    from closed lists; label, macro and all else are not copied, so no byte of them is in it. For
    MIRAX, ``target`` ends with .mrxs and its folder is written beside it. ``subject`` is the
    patient's pseudonym.

    ``Unsafe`` for a format that is refused by name, for what is no slide and for one that is
    damaged or not what it says; ``AlreadyExists``, ``StorageError``. Then no file is left.
    """
    form = recognise(source)
    if form is None or form.refused:
        raise Unsafe("unreadable-slide" if form is None else "slide-format-refused")
    try:
        return _clean(source, target, form, matcher, pseudonyms, subject)
    except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError, struct.error):
        # Numbers that no slide has; what they break is a file of which nothing was taken over.
        raise Unsafe("unreadable-slide") from None


def _clean(
    source: Path,
    target: Path,
    form: Format,
    matcher: Matcher | None,
    pseudonyms: Pseudonyms,
    subject: str,
) -> SlideFacts:
    def allow(text: str) -> bool:
        return matcher is None or not matcher.spans(text)

    if form is Format.MIRAX:
        from node.deid.slides.mirax import clean_mirax

        return clean_mirax(source, target, pseudonyms, subject)
    from node.deid.slides.tiff_slides import clean_tiff

    return clean_tiff(source, target, form, subject, allow)

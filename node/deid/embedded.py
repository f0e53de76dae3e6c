"""What lies in elements of their own beside the pixels: documents and overlays."""

from __future__ import annotations

import struct

from node.deid.elements import Element
from node.deid.image_header import Header
from node.deid.parts import Parts
from node.deid.pixel_data import swapped
from node.deid.pixels.image import PixelSettings
from node.deid.profile import Profile
from node.deid.reading import Unsafe
from node.deid.values import Values
from node.deid.walk import DOCUMENT
from node.deid.walk import encode as encode_element

_MIME, DOCUMENT_LENGTH = 0x00420012, 0x00420015


class Documents:
    """Cleans an encapsulated document (PS3.3 section A.45)."""

    def __init__(self, header: Header, values: Values, profile: Profile) -> None:
        self._header = header
        self._new: bytes | None = None
        self.length = 0
        element = header.elements.get(DOCUMENT)
        if element is None:
            return
        from node.deid.documents.documents import clean_document

        raw = header.raw(DOCUMENT)
        given = header.number(DOCUMENT_LENGTH, len(raw))
        if 0 < given <= len(raw):
            raw = raw[:given]
        document = clean_document(
            raw,
            header.text(_MIME),
            values.matcher,
            characteristics=profile.settings.options.patient_characteristics,
        )
        self._new = document.data
        self.length = len(document.data)

    @property
    def length_element(self) -> dict[int, bytes]:
        """The element that tells the document's length, where there was one."""
        if self._new is None or DOCUMENT_LENGTH not in self._header.elements:
            return {}
        level = self._header.level
        value = struct.pack(("<" if level.little else ">") + "L", self.length)
        return {DOCUMENT_LENGTH: encode_element(DOCUMENT_LENGTH, "UL", value, level)}

    @property
    def cleaned(self) -> dict[int, Parts]:
        """The element with the cleaned document, by the identity of the one it replaces."""
        if self._new is None:
            return {}
        parts = Parts()
        parts.put(encode_element(DOCUMENT, "OB", self._new, self._header.level))
        return {id(self._header.elements[DOCUMENT]): parts}


def clean_overlay(
    header: Header, element: Element, values: Values, settings: PixelSettings
) -> Parts:
    """Return an overlay's data with its text erased and its graphics kept (PS3.3 C.9.2)."""
    from node.deid.pixels.bitmaps import clean_bitmap

    group, level = element.tag >> 16, header.level
    raw = header.raw(element.tag)
    rows, columns = (header.number(group << 16 | n) for n in (0x0010, 0x0011))
    frames = max(header.number(group << 16 | 0x0015, 1), 1)
    size = -(-rows * columns * frames // 8)
    if len(raw) < size:
        raise Unsafe("truncated")
    words = element.vr == "OW" and not level.little
    bits = swapped(raw) if words else raw
    new = clean_bitmap(bits[:size], rows, columns, frames, values.matcher, settings)
    new += b"\0" * (len(new) & 1)
    parts = Parts()
    vr = element.vr if element.vr in ("OB", "OW") else "OW"
    parts.put(encode_element(element.tag, vr, swapped(new) if words else new, level))
    return parts

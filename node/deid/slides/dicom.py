"""Which DICOM instances of a slide are pictures of its label."""

from __future__ import annotations

VISIBLE_LIGHT = "1.2.840.10008.5.1.4.1.1.77.1"
"""Root of the visible light image classes, whole-slide microscopy (77.1.6) among them."""
_LABELLED = frozenset({"LABEL", "OVERVIEW", "MACRO", "BARCODE"})


def drops_instance(image_type: tuple[str, ...], sop_class: str) -> bool:
    """Say whether an instance shows a slide's label, so that it must not be taken in.

    Value 3 of Image Type is LABEL or OVERVIEW (PS3.3 C.8.12.4.1.1); an overview shows the whole
    glass. Any value counts, because converters don't agree about their order.
    """
    if sop_class != VISIBLE_LIGHT and not sop_class.startswith(VISIBLE_LIGHT + "."):
        return False
    return any(value.strip(" \0").upper() in _LABELLED for value in image_type)

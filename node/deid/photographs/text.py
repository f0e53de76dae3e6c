"""Writing in a photograph: date stamps, names on labels and rulers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from node.deid.identifiers import Known
from node.deid.identifiers import Matcher as KnownMatcher
from node.deid.pixels.image import Box, Image, PixelSettings

if TYPE_CHECKING:
    from node.deid.photographs.photograph import Matcher
    from node.deid.photographs.views import Picture

_NATIVE = "1.2.840.10008.1.2.1"
_PHOTOGRAPHY = "1.2.840.10008.5.1.4.1.1.77.1.4"


def find_text(picture: Picture, matcher: Matcher | None) -> tuple[Box, ...]:
    """Return where writing is that isn't known to be harmless, in shape (rows, columns, 3).

    It is looked for as in the frames of a DICOM photograph.
    """
    from node.deid.pixels.cleaning import clean_pixels

    rows, columns = picture.shape[:2]
    image = Image(
        transfer_syntax=_NATIVE,
        rows=rows,
        columns=columns,
        samples=3,
        bits_allocated=8,
        bits_stored=8,
        high_bit=7,
        pixel_representation=0,
        photometric="RGB",
        native=memoryview(np.ascontiguousarray(picture, np.uint8).tobytes()),
        modality="XC",
        sop_class=_PHOTOGRAPHY,
    )
    cleaned = clean_pixels(image, matcher or KnownMatcher(Known()), PixelSettings(mode="ocr"))
    return tuple(cleaned.boxes.get(0, ()))

"""Text drawn into overlay planes (PS3.3 C.9.2): erased where it identifies or can't be read."""

from __future__ import annotations

import numpy as np

from node.deid.pixels import painting
from node.deid.pixels.frames import Frames
from node.deid.pixels.image import Box, Image, PixelSettings
from node.deid.pixels.looking import look
from node.deid.pixels.repeats import Loop
from node.deid.pixels.views import Viewer
from node.deid.pixels.words import Matcher

_SYNTAX = "1.2.840.10008.1.2.1"


def clean_bitmap(
    bits: bytes,
    rows: int,
    columns: int,
    frames: int,
    matcher: Matcher,
    settings: PixelSettings,
) -> bytes:
    """Return Overlay Data without text that identifies, or that nobody can read.

    ``bits`` holds ``frames`` planes of ``rows`` by ``columns`` bits, the first in the lowest bit of
    the first byte (PS3.5 section 8.1.2). Graphics, regions of interest and harmless words stay, bit
    for bit, as does what follows the planes. ``Unsafe`` where there are fewer bits than that.
    """
    if settings.mode != "ocr":
        return bits
    image = Image(
        transfer_syntax=_SYNTAX,
        rows=rows,
        columns=columns,
        samples=1,
        bits_allocated=1,
        bits_stored=1,
        high_bit=0,
        pixel_representation=0,
        photometric="MONOCHROME2",
        frames=frames,
        native=memoryview(bits),
    )
    source, viewer, loop = Frames(image, settings), Viewer(image), Loop()
    boxes: dict[int, tuple[Box, ...]] = {}
    for number in range(frames):
        frame = source.held(number)
        if not frame.any():
            continue
        views = viewer.views(frame)
        seen = look(views, [loop.novel(view) for view in views], (), matcher, settings)
        mine = {*seen.removed, *loop.still_there(views)}
        if frames > 1:
            loop.sight(views, seen.removed, removed=True)
            loop.add(views)
        if mine:
            boxes[number] = tuple(sorted(mine))
    if not boxes:
        return bits
    cleaned = np.frombuffer(bits, np.uint8).copy()
    for offset, new in painting.patches(image, boxes, lambda number: (0,)):
        cleaned[offset : offset + len(new)] = np.frombuffer(new, np.uint8)
    return cleaned.tobytes()

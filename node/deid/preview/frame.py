"""One frame before and after as PNG, with the boxes that were blacked out."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from node.deid.elements import PIXEL_DATA, parse
from node.deid.image_header import Header, image
from node.deid.pixels.frames import Array, Frames
from node.deid.pixels.image import Box, Image, PixelSettings
from node.deid.reading import Unsafe

_MOST_PIXELS = 1600
"""Of the longer side; larger frames are made smaller."""
_MARK = (255, 64, 64)


@dataclass(frozen=True)
class Pictures:
    """PNGs of one frame."""

    frame: int
    """From 1 on."""
    frames: int
    before: bytes
    """With the boxes marked."""
    after: bytes
    boxes: int


def pictures(source: bytes, result: bytes, boxes: Mapping[int, tuple[Box, ...]]) -> Pictures | None:
    """Return the first frame in which something was blacked out, or the middle one.

    None for a file without pixels that can be shown.
    """
    old = _frames(source)
    new = _frames(result)
    if old is None or new is None:
        return None
    index = min((n for n, found in boxes.items() if found), default=old.image.frames // 2)
    found = boxes.get(index, ())
    try:
        before, after = old.stored(index), new.stored(index)
    except (Unsafe, LookupError, ValueError):
        return None
    window = _window(before, found)
    marked = _coloured(before, window, old.image)
    for box in found:
        _mark(marked, box)
    shown = _coloured(after, window, new.image)
    return Pictures(index + 1, old.image.frames, _png(marked), _png(shown), len(found))


def _frames(data: bytes) -> Frames | None:
    file = parse(data)
    element = file.dataset.get(PIXEL_DATA)
    if element is None:
        return None
    view = memoryview(file.data)
    fragments = element.fragments
    try:
        what = image(
            Header(file),
            view[element.start : element.end] if fragments is None else None,
            None if fragments is None else tuple(view[a:b] for a, b in fragments[1:]),
        )
        return Frames(what, replace(PixelSettings(), mode="rules"))
    except (Unsafe, ValueError):
        return None


def _window(frame: Array, boxes: tuple[Box, ...]) -> tuple[float, float]:
    """Return darkest and brightest value to show: of what is not text, which may be far off."""
    rest = np.ones(frame.shape[:2], bool)
    for box in boxes:
        rest[box.y0 : box.y1, box.x0 : box.x1] = False
    values = frame[rest] if rest.any() else frame
    low, high = (float(v) for v in np.percentile(np.nan_to_num(values), (0.5, 99.5)))
    return low, max(high, low + 1)


def _coloured(frame: Array, window: tuple[float, float], what: Image) -> Array:
    """Return the frame as RGB, uint8, shape (rows, columns, 3)."""
    if frame.ndim == 3 and frame.dtype == np.uint8:
        return np.ascontiguousarray(frame[..., :3]).copy()
    low, high = window
    scaled = np.clip((frame.astype(np.float32) - low) * (255.0 / (high - low)), 0, 255)
    grey = scaled.astype(np.uint8)
    if what.photometric == "MONOCHROME1":
        grey = 255 - grey
    return np.repeat(grey[..., None], 3, axis=-1) if grey.ndim == 2 else grey[..., :3].copy()


def _mark(picture: Array, box: Box) -> None:
    y0, x0 = max(box.y0 - 1, 0), max(box.x0 - 1, 0)
    y1, x1 = min(box.y1, picture.shape[0] - 1), min(box.x1, picture.shape[1] - 1)
    picture[[y0, y1], x0 : x1 + 1] = _MARK
    picture[y0 : y1 + 1, [x0, x1]] = _MARK


def _png(picture: Array) -> bytes:
    from PIL import Image as Pillow

    made = Pillow.fromarray(picture)
    made.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    file = io.BytesIO()
    made.save(file, "PNG")
    return file.getvalue()

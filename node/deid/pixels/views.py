"""Frames as people see them on a screen: 8-bit pictures to look for text in."""

from __future__ import annotations

import numpy as np

from node.deid.pixels.frames import Array, colours
from node.deid.pixels.image import Image

_STEP = 16_000
"""About so many pixels are enough to choose a window by."""


def views(image: Image, frame: Array) -> list[Array]:
    """Return pictures, uint8, shape (rows, columns), in which text of any kind stands out.

    Text may be the brightest or the darkest value, within the range of the image or far beyond
    it, or differ from what is around it only in colour; no single window shows all of that.
    """
    if image.photometric == "PALETTE COLOR" and image.palette is not None and frame.ndim == 2:
        table = colours(image.palette)
        index = np.clip(frame.astype(np.int64) - image.palette.first, 0, len(table) - 1)
        frame = table[index]
    if frame.ndim == 3:
        return _of_colour(frame[..., :3])
    if frame.dtype == np.uint8 and image.bits_stored == 1:
        return [frame * 255]
    return _of_grey(frame)


def _of_colour(frame: Array) -> list[Array]:
    if frame.dtype != np.uint8:
        frame = _scaled(frame, float(frame.min()), float(frame.max()))
    bright = frame.max(axis=-1)
    dark = frame.min(axis=-1)
    coloured = np.count_nonzero(bright - dark > 48)
    if coloured < 20:
        return [bright]
    # Dark blue on black stands out in the largest channel, yellow on white in the smallest.
    return [bright, dark]


def _of_grey(frame: Array) -> list[Array]:
    if frame.dtype.kind == "f":
        frame = np.nan_to_num(frame, posinf=0, neginf=0)
    low, high = float(frame.min()), float(frame.max())
    if low == high:
        return []
    step = max(1, int((frame.size / _STEP) ** 0.5))
    some = frame[::step, ::step]
    inner_low, inner_high = (float(v) for v in np.percentile(some, (1, 99.5)))
    if frame.dtype == np.uint8 and high - low > 100 and inner_high - inner_low > 60:
        return [np.ascontiguousarray(frame)]
    found = []
    if inner_high - inner_low > 0.01 * (high - low):
        found.append(_scaled(frame, inner_low, inner_high))
    if not found or high - low > 1.5 * (inner_high - inner_low):
        found.append(_scaled(frame, low, high))
    return found


def _scaled(frame: Array, low: float, high: float) -> Array:
    scale = 255.0 / max(high - low, 1e-9)
    floats = frame.astype(np.float32)
    floats -= np.float32(low)
    floats *= np.float32(scale)
    return np.clip(floats, 0, 255, out=floats).astype(np.uint8)

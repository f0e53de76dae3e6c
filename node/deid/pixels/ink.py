"""What of a box is ink: how far letters reach, and whether it is writing at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from node.deid.pixels.frames import Array
from node.deid.pixels.image import Box
from node.deid.pixels.prefilter import strokes

_MARGIN = 2
_CONTRAST = 34
_SEPARATE = 0.7
"""Share of the variance that two even tones explain, from which on a box is ink on paper."""
_LINE = 32
_STEEP = 0.95
_STROKES = 0.05


def tightened(pictures: Sequence[Array], box: Box, height: int) -> Box:
    """Return the box around the letters that ``box`` holds, with a small margin.

    It may be smaller than ``box``, or larger where letters reach out of it; it is the same where
    ink can't be told from what is behind it.
    """
    rows, columns = pictures[0].shape
    found = [t for picture in pictures if (t := _around_ink(picture, box, height)) is not None]
    if not found:
        return box
    joined = found[0]
    for other in found[1:]:
        joined = joined.join(other)
    margin = max(_MARGIN, round(0.08 * height))
    return joined.grown(margin, margin, columns, rows)


def is_written(picture: Array, box: Box, height: int) -> bool:
    """Say whether the box shows strokes with sharp edges, as devices write, and not tissue.

    Measured: letters of any script, also over speckle, have edges steeper than 1.1 of the contrast
    and strokes on more than 7 % of the box; what the detector takes for text in tissue has less of
    one or of both.
    """
    import cv2

    part = np.ascontiguousarray(picture[box.y0 : box.y1, box.x0 : box.x1])
    if height > 2 * _LINE:
        scale = _LINE / height
        part = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if part.size < 16:
        return False
    threshold, _ = cv2.threshold(part, 0, 255, cv2.THRESH_OTSU)
    bright = part > threshold
    if not 0 < np.count_nonzero(bright) < part.size:
        return False
    contrast = float(part[bright].mean()) - float(part[~bright].mean())
    edge = cv2.morphologyEx(part, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    if float(np.percentile(edge, 95)) < _STEEP * max(contrast, _CONTRAST):
        return False
    return float(strokes(part).mean()) >= _STROKES


def separation(part: Array) -> float:
    """Return the share of the variance that lies between the two tones of the best threshold."""
    import cv2

    threshold, _ = cv2.threshold(part, 0, 255, cv2.THRESH_OTSU)
    bright = part > threshold
    share = float(bright.mean())
    if not 0 < share < 1:
        return 0.0
    between = share * (1 - share) * (float(part[bright].mean()) - float(part[~bright].mean())) ** 2
    return between / max(float(part.var()), 1e-9)


def _around_ink(picture: Array, box: Box, height: int) -> Box | None:
    import cv2

    rows, columns = picture.shape
    reach = max(3, round(0.4 * height))
    wide = box.grown(reach, reach, columns, rows)
    part = np.ascontiguousarray(picture[wide.y0 : wide.y1, wide.x0 : wide.x1])
    inner = np.zeros(part.shape, np.uint8)
    inner[box.y0 - wide.y0 : box.y1 - wide.y0, box.x0 - wide.x0 : box.x1 - wide.x0] = 1
    inside = picture[box.y0 : box.y1, box.x0 : box.x1]
    threshold, _ = cv2.threshold(np.ascontiguousarray(inside), 0, 255, cv2.THRESH_OTSU)
    ink = (part > threshold).astype(np.uint8)
    if ink[inner > 0].mean() > 0.5:
        ink = 1 - ink
    light, dark = inside[inside > threshold], inside[inside <= threshold]
    if not light.size or not dark.size or light.mean() - dark.mean() < _CONTRAST:
        return None
    if separation(np.ascontiguousarray(inside)) < _SEPARATE:
        return None
    count, labels, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    touched = np.bincount(labels[inner > 0], minlength=count)
    joined: Box | None = None
    for number in range(1, count):
        x, y, w, h, area = (int(v) for v in stats[number])
        if touched[number] < 0.5 * area:
            if touched[number] > 0.1 * box.area:
                return None  # letters run into what is drawn beside them
            continue
        one = Box(wide.x0 + x, wide.y0 + y, wide.x0 + x + w, wide.y0 + y + h)
        joined = one if joined is None else joined.join(one)
    return joined

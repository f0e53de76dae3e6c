"""What of a box is ink: how far letters reach, and whether it is writing at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from node.deid.pixels.frames import Array
from node.deid.pixels.image import Box
from node.deid.pixels.prefilter import strokes

_MARGIN = 2
_CONTRAST = 34
_RIM = 0.1
_STROKE = 0.18
"""Of a line's height: more than the width of a stroke."""
_GAP = 0.7
_LINE = 32
_STEEP = 0.95
_STROKES = 0.065


def tightened(pictures: Sequence[Array], box: Box, height: int, upright: bool) -> Box:
    """Return ``box``, a detector's with room around the letters, with less above and below.

    It is not made shorter: behind the letters at an end it may be bright, and they would be lost.
    """
    rows, columns = pictures[0].shape
    rim = round(_RIM * height)
    first, last, best = rim, height - rim, 0.0
    for picture in pictures:
        part = picture[box.y0 : box.y1, box.x0 : box.x1]
        found = _around_ink(np.ascontiguousarray(part if upright else part.T), height)
        if found is not None and found[0] > best:
            best, first, last = found
    if upright:
        inner = Box(box.x0, box.y0 + first, box.x1, box.y0 + last)
        return inner.grown(0, _MARGIN, columns, rows)
    inner = Box(box.x0 + first, box.y0, box.x0 + last, box.y1)
    return inner.grown(_MARGIN, 0, columns, rows)


def split(picture: Array, box: Box) -> list[Box]:
    """Return the pieces of an upright line between gaps as wide as it is high; [] without a gap."""
    part = np.ascontiguousarray(picture[box.y0 : box.y1, box.x0 : box.x1])
    found = _ink(part, box.height)
    if found is None:
        return []
    inked = np.flatnonzero(_without_specks(found[1], box.height).any(axis=0))
    if not len(inked):
        return []
    ends = np.flatnonzero(np.diff(inked) > _GAP * box.height)
    if not len(ends):
        return []
    margin = box.height // 6
    starts = [inked[0], *inked[ends + 1]]
    stops = [*inked[ends], inked[-1]]
    return [
        Box(max(box.x0 + int(a) - margin, box.x0), box.y0, box.x0 + int(b) + 1 + margin, box.y1)
        for a, b in zip(starts, stops, strict=True)
    ]


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


def _around_ink(part: Array, height: int) -> tuple[float, int, int] | None:
    """Return the contrast of the strokes of a line, their first row and their end.

    All letters share their feet and heads, so these are measured by ink of the very tone that most
    of it has.
    """
    found = _ink(part, height)
    if found is None:
        return None
    strong, ink, tone = found
    even = np.abs(part - tone) < max(0.4 * abs(tone - float(np.median(part))), 8)
    rows = np.flatnonzero(_without_specks(ink & even, height).any(axis=1))
    return (strong, int(rows[0]), int(rows[-1]) + 1) if len(rows) else None


def _ink(part: Array, height: int) -> tuple[float, Array, float] | None:
    """Return the contrast of strokes, where they are, and their tone; None without any."""
    import cv2

    side = 2 * max(round(_STROKE * height), 1) + 1
    kernel = np.ones((side, side), np.uint8)
    best: Array | None = None
    for way in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        response = np.asarray(cv2.morphologyEx(part, way, kernel))
        if best is None or np.percentile(response, 90) > np.percentile(best, 90):
            best = response
    assert best is not None
    strong = float(np.percentile(best, 95))
    if strong < _CONTRAST:
        return None
    return strong, best > 0.4 * strong, float(np.median(part[best > 0.7 * strong]))


def _without_specks(ink: Array, height: int) -> Array:
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)
    large = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= max(2, 0.003 * height * height))
    return np.asarray(ink & np.isin(labels, large))

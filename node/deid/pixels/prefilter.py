"""Where a picture can hold text: thin strokes with sharp edges, several in a line.

A few milliseconds a frame, so that a detector need not see what is plainly without text: the
anatomy of most slices is too smooth. It errs towards text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from node.deid.pixels.frames import Array
from node.deid.pixels.image import Box

_CONTRAST = 34
"""Grey levels of 255 by which a stroke stands out from both its sides."""
_DENSE = 0.10
"""Share of stroke pixels in a window that a line of text reaches."""
_STEEP = 0.8
"""Share of its contrast by which a stroke changes from a pixel to the next but one."""
_MARGIN = 24
_WHOLE = 0.5
"""With more than this share of a picture to look at, it is looked at whole."""


@dataclass(frozen=True)
class Novel:
    """Where a frame is brighter, and where it is darker, than all before it."""

    brighter: Array
    darker: Array


def marks(picture: Array, novel: Novel | None = None) -> Array:
    """Return where ``picture`` (uint8, rows by columns) has strokes of letters of any size.

    With ``novel``, bright strokes count where it is brighter, and dark ones where it is darker.
    """
    import cv2

    rows, columns = picture.shape
    edge = _edges(picture)
    mask = _counting(picture, edge, novel).astype(bool)
    # Larger letters have strokes that are too wide here; they are thin at half the size. Their
    # edges are as sharp as those of small ones, which those of tissue are not.
    level = picture
    for step in (1, 2):
        if min(level.shape) < 192:
            break
        level = cv2.resize(level, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        edge = cv2.dilate(edge, np.ones((3, 3), np.uint8))[::2, ::2]
        edge = np.ascontiguousarray(edge[: level.shape[0], : level.shape[1]])
        coarse = _counting(level, edge, novel)
        if coarse.any():
            up = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_NEAREST)
            mask |= _dense(up, 9 << step)
    return mask


def _edges(picture: Array) -> Array:
    import cv2

    kernel = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.morphologyEx(picture, cv2.MORPH_GRADIENT, kernel))


def _counting(level: Array, edge: Array, novel: Novel | None) -> Array:
    import cv2

    bright, dark = _strokes(level, edge)
    if novel is not None:
        size = (level.shape[1], level.shape[0])
        for found, where in ((bright, novel.brighter), (dark, novel.darker)):
            small = cv2.resize(where.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
            cv2.min(found, small, found)
    return np.asarray(cv2.max(bright, dark))


def places(mask: Array) -> list[Box]:
    """Return disjoint boxes outside which ``mask``, of ``marks``, shows no text."""
    import cv2

    rows, columns = mask.shape
    dense = _dense(mask, 9)
    if not dense.any():
        return []
    grown = cv2.dilate(dense.astype(np.uint8), np.ones((2 * _MARGIN + 1,) * 2, np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(grown, connectivity=8)
    boxes = [Box(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h, _ in stats[1:]]
    merged = joined(boxes)
    if sum(box.area for box in merged) > _WHOLE * rows * columns:
        return [Box(0, 0, columns, rows)]
    return merged


def widened(mask: Array) -> Array:
    """Return the mask with a rim of two pixels: the same strokes in another picture."""
    import cv2

    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8))).astype(bool)


def strokes(picture: Array) -> Array:
    """Mark pixels that stand out from both sides within a few pixels, with a sharp edge."""
    bright, dark = _strokes(picture, _edges(picture))
    return np.asarray(bright | dark).astype(bool)


def _strokes(picture: Array, edge: Array) -> tuple[Array, Array]:
    """Return bright and dark strokes, uint8, 1 where there is one.

    ``edge`` is the steepest difference between neighbours near each pixel.
    """
    import cv2

    kernel = np.ones((5, 5), np.uint8)
    sharp = cv2.threshold(edge, 2 * _CONTRAST - 1, 1, cv2.THRESH_BINARY)[1]
    found = []
    for way in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        standing = cv2.morphologyEx(picture, way, kernel)
        blurred = cv2.subtract(cv2.convertScaleAbs(standing, alpha=_STEEP), edge)
        marked = cv2.threshold(standing, _CONTRAST - 1, 1, cv2.THRESH_BINARY)[1]
        marked[blurred > 0] = 0
        found.append(np.asarray(cv2.min(marked, sharp)))
    return found[0], found[1]


def _dense(mask: Array, side: int) -> Array:
    import cv2

    share = cv2.boxFilter(mask.astype(np.float32), -1, (2 * side, side))
    return np.asarray(share >= _DENSE)


def joined(boxes: list[Box]) -> list[Box]:
    """Join boxes that touch until none do."""
    found: list[Box] = []
    for one in boxes:
        box = one
        while True:
            touched = [other for other in found if other.meet(box).area]
            if not touched:
                break
            for other in touched:
                found.remove(other)
                box = box.join(other)
        found.append(box)
    return found

"""What the frames of a loop have in common, so that equal text is read once.

A frame need only be searched where it shows what no frame before it did: strokes brighter or
darker there than all that were seen. Moving tissue reaches such extremes in single pixels, letters
in whole strokes, which is what the prefilter asks for. Text that was found is looked for at its
place in each later frame, by its contrast, and removed wherever it still stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from node.deid.pixels.frames import Array
from node.deid.pixels.image import Box
from node.deid.pixels.prefilter import Novel
from node.deid.pixels.views import View

_NOISE = 20
"""Grey levels by which compression with loss changes what stands still."""
_FADED = 0.2
"""With less of its contrast, text isn't there any more."""
_DROWNED = 0.3
"""Nor with less of its likeness to what it was: then it is tissue that differs there by chance."""


@dataclass(frozen=True)
class _Sighting:
    kind: Any
    box: Box
    ink: Array
    contrast: float
    likeness: float
    removed: bool


class Loop:
    """Remembers what the frames so far have shown."""

    def __init__(self) -> None:
        self._bounds: dict[Any, tuple[Array, Array]] = {}
        self._sightings: list[_Sighting] = []

    def novel(self, view: View) -> Novel | None:
        """Return where the view shows what none of its kind has; None: all of it is new."""
        bounds = self._bounds.get(view.kind)
        if bounds is None:
            return None
        import cv2

        low, high = bounds
        brighter = np.asarray(cv2.subtract(view.picture, high)) > _NOISE
        darker = np.asarray(cv2.subtract(low, view.picture)) > _NOISE
        rows, columns = view.picture.shape
        for sighting in self._sightings:
            # Between letters that are known is what is behind them, and it may change.
            if sighting.kind == view.kind and _stands(sighting, view.picture):
                box = sighting.box.grown(3, 3, columns, rows)
                behind = darker if sighting.contrast > 0 else brighter
                behind[box.y0 : box.y1, box.x0 : box.x1] = False
        return Novel(brighter, darker)

    def add(self, views: Iterable[View]) -> None:
        """Remember a frame."""
        import cv2

        for view in views:
            bounds = self._bounds.get(view.kind)
            if bounds is None:
                self._bounds[view.kind] = (view.picture.copy(), view.picture.copy())
                continue
            low, high = bounds
            cv2.min(low, view.picture, low)
            cv2.max(high, view.picture, high)

    def sight(self, views: list[View], boxes: Iterable[Box], *, removed: bool) -> None:
        """Remember text that was found in a frame."""
        for box in boxes:
            seen = [s for view in views if (s := _sighting(view, box, removed)) is not None]
            if removed and seen:
                seen = [max(seen, key=lambda s: abs(s.contrast))]
            self._sightings += seen

    def still_there(self, views: list[View]) -> list[Box]:
        """Return the boxes whose text stands in this frame too."""
        pictures = {view.kind: view.picture for view in views}
        return [
            sighting.box
            for sighting in self._sightings
            if sighting.removed
            and sighting.kind in pictures
            and _stands(sighting, pictures[sighting.kind])
        ]


def _sighting(view: View, box: Box, removed: bool) -> _Sighting | None:
    """Tell ink from paper in a box by the best threshold (Otsu 1979)."""
    import cv2

    part = np.ascontiguousarray(view.picture[box.y0 : box.y1, box.x0 : box.x1])
    if part.size == 0 or part.min() == part.max():
        return None
    threshold, _ = cv2.threshold(part, 0, 255, cv2.THRESH_OTSU)
    ink = part > threshold
    if not 0 < np.count_nonzero(ink) < ink.size:
        return None
    if ink.mean() > 0.5:
        ink = ~ink
    return _Sighting(view.kind, box, ink, _contrast(part, ink), _likeness(part, ink), removed)


def _contrast(part: Array, ink: Array) -> float:
    return float(part[ink].mean()) - float(part[~ink].mean())


def _likeness(part: Array, ink: Array) -> float:
    """Return the correlation of a picture with the ink of letters."""
    deviation = float(part.std())
    share = float(ink.mean())
    return float(_contrast(part, ink) * (share * (1 - share)) ** 0.5 / max(deviation, 1e-9))


def _stands(sighting: _Sighting, picture: Array) -> bool:
    box = sighting.box
    part = picture[box.y0 : box.y1, box.x0 : box.x1]
    contrast = _contrast(part, sighting.ink) / sighting.contrast
    likeness = _likeness(part, sighting.ink) / sighting.likeness
    return contrast >= _FADED and likeness >= _DROWNED

"""Frames as people see them on a screen: 8-bit pictures to look for text in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from node.deid.pixels.frames import Array
from node.deid.pixels.image import Image
from node.deid.pixels.palettes import colours

_STEP = 16_000
"""About so many pixels are enough to choose a window by."""
_COLOURED = 48
"""Levels between the channels of a pixel from which on it is no shade of grey."""
_EDGE = 0.02
_FEW = 0.1
"""Share of the pixels that a background has, or a picture on it."""
_CLOSE = 0.4

Window = tuple[float, float]


@dataclass(frozen=True)
class View:
    """A picture of a frame, uint8, shape (rows, columns)."""

    kind: Any
    """Pictures of the same kind, of several frames, can be compared."""
    picture: Array


class Viewer:
    """Shows the frames of one image; alike frames by one window, so that they can be compared."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self._table: Array | None = None
        if image.photometric == "PALETTE COLOR" and image.palette is not None:
            self._table = colours(image.palette)
        self._windows: list[Window] = []

    def views(self, frame: Array) -> list[View]:
        """Return pictures in which text of any kind stands out.

        Text may be the brightest or the darkest value, within the range of the image or far beyond
        it, or differ from what is around it only in colour; no single window shows all of that.
        The first picture shows most; the others show what it may not.
        """
        if self._table is not None and frame.ndim == 2:
            index = np.clip(frame.astype(np.int32) - self._first, 0, len(self._table) - 1)
            # Another palette would show what this one hides.
            return [*_of_colour(self._table[index]), *self._of_grey(frame)]
        if frame.ndim == 3:
            views = _of_colour(np.ascontiguousarray(frame[..., :3]))
            return [*views, *self._narrow(views[0].picture)]
        if frame.dtype == np.uint8 and self.image.bits_stored == 1:
            return [View("bits", frame * np.uint8(255))]
        return self._of_grey(frame)

    @property
    def _first(self) -> int:
        assert self.image.palette is not None
        return self.image.palette.first

    def _of_grey(self, frame: Array) -> list[View]:
        if frame.dtype.kind == "f":
            frame = np.nan_to_num(frame, posinf=0, neginf=0)
        low, high = float(frame.min()), float(frame.max())
        if low == high:
            return []
        step = max(1, int((frame.size / _STEP) ** 0.5))
        some = frame[::step, ::step]
        inner_low, inner_high = (float(v) for v in np.percentile(some, (1, 99.5)))
        if frame.dtype == np.uint8 and high - low > 100 and inner_high - inner_low > 60:
            plain = np.ascontiguousarray(frame)
            return [View("plain", plain), *self._narrow(plain)]
        close = _close(some, low, high)
        windows = []
        if inner_high - inner_low > 0.01 * (high - low):
            windows.append((inner_low, inner_high))
        if not windows or high - low > 1.5 * (inner_high - inner_low):
            windows.append((low, high))
        windows += [w for w in close if w[1] - w[0] < _CLOSE * (windows[0][1] - windows[0][0])]
        known = [self._known(window) for window in windows]
        return [View(window, _scaled(frame, *window)) for window in dict.fromkeys(known)]

    def _narrow(self, picture: Array) -> list[View]:
        """Return views of a picture of 8 bits by windows for its tissue."""
        low, high = float(picture.min()), float(picture.max())
        if low == high:
            return []
        step = max(1, int((picture.size / _STEP) ** 0.5))
        windows = _close(picture[::step, ::step], low, high)
        return [View(w, _scaled(picture, *w)) for w in map(self._known, windows)]

    def _known(self, window: Window) -> Window:
        """Return an earlier window that shows about the same."""
        width = window[1] - window[0]
        for known in self._windows:
            if max(abs(a - b) for a, b in zip(window, known, strict=True)) < 0.12 * width:
                return known
        self._windows.append(window)
        del self._windows[:-8]
        return window


def _close(some: Array, low: float, high: float) -> list[Window]:
    """Return windows for tissue all of whose tones are close to the brightest or the darkest.

    White letters on it hardly show in a window that spans the background as well.
    """
    found = []
    edge = _EDGE * (high - low)
    rest = some[some > low + edge]
    if _FEW * some.size < rest.size < (1 - _FEW) * some.size:
        first = float(np.percentile(rest, 25))
        if high - first < _CLOSE * (high - low):
            found.append((first, high))
    rest = some[some < high - edge]
    if _FEW * some.size < rest.size < (1 - _FEW) * some.size:
        last = float(np.percentile(rest, 75))
        if last - low < _CLOSE * (high - low):
            found.append((low, last))
    return found


def _of_colour(frame: Array) -> list[View]:
    import cv2

    if frame.dtype != np.uint8:
        frame = _scaled(frame, float(frame.min()), float(frame.max()))
    channels = [np.ascontiguousarray(channel) for channel in cv2.split(frame)]
    bright = np.asarray(cv2.max(cv2.max(channels[0], channels[1]), channels[2]))
    dark = np.asarray(cv2.min(cv2.min(channels[0], channels[1]), channels[2]))
    if np.count_nonzero(cv2.subtract(bright, dark) > _COLOURED) < 20:
        return [View("bright", bright)]
    # Dark blue on black is seen in the brightest channel, yellow on white and green on red in one.
    names = ("bright", "red", "green", "blue")
    return [View(*pair) for pair in zip(names, (bright, *channels), strict=True)]


def _scaled(frame: Array, low: float, high: float) -> Array:
    scale = 255.0 / max(high - low, 1e-9)
    floats = frame.astype(np.float32)
    floats -= np.float32(low)
    floats *= np.float32(scale)
    return np.clip(floats, 0, 255, out=floats).astype(np.uint8)

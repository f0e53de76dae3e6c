"""Lines that run up or down and that a detector takes for single letters, one above the other."""

from __future__ import annotations

import numpy as np

from node.deid.pixels import reader
from node.deid.pixels.frames import Array
from node.deid.pixels.image import Box, PixelSettings
from node.deid.pixels.reader import Line

_FEWEST = 3
_SQUARE = 1.7
_LONG = 1.65


def stacks(picture: Array, lines: list[Line], settings: PixelSettings) -> list[Line]:
    """Return the lines that columns of letters make.

    Letters that lie on their side are found and read with the picture turned; upright ones (Chinese
    and Japanese are written so) are read from the top down. A ruler's numbers are neither.
    """
    found = []
    for column in _columns([line for line in lines if _is_square(line) or _is_standing(line)]):
        box = column[0].box
        for line in column[1:]:
            box = box.join(line.box)
        turned = _turned(picture, box, settings)
        found += turned
        text = "".join(line.text for line in column)
        if not turned and len(text) == len(column) and all(c >= "\u2e80" for c in text):
            confidence = min(line.confidence for line in column)
            detection = max(line.detection for line in column)
            found.append(Line(box, text, confidence, detection, upright=False))
    return found


def _turned(picture: Array, box: Box, settings: PixelSettings) -> list[Line]:
    """Find and read around ``box`` with the picture turned either way; the better one counts."""
    rows, columns = picture.shape
    region = box.grown(box.width, 8 * box.width, columns, rows)
    part = picture[region.y0 : region.y1, region.x0 : region.x1]
    best: list[Line] = []
    for turn in (1, 3):
        turned = np.ascontiguousarray(np.rot90(part, turn))
        whole = Box(0, 0, turned.shape[1], turned.shape[0])
        lines = []
        for quad, detection in reader.find(turned, [whole], settings):
            if not _turned_back(_around(quad), turn, region).meet(box).area:
                continue
            line = reader.read(turned, quad, detection, settings)
            if line.confidence >= settings.min_confidence and line.length > _LONG * line.height:
                back = _turned_back(line.box, turn, region)
                lines.append(Line(back, line.text, line.confidence, detection, upright=False))
        if sum(len(line.text) for line in lines) > sum(len(line.text) for line in best):
            best = lines
    return best


def _around(quad: Array) -> Box:
    low, high = np.floor(quad.min(axis=0)).astype(int), np.ceil(quad.max(axis=0)).astype(int)
    return Box(int(low[0]), int(low[1]), int(high[0]), int(high[1]))


def _turned_back(box: Box, turn: int, region: Box) -> Box:
    if turn == 1:
        x0, x1 = region.width - box.y1, region.width - box.y0
        y0, y1 = box.x0, box.x1
    else:
        x0, x1 = box.y0, box.y1
        y0, y1 = region.height - box.x1, region.height - box.x0
    return Box(region.x0 + x0, region.y0 + y0, region.x0 + x1, region.y0 + y1)


def _is_square(line: Line) -> bool:
    long, short = max(line.box.width, line.box.height), min(line.box.width, line.box.height)
    return long <= _SQUARE * short


def _is_standing(line: Line) -> bool:
    """Say whether it was read sideways, perhaps not all of it."""
    return not line.upright and line.length > _LONG * line.height and line.confidence > 0.5


def _columns(lines: list[Line]) -> list[list[Line]]:
    columns: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: line.box.y0):
        for column in columns:
            if _continues(column[-1].box, line.box):
                column.append(line)
                break
        else:
            columns.append([line])
    return [
        column for column in columns if len(column) >= _FEWEST or any(map(_is_standing, column))
    ]


def _continues(upper: Box, lower: Box) -> bool:
    width = max(upper.width, lower.width)
    shared = min(upper.x1, lower.x1) - max(upper.x0, lower.x0)
    gap = lower.y0 - upper.y1
    return shared > 0.6 * width and -0.5 * width < gap < 1.2 * width

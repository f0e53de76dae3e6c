"""Text in the pictures of one frame: found, read, judged; what is to go, as boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from node.deid.pixels import prefilter, reader, words
from node.deid.pixels.frames import Array
from node.deid.pixels.image import Box, PixelSettings
from node.deid.pixels.ink import is_written, split, tightened
from node.deid.pixels.reader import Line
from node.deid.pixels.stacks import stacks
from node.deid.pixels.views import View
from node.deid.pixels.words import Matcher, Verdict

_NARROW, _NARROW_STANDING = 1.65, 2.2
"""What can't be read and is hardly longer than it is high is taken for a mark, not for text.

Three syllables of Hangul, the shortest common name, are 1.7 times as long as high."""
_LONG = 2.0
"""Few marks, and little of the tissue that is taken for text, are so long."""
_HUGE_PIXELS, _HUGE = 64, 0.15
"""What can't be read and is higher than both, the second of the picture, is a sign in it."""
_GUESSED, _CERTAIN = 0.35, 0.9
"""Confidence from which a name may count, and from which nobody need ask if it is text at all."""


@dataclass(frozen=True)
class Text:
    """A line of text, and what becomes of it."""

    line: Line
    verdict: Verdict
    unreadable: bool = False
    mark: bool = False
    """One sign, or too little to be told from one: harmless unless it is part of something."""


@dataclass(frozen=True)
class Seen:
    """What a frame shows."""

    found: int
    """Lines of text."""
    lines: tuple[Box, ...]
    """Where, whatever becomes of them."""
    removed: tuple[Box, ...]
    unreadable: int
    """Of the removed."""
    searched: bool
    """Whether there was a place to look at."""


def look(
    views: Sequence[View],
    novel: Sequence[prefilter.Novel | None],
    areas: Sequence[Box],
    matcher: Matcher,
    settings: PixelSettings,
) -> Seen:
    """Return what is to be removed from a frame.

    ``novel`` says what is worth looking at in each view; None: all. ``areas`` are looked at in
    any case, unless nothing in them is new.
    """
    texts: list[Text] = []
    searched = False
    seen_marks: Array | None = None
    for view, new in zip(views, novel, strict=True):
        mask = prefilter.marks(view.picture, new)
        fresh = mask if seen_marks is None else mask & ~seen_marks
        places = prefilter.places(fresh)
        if seen_marks is None and new is None:
            places = prefilter.joined([*places, *areas])
        seen_marks = prefilter.widened(mask if seen_marks is None else mask | seen_marks)
        if places:
            searched = True
            new_marks = None if new is None and view is views[0] else fresh
            texts += _texts(view.picture, places, new_marks, matcher, settings)
    texts = _resolved(texts)
    removed = _removed(texts, matcher)
    kept = [text.line.box for text in texts if not any(t.line is text.line for t in removed)]
    boxes = [
        tightened(
            [view.picture for view in views], text.line.box, text.line.height, text.line.upright
        )
        for text in removed
    ]
    if boxes:
        more = _left(views, boxes, kept, matcher, settings)
        removed += more
        boxes += [text.line.box for text in more]
    return Seen(
        found=sum(not text.mark for text in texts),
        lines=tuple(text.line.box for text in texts),
        removed=tuple(dict.fromkeys(boxes)),
        unreadable=sum(text.unreadable for text in removed),
        searched=searched,
    )


def _texts(
    picture: Array,
    places: list[Box],
    fresh: Array | None,
    matcher: Matcher,
    settings: PixelSettings,
) -> list[Text]:
    """Find, read and judge; only what has strokes in ``fresh``, if that is given."""
    lines = [
        reader.read(picture, quad, detection, settings)
        for quad, detection in reader.find(picture, places, settings)
        if fresh is None or _has_marks(fresh, quad)
    ]
    found = []
    for line in [*lines, *stacks(picture, lines, settings)]:
        if min(line.height, line.length) < settings.min_text_pixels // 2:
            continue
        if max(line.height, line.length) < settings.min_text_pixels:
            continue
        text = judged(picture, line, matcher, settings)
        if text is None:
            continue
        if text.mark:
            found.append(text)
            continue
        found += _pieces(picture, text, matcher, settings) or [text]
    return found


def _pieces(
    picture: Array, text: Text, matcher: Matcher, settings: PixelSettings
) -> list[Text] | None:
    """Tell a name from settings that stand on the same line, if there is a gap; None: there isn't.

    Only if a piece that is as bad as the whole remains.
    """
    line = text.line
    if text.verdict is Verdict.HARMLESS or not line.upright or line.length < 5 * line.height:
        return None
    pieces = []
    for box in split(picture, line.box):
        quad = np.array(
            [[box.x0, box.y0], [box.x1, box.y0], [box.x1, box.y1], [box.x0, box.y1]], np.float32
        )
        piece = reader.read(picture, quad, line.detection, settings)
        judged_piece = judged(picture, piece, matcher, settings)
        if judged_piece is None or not piece.upright:
            return None
        pieces.append(judged_piece)
    if any(words.is_time(piece.line.text) for piece in pieces):
        return None  # it belongs to a date
    kinds = {piece.verdict for piece in pieces}
    return pieces if {text.verdict, Verdict.HARMLESS} <= kinds else None


def _has_marks(fresh: Array, quad: Array) -> bool:
    low, high = np.floor(quad.min(axis=0)).astype(int), np.ceil(quad.max(axis=0)).astype(int)
    part = fresh[max(int(low[1]), 0) : int(high[1]), max(int(low[0]), 0) : int(high[0])]
    count = int(np.count_nonzero(part))
    return count >= 12 and count >= 0.01 * part.size


def judged(picture: Array, line: Line, matcher: Matcher, settings: PixelSettings) -> Text | None:
    """Judge a line; None where there is no text after all."""
    verdict = words.judge(line.text, line.confidence, settings.min_confidence, matcher)
    if verdict is Verdict.IDENTIFIES and line.confidence >= _GUESSED:
        return Text(line, verdict)
    if not _fills(line):
        return _unreadable(picture, line, settings)
    if words.is_mark(line.text) and line.length < _NARROW * line.height:
        return Text(line, Verdict.HARMLESS, mark=True)
    if verdict is Verdict.HARMLESS or line.confidence >= _CERTAIN:
        return Text(line, verdict)
    if line.confidence < settings.min_confidence:
        return _unreadable(picture, line, settings)
    return Text(line, verdict) if is_written(picture, line.box, line.height) else None


def _unreadable(picture: Array, line: Line, settings: PixelSettings) -> Text | None:
    """Say that it could not be read, or not all of it, if it is text."""
    narrow = _NARROW if line.upright else _NARROW_STANDING
    doubt = 0.0 if line.upright else 0.1  # scales at the rim
    if line.upright and line.length > _LONG * line.height:
        doubt = -0.1
    if line.detection < settings.min_detection + doubt:
        return None
    if not is_written(picture, line.box, line.height):
        return None
    huge = line.height > max(_HUGE_PIXELS, _HUGE * min(picture.shape))
    if huge or line.length < narrow * line.height:
        return Text(line, Verdict.HARMLESS, mark=True)
    return Text(line, Verdict.UNKNOWN, unreadable=True)


def _fills(line: Line) -> bool:
    """Say whether what was read can be all that stands there.

    Of scripts that it does not know the recogniser leaves out letters, or all of them.
    """
    text = line.text.strip()
    ems = sum(0.75 if ord(c) < 0x2E80 else 1.1 for c in text)
    return bool(text) and line.length <= line.height * (0.9 + ems)


def _resolved(texts: list[Text]) -> list[Text]:
    """Keep of several readings of one text the best; that it identifies counts in any."""
    order = {Verdict.IDENTIFIES: 0, Verdict.HARMLESS: 1, Verdict.UNKNOWN: 2}
    kept: list[Text] = []
    for text in sorted(texts, key=lambda t: (order[t.verdict], -t.line.confidence, t.unreadable)):
        box = text.line.box
        over = [t for t in kept if t.line.box.meet(box).area > 0.6 * box.area]
        if any(t.verdict is not Verdict.IDENTIFIES or text.verdict is t.verdict for t in over):
            if text.verdict is not Verdict.IDENTIFIES:
                continue
            if any(t.line.box.meet(box).area > 0.95 * box.area for t in over):
                continue
        kept.append(text)
    return kept


def _removed(texts: list[Text], matcher: Matcher) -> list[Text]:
    texts = _rejoined(texts, matcher)
    removed = [text for text in texts if text.verdict is not Verdict.HARMLESS]
    others = [text for text in texts if text.verdict is Verdict.HARMLESS]
    for text in list(removed):
        if not text.line.upright:
            continue
        label = words.is_label(text.line.text)
        for other in list(others):
            if not other.line.upright:
                continue
            named = label and (_is_right_of(text, other, 12) or _is_below(text, other))
            part = _is_right_of(text, other, 0.7) or _is_right_of(other, text, 0.7)
            lettered = not any(c.isdigit() for c in other.line.text)
            if named or (part and (other.mark or (lettered and not text.unreadable))):
                others.remove(other)
                removed.append(replace(other, verdict=text.verdict))
    return removed


def _rejoined(texts: list[Text], matcher: Matcher) -> list[Text]:
    """Judge neighbours on a line together too: a detector may have cut it."""
    result = list(texts)
    for i, left in enumerate(texts):
        for j, right in enumerate(texts):
            if i == j or not (left.line.upright and right.line.upright):
                continue
            if Verdict.IDENTIFIES in (left.verdict, right.verdict):
                continue
            beside = _is_right_of(left, right, 0.7)
            if beside and words.is_cut(left.line.text, right.line.text, matcher):
                for k in (i, j):
                    result[k] = replace(result[k], verdict=Verdict.IDENTIFIES)
    return result


def _is_right_of(left: Text, right: Text, heights: float) -> bool:
    a, b = left.line.box, right.line.box
    height = min(a.height, b.height)
    level = min(a.y1, b.y1) - max(a.y0, b.y0) > 0.5 * height
    return level and -0.3 * height <= b.x0 - a.x1 <= heights * height


def _is_below(upper: Text, lower: Text) -> bool:
    a, b = upper.line.box, lower.line.box
    height = min(a.height, b.height)
    return abs(a.x0 - b.x0) < height and -0.3 * height <= b.y0 - a.y1 <= height


def _left(
    views: Sequence[View],
    boxes: list[Box],
    kept: list[Box],
    matcher: Matcher,
    settings: PixelSettings,
) -> list[Text]:
    """Look once more where text was: at parts of it that stand out of the boxes."""
    rows, columns = views[0].picture.shape
    found: list[Text] = []
    for view in views:
        picture = covered(view.picture, boxes)
        places = prefilter.joined(
            [box.grown(2 * box.height, box.height, columns, rows) for box in boxes]
        )
        mask = prefilter.marks(picture)
        places = [place for place in places if mask[place.y0 : place.y1, place.x0 : place.x1].any()]
        if not places:
            continue
        for text in _texts(picture, places, None, matcher, settings):
            box = text.line.box
            if text.verdict is Verdict.HARMLESS or _area(box, kept) > 0.4 * box.area:
                continue
            if text.unreadable and not 0 < _area(box, boxes) < 0.9 * box.area:
                continue
            if text.line.height > 1.5 * max(min(b.height, b.width) for b in boxes):
                continue  # the boxes themselves
            found.append(text)
        if len(views) > 1 and not found:
            break
    return _resolved(found)


def _area(box: Box, others: list[Box]) -> int:
    return sum(box.meet(other).area for other in others)


def covered(picture: Array, boxes: Sequence[Box]) -> Array:
    """Return a copy in which boxes have the grey of what is around them: no edges of their own."""
    copy = picture.copy()
    rows, columns = picture.shape
    for box in boxes:
        around = box.grown(3, 3, columns, rows)
        frame = picture[around.y0 : around.y1, around.x0 : around.x1]
        inner = np.ones(frame.shape, bool)
        inner[box.y0 - around.y0 : box.y1 - around.y0, box.x0 - around.x0 : box.x1 - around.x0] = (
            False
        )
        rim = frame[inner]
        copy[box.y0 : box.y1, box.x0 : box.x1] = int(np.median(rim)) if rim.size else 0
    return copy

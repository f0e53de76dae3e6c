"""Pixels of a de-identified corpus: drawn text gone where it identifies, all else identical."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tests.corpus.key import Box, Key
from tests.corpus.sources import OWN_TEXT, REAL_TEXT

if TYPE_CHECKING:
    from tests.corpus.score import Pair, Result

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
MARGIN, MARGIN_SHARE = 10, 0.4
"""Pixels around a drawn identifier, or share of its height, that a tool may black out with it."""
ALONG = 8
"""Its heights to the left and right, in which the picture's own text on that line may go too."""


def check(key: Key, paired: list[Pair], result: Result) -> None:
    """Add the section ``pixels``."""
    boxes: dict[int, list[Box]] = defaultdict(list)
    for box in key.boxes:
        if box.place == "pixels":
            boxes[box.file].append(box)
    for pair in paired:
        if pair.after is None:
            continue
        for box in key.boxes:
            if box.file == pair.file.number and box.place != "pixels":
                plane(pair, box, result)
        mine = boxes[pair.file.number]
        if not mine:
            if any(name in pair.before.dataset for name in PIXELS):
                if pair.file.source in REAL_TEXT:
                    continue
                result.count("pixels", "untouched without text", same(pair), str(pair))
            continue
        drawn(pair, mine, result)


def same(pair: Pair) -> bool:
    """Say whether pixels are the same: the stream, or what it decodes to."""
    assert pair.after is not None
    if digest(pair.before.dataset) == digest(pair.after.dataset):
        return True
    try:
        return bool(np.array_equal(*both(pair)))
    except Exception:
        with contextlib.suppress(Exception):
            return _same_streams(pair)
    return False


def _same_streams(pair: Pair) -> bool:
    """Compare what pydicom's decoders can't decode by another's."""
    from imagecodecs import jpeg_decode, jpegls_decode
    from pydicom.encaps import generate_frames

    assert pair.after is not None
    decoded: list[list[NDArray[Any]]] = []
    for dataset in (pair.before.dataset, pair.after.dataset):
        name = dataset.file_meta.TransferSyntaxUID.name
        decode = jpegls_decode if "JPEG-LS" in name else jpeg_decode
        count = int(dataset.get("NumberOfFrames", 1) or 1)
        try:
            streams = generate_frames(dataset.PixelData, number_of_frames=count)
            decoded.append([decode(stream) for stream in streams])
        except Exception:
            return False
    return all(np.array_equal(a, b) for a, b in zip(*decoded, strict=True))


def both(pair: Pair) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the pixels before and after: as stored, or as shown where the colour space differs."""
    assert pair.after is not None
    old, new = pair.before.dataset, pair.after.dataset
    kinds = [str(ds.get("PhotometricInterpretation", "")) for ds in (old, new)]
    raw = kinds[0] == kinds[1] or "RGB" not in kinds
    return frames(old, raw=raw), frames(new, raw=raw)


def drawn(pair: Pair, boxes: list[Box], result: Result) -> None:
    """Check each drawn text, and the pixels outside of all that identify."""
    assert pair.after is not None
    try:
        before, after = both(pair)
    except Exception as problem:
        before = frames(pair.before.dataset)
        after = np.zeros(0)
        result.count("pixels", "outside untouched", False, f"{pair}: {problem!r}"[:200])
    if after.shape != before.shape:
        for box in boxes:
            name = "harmless text kept" if box.harmless else "burned-in text gone"
            result.count("pixels", name, not box.harmless, f"{pair}: shape {after.shape}")
        return
    outside = np.ones(before.shape[:3], dtype=bool)
    for box in boxes:
        if not box.harmless:
            left, top, right, bottom = box.box
            margin = max(MARGIN, round(MARGIN_SHARE * (bottom - top)))
            rows = slice(max(0, top - margin), bottom + margin)
            along = margin if pair.file.source not in OWN_TEXT else ALONG * (bottom - top)
            columns = slice(max(0, left - along), right + along)
            outside[_frames(box, before), rows, columns] = False
    for box in boxes:
        left, top, right, bottom = box.box
        area = (_frames(box, before), slice(top, bottom), slice(left, right))
        old, new = before[area], after[area]
        line = f"{pair} frame {box.frame} {box.box}: {box.text!r}"
        if box.harmless:
            result.count("pixels", "harmless text kept", bool(np.array_equal(old, new)), line)
        else:
            likeness = _likeness(old, new)
            gone = likeness < 0.3
            result.count("pixels", "burned-in text gone", gone, f"{line} likeness {likeness:.2f}")
    if pair.file.source in REAL_TEXT:
        return
    changed = (before != after).reshape(*before.shape[:3], -1).any(axis=3) & outside
    where = np.argwhere(changed)[:1].tolist()
    line = f"{pair}: {int(changed.sum())} pixels, first {where}"
    result.count("pixels", "outside untouched", not changed.any(), line)


def plane(pair: Pair, box: Box, result: Result) -> None:
    """Check text drawn into an overlay or an icon; without the plane, it is gone."""
    assert pair.after is not None
    read = _overlay if box.place == "overlay" else _icon
    old, new = read(pair.before.dataset), read(pair.after.dataset)
    left, top, right, bottom = box.box
    gone = new is None or (
        old is not None
        and old.shape == new.shape
        and _likeness(old[top:bottom, left:right], new[top:bottom, left:right]) < 0.3
    )
    result.count("pixels", f"{box.place} text gone", gone, f"{pair}: {box.text!r}")


def _overlay(dataset: Any) -> NDArray[Any] | None:
    if 0x60003000 not in dataset:
        return None
    rows, columns = dataset[0x60000010].value, dataset[0x60000011].value
    bits = np.unpackbits(np.frombuffer(dataset[0x60003000].value, np.uint8), bitorder="little")
    return bits[: rows * columns].reshape(rows, columns)


def _icon(dataset: Any) -> NDArray[Any] | None:
    items = dataset.get("IconImageSequence")
    if not items or "PixelData" not in items[0]:
        return None
    return np.frombuffer(items[0].PixelData, np.uint8)[: 64 * 128].reshape(64, 128)


def frames(dataset: Any, *, raw: bool = True) -> NDArray[Any]:
    """Return pixels, frames x rows x columns x samples, in the stored colour space or in RGB."""
    from pydicom.pixels import pixel_array

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = pixel_array(dataset, raw=raw)
    shape = (int(dataset.get("NumberOfFrames", 1) or 1), dataset.Rows, dataset.Columns, -1)
    return array.reshape(shape)


def digest(dataset: Any) -> str:
    """Return the MD5 of the pixel data as it is stored, as the challenge compares it."""
    for name in PIXELS:
        if name in dataset:
            value = dataset[name].value
            return hashlib.md5(value or b"", usedforsecurity=False).hexdigest()
    return ""


def _frames(box: Box, array: NDArray[Any]) -> slice:
    return slice(None) if box.frame < 0 else slice(box.frame, box.frame + 1)


def _likeness(old: NDArray[Any], new: NDArray[Any]) -> float:
    """Return the correlation of two regions, 0 when one of them shows nothing."""
    # Samples one by one: that brightness and colour have unlike means shows nothing.
    across = tuple(range(old.ndim - 1)) if old.ndim > 2 else None
    a, b = old.astype(float), new.astype(float)
    a, b = a - a.mean(axis=across), b - b.mean(axis=across)
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return abs(float((a * b).sum()) / scale) if scale > 1e-9 else 0.0

"""Text burned into pixels is found and blacked out; all other pixels stay as they are.

Guarantee, in mode "ocr": each frame that can hold text was decoded and seen, by a cheap look at
its strokes at least; what looks like text was read; and of that only stays what was read with
confidence and is known to tell nothing of anybody (``words``). Assumptions: letters are at least
some 7 pixels high and stand out from what is behind them; the detector (PP-OCR) finds 98 % and more
of such text in the project's own corpus, not all. Source: PS3.15 section E.3.1, Clean Pixel Data
Option.

Pixels that can't be decoded, and video, which is not looked at, are ``Unsafe`` in mode "ocr".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b

import numpy as np
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import UID, ExplicitVRLittleEndian

from node.deid.pixels import encoding, painting, rules
from node.deid.pixels.frames import (
    Frames,
    check_sizes,
    frame_bytes,
    is_subsampled,
    native_bits,
)
from node.deid.pixels.image import Account, Box, Bytes, Cleaned, Image, PixelSettings
from node.deid.pixels.looking import look
from node.deid.pixels.prefilter import joined
from node.deid.pixels.repeats import Loop
from node.deid.pixels.views import Viewer
from node.deid.pixels.words import Matcher
from node.deid.reading import Unsafe

_ULTRASOUND = frozenset({"1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.3.1"})
"""Images of PS3.3 section C.8.5.6."""

Release = Callable[[int, int], None]
"""Told, after each frame, of ``offset`` and ``length`` of native pixels that were read."""


def clean_pixels(
    image: Image, matcher: Matcher, settings: PixelSettings, release: Release | None = None
) -> Cleaned:
    """Return what becomes of an image's pixels; ``Unsafe`` where nobody can say.

    One frame at a time is in memory, whatever ``image.native`` is a view of.
    """
    if settings.mode == "off":
        return _unchanged(image, Account())
    if settings.mode == "rules":
        return _by_rules(image, settings)
    check_sizes(image, settings)
    if image.fragments is not None and _is_video(image):
        raise Unsafe("undecodable-pixels")
    frames = Frames(image, settings)
    if not _is_legible(image, settings) or not rules.can_hold_text(image):
        return _unchanged(image, Account("ocr", image.frames))
    boxes, account = _searched(frames, matcher, settings, release)
    return blackened(frames, boxes, account)


def _by_rules(image: Image, settings: PixelSettings) -> Cleaned:
    """Black out the areas where devices of this kind write, unseen."""
    areas = rules.areas(image)
    account = Account("rules", image.frames)
    if not areas:
        if image.burned_in.upper() == "YES":
            raise Unsafe("burned-in-annotation")
        return _unchanged(image, account)
    if image.fragments is not None and _is_video(image):
        raise Unsafe("undecodable-pixels")
    frames = Frames(image, settings)
    boxes = {number: tuple(areas) for number in range(image.frames)}
    account = replace(
        account,
        frames_changed=image.frames,
        boxes_removed=len(areas) * image.frames,
        by_rule=len(areas) * image.frames,
    )
    return blackened(frames, boxes, account)


def _searched(
    frames: Frames, matcher: Matcher, settings: PixelSettings, release: Release | None
) -> tuple[dict[int, tuple[Box, ...]], Account]:
    image = frames.image
    areas = joined(rules.areas(image))
    viewer, loop = Viewer(image), Loop()
    known: dict[bytes, tuple[Box, ...]] = {}
    boxes: dict[int, tuple[Box, ...]] = {}
    found = searched = removed = unreadable = 0
    for number in range(image.frames):
        key = _digest(frames, number) if image.frames > 1 else b""
        if key and key in known:
            mine = known[key]
        else:
            views = viewer.views(frames.stored(number))
            novel = [loop.novel(view) for view in views]
            seen = look(views, novel, areas, matcher, settings)
            found += seen.found
            searched += seen.searched
            unreadable += seen.unreadable
            fresh = [painting.aligned(image, box) for box in seen.removed]
            mine = tuple(sorted({*fresh, *loop.still_there(views)}))
            if image.frames > 1:
                loop.sight(views, seen.lines, removed=False)
                loop.sight(views, fresh, removed=True)
                loop.add(views)
                known[key] = mine
        if mine:
            boxes[number] = mine
            removed += len(mine)
        if release is not None and image.native is not None:
            release(*_span(image, number))
    ruled = sum(any(a.meet(b).area for a in areas) for each in boxes.values() for b in each)
    account = Account("ocr", image.frames, searched, len(boxes), found, removed, unreadable, ruled)
    return boxes, account


def blackened(frames: Frames, boxes: Mapping[int, tuple[Box, ...]], account: Account) -> Cleaned:
    image = frames.image
    if not boxes:
        return _unchanged(image, account)
    if image.native is not None:
        return replace(
            _unchanged(image, account),
            changed=True,
            boxes=boxes,
            patches=lambda: _patches(frames, boxes),
        )
    return _encoded(frames, boxes, account) or _as_native(frames, boxes, account)


def _patches(frames: Frames, boxes: Mapping[int, tuple[Box, ...]]) -> Iterator[tuple[int, bytes]]:
    return painting.patches(
        frames.image, boxes, lambda number: painting.black(frames.image, frames.held(number))
    )


def _encoded(
    frames: Frames, boxes: Mapping[int, tuple[Box, ...]], account: Account
) -> Cleaned | None:
    """Encode the changed frames anew; None if one of them can't be in this syntax."""
    image = frames.image
    photometric = encoding.after(image)
    made: list[tuple[Bytes, ...]] = []
    for number, stream in enumerate(frames.streams):
        # With another photometric interpretation, all frames are to have it.
        if number not in boxes and photometric == image.photometric:
            made.append(stream)
            continue
        array, properties = frames.decoded(number, raw=True)
        if number in boxes:
            value = painting.black(image, array, str(properties["photometric_interpretation"]))
            array = painting.painted(array, boxes[number], value)
        new = encoding.encode(image, stream, array, properties)
        if new is None:
            return None
        made.append((new,))
    return replace(
        _unchanged(image, account),
        changed=True,
        boxes=boxes,
        photometric=photometric,
        fragments=tuple(made),
    )


def _as_native(frames: Frames, boxes: Mapping[int, tuple[Box, ...]], account: Account) -> Cleaned:
    """Let all frames be what they decode to; without loss there is no other way to keep them."""
    image = frames.image
    first, properties = frames.decoded(min(boxes), raw=True)
    bits = first.dtype.itemsize * 8
    photometric = str(properties["photometric_interpretation"])
    if photometric == "YBR_FULL_422":
        photometric = "YBR_FULL"  # decoders give each pixel its colour
    converts = photometric == "YBR_FULL" and image.sop_class in _ULTRASOUND
    if converts:
        photometric = "RGB"  # the one colour space of these classes without compression
    stored = min(int(properties["bits_stored"]), bits)

    def native() -> Iterator[bytes]:
        for number in range(image.frames):
            array, now = frames.decoded(number, raw=True)
            if array.dtype != first.dtype or array.shape != first.shape:
                raise Unsafe("undecodable-pixels")
            if now["photometric_interpretation"] != properties["photometric_interpretation"]:
                raise Unsafe("undecodable-pixels")
            if converts:
                array = convert_color_space(array, "YBR_FULL", "RGB")
            if number in boxes:
                value = painting.black(image, array, photometric)
                array = painting.painted(array, boxes[number], value)
            yield np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()

    return Cleaned(
        changed=True,
        transfer_syntax=ExplicitVRLittleEndian,
        photometric=photometric,
        planar=0,
        bits_allocated=bits,
        bits_stored=stored,
        high_bit=stored - 1,
        pixel_representation=1 if first.dtype.kind == "i" else 0,
        account=account,
        boxes=boxes,
        native=native,
        native_length=first.nbytes * image.frames,
    )


def _unchanged(image: Image, account: Account) -> Cleaned:
    return Cleaned(
        changed=False,
        transfer_syntax=image.transfer_syntax,
        photometric=image.photometric,
        planar=image.planar,
        bits_allocated=image.bits_allocated,
        bits_stored=image.bits_stored,
        high_bit=image.high_bit,
        pixel_representation=image.pixel_representation,
        account=account,
    )


def _is_video(image: Image) -> bool:
    return any(word in UID(image.transfer_syntax).name for word in ("MPEG", "HEVC", "SMPTE"))


def _is_legible(image: Image, settings: PixelSettings) -> bool:
    """Say whether a word fits in: seven pixels high, and three letters wide."""
    short, long = sorted((image.rows, image.columns))
    return short >= settings.min_text_pixels and long >= 3 * settings.min_text_pixels


def _span(image: Image, number: int) -> tuple[int, int]:
    bits = native_bits(image) if image.bits_allocated == 1 or is_subsampled(image) else 0
    if not bits:
        size = frame_bytes(image)
        return number * size, size
    return number * bits // 8, -(-bits // 8) + 1


def _digest(frames: Frames, number: int) -> bytes:
    digest = blake2b(digest_size=16)
    image = frames.image
    if image.native is None:
        for item in frames.streams[number]:
            digest.update(item)
    elif image.bits_allocated == 1:
        digest.update(frames.held(number).tobytes())
    else:
        offset, size = _span(image, number)
        digest.update(image.native[offset : offset + size])
    return digest.digest()

"""Pixel data of a DICOM file made safe: text blacked out, nothing in it that is no pixel.

Native pixels keep their bytes but for what is blacked out and what pads them; of encapsulated ones
each stream loses its comments and segments (``codestreams``). What isn't changed stays a stretch of
the source.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from node.deid.binary import TRAILER_BYTES, ends_in_text, identifies
from node.deid.codestreams import Offsets, clean_fragments, trim_native
from node.deid.elements import (
    EXPLICIT,
    IMPLICIT,
    ITEM,
    PIXEL_DATA,
    SEQUENCE_END,
    UNDEFINED,
    Element,
    encode_header,
)
from node.deid.identifiers import Matcher
from node.deid.image_header import Header, image
from node.deid.parts import Part, Parts
from node.deid.pixels.image import Box, Cleaned, PixelSettings
from node.deid.reading import Unsafe

EXTENDED, EXTENDED_LENGTHS = 0x7FE00001, 0x7FE00002
_FLOAT, _DOUBLE = 0x7FE00008, 0x7FE00009
_MOST_AT_ONCE = 256 << 20
"""Bytes of encapsulated pixels that are cleaned together; more go fragment by fragment."""
_MOST_MASKED = 2 << 30


@dataclass
class Outcome:
    """Elements of pixel data to write, by tag, and attributes that change with them."""

    elements: dict[int, Parts] = field(default_factory=dict)
    attributes: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    """VR and value, by tag."""
    transfer_syntax: str = ""
    boxes: Mapping[int, tuple[Box, ...]] = field(default_factory=dict)
    account: Counter[str] = field(default_factory=Counter)
    cleaned: bool = False
    """Whether text was looked for."""


def clean_pixel_data(
    header: Header, matcher: Matcher, settings: PixelSettings, masked: bytes | None
) -> Outcome:
    """Return the pixel data of a file without text and without what is not pixels.

    ``masked`` are native pixels whose overlay bits were cleared, if that was needed. ``Unsafe``
    when there are fewer pixels than declared, and when they can't be looked at as the settings ask.
    """
    outcome = Outcome(transfer_syntax=header.file.transfer_syntax)
    element = header.elements.get(PIXEL_DATA)
    if element is None:
        for tag in (_FLOAT, _DOUBLE):
            if (floating := header.elements.get(tag)) is not None:
                outcome.elements[tag] = _whole(floating)
        return outcome
    if element.fragments is None:
        _native(header, element, matcher, settings, masked, outcome)
    else:
        _encapsulated(header, element, matcher, settings, outcome)
    return outcome


def without_overlay_bits(header: Header, groups: list[int]) -> bytes:
    """Return native pixels with the bits of embedded overlays cleared (PS3.3 C.9.2, retired)."""
    import numpy as np

    element = header.elements.get(PIXEL_DATA)
    bits = header.number(0x00280100)
    if element is None or element.fragments is not None or bits not in (8, 16, 32):
        raise Unsafe("embedded-overlay")
    if element.end - element.start > _MOST_MASKED:
        raise Unsafe("too-large-pixels")
    mask = 0
    for group in groups:
        mask |= 1 << header.number(group << 16 | 0x0102)
    stored = header.number(0x00280101)
    first = header.number(0x00280102) + 1 - stored
    if mask & (((1 << stored) - 1) << max(first, 0)) or mask >> bits:
        raise Unsafe("embedded-overlay")  # the bits are the image's own
    order = "<" if header.level.little else ">"
    length = (element.end - element.start) // (bits // 8) * (bits // 8)
    held = np.frombuffer(header.file.data, np.uint8, length, element.start)
    kept = ~np.uint64(mask) & np.uint64((1 << bits) - 1)
    return bytes(
        (held.view(f"{order}u{bits // 8}") & kept.astype(f"{order}u{bits // 8}")).tobytes()
    )


# ---- native ------------------------------------------------------------------------------------


def _native(
    header: Header,
    element: Element,
    matcher: Matcher,
    settings: PixelSettings,
    masked: bytes | None,
    outcome: Outcome,
) -> None:
    length = element.end - element.start
    kept = trim_native(
        length,
        rows=header.number(0x00280010),
        columns=header.number(0x00280011),
        samples=header.number(0x00280002, 1),
        bits=header.number(0x00280100),
        frames=max(header.number(0x00280008, 1), 1),
        photometric=header.text(0x00280004),
    )
    _check_length(header, length)
    data = header.file.data if masked is None else masked
    start = element.start if masked is None else 0
    kept = min(kept, len(data) - start)
    if masked is None and not any(memoryview(data)[start + kept : element.end]):
        kept = length  # padded with nothing
    tail = bytes(memoryview(data)[max(start, start + kept - TRAILER_BYTES) : start + kept])
    if ends_in_text(tail) and identifies(tail, (), matcher):
        raise Unsafe("identifier-left")  # a damaged length took in what follows the pixels
    parts = Parts()
    dataset = header.level
    padded = kept + (kept & 1)

    def begin(total: int) -> None:
        encoded = encode_header(
            PIXEL_DATA, element.vr, total, implicit=dataset.implicit, little=dataset.little
        )
        parts.put(encoded)

    # Two pixels of 8 bits are one word of OW: in big endian, the second comes first (PS3.5 7.3).
    in_pairs = not dataset.little and element.vr == "OW" and header.number(0x00280100) in (1, 8)
    if in_pairs and settings.mode == "ocr":
        if kept > _MOST_MASKED:
            raise Unsafe("too-large-pixels")
        masked = swapped(bytes(memoryview(data)[start : start + padded]))
    native = memoryview(data)[start : start + kept] if masked is None else memoryview(masked)
    cleaned = _read(header, matcher, settings, native[:kept], None)
    _note(cleaned, outcome)
    if masked is not None:
        pixels = bytearray(masked[:kept])
        if cleaned is not None and cleaned.patches is not None:
            for offset, new in cleaned.patches():
                pixels[offset : offset + len(new)] = new
        begin(padded)
        whole = bytes(pixels) + b"\0" * (padded - kept)
        parts.put(swapped(whole) if in_pairs and settings.mode == "ocr" else whole)
    elif cleaned is not None and cleaned.patches is not None:
        begin(padded)
        position = 0
        for offset, new in cleaned.patches():
            parts.take(start + position, start + offset)
            parts.put(new)
            position = offset + len(new)
        parts.take(start + position, start + kept)
        parts.put(b"\0" * (padded - kept))
    elif padded == length and not (kept & 1):
        parts.take(element.header, element.after)
    else:
        begin(padded)
        parts.take(start, start + kept)
        parts.put(b"\0" * (padded - kept))
    outcome.elements[PIXEL_DATA] = parts


def swapped(raw: bytes) -> bytes:
    """Return the bytes of each word of 16 bits the other way round; an odd last one as it is."""
    turned, even = bytearray(raw), len(raw) // 2 * 2
    turned[0:even:2], turned[1:even:2] = raw[1:even:2], raw[0:even:2]
    return bytes(turned)


def _check_length(header: Header, length: int) -> None:
    """Refuse pixels that end before what their attributes declare (PS3.5 section 8.1.1)."""
    bits = max(header.number(0x00280008, 1), 1) * header.number(0x00280100)
    bits *= header.number(0x00280010) * header.number(0x00280011) * header.number(0x00280002, 1)
    photometric = header.text(0x00280004)
    if photometric in ("YBR_FULL_422", "YBR_PARTIAL_422"):
        bits = bits * 2 // 3
    elif photometric == "YBR_PARTIAL_420":
        bits //= 2
    if length * 8 < bits:
        raise Unsafe("truncated")


# ---- encapsulated ------------------------------------------------------------------------------


def _encapsulated(
    header: Header, element: Element, matcher: Matcher, settings: PixelSettings, outcome: Outcome
) -> None:
    view = memoryview(header.file.data)
    offsets = _offsets(header, element)
    source, after = _streams(header, element, offsets)
    shown = tuple(
        memoryview(part) if isinstance(part, bytes) else view[part[0] : part[1]] for part in source
    )
    cleaned = _read(header, matcher, settings, None, shown, after.extended or after.basic)
    _note(cleaned, outcome)
    if cleaned is not None and cleaned.native is not None:
        _become_native(cleaned, header.level.implicit, outcome)
        return
    if cleaned is not None and cleaned.fragments is not None:
        items = [bytes(item) for frame in cleaned.fragments for item in frame]
        source = [item + b"\0" * (len(item) & 1) for item in items]
        after = _tables(cleaned, after)
    elif after == offsets and not any(isinstance(part, bytes) for part in source):
        outcome.elements[PIXEL_DATA] = _whole(element)
        for tag in (EXTENDED, EXTENDED_LENGTHS):
            if tag in header.elements and after.extended:
                outcome.elements[tag] = _whole(header.elements[tag])
        return
    _write_streams(header, element, source, after, outcome)


def _streams(header: Header, element: Element, offsets: Offsets) -> tuple[list[Part], Offsets]:
    """Return the cleaned fragments, as stretches of the file where they stayed, and offsets."""
    assert element.fragments is not None
    bounds = element.fragments[1:]
    view, syntax = memoryview(header.file.data), header.file.transfer_syntax
    frames = max(header.number(0x00280008, 1), 1)
    pixels = header.number(0x00280010) * header.number(0x00280011)
    size = sum(end - start for start, end in bounds)
    if size > _MOST_AT_ONCE and len(bounds) == frames:
        source: list[Part] = []
        for start, end in bounds:
            given = [bytes(view[start:end])]
            new, _ = clean_fragments(given, Offsets(), syntax, frames=1, pixels=pixels)
            source.append((start, end) if new[0] is given[0] else new[0])
        return source, Offsets() if any(isinstance(part, bytes) for part in source) else offsets
    if size > 4 * _MOST_AT_ONCE:
        raise Unsafe("too-large-pixels")
    given = [bytes(view[start:end]) for start, end in bounds]
    new, after = clean_fragments(given, offsets, syntax, frames=frames, pixels=pixels)
    if len(new) != len(given):
        return list(new), after
    return [b if n is g else n for n, g, b in zip(new, given, bounds, strict=True)], after


def _write_streams(
    header: Header, element: Element, source: list[Part], after: Offsets, outcome: Outcome
) -> None:
    parts, implicit = Parts(), header.level.implicit
    parts.put(encode_header(PIXEL_DATA, element.vr, UNDEFINED, implicit=implicit, little=True))
    table = struct.pack(f"<{len(after.basic)}L", *after.basic)
    parts.put(_item(len(table)) + table)
    for part in source:
        if isinstance(part, bytes):
            parts.put(_item(len(part)))
            parts.put(part)
        else:
            parts.put(_item(part[1] - part[0]))
            parts.take(*part)
    parts.put(encode_header(SEQUENCE_END, "", 0, implicit=True, little=True))
    outcome.elements[PIXEL_DATA] = parts
    for tag, table_of in ((EXTENDED, after.extended), (EXTENDED_LENGTHS, after.lengths)):
        if table_of:
            value = struct.pack(f"<{len(table_of)}Q", *table_of)
            outcome.elements[tag] = made = Parts()
            made.put(encode_header(tag, "OV", len(value), implicit=implicit, little=True) + value)


def _tables(cleaned: Cleaned, old: Offsets) -> Offsets:
    starts, position = [], 0
    lengths = []
    for frame in cleaned.fragments or ():
        starts.append(position)
        sizes = [len(item) for item in frame]
        lengths.append(sum(sizes))
        position += sum(8 + size + (size & 1) for size in sizes)
    single = all(len(frame) == 1 for frame in cleaned.fragments or ())
    extended = bool(old.extended) and single
    return Offsets(
        tuple(starts) if old.basic else (),
        tuple(starts) if extended else (),
        tuple(lengths) if extended else (),
    )


def _become_native(cleaned: Cleaned, implicit: bool, outcome: Outcome) -> None:
    assert cleaned.native is not None
    parts = Parts()
    vr = "OW" if cleaned.bits_allocated > 8 else "OB"
    padding = cleaned.native_length & 1
    length = cleaned.native_length + padding
    if length >= UNDEFINED:
        raise Unsafe("too-large-pixels")
    parts.put(encode_header(PIXEL_DATA, vr, length, implicit=implicit, little=True))
    for piece in cleaned.native():
        parts.put(piece)
    parts.put(b"\0" * padding)
    outcome.elements[PIXEL_DATA] = parts
    outcome.transfer_syntax = IMPLICIT if implicit else EXPLICIT


def _offsets(header: Header, element: Element) -> Offsets:
    assert element.fragments
    start, end = element.fragments[0]
    raw = bytes(header.file.data[start:end])
    basic = struct.unpack(f"<{len(raw) // 4}L", raw[: len(raw) // 4 * 4])
    tables = []
    for tag in (EXTENDED, EXTENDED_LENGTHS):
        held = header.raw(tag)
        tables.append(struct.unpack(f"<{len(held) // 8}Q", held[: len(held) // 8 * 8]))
    return Offsets(basic, *tables)


# ---- looking at pixels -------------------------------------------------------------------------


def _read(
    header: Header,
    matcher: Matcher,
    settings: PixelSettings,
    native: memoryview | None,
    fragments: tuple[memoryview, ...] | None,
    offsets: tuple[int, ...] = (),
) -> Cleaned | None:
    declared = header.text(0x00280301).upper()
    if settings.mode == "off":
        if declared and declared != "NO":
            # YES, several values, or what can't be read: only a plain NO lets the pixels pass.
            raise Unsafe("burned-in-annotation")
        return None
    from node.deid.pixels.cleaning import clean_pixels

    return clean_pixels(image(header, native, fragments, offsets), matcher, settings)


def _note(cleaned: Cleaned | None, outcome: Outcome) -> None:
    if cleaned is None:
        return
    outcome.cleaned = True
    account = cleaned.account
    outcome.account.update(
        frames=account.frames,
        frames_searched=account.frames_searched,
        frames_changed=account.frames_changed,
        boxes_removed=account.boxes_removed,
    )
    outcome.boxes = cleaned.boxes
    if not cleaned.changed:
        return

    def number(value: int) -> tuple[str, bytes]:
        return "US", struct.pack("<H", value)

    if cleaned.native is not None:
        outcome.attributes = {
            0x00280004: ("CS", cleaned.photometric.encode()),
            0x00280100: number(cleaned.bits_allocated),
            0x00280101: number(cleaned.bits_stored),
            0x00280102: number(cleaned.high_bit),
            0x00280103: number(cleaned.pixel_representation),
        }
        if cleaned.photometric not in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"):
            outcome.attributes[0x00280006] = number(cleaned.planar)
    elif cleaned.fragments is not None:
        outcome.attributes = {0x00280004: ("CS", cleaned.photometric.encode())}


def _whole(element: Element) -> Parts:
    parts = Parts()
    parts.take(element.header, element.after)
    return parts


def _item(length: int) -> bytes:
    return encode_header(ITEM, "", length, implicit=True, little=True)

"""Boxes of pixels made black, in arrays and in native pixel data, where nothing else may change.

Black is the lowest value that the frame shows, so that no window has to be chosen anew: 0 of
colours, the least brightness of YBR, the darkest entry of a palette, the least value of a grey
frame, and the greatest where that is dark (MONOCHROME1; PS3.3 C.7.6.3.1.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from node.deid.pixels.frames import Array, frame_bytes, is_subsampled, native_bits
from node.deid.pixels.image import Box, Image
from node.deid.pixels.palettes import colours


def black(image: Image, frame: Array, photometric: str = "") -> tuple[float, ...]:
    """Return the value of black for each sample; ``frame`` holds the stored values."""
    photometric = photometric or image.photometric
    if photometric == "PALETTE COLOR" and image.palette is not None:
        table = colours(image.palette).astype(np.int64).sum(axis=1)
        last = (1 << image.bits_stored) - 1
        usable = table[: max(last - image.palette.first + 1, 1)]
        # Equally dark: the lowest index.
        return (image.palette.first + int(np.argmin(usable)),)
    if frame.ndim == 3:
        middle = 1 << (image.bits_stored - 1)
        if photometric.startswith("YBR_PARTIAL"):
            return (middle // 8, middle, middle)
        if photometric.startswith("YBR_FULL"):
            return (0, middle, middle)
        full = (1 << image.bits_stored) - 1 if photometric == "CMYK" else 0
        return (full,) * int(frame.shape[2])
    some = frame[np.isfinite(frame)] if frame.dtype.kind == "f" else frame
    if not some.size:
        return (0,)
    value = some.max() if photometric == "MONOCHROME1" else some.min()
    return (value.item(),)


def painted(frame: Array, boxes: Iterable[Box], value: Sequence[float]) -> Array:
    """Return a copy of the frame, shape (rows, columns[, samples]), with black boxes."""
    copy = np.array(frame)
    for box in boxes:
        copy[box.y0 : box.y1, box.x0 : box.x1] = value if copy.ndim == 3 else value[0]
    return copy


def aligned(image: Image, box: Box) -> Box:
    """Widen the box to pixels that can be changed without others: pairs, where they share."""
    if is_subsampled(image):
        return Box(box.x0 & ~1, box.y0, min(box.x1 + 1 & ~1, image.columns), box.y1)
    return box


def patches(
    image: Image,
    boxes: Mapping[int, Sequence[Box]],
    value: Callable[[int], Sequence[float]],
) -> Iterator[tuple[int, bytes]]:
    """Yield offsets into native pixel data, ascending, and the bytes that replace those there.

    ``boxes`` are ``aligned``; ``value`` says what is black in a frame. Bits outside of
    Bits Stored stay, as do all pixels outside the boxes.
    """
    start, waiting = 0, b""
    for frame in sorted(boxes):
        for offset, new in _of_frame(image, frame, boxes[frame], value(frame)):
            if waiting and offset < start + len(waiting):
                # Pixels of one bit: two rows, or two frames, share a byte.
                start, waiting = _shared(image, start, waiting, offset, new)
                continue
            if waiting:
                yield start, waiting
            start, waiting = offset, new
    if waiting:
        yield start, waiting


def _shared(
    image: Image, start: int, first: bytes, offset: int, second: bytes
) -> tuple[int, bytes]:
    """Join two patches of which the first ends in the byte where the second begins."""
    assert image.native is not None and offset == start + len(first) - 1
    # No bit is changed by both.
    both = image.native[offset] ^ first[-1] ^ second[0]
    return start, first[:-1] + bytes([both]) + second[1:]


def _of_frame(
    image: Image, frame: int, boxes: Sequence[Box], value: Sequence[float]
) -> Iterator[tuple[int, bytes]]:
    if image.bits_allocated == 1:
        yield from _bits(image, frame, boxes, value)
        return
    subsampled = is_subsampled(image)
    size = native_bits(image) // 8 if subsampled else frame_bytes(image)
    width = image.bits_allocated // 8
    if subsampled:
        quad = (value[0], value[0], value[1], value[2])
        planes: list[tuple[int, int, Sequence[float]]] = [(0, 2, quad)]
    elif image.samples > 1 and image.planar:
        plane = image.rows * image.columns * width
        planes = [(plane * i, 1, value[i : i + 1]) for i in range(image.samples)]
    else:
        planes = [(0, image.samples, value)]
    for first, samples, pattern in planes:
        for row, x0, x1 in _runs(boxes):
            at = frame * size + first + (row * image.columns + x0) * samples * width
            length = (x1 - x0) * samples * width
            yield at, _filled(image, at, length, pattern)


def _filled(image: Image, at: int, length: int, pattern: Sequence[float]) -> bytes:
    assert image.native is not None
    order = "<" if image.little_endian else ">"
    width = image.bits_allocated // 8
    if image.floating:
        count = length // width // len(pattern)
        return np.tile(np.array(pattern, f"{order}f{width}"), count).tobytes()
    old = np.frombuffer(image.native[at : at + length], f"{order}u{width}")
    low = image.high_bit + 1 - image.bits_stored
    stored = ((1 << image.bits_stored) - 1) << low
    new = np.array([(int(v) << low) & stored for v in pattern], np.uint64).astype(old.dtype)
    kept = old & old.dtype.type(((1 << image.bits_allocated) - 1) & ~stored)
    both: bytes = (kept | np.tile(new, len(old) // len(pattern))).astype(old.dtype).tobytes()
    return both


def _bits(
    image: Image, frame: int, boxes: Sequence[Box], value: Sequence[float]
) -> Iterator[tuple[int, bytes]]:
    """Yield patches of pixels of one bit, the first in the lowest bit of a byte (PS3.5 8.1.1)."""
    assert image.native is not None
    start = frame * native_bits(image)
    for row, x0, x1 in _runs(boxes):
        first = start + (row * image.columns + x0) * image.samples
        last = first + (x1 - x0) * image.samples
        held = np.frombuffer(image.native[first // 8 : -(-last // 8)], np.uint8)
        bits = np.unpackbits(held, bitorder="little")
        bits[first % 8 : first % 8 + last - first] = np.tile(
            np.array(value, np.uint8) & 1, (last - first) // len(value)
        )
        yield first // 8, np.packbits(bits, bitorder="little").tobytes()


def _runs(boxes: Sequence[Box]) -> Iterator[tuple[int, int, int]]:
    """Yield row, first and end column of what the boxes cover, in order, without overlap."""
    for row in sorted({row for box in boxes for row in range(box.y0, box.y1)}):
        run: tuple[int, int] | None = None
        for x0, x1 in sorted((b.x0, b.x1) for b in boxes if b.y0 <= row < b.y1 and b.x0 < b.x1):
            if run is not None and x0 <= run[1]:
                run = (run[0], max(run[1], x1))
                continue
            if run is not None:
                yield row, *run
            run = (x0, x1)
        if run is not None:
            yield row, *run

"""Native pixels are changed in place: the boxes are black, every other bit stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from node.deid.pixels import painting
from node.deid.pixels.frames import Frames
from node.deid.pixels.image import Box, Image, Palette
from tests.node.deid.pixels.making import SETTINGS, native, outside, patched


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Image, dict[int, tuple[Box, ...]]]:
    """Any native image of up to 3 frames with random bytes, and boxes in some of them."""
    rows, columns = draw(st.integers(1, 9)), draw(st.integers(1, 11))
    frames = draw(st.integers(1, 3))
    bits = draw(st.sampled_from([1, 8, 16, 32]))
    samples = draw(st.sampled_from([1, 3])) if bits in (8, 16) else 1
    subsampled = samples == 3 and bits == 8 and draw(st.booleans())
    if subsampled:
        columns = 2 * columns
        photometric = "YBR_FULL_422"
    elif samples == 3:
        photometric = draw(st.sampled_from(["RGB", "YBR_FULL"]))
    else:
        photometric = draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"]))
    stored = 1 if bits == 1 else draw(st.integers(max(bits - 7, 2), bits))
    stored = bits if samples == 3 else stored
    size = -(-rows * columns * (2 if subsampled else samples) * bits * frames // 8)
    value = draw(st.binary(min_size=size, max_size=size))
    image = Image(
        transfer_syntax="1.2.840.10008.1.2.1",
        rows=rows,
        columns=columns,
        samples=samples,
        bits_allocated=bits,
        bits_stored=stored,
        high_bit=draw(st.integers(stored - 1, bits - 1)),
        pixel_representation=draw(st.integers(0, 1)) if samples == 1 and bits > 1 else 0,
        photometric=photometric,
        planar=draw(st.integers(0, 1)) if samples == 3 and not subsampled else 0,
        frames=frames,
        little_endian=draw(st.booleans()) if bits > 8 else True,
        native=memoryview(value),
    )
    boxes: dict[int, tuple[Box, ...]] = {}
    for number in range(frames):
        found = []
        for _ in range(draw(st.integers(0, 2))):
            x0, y0 = draw(st.integers(0, columns - 1)), draw(st.integers(0, rows - 1))
            x1, y1 = draw(st.integers(x0 + 1, columns)), draw(st.integers(y0 + 1, rows))
            found.append(painting.aligned(image, Box(x0, y0, x1, y1)))
        if found:
            boxes[number] = tuple(found)
    return image, boxes


def black(frames: Frames) -> Any:
    return lambda number: painting.black(frames.image, frames.held(number))


@given(layouts())
@settings(max_examples=300, deadline=None)
def test_in_any_native_layout_boxes_are_black_and_all_else_stays(
    layout: tuple[Image, dict[int, tuple[Box, ...]]],
) -> None:
    image, boxes = layout
    old = Frames(image, SETTINGS)
    value = patched(image, painting.patches(image, boxes, black(old)))
    new = Frames(replace(image, native=memoryview(value)), SETTINGS)
    for number in range(image.frames):
        was, now = old.held(number), new.held(number)
        mine = boxes.get(number, ())
        mask = outside(was.shape, mine)
        assert np.array_equal(was[mask], now[mask])
        expected = painting.black(image, was)
        inside = now[~mask]
        assert (inside == (expected if was.ndim == 3 else expected[0])).all()


@given(layouts())
@settings(max_examples=200, deadline=None)
def test_bits_beyond_the_stored_ones_stay(
    layout: tuple[Image, dict[int, tuple[Box, ...]]],
) -> None:
    image, boxes = layout
    if image.bits_allocated == 1 or image.samples > 1:
        return
    value = patched(image, painting.patches(image, boxes, black(Frames(image, SETTINGS))))
    order = "<" if image.little_endian else ">"
    kind = f"{order}u{image.bits_allocated // 8}"
    assert image.native is not None
    was, now = np.frombuffer(image.native, kind), np.frombuffer(value, kind)
    stored = ((1 << image.bits_stored) - 1) << (image.high_bit + 1 - image.bits_stored)
    unused = was.dtype.type(((1 << image.bits_allocated) - 1) & ~stored)
    assert np.array_equal(was & unused, now & unused)


def test_a_palette_is_blackened_with_its_darkest_entry() -> None:
    table = bytes([200, 90, 7, 80, 255])
    palette = Palette(5, 0, 8, table, table, table)
    indices = np.full((1, 4, 4), 4, np.uint8)
    image = native(indices, "PALETTE COLOR", palette=palette)
    assert painting.black(image, indices[0]) == (2,)


def test_black_is_the_brightest_value_where_high_is_dark() -> None:
    frame = np.array([[3, 900]], np.uint16)
    image = native(frame[None])
    assert painting.black(image, frame) == (3,)
    assert painting.black(replace(image, photometric="MONOCHROME1"), frame) == (900,)


def test_infinite_and_missing_numbers_are_not_black() -> None:
    frame = np.array([[np.nan, -np.inf], [2.5, 7.0]], np.float32)
    image = native(frame[None], floating=True)
    assert painting.black(image, frame) == (2.5,)

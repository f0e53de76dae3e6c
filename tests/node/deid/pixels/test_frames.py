"""Pixels of any size and kind: bombs are refused before they are decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.deid.pixels.cleaning import clean_pixels
from node.deid.pixels.frames import Frames
from node.deid.pixels.image import Image, PixelSettings
from node.deid.reading import Unsafe
from tests.node.deid.pixels.making import NOBODY, SETTINGS, native, read

SMALL = native(np.zeros((1, 8, 8), np.uint8))


def test_a_frame_of_65535_squared_is_refused() -> None:
    with pytest.raises(Unsafe, match="too-large-pixels"):
        clean_pixels(replace(SMALL, rows=65535, columns=65535), NOBODY, SETTINGS)


def test_a_small_file_of_a_hundred_thousand_frames_is_refused() -> None:
    with pytest.raises(Unsafe, match="too-large-pixels"):
        clean_pixels(replace(SMALL, frames=100_000), NOBODY, SETTINGS)


def test_fewer_pixels_than_declared_are_refused() -> None:
    with pytest.raises(Unsafe, match="undecodable-pixels"):
        clean_pixels(replace(SMALL, rows=9), NOBODY, SETTINGS)


def test_a_stream_that_declares_more_than_the_header_is_refused_undecoded(
    public_file: Callable[[str], Path],
) -> None:
    image = read(public_file("MR_small_jp2klossless.dcm"))
    assert image.fragments is not None
    stream = bytearray(image.fragments[0])
    stream[8:16] = (60_000).to_bytes(4, "big") * 2
    bomb = replace(image, fragments=(memoryview(bytes(stream)),))
    with pytest.raises(Unsafe, match="too-large-pixels"):
        Frames(bomb, SETTINGS)
    stream[8:16] = (65).to_bytes(4, "big") * 2
    with pytest.raises(Unsafe, match="undecodable-pixels"):
        Frames(replace(image, fragments=(memoryview(bytes(stream)),)), SETTINGS)


def test_an_rle_frame_that_is_cut_is_refused(public_file: Callable[[str], Path]) -> None:
    image = read(public_file("MR_small_RLE.dcm"))
    assert image.fragments is not None
    cut = replace(image, fragments=(image.fragments[0][:200],))
    with pytest.raises(Unsafe, match="undecodable-pixels"):
        clean_pixels(cut, NOBODY, SETTINGS)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.102"])
def test_video_is_not_looked_at_and_so_not_passed(syntax: str) -> None:
    video = replace(SMALL, transfer_syntax=syntax, native=None, fragments=(memoryview(b"\0\0"),))
    with pytest.raises(Unsafe, match="undecodable-pixels"):
        clean_pixels(video, NOBODY, SETTINGS)
    assert not clean_pixels(video, NOBODY, PixelSettings(mode="off")).changed


def test_jpeg_extended_of_12_bits_is_decoded(public_file: Callable[[str], Path]) -> None:
    frame = Frames(read(public_file("JPGExtended.dcm")), SETTINGS).stored(0)
    assert frame.shape == (1024, 256) and 255 < int(frame.max()) < 4096


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["90", "50", "70", "80", "51"]))
def test_streams_of_any_bytes_are_unsafe_or_decoded(stream: bytes, end: str) -> None:
    image = Image(
        transfer_syntax=f"1.2.840.10008.1.2.4.{end}",
        rows=8,
        columns=8,
        samples=1,
        bits_allocated=8,
        bits_stored=8,
        high_bit=7,
        pixel_representation=0,
        photometric="MONOCHROME2",
        fragments=(memoryview(b"\xff\xd8" + stream),),
    )
    try:
        frame = Frames(image, SETTINGS).stored(0)
    except Unsafe:
        return
    assert frame.shape == (8, 8)

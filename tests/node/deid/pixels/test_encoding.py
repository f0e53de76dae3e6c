"""Compressed frames: what is outside the boxes decodes to the same as before, in every syntax."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.pixels import pixel_array
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from node.deid.pixels import cleaning, encoding, painting
from node.deid.pixels.frames import Frames
from node.deid.pixels.image import Account, Box
from tests.node.deid.pixels.making import SETTINGS, after, before, outside, read

SAME_SYNTAX = {
    "MR_small_RLE.dcm": RLELossless,
    "SC_rgb_rle_16bit_2frame.dcm": RLELossless,
    "SC_rgb_rle_32bit.dcm": RLELossless,
    "OBXXXX1A_rle_2frame.dcm": RLELossless,
    "emri_small_RLE.dcm": RLELossless,
    "JPEG-LL.dcm": JPEGLosslessSV1,
    "SC_rgb_jpeg_gdcm.dcm": JPEGLosslessSV1,
    "bad_sequence.dcm": JPEGLosslessSV1,
    "MR_small_jpeg_ls_lossless.dcm": JPEGLSLossless,
    "emri_small_jpeg_ls_lossless.dcm": JPEGLSLossless,
    "JPEGLSNearLossless_16.dcm": JPEGLSNearLossless,
    "SC_rgb_jls_lossy_sample.dcm": JPEGLSNearLossless,
    "693_J2KR.dcm": JPEG2000Lossless,
    "J2K_pixelrep_mismatch.dcm": JPEG2000Lossless,
    "US1_J2KR.dcm": JPEG2000Lossless,
    "emri_small_jpeg_2k_lossless.dcm": JPEG2000Lossless,
    "693_J2KI.dcm": JPEG2000,
    "US1_J2KI.dcm": JPEG2000,
    "SC_rgb_gdcm_KY.dcm": JPEG2000,
}
NATIVE = {
    "SC_rgb_jpeg_dcmtk.dcm": JPEGBaseline8Bit,
    "SC_rgb_dcmtk_+eb+cy+np.dcm": JPEGBaseline8Bit,
    "SC_rgb_dcmtk_+eb+cr.dcm": JPEGBaseline8Bit,
    "examples_ybr_color.dcm": JPEGBaseline8Bit,
    "JPGExtended.dcm": JPEGExtended12Bit,
}
BOXES = (Box(1, 2, 9, 7), Box(6, 4, 10, 12))


@pytest.mark.parametrize("name", [*SAME_SYNTAX, *NATIVE])
def test_outside_of_the_boxes_every_pixel_decodes_as_before(
    name: str, public_file: Callable[[str], Path]
) -> None:
    image = read(public_file(name))
    last = image.frames - 1
    frames = Frames(image, SETTINGS)
    cleaned = cleaning.blackened(frames, {last: BOXES}, Account())
    old, new = before(image), after(image, cleaned)
    assert len(old) == len(new) == image.frames
    told = str(frames.decoded(last, raw=True)[1]["photometric_interpretation"])
    if cleaned.photometric == "RGB" != told:  # ultrasound that loses its compression
        old = [convert_color_space(frame, "YBR_FULL", "RGB") for frame in old]
        told = "RGB"
    for number, (was, now) in enumerate(zip(old, new, strict=True)):
        assert was.dtype == now.dtype and was.shape == now.shape
        mask = outside(was.shape, BOXES if number == last else ())
        assert np.array_equal(was[mask], now[mask])
    inside = new[last][~outside(new[last].shape, BOXES)]
    assert (inside == painting.black(image, old[last], told)).all()


@pytest.mark.parametrize(("name", "syntax"), SAME_SYNTAX.items())
def test_what_can_be_encoded_without_loss_keeps_its_syntax(
    name: str, syntax: str, public_file: Callable[[str], Path]
) -> None:
    image = read(public_file(name))
    cleaned = cleaning.blackened(Frames(image, SETTINGS), {0: BOXES}, Account())
    assert (image.transfer_syntax, cleaned.transfer_syntax) == (syntax, syntax)
    assert cleaned.fragments is not None and len(cleaned.fragments) == image.frames


@pytest.mark.parametrize(("name", "syntax"), NATIVE.items())
def test_lossy_jpeg_becomes_what_it_decodes_to(
    name: str, syntax: str, public_file: Callable[[str], Path]
) -> None:
    image = read(public_file(name))
    cleaned = cleaning.blackened(Frames(image, SETTINGS), {0: BOXES}, Account())
    assert image.transfer_syntax == syntax
    assert cleaned.transfer_syntax == ExplicitVRLittleEndian and cleaned.fragments is None
    assert cleaned.photometric in ("MONOCHROME2", "RGB", "YBR_FULL")


def test_frames_that_did_not_change_keep_their_very_bytes(
    public_file: Callable[[str], Path],
) -> None:
    image = read(public_file("emri_small_jpeg_ls_lossless.dcm"))
    cleaned = cleaning.blackened(Frames(image, SETTINGS), {3: BOXES}, Account())
    assert image.fragments is not None and cleaned.fragments is not None
    same = [
        b"".join(items) == bytes(old)
        for items, old in zip(cleaned.fragments, image.fragments, strict=True)
    ]
    assert same == [number != 3 for number in range(10)]


def test_the_reversible_transform_replaces_the_irreversible_one(
    public_file: Callable[[str], Path],
) -> None:
    image = read(public_file("US1_J2KI.dcm"))
    assert image.photometric == "YBR_ICT" and encoding.after(image) == "YBR_RCT"


@pytest.mark.parametrize("name", [*SAME_SYNTAX, *NATIVE])
def test_frames_decode_to_what_pydicom_decodes_them_to(
    name: str, public_file: Callable[[str], Path]
) -> None:
    path = public_file(name)
    image = read(path)
    found = Frames(image, SETTINGS).decoded(0, raw=True)[0]
    try:
        expected = pixel_array(path, raw=True, index=0)
    except RuntimeError:
        assert name == "JPGExtended.dcm"  # 12 bits, which none of pydicom's decoders knows
        return
    assert found.dtype == expected.dtype and np.array_equal(found, expected)

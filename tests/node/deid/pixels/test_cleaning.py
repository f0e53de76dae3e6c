"""Whole images: burned-in identifiers go, harmless text and every other pixel stay."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.uid import ExplicitVRBigEndian

from node.deid.engine import Deidentifier
from node.deid.pixel_data import swapped
from node.deid.pixels import reader
from node.deid.pixels.bitmaps import clean_bitmap
from node.deid.pixels.cleaning import clean_pixels
from node.deid.pixels.image import Box, Image, PixelSettings
from node.deid.profile import load_profile
from node.deid.pseudonyms import Pseudonyms
from tests.corpus.sources import source
from tests.node.deid.made import dataset
from tests.node.deid.pixels.making import (
    NOBODY,
    PATIENT,
    SETTINGS,
    Array,
    after,
    before,
    likeness,
    native,
    outside,
    read,
    tissue,
    write,
)

MARGIN = 10


def check(image: Image, gone: list[Box], kept: list[Box], *, slack: int = MARGIN) -> None:
    """Clean the image and compare all its frames."""
    cleaned = clean_pixels(image, PATIENT, SETTINGS)
    for was, now in zip(before(image), after(image, cleaned), strict=True):
        mask = outside(was.shape, gone, slack)
        assert np.array_equal(was[mask], now[mask])
        for box in gone:
            area = slice(box.y0, box.y1), slice(box.x0, box.x1)
            assert likeness(was[area], now[area]) < 0.3
        for box in kept:
            area = slice(box.y0, box.y1), slice(box.x0, box.x1)
            assert np.array_equal(was[area], now[area])


def drawn(array: Array, ink: int) -> tuple[list[Box], list[Box]]:
    gone = [
        write(array, "KOWALCZYK, MAGDALENA", 12, 20, 14, ink),
        write(array, "ZV676936", 20, 60, 14, ink),
    ]
    return gone, [write(array, "MI 1.1", 220, 150, 14, ink)]


def test_a_name_over_tissue_goes_and_a_setting_stays() -> None:
    picture = tissue(200, 320)
    gone, kept = drawn(picture, 255)
    check(native(picture[None]), gone, kept)


def test_dark_text_goes_where_high_values_are_dark() -> None:
    picture = 255 - tissue(200, 320, top=90)
    gone, kept = drawn(picture, 0)
    check(native(picture[None], "MONOCHROME1"), gone, kept)


def test_text_goes_in_signed_16_bits_of_which_it_is_the_brightest() -> None:
    picture = tissue(200, 320).astype(np.int16) * 8 - 1000
    gone, kept = drawn(picture, 3000)
    check(native(picture[None]), gone, kept)


def test_white_text_goes_from_tissue_that_is_nearly_white() -> None:
    picture = np.zeros((256, 320), np.uint16)
    picture[20:220, 10:310] = 1000 + tissue(200, 300, top=60).astype(np.uint16)
    gone = [write(picture, "KOWALCZYK", 60, 100, 24, 1172)]
    check(native(picture[None]), gone, [])


def test_text_that_differs_in_colour_alone_goes() -> None:
    picture = np.zeros((200, 320, 3), np.uint8)
    picture[...] = (190, 0, 0)
    gone = [write(picture, "ZV676936", 20, 60, 18, (0, 190, 0))]
    kept = [write(picture, "SUPINE", 200, 150, 18, (0, 190, 0))]
    check(native(picture[None], "RGB"), gone, kept)


def test_text_in_a_script_that_cannot_be_read_goes() -> None:
    picture = tissue(200, 320)
    gone = [write(picture, "Сергей Абрамович", 30, 60, 16, 255)]
    cleaned = clean_pixels(native(picture[None]), NOBODY, SETTINGS)
    assert cleaned.account.boxes_unreadable >= 1
    check(native(picture[None]), gone, [])


def test_text_that_runs_up_goes() -> None:
    picture = tissue(320, 200)
    turned = np.ascontiguousarray(np.rot90(picture))
    box = write(turned, "KOWALCZYK MAGDALENA", 40, 80, 16, 255)
    picture = np.ascontiguousarray(np.rot90(turned, 3))
    gone = [Box(200 - box.y1, box.x0, 200 - box.y0, box.x1)]
    check(native(picture[None]), gone, [])


def test_what_stands_right_of_a_label_goes_though_it_would_be_harmless() -> None:
    picture = np.zeros((120, 420), np.uint8)
    label = write(picture, "Patient name:", 10, 40, 18, 255)
    value = write(picture, "Long Hand", label.x1 + 40, 40, 18, 255)
    other = write(picture, "Left Hand", 250, 90, 18, 255)
    check(native(picture[None]), [label, value], [other])


def test_pixels_without_text_are_not_touched_and_cost_no_search() -> None:
    cleaned = clean_pixels(native(tissue(256, 256)[None]), PATIENT, SETTINGS)
    assert not cleaned.changed and cleaned.account.frames_searched == 0


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "JPGExtended.dcm", "693_UNCI.dcm", "SC_rgb_jpeg.dcm", "image_dfl.dcm"]
)
def test_real_pictures_without_identifiers_are_not_touched(
    name: str, public_file: Callable[[str], Path]
) -> None:
    assert not clean_pixels(read(public_file(name)), PATIENT, SETTINGS).changed


def test_a_real_ultrasound_image_loses_its_banner_and_keeps_its_settings() -> None:
    image = read(source("GREYSCALE_IMAGE.dcm"))
    cleaned = clean_pixels(image, NOBODY, SETTINGS)
    [was], [now] = before(image), after(image, cleaned)
    assert likeness(was[2:20, 10:280], now[2:20, 10:280]) < 0.3  # a patient's name and number
    assert likeness(was[2:20, 395:680], now[2:20, 395:680]) < 0.3  # a birth date, a hospital
    assert np.array_equal(was[60:680], now[60:680])  # all of the image itself


def test_a_loop_is_read_once_and_cleaned_in_all_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = np.stack([tissue(200, 320, seed) for seed in range(12)])
    for frame in loop:
        gone, kept = drawn(frame, 255)
    reads = []
    original = reader.find
    monkeypatch.setattr(reader, "find", lambda *a: (reads.append(1), original(*a))[1])
    image = native(loop)
    cleaned = clean_pixels(image, PATIENT, SETTINGS)
    assert cleaned.account.frames_searched == 1
    assert len(reads) <= 3  # the text, what is left of it, and nothing more
    assert sorted(cleaned.boxes) == list(range(12))
    monkeypatch.undo()
    check(image, gone, kept)


def test_text_in_one_frame_of_a_loop_goes_from_that_frame_alone() -> None:
    loop = np.stack([tissue(200, 320, seed) for seed in range(8)])
    gone, _ = drawn(loop[5], 255)
    image = native(loop)
    cleaned = clean_pixels(image, PATIENT, SETTINGS)
    assert list(cleaned.boxes) == [5]
    new = after(image, cleaned)
    for box in gone:
        area = slice(box.y0, box.y1), slice(box.x0, box.x1)
        assert likeness(loop[5][area], new[5][area]) < 0.3


def test_each_frame_is_released_after_it_was_read() -> None:
    released: list[tuple[int, int]] = []
    loop = np.stack([tissue(64, 64, seed) for seed in range(3)])
    clean_pixels(native(loop), PATIENT, SETTINGS, lambda *span: released.append(span))
    assert released == [(0, 4096), (4096, 4096), (8192, 4096)]


def test_switched_off_nothing_is_looked_at() -> None:
    picture = tissue(200, 320)
    drawn(picture, 255)
    off = PixelSettings(mode="off")
    assert not clean_pixels(native(picture[None]), PATIENT, off).changed


def test_a_name_in_an_icon_goes() -> None:
    icon = np.full((64, 128), 30, np.uint8)
    check(native(icon[None]), [], [])
    box = write(icon, "Kowalczyk", 4, 20, 14, 255)
    check(native(icon[None]), [box], [])


def test_text_in_an_overlay_goes_and_graphics_stay() -> None:
    plane = np.zeros((200, 320), np.uint8)
    plane[100, 20:300] = 1
    plane[120:180, 50] = 1
    kept = write(plane, "12 cm", 200, 150, 14, 1)
    graphics = plane.copy()
    write(plane, "Kowalczyk ZV676936", 5, 20, 12, 1)
    packed = np.packbits(plane.ravel(), bitorder="little").tobytes()
    cleaned = clean_bitmap(packed + b"\x7f", 200, 320, 1, PATIENT, SETTINGS)
    assert cleaned[-1:] == b"\x7f" and len(cleaned) == len(packed) + 1
    bits = np.unpackbits(np.frombuffer(cleaned[:-1], np.uint8), bitorder="little")
    assert np.array_equal(bits.reshape(200, 320), graphics)
    assert graphics[kept.y0 : kept.y1, kept.x0 : kept.x1].any()


def test_big_endian_and_planar_pixels_are_patched_where_the_text_is() -> None:
    picture = np.zeros((200, 320, 3), np.uint8)
    picture[...] = tissue(200, 320)[..., None]
    gone, kept = drawn(picture, 255)
    planar = np.ascontiguousarray(picture.transpose(2, 0, 1))
    image = replace(native(picture[None], "RGB"), planar=1, native=memoryview(planar.tobytes()))
    check(image, gone, kept)
    grey = tissue(200, 320).astype(np.uint16) * 16
    gone, kept = drawn(grey, 4095)
    swapped = memoryview(grey.astype(">u2").tobytes())
    check(replace(native(grey[None]), little_endian=False, native=swapped), gone, kept)


@pytest.mark.parametrize("odd", [0, 1])
def test_pixels_of_eight_bits_in_words_of_big_endian_are_read_in_their_order(odd: int) -> None:
    # PS3.5 section 7.3: two pixels are one word, so the second stands first.
    picture = tissue(200 + odd, 320 + odd)
    gone, kept = drawn(picture, 255)
    made = dataset(
        Rows=picture.shape[0], Columns=picture.shape[1], SamplesPerPixel=1, BitsAllocated=8,
        BitsStored=8, HighBit=7, PixelRepresentation=0, PhotometricInterpretation="MONOCHROME2",
        PatientName="Kowalczyk^Magdalena", PatientID="ZV676936",
    )  # fmt: skip
    made.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    pixels = picture.tobytes() + b"\0" * (picture.size % 2)
    made[0x7FE00010] = DataElement(0x7FE00010, "OW", swapped(pixels))
    file = io.BytesIO()
    pydicom.dcmwrite(file, made, implicit_vr=False, little_endian=False, force_encoding=True)
    deidentifier = Deidentifier(load_profile("research"), Pseudonyms(bytes(32)))
    after = pydicom.dcmread(io.BytesIO(deidentifier.deidentify(file.getvalue()).data))
    now = np.frombuffer(swapped(after.PixelData), np.uint8)[: picture.size].reshape(picture.shape)
    mask = outside(picture.shape, gone, MARGIN)
    assert np.array_equal(picture[mask], now[mask])
    for box in gone:
        area = slice(box.y0, box.y1), slice(box.x0, box.x1)
        assert likeness(picture[area], now[area]) < 0.3
    assert kept

"""Text within compressed tiles is found, and nothing that decodes is touched."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from node.deid.reading import Unsafe
from node.deid.slides.icc import clean_profile
from node.deid.slides.streams import (
    APERIO_RGB,
    DEFLATE,
    JPEG,
    NONE,
    WEBP,
    Blob,
    clean_tables,
    find_text,
)
from tests.node.deid.slides.making import Plants, icc_profile, jpeg, picture

PIXELS = picture(64, 48)


def blanked(data: bytes, compression: int, pixel_bytes: int = PIXELS.nbytes) -> bytes:
    blob = Blob(lambda start, size: data[start : start + size], len(data))
    out = bytearray(data)
    for start, stop in find_text(blob, compression, pixel_bytes):
        out[start:stop] = bytes(stop - start)
    return bytes(out)


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize(
    "segment",
    [
        (0xFE, b"Kowalska"),
        (0xE1, b"Exif\0\0Kowalska"),
        (0xE2, b"ICC_PROFILE\0\1\1Kowalska"),
        (0xED, b"Photoshop 3.0\08BIMKowalska"),
        (0xEE, b"Adobe\0\x64\0\0\0\0\1Kowalska"),
        (0xE0, b"JFXX\0\x10Kowalska"),
        (0xFE, b"Lavc58.1 Kowalska"),
        (0xFE, "Kowalska".encode("utf-16-le")),
    ],
)
def test_a_segment_with_words_is_blanked_in_place(segment: tuple[int, bytes]) -> None:
    data = jpeg(PIXELS, segment)
    new = blanked(data, JPEG)
    assert len(new) == len(data)
    assert b"Kowalska" not in new.replace(b"\0", b"")
    assert b"K\0o\0w" not in new
    assert (decoded(new) == decoded(data)).all()


def test_what_encoders_say_of_themselves_stays() -> None:
    for words in (
        b"Intel(R) JPEG Library, version [2.0.16.48]",
        b"Hamamatsu NanoZoomer Digital Pathology\0",
        b"CREATOR: gd-jpeg v1.0 (using IJG JPEG v62), quality = 80\n",
        b"",
        bytes(20),
    ):
        data = jpeg(PIXELS, (0xFE, words))
        assert blanked(data, JPEG) == data


def test_bytes_after_the_end_of_a_picture_are_blanked() -> None:
    after = b"Kowalska \xff\xd8\xff\xd9 Kowalska"
    assert blanked(jpeg(PIXELS, tail=after), JPEG) == jpeg(PIXELS) + bytes(len(after))
    raw = PIXELS.tobytes()
    assert blanked(raw + after, NONE) == raw + bytes(len(after))
    packed = zlib.compress(raw)
    assert blanked(packed + after, DEFLATE) == packed + bytes(len(after))
    webp = imagecodecs.webp_encode(PIXELS, lossless=True)
    assert blanked(webp + after, WEBP) == webp + bytes(len(after))


def test_a_progressive_jpeg_is_walked_to_its_end() -> None:
    out = io.BytesIO()
    Image.fromarray(PIXELS).save(out, "JPEG", progressive=True, comment=b"Kowalska")
    new = blanked(out.getvalue() + b"Kowalska", JPEG)
    assert b"Kowalska" not in new
    assert (decoded(new) == decoded(out.getvalue())).all()


def test_chunks_of_webp_with_metadata_are_blanked() -> None:
    out = io.BytesIO()
    Image.fromarray(PIXELS).save(
        out, "WEBP", lossless=True, exif=b"Exif\0\0Kowalska", xmp=b"Kowalska"
    )
    new = blanked(out.getvalue(), WEBP)
    assert b"Kowalska" in out.getvalue()
    assert b"Kowalska" not in new
    assert (decoded(new) == PIXELS).all()


def test_comments_of_jpeg_2000_are_blanked_unless_they_name_the_encoder() -> None:
    data = imagecodecs.jpeg2k_encode(PIXELS, codecformat="J2K", reversible=True)
    comment = b"\0\1Kowalska"
    planted = data + b"Kowalska"
    size = struct.unpack(">H", data[4:6])[0]
    after = 4 + size
    planted = (
        planted[:after]
        + b"\xff\x64"
        + struct.pack(">H", len(comment) + 2)
        + comment
        + planted[after:]
    )
    assert blanked(data, APERIO_RGB) == data
    new = blanked(planted, APERIO_RGB)
    assert b"Kowalska" not in new
    assert (imagecodecs.jpeg2k_decode(new) == PIXELS).all()


def test_a_jp2_container_is_refused() -> None:
    data = imagecodecs.jpeg2k_encode(PIXELS, codecformat="JP2")
    with pytest.raises(Unsafe, match="slide-compression"):
        blanked(data, APERIO_RGB)


def test_a_compressed_tile_larger_than_its_pixels_is_refused() -> None:
    with pytest.raises(Unsafe):
        blanked(zlib.compress(bytes(50 << 20)), DEFLATE)


def test_jpeg_tables_keep_tables_alone() -> None:
    data = jpeg(PIXELS, (0xFE, b"Kowalska"), (0xE1, b"Kowalska"))
    start = data.index(b"\xff\xda")
    tables = clean_tables(data[:start] + b"\xff\xd9Kowalska")
    assert b"Kowalska" not in tables
    assert tables.count(b"\xff\xdb") == data[:start].count(b"\xff\xdb")
    assert tables.endswith(b"\xff\xd9")


@given(st.binary(max_size=200), st.sampled_from([JPEG, APERIO_RGB, DEFLATE, NONE, WEBP]))
def test_any_bytes_are_read_or_refused(data: bytes, compression: int) -> None:
    starts = {JPEG: b"\xff\xd8", APERIO_RGB: b"\xff\x4f\xff\x51", WEBP: b"RIFF\x90\0\0\0WEBP"}
    with contextlib.suppress(Unsafe):
        assert len(blanked(starts.get(compression, b"") + data, compression)) >= len(data)


@given(st.data())
def test_a_damaged_jpeg_never_keeps_a_comment(draw: st.DataObject) -> None:
    data = bytearray(jpeg(PIXELS, (0xFE, b"Kowalska")))
    place = draw.draw(st.integers(2, data.index(b"\xff\xda")))
    data[place] ^= 1 << draw.draw(st.integers(0, 7))
    try:
        new = blanked(bytes(data), JPEG)
    except Unsafe:
        return
    assert b"Kowalska" not in new or b"Kowalska" not in bytes(data)


def test_a_profile_keeps_its_numbers_and_loses_its_words() -> None:
    plants = Plants()
    old = icc_profile(plants)
    new = clean_profile(old)
    assert new is not None
    assert plants.found_in(old)
    assert plants.found_in(new) == []
    image = Image.fromarray(PIXELS)
    lab = ImageCms.createProfile("LAB")
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    seen = [
        np.asarray(
            ImageCms.applyTransform(image, ImageCms.buildTransform(profile, lab, "RGB", "LAB"))
        )
        for profile in (ImageCms.ImageCmsProfile(io.BytesIO(one)) for one in (plain, new))
    ]
    assert (seen[0] == seen[1]).all()
    assert clean_profile(new) == new


def test_a_profile_of_tables_is_cut_to_its_tables() -> None:
    table = b"mft2" + bytes(4) + bytes([3, 3, 2, 0]) + bytes(36) + struct.pack(">HH", 2, 2)
    table += bytes(2 * (6 + 24 + 6))
    header = bytearray(128)
    header[8], header[36:40] = 2, b"acsp"
    data = bytes(header) + struct.pack(">I", 1) + struct.pack(">4sII", b"A2B0", 144, len(table) + 8)
    new = clean_profile(data + table + b"Kowalska")
    assert new is not None
    assert table in new
    assert b"Kowalska" not in new


@given(st.binary(max_size=300))
def test_any_bytes_are_a_profile_or_none(data: bytes) -> None:
    header = bytes(36) + b"acsp" + bytes(88)
    clean_profile(header + data)
    clean_profile(data)

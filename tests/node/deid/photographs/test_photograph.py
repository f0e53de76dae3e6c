"""Photographs: nothing but the picture stays, and the picture stays as it was."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw, ImageFont

from node.deid.photographs import Photograph, clean_photograph, recognise
from node.deid.photographs.container import MAX_PIXELS
from node.deid.reading import Unsafe

from .conftest import (
    PLANTED,
    Array,
    KnownWords,
    planted_jpeg,
    planted_png,
    planted_tiff,
    png_chunk,
    segment,
)

MATCHER = KnownWords()
pytestmark = pytest.mark.filterwarnings("ignore:Image appears to be a malformed MPO")


def clean(data: bytes, **options: Any) -> Photograph:
    return clean_photograph(data, faces="keep", matcher=MATCHER, text=False, **options)


def reason(data: bytes) -> str:
    with pytest.raises(Unsafe) as refused:
        clean(data)
    return refused.value.reason


def pixels(data: bytes) -> Array:
    return np.asarray(Image.open(io.BytesIO(data)))


def assert_free(data: bytes) -> None:
    for word in PLANTED:
        text = word.decode()
        for encoding in ("ascii", "utf-16-le", "utf-16-be"):
            assert text.encode(encoding) not in data
            assert text.lower().encode(encoding) not in data


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"subsampling": 0},
        {"restart_marker_blocks": 3},
        {"dpi": (300, 300)},
    ],
)
def test_a_jpeg_keeps_its_coded_picture_and_loses_all_that_was_planted(
    scene: Array, options: dict[str, object]
) -> None:
    data = planted_jpeg(scene, **options)
    done = clean(data)
    assert_free(done.data)
    assert done.format == "jpeg" and (done.width, done.height, done.bits) == (168, 120, 8)
    assert np.array_equal(pixels(done.data), pixels(data))
    scan = data[data.rindex(b"\xff\xda", 0, data.index(b"\xff\xd9\xff\xd8")) :]
    assert scan[: scan.index(b"\xff\xd9")] in done.data
    assert {"exif", "xmp", "photoshop", "comment", "multi-picture", "trailing"} <= set(done.removed)
    assert done.masked == ()


def test_a_grey_and_a_cmyk_jpeg_are_cleaned_too(scene: Array) -> None:
    for picture in (scene[..., 0], np.asarray(Image.fromarray(scene).convert("CMYK"))):
        target = io.BytesIO()
        Image.fromarray(picture, "L" if picture.ndim == 2 else "CMYK").save(
            target, "JPEG", comment=b"QUILLFEATHER"
        )
        done = clean(target.getvalue())
        assert_free(done.data)
        assert np.array_equal(pixels(done.data), pixels(target.getvalue()))


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
@pytest.mark.parametrize("turned", range(1, 9))
def test_which_way_up_a_picture_is_outlives_its_exif(scene: Array, kind: str, turned: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turned
    target = io.BytesIO()
    Image.fromarray(scene).save(target, kind, exif=exif)
    done = clean(target.getvalue())
    assert done.orientation == turned
    assert Image.open(io.BytesIO(done.data)).getexif().get(0x0112, 1) == turned


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
def test_the_profile_keeps_its_colours_and_loses_its_words(scene: Array, kind: str) -> None:
    plant = {"jpeg": planted_jpeg, "png": planted_png, "tiff": planted_tiff}[kind]
    done = clean(plant(scene))
    kept = Image.open(io.BytesIO(done.data)).info["icc_profile"]
    assert_free(kept)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(kept))
    assert profile.profile.profile_description == "-"
    lab = ImageCms.createProfile("LAB")
    before = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), lab, "RGB", "LAB")
    after = ImageCms.buildTransform(profile, lab, "RGB", "LAB")
    picture = Image.fromarray(scene)
    difference = np.abs(
        np.asarray(ImageCms.applyTransform(picture, before)).astype(int)
        - np.asarray(ImageCms.applyTransform(picture, after)).astype(int)
    )
    assert difference.max() <= 1


def test_a_profile_that_cannot_be_cleaned_goes_and_the_result_says_so(scene: Array) -> None:
    target = io.BytesIO()
    Image.fromarray(scene).save(target, "JPEG", icc_profile=b"QUILLFEATHER" * 20)
    done = clean(target.getvalue())
    assert_free(done.data)
    assert "whole-profile" in done.removed


@pytest.mark.parametrize("mode", [None, "L", "1", "P", "RGBA", "LA", "I;16"])
def test_a_png_keeps_its_coded_picture_and_loses_all_that_was_planted(
    scene: Array, mode: str | None
) -> None:
    data = planted_png(scene, mode)
    done = clean(data)
    assert_free(done.data)
    assert zlib_streams(done.data) == zlib_streams(data)
    before, after = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(done.data))
    assert before.mode == after.mode
    assert np.array_equal(np.asarray(before.convert("RGBA")), np.asarray(after.convert("RGBA")))
    assert after.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert {"tEXt", "zTXt", "iTXt", "eXIf", "tIME", "unknown-chunk", "trailing"} <= set(
        done.removed
    )


def zlib_streams(data: bytes) -> bytes:
    position, found = 8, b""
    while position < len(data) - 8:
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IDAT":
            found += data[position + 8 : position + 8 + length]
        if kind == b"IEND":
            break
        position += 12 + length
    return found


def png(header: bytes, *chunks: bytes) -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + b"".join(chunks)
        + png_chunk(b"IEND", b"")
    )


GREY_4X4 = struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
ROWS = b"\0abcd" * 4


def test_words_behind_a_pngs_last_row_are_packed_away(scene: Array) -> None:
    for stream in (
        zlib.compress(ROWS + b"QUILLFEATHER", 0),
        zlib.compress(ROWS, 0) + b"QUILLFEATHER",
    ):
        done = clean(png(GREY_4X4, png_chunk(b"IDAT", stream)))
        assert_free(done.data)
        assert pixels(done.data).tobytes() == b"abcd" * 4


def test_interlaced_pictures_are_measured_pass_by_pass() -> None:
    header = struct.pack(">IIBBBBB", 5, 3, 8, 0, 0, 0, 1)
    sizes = [(1, 1), (1, 1), (0, 0), (1, 1), (3, 1), (2, 2), (5, 1)]
    rows = b"".join((b"\0" + bytes(range(w))) * h for w, h in sizes if w)
    done = clean(png(header, png_chunk(b"IDAT", zlib.compress(rows))))
    assert pixels(done.data).shape == (3, 5)
    assert reason(png(header, png_chunk(b"IDAT", zlib.compress(rows[:-1])))) == "truncated"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "lzw", "predictor": True},
        {"compression": "zlib"},
        {"compression": "packbits"},
        {"tile": (32, 32), "compression": "zlib"},
        {"planarconfig": "contig", "byteorder": ">"},
        {"bigtiff": True},
    ],
)
def test_a_tiff_is_written_anew_with_the_same_pixels_and_no_other_tag(
    scene: Array, options: dict[str, Any]
) -> None:
    options = dict(options)
    writer = {name: options.pop(name) for name in ("bigtiff", "byteorder") if name in options}
    data = planted_tiff(scene, **options) if not writer else _tiff(scene, writer)
    done = clean(data)
    assert_free(done.data)
    with tifffile.TiffFile(io.BytesIO(done.data)) as file:
        assert len(file.pages) == 1
        page = file.pages[0]
        assert np.array_equal(page.asarray(), scene)
        codes = {tag.code for tag in page.tags}
        assert not codes & {269, 270, 285, 305, 306, 315, 316, 700, 33723, 34377, 37724, 65000}


def _tiff(picture: Array, writer: dict[str, Any], **options: Any) -> bytes:
    target = io.BytesIO()
    with tifffile.TiffWriter(target, **writer) as file:
        file.write(picture, description="QUILLFEATHER", metadata=None, **options)
    return target.getvalue()


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda s: s[..., 0], {}),
        (lambda s: s[..., 0], {"photometric": "miniswhite"}),
        (lambda s: s[..., 0] > 128, {}),
        (lambda s: s.astype(np.uint16) * 257, {"photometric": "rgb"}),
        (lambda s: s[..., 0].astype(np.float32) / 3, {}),
        (lambda s: s[..., 0] // 8, {"photometric": "palette", "colormap": "ramp"}),
        (
            lambda s: np.dstack([s, s[..., 0]]),
            {"extrasamples": ["unassalpha"], "photometric": "rgb"},
        ),
        (lambda s: np.dstack([s, s[..., 0]]), {"photometric": "separated"}),
        (lambda s: np.moveaxis(s, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}),
        (lambda s: s, {"photometric": "rgb", "compression": "jpeg"}),
        (lambda s: s, {"photometric": "ycbcr", "compression": "jpeg"}),
    ],
)
def test_every_common_kind_of_tiff_keeps_its_pixels(
    scene: Array, make: Callable[[Array], Array], options: dict[str, Any]
) -> None:
    if options.get("colormap") == "ramp":
        options = {**options, "colormap": np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))}
    data = _tiff(make(scene), {}, **options)
    done = clean(data)
    assert_free(done.data)
    with (
        tifffile.TiffFile(io.BytesIO(data)) as before,
        tifffile.TiffFile(io.BytesIO(done.data)) as after,
    ):
        expected = before.pages[0].asarray()
        if options.get("planarconfig") == "separate":
            expected = np.moveaxis(expected, 0, -1)
        assert np.array_equal(after.pages[0].asarray(), expected)


def test_several_pictures_in_a_file_are_refused(scene: Array) -> None:
    target = io.BytesIO()
    with tifffile.TiffWriter(target) as file:
        file.write(scene)
        file.write(scene)
    assert reason(target.getvalue()) == "several-images"
    animated = io.BytesIO()
    frames = [Image.fromarray(scene), Image.fromarray(255 - scene)]
    frames[0].save(animated, "PNG", save_all=True, append_images=frames[1:])
    assert reason(animated.getvalue()) == "several-images"


def test_words_inside_a_scan_that_no_decoder_reads_are_cut_off(scene: Array) -> None:
    for options in ({}, {"progressive": True}):
        target = io.BytesIO()
        Image.fromarray(scene).save(target, "JPEG", **options)
        data = target.getvalue()
        spoiled = data[:-2] + b"QUILLFEATHER 4711-0815" + data[-2:]
        done = clean(spoiled)
        assert_free(done.data)
        assert np.array_equal(pixels(done.data), pixels(data))
        assert len(data) - len(done.data) < 40
        assert clean(data).data.endswith(data[-200:])


def test_a_name_that_hides_where_nobody_looks_is_found_in_the_end() -> None:
    palette = b"QUILLFEATHER" * 4
    header = struct.pack(">IIBBBBB", 4, 4, 8, 3, 0, 0, 0)
    rows = zlib.compress(b"\0\0\0\0\0" * 4)
    data = png(header, png_chunk(b"PLTE", palette), png_chunk(b"IDAT", rows))
    assert reason(data) == "identifier-left"


def test_bombs_are_refused_by_their_headers() -> None:
    side = 20_000
    assert side * side > MAX_PIXELS
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    assert reason(png(header, png_chunk(b"IDAT", b"x"))) == "too-large"
    jpeg = b"\xff\xd8" + segment(0xC0, struct.pack(">BHHB", 8, 60_000, 60_000, 3) + bytes(9))
    assert reason(jpeg + segment(0xDA, b"\1\1\0\0\x3f\0") + b"\xff\xd9") == "too-large"
    tiff = bytearray(_tiff(np.zeros((16, 16), np.uint8), {}))
    with tifffile.TiffFile(io.BytesIO(bytes(tiff))) as file:
        for name in ("ImageWidth", "ImageLength"):
            tag = file.pages[0].tags[name]
            tiff[tag.valueoffset : tag.valueoffset + 4] = struct.pack("<I", 60_000)[:4]
    assert reason(bytes(tiff)) == "too-large"


def test_a_png_that_inflates_past_its_size_is_read_no_further() -> None:
    bomb = zlib.compress(bytes(64 << 20), 9)
    done = clean(png(GREY_4X4, png_chunk(b"IDAT", bomb)))
    assert len(done.data) < 200


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
def test_a_cut_file_is_refused_wherever_it_is_cut(scene: Array, kind: str) -> None:
    target = io.BytesIO()
    Image.fromarray(scene).save(target, kind)
    data = target.getvalue()
    for part in (9, 20, 60, len(data) // 3, len(data) // 2, len(data) - 20, len(data) - 1):
        assert reason(data[:part]) in ("truncated", "unreadable", "unreadable-codestream")


def test_files_of_other_kinds_are_refused() -> None:
    assert reason(b"") == "empty"
    assert reason(b"RIFF0000WEBP") == "unsupported-image"
    assert reason(b"GIF89a" + bytes(20)) == "unsupported-image"
    assert [recognise(head) for head in (b"\xff\xd8\xff\xe0", b"II*\0", b"MM\0*", b"%PDF")] == [
        "jpeg",
        "tiff",
        "tiff",
        None,
    ]


def test_cleaning_twice_changes_nothing(scene: Array) -> None:
    for plant in (planted_jpeg, planted_png, planted_tiff):
        once = clean(plant(scene))
        again = clean(once.data)
        assert again.data == once.data


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(choice=st.data())
def test_a_damaged_file_is_refused_or_comes_out_free(scene: Array, choice: st.DataObject) -> None:
    small = scene[:24, :32]
    plant = choice.draw(st.sampled_from([planted_jpeg, planted_png, planted_tiff]))
    data = bytearray(plant(small))
    for _ in range(choice.draw(st.integers(1, 4))):
        place = choice.draw(st.integers(0, len(data) - 1))
        if choice.draw(st.booleans()):
            data[place] = choice.draw(st.integers(0, 255))
        else:
            del data[place : place + choice.draw(st.integers(1, 30))]
    try:
        done = clean(bytes(data))
    except Unsafe:
        return
    for word in (b"QUILLFEATHER", b"Ostrander"):
        assert word not in done.data


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*"]),
    st.binary(max_size=300),
)
def test_no_bytes_raise_anything_but_unsafe(start: bytes, rest: bytes) -> None:
    with pytest.raises(Unsafe):
        clean(start + rest)


def test_writing_is_blacked_out_and_a_scale_stays() -> None:
    font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 28)
    skin = np.random.default_rng(1).normal((205, 160, 140), 4, (500, 700, 3))
    picture = Image.fromarray(np.clip(skin, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    draw.text((40, 40), "Jane Thistlewood", fill="black", font=font)
    draw.text((40, 440), "2021-03-04 10:11", fill="blue", font=font)
    draw.text((560, 40), "5 mm", fill="black", font=font)
    file = io.BytesIO()
    picture.save(file, "PNG")
    before = np.asarray(picture)
    cleaned = clean_photograph(file.getvalue(), faces="mask", matcher=None)
    after = np.asarray(Image.open(io.BytesIO(cleaned.data)).convert("RGB"))
    assert all(box.x1 < 320 for box in cleaned.text)
    assert not after[48:68, 50:260].any()
    assert not after[450:465, 50:260].any()
    assert (after[30:80, 550:650] == before[30:80, 550:650]).all()
    outside = np.ones(before.shape[:2], bool)
    for box in cleaned.text:
        outside[box.y0 : box.y1, box.x0 : box.x1] = False
    assert (after[outside] == before[outside]).all()

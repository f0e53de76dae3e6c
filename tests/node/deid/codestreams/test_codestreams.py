"""Compressed pixel data loses all that is not pixels, and decodes as before."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended, generate_fragments
from pydicom.pixels import pixel_array

from node.deid.codestream_signatures import is_signature
from node.deid.codestreams import (
    Offsets,
    clean_fragments,
    clean_frame,
    spare_bits,
    trim_native,
)
from node.deid.elements import PIXEL_DATA, parse
from node.deid.reading import Unsafe

_NAME = b"Kowalczewski^Janusz"
_U = "1.2.840.10008.1.2."
_JPEG, _JPEGLS, _J2K, _HTJ2K, _JXL, _RLE, _DEFLATED = (
    _U + "4.50", _U + "4.80", _U + "4.90", _U + "4.201", _U + "4.110", _U + "5", _U + "8.1",
)  # fmt: skip


def _encapsulated() -> list[Path]:
    roots = [Path(pydicom.__file__).parent / "data"]
    for name in ("data_store", "deid_data"):
        roots += [Path(path) for path in pytest.importorskip(name).__path__]
    found = []
    for path in (path for root in roots for path in sorted(root.rglob("*")) if path.is_file()):
        if path.suffix.lower() not in ("", ".dcm") or path.stat().st_size < 200:
            continue
        try:
            pixels = parse(path.read_bytes()).dataset.get(PIXEL_DATA)
        except Unsafe:
            continue
        if pixels is not None and pixels.fragments:
            found.append(path)
    return found


def _parts(path: Path) -> tuple[Dataset, str, list[bytes], Offsets]:
    data = path.read_bytes()
    file = parse(data)
    pixels = file.dataset.get(PIXEL_DATA)
    assert pixels is not None and pixels.fragments
    table, *fragments = [data[a:b] for a, b in pixels.fragments]
    basic = tuple(n for (n,) in struct.iter_unpack("<L", table))
    return dcmread(path, force=True), file.transfer_syntax, fragments, Offsets(basic)


@pytest.mark.parametrize("path", _encapsulated(), ids=lambda path: path.name)
def test_a_real_files_pixels_decode_as_before(path: Path) -> None:
    dataset, syntax, fragments, offsets = _parts(path)
    if "Rows" not in dataset:
        pytest.skip("pydicom reads none of it")
    frames, size = int(dataset.get("NumberOfFrames") or 1), dataset.Rows * dataset.Columns
    try:
        cleaned, table = clean_fragments(fragments, offsets, syntax, frames=frames, pixels=size)
    except Unsafe:
        with pytest.raises(Exception), warnings.catch_warnings():  # noqa: B017
            warnings.simplefilter("ignore")
            _ = dataset.pixel_array
        return
    assert all(len(part) % 2 == 0 for part in cleaned)
    starts = [0]
    for part in cleaned:
        starts.append(starts[-1] + 8 + len(part))
    assert set(table.basic) <= set(starts)
    again, same = clean_fragments(cleaned, table, syntax, frames=frames, pixels=size)
    assert again == cleaned and same == table
    try:
        before = _shown(dataset)
    except Exception:
        return  # pydicom's plugins don't decode it, or not all of it
    items = [struct.pack("<HHL", 0xFFFE, 0xE000, 4 * len(table.basic))]
    items += [struct.pack("<L", start) for start in table.basic]
    for part in cleaned:
        items += [struct.pack("<HHL", 0xFFFE, 0xE000, len(part)), part]
    dataset.PixelData = b"".join(items)
    dataset["PixelData"].is_undefined_length = True
    assert np.array_equal(before, _shown(dataset))


def _shown(dataset: Dataset) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        few = int(dataset.get("NumberOfFrames") or 1) < 5
        return pixel_array(dataset, raw=True, index=None if few else 1)


# ---- what is planted -----------------------------------------------------------------------------


@cache
def _picture(colour: bool = False, size: int = 48) -> Any:
    y, x = np.mgrid[0:size, 0:size]
    grey = ((x * 5 + y * 3 + (x * y) % 17) % 256).astype(np.uint8)
    return np.dstack([grey, grey.T, 255 - grey]) if colour else grey


def _segment(code: int, body: bytes) -> bytes:
    return bytes([0xFF, code]) + (len(body) + 2).to_bytes(2, "big") + body


def _jpeg(colour: bool, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(_picture(colour)).save(out, "JPEG", quality=90, **options)
    return out.getvalue()


def _decoded(data: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(data)))


_APPS = [0xFE, *range(0xE0, 0xF0)]


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}])
@pytest.mark.parametrize("code", _APPS)
def test_no_comment_or_application_segment_of_a_jpeg_stays(
    colour: bool, options: dict[str, Any], code: int
) -> None:
    plain = _jpeg(colour, **options)
    planted = plain[:2] + _segment(code, b"ID\0" + _NAME) + plain[2:]
    scan = planted.index(b"\xff\xda")
    planted = planted[:scan] + _segment(code, _NAME * 3) + planted[scan:] + _NAME
    cleaned = clean_frame(planted, _JPEG)
    assert _NAME not in cleaned
    assert np.array_equal(_decoded(cleaned), _decoded(plain))
    assert clean_frame(cleaned, _JPEG) is cleaned


def test_a_comment_between_the_scans_of_a_progressive_jpeg_goes() -> None:
    plain = _jpeg(True, progressive=True)
    second = plain.rindex(b"\xff\xc4")
    cleaned = clean_frame(plain[:second] + _segment(0xFE, _NAME) + plain[second:], _JPEG)
    assert _NAME not in cleaned
    assert np.array_equal(_decoded(cleaned), _decoded(plain))


def test_a_thumbnail_and_what_hides_behind_tables_goes() -> None:
    plain = _jpeg(False)
    jfif = b"JFIF\0\1\1\0\0\1\0\1\2\2" + _NAME[:12]
    table = plain.index(b"\xff\xdb")
    length = int.from_bytes(plain[table + 2 : table + 4], "big")
    body = plain[table + 4 : table + 2 + length]
    planted = (
        plain[:2] + _segment(0xE0, jfif) + _segment(0xDB, body + _NAME[:7])
        + plain[table + 2 + length :]
    )  # fmt: skip
    cleaned = clean_frame(planted, _JPEG)
    assert _NAME[:7] not in cleaned
    assert np.array_equal(_decoded(cleaned), _decoded(plain))


def test_the_colour_transform_of_adobe_is_kept() -> None:
    out = io.BytesIO()
    Image.fromarray(np.dstack([_picture(True), _picture()]), "CMYK").save(out, "JPEG")
    plain = out.getvalue()
    assert b"Adobe" in plain
    assert np.array_equal(_decoded(clean_frame(plain, _JPEG)), _decoded(plain))


@pytest.mark.parametrize(
    ("payload", "kept"),
    [
        (b"Adobe\0\x64\x80\0\0\0\x02", b"Adobe\0\x64\x80\0\0\0\x02"),
        (b"Adobe\0\0\0\0\0", b"Adobe\0\0\0\0\0"),
        (b"Adobe\0\x64Quan\x01", b"Adobe\0\x64\x40\0\x40\0\x01"),
        (b"Adobe Qua", b""),
    ],
)
def test_a_segment_of_adobe_stays_as_far_as_it_says_how_colours_are_meant(
    payload: bytes, kept: bytes
) -> None:
    out = io.BytesIO()
    Image.fromarray(_picture(True)).save(out, "JPEG")
    plain = out.getvalue()
    cleaned = clean_frame(plain[:2] + _segment(0xEE, payload) + plain[2:], _JPEG)
    assert cleaned.startswith(plain[:2] + (_segment(0xEE, kept) if kept else b"\xff\xe0"))


@pytest.mark.parametrize("colour", [False, True])
def test_no_comment_of_a_jpeg_ls_stays(colour: bool) -> None:
    plain = imagecodecs.jpegls_encode(_picture(colour))
    planted = plain[:2] + _segment(0xFE, _NAME) + _segment(0xE5, _NAME) + plain[2:] + _NAME
    cleaned = clean_frame(planted, _JPEGLS)
    assert _NAME not in cleaned
    assert np.array_equal(imagecodecs.jpegls_decode(cleaned), _picture(colour))


@pytest.mark.parametrize("colour", [False, True])
def test_a_lossless_jpeg_decodes_as_before(colour: bool) -> None:
    plain = imagecodecs.ljpeg_encode(_picture()) if not colour else None
    if plain is None:
        pytest.skip("the encoder has grey only")
    cleaned = clean_frame(plain[:2] + _segment(0xE1, _NAME) + plain[2:], _U + "4.70")
    assert _NAME not in cleaned
    assert np.array_equal(imagecodecs.ljpeg_decode(cleaned), _picture())


def _commented(plain: bytes) -> bytes:
    """Return a JPEG 2000 codestream with comments in its main header and its first tile-part."""
    comment = b"\xff\x64" + (len(_NAME) + 4).to_bytes(2, "big") + b"\0\1" + _NAME
    part = plain.index(b"\xff\x90")
    data = plain.index(b"\xff\x93", part)
    length = int.from_bytes(plain[part + 6 : part + 10], "big")
    head = plain[part : part + 6] + (length + len(comment) if length else 0).to_bytes(4, "big")
    return (
        plain[:part] + comment + head + plain[part + 10 : data] + comment + plain[data:] + _NAME
    )  # fmt: skip


@pytest.mark.parametrize("syntax", [_J2K, _HTJ2K])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("tile", [None, 16])
def test_no_comment_of_a_jpeg_2000_stays(syntax: str, colour: bool, tile: int | None) -> None:
    if syntax == _HTJ2K:
        plain = imagecodecs.htj2k_encode(_picture(colour), reversible=True)
        decode = imagecodecs.htj2k_decode
    else:
        out = io.BytesIO()
        tiles = {} if tile is None else {"tile_size": (tile, tile)}
        Image.fromarray(_picture(colour)).save(out, "JPEG2000", no_jp2=True, **tiles)
        plain = out.getvalue()
        decode = imagecodecs.jpeg2k_decode
    cleaned = clean_frame(_commented(plain), syntax)
    assert _NAME not in cleaned
    assert np.array_equal(decode(cleaned), _picture(colour))
    again = clean_frame(cleaned, syntax)
    assert again is cleaned


def test_the_boxes_of_a_jp2_file_go_but_those_of_its_colours() -> None:
    plain = imagecodecs.jpeg2k_encode(_picture(True), codecformat="jp2", reversible=True, level=0)
    box = struct.pack(">L", 8 + len(_NAME)) + b"xml " + _NAME
    uuid = struct.pack(">L", 24 + len(_NAME)) + b"uuid" + bytes(16) + _NAME
    stream = plain.index(b"jp2c") - 4
    planted = plain[:stream] + box + uuid + plain[stream:]
    cleaned = clean_frame(planted, _J2K)
    assert _NAME not in cleaned
    assert np.array_equal(imagecodecs.jpeg2k_decode(cleaned), _picture(True))


def test_the_boxes_of_a_jpeg_xl_file_go() -> None:
    plain = imagecodecs.jpegxl_encode(_picture(True), lossless=True, usecontainer=True)
    exif = struct.pack(">L", 12 + len(_NAME)) + b"Exif" + bytes(4) + _NAME
    cleaned = clean_frame(plain + exif, _JXL)
    assert _NAME not in cleaned
    assert np.array_equal(imagecodecs.jpegxl_decode(cleaned), _picture(True))


def _rle_frame(slack: bytes = b"") -> bytes:
    planes = [_picture(True)[..., channel].tobytes() for channel in range(3)]
    segments = [bytes(imagecodecs.packbits_encode(plane)) for plane in planes]
    segments = [part + b"\0" * (len(part) % 2) + slack for part in segments]
    offsets, position = [], 64
    for part in segments:
        offsets.append(position)
        position += len(part)
    unused = (slack + bytes(48))[:48]
    header = struct.pack("<4L", 3, *offsets) + unused
    return header + b"".join(segments)


def test_rle_has_nothing_in_unused_offsets_or_after_its_planes() -> None:
    pixels = _picture().size
    slack = _NAME + b"\0" * (len(_NAME) % 2)
    cleaned = clean_frame(_rle_frame(slack), _RLE, pixels=pixels)
    assert _NAME[:10] not in cleaned
    assert cleaned == clean_frame(_rle_frame(), _RLE, pixels=pixels)
    offsets = struct.unpack("<16L", cleaned[:64])
    for plane, (start, stop) in enumerate(pairwise([*offsets[1:4], len(cleaned)])):
        decoded = imagecodecs.packbits_decode(cleaned[start:stop])[:pixels]
        assert decoded == _picture(True)[..., plane].tobytes()


def test_what_follows_a_deflated_frame_goes() -> None:
    deflater = zlib.compressobj(wbits=-15)
    plain = deflater.compress(_picture().tobytes()) + deflater.flush()
    cleaned = clean_frame(plain + _NAME, _DEFLATED)
    assert _NAME not in cleaned
    assert zlib.decompress(cleaned, wbits=-15) == _picture().tobytes()


# ---- fragments and offsets -----------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(1, 4), st.booleans(), st.booleans(), st.booleans())
def test_frames_over_fragments_come_out_whole_with_a_true_table(
    frames: int, pieces: int, planted: bool, has_table: bool, extended: bool
) -> None:
    plain = _jpeg(False)
    frame = plain[:2] + _segment(0xFE, _NAME) + plain[2:] if planted else plain
    streams = [frame] * frames
    fragments: list[bytes] = []
    starts, lengths, position = [], [], 0
    for stream in streams:
        size = -(-len(stream) // pieces)
        size += size % 2
        starts.append(position)
        parts = [stream[at : at + size] for at in range(0, len(stream), size)]
        parts = [part + b"\0" * (len(part) % 2) for part in parts]
        lengths.append(len(stream))
        fragments += parts
        position += sum(8 + len(part) for part in parts)
    is_one = len(fragments) == frames
    offsets = Offsets(
        tuple(starts) if has_table else (),
        tuple(starts) if extended and is_one else (),
        tuple(lengths) if extended and is_one else (),
    )
    cleaned, table = clean_fragments(fragments, offsets, _JPEG, frames=frames, pixels=48 * 48)
    assert _NAME not in b"".join(cleaned)
    if has_table:
        items = b"".join(struct.pack("<HHL", 0xFFFE, 0xE000, len(p)) + p for p in cleaned)
        for start, stop in pairwise([*table.basic, len(items)]):
            whole = b"".join(generate_fragments(items[start:stop]))
            assert np.array_equal(_decoded(whole), _decoded(plain))
    assert bool(table.extended) == bool(offsets.extended)
    if not planted:
        assert all(new is old for new, old in zip(cleaned, fragments, strict=True))


@pytest.mark.parametrize("lie", [(0, 7), (4,), (0, 0), (0, 10**6), (10, 0)])
def test_an_offset_table_that_lies_is_made_anew(lie: tuple[int, ...]) -> None:
    plain = _jpeg(False)
    plain += b"\0" * (len(plain) % 2)
    cleaned, table = clean_fragments([plain, plain], Offsets(lie), _JPEG, frames=2, pixels=48 * 48)
    assert table.basic == (0, len(cleaned[0]) + 8)


def test_pydicoms_own_encapsulation_is_left_alone() -> None:
    frames = [_jpeg(False), _jpeg(False)]
    data, offsets, lengths = encapsulate_extended(frames)
    fragments = list(generate_fragments(data))[1:]
    given_offsets = Offsets(
        (), tuple(n for (n,) in struct.iter_unpack("<Q", offsets)),
        tuple(n for (n,) in struct.iter_unpack("<Q", lengths)),
    )  # fmt: skip
    cleaned, table = clean_fragments(fragments, given_offsets, _JPEG, frames=2, pixels=48 * 48)
    assert cleaned == fragments and table == given_offsets
    assert encapsulate(frames)


# ---- native pixels -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "photometric", "samples", "real"),
    [
        (100, "MONOCHROME2", 1, 100), (101, "MONOCHROME2", 1, 100), (150, "MONOCHROME2", 1, 100),
        (90, "MONOCHROME2", 1, 90), (300, "RGB", 3, 300), (200, "YBR_FULL_422", 3, 200),
        (230, "YBR_FULL_422", 3, 200), (300, "YBR_FULL_422", 3, 300),
        (150, "YBR_PARTIAL_420", 3, 150),
    ],
)  # fmt: skip
def test_what_follows_native_pixels_is_no_pixel(
    length: int, photometric: str, samples: int, real: int
) -> None:
    found = trim_native(
        length, rows=10, columns=10, samples=samples, bits=8, frames=1, photometric=photometric
    )
    assert found == real


def test_spare_bits_of_a_bitmap_are_counted() -> None:
    assert spare_bits(rows=3, columns=3, samples=1, bits=1, frames=1) == 7
    assert spare_bits(rows=4, columns=4, samples=1, bits=1, frames=3) == 0
    assert spare_bits(rows=3, columns=3, samples=1, bits=16, frames=1) == 0


# ---- strangers' bytes ----------------------------------------------------------------------------


@cache
def _seeds() -> dict[str, bytes]:
    return {
        _JPEG: _jpeg(True, progressive=True),
        _JPEGLS: bytes(imagecodecs.jpegls_encode(_picture())),
        _J2K: bytes(imagecodecs.jpeg2k_encode(_picture(), codecformat="j2k", level=0)),
        _U + "4.91": bytes(imagecodecs.jpeg2k_encode(_picture(), codecformat="jp2", level=0)),
        _JXL: bytes(imagecodecs.jpegxl_encode(_picture(), usecontainer=True)),
        _RLE: _rle_frame(),
        _DEFLATED: zlib.compress(_picture().tobytes())[2:-4],
        _U + "4.100": bytes.fromhex("000001b3") + b"\x03\0\x30\x13" + b"\0\0\1\xb2" + _NAME,
        _U + "4.102": b"\0\0\0\1\x67\x42" + b"\0\0\1\x06\x05\x13" + _NAME + b"\x80\0\0\1\x65\x88",
        _U + "4.107": b"\0\0\0\1\x40\1" + b"\0\0\1\x4e\1\x05\x13" + _NAME + b"\x80\0\0\1\x26\1\x88",
    }


def _cleans_or_refuses(data: bytes, syntax: str) -> None:
    try:
        cleaned = clean_frame(data, syntax, pixels=48 * 48)
    except Unsafe:
        return
    assert len(cleaned) % 2 == 0 and len(cleaned) <= len(data) + 1 + 64


def mutated(seed: bytes, draw: Any) -> bytes:
    """Return bytes with a few faults that length fields, markers and ends are likely to hit."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.integers(0, 4))
        if kind == 0 and data:
            data[at] = draw(st.integers(0, 255))
        elif kind == 1:
            data[at : at + 2] = draw(
                st.sampled_from([b"\xff\xff", b"\0\0", b"\xff\xd9", b"\xff\x90"])
            )
        elif kind == 2:
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == 3:
            data[at:at] = draw(st.binary(max_size=12))
        else:
            del data[at:]
    return bytes(data)


@settings(max_examples=150, deadline=timedelta(minutes=2))
@given(st.data())
def test_a_damaged_stream_is_cleaned_or_refused(data: st.DataObject) -> None:
    syntax, seed = data.draw(st.sampled_from(sorted(_seeds().items())))
    _cleans_or_refuses(mutated(seed, data.draw), syntax)


@settings(max_examples=100, deadline=timedelta(minutes=2))
@given(st.binary(max_size=300), st.sampled_from(sorted(_seeds())))
def test_any_bytes_are_cleaned_or_refused(data: bytes, syntax: str) -> None:
    _cleans_or_refuses(data, syntax)
    _cleans_or_refuses(_seeds()[syntax][:12] + data, syntax)


@given(st.lists(st.binary(max_size=40), max_size=5), st.lists(st.integers(0, 90), max_size=5),
       st.sampled_from(sorted(_seeds())), st.integers(1, 4))  # fmt: skip
def test_any_fragments_are_cleaned_or_refused(
    fragments: Sequence[bytes], table: list[int], syntax: str, frames: int
) -> None:
    try:
        clean_fragments(fragments, Offsets(tuple(table)), syntax, frames=frames, pixels=16)
    except Unsafe:
        return


@pytest.mark.slow
@settings(max_examples=30_000, deadline=timedelta(minutes=2))
@given(st.data())
def test_many_damaged_streams_are_cleaned_or_refused(data: st.DataObject) -> None:
    syntax, seed = data.draw(st.sampled_from(sorted(_seeds().items())))
    _cleans_or_refuses(mutated(seed, data.draw), syntax)


@pytest.mark.parametrize(
    ("comment", "stays"),
    [
        (b"Kakadu-v7.3.3", True),
        (b"Kakadu-2.2", True),
        (b"Created by GDCM/OpenJPEG version 2.3.0", True),
        (b"Creator: JasPer Version 1.701.0", True),
        (b"MITRA_DICOM_STANDARD", True),
        (b"Kakadu-v7.3.3 for Okonkwode", False),
        (b"Kakadu-v712345678.3", False),
        (b"Created by Okonkwode", False),
        (b"", False),
    ],
)
def test_encoders_signatures_are_told_from_other_comments(comment: bytes, stays: bool) -> None:
    assert is_signature(comment) is stays


def test_a_stream_with_its_encoders_signature_alone_keeps_its_bytes() -> None:
    plain = imagecodecs.jpeg2k_encode(np.zeros((32, 32), np.uint8), codecformat="j2k")
    start = plain.index(b"\xff\x90")
    comment = b"Kakadu-v7.3.3"
    segment = b"\xff\x64" + (len(comment) + 4).to_bytes(2, "big") + b"\0\1" + comment
    signed = plain[:start] + segment + plain[start:]
    assert comment in clean_frame(signed, "1.2.840.10008.1.2.4.90")


def test_the_header_of_a_lossless_jpeg_stays_without_a_thumbnail() -> None:
    plain = imagecodecs.jpeg_encode(np.zeros((16, 16), np.uint8))
    head = b"LJIF\0\1\0\0\0\0\0\0\0\0"
    made = plain[:2] + b"\xff\xe0" + (len(head) + 2).to_bytes(2, "big") + head + plain[2:]
    assert head in clean_frame(made, "1.2.840.10008.1.2.4.50")

"""Video loses user data, messages and tables of its container; length and pictures stay."""

from __future__ import annotations

import struct
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.deid.codestream_video import clean_video
from node.deid.codestreams import Offsets, clean_fragments
from node.deid.reading import Unsafe

_NAME = b"Kowalczewski^Janusz"
_MPEG2, _AVC = "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.102"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """MPEG-2: elementary, MPEG-1 and MPEG-2 program streams, a transport stream."""
    folder = tmp_path_factory.mktemp("videos")
    made: dict[str, bytes] = {}
    for suffix in ("m2v", "mpg", "vob", "ts"):
        path = folder / f"a.{suffix}"
        writer = cv2.VideoWriter(
            str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MPG2"), 25, (64, 48)
        )
        if not writer.isOpened():
            pytest.skip("OpenCV has no MPEG-2 encoder")
        y, x = np.mgrid[0:48, 0:64]
        for number in range(10):
            grey = ((x * 4 + y * 2 + number * 20) % 256).astype(np.uint8)
            writer.write(np.dstack([grey, grey, 255 - grey]))
        writer.release()
        made[suffix] = path.read_bytes()
    return made


def _frames(data: bytes, path: Path) -> list[Any]:
    path.write_bytes(data)
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    frames = []
    while True:
        there, frame = capture.read()
        if not there:
            return frames
        frames.append(frame)


def _with_user_data(stream: bytes) -> bytes:
    """Put user data before the first group of pictures, and after a picture's header."""
    user = b"\0\0\1\xb2" + _NAME
    group = stream.index(b"\0\0\1\xb8")
    return stream[:group] + user + stream[group:] + b"\0\0\1\xb7" + _NAME


def test_user_data_of_an_elementary_stream_goes(videos: dict[str, bytes], tmp_path: Path) -> None:
    planted = _with_user_data(videos["m2v"])
    cleaned = clean_video(planted, "mpeg2")
    assert _NAME not in cleaned and len(cleaned) == len(planted)
    before = _frames(videos["m2v"], tmp_path / "a.m2v")
    after = _frames(cleaned, tmp_path / "b.m2v")
    assert len(before) >= 9
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=False))
    assert clean_video(cleaned, "mpeg2") is cleaned


@pytest.mark.parametrize("suffix", ["mpg", "vob"])
def test_private_packets_and_bytes_between_them_go(
    videos: dict[str, bytes], suffix: str, tmp_path: Path
) -> None:
    plain = videos[suffix]
    for kind in (0xBE, 0xBF, 0xF2, 0xFC):
        packet = b"\0\0\1" + bytes([kind]) + struct.pack(">H", len(_NAME)) + _NAME
        pack = plain.index(b"\0\0\1\xba", 4) if plain.count(b"\0\0\1\xba") > 1 else len(plain)
        planted = plain[:pack] + packet + plain[pack:] + _NAME
        cleaned = clean_video(planted, "mpeg2")
        assert _NAME not in cleaned and len(cleaned) == len(planted)
        before = _frames(plain, tmp_path / f"a.{suffix}")
        after = _frames(cleaned, tmp_path / f"b.{suffix}")
        assert len(before) >= 9
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=False))


def test_packets_that_no_program_lists_go(videos: dict[str, bytes], tmp_path: Path) -> None:
    plain = videos["ts"]
    foreign = (b"\x47\x40\x33\x10" + _NAME).ljust(188, b"\xff")
    planted = plain[:564] + foreign + plain[564:]
    cleaned = clean_video(planted, "mpeg2")
    assert _NAME not in cleaned and len(cleaned) == len(planted)
    assert b"FFmpeg" in plain or b"Service" in plain
    assert b"FFmpeg" not in cleaned and b"Service" not in cleaned
    before, after = _frames(plain, tmp_path / "a.ts"), _frames(cleaned, tmp_path / "b.ts")
    assert len(before) >= 9 and len(before) == len(after)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_video_over_fragments_keeps_their_lengths(videos: dict[str, bytes]) -> None:
    planted = _with_user_data(videos["m2v"])
    planted += b"\0" * (len(planted) % 2)
    fragments = [planted[at : at + 500] for at in range(0, len(planted), 500)]
    cleaned, table = clean_fragments(fragments, Offsets((0,)), _MPEG2, frames=10)
    assert [len(part) for part in cleaned] == [len(part) for part in fragments]
    assert table == Offsets((0,)) and _NAME not in b"".join(cleaned)


# ---- AVC and HEVC --------------------------------------------------------------------------------


def _sei(kind: int, payload: bytes, *, hevc: bool = False) -> bytes:
    return (b"\x4e\1" if hevc else b"\x06") + bytes([kind, len(payload)]) + payload + b"\x80"


def _avc(*units: bytes) -> bytes:
    return b"".join(b"\0\0\0\1" + unit for unit in units)


_SPS, _PPS, _PICTURE = b"\x67\x42\0\x1e\xab", b"\x68\xce\x3c\x80", b"\x65\x88\x84\0\x21\xff"
_MADE = b"\xda\xaf\x01\x02"
"""Seconds since 1904."""
_X264 = bytes(range(16)) + _NAME


@pytest.mark.parametrize("kind", [4, 5, 22, 99])
def test_messages_of_avc_that_no_decoder_needs_are_overwritten(kind: int) -> None:
    planted = _avc(_SPS, _PPS, _sei(kind, _X264), _PICTURE)
    cleaned = clean_video(planted, "avc")
    assert _NAME not in cleaned and len(cleaned) == len(planted)
    assert cleaned.startswith(_avc(_SPS, _PPS)) and cleaned.endswith(_avc(_PICTURE))
    assert clean_video(cleaned, "avc") is cleaned


def test_messages_with_numbers_of_a_closed_meaning_stay() -> None:
    plain = _avc(_SPS, _PPS, _sei(1, b"\1\2\3"), _sei(6, b"\x84"), _PICTURE)
    assert clean_video(plain, "avc") is plain


def test_messages_of_hevc_are_overwritten() -> None:
    picture = b"\x26\1\xaf\x08"
    planted = b"".join(
        b"\0\0\1" + unit for unit in (b"\x40\1\x0c", _sei(5, _X264, hevc=True), picture)
    )
    cleaned = clean_video(planted, "hevc")
    assert _NAME not in cleaned and len(cleaned) == len(planted) and cleaned.endswith(picture)


def test_units_of_unspecified_kinds_are_emptied() -> None:
    for kind in (0, 12, 24, 30, 31):
        planted = _avc(_SPS, _PPS, bytes([kind]) + _NAME, _PICTURE)
        assert _NAME not in clean_video(planted, "avc")


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">L", 8 + len(body)) + kind + body


@cache
def mp4(*, handler: bytes = b"vide", tail: bytes = b"") -> bytes:
    """Return a movie of one sample, with names wherever a writer may put them."""
    sample = b"".join(struct.pack(">L", len(u)) + u for u in (_sei(5, _X264), _PICTURE))
    avcc = _box(b"avcC", b"\1\x42\0\x1e\xff\xe1", struct.pack(">H", len(_SPS)), _SPS,
                b"\1", struct.pack(">H", len(_PPS)), _PPS)  # fmt: skip
    entry = _box(b"avc1", bytes(6), b"\0\1", bytes(16), struct.pack(">HH", 64, 48), bytes(14),
                 bytes([len(_NAME)]) + _NAME.ljust(31, b"\0"), b"\0\x18\xff\xff", avcc,
                 _box(b"uuid", _NAME))  # fmt: skip
    full = bytes(4)

    def movie(at: int) -> bytes:
        tables = _box(
            b"stbl", _box(b"stsd", full, struct.pack(">L", 1), entry),
            _box(b"stts", full, struct.pack(">LLL", 1, 1, 1)),
            _box(b"stsc", full, struct.pack(">LLLL", 1, 1, 1, 1)),
            _box(b"stsz", full, struct.pack(">LL", 0, 1), struct.pack(">L", len(sample))),
            _box(b"stco", full, struct.pack(">LL", 1, at)),
        )  # fmt: skip
        media = _box(
            b"mdia", _box(b"mdhd", full, _MADE * 2, struct.pack(">LLHH", 25, 1, 0, 0)),
            _box(b"hdlr", full, bytes(4), handler, bytes(12), _NAME, b"\0"),
            _box(b"minf", _box(b"vmhd", full, bytes(8)),
                 _box(b"dinf", _box(b"dref", full, bytes(3) + b"\1", _box(b"url ", full, _NAME))),
                 tables),
        )  # fmt: skip
        tracks = _box(b"trak", _box(b"tkhd", full, _MADE * 2, bytes(72)), media)
        told = _box(b"udta", _box(b"meta", full, _NAME))
        return _box(b"moov", _box(b"mvhd", full, _MADE * 2, bytes(88)), tracks, told)

    head = _box(b"ftyp", b"isom\0\0\2\0isomavc1")
    start = len(head) + len(movie(0)) + 8
    return head + movie(start) + _box(b"mdat", sample, _NAME) + _box(b"free", _NAME) + tail


def test_an_mp4_file_keeps_its_pictures_and_nothing_said_beside_them() -> None:
    planted = mp4()
    cleaned = clean_video(planted, "avc")
    assert _NAME not in cleaned and len(cleaned) == len(planted)
    assert _MADE not in cleaned
    for kept in (_SPS, _PPS, _PICTURE):
        assert kept in cleaned
    assert clean_video(cleaned, "avc") is cleaned


@pytest.mark.parametrize("handler", [b"text", b"sbtl", b"meta"])
def test_a_track_of_text_is_emptied(handler: bytes) -> None:
    cleaned = clean_video(mp4(handler=handler), "avc")
    assert _PICTURE not in cleaned and _NAME not in cleaned


@pytest.mark.parametrize("box", [b"moof", b"mvex"])
def test_a_fragmented_movie_is_refused(box: bytes) -> None:
    with pytest.raises(Unsafe):
        clean_video(mp4(tail=_box(box, _NAME)), "avc")


# ---- strangers' bytes ----------------------------------------------------------------------------


def _mutated(seed: bytes, draw: Any) -> bytes:
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == 1:
            data[at : at + 4] = draw(st.sampled_from([b"\xff" * 4, bytes(4), b"\0\0\1\6"]))
        elif kind == 2:
            del data[at : at + draw(st.integers(1, 30))]
        else:
            del data[at:]
    return bytes(data)


def _cleans_or_refuses(data: bytes) -> None:
    for coding in ("mpeg2", "avc", "hevc"):
        try:
            cleaned = clean_video(data, coding)  # type: ignore[arg-type]
        except Unsafe:
            continue
        assert len(cleaned) == len(data)


@settings(max_examples=150, deadline=timedelta(minutes=2))
@given(st.data())
def test_a_damaged_movie_is_cleaned_or_refused(data: st.DataObject) -> None:
    _cleans_or_refuses(_mutated(mp4(), data.draw))


@settings(max_examples=60, deadline=timedelta(minutes=2))
@given(st.data())
def test_a_damaged_stream_is_cleaned_or_refused(
    videos: dict[str, bytes], data: st.DataObject
) -> None:
    suffix = data.draw(st.sampled_from(sorted(videos)))
    seed = _with_user_data(videos["m2v"]) if suffix == "m2v" else videos[suffix]
    _cleans_or_refuses(_mutated(seed, data.draw))


@given(st.sampled_from([b"", b"\0\0\1\xba", b"\x47", b"\0\0\0\x18ftyp", b"\0\0\1"]),
       st.binary(max_size=400))  # fmt: skip
def test_any_bytes_are_cleaned_or_refused(head: bytes, data: bytes) -> None:
    _cleans_or_refuses(head + data)
    if head == b"\x47":
        _cleans_or_refuses((head + data).ljust(188 * 3, b"\x47"))

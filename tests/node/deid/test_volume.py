"""A NIfTI volume keeps its voxels and where they lie, and nothing else."""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.deid import volume
from node.deid.identifiers import Known, matcher
from node.deid.reading import Unsafe
from node.deid.volume import clean_volume, is_volume

WORD = b"MRN-0047119"
FIND = matcher(Known(numbers=frozenset({WORD.decode()})), None, False, None)
AFFINE = np.array([[-1.5, 0, 0, 10], [0, -2, 0, -20], [0, 0, 5, 30]], "f4")


def nifti(values: np.ndarray, *, order: str = "<", sides: tuple[int, ...] | None = None) -> bytes:
    """A file by nifti1.h with a word in every field of text, an extension and a tail."""
    codes = {"u1": 2, "i2": 4, "f4": 16, "u2": 512, "c8": 32}
    head = bytearray(348)
    struct.pack_into(f"{order}i", head, 0, 348)
    head[4:32], head[38:39] = WORD.ljust(28, b"x"), b"r"
    shape = sides or (values.ndim, *values.shape)
    struct.pack_into(f"{order}8h", head, 40, *shape, *[1] * (8 - len(shape)))
    struct.pack_into(f"{order}3f", head, 56, 4711.0, 4712.0, 4713.0)  # intent's parameters
    struct.pack_into(f"{order}2h", head, 70, codes[values.dtype.str[1:]], 8 * values.itemsize)
    struct.pack_into(f"{order}8f", head, 76, 1, 1.5, 2, 5, 4711.0, 0, 0, 0)
    struct.pack_into(f"{order}3f", head, 108, 400, 2.0, -1024.0)
    head[123] = 10
    struct.pack_into(f"{order}2f", head, 132, 4711.0, 4712.0)  # slice duration, time's offset
    head[148:228], head[228:252] = WORD.ljust(80), WORD.ljust(24)
    struct.pack_into(f"{order}2h", head, 252, 1, 2)
    struct.pack_into(f"{order}6f", head, 256, 0, 0, 1, 10, -20, 30)
    struct.pack_into(f"{order}12f", head, 280, *AFFINE.flatten())
    head[328:344], head[344:348] = WORD.ljust(16), b"n+1\0"
    extension = b"\1\0\0\0" + struct.pack(f"{order}2i", 48, 6) + WORD.ljust(40)
    voxels = values.astype(values.dtype.newbyteorder(order)).tobytes(order="F")
    return bytes(head) + extension + voxels + WORD


def packed(data: bytes) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(WORD.decode(), "wb", fileobj=out, mtime=1234567890) as file:
        file.write(data)
    return out.getvalue()


VALUES = np.arange(24, dtype="i2").reshape(4, 3, 2)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("wrapped", [bytes, packed])
def test_voxels_and_their_place_stay_and_no_word_does(
    order: str, wrapped: Callable[[bytes], bytes]
) -> None:
    given = wrapped(nifti(VALUES, order=order))
    assert is_volume(given)
    made = clean_volume(given, matcher=FIND)
    assert (made.slices, made.rows, made.columns) == (2, 3, 4)
    assert WORD not in made.data
    assert struct.pack("<f", 4711.0) not in made.data
    assert len(made.data) == 352 + VALUES.nbytes
    kept = np.frombuffer(made.data[352:], "<i2").reshape(VALUES.shape, order="F")
    assert np.array_equal(kept, VALUES)
    assert struct.unpack_from("<4f", made.data, 76) == (1, 1.5, 2, 5)
    assert struct.unpack_from("<3f", made.data, 108) == (352, 2.0, -1024.0)
    assert struct.unpack_from("<2h", made.data, 252) == (1, 2)
    assert struct.unpack_from("<6f", made.data, 256) == (0, 0, 1, 10, -20, 30)
    assert np.array_equal(np.frombuffer(made.data[280:328], "<f4"), AFFINE.flatten())
    assert clean_volume(made.data, matcher=FIND).data == made.data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (nifti(VALUES)[:-60], "truncated"),
        (nifti(VALUES)[:300], "truncated"),
        (packed(nifti(VALUES))[:-60], "truncated"),
        (nifti(VALUES, sides=(4, 2, 2, 2, 3)), "several-images"),
        (nifti(VALUES, sides=(3, 0, 2, 2)), "unsupported-image"),
        (nifti(VALUES, sides=(2, 4, 3)), "unsupported-image"),
        (nifti(VALUES.astype("c8")), "unsupported-image"),
        (nifti(VALUES, sides=(3, 30000, 30000, 30000)), "too-large-pixels"),
        (nifti(np.frombuffer(b"xxMRN0047119xyz.", "u1").reshape(16, 1, 1)), "identifier-left"),
    ],
)
def test_what_is_no_whole_volume_is_refused_by_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Unsafe) as caught:
        clean_volume(data, matcher=FIND)
    assert caught.value.reason == reason


def test_no_more_is_unpacked_than_the_header_declares(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(nifti(VALUES) + bytes(2**26))
    asked: list[int] = []
    opener = volume.zlib.decompressobj

    class Watched:
        def __init__(self, wbits: int) -> None:
            self._inner = opener(wbits=wbits)

        def decompress(self, data: bytes, most: int) -> bytes:
            asked.append(most)
            return self._inner.decompress(data, most)

    monkeypatch.setattr(volume.zlib, "decompressobj", Watched)
    clean_volume(bomb, matcher=None)
    assert asked
    assert max(asked) == 400 + VALUES.nbytes


@given(st.binary(max_size=400), st.integers(0, 347), st.binary(min_size=1, max_size=8))
def test_no_bytes_of_a_stranger_raise_anything_but_unsafe(
    tail: bytes, at: int, change: bytes
) -> None:
    data = bytearray(nifti(VALUES))
    data[at : at + len(change)] = change
    for given_data in (bytes(data), tail, gzip.compress(tail), b"\x1f\x8b" + tail):
        is_volume(given_data)
        try:
            made = clean_volume(given_data, matcher=FIND)
        except Unsafe:
            continue
        assert WORD not in made.data

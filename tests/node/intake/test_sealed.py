"""Sealed files: whole, in order and their own, or not read at all."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import DataError
from node.intake import sealed
from node.intake.sealed import HEADER, PIECE, TAG, Sealer, plain_bytes, unsealed

KEY = bytes(range(32))


def seal(data: bytes, context: bytes = b"one", step: int = 300_000) -> bytes:
    file = io.BytesIO()
    sealer = Sealer(file, KEY, context)
    for at in range(0, len(data), step):
        sealer.write(data[at : at + step])
    sealer.finish()
    return file.getvalue()


def read(file: bytes, context: bytes = b"one", key: bytes = KEY) -> bytes:
    return b"".join(unsealed(io.BytesIO(file), key, context))


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 7])
def test_what_was_sealed_is_read_and_its_size_is_known_without_the_key(size: int) -> None:
    data = bytes(i * 31 % 251 for i in range(1000)) * (size // 1000 + 1)
    file = seal(data[:size])
    assert read(file) == data[:size]
    assert plain_bytes(len(file)) == size


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=400), max_size=30), st.integers(8, 100))
def test_any_writes_are_read_back_in_pieces_of_any_size(parts: list[bytes], piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sealed, "PIECE", piece)
        file = io.BytesIO()
        sealer = Sealer(file, KEY, b"x")
        for part in parts:
            sealer.write(part)
        sealer.finish()
        data = b"".join(parts)
        assert read(file.getvalue(), b"x") == data
        assert plain_bytes(len(file.getvalue())) == len(data)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_bit_can_be_changed(data: st.DataObject) -> None:
    file = bytearray(seal(b"a patient's name" * 20))
    at = data.draw(st.integers(0, len(file) - 1))
    file[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DataError):
        read(bytes(file))


def test_pieces_can_be_neither_dropped_nor_swapped_nor_cut_off_nor_repeated() -> None:
    file = seal(bytes(3 * PIECE))
    head, size = file[:HEADER], PIECE + TAG
    pieces = [file[HEADER + n * size : HEADER + (n + 1) * size] for n in range(3)]
    orders = [[0, 1], [0], [1, 2], [0, 2, 1], [0, 1, 1, 2], [0, 1, 2, 2], [2], []]
    for order in orders:
        with pytest.raises(DataError):
            read(head + b"".join(pieces[n] for n in order))
    for end in (0, 3, HEADER - 1, HEADER + 5, len(file) - 1):
        with pytest.raises(DataError):
            read(file[:end])


def test_a_file_passes_neither_for_another_nor_under_another_key() -> None:
    file = seal(b"x")
    with pytest.raises(DataError):
        read(file, context=b"two")
    with pytest.raises(DataError):
        read(file, key=bytes(32))


def test_the_same_bytes_are_never_sealed_the_same_way() -> None:
    files = [seal(b"the same") for _ in range(3)]
    assert len({file[HEADER:] for file in files}) == 3

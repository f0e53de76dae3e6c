"""One pass over the bytes finds what a pass for each word finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.deid import byte_search
from node.deid.byte_search import FEW, contains_any

MANY = {f"colleague{number}".encode() for number in range(2 * FEW)}
LETTERS = st.binary(max_size=60).map(lambda data: bytes(97 + octet % 3 for octet in data))


@given(LETTERS, st.sets(LETTERS.filter(lambda word: len(word) > 2), max_size=6))
def test_it_finds_what_looking_for_each_word_finds(data: bytes, words: set[bytes]) -> None:
    expected = any(word in data for word in words)
    assert contains_any(data, words | MANY) == expected
    assert contains_any(data.upper(), words | MANY) == expected
    assert contains_any(data, words) == expected


@pytest.mark.parametrize("gap", range(-14, 3))
def test_a_word_across_two_pieces_is_found(gap: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_search, "_PIECE", 64)
    data = bytearray(np.random.default_rng(1).integers(128, 255, 200, np.uint8).tobytes())
    assert not contains_any(bytes(data), MANY)
    data[64 + gap : 64 + gap + 12] = b"Colleague31x"
    assert contains_any(bytes(data), MANY)


def test_two_bytes_a_letter_are_found() -> None:
    for encoding in ("utf-16-le", "utf-16-be"):
        words = {word.decode().encode(encoding) for word in MANY}
        assert contains_any(b"12345" + "COLLEAGUE7".encode(encoding), words)
        assert not contains_any(b"12345" + "COLLEAGUEX".encode(encoding), words)

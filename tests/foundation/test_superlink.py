"""One message of the link and its tensors, as Flower's records and back."""

from __future__ import annotations

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import DocumentError
from foundation import superlink
from foundation.superlink import pack, unpack


@given(st.binary(max_size=100), st.binary(max_size=3000), st.booleans())
def test_what_was_packed_is_unpacked(message: bytes, tensors: bytes, inline: bool) -> None:
    most, superlink.MAX_INLINE_BYTES = superlink.MAX_INLINE_BYTES, 2**20 if inline else 10
    try:
        packed = pack(message, tensors)
        assert unpack(packed) == (message, tensors)
        large = len(tensors) > superlink.MAX_INLINE_BYTES
        assert (superlink.TENSORS in packed) is large
        if large:
            again = superlink.with_tensors(message, packed[superlink.TENSORS])
            assert unpack(again) == (message, tensors)
    finally:
        superlink.MAX_INLINE_BYTES = most


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"wardgate": ArrayRecord()}),
        RecordDict({"wardgate": ConfigRecord({"message": b"x"})}),
        RecordDict({"wardgate": ConfigRecord({"message": "x", "blob": b""})}),
        RecordDict({"wardgate": ConfigRecord({"message": b"x", "blob": [b""]})}),
        RecordDict({"wardgate": ConfigRecord({"message": b"x", "blob": b""}), "x": ConfigRecord()}),
        RecordDict(
            {
                "wardgate": ConfigRecord({"message": b"x", "blob": b""}),
                "tensors": ArrayRecord({"other": Array("uint8", (1,), "x", b"x")}),
            }
        ),
        RecordDict(
            {"wardgate": ConfigRecord({"message": b"x", "blob": b""}), "tensors": ConfigRecord()}
        ),
    ],
)
def test_anything_else_is_refused(content: RecordDict) -> None:
    with pytest.raises(DocumentError):
        unpack(content)

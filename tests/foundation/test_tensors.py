"""Records written and read without copies are what the contract writes and reads."""

import os

import hypothesis.extra.numpy as hnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import records
from contract.errors import DocumentError
from contract.records import DTYPES, Arrays, Metrics
from foundation import tensors
from foundation.frames import Broken, FrameError, Pipe, pack, unpack

ARRAYS = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_dims=3))
)
GROUPS = st.dictionaries(st.text(max_size=5), ARRAYS, max_size=4)


@given(first=GROUPS, second=GROUPS)
def test_what_is_encoded_here_the_contract_decodes_and_the_other_way(first, second):
    content = {"a": Arrays(first), "m": Metrics({"n": 1}), "b": Arrays(second)}
    encoded = tensors.encode(content)
    message, blob = records.encode(content)
    here = tensors.read(message, blob)
    there = records.decode(encoded.message, encoded.blob)
    for back in (here, there):
        assert list(back) == ["a", "m", "b"]
        for name, group in (("a", first), ("b", second)):
            assert list(back[name].items) == list(group)
            for key, array in group.items():
                assert back[name].items[key].tobytes() == array.tobytes()
                assert back[name].items[key].shape == array.shape
                assert back[name].items[key].dtype == array.dtype


@given(data=st.binary(max_size=300))
def test_what_is_no_tensor_blob_is_refused(data):
    with pytest.raises(DocumentError):
        tensors.views(len(data).to_bytes(8, "little") + data + b"x" if data else b"")


@pytest.mark.parametrize("offsets", [[0, 5], [-4, 0], [4, 0], [0, 99], [0]])
def test_an_array_outside_its_blob_is_refused(offsets):
    head = b'{"0":{"dtype":"F32","shape":[1],"data_offsets":%b}}' % str(offsets).encode()
    with pytest.raises(DocumentError):
        tensors.views(len(head).to_bytes(8, "little") + head + bytes(4))


@given(parts=st.lists(st.binary(max_size=20), max_size=6), cut=st.integers(1, 8))
def test_packed_parts_come_back_and_cut_ones_are_noticed(parts, cut):
    data = pack(parts)
    assert unpack(data) == parts
    with pytest.raises(ValueError, match="packed"):
        unpack(data[:-cut] if cut <= len(data) else b"")
    with pytest.raises(ValueError, match="packed"):
        unpack(data + b"x")


def test_a_frame_is_refused_by_its_declared_length_before_it_is_read():
    incoming, outgoing = os.pipe()
    back, forth = os.pipe()
    sender, receiver = Pipe(back, outgoing), Pipe(incoming, forth)
    sender.send(b"R", b"m", [b"12345", b"6"])
    assert receiver.receive(6).body == b"123456"
    sender.send(b"R", b"m", [b"1234567"])
    with pytest.raises(FrameError) as caught:
        receiver.receive(6)
    assert caught.value.why is Broken.TOO_LARGE
    sender.close()
    receiver.close()

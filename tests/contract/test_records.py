"""Records keep every value with its type, and a blob holds exactly what its message declares."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from contract import wire_pb2 as wire
from contract.errors import DocumentError, WardgateError
from contract.records import DTYPES, Arrays, Config, Metrics, Records, decode, encode
from foundation import tensors

INTEGERS = st.integers(-(2**63), 2**63 - 1)
SCALARS = INTEGERS | st.floats() | st.text(max_size=8) | st.binary(max_size=8) | st.booleans()
LISTS = st.one_of(
    *(
        st.lists(kind, min_size=1, max_size=4)
        for kind in (
            INTEGERS,
            st.floats(),
            st.text(max_size=4),
            st.binary(max_size=4),
            st.booleans(),
        )
    ),
    st.just([]),
)
VALUES = st.dictionaries(st.text(max_size=5), SCALARS | LISTS, max_size=4)
ARRAYS = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
RECORDS = st.dictionaries(
    st.text(max_size=5),
    st.one_of(
        st.dictionaries(st.text(max_size=5), ARRAYS, max_size=4).map(Arrays),
        VALUES.map(Metrics),
        VALUES.map(Config),
    ),
    max_size=4,
)


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal to the bit and in type."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b) or (math.isnan(a) and math.isnan(b))
    return bool(a == b)


def assert_same(found: Records, expected: Records) -> None:
    assert list(found) == list(expected)
    for name, record in expected.items():
        other = found[name]
        assert type(other) is type(record)
        assert list(other.items) == list(record.items)
        for key, value in record.items.items():
            got = other.items[key]
            if isinstance(value, np.ndarray):
                assert isinstance(got, np.ndarray)
                assert (got.dtype, got.shape) == (value.dtype.newbyteorder("="), value.shape)
                assert got.tobytes() == value.astype(got.dtype).tobytes()
            else:
                assert same(got, value), (key, got, value)


def travelled(records: Records) -> Records:
    message, blob = encode(records)
    return decode(wire.RecordDict.FromString(message.SerializeToString()), blob)


@given(RECORDS)
def test_records_come_back_as_they_were(records: Records) -> None:
    assert_same(travelled(records), records)


@given(RECORDS)
def test_both_codecs_write_what_the_other_reads(records: Records) -> None:
    written = tensors.encode(records)
    assert_same(decode(written.message, written.blob), records)
    message, blob = encode(records)
    assert_same(tensors.read(message, blob), records)


@pytest.mark.parametrize(
    "value",
    [0, 1, -1, 2**63 - 1, -(2**63), True, False, 0.0, -0.0, 1.0, math.nan, math.inf, -math.inf,
     5e-324, "", "1", "é\x00", b"", b"1", [], [1], [1.0], [True], ["1"], [b"1"], [math.nan, -0.0]],
    ids=repr,
)  # fmt: skip
def test_a_value_keeps_its_type(value: Any) -> None:
    for kind in (Metrics, Config):
        found = travelled({"r": kind({"k": value})})["r"]
        assert type(found) is kind
        assert same(found.items["k"], value)


def test_numpys_own_scalars_travel_as_pythons() -> None:
    record = Metrics({"a": np.int32(3), "b": np.float32(0.5), "c": np.bool_(True)})  # type: ignore[dict-item]
    found = travelled({"r": record})["r"].items
    assert [(type(v), v) for v in found.values()] == [(int, 3), (float, 0.5), (bool, True)]


@pytest.mark.parametrize(
    "value",
    [2**63, -(2**63) - 1, None, 1j, (1,), {}, [1, "a"], [1, True], [1, 1.0], [[1]], "\ud800"],
)
def test_what_has_no_form_on_the_wire_is_refused(value: Any) -> None:
    with pytest.raises(DocumentError):
        encode({"r": Metrics({"k": value})})


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]", "S3", "U3", "object", "V4"])
def test_only_numbers_and_booleans_travel_in_arrays(dtype: str) -> None:
    with pytest.raises(DocumentError, match="can't travel"):
        encode({"r": Arrays({"k": np.zeros(2, dtype)})})


@pytest.mark.parametrize("dtype", sorted(DTYPES - {"bool", "int8", "uint8"}))
def test_a_big_endian_array_arrives_with_the_same_numbers(dtype: str) -> None:
    values = np.arange(1, 7, dtype=dtype).reshape(2, 3)
    found = travelled({"r": Arrays({"k": values.astype(values.dtype.newbyteorder(">"))})})["r"]
    assert isinstance(found, Arrays)
    assert np.array_equal(found.items["k"], values)


def test_an_array_that_is_not_contiguous_arrives_in_its_own_order() -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    views = {"t": base.T, "s": base[::2, ::3], "r": base[::-1], "f": np.asfortranarray(base)}
    found = travelled({"r": Arrays(dict(views))})["r"]
    for key, view in views.items():
        assert np.array_equal(found.items[key], view)


def test_more_than_ten_arrays_keep_their_order() -> None:
    many: dict[str, Any] = {f"layer{i}": np.full(1, i, "float32") for i in range(25)}
    assert_same(travelled({"r": Arrays(many)}), {"r": Arrays(many)})


# ---- blobs that were tampered with -------------------------------------------------------------


def example() -> tuple[wire.RecordDict, bytes]:
    return encode(
        {
            "one": Arrays({"a": np.arange(6, dtype="float32").reshape(2, 3)}),
            "two": Arrays({"b": np.array([1, 2], "int64")}),
            "m": Metrics({"x": 1.5}),
        }
    )


def reblob(message: wire.RecordDict, blob: bytes) -> tuple[wire.RecordDict, bytes]:
    """A message that truly declares this blob's size and digest."""
    message.tensors.size, message.tensors.digest = len(blob), hashlib.sha256(blob).hexdigest()
    return message, blob


@given(st.integers(0, len(example()[1]) * 8 - 1))
def test_a_blob_with_any_bit_flipped_is_refused(bit: int) -> None:
    message, blob = example()
    changed = bytearray(blob)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DocumentError, match="digest"):
        decode(message, bytes(changed))


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b""])
def test_a_blob_of_another_size_is_refused(change: Callable[[bytes], bytes]) -> None:
    message, blob = example()
    with pytest.raises(DocumentError, match="size"):
        decode(message, change(blob))


@pytest.mark.parametrize("how", ["shape", "dtype", "missing", "extra", "renamed", "swapped"])
def test_a_blob_that_holds_something_else_than_declared_is_refused(how: str) -> None:
    message, blob = example()
    held = dict(safetensors.numpy.load(blob))
    match how:
        case "shape":
            held["0"] = held["0"].reshape(3, 2)
        case "dtype":
            held["0"] = held["0"].view("int32")
        case "missing":
            del held["1"]
        case "extra":
            held["2"] = np.zeros(1, "float32")
        case "renamed":
            held["a"] = held.pop("0")
        case _:
            held["0"], held["1"] = held["1"], held["0"]
    with pytest.raises(DocumentError):
        decode(*reblob(message, safetensors.numpy.save(held)))


@pytest.mark.parametrize("how", ["records", "arrays", "entries"])
def test_a_name_that_occurs_twice_is_refused(how: str) -> None:
    message, blob = example()
    match how:
        case "records":
            message.records[1].name = "one"
        case "arrays":
            message.records[0].arrays.add(key="a", dtype="int64", shape=[2])
            del message.records[1]
        case _:
            message.records[2].entries.append(message.records[2].entries[0])
    with pytest.raises(DocumentError):
        decode(message, blob)


def test_an_entry_without_a_value_is_refused() -> None:
    message = wire.RecordDict()
    message.records.add(name="m", kind=wire.Record.METRICS).entries.add(key="x")
    with pytest.raises(DocumentError):
        decode(message, b"")


@pytest.mark.parametrize("dtype", ["F8_E4M3", "BF16", "C64", "F4", "U128", "object", "", None, 7])
def test_a_tensor_of_a_foreign_type_is_refused(dtype: object) -> None:
    header = json.dumps({"0": {"dtype": dtype, "shape": [1], "data_offsets": [0, 8]}}).encode()
    blob = len(header).to_bytes(8, "little") + header + b"\0" * 8
    message = wire.RecordDict()
    record = message.records.add(name="r", kind=wire.Record.ARRAYS)
    record.arrays.add(key="k", dtype=str(dtype), shape=[1])
    for read in (decode, tensors.read):
        with pytest.raises(DocumentError):
            read(*reblob(message, blob))


@given(st.binary(max_size=80))
def test_no_bytes_of_a_stranger_raise_anything_but_a_document_error(blob: bytes) -> None:
    message = wire.RecordDict()
    message.records.add(name="r", kind=wire.Record.ARRAYS).arrays.add(key="k", dtype="bool")
    for read in (decode, tensors.read):
        with pytest.raises(DocumentError):
            read(*reblob(message, blob))


HEADERS = st.dictionaries(
    st.sampled_from(["0", "1", "__metadata__"]),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "I64", "BOOL", "BF16"]),
            "shape": st.lists(st.integers(-1, 2**62), max_size=3),
            "data_offsets": st.lists(st.integers(-8, 2**63), max_size=3),
        }
    )
    | st.none()
    | st.integers()
    | st.just({"format": "np"}),
    max_size=3,
)


@given(HEADERS, st.binary(max_size=32))
def test_no_header_of_a_stranger_raises_anything_but_a_document_error(
    header: dict[str, Any], body: bytes
) -> None:
    text = json.dumps(header).encode()
    message, blob = reblob(wire.RecordDict(), len(text).to_bytes(8, "little") + text + body)
    message.records.add(name="r", kind=wire.Record.ARRAYS).arrays.add(key="k", dtype="float32")
    for read in (decode, tensors.read):
        try:
            read(message, blob)
        except WardgateError as error:
            assert isinstance(error, DocumentError)


@given(st.binary(max_size=60))
def test_any_message_that_parses_decodes_or_is_refused(data: bytes) -> None:
    try:
        message = wire.RecordDict.FromString(data)
    except Exception:
        return
    try:
        decode(message, b"")
    except WardgateError as error:
        assert isinstance(error, DocumentError)

"""Records: what a Flower message holds, as typed protobuf and one safetensors blob.

Structure travels as ``wire.proto``'s ``RecordDict`` (scalars keep their type); all arrays of a
message lie in a single safetensors buffer, so that cost grows with bytes and not with tensors.
Nothing here unpickles: the closed list of dtypes has no objects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from contract import wire_pb2 as wire
from contract.errors import DocumentError

_WIDTHS = {"int": (8, 16, 32, 64), "uint": (8, 16, 32, 64), "float": (16, 32, 64)}
DTYPES = frozenset({"bool"} | {f"{kind}{bits}" for kind, all_ in _WIDTHS.items() for bits in all_})
MAX_DIMENSIONS = 32
NOTHING = "nothing"
"""The one array, empty, of a training job that only asked queries and so has no model."""

ScalarValue = int | float | str | bytes | bool
Value = ScalarValue | list[int] | list[float] | list[str] | list[bytes] | list[bool]


@dataclass
class Arrays:
    """A named, ordered group of arrays (Flower's ArrayRecord)."""

    items: dict[str, NDArray[np.generic]] = field(default_factory=dict)


@dataclass
class Metrics:
    """A group of numbers or lists of numbers (Flower's MetricRecord)."""

    items: dict[str, Value] = field(default_factory=dict)


@dataclass
class Config:
    """A group of settings (Flower's ConfigRecord)."""

    items: dict[str, Value] = field(default_factory=dict)


Records = dict[str, Arrays | Metrics | Config]


def encode(records: Mapping[str, Arrays | Metrics | Config]) -> tuple[wire.RecordDict, bytes]:
    """Return the message and its safetensors blob (empty when there are no arrays).

    Raises ``DocumentError`` for a dtype or value that can't travel.
    """
    message = wire.RecordDict()
    tensors: dict[str, NDArray[np.generic]] = {}
    for name, record in records.items():
        out = message.records.add(name=name)
        if isinstance(record, Arrays):
            out.kind = wire.Record.ARRAYS
            for key, array in record.items.items():
                if array.dtype.name not in DTYPES:
                    raise DocumentError(f"An array of dtype {array.dtype.name} can't travel.")
                out.arrays.add(key=key, dtype=array.dtype.name, shape=array.shape)
                native = array.astype(array.dtype.newbyteorder("<"), copy=False)
                tensors[str(len(tensors))] = np.asarray(native, order="C")
            continue
        out.kind = wire.Record.METRICS if isinstance(record, Metrics) else wire.Record.CONFIG
        for key, value in record.items.items():
            out.entries.append(encode_entry(key, value))
    blob = safetensors.numpy.save(tensors) if tensors else b""
    if blob:
        message.tensors.digest = hashlib.sha256(blob).hexdigest()
        message.tensors.size = len(blob)
    return message, blob


def encode_entry(key: str, value: Value) -> wire.Entry:
    """Return one named scalar or list, with its type."""
    try:
        entry = wire.Entry(key=key)
        if isinstance(value, list):
            _encode_list(entry.list, value)
        else:
            _encode_scalar(entry.scalar, value)
    except UnicodeEncodeError:
        raise DocumentError("Text that is not Unicode can't travel.") from None
    return entry


def _encode_scalar(scalar: wire.Scalar, value: ScalarValue) -> None:
    if isinstance(value, bool | np.bool_):
        scalar.flag = bool(value)
    elif isinstance(value, int | np.integer):
        if not -(2**63) <= value < 2**63:
            raise DocumentError("An integer outside 64 bits can't travel.")
        scalar.integer = int(value)
    elif isinstance(value, float | np.floating):
        scalar.real = float(value)
    elif isinstance(value, str):
        scalar.text = value
    elif isinstance(value, bytes):
        scalar.data = value
    else:
        raise DocumentError(f"A value of type {type(value).__name__} can't travel.")


def _encode_list(
    out: wire.ScalarList, values: list[int] | list[float] | list[str] | list[bytes] | list[bool]
) -> None:
    first = values[0] if values else 0
    scalars: list[wire.Scalar] = []
    for value in values:
        scalar = wire.Scalar()
        _encode_scalar(scalar, value)
        scalars.append(scalar)
    kinds = {s.WhichOneof("value") for s in scalars} or {"integer"}
    if len(kinds) != 1:
        raise DocumentError(f"A list that mixes types can't travel ({type(first).__name__} first).")
    match kinds.pop():
        case "integer":
            out.kind = wire.ScalarList.INTEGER
            out.integers.extend(s.integer for s in scalars)
        case "real":
            out.kind = wire.ScalarList.REAL
            out.reals.extend(s.real for s in scalars)
        case "text":
            out.kind = wire.ScalarList.TEXT
            out.texts.extend(s.text for s in scalars)
        case "data":
            out.kind = wire.ScalarList.DATA
            out.data.extend(s.data for s in scalars)
        case _:
            out.kind = wire.ScalarList.FLAG
            out.flags.extend(s.flag for s in scalars)


def decode(message: wire.RecordDict, blob: bytes) -> Records:
    """Return the records of a message and its blob.

    The blob must be exactly what the message declares: digest, names, dtypes, shapes and size.
    Raises ``DocumentError`` otherwise.
    """
    if len(blob) != message.tensors.size:
        raise DocumentError("A tensor blob has another size than its message declares.")
    if blob and hashlib.sha256(blob).hexdigest() != message.tensors.digest:
        raise DocumentError("A tensor blob has another digest than its message declares.")
    arrays = _read_blob(blob) if blob else {}
    records: Records = {}
    ordinal = 0
    for record in message.records:
        if record.name in records:
            raise DocumentError("A message holds two records of one name.")
        if record.kind == wire.Record.ARRAYS:
            group = Arrays()
            for spec in record.arrays:
                array = arrays.pop(str(ordinal), None)
                ordinal += 1
                shape = tuple(spec.shape)
                if array is None or array.dtype.name != spec.dtype or array.shape != shape:
                    raise DocumentError("A tensor blob doesn't hold what its message declares.")
                if spec.key in group.items:
                    raise DocumentError("A record holds two arrays of one name.")
                group.items[spec.key] = array
            records[record.name] = group
            continue
        values = {entry.key: decode_entry(entry) for entry in record.entries}
        if len(values) != len(record.entries):
            raise DocumentError("A record holds two entries of one name.")
        metrics = record.kind == wire.Record.METRICS
        records[record.name] = Metrics(values) if metrics else Config(values)
    if arrays:
        raise DocumentError("A tensor blob holds more than its message declares.")
    return records


def _read_blob(blob: bytes) -> dict[str, NDArray[np.generic]]:
    try:
        return dict(safetensors.numpy.load(blob))
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError):
        raise DocumentError("A tensor blob is not safetensors.") from None


def decode_entry(entry: wire.Entry) -> Value:
    """Return the Python value of one entry, with the type that it was given."""
    if entry.WhichOneof("value") == "list":
        values = entry.list
        match values.kind:
            case wire.ScalarList.INTEGER:
                return list(values.integers)
            case wire.ScalarList.REAL:
                return list(values.reals)
            case wire.ScalarList.TEXT:
                return list(values.texts)
            case wire.ScalarList.DATA:
                return list(values.data)
            case _:
                return list(values.flags)
    kind = entry.scalar.WhichOneof("value")
    if kind is None:
        raise DocumentError("An entry holds no value.")
    value: Value = getattr(entry.scalar, kind)
    return value

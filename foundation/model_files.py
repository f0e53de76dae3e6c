"""A finished model as a safetensors file: its bytes, and the digest by which the model is called.

The bytes are those that ``safetensors`` writes for the same arrays, made piece by piece, so that
memory holds no second model.

Source of the order: safetensors 0.8, ``serialize``: tensors lie by falling alignment of their
dtype, then by name; the header is JSON without spaces, filled up to a multiple of eight bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.errors import DocumentError

_ORDER = ("BOOL", "U8", "I8", "I16", "U16", "F16", "I32", "U32", "F32", "F64", "I64", "U64")
_CODES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "int16": "I16", "uint16": "U16",
    "float16": "F16", "int32": "I32", "uint32": "U32", "float32": "F32", "float64": "F64",
    "int64": "I64", "uint64": "U64",
}  # fmt: skip
_RANK = {code: -rank for rank, code in enumerate(_ORDER)}


@dataclass(frozen=True)
class ModelDigest:
    """The SHA-256 of a model's safetensors file, and the file's size in bytes."""

    digest: str
    size: int


def pieces(arrays: Mapping[str, NDArray[np.generic]]) -> Iterator[bytes | memoryview]:
    """Yield the file's bytes; ``DocumentError`` for a dtype that safetensors hasn't got."""
    header: dict[str, object] = {}
    ordered: list[NDArray[np.generic]] = []
    end = 0
    try:
        names = sorted(arrays, key=lambda n: (_RANK[_CODES[arrays[n].dtype.name]], n.encode()))
    except KeyError:
        raise DocumentError("A model's array has a dtype that safetensors hasn't got.") from None
    for name in names:
        array = arrays[name]
        start, end = end, end + array.nbytes
        header[name] = {
            "dtype": _CODES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
        ordered.append(array)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for array in ordered:
        native = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        yield native.reshape(-1).view(np.uint8).data


def digest_of(arrays: Mapping[str, NDArray[np.generic]]) -> ModelDigest:
    """Return by what a model of these arrays is called."""
    digest, size = hashlib.sha256(), 0
    for piece in pieces(arrays):
        digest.update(piece)
        size += len(piece)
    return ModelDigest(digest.hexdigest(), size)

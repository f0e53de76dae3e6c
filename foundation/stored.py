"""A message whose tensors stay on disk: each array is read when it is wanted, and no sooner.

Hundreds of replies can be held so for the memory of one array. They are read, not mapped: mapped
pages count as resident memory, and each mapping holds a file open.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract import wire_pb2 as wire
from contract.errors import DocumentError
from contract.records import Config, Metrics
from foundation import tensors

PIECE_BYTES = 2**18
"""Small enough to stay in a processor's cache while it is looked at."""


@dataclass(frozen=True)
class StoredArray:
    """An array in a file that is never changed: ``start`` is its first byte there."""

    path: Path
    start: int
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    def read(self) -> NDArray[np.generic]:
        """Return the array, which is the caller's own; ``DocumentError`` when the file is cut."""
        array = np.empty(self.shape, self.dtype)
        with self.path.open("rb", buffering=0) as file:
            _fill(file.fileno(), array.reshape(-1).view(np.uint8).data, self.start)
        return array

    def pieces(self) -> Iterator[NDArray[np.generic]]:
        """Yield its values in order, flat; each piece is good until the next is asked for."""
        left = int(np.prod(self.shape, dtype=np.int64))
        size = PIECE_BYTES // self.dtype.itemsize
        buffer = np.empty(min(size, left), self.dtype)
        at = self.start
        with self.path.open("rb", buffering=0) as file:
            while left:
                piece = buffer[: min(size, left)]
                _fill(file.fileno(), piece.view(np.uint8).data, at)
                yield piece
                at, left = at + piece.nbytes, left - len(piece)


@dataclass
class StoredArrays:
    """A named, ordered group of arrays, as ``contract.records.Arrays`` is."""

    items: dict[str, StoredArray] = field(default_factory=dict)


StoredRecords = dict[str, StoredArrays | Metrics | Config]


def read_stored(message: wire.RecordDict, path: Path) -> StoredRecords:
    """Return a message's records, their arrays in the file ``path``.

    As ``tensors.read``: the file's hash was checked before; ``DocumentError`` when it holds
    something else than the message declares.
    """
    if not message.tensors.size:
        return tensors.arrange(message, {}, StoredArrays)
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size != message.tensors.size:
            raise DocumentError(tensors.OTHER_SIZE)
        start = file.read(8)
        text = file.read(tensors.header_bytes(start, size))
    body = len(start) + len(text)
    arrays = {
        name: StoredArray(path, body + place.start, place.dtype, place.shape)
        for name, place in tensors.places(text, size - body).items()
    }
    return tensors.arrange(message, arrays, StoredArrays)


def _fill(descriptor: int, buffer: memoryview, at: int) -> None:
    while buffer:
        read = os.preadv(descriptor, [buffer], at)
        if not read:
            raise DocumentError("A tensor blob was cut after it was checked.")
        at, buffer = at + read, buffer[read:]

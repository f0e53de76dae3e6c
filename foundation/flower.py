"""The contract's records as Flower's, and back, at the price of one copy and not of four.

Flower keeps an array as the bytes of a ``.npy`` file. An array that came over the wire is kept as
it is here, and becomes ``.npy`` bytes only for a caller that asks for them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from contract.errors import DocumentError
from contract.records import Arrays, Config, Metrics, Records
from foundation.stored import StoredArray, StoredArrays, StoredRecords

STYPE = "numpy.ndarray"
AnyArray = NDArray[np.generic]


class WireArray(Array):  # type: ignore[misc]  # Flower is untyped here
    """Flower's ``Array`` over an array that is never changed; ``numpy`` gives a fresh one.

    One that is stored is read anew each time it is wanted.
    """

    def __init__(self, array: AnyArray | StoredArray, fresh: Callable[[], AnyArray]) -> None:
        self.__dict__["wire"] = array
        self.__dict__["_fresh"] = fresh
        self.dtype = array.dtype.name
        self.shape = tuple(array.shape)
        self.stype = STYPE

    @property
    def data(self) -> bytes:
        """The ``.npy`` bytes, made anew each time."""
        if "_npy" in self.__dict__:
            return bytes(self.__dict__["_npy"])
        file = io.BytesIO()
        np.save(file, self.held(), allow_pickle=False)
        return file.getvalue()

    @data.setter
    def data(self, value: bytes) -> None:
        self.__dict__["_npy"] = value
        self.__dict__["wire"] = read_npy(value)
        self.__dict__["_fresh"] = self.__dict__["wire"].copy

    def held(self) -> AnyArray:
        """The array itself, not to be changed."""
        wire: AnyArray | StoredArray = self.__dict__["wire"]
        return wire.read() if isinstance(wire, StoredArray) else wire

    def numpy(self) -> AnyArray:
        """An array of the caller's own, as Flower's gives."""
        fresh: AnyArray = self.__dict__["_fresh"]()
        return fresh


def read_npy(data: bytes) -> AnyArray:
    """Return the array in ``.npy`` bytes, as a view of them; ``DocumentError`` if it is none."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        if dtype.hasobject:
            raise DocumentError("An array of Python objects can't travel.")
        flat = np.frombuffer(data, dtype, offset=file.tell())
        return flat.reshape(shape, order="F" if fortran else "C")
    except (ValueError, TypeError, EOFError):
        raise DocumentError("An array is not in NumPy's format and can't travel.") from None


def array_of(array: Array) -> AnyArray:
    """Return what an ``Array`` holds, not to be changed."""
    if isinstance(array, WireArray):
        return array.held()
    if array.stype != STYPE:
        raise DocumentError("An array is not in NumPy's format and can't travel.")
    return read_npy(array.data)


def held_of(array: Array) -> AnyArray | StoredArray | bytes:
    """Return what an ``Array`` holds, as it holds it, not to be changed."""
    if isinstance(array, WireArray):
        held: AnyArray | StoredArray = array.__dict__["wire"]
        return held
    data: bytes = array.data
    return data


def to_flower(
    records: Records | StoredRecords, fresh: Callable[[AnyArray], AnyArray] = np.copy
) -> RecordDict:
    """Return the records as Flower's. ``fresh`` makes an array that its caller may change."""
    content = RecordDict()
    for name, record in records.items():
        if isinstance(record, Arrays):
            group = ArrayRecord()
            for key, array in record.items.items():
                group[key] = WireArray(array, partial(fresh, array))
            content[name] = group
        elif isinstance(record, StoredArrays):
            group = ArrayRecord()
            for key, stored in record.items.items():
                group[key] = WireArray(stored, stored.read)
            content[name] = group
        elif isinstance(record, Metrics):
            content[name] = MetricRecord(dict(record.items))
        else:
            content[name] = ConfigRecord(dict(record.items))
    return content


def from_flower(content: RecordDict) -> Records:
    """Return Flower's records as the contract's; arrays are views. May raise ``DocumentError``."""
    records: Records = {}
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            records[name] = Arrays({key: array_of(array) for key, array in record.items()})
        else:
            items: dict[str, Any] = {
                key: list(value) if isinstance(value, list) else value
                for key, value in record.items()
            }
            records[name] = Metrics(items) if isinstance(record, MetricRecord) else Config(items)
    return records


def build(folder: Path) -> bytes:
    """Return the bundle that ``flwr build`` makes of a folder; ``DocumentError`` says why not."""
    from flwr.cli.build import build_fab_from_disk

    try:
        bundle: bytes = build_fab_from_disk(folder)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = lines[-1] if lines else type(error).__name__
        raise DocumentError(f"{folder} is no Flower app: {why}") from None
    return bundle

"""NIfTI-1 volumes read and written (nifti1.h), in DICOM's axes and the patient's coordinates.

Whatever order a file stores its voxels in, a volume's slices go up, its rows to the back and its
columns to the left of the patient, as those of an axial DICOM series do. So volumes and masks of
several sources lie alike.
"""

from __future__ import annotations

import gzip
import itertools
import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from learning.pixels import MOST_VALUES, Floats, Volume

_HEADER = 348
_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4",
}  # fmt: skip
_TURN = np.array([-1.0, -1.0, 1.0])
"""DICOM's axes run to the left and the back, NIfTI's to the right and the front."""


def read(path: Path) -> Volume:
    """Return the volume of a ``.nii`` file; ``ValueError`` when it holds none, or several."""
    with path.open("rb") as file:
        head = file.read(_HEADER)
        order: Literal["<", ">"] = "<" if head[:4] == struct.pack("<i", _HEADER) else ">"
        if head[:4] != struct.pack(f"{order}i", _HEADER) or head[344:348] != b"n+1\0":
            raise ValueError("a volume is no NIfTI-1 file")
        number, *sides = struct.unpack_from(f"{order}8h", head, 40)
        kind = _TYPES.get(struct.unpack_from(f"{order}h", head, 70)[0])
        if not 3 <= number <= 7 or min(sides[:number]) < 1 or math.prod(sides[3:number]) != 1:
            raise ValueError("a NIfTI file holds no single volume")
        if kind is None:
            raise ValueError("a NIfTI file's voxels are no real numbers")
        columns, rows, slices = sides[:3]
        count = columns * rows * slices
        if count > MOST_VALUES:
            raise ValueError("a volume has too many voxels to be read at once")
        start, slope, inter = struct.unpack_from(f"{order}3f", head, 108)
        if not start >= _HEADER:
            raise ValueError("a NIfTI file's voxels begin nowhere")
        file.seek(int(start))
        stored = np.fromfile(file, np.dtype(kind).newbyteorder(order), count)
    if len(stored) != count:
        raise ValueError("a NIfTI file ends before its last voxel")
    values = stored.astype(np.float32).reshape(slices, rows, columns)
    if math.isfinite(slope) and slope != 0 and (slope, inter) != (1.0, 0.0):
        values = values * np.float32(slope) + np.float32(inter if math.isfinite(inter) else 0)
    np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return _turned(values, _affine(head, order))


def _affine(head: bytes, order: str) -> NDArray[np.float64]:
    """Return the map of (column, row, slice) to NIfTI's coordinates in millimetres: (3, 4)."""
    found = np.zeros((3, 4))
    quaternion, plain = struct.unpack_from(f"{order}2h", head, 252)
    spacing = np.array(struct.unpack_from(f"{order}8f", head, 76), float)
    sides = np.abs(spacing[1:4])
    sides[~(np.isfinite(sides) & (sides > 0))] = 1
    if plain > 0:
        found[:] = np.reshape(struct.unpack_from(f"{order}12f", head, 280), (3, 4))
    elif quaternion > 0:
        b, c, d, *offset = struct.unpack_from(f"{order}6f", head, 256)
        a = math.sqrt(max(0.0, 1 - b * b - c * c - d * d))
        found[:, :3] = [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
        found[:, :3] *= sides * [1, 1, -1 if spacing[0] < 0 else 1]
        found[:, 3] = offset
    else:  # nobody says where it lies: as ANALYZE's volumes are usually taken
        found[:, :3] = np.diag(sides * [-1, 1, 1])
    if not np.isfinite(found).all() or abs(np.linalg.det(found[:, :3])) < 1e-9:
        raise ValueError("a NIfTI file lies in no space")
    return found


def _turned(values: Floats, affine: NDArray[np.float64]) -> Volume:
    """Return the volume with its axes nearest to upwards, backwards and leftwards."""
    matrix, origin = (affine[:, :3].T * _TURN)[::-1], affine[:, 3] * _TURN
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    # Rows: the file's axes as (slices, rows, columns). Columns: left, back, up.
    order = max(
        itertools.permutations(range(3)),
        key=lambda axes: abs(unit[axes[0], 2]) + abs(unit[axes[1], 1]) + abs(unit[axes[2], 0]),
    )
    values, matrix = values.transpose(order), matrix[list(order)]
    for axis, towards in enumerate((2, 1, 0)):
        if matrix[axis, towards] < 0:
            origin = origin + (values.shape[axis] - 1) * matrix[axis]
            matrix[axis] = -matrix[axis]
            values = np.flip(values, axis)
    spacing = np.linalg.norm(matrix, axis=1)
    return Volume(
        np.ascontiguousarray(values),
        (float(spacing[0]), float(spacing[1]), float(spacing[2])),
        (float(origin[0]), float(origin[1]), float(origin[2])),
        matrix / spacing[:, None],
    )


def written(labels: NDArray[np.uint8], image: Volume) -> bytes:
    """Return labels on a volume's grid as a ``.nii``; the same labels give the same bytes."""
    header = bytearray(_HEADER + 4)
    slices, rows, columns = labels.shape
    spacing: Sequence[float] = image.spacing_mm[::-1]
    struct.pack_into("<i", header, 0, _HEADER)
    struct.pack_into("<8h", header, 40, 3, columns, rows, slices, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 2, 8)  # unsigned bytes
    struct.pack_into("<8f", header, 76, 1, *spacing, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, len(header), 1, 0)
    header[123] = 2  # millimetres
    struct.pack_into("<2h", header, 252, 0, 1)
    columns_of = [image.directions[2 - axis] * spacing[axis] * _TURN for axis in range(3)]
    affine = np.column_stack([*columns_of, np.array(image.origin_mm) * _TURN])
    for axis in range(3):
        struct.pack_into("<4f", header, 280 + 16 * axis, *affine[axis])
    header[344:348] = b"n+1\0"
    return bytes(header) + np.ascontiguousarray(labels).tobytes()


def packed(labels: NDArray[np.uint8], image: Volume) -> bytes:
    """Return labels on a volume's grid as a ``.nii.gz``."""
    return gzip.compress(written(labels, image), mtime=0)

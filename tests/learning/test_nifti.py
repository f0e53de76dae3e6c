"""NIfTI files become volumes that lie as a DICOM series would."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.nifti import read, written
from learning.pixels import Volume

BRAINS = Path("/work/shared/data/brain-mr")
LPS = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])
"""Slices up, rows to the back, columns to the left."""


def file_of(
    path: Path,
    values: np.ndarray,
    affine: np.ndarray,
    *,
    order: str = "<",
    slope: tuple[float, float] = (0, 0),
    dims: tuple[int, ...] | None = None,
) -> Path:
    """Write a file by nifti1.h: ``values`` are (x, y, z) in the file's own order of axes."""
    codes = {"u1": (2, 8), "i2": (4, 16), "f4": (16, 32), "c8": (32, 64)}
    code, bits = codes[values.dtype.str[1:]]
    head = bytearray(352)
    struct.pack_into(f"{order}i", head, 0, 348)
    sides = dims or (values.ndim, *values.shape)
    struct.pack_into(f"{order}8h", head, 40, *sides, *[1] * (8 - len(sides)))
    struct.pack_into(f"{order}2h", head, 70, code, bits)
    struct.pack_into(f"{order}8f", head, 76, 1, *np.linalg.norm(affine[:, :3], axis=0), 0, 0, 0, 0)
    struct.pack_into(f"{order}3f", head, 108, 352, *slope)
    struct.pack_into(f"{order}2h", head, 252, 0, 1)
    struct.pack_into(f"{order}12f", head, 280, *affine.flatten())
    head[344:348] = b"n+1\0"
    stored = values.astype(values.dtype.newbyteorder(order)).tobytes(order="F")
    path.write_bytes(bytes(head) + stored)
    return path


SIGNS = list(itertools.product((1, -1), repeat=3))
AXES = list(itertools.permutations(range(3)))


@given(st.sampled_from(AXES), st.sampled_from(SIGNS), st.sampled_from("<>"))
def test_whatever_order_voxels_are_stored_in_the_volume_lies_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    axes: tuple[int, ...],
    signs: tuple[int, ...],
    order: str,
) -> None:
    values = np.arange(24, dtype="i2").reshape(2, 3, 4)  # slices, rows, columns
    spacing, origin = (5.0, 2.0, 1.5), (-10.0, 20.0, 30.0)
    wanted = Volume(values.astype(np.float32), spacing, origin, LPS)
    turned = values
    steps = (wanted.directions.T * spacing).T * [-1, -1, 1]
    place = np.array(origin) * [-1, -1, 1]
    for axis, sign in enumerate(signs):
        if sign < 0:
            place = place + (values.shape[axis] - 1) * steps[axis]
            steps[axis] *= -1
            turned = np.flip(turned, axis)
    affine = np.column_stack([*(steps[axis] for axis in axes), place])
    path = tmp_path_factory.mktemp("n") / "v.nii"
    found = read(file_of(path, turned.transpose(axes), affine, order=order))
    np.testing.assert_array_equal(found.values, wanted.values)
    np.testing.assert_allclose(found.spacing_mm, spacing)
    np.testing.assert_allclose(found.origin_mm, origin, atol=1e-5)
    np.testing.assert_allclose(found.directions, LPS, atol=1e-6)


def test_labels_are_read_as_they_were_written(tmp_path: Path) -> None:
    labels = np.random.default_rng(1).integers(0, 3, (3, 4, 5)).astype(np.uint8)
    image = Volume(labels.astype(np.float32), (5.0, 2.0, 1.5), (-10.0, 20.0, 30.0), LPS)
    (tmp_path / "m.nii").write_bytes(written(labels, image))
    found = read(tmp_path / "m.nii")
    np.testing.assert_array_equal(found.values, labels)
    np.testing.assert_allclose(found.origin_mm, image.origin_mm)


def test_slope_and_intercept_make_the_values(tmp_path: Path) -> None:
    values = np.array([[[0, 1], [2, 3]]], "i2")
    affine = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0]])
    found = read(file_of(tmp_path / "v.nii", values, affine, slope=(2.0, -1024.0)))
    assert sorted(found.values.ravel()) == [-1024, -1022, -1020, -1018]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dims": (4, 2, 2, 1, 5)}, "single volume"),
        ({"dims": (3, 200, 200, 200)}, "ends before"),
        ({"dims": (3, 30000, 30000, 30000)}, "too many"),
        ({"dims": (3, 0, 2, 2)}, "single volume"),
        ({"affine": np.zeros((3, 4))}, "no space"),
        ({"affine": np.full((3, 4), np.nan)}, "no space"),
        ({"values": np.zeros((2, 2, 1), "c8")}, "no real numbers"),
    ],
)
def test_what_is_no_volume_is_said_without_a_value(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    told: dict[str, object] = {
        "values": np.zeros((2, 2, 1), "i2"), "affine": np.eye(3, 4),
    } | change  # fmt: skip
    path = file_of(tmp_path / "v.nii", **told)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=said):
        read(path)


@given(st.binary(max_size=400))
def test_no_bytes_of_a_stranger_raise_anything_but_a_value_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("n") / "v.nii"
    head = struct.pack("<i", 348) + data.ljust(340, b"\1")[:340] + b"n+1\0" + data
    path.write_bytes(head)
    with contextlib.suppress(ValueError):
        read(path)


@pytest.mark.skipif(not BRAINS.exists(), reason="needs the brains")
def test_a_real_brain_is_told_alike_by_both_of_its_maps(tmp_path: Path) -> None:
    data = bytearray((BRAINS / "anatomical.nii").read_bytes())
    order = "<" if data[:4] == struct.pack("<i", 348) else ">"
    maps = []
    for quaternion, plain in ((0, 1), (1, 0)):
        struct.pack_into(f"{order}2h", data, 252, quaternion, plain)
        (tmp_path / "b.nii").write_bytes(bytes(data))
        maps.append(read(tmp_path / "b.nii"))
    one, other = maps
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_allclose(one.origin_mm, other.origin_mm, atol=0.01)
    np.testing.assert_allclose(one.directions, other.directions, atol=1e-3)


@pytest.mark.skipif(not BRAINS.exists(), reason="needs the brains")
def test_the_atlas_stands_upright(tmp_path: Path) -> None:
    packed = next(BRAINS.glob("mni_*.nii.gz")).read_bytes()
    (tmp_path / "b.nii").write_bytes(gzip.decompress(packed))
    atlas = read(tmp_path / "b.nii")
    assert np.allclose(atlas.directions, LPS)
    # MNI152's coordinates have their origin at the anterior commissure, inside the brain.
    at = np.rint(atlas.directions @ -np.array(atlas.origin_mm) / np.array(atlas.spacing_mm)).astype(
        int
    )
    assert all(0 < place < side for place, side in zip(at, atlas.values.shape, strict=True))
    assert atlas.values[tuple(at)] > 0
    assert atlas.values[-1].max() < atlas.values.max() / 2

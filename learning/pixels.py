"""Images of a release as float arrays: DICOM instances, series as volumes, photographs.

Values are what the modality's own transformation makes of stored ones (PS3.3 C.11.1: Hounsfield
units of a CT), until ``windowed`` or ``standardised`` brings them to a scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from learning.releases import Asset

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Floats = NDArray[np.float32]
MOST_VALUES = 2**30
"""Of one image or volume that is read."""


@dataclass(frozen=True)
class Volume:
    """A series: ``values`` are (slices, rows, columns), first slice lowest along the normal.

    ``spacing_mm`` is between slices, rows and columns. ``origin_mm`` is the centre of the first
    voxel; ``directions`` has as rows the unit vectors along slices, rows (down) and columns (right)
    in the patient's coordinates (PS3.3 C.7.6.2.1.1).
    """

    values: Floats
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    directions: NDArray[np.float64]


def image(asset: Asset) -> Floats:
    """Return a picture or a DICOM image's first frame: (rows, columns), colour as brightness."""
    if asset.kind == "dicom":
        first: Floats = frames(asset)[0]
        return first
    return _brightness(colour(asset))


def frames(asset: Asset) -> Floats:
    """Return all frames of a DICOM instance: (frames, rows, columns), colour as brightness."""
    dataset = _dataset(asset)
    return _frames(dataset)


def colour(asset: Asset) -> Floats:
    """Return red, green and blue of a photograph or colour DICOM, 0 to 1: (rows, columns, 3)."""
    if asset.kind == "dicom":
        from pydicom.pixels import pixel_array

        dataset = _dataset(asset)
        found = pixel_array(dataset)
        if int(dataset.get("NumberOfFrames") or 1) > 1:
            found = found[0]
        if found.ndim == 2:
            found = np.repeat(found[..., None], 3, axis=2)
        scale = float(2 ** int(dataset.BitsStored) - 1)
        return np.asarray(found, dtype=np.float32) / np.float32(scale)
    from PIL import Image

    with Image.open(asset.path) as picture:
        _bound(picture.width * picture.height)
        return np.asarray(picture.convert("RGB"), dtype=np.float32) / np.float32(255)


def colour_resized(asset: Asset, shape: tuple[int, int], *, crop: bool = False) -> Floats:
    """Return red, green and blue of a picture at another size, 0 to 1: (3, rows, columns).

    With ``crop`` its sides keep their proportion and what is too long is cut off at both ends. A
    JPEG much larger than ``shape`` is decoded at a half, a quarter or an eighth of its size.
    """
    picture = _small_jpeg(asset, shape) if asset.kind != "dicom" else None
    values = colour(asset) if picture is None else picture
    if crop:
        values = proportioned(values, shape)
    import torch
    from torch.nn import functional

    tensor = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None]
    if tensor.shape[2:] != shape:
        tensor = functional.interpolate(
            tensor, size=shape, mode="bilinear", align_corners=False, antialias=True
        )
    found: Floats = tensor[0].numpy()
    return found


def _small_jpeg(asset: Asset, shape: tuple[int, int]) -> Floats | None:
    from PIL import Image

    with Image.open(asset.path) as picture:
        _bound(picture.width * picture.height)
        if picture.draft("RGB", (2 * shape[1], 2 * shape[0])) is None:
            return None
        return np.asarray(picture.convert("RGB"), dtype=np.float32) / np.float32(255)


def proportioned(values: Floats, shape: tuple[int, int]) -> Floats:
    """Return the middle part whose sides are as those of ``shape``."""
    rows, columns = values.shape[:2]
    scale = min(rows / shape[0], columns / shape[1])
    kept = [max(1, round(scale * side)) for side in shape]
    top, left = (rows - kept[0]) // 2, (columns - kept[1]) // 2
    return values[top : top + kept[0], left : left + kept[1]]


def volume(assets: Sequence[Asset]) -> Volume:
    """Return a series as a volume: its instances in the order of their positions.

    One multi-frame instance is a volume as well, and so is a NIfTI file. ``ValueError`` when slices
    differ in size or orientation, or lie where another does.
    """
    if len(assets) == 1 and assets[0].kind == "volume":
        from learning import nifti

        return nifti.read(assets[0].path)
    datasets = [_dataset(asset) for asset in assets]
    if len(datasets) == 1 and int(datasets[0].get("NumberOfFrames") or 1) > 1:
        return _enhanced(datasets[0])
    planes = [_plane(dataset, dataset) for dataset in datasets]
    slices = [_frames(dataset)[0] for dataset in datasets]
    return _stack(slices, planes)


def windowed(values: Floats, low: float, high: float) -> Floats:
    """Return values from ``low`` to ``high`` as 0 to 1; what lies outside goes to the ends."""
    scaled = (values - np.float32(low)) / np.float32(high - low)
    found: Floats = np.clip(scaled, 0, 1, out=scaled)
    return found


def standardised(values: Floats) -> Floats:
    """Return values with mean 0 and standard deviation 1 over what isn't the least value.

    The least value of an MR or ultrasound image is its empty frame.
    """
    inside = values[values > values.min()]
    if not inside.size:
        return np.zeros_like(values)
    mean, sd = inside.mean(dtype=np.float64), inside.std(dtype=np.float64)
    found: Floats = ((values - mean) / max(float(sd), 1e-6)).astype(np.float32)
    return found


def resized(values: Floats, shape: Sequence[int]) -> Floats:
    """Return an image or volume at another size, by linear interpolation with anti-aliasing.

    ``shape`` has as many numbers as ``values`` has axes.
    """
    import torch
    from torch.nn import functional

    if tuple(values.shape) == tuple(shape):
        return values
    tensor = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    if values.ndim == 2:
        small = functional.interpolate(
            tensor, size=tuple(shape), mode="bilinear", align_corners=False, antialias=True
        )
    else:
        factors = [max(1, old // new) for old, new in zip(values.shape, shape, strict=True)]
        if max(factors) > 1:
            tensor = functional.avg_pool3d(tensor, factors)
        small = functional.interpolate(
            tensor, size=tuple(shape), mode="trilinear", align_corners=False
        )
    found: Floats = small[0, 0].numpy()
    return found


# ---- DICOM ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plane:
    position: NDArray[np.float64]
    along_rows: NDArray[np.float64]
    """The direction in which the column index grows."""
    along_columns: NDArray[np.float64]
    spacing: tuple[float, float]
    thickness: float

    @property
    def normal(self) -> NDArray[np.float64]:
        return np.cross(self.along_rows, self.along_columns)


def _dataset(asset: Asset) -> Dataset:
    import pydicom

    dataset = pydicom.dcmread(asset.path)
    number = int(dataset.get("NumberOfFrames") or 1)
    _bound(number * int(dataset.Rows) * int(dataset.Columns))
    return dataset


def _bound(values: int) -> None:
    if values > MOST_VALUES:
        raise ValueError("an image has too many pixels to be read at once")


def _frames(dataset: Dataset) -> Floats:
    from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

    found: Any = pixel_array(dataset)
    number = int(dataset.get("NumberOfFrames") or 1)
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        found = _brightness(np.asarray(apply_color_lut(found, dataset), dtype=np.float32))
    elif int(dataset.get("SamplesPerPixel") or 1) > 1:
        found = _brightness(np.asarray(found, dtype=np.float32))
    else:
        shared = dataset.get("SharedFunctionalGroupsSequence")
        inner = shared[0].get("PixelValueTransformationSequence") if shared else None
        found = apply_modality_lut(found, inner[0] if inner else dataset)
        if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
            found = found.max() - found
    values: Floats = np.asarray(found, dtype=np.float32)
    return values if number > 1 else values.reshape(1, *values.shape[-2:])


def _brightness(rgb: Floats) -> Floats:
    """ITU-R BT.601."""
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    found: Floats = rgb @ weights
    return found


def _plane(positioned: Dataset, measured: Dataset) -> _Plane:
    orientation = [
        float(v) for v in positioned.get("ImageOrientationPatient") or (1, 0, 0, 0, 1, 0)
    ]
    position = positioned.get("ImagePositionPatient")
    if position is None:
        at = float(positioned.get("InstanceNumber") or 0)
        position = (0.0, 0.0, at * float(measured.get("SliceThickness") or 1))
    spacing = [float(v) for v in measured.get("PixelSpacing") or (1, 1)]
    return _Plane(
        np.array([float(v) for v in position]),
        np.array(orientation[:3]),
        np.array(orientation[3:]),
        (spacing[0], spacing[1]),
        float(measured.get("SliceThickness") or 1),
    )


def _enhanced(dataset: Dataset) -> Volume:
    """A multi-frame instance, whose frames' places are in functional groups (C.7.6.16)."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    each = dataset.get("PerFrameFunctionalGroupsSequence")
    values = _frames(dataset)
    if each is None:
        plane = _plane(dataset, dataset)
        planes = []
        step = float(dataset.get("SpacingBetweenSlices") or plane.thickness)
        for index in range(len(values)):
            at = plane.position + index * step * plane.normal
            planes.append(
                _Plane(at, plane.along_rows, plane.along_columns, plane.spacing, plane.thickness)
            )
        return _stack(list(values), planes)
    import pydicom

    planes = []
    for groups in each:
        merged = pydicom.Dataset()
        for name in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"):
            for level in (shared, groups):
                found = level.get(name) if level is not None else None
                if found:
                    merged.update(found[0])
        planes.append(_plane(merged, merged))
    return _stack(list(values), planes)


def _stack(slices: list[Floats], planes: list[_Plane]) -> Volume:
    first = planes[0]
    for values, plane in zip(slices, planes, strict=True):
        alike = np.allclose(plane.normal, first.normal, atol=1e-3)
        if values.shape != slices[0].shape or not alike:
            raise ValueError("a series has slices of different sizes or orientations")
    heights = np.array([float(plane.position @ first.normal) for plane in planes])
    order = np.argsort(heights, kind="stable")
    gaps = np.diff(heights[order])
    if gaps.size and gaps.min() < 1e-3:
        raise ValueError("a series has two slices in one place")
    between = float(np.median(gaps)) if gaps.size else first.thickness
    lowest = planes[int(order[0])]
    return Volume(
        np.stack([slices[int(index)] for index in order]),
        (between, first.spacing[0], first.spacing[1]),
        (float(lowest.position[0]), float(lowest.position[1]), float(lowest.position[2])),
        np.stack([first.normal, first.along_columns, first.along_rows]),
    )

"""The spread of an image's intensities over a grid: mean, standard deviation, shares of pixels.

Intensities are what the modality's own transformation makes of stored values (PS3.3 C.11.1, of an
enhanced image C.7.6.16.2.9: Hounsfield units of a CT), and brightness from 0 to 255 (ITU-R BT.601)
of colour and palettes. Where they have no unit, those of MONOCHROME1 (C.7.6.3.1.2: the least is
white) are turned round within the range that an image can store, so that more is brighter in every
image; a quantity with a unit stays what it is, however it is shown. What lies outside the grid is
moved to its ends, so that all figures are bounded. Pixels that only fill the frame (Pixel Padding
Value, C.7.5.1.1.2) don't count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Numbers = NDArray[np.float64]
MOST_FRAMES = 64
"""Of an image that are read, evenly spaced."""
MOST_PIXELS = 256 * 2**20
"""Of a frame or photograph; a larger one isn't read."""
THUMBNAIL = 1024
"""Pixels of the longer side at which a slide or photograph is looked at."""
_MEASURED = ("CT", "PT")
"""Modalities whose intensities have a unit though no element need say it."""


@dataclass(frozen=True)
class Spread:
    """Of one image or subject. ``shares`` add up to 1."""

    mean: float
    square: float
    """The mean of the squared intensities."""
    shares: Numbers

    def part(self, which: Literal["mean", "sd"] | int) -> float:
        """Return the mean, the standard deviation, or the share of pixels in a bin."""
        if which == "mean":
            return self.mean
        if which == "sd":
            return math.sqrt(max(self.square - self.mean**2, 0.0))
        return float(self.shares[which])


class Weighed:
    """Images of one subject, each with the same weight."""

    def __init__(self, bins: int) -> None:
        self.images = 0
        self._mean = self._square = 0.0
        self._shares = np.zeros(bins)

    def add(self, one: Spread) -> None:
        """Take an image (or a frame of one)."""
        self.images += 1
        self._mean += one.mean
        self._square += one.square
        self._shares += one.shares

    def spread(self) -> Spread:
        """Return the average."""
        number = self.images
        return Spread(self._mean / number, self._square / number, self._shares / number)


def of_values(values: Numbers, low: float, high: float, bins: int) -> Spread | None:
    """Return the spread of some intensities; None without any."""
    values = np.clip(values[np.isfinite(values)], low, high)
    if not values.size:
        return None
    # The mean of values near one another far from 0 would be rounded: it is taken about ``low``.
    apart = values - low
    mean, square = float(apart.mean()), float(np.square(apart).mean())
    counts = np.histogram(values, bins=bins, range=(low, high))[0]
    return Spread(low + mean, square + 2 * low * mean + low**2, counts / values.size)


def spread(path: Path, kind: str, low: float, high: float, bins: int) -> Spread | None:
    """Return the spread of an image's intensities; None of one without pixels that can be read.

    Memory is that of one frame.
    """
    frames = _dicom(path) if kind == "dicom" else _picture(path, kind)
    weighed = Weighed(bins)
    try:
        for frame in frames:
            one = of_values(frame, low, high, bins)
            if one is not None:
                weighed.add(one)
    except Exception:  # whatever a decoder of another's raises; its text may hold what it read
        return None
    return weighed.spread() if weighed.images else None


def _dicom(path: Path) -> Iterator[Numbers]:
    import pydicom
    from pydicom.pixels import apply_color_lut, iter_pixels

    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    number = int(dataset.get("NumberOfFrames") or 1)
    samples = int(dataset.get("SamplesPerPixel") or 1)
    if int(dataset.Rows) * int(dataset.Columns) * samples > MOST_PIXELS:
        return
    padding = _padding(dataset)
    wanted = sorted({round(at) for at in np.linspace(0, number - 1, min(number, MOST_FRAMES))})
    palette = dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
    for at, frame in zip(wanted, iter_pixels(path, indices=wanted), strict=True):
        if palette:
            yield brightness(apply_color_lut(frame, dataset)).ravel()
        elif samples > 1:
            yield brightness(frame, int(dataset.BitsStored)).ravel()
        else:
            values = _measured(frame, dataset, _transformation(dataset, at))
            if padding is not None:
                values = values[(frame < padding[0]) | (frame > padding[1])]
            yield values.ravel()


def _padding(dataset: Dataset) -> tuple[int, int] | None:
    """Return the least and greatest stored value that only fill the frame."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    ends = [int(value), int(dataset.get("PixelPaddingRangeLimit", value))]
    if dataset.PixelRepresentation:
        # Signed, and yet written without a sign: 63536 for -2000.
        whole = 1 << int(dataset.BitsAllocated)
        ends = [end - whole if end >= whole // 2 else end for end in ends]
    return min(ends), max(ends)


def _transformation(dataset: Dataset, frame: int) -> Dataset:
    """Return where a frame's modality transformation is: of an enhanced image in a macro."""
    for groups, at in (
        ("PerFrameFunctionalGroupsSequence", frame),
        ("SharedFunctionalGroupsSequence", 0),
    ):
        held = dataset.get(groups) or []
        macro = held[at].get("PixelValueTransformationSequence") if at < len(held) else None
        if macro:
            found: Dataset = macro[0]
            return found
    return dataset


def _measured(frame: NDArray[np.generic], dataset: Dataset, transformation: Dataset) -> Numbers:
    """Return a grey frame's intensities; without a unit more is brighter."""
    from pydicom.pixels import apply_modality_lut

    values = np.asarray(apply_modality_lut(frame, transformation), dtype=np.float64)
    if dataset.PhotometricInterpretation != "MONOCHROME1" or _has_unit(dataset, transformation):
        return values
    table = transformation.get("ModalityLUTSequence")
    if table:
        ends = np.array([0, (1 << int(table[0].LUTDescriptor[2])) - 1])
    else:
        signed = dataset.PixelRepresentation
        low = -(1 << int(dataset.BitsStored) - 1) if signed else 0
        stored = np.array([low, low + (1 << int(dataset.BitsStored)) - 1])
        ends = np.asarray(apply_modality_lut(stored, transformation), dtype=np.float64)
    return np.asarray(ends.sum() - values, dtype=np.float64)


def _has_unit(dataset: Dataset, transformation: Dataset) -> bool:
    """Say whether intensities are of a physical quantity. "US" is unspecified (C.11.1.1.2)."""
    table = transformation.get("ModalityLUTSequence")
    kind = table[0].get("ModalityLUTType") if table else transformation.get("RescaleType")
    return dataset.get("Modality") in _MEASURED or kind not in (None, "", "US")


def _picture(path: Path, kind: str) -> Iterator[Numbers]:
    from PIL import Image

    if kind == "slide":
        import openslide

        try:
            with openslide.OpenSlide(str(path)) as slide:
                yield brightness(np.asarray(slide.get_thumbnail((THUMBNAIL, THUMBNAIL)))).ravel()
            return
        except openslide.OpenSlideUnsupportedFormatError:
            pass
    with Image.open(path) as image:
        if image.width * image.height > MOST_PIXELS:
            return
        image.draft("RGB", (THUMBNAIL, THUMBNAIL))
        small = image.convert("RGB")
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        yield brightness(np.asarray(small)).ravel()


def brightness(colours: NDArray[np.generic], bits: int | None = None) -> Numbers:
    """Return the luma of red, green and blue from 0 to 255 (ITU-R BT.601).

    ``bits`` are those of each colour; else all that its numbers have.
    """
    held = np.asarray(colours)
    if held.ndim == 2:
        return held.astype(np.float64)
    values = held[..., :3] * (255 / ((1 << (bits or 8 * held.dtype.itemsize)) - 1))
    found: Numbers = values @ np.array([0.299, 0.587, 0.114])
    return found

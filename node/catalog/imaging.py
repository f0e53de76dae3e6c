"""How each subject's images were taken, and how bright they are: what a release derives from them.

A number is the median over the subject's images of a modality, a category what all of them have, or
"mixed". Images of one subject weigh as much as another's, however many there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from contract.deriving import Coded, Column
from contract.holdings import IMAGING_CATEGORIES, Imaging, Intensity
from node.catalog.intensities import Spread, Weighed, spread

if TYPE_CHECKING:
    import polars as pl
    from pydicom.dataset import Dataset

MIXED = "mixed"
MOST_IMAGES = 64
"""Of a subject and modality whose pixels are read: those with the smallest digests, which is a
random choice."""
_LISTED = ("stain", "manufacturer", "magnification", "megapixels")
"""What the catalogue knows already."""
_ELEMENTS: dict[str, tuple[tuple[str, str], ...]] = {
    "kvp": (("", "KVP"), ("CTXRayDetailsSequence", "KVP")),
    "slice_thickness": (("", "SliceThickness"), ("PixelMeasuresSequence", "SliceThickness")),
    "pixel_spacing": (
        *(("", "PixelSpacing"), ("PixelMeasuresSequence", "PixelSpacing")),
        ("", "ImagerPixelSpacing"),
    ),
    "field_strength": (("", "MagneticFieldStrength"),),
    "echo_time": (("", "EchoTime"), ("MREchoSequence", "EffectiveEchoTime")),
    "repetition_time": (
        *(("", "RepetitionTime"), ("MRTimingAndRelatedParametersSequence", "RepetitionTime")),
    ),
}
"""Where PS3.3 has each parameter: in the data set, or in a macro of the shared functional groups of
an enhanced image (C.7.6.16)."""
_TAGS = [
    *dict.fromkeys(
        element for places in _ELEMENTS.values() for group, element in places if not group
    ),
    "SharedFunctionalGroupsSequence",
]
Observe = Callable[[int, int], None]


@dataclass(frozen=True)
class Asset:
    """An image of a release, as its index has it."""

    subject: str
    digest: str
    suffix: str
    kind: str
    manufacturer: str
    stain: str
    magnification: float
    rows: int
    columns: int


@dataclass
class SubjectImages:
    """A release's images, by modality. ``path``: where the vault has one, by digest and suffix."""

    index: pl.DataFrame
    path: Callable[[str, str], Path]
    observe: Observe = lambda done, total: None
    _assets: dict[str, list[Asset]] = field(default_factory=dict)
    _headers: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    _spreads: dict[tuple[str, float, float, int], dict[str, Spread]] = field(default_factory=dict)

    def parameter(self, node: Imaging, subjects: Sequence[str]) -> Column:
        """Return a parameter, for each of ``subjects``; who has no such image has none of it."""
        of: dict[str, list[Any]] = defaultdict(list)
        assets = self._of(node.modality)
        headers = {}
        if node.imaging not in (*_LISTED, "images"):
            headers = self._read_headers(node.modality)
        for asset in assets:
            found = _listed(asset, node.imaging)
            if headers:
                found = headers[asset.digest].get(node.imaging)
            if found not in (None, "", 0.0):
                of[asset.subject].append(found)
        if node.imaging in IMAGING_CATEGORIES:
            return _category([of.get(s, []) for s in subjects])
        if node.imaging == "images":
            return np.array([len(of.get(s, ())) for s in subjects], dtype=np.float64)
        return np.array([median(of[s]) if s in of else np.nan for s in subjects], dtype=np.float64)

    def intensity(self, node: Intensity, subjects: Sequence[str]) -> NDArray[np.float64]:
        """Return a mean, a standard deviation or a bin's share, for each of ``subjects``."""
        key = (node.modality, node.minimum, node.maximum, node.bins)
        if key not in self._spreads:
            self._spreads[key] = self._read_pixels(*key)
        found = self._spreads[key]
        return np.array([found[s].part(node.intensity) if s in found else np.nan for s in subjects])

    def _of(self, modality: str) -> list[Asset]:
        if modality not in self._assets:
            import polars as pl

            rows = self.index.filter(pl.col("modality") == modality)
            names = list(Asset.__dataclass_fields__)
            self._assets[modality] = [Asset(*row) for row in rows.select(names).iter_rows()]
        return self._assets[modality]

    def _read_headers(self, modality: str) -> dict[str, dict[str, float]]:
        if modality not in self._headers:
            assets = self._of(modality)
            found = self._headers[modality] = {}
            for at, asset in enumerate(assets):
                self.observe(at, len(assets))
                is_dicom = asset.kind == "dicom"
                found[asset.digest] = (
                    _header(self.path(asset.digest, asset.suffix)) if is_dicom else {}
                )
        return self._headers[modality]

    def _read_pixels(self, modality: str, low: float, high: float, bins: int) -> dict[str, Spread]:
        chosen: dict[str, list[Asset]] = defaultdict(list)
        for asset in sorted(self._of(modality), key=lambda a: a.digest):
            if len(chosen[asset.subject]) < MOST_IMAGES:
                chosen[asset.subject].append(asset)
        total, done = sum(map(len, chosen.values())), 0
        found = {}
        for subject, assets in chosen.items():
            weighed = Weighed(bins)
            for asset in assets:
                self.observe(done, total)
                done += 1
                one = spread(self.path(asset.digest, asset.suffix), asset.kind, low, high, bins)
                if one is not None:
                    weighed.add(one)
            if weighed.images:
                found[subject] = weighed.spread()
        return found


def _listed(asset: Asset, parameter: str) -> float | str | None:
    """Return what the catalogue has of an image; 0 and nothing stand for what it hasn't."""
    match parameter:
        case "images":
            return 1.0
        case "stain":
            return asset.stain
        case "manufacturer":
            return asset.manufacturer
        case "magnification":
            return asset.magnification
        case "megapixels":
            return asset.rows * asset.columns / 1e6
    return None


def _category(values: Sequence[Sequence[str]]) -> Coded:
    levels = tuple(sorted({v for some in values for v in some} | {MIXED}))
    codes = [
        -1 if not some else levels.index(some[0] if len(set(some)) == 1 else MIXED)
        for some in values
    ]
    return Coded(np.array(codes, dtype=np.int64), levels)


def _header(path: Path) -> dict[str, float]:
    """Return the parameters that a DICOM file's header has; none of a file that can't be read."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
        shared = dataset.get("SharedFunctionalGroupsSequence") or [None]
        found = {name: _element(dataset, shared[0], places) for name, places in _ELEMENTS.items()}
    except (OSError, InvalidDicomError, ValueError, TypeError, AttributeError, EOFError):
        return {}
    return {name: value for name, value in found.items() if value is not None}


def _element(
    dataset: Dataset, shared: Dataset | None, places: Sequence[tuple[str, str]]
) -> float | None:
    for group, element in places:
        inside = dataset
        if group:
            some = None if shared is None else shared.get(group)
            if not some:
                continue
            inside = some[0]
        value = inside.get(element)
        if value is None or value == "":
            continue
        numbers = [float(v) for v in ([value] if isinstance(value, int | float) else value)]
        number = sum(numbers) / len(numbers) if numbers else 0.0
        if np.isfinite(number) and number > 0:
            return float(number)
    return None

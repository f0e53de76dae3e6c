"""What is drawn: which images of a release, by which network, in which form of file.

No error text holds a value of the release: an exception in a client travels to the server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from learning import masks, nifti, pixels
from learning.masks import Labels
from learning.releases import Asset, Release, by_subject, series
from learning.segmentation import Network
from learning.training import device

Scalar = bool | int | float | str
FORMATS = ("dicom-seg", "nifti", "png")
SUFFIXES = {"dicom-seg": ".dcm", "nifti": ".nii.gz", "png": ".png"}


@dataclass(frozen=True)
class Plan:
    """A run's settings. ``most`` bounds how many images are drawn on; 0: all."""

    network: Network
    kind: str
    modality: tuple[str, ...]
    format: str
    label: str
    smallest: int
    most: int

    @classmethod
    def read(cls, config: Mapping[str, Scalar]) -> Plan:
        """Return the plan of a run config; ``ValueError`` names the key that doesn't fit."""
        plan = cls(
            Network.read(config),
            kind=str(config["kind"]),
            modality=tuple(m.strip() for m in str(config["modality"]).split(",") if m.strip()),
            format=str(config["format"]),
            label=str(config["draft-label"]),
            smallest=int(config["smallest"]),
            most=int(config["most"]),
        )
        flat = len(plan.network.shape) == 2
        if plan.kind not in ("dicom", "photograph", "volume"):
            raise ValueError("kind: must be dicom, photograph or volume")
        if plan.format not in FORMATS:
            raise ValueError(f"format: must be one of {', '.join(FORMATS)}")
        if (plan.format == "png" and not flat) or (plan.format == "nifti" and flat):
            raise ValueError("format: nifti is for volumes, png for pictures")
        if plan.format == "dicom-seg" and plan.kind != "dicom":
            raise ValueError("format: a segmentation is of DICOM images")
        if plan.kind != "dicom" and flat == (plan.kind == "volume"):
            raise ValueError("kind: a photograph has two sides, a volume three: see shape")
        if not plan.label.replace("_", "a").isalnum() or len(plan.label) > 32:
            raise ValueError("draft-label: must be 1 to 32 letters, digits and underscores")
        if plan.smallest < 0 or plan.most < 0:
            raise ValueError("smallest and most: must be 0 or above")
        return plan


def images(folder: Path, plan: Plan) -> Iterator[tuple[Asset, ...]]:
    """Yield each image: a picture, or the slices of a series, its first slice by place first."""
    release = Release(folder)
    assets = release.assets(kind=plan.kind, modality=plan.modality or None)
    found = [a for a in assets if a.sop_class_uid != masks.SEGMENTATION]
    each: list[tuple[Asset, ...]] = [(asset,) for asset in found]
    if len(plan.network.shape) == 3:
        each = [some for own in by_subject(found).values() for some in series(own).values()]
    yield from each[: plan.most or None]


def draw(model: nn.Module, assets: tuple[Asset, ...], plan: Plan) -> Labels:
    """Return the structures on the image's own grid: 0 is none, n the n-th."""
    model.to(device()).eval()
    network = plan.network
    if len(network.shape) == 3:
        volume = pixels.volume(assets)
        values, size = network.prepared_volume(volume), volume.values.shape
    else:
        values, size = network.prepared(assets), _size(assets, plan)
    with torch.inference_mode():
        told = network.logits(model, torch.from_numpy(values))
        if len(size) == 2:
            told = functional.interpolate(told.softmax(1), size, mode="bilinear")
            found = told.argmax(1)[0]
        else:  # each class at the volume's size would not fit into memory
            small = told.argmax(1).to(torch.uint8)[:, None]
            found = functional.interpolate(small, size, mode="nearest-exact")[0, 0]
    labels: Labels = found.numpy().astype(np.uint8)
    for number in range(1, len(plan.network.structures) + 1):
        if (labels == number).sum() < plan.smallest:
            labels[labels == number] = 0
    return labels


def _size(assets: tuple[Asset, ...], plan: Plan) -> tuple[int, ...]:
    if plan.network.colour:
        return tuple(pixels.colour(assets[0]).shape[:2])
    return tuple(pixels.image(assets[0]).shape)


def encoded(labels: Labels, assets: tuple[Asset, ...], plan: Plan) -> bytes:
    """Return the file of a draft."""
    if plan.format == "png":
        return masks.png(labels)
    if plan.format == "nifti":
        return nifti.packed(labels, pixels.volume(assets))
    layers = labels if labels.ndim == 3 else labels[None]
    return masks.segmentation(layers, assets, plan.network.structures)


def name(assets: tuple[Asset, ...], plan: Plan) -> str:
    """Return what a draft is called: by the digest of its image, or of a series' first slice."""
    return f"{assets[0].digest}-{plan.label}{SUFFIXES[plan.format]}"

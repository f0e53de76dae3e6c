"""What is learned: the run's plan, the images of a release with their classes, the network.

No error text holds a value of the release: an exception in a client travels to the server.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from learning import augmentation, pixels
from learning.classification import Classifier, labels
from learning.loading import Examples
from learning.releases import NAME, Asset, Release
from learning.run_config import Scalar, names
from learning.splits import Split
from learning.training import Augment, Batch

Item = tuple[Asset, int]
_MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
_SD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
"""Of ImageNet's pictures: what pretrained networks expect."""
_MINKOWSKI = 6


@dataclass(frozen=True)
class Plan:
    """A run's settings that say what an example is and which network learns from it."""

    table: str
    label: str
    classifier: Classifier
    kind: str
    modality: tuple[str, ...]
    colour: bool
    colour_constancy: bool
    size: int
    crop: bool
    augment: bool
    mirrored: bool
    turn_degrees: float
    split: Split

    @classmethod
    def read(cls, config: Mapping[str, Scalar]) -> Plan:
        """Return the plan of a run config; ``ValueError`` names the key that doesn't fit."""
        plan = cls(
            table=str(config["table"]),
            label=str(config["label"]),
            classifier=Classifier.read(config),
            kind=str(config["kind"]),
            modality=names(config, "modality"),
            colour=bool(config["colour"]),
            colour_constancy=bool(config["colour-constancy"]),
            size=int(config["size"]),
            crop=bool(config["crop"]),
            augment=bool(config["augment"]),
            mirrored=bool(config["mirrored"]),
            turn_degrees=float(config["turn-degrees"]),
            split=Split.read(config, str(config["table"])),
        )
        for key, value in (("table", plan.table), ("label", plan.label)):
            if not NAME.match(value):
                raise ValueError(f"{key}: must be the name of one")
        if plan.kind not in ("dicom", "photograph"):
            raise ValueError("kind: must be dicom or photograph")
        if not 16 <= plan.size <= 1024:
            raise ValueError("size: must be 16 to 1024")
        if not 0 <= plan.turn_degrees <= 180:
            raise ValueError("turn-degrees: must be 0 to 180")
        if plan.colour_constancy and not plan.colour:
            raise ValueError("colour-constancy: needs colour")
        return plan


def build_model(plan: Plan) -> nn.Module:
    """Return the network, its weights drawn from ``seed``."""
    return plan.classifier.build(2, 3 if plan.colour else 1)


@functools.cache
def examples(folder: Path, plan: Plan) -> tuple[Examples[Item], Examples[Item]]:
    """Return whom to train on and whom to score, as (image, class); decoded once.

    Every image of the kind and modality counts whose subject has a class.
    """
    release = Release(folder)
    frame = release.table(plan.table, [plan.label])
    known = labels(frame, plan.label, plan.classifier.classes.names)
    is_held_out = plan.split.of(release)
    halves: dict[bool, list[Item]] = {False: [], True: []}
    for asset in release.assets(kind=plan.kind, modality=plan.modality or None):
        if asset.subject in known:
            halves[is_held_out(asset.subject)].append((asset, known[asset.subject]))
    read = functools.partial(_read, plan)
    training, held_out = (Examples(halves[half], read, finish=_finished) for half in (False, True))
    return training, held_out


def _read(plan: Plan, item: Item) -> tuple[Tensor, int]:
    """Return what is kept in memory: a picture's colours in 8 bits, a film in 16."""
    asset, label = item
    return prepared(asset, plan), label


def prepared(asset: Asset, plan: Plan) -> Tensor:
    """Return an image at its size, (channels, size, size): bytes of colour, or about 0 and 1."""
    shape = (plan.size, plan.size)
    if not plan.colour:
        grey = pixels.image(asset)
        if plan.crop:
            grey = pixels.proportioned(grey, shape)
        return torch.from_numpy(pixels.standardised(pixels.resized(grey, shape)))[None].half()
    picture = pixels.colour_resized(asset, shape, crop=plan.crop)
    if plan.colour_constancy:
        picture = constant(picture)
    return torch.from_numpy(np.rint(picture * 255).astype(np.uint8))


def _finished(kept: tuple[Tensor, int]) -> tuple[Tensor, int]:
    """Return an image as the network sees it: about mean 0 and standard deviation 1."""
    image, label = kept
    if image.dtype == torch.uint8:
        return (image.float() / 255 - _MEAN) / _SD, label
    return image.float(), label


def constant(picture: pixels.Floats) -> pixels.Floats:
    """Return a picture (3, rows, columns) as under white light.

    By "shades of gray" (Finlayson and Trezzi 2004).
    """
    light = (picture.astype(np.float64) ** _MINKOWSKI).mean((1, 2)) ** (1 / _MINKOWSKI)
    light = light / max(float(np.sqrt((light**2).mean())), 1e-6)
    white = picture / np.maximum(light, 1e-6)[:, None, None]
    return np.clip(white, 0, 1).astype(np.float32)


def augment(plan: Plan) -> Augment | None:
    """Return what is done to a batch while training, or None."""
    if not plan.augment:
        return None
    both = (-1, -2) if plan.kind == "photograph" else (-1,)
    axes = both if plan.mirrored else ()

    def change(batch: Batch, generator: torch.Generator) -> Batch:
        images, wanted = batch
        moved, _ = augmentation.moved(
            images, generator, mirrored=axes, turn_degrees=plan.turn_degrees
        )
        return augmentation.brightened(moved, generator), wanted

    return change

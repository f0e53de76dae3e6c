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

from learning import augmentation, networks, pixels
from learning.classification import Classes, labels, loss_of, weights_of
from learning.loading import Examples
from learning.releases import NAME, Asset, Release, is_held_out
from learning.training import Augment, Batch, Loss

Scalar = bool | int | float | str
Item = tuple[Asset, int]
_MEAN, _SD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
"""Of ImageNet's pictures: what pretrained networks expect."""
_MINKOWSKI = 6


@dataclass(frozen=True)
class Plan:
    """A run's settings that say what an example is and which network learns from it."""

    table: str
    label: str
    classes: Classes
    kind: str
    modality: tuple[str, ...]
    colour: bool
    colour_constancy: bool
    size: int
    network: str
    normalisation: str
    weights: str
    augment: bool
    mirrored: bool
    held_out: float
    split_seed: int
    seed: int

    @classmethod
    def read(cls, config: Mapping[str, Scalar]) -> Plan:
        """Return the plan of a run config; ``ValueError`` names the key that doesn't fit."""
        plan = cls(
            table=str(config["table"]),
            label=str(config["label"]),
            classes=Classes.read(config),
            kind=str(config["kind"]),
            modality=tuple(m.strip() for m in str(config["modality"]).split(",") if m.strip()),
            colour=bool(config["colour"]),
            colour_constancy=bool(config["colour-constancy"]),
            size=int(config["size"]),
            network=str(config["network"]),
            normalisation=str(config["normalisation"]),
            weights=str(config["weights"]),
            augment=bool(config["augment"]),
            mirrored=bool(config["mirrored"]),
            held_out=float(config["held-out"]),
            split_seed=int(config["split-seed"]),
            seed=int(config["seed"]),
        )
        for key, value in (("table", plan.table), ("label", plan.label)):
            if not NAME.match(value):
                raise ValueError(f"{key}: must be the name of one")
        if plan.kind not in ("dicom", "photograph"):
            raise ValueError("kind: must be dicom or photograph")
        if not 16 <= plan.size <= 1024:
            raise ValueError("size: must be 16 to 1024")
        if not 0 <= plan.held_out < 1:
            raise ValueError("held-out: must be 0 or above and below 1")
        if plan.colour_constancy and not plan.colour:
            raise ValueError("colour-constancy: needs colour")
        return plan


def build_model(plan: Plan) -> nn.Module:
    """Return the network, its weights drawn from ``seed``."""
    torch.manual_seed(plan.seed)
    return networks.classifier(
        plan.network,
        dimensions=2,
        channels=3 if plan.colour else 1,
        outputs=plan.classes.outputs,
        normalised=plan.normalisation,
    )


@functools.cache
def examples(folder: Path, plan: Plan) -> tuple[Examples[Item], Examples[Item]]:
    """Return whom to train on and whom to score, as (image, class); decoded once.

    Every image of the kind and modality counts whose subject has a class.
    """
    release = Release(folder)
    known = labels(release.table(plan.table, [plan.label]), plan.label, plan.classes.names)
    assets = release.assets(kind=plan.kind, modality=plan.modality or None)
    items = [(asset, known[asset.subject]) for asset in assets if asset.subject in known]
    halves: dict[bool, list[Item]] = {False: [], True: []}
    for item in items:
        halves[is_held_out(item[0].subject, plan.held_out, plan.split_seed)].append(item)
    read = functools.partial(_read, plan)
    return Examples(halves[False], read), Examples(halves[True], read)


def _read(plan: Plan, item: Item) -> tuple[Tensor, int]:
    asset, label = item
    return torch.from_numpy(prepared(asset, plan)), label


def prepared(asset: Asset, plan: Plan) -> pixels.Floats:
    """Return an image as the network sees it: (channels, size, size), about mean 0 and sd 1."""
    if not plan.colour:
        grey = pixels.resized(pixels.image(asset), (plan.size, plan.size))
        return pixels.standardised(grey)[None]
    picture = pixels.colour(asset)
    if plan.colour_constancy:
        picture = constant(picture)
    planes = [pixels.resized(picture[..., c], (plan.size, plan.size)) for c in range(3)]
    whole = (np.stack(planes, -1) - _MEAN) / _SD
    return np.ascontiguousarray(whole.transpose(2, 0, 1), dtype=np.float32)


def constant(picture: pixels.Floats) -> pixels.Floats:
    """Return a picture as under white light: "shades of gray" (Finlayson and Trezzi 2004)."""
    light = (picture.astype(np.float64) ** _MINKOWSKI).mean((0, 1)) ** (1 / _MINKOWSKI)
    light = light / max(float(np.sqrt((light**2).mean())), 1e-6)
    return np.clip(picture / np.maximum(light, 1e-6), 0, 1).astype(np.float32)


def loss(training: Examples[Item], plan: Plan) -> Loss:
    """Return the loss, with the weights that the classes have at this hospital."""
    found = [label for _, label in training.items]
    return loss_of(plan.classes, weights_of(found, plan.classes))


def augment(plan: Plan) -> Augment | None:
    """Return what is done to a batch while training, or None."""
    if not plan.augment:
        return None
    axes = (-1, -2) if plan.mirrored and plan.kind == "photograph" else (-1,)

    def change(batch: Batch, generator: torch.Generator) -> Batch:
        images, wanted = batch
        moved, _ = augmentation.moved(images, generator, mirrored=axes if plan.mirrored else ())
        return augmentation.brightened(moved, generator), wanted

    return change

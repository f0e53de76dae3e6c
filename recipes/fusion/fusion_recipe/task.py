"""What is learned: the run's plan, pairs of two modalities, the network, its loss and scores."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusion_recipe.similarity import difference, mutual_information
from learning import pixels, training
from learning.deformations import folded_share, warp
from learning.loading import Examples
from learning.registration import Cascade, Pairs, Registering
from learning.releases import Asset, Release, by_subject, series
from learning.splits import Split

Image = tuple[Asset, ...]
"""The instances that make one image: a series, or a single one in 2D."""


@dataclass(frozen=True)
class Side:
    """One of the two modalities, and which of its values become 0 and 1."""

    modality: str
    low: float
    high: float


@dataclass(frozen=True)
class Plan:
    """What a run is told, without the local training's part. Made by ``Plan.read``."""

    fixed: Side
    moving: Side
    network: Registering
    patch_radius: int
    patch_distance: int
    split: Split

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Plan:
        """Return the plan of a run config; ``ValueError`` names the key that doesn't fit."""
        sides = [
            Side(
                str(config[f"{s}-modality"]), float(config[f"{s}-low"]), float(config[f"{s}-high"])
            )
            for s in ("fixed", "moving")
        ]
        plan = cls(
            fixed=sides[0],
            moving=sides[1],
            network=Registering.read(config),
            patch_radius=int(config["patch-radius"]),
            patch_distance=int(config["patch-distance"]),
            split=Split.read(config),
        )
        plan._check()
        return plan

    def _check(self) -> None:
        if self.fixed.modality == self.moving.modality:
            raise ValueError("fixed-modality and moving-modality must differ")
        for name, side in (("fixed", self.fixed), ("moving", self.moving)):
            if not side.low < side.high:
                raise ValueError(f"{name}-low must be below {name}-high")
        if not (0 <= self.patch_radius <= 5 and 1 <= self.patch_distance <= 5):
            raise ValueError("patch-radius must be 0 to 5, patch-distance 1 to 5")


@functools.cache
def pairs(folder: Path, plan: Plan, held_out: bool) -> Pairs:
    """Return each subject's pair: its first image of either modality.

    Of the subjects to train on, or of those held out; who lacks a modality is in neither.
    """
    release = Release(folder)
    is_held_out = plan.split.of(release)
    assets = release.assets(modality=(plan.fixed.modality, plan.moving.modality))
    chosen = []
    for subject, several in by_subject(assets).items():
        if is_held_out(subject) != held_out:
            continue
        found = [_first(several, side, plan) for side in (plan.fixed, plan.moving)]
        if found[0] and found[1]:
            chosen.append((found[0], found[1]))
    return Pairs(Examples(chosen, functools.partial(_read, plan)), len(chosen))


def build_model(plan: Plan) -> Cascade:
    """Return the network at its start, which moves nothing; the same for the same seed."""
    return plan.network.build()


def loss_of(plan: Plan) -> Callable[[nn.Module, Any], Tensor]:
    """Return the loss of a batch of pairs: how much descriptors differ, and the fields' price."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        fixed, moving = batch
        found = model(fixed, moving)
        apart = functools.partial(
            difference, fixed, radius=plan.patch_radius, distance=plan.patch_distance
        )
        # Descriptors differ by tenths at most; the affine stage has a goal of its own.
        price = 10 * apart(found.warped) + 5 * apart(warp(moving, found.affine))
        return price + plan.network.price(found)

    return loss


@dataclass(frozen=True)
class Scores:
    """Means over pairs: mutual information in nats, descriptors' difference, folds."""

    information: float = 0.0
    information_before: float = 0.0
    difference: float = 0.0
    difference_before: float = 0.0
    folded_share: float = 0.0


def evaluate(model: nn.Module, examples: Examples[Any], plan: Plan) -> Scores:
    """Score the model; zeros without pairs. The mutual information was not trained on."""
    model.to(training.device()).eval()
    found: list[tuple[float, ...]] = []
    with torch.no_grad():
        for fixed, moving in training.batches(examples, 1):
            made = model(fixed, moving)
            apart = functools.partial(
                difference, fixed, radius=plan.patch_radius, distance=plan.patch_distance
            )
            found.append(
                (
                    mutual_information(fixed, made.warped),
                    mutual_information(fixed, moving),
                    float(apart(made.warped)),
                    float(apart(moving)),
                    folded_share(made.field),
                )
            )
    if not found:
        return Scores()
    return Scores(*(sum(column) / len(found) for column in zip(*found, strict=True)))


def _first(assets: tuple[Asset, ...], side: Side, plan: Plan) -> Image:
    mine = [asset for asset in assets if asset.modality == side.modality]
    if not mine:
        return ()
    return (mine[0],) if len(plan.network.shape) == 2 else next(iter(series(mine).values()))


def _read(plan: Plan, pair: tuple[Image, Image]) -> tuple[Tensor, Tensor]:
    return _image(pair[0], plan.fixed, plan), _image(pair[1], plan.moving, plan)


def _image(image: Image, side: Side, plan: Plan) -> Tensor:
    small = pixels.resized(plan.network.image(image), plan.network.shape)
    return torch.from_numpy(pixels.windowed(small, side.low, side.high))[None]

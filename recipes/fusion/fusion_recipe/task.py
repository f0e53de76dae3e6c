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
from learning.registration import Cascade, regulariser
from learning.releases import Asset, Release, by_subject, is_held_out, series

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
    shape: tuple[int, ...]
    channels: tuple[int, ...]
    stages: int
    integration_steps: int
    patch_radius: int
    patch_distance: int
    smoothness: float
    affine_price: float
    seed: int
    held_out: float
    split_seed: int

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
            shape=_numbers(config, "shape"),
            channels=_numbers(config, "channels"),
            stages=int(config["stages"]),
            integration_steps=int(config["integration-steps"]),
            patch_radius=int(config["patch-radius"]),
            patch_distance=int(config["patch-distance"]),
            smoothness=float(config["smoothness"]),
            affine_price=float(config["affine-price"]),
            seed=int(config["seed"]),
            held_out=float(config["held-out"]),
            split_seed=int(config["split-seed"]),
        )
        plan._check()
        return plan

    def _check(self) -> None:
        if self.fixed.modality == self.moving.modality:
            raise ValueError("fixed-modality and moving-modality must differ")
        for name, side in (("fixed", self.fixed), ("moving", self.moving)):
            if not side.low < side.high:
                raise ValueError(f"{name}-low must be below {name}-high")
        if len(self.shape) not in (2, 3) or not all(8 <= n <= 1024 for n in self.shape):
            raise ValueError("shape: must be two or three sizes of 8 to 1024")
        if not 2 <= len(self.channels) <= 6 or not all(1 <= n <= 512 for n in self.channels):
            raise ValueError("channels: must be two to six numbers of 1 to 512")
        if not (0 <= self.stages <= 10 and 0 <= self.integration_steps <= 10):
            raise ValueError("stages and integration-steps must be 0 to 10")
        if not (0 <= self.patch_radius <= 5 and 1 <= self.patch_distance <= 5):
            raise ValueError("patch-radius must be 0 to 5, patch-distance 1 to 5")
        if not min(self.smoothness, self.affine_price) >= 0:
            raise ValueError("smoothness and affine-price must be 0 or above")
        if not 0 <= self.held_out < 1:
            raise ValueError("held-out: must be a fraction, 0 or above and below 1")


@dataclass(frozen=True)
class Pairs:
    """Pairs (fixed, moving), each (1, *shape) from 0 to 1, and of how many subjects they are."""

    examples: Examples[tuple[Image, Image]]
    subjects: int


@functools.cache
def pairs(folder: Path, plan: Plan, held_out: bool) -> Pairs:
    """Return each subject's pair: its first image of either modality.

    Of the subjects to train on, or of those held out; who lacks a modality is in neither.
    """
    assets = Release(folder).assets(modality=(plan.fixed.modality, plan.moving.modality))
    chosen = []
    for subject, several in by_subject(assets).items():
        if is_held_out(subject, plan.held_out, plan.split_seed) != held_out:
            continue
        found = [_first(several, side, plan) for side in (plan.fixed, plan.moving)]
        if found[0] and found[1]:
            chosen.append((found[0], found[1]))
    return Pairs(Examples(chosen, functools.partial(_read, plan)), len(chosen))


def build_model(plan: Plan) -> Cascade:
    """Return the network at its start, which moves nothing; the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        return Cascade(len(plan.shape), plan.channels, plan.stages, plan.integration_steps)


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
        return price + regulariser(found, plan.smoothness, plan.affine_price)

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
    return (mine[0],) if len(plan.shape) == 2 else next(iter(series(mine).values()))


def _read(plan: Plan, pair: tuple[Image, Image]) -> tuple[Tensor, Tensor]:
    return _image(pair[0], plan.fixed, plan), _image(pair[1], plan.moving, plan)


def _image(image: Image, side: Side, plan: Plan) -> Tensor:
    flat = len(plan.shape) == 2
    values = pixels.image(image[0]) if flat else pixels.volume(image).values
    small = pixels.resized(values, plan.shape)
    return torch.from_numpy(pixels.windowed(small, side.low, side.high))[None]


def _numbers(config: Mapping[str, Any], key: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in str(config[key]).split(","))
    except ValueError:
        raise ValueError(f"{key}: must be whole numbers, separated by commas") from None

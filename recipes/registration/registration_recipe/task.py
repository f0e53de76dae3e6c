"""What is learned: the run's plan, pairs of images of a release, the network, loss and scores."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from learning import pixels, training
from learning.deformations import folded_share, inverse_error, warp
from learning.loading import Examples
from learning.registration import Cascade, Pairs, Registering, invertibility
from learning.releases import Asset, Release, by_subject, series
from learning.splits import Split
from registration_recipe.similarity import local_correlation

Image = tuple[Asset, ...]
"""The instances that make one image: a series, or a single one in 2D."""


@dataclass(frozen=True)
class Plan:
    """What a run is told, without the local training's part. Made by ``Plan.read``."""

    modality: str
    within: bool
    network: Registering
    window: tuple[float, float]
    similarity_window: int
    invertibility: float
    split: Split

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Plan:
        """Return the plan of a run config; ``ValueError`` names the key that doesn't fit."""
        if config["pairs"] not in ("within", "between"):
            raise ValueError("pairs: must be within or between")
        plan = cls(
            modality=str(config["modality"]),
            within=config["pairs"] == "within",
            network=Registering.read(config),
            window=(float(config["window-low"]), float(config["window-high"])),
            similarity_window=int(config["similarity-window"]),
            invertibility=float(config["invertibility"]),
            split=Split.read(config),
        )
        plan._check()
        return plan

    def _check(self) -> None:
        if self.similarity_window % 2 == 0 or not 3 <= self.similarity_window <= 31:
            raise ValueError("similarity-window: must be odd, 3 to 31")
        if self.window[0] > self.window[1]:
            raise ValueError("window-low must be below window-high")
        if not self.invertibility >= 0:
            raise ValueError("invertibility: must be 0 or above")


@functools.cache
def pairs(folder: Path, plan: Plan, held_out: bool) -> Pairs:
    """Return the pairs of the subjects to train on, or of those held out.

    ``within``: a subject's images, each with the next. ``between``: a subject's first image with
    the next subject's.
    """
    release = Release(folder)
    is_held_out = plan.split.of(release)
    images = {
        subject: _images(assets, plan)
        for subject, assets in by_subject(release.assets(modality=plan.modality)).items()
        if is_held_out(subject) == held_out
    }
    chosen: list[tuple[Image, Image]] = []
    if plan.within:
        chosen = [pair for several in images.values() for pair in itertools.pairwise(several)]
        subjects = sum(len(several) > 1 for several in images.values())
    else:
        firsts = [several[0] for several in images.values() if several]
        chosen = list(zip(firsts, firsts[1:] + firsts[:1], strict=True)) if firsts[1:] else []
        subjects = len(chosen)
    return Pairs(
        Examples(chosen, lambda pair: (_read(pair[0], plan), _read(pair[1], plan))), subjects
    )


def build_model(plan: Plan) -> Cascade:
    """Return the network at its start, which moves nothing; the same for the same seed."""
    return plan.network.build()


def loss_of(plan: Plan) -> Callable[[nn.Module, Any], Tensor]:
    """Return the loss of a batch of pairs, each registered in both directions."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        fixed, moving = batch
        there, back = model(fixed, moving), model(moving, fixed)
        window = plan.similarity_window
        price = plan.invertibility * invertibility(there, back)
        for target, source, found in ((fixed, moving, there), (moving, fixed, back)):
            price = price + 1 - local_correlation(target, found.warped, window)
            # The affine stage has a goal of its own, so that it is worth something by itself.
            alone = local_correlation(target, warp(source, found.affine), window)
            price = price + (1 - alone) / 2
            price = price + plan.network.price(found)
        return price / 2

    return loss


@dataclass(frozen=True)
class Scores:
    """Means over pairs: local correlation after and before, folds, distance of round trips."""

    correlation: float = 0.0
    correlation_before: float = 0.0
    folded_share: float = 0.0
    inverse_error: float = 0.0


def evaluate(model: nn.Module, examples: Examples[Any], plan: Plan) -> Scores:
    """Score the model; zeros without pairs. The inverse error is in voxels of ``shape``."""
    model.to(training.device()).eval()
    found: list[tuple[float, ...]] = []
    with torch.no_grad():
        for fixed, moving in training.batches(examples, 1):
            there, back = model(fixed, moving), model(moving, fixed)
            found.append(
                (
                    float(local_correlation(fixed, there.warped, plan.similarity_window)),
                    float(local_correlation(fixed, moving, plan.similarity_window)),
                    folded_share(there.field),
                    float(inverse_error(there.field, back.field)),
                )
            )
    if not found:
        return Scores()
    return Scores(*(sum(column) / len(found) for column in zip(*found, strict=True)))


def _images(assets: tuple[Asset, ...], plan: Plan) -> list[Image]:
    if len(plan.network.shape) == 2:
        return [(asset,) for asset in assets]
    return list(series(assets).values())


def _read(image: Image, plan: Plan) -> Tensor:
    values = plan.network.image(image)
    low, high = plan.window
    if low == high:
        values, low, high = pixels.standardised(values), -3.0, 3.0
    scaled = pixels.windowed(pixels.resized(values, plan.network.shape), low, high)
    return torch.from_numpy(scaled)[None]

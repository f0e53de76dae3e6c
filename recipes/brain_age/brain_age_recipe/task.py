"""What is learned: volumes and ages of a release, the network, its error in years.

No error text holds a value of the release: an exception in a client travels to the server.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from learning import pixels, releases, training
from learning.loading import Examples
from learning.releases import NAME, SUBJECT, Asset, Release
from learning.training import Scalar

OLDEST = 120.0
Scan = tuple[tuple[Asset, ...], float]
"""A series, and its subject's age in years."""


@dataclass(frozen=True)
class Plan:
    """What a run is told of data and model. Made from the run config by ``Plan.read``."""

    table: str
    age: str
    modality: str
    shape: tuple[int, int, int]
    least_slices: int
    channels: int
    blocks: int
    dropout: float
    age_mean: float
    age_sd: float
    augment: bool
    weights: str
    seed: int
    held_out: float
    split_seed: int

    @classmethod
    def read(cls, config: Mapping[str, Scalar]) -> Plan:
        """Return the plan of a run config; ``ValueError`` names the key that doesn't fit."""
        plan = cls(
            table=str(config["table"]),
            age=str(config["age"]),
            modality=str(config["modality"]),
            shape=(int(config["slices"]), int(config["rows"]), int(config["columns"])),
            least_slices=int(config["least-slices"]),
            channels=int(config["channels"]),
            blocks=int(config["blocks"]),
            dropout=float(config["dropout"]),
            age_mean=float(config["age-mean"]),
            age_sd=float(config["age-sd"]),
            augment=bool(config["augment"]),
            weights=str(config["weights"]),
            seed=int(config["seed"]),
            held_out=float(config["held-out"]),
            split_seed=int(config["split-seed"]),
        )
        plan.check()
        return plan

    def check(self) -> None:
        """Raise ``ValueError`` that names the key that is out of its range."""
        for key, name in (("table", self.table), ("age", self.age)):
            if not NAME.match(name):
                raise ValueError(f"{key}: is not a name")
        if not (1 <= self.channels <= 256 and 1 <= self.blocks <= 6):
            raise ValueError("channels must be 1 to 256, blocks 1 to 6")
        if not all(2**self.blocks <= side <= 512 for side in self.shape):
            raise ValueError("slices, rows and columns must be 2 to the power of blocks to 512")
        if not (0 <= self.dropout < 1 and 0 <= self.held_out < 1):
            raise ValueError("dropout and held-out must be 0 or above and below 1")
        if not (math.isfinite(self.age_mean) and self.age_sd > 0):
            raise ValueError("age-sd must be above 0, age-mean a number")
        if self.least_slices < 1:
            raise ValueError("least-slices: must be 1 or above")


@functools.lru_cache(maxsize=4)
def of_release(release: Path, plan: Plan) -> tuple[Examples[Scan], Examples[Scan]]:
    """Return the scans to train on and those held out: one of each subject whose age is known."""
    opened = Release(release)
    frame = opened.table(plan.table, [plan.age])
    if not frame[plan.age].dtype.is_numeric():
        raise ValueError(f"column {plan.age!r} is no number")
    known = frame.filter(pl.col(plan.age).is_between(0, OLDEST)).unique(SUBJECT, keep="first")
    ages = dict(zip(known[SUBJECT], known[plan.age].cast(pl.Float64), strict=True))
    parts: tuple[list[Scan], list[Scan]] = ([], [])
    for subject, assets in releases.by_subject(opened.assets(modality=plan.modality)).items():
        chosen = best_series(assets, plan.least_slices)
        if chosen and subject in ages:
            held_out = releases.is_held_out(subject, plan.held_out, plan.split_seed)
            parts[held_out].append((chosen, ages[subject]))
    read = functools.partial(_read, plan=plan)
    return Examples(parts[0], read), Examples(parts[1], read)


def best_series(assets: Sequence[Asset], least_slices: int) -> tuple[Asset, ...]:
    """Return a subject's series with the most slices; none when all have too few."""
    found = releases.series(a for a in assets if a.kind in ("dicom", "volume")).items()
    counted = [(sum(max(1, a.frames) for a in some), uid, some) for uid, some in found]
    counted = [entry for entry in counted if entry[0] >= least_slices]
    return max(counted, key=lambda entry: entry[:2])[2] if counted else ()


def _read(scan: Scan, plan: Plan) -> tuple[Tensor, Tensor]:
    """Return a volume (1, slices, rows, columns) and the age, standardised."""
    volume = pixels.volume(scan[0])
    values = pixels.resized(_about_the_head(volume), plan.shape)
    found = np.clip(pixels.standardised(values), -4, 4)
    age = (scan[1] - plan.age_mean) / plan.age_sd
    return torch.from_numpy(found)[None].clone(), torch.tensor(age, dtype=torch.float32)


def _about_the_head(volume: pixels.Volume) -> NDArray[np.float32]:
    """Return the smallest box around what is brighter than air, so that heads are of one size."""
    values = volume.values
    limit = values.min() + np.float32(0.15) * (np.quantile(values, 0.98) - values.min())
    bright = values > limit
    if not bright.any():
        return values
    box = []
    for axis in range(3):
        # A slice counts that has a hundredth of it bright: one bright voxel is noise.
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(bright.mean(axis=others) > 0.01)
        whole = slice(0, values.shape[axis])
        box.append(slice(int(places[0]), int(places[-1]) + 1) if places.size else whole)
    return values[tuple(box)]


class Network(nn.Module):
    """A plain 3D network (after Peng et al. 2021, SFCN): blocks, their mean, one number.

    Group normalisation, whose values aren't those of a hospital's batches.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        torch.manual_seed(plan.seed)
        layers: list[nn.Module] = []
        width = 1
        for index in range(plan.blocks):
            wider = plan.channels * 2 ** min(index, 3)
            layers += [
                nn.Conv3d(width, wider, 3, padding=1),
                nn.GroupNorm(math.gcd(wider, 8), wider),
                nn.MaxPool3d(2),
                nn.ReLU(),
            ]
            width = wider
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(plan.dropout)
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.bias)

    def forward(self, volumes: Tensor) -> Tensor:
        """Return the standardised ages (n) of volumes (n, 1, slices, rows, columns)."""
        pooled = self.features(volumes).mean(dim=(2, 3, 4))
        ages: Tensor = self.head(self.dropout(pooled)).squeeze(1)
        return ages


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean squared error of standardised ages."""
    volumes, ages = batch
    return functional.mse_loss(model(volumes).float(), ages)


def augmented(batch: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return a batch mirrored by chance, and moved by up to two voxels."""
    volumes, ages = batch
    made = []
    for volume in volumes:
        moved = volume
        if float(torch.rand(1, generator=generator)) < 0.5:
            moved = moved.flip(3)  # left and right
        shift = (torch.randint(0, 5, (3,), generator=generator) - 2).tolist()
        made.append(torch.roll(moved, shifts=shift, dims=(1, 2, 3)))
    return torch.stack(made), ages


@dataclass(frozen=True)
class Scores:
    """Of held-out subjects: mean absolute error and mean signed error, in years."""

    error_years: float
    bias_years: float
    n: int


def predict(model: nn.Module, scans: Examples[Scan], plan: Plan) -> NDArray[np.float64]:
    """Return the age in years of each scan."""
    model.to(training.device()).eval()
    found = []
    with torch.no_grad():
        for volumes, _ in training.batches(scans, 4):
            found.append(model(volumes).double().cpu())
    years = torch.cat(found) * plan.age_sd + plan.age_mean if found else torch.zeros(0)
    return np.clip(years.numpy(), 0, OLDEST)


def evaluate(model: nn.Module, scans: Examples[Scan], plan: Plan) -> Scores:
    """Score the model; every score is finite."""
    if not len(scans):
        return Scores(0.0, 0.0, 0)
    apart = predict(model, scans, plan) - np.array([age for _, age in scans.items])
    return Scores(float(np.abs(apart).mean()), float(apart.mean()), len(scans))

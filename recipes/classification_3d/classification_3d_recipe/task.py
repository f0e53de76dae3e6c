"""What is learned: the run's plan, the volumes of a release with their classes, the network.

No error text holds a value of the release: an exception in a client travels to the server.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from learning import augmentation, pixels
from learning.classification import Classifier, labels
from learning.loading import Examples
from learning.pixels import Floats, Volume
from learning.releases import NAME, SUBJECT, Asset, Release, by_subject, series
from learning.run_config import Scalar, names, whole_numbers
from learning.splits import Split
from learning.training import Augment, Batch

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Item:
    """A series with its class, and where to look, in the patient's coordinates, if that is told."""

    assets: tuple[Asset, ...]
    label: int
    centre_mm: Point | None


@dataclass(frozen=True)
class Plan:
    """A run's settings that say what an example is and which network learns from it."""

    table: str
    label: str
    classifier: Classifier
    centre: tuple[str, ...]
    modality: str
    spacing_mm: float
    shape: tuple[int, int, int]
    window: tuple[float, float]
    augment: bool
    split: Split

    @classmethod
    def read(cls, config: Mapping[str, Scalar]) -> Plan:
        """Return the plan of a run config; ``ValueError`` names the key that doesn't fit."""
        centre = names(config, "centre")
        sides = whole_numbers(config, "shape")
        if len(sides) != 3:
            raise ValueError("shape: must be slices,rows,columns")
        slices, rows, columns = sides
        plan = cls(
            table=str(config["table"]),
            label=str(config["label"]),
            classifier=Classifier.read(config),
            centre=centre,
            modality=str(config["modality"]),
            spacing_mm=float(config["spacing-mm"]),
            shape=(slices, rows, columns),
            window=(float(config["window-low"]), float(config["window-high"])),
            augment=bool(config["augment"]),
            split=Split.read(config, str(config["table"])),
        )
        for key, value in (("table", plan.table), ("label", plan.label)):
            if not NAME.match(value):
                raise ValueError(f"{key}: must be the name of one")
        if len(centre) not in (0, 3) or not all(NAME.match(name) for name in centre):
            raise ValueError("centre: must be three columns, or none")
        if not all(8 <= side <= 512 for side in plan.shape) or math.prod(plan.shape) > 2**24:
            raise ValueError("shape: each side must be 8 to 512, and all together fit into memory")
        if not 0.1 <= plan.spacing_mm <= 20:
            raise ValueError("spacing-mm: must be 0.1 to 20")
        if not plan.window[0] < plan.window[1]:
            raise ValueError("window-low: must be below window-high")
        return plan


def build_model(plan: Plan) -> nn.Module:
    """Return the network, its weights drawn from ``seed``."""
    return plan.classifier.build(3, 1)


@functools.cache
def examples(folder: Path, plan: Plan) -> tuple[Examples[Item], Examples[Item]]:
    """Return whom to train on and whom to score, as (volume, class); decoded once.

    A patient's largest series counts: the one with most slices, the first by UID among equals.
    """
    release = Release(folder)
    frame = release.table(plan.table, [plan.label, *plan.centre])
    known = labels(frame, plan.label, plan.classifier.classes.names)
    is_held_out = plan.split.of(release)
    centres = _centres(frame, plan)
    halves: dict[bool, list[Item]] = {False: [], True: []}
    assets = release.assets(kind=("dicom", "volume"), modality=plan.modality)
    for subject, own in by_subject(assets).items():
        if subject not in known or (plan.centre and subject not in centres):
            continue
        largest = max(series(own).values(), key=lambda some: sum(max(1, a.frames) for a in some))
        halves[is_held_out(subject)].append(Item(largest, known[subject], centres.get(subject)))
    read = functools.partial(_read, plan)
    return Examples(halves[False], read), Examples(halves[True], read)


def _centres(frame: pl.DataFrame, plan: Plan) -> dict[str, Point]:
    if not plan.centre:
        return {}
    columns = [pl.col(name).cast(pl.Float64, strict=False) for name in plan.centre]
    told = frame.select(SUBJECT, *columns).drop_nulls().unique(SUBJECT, keep="first")
    return {subject: (x, y, z) for subject, x, y, z in told.iter_rows()}


def _read(plan: Plan, item: Item) -> tuple[Tensor, int]:
    volume = pixels.volume(item.assets)
    return torch.from_numpy(prepared(volume, item.centre_mm, plan)[None]), item.label


def prepared(volume: Volume, centre_mm: Point | None, plan: Plan) -> Floats:
    """Return a volume as the network sees it: ``shape``, of ``spacing-mm``, windowed to -1 to 1.

    Around ``centre_mm`` in the patient's coordinates, or around the middle; outside is the window's
    lower end.
    """
    low, high = plan.window
    spacing = np.array(volume.spacing_mm)
    size = np.maximum(1, np.rint(np.array(volume.values.shape) * spacing / plan.spacing_mm))
    fine = pixels.resized(volume.values, [int(n) for n in size])
    middle = np.array(fine.shape) / 2
    if centre_mm is not None:
        along = volume.directions @ (np.array(centre_mm) - np.array(volume.origin_mm))
        middle = (along + spacing / 2) / plan.spacing_mm
    cut = np.full(plan.shape, low, dtype=np.float32)
    begin = np.rint(middle - np.array(plan.shape) / 2).astype(int)
    inside = [
        slice(max(0, first), min(whole, first + side))
        for first, side, whole in zip(begin, plan.shape, fine.shape, strict=True)
    ]
    if all(part.stop > part.start for part in inside):
        at = tuple(
            slice(p.start - f, p.stop - f) for p, f in zip(inside, begin.tolist(), strict=True)
        )
        cut[at] = fine[tuple(inside)]
    return pixels.windowed(cut, low, high) * np.float32(2) - np.float32(1)


def augment(plan: Plan) -> Augment | None:
    """Return what is done to a batch while training, or None."""
    if not plan.augment:
        return None

    def change(batch: Batch, generator: torch.Generator) -> Batch:
        volumes, wanted = batch
        moved, _ = augmentation.moved(volumes, generator, mirrored=(-1, -2, -3))
        return augmentation.brightened(moved, generator, 0.05), wanted

    return change

"""Bags of a release: a slide's tiles as features, made here or brought along in a table."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from learning import networks, pixels, training, weights
from learning.loading import Examples
from learning.releases import SUBJECT, Asset, Release, is_held_out
from learning.slides import Slide
from slide_mil_recipe.plan import Plan

Bag = tuple[Tensor, Tensor, Tensor]
"""Features (tiles, features), which tiles are there (tiles), and the label."""
_AT_ONCE = 32
_MEAN, _SD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
"""Of ImageNet's pictures: what pretrained networks expect."""


@dataclass(frozen=True)
class Bags:
    """Bags as (features, which are there, label), and of how many subjects they are."""

    examples: Examples[tuple[object, int]]
    subjects: int


@functools.cache
def bags(folder: Path, plan: Plan, held_out: bool, weights_folder: Path) -> Bags:
    """Return the bags of the subjects to train on, or of those held out; each is made once."""
    release = Release(folder)
    labels = _labels(release, plan)
    chosen = {
        subject: label
        for subject, label in labels.items()
        if is_held_out(subject, plan.held_out, plan.split_seed) == held_out
    }
    if plan.source == "table":
        items = _of_table(release, plan, chosen)
        read = functools.partial(_padded, plan)
    else:
        assets = release.assets(kind="slide")
        items = [(asset, asset.subject) for asset in assets if asset.subject in chosen]
        look = functools.partial(_features, plan, weights_folder)
        read = functools.partial(_seen, plan, look)
    subjects = len({subject for _, subject in items})
    return Bags(Examples([(bag, chosen[subject]) for bag, subject in items], read), subjects)


def backbone(plan: Plan, weights_folder: Path) -> nn.Module:
    """Return the network from tiles to features: approved weights, or drawn from a seed.

    It isn't trained and doesn't travel, so it is the same everywhere.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.backbone_seed)
        # Statistics of batches are a part of pretrained weights; of drawn ones there are none.
        kind = "batch" if plan.weights else "group"
        made = networks.classifier(
            plan.network, dimensions=2, channels=3, outputs=1, normalised=kind
        )
    made.fc = nn.Identity()
    if plan.weights:
        weights.begin(made, weights.read(plan.weights, weights_folder))
    return made.to(training.device()).eval()


_backbone = functools.cache(backbone)


def _features(plan: Plan, weights_folder: Path, asset: Asset) -> Tensor:
    """Return the features of a slide's tiles: (tiles, features)."""
    network = _backbone(plan, weights_folder)
    found: list[Tensor] = []
    with Slide(asset) as slide, torch.no_grad():
        tiles = slide.tiles(
            plan.tile_pixels,
            downsample=plan.downsample,
            tissue=plan.tissue,
            most=plan.most_tiles,
        )
        for start in range(0, len(tiles), _AT_ONCE):
            some = np.stack(
                [_normalised(t) for t in slide.read_all(tiles[start : start + _AT_ONCE])]
            )
            found.append(network(torch.from_numpy(some).to(training.device())).cpu())
    return torch.cat(found) if found else torch.zeros(0, plan.features)


def _normalised(tile: pixels.Floats) -> pixels.Floats:
    found: pixels.Floats = ((tile - _MEAN) / _SD).transpose(2, 0, 1).astype(np.float32)
    return found


def _seen(plan: Plan, look: functools.partial[Tensor], item: tuple[Asset, int]) -> Bag:
    return _padded(plan, (look(item[0]), item[1]))


def _padded(plan: Plan, item: tuple[Tensor, int]) -> Bag:
    """Return at most ``most-tiles`` features, filled up to as many, and which are there."""
    features, label = item
    if len(features) > plan.most_tiles:
        evenly = torch.linspace(0, len(features) - 1, plan.most_tiles).round().long()
        features = features[evenly]
    filled = torch.zeros(plan.most_tiles, plan.features)
    filled[: len(features)] = features
    return filled, torch.arange(plan.most_tiles) < len(features), torch.tensor(float(label))


def _labels(release: Release, plan: Plan) -> dict[str, int]:
    """Return the label of each subject that has one, and no other."""
    frame = release.table(plan.table, [plan.outcome]).drop_nulls()
    found: dict[str, set[int]] = {}
    for subject, value in frame.select(SUBJECT, plan.outcome).iter_rows():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        found.setdefault(str(subject), set()).add(int(text == plan.positive))
    return {subject: labels.pop() for subject, labels in found.items() if len(labels) == 1}


def _of_table(release: Release, plan: Plan, chosen: Mapping[str, int]) -> list[tuple[Tensor, str]]:
    names = [f"{plan.feature_prefix}{index}" for index in range(plan.feature_count)]
    frame = release.table(plan.features_table, [plan.bag, *names]).drop_nulls()
    found = []
    for (subject, _), rows in frame.group_by([SUBJECT, plan.bag], maintain_order=True):
        if subject in chosen:
            values = rows.select(names).to_numpy().astype(np.float32)
            found.append((torch.from_numpy(values), str(subject)))
    return found

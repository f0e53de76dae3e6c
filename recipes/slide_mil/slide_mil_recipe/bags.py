"""Bags of a release: a slide's tiles as features, made here or brought along in a table."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from learning import networks, pixels, training, weights
from learning.loading import Examples
from learning.releases import SUBJECT, Asset, Release
from learning.slides import Slide
from slide_mil_recipe.plan import Plan

Bag = tuple[Tensor, int]
"""Features (tiles, features) in 16 bits, and the label."""
_AT_ONCE = 32
_ROW = "row number"
_MEAN, _SD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
"""Of ImageNet's pictures: what pretrained networks expect."""


@dataclass(frozen=True)
class Bags:
    """Bags, and of how many subjects they are. A batch is (features, which are there, labels)."""

    examples: Examples[Any]
    subjects: int


@functools.cache
def bags(folder: Path, plan: Plan, held_out: bool, weights_folder: Path) -> Bags:
    """Return the bags of the subjects to train on, or of those held out; each is made once."""
    release = Release(folder)
    labels = _labels(release, plan)
    is_held_out = plan.split.of(release)
    chosen = {
        subject: label for subject, label in labels.items() if is_held_out(subject) == held_out
    }
    if plan.source == "table":
        of_table = _of_table(release, plan, chosen)
        subjects = len({subject for _, subject in of_table})
        items = [(bag, chosen[subject]) for bag, subject in of_table]
        # They are in memory already.
        return Bags(Examples(items, _as_it_is, collate=_filled_up, memory_bytes=0), subjects)
    assets = [asset for asset in release.assets(kind="slide") if asset.subject in chosen]
    look = functools.partial(_seen, plan, weights_folder)
    slides = [(asset, chosen[asset.subject]) for asset in assets]
    subjects = len({asset.subject for asset in assets})
    return Bags(Examples(slides, look, collate=_filled_up), subjects)


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


def _seen(plan: Plan, weights_folder: Path, item: tuple[Asset, int]) -> Bag:
    return _features(plan, weights_folder, item[0]).half(), item[1]


def _as_it_is(item: Bag) -> Bag:
    return item


def _filled_up(bags: Sequence[Bag]) -> tuple[Tensor, Tensor, Tensor]:
    """Return bags as long as the longest: features, which are there, and labels."""
    features = nn.utils.rnn.pad_sequence([bag.float() for bag, _ in bags], batch_first=True)
    lengths = torch.tensor([len(bag) for bag, _ in bags])
    there = torch.arange(features.shape[1]) < lengths[:, None]
    return features, there, torch.tensor([float(label) for _, label in bags])


def _labels(release: Release, plan: Plan) -> dict[str, int]:
    """Return the label of each subject that has one, and no other."""
    frame = release.table(plan.table, [plan.outcome]).drop_nulls()
    found: dict[str, set[int]] = {}
    for subject, value in frame.select(SUBJECT, plan.outcome).iter_rows():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        found.setdefault(str(subject), set()).add(int(text == plan.positive))
    return {subject: labels.pop() for subject, labels in found.items() if len(labels) == 1}


def _of_table(release: Release, plan: Plan, chosen: Mapping[str, int]) -> list[tuple[Tensor, str]]:
    """Return each bag's features and subject, of at most ``most-tiles`` evenly chosen rows."""
    names = [f"{plan.feature_prefix}{index}" for index in range(plan.feature_count)]
    keys = release.table(plan.features_table, [plan.bag], row_number=_ROW)
    keys = keys.filter(pl.col(SUBJECT).is_in(list(chosen)))
    apart = list(dict.fromkeys([SUBJECT, plan.bag]))
    by_bag = keys.drop_nulls().group_by(apart, maintain_order=True)
    rows = []
    subjects = []
    for (subject, *_), some in by_bag:
        one = some[_ROW].to_numpy().astype(np.int64)
        if len(one) > plan.most_tiles:
            one = one[np.linspace(0, len(one) - 1, plan.most_tiles).round().astype(int)]
        rows.append(one)
        subjects.append(str(subject))
    if not rows:
        return []
    values = torch.from_numpy(release.numbers(plan.features_table, names, np.concatenate(rows)))
    each = torch.split(values, [len(one) for one in rows])
    whole = [bag[torch.isfinite(bag).all(1)] for bag in each]
    return [(bag, subject) for bag, subject in zip(whole, subjects, strict=True) if len(bag)]

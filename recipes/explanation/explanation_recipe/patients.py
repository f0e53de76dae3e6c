"""The patients of a release: rows of a table or images, who has the outcome, which rules hold."""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from explanation_recipe.plan import Feature, Plan, Rule
from learning import pixels
from learning.loading import Examples
from learning.releases import SUBJECT, Asset, Release, is_held_out

_SIGNS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class Patients:
    """One line for each patient, in the order of their pseudonyms.

    ``rows`` (n, features), NaN where missing, of a table; ``images`` of images. ``rules`` (n,
    rules) says which hold. ``assets`` are the images' own.
    """

    rows: NDArray[np.float64]
    images: Examples[Asset] | None
    positive: NDArray[np.bool_]
    held_out: NDArray[np.bool_]
    rules: NDArray[np.bool_]
    assets: tuple[Asset, ...]

    def __len__(self) -> int:
        return len(self.positive)

    def inputs(self, index: NDArray[np.int64]) -> Tensor:
        """Return what the model is given for these patients."""
        if self.images is not None:
            return torch.stack([self.images[int(i)] for i in index])
        return torch.from_numpy(self.rows[index]).float()


@functools.cache
def patients(folder: Path, plan: Plan) -> Patients:
    """Return every patient who has one outcome, and for images an image: the first."""
    release = Release(folder)
    columns = {f.column for f in plan.features} | {t.column for rule in plan.rules for t in rule}
    columns = set() if plan.images else columns
    frame = release.table(plan.table, sorted({plan.outcome, *columns}))
    frame = frame.filter(pl.col(plan.outcome).is_not_null())
    frame = frame.filter(pl.len().over(SUBJECT) == 1)
    assets: tuple[Asset, ...] = ()
    if plan.images:
        firsts: dict[str, Asset] = {}
        for asset in release.assets(modality=plan.modality):
            firsts.setdefault(asset.subject, asset)
        frame = frame.filter(pl.col(SUBJECT).is_in(list(firsts)))
        assets = tuple(firsts[subject] for subject in frame[SUBJECT])
    subjects = frame[SUBJECT].to_list()
    held_out = [is_held_out(str(s), plan.held_out, plan.split_seed) for s in subjects]
    return Patients(
        rows=_stacked([_values(frame, f) for f in plan.features], len(subjects)),
        images=Examples(assets, functools.partial(_image, plan)) if plan.images else None,
        positive=(_text(frame[plan.outcome]) == plan.positive).to_numpy(),
        held_out=np.array(held_out, dtype=np.bool_),
        rules=_stacked([_holds(frame, r) for r in plan.rules], len(subjects)).astype(np.bool_),
        assets=assets,
    )


def _values(frame: pl.DataFrame, feature: Feature) -> NDArray[np.float64]:
    column = frame[feature.column]
    if feature.level is not None:
        held = (_text(column) == feature.level).cast(pl.Float64)
        return held.fill_null(np.nan).to_numpy()
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise ValueError(f"column {feature.column!r} is no number; write it as name=level")
    return column.cast(pl.Float64).fill_null(np.nan).to_numpy()


def _holds(frame: pl.DataFrame, rule: Rule) -> NDArray[np.float64]:
    """Say of each patient whether a rule holds; where a value is missing it doesn't."""
    found = np.ones(frame.height, dtype=np.bool_)
    for term in rule:
        column = frame[term.column]
        if term.sign == "=":
            found &= (_text(column) == term.value).fill_null(False).to_numpy()
            continue
        if not column.dtype.is_numeric():
            raise ValueError(f"rules: column {term.column!r} is no number")
        values = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
        found &= _SIGNS[term.sign](values, float(term.value))
    return found.astype(np.float64)


def _image(plan: Plan, asset: Asset) -> Tensor:
    values = pixels.resized(pixels.image(asset), (plan.size, plan.size))
    return torch.from_numpy(pixels.standardised(values))[None]


def _stacked(columns: list[NDArray[np.float64]], rows: int) -> NDArray[Any]:
    return np.stack(columns, 1) if columns else np.zeros((rows, 0))


def _text(column: pl.Series) -> pl.Series:
    return column.cast(pl.String)

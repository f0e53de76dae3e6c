"""Cheap recipes under three seeds: what their scores are worth, and what one place would have got.

A seed says who is held out and how the model begins. Each recipe runs across its hospitals and,
with the same patients held out, on all rows in one place; every score is the mean over held-out
patients. ``<recipe>`` and ``<recipe>_sd``: mean and standard deviation over the seeds, federated;
``<recipe>_pooled`` and ``<recipe>_pooled_sd``: in one place.

``tabular``: Brier score (less is better) of preterm birth, the demo's trial in four hospitals.
``prognosis``: concordance of Cox's model on lifelines' Rossi data, dealt out to three.
``classification_2d``: balanced accuracy of four stages (chance is 0.25) on drawn chest films of
three hospitals with contrasts of their own.

Example: python bench/seeds.py
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

import numpy as np
import polars as pl
from lifelines.datasets import load_rossi

from demo import data
from tests.recipes.harness import File, Recipe, dicom, write_release
from tests.recipes.pictures import chest
from tests.recipes.releases import typed

SEEDS = (1, 2, 3)
FILMS = 64
"""Of each hospital."""
CONTRASTS = (1.0, 0.9, 0.8)
DX = "1.2.840.10008.5.1.4.1.1.1.1"
Site = tuple[pl.DataFrame, list[File]]


@dataclass(frozen=True)
class Case:
    """A recipe, its hospitals, and the score that counts."""

    recipe: str
    score: str
    sites: Callable[[], list[Site]]
    table: str
    told: Mapping[str, Any]


def trial() -> list[Site]:
    """Return the demo's hospitals."""
    return [(typed(hospital.name), []) for hospital in data.HOSPITALS]


def rossi() -> list[Site]:
    """Return Rossi's prisoners, dealt out to three sites."""
    frame = pl.from_pandas(load_rossi())
    frame = frame.with_columns(subject=pl.format("s{}", pl.int_range(len(frame))))
    return [(frame.gather_every(3, offset), []) for offset in range(3)]


def films() -> list[Site]:
    """Return three hospitals' drawn films, a stage to each."""
    made: list[Site] = []
    for number, contrast in enumerate(CONTRASTS):
        rng = np.random.default_rng(number)
        files, rows = [], []
        for film in range(FILMS):
            subject, stage = f"{number}-{film}", film % 4
            image = chest(stage, rng, 40, contrast)
            files.append(dicom(image, subject, modality="DX", sop_class_uid=DX))
            rows.append({"subject": subject, "profusion": str(stage)})
        made.append((pl.DataFrame(rows), files))
    return made


CASES = (
    Case(
        *("tabular", "eval_brier", trial, "trial"),
        {
            "outcome": "preterm",
            "features": ",".join(data.FEATURES),
            "standardise": "sums",
        },
    ),
    Case(
        *("prognosis", "eval_concordance", rossi, "prisoners"),
        {"time": "week", "event": "arrest", "features": "fin,age,race,wexp,mar,paro,prio"},
    ),
    Case(
        *("classification_2d", "eval_balanced_accuracy", films, "films"),
        {
            **{"label": "profusion", "classes": "0,1,2,3", "ordinal": True, "modality": "DX"},
            **{"size": 40, "local_epochs": 3, "learning_rate": 0.005, "num_server_rounds": 8},
        },
    ),
)


def main() -> None:
    """Run them all and print a table."""
    logging.disable(logging.INFO)
    figures: dict[str, float] = {}
    print(f"{'recipe':20}{'score':26}{'federated':>16}{'in one place':>16}")
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            sites = case.sites()
            apart = [
                write_release(Path(folder) / str(number), {case.table: table}, files)
                for number, (table, files) in enumerate(sites)
            ]
            everybody = pl.concat([table for table, _ in sites])
            images = [file for _, files in sites for file in files]
            pooled = [write_release(Path(folder) / "all", {case.table: everybody}, images)]
            shown = ""
            for name, releases in ((case.recipe, apart), (f"{case.recipe}_pooled", pooled)):
                scores = [score(case, releases, seed) for seed in SEEDS]
                middle, spread = float(np.mean(scores)), float(np.std(scores, ddof=1))
                figures |= {name: round(middle, 4), f"{name}_sd": round(spread, 4)}
                shown += f"{f'{middle:.3f} +/- {spread:.3f}':>16}"
        print(f"{case.recipe:20}{case.score:26}{shown}", flush=True)
    print(json.dumps({"bench": "seeds", **figures}))


def score(case: Case, releases: list[Path], seed: int) -> float:
    """Run a recipe once; return its score after the last round."""
    recipe = Recipe(case.recipe)
    who = {"seed": seed, "split_seed": seed, "minimum_nodes": len(releases)}
    config = recipe.config(**case.told, **who, table=case.table, held_out=0.3)
    return recipe.run(releases, config).mean(case.score)


if __name__ == "__main__":
    main()

"""Recipes under three seeds: what their scores are worth, and what one place would have got.

A seed says who is held out and how the model begins. Each recipe runs across three hospitals and,
with the same patients held out and the same settings, on all rows in one place; every score is the
mean over held-out patients. ``<recipe>`` and ``<recipe>_sd``: mean and standard deviation over the
seeds, federated; ``<recipe>_pooled`` and ``<recipe>_pooled_sd``: in one place.

``tabular``: Brier score (less is better) of preterm birth, the demo's trial in four hospitals.
``prognosis``: concordance of Cox's model on lifelines' Rossi data, dealt out to three.
``classification_2d``: balanced accuracy of four stages (chance is 0.25) on drawn chest films of
hospitals with contrasts of their own. ``classification_3d``: of two textures of nodules (0.5), one
hospital's slices twice as thick. ``segmentation``: Dice of drawn organs. ``slide_mil``: AUC of bags
of tiles. ``brain_age``: error in years (less is better) of drawn heads. ``despeckling``: looks
gained. ``registration``: correlation after it.

Example: python bench/seeds.py classification_2d slide_mil
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

import numpy as np
import polars as pl
from lifelines.datasets import load_rossi

from demo import data
from tests.recipes import (
    test_brain_age,
    test_despeckling,
    test_registration,
    test_segmentation,
    test_slide_mil,
)
from tests.recipes.harness import File, Recipe, dicom, photograph, series, write_release
from tests.recipes.phantoms import moved_heads
from tests.recipes.pictures import chest, nodule, organ
from tests.recipes.releases import typed

SEEDS = (1, 2, 3)
FILMS, NODULES, BAGS, SCANS, PAIRS = 64, 24, 70, 18, 16
"""Of each hospital."""
CONTRASTS = (1.0, 0.9, 0.8)
DX = "1.2.840.10008.5.1.4.1.1.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"


@dataclass(frozen=True)
class Site:
    """What a hospital releases."""

    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    files: list[File] = field(default_factory=list)
    groups: pl.DataFrame | None = None

    def write(self, folder: Path) -> Path:
        """Write it as a node freezes it."""
        return write_release(folder, self.tables, self.files, self.groups)


def together(sites: list[Site]) -> Site:
    """Return what one place would have that has it all."""
    names = sites[0].tables
    groups = [site.groups for site in sites if site.groups is not None]
    return Site(
        {name: pl.concat([site.tables[name] for site in sites]) for name in names},
        [file for site in sites for file in site.files],
        pl.concat(groups) if groups else None,
    )


@dataclass(frozen=True)
class Case:
    """A recipe, its hospitals, and the score that counts."""

    recipe: str
    score: str
    sites: Callable[[], list[Site]]
    told: Mapping[str, Any]


def trial() -> list[Site]:
    """Return the demo's hospitals."""
    return [Site({"trial": typed(hospital.name)}) for hospital in data.HOSPITALS]


def rossi() -> list[Site]:
    """Return Rossi's prisoners, dealt out to three sites."""
    frame = pl.from_pandas(load_rossi())
    frame = frame.with_columns(subject=pl.format("s{}", pl.int_range(len(frame))))
    return [Site({"prisoners": frame.gather_every(3, offset)}) for offset in range(3)]


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
        made.append(Site({"films": pl.DataFrame(rows)}, files))
    return made


def nodules() -> list[Site]:
    """Return three hospitals' CT volumes, of two kinds."""
    made: list[Site] = []
    for number, slices in enumerate((8, 4, 8)):
        rng = np.random.default_rng(number)
        files, rows = [], []
        for volume in range(NODULES):
            subject, kind = f"{number}-{volume}", volume % 2
            values = nodule(kind, rng, (slices, 16, 16))
            told = {"sop_class_uid": CT, "intercept": -1024, "thickness_mm": 16 / slices}
            files += series(values, subject, modality="CT", **told)
            rows.append({"subject": subject, "subtype": ("solid", "ground-glass")[kind]})
        made.append(Site({"nodules": pl.DataFrame(rows)}, files))
    return made


def organs() -> list[Site]:
    """Return three hospitals' ultrasound pictures with masks."""
    made: list[Site] = []
    for number, contrast in enumerate(CONTRASTS):
        rng = np.random.default_rng(number)
        pairs: list[tuple[list[File], list[File]]] = []
        for picture in range(SCANS):
            subject = f"{number}-{picture}"
            image, mask = organ(rng, (32, 32), contrast)
            scan = dicom(image, subject, modality="US", sop_class_uid=test_segmentation.US, bits=8)
            pairs.append(([scan], [photograph(mask * 255, subject)]))
        files = [file for pair in pairs for part in pair for file in part]
        links = test_segmentation.links(pairs)
        apart = links.with_columns(group=pl.format("{}-{}", pl.lit(number), "group"))
        made.append(Site({}, files, apart))
    return made


def bags() -> list[Site]:
    """Return three hospitals' bags of tiles, already features."""
    return [Site(test_slide_mil.bags_of_digits(BAGS, 1 + number)) for number in range(3)]


def heads() -> list[Site]:
    """Return three hospitals' heads and ages."""
    made: list[Site] = []
    for number in range(3):
        files, rows = [], []
        for scan in range(number * SCANS, (number + 1) * SCANS):
            subject = f"subject-{scan:03d}"
            age = float(np.random.default_rng(scan + 7).uniform(20, 90))
            values = test_brain_age.head(age, scan)
            files += series(values, subject, thickness_mm=7.0, spacing_mm=(7.0, 7.0))
            rows.append({"subject": subject, "age": age})
        made.append(Site({"table": pl.DataFrame(rows)}, files))
    return made


def speckle() -> list[Site]:
    """Return three hospitals' ultrasound pictures without a truth."""
    made: list[Site] = []
    for number in range(3):
        seen = [
            (seed, test_despeckling.speckled(test_despeckling.tissue(seed), seed))
            for seed in range(number * 10, number * 10 + 10)
        ]
        files = [
            photograph(test_despeckling.to_bytes(image), f"subject-{seed}", modality="US")
            for seed, image in seen
        ]
        made.append(Site({}, files))
    return made


def pairs_of_heads() -> list[Site]:
    """Return three hospitals' patients with two images each."""
    made: list[Site] = []
    for number in range(3):
        moved = moved_heads(PAIRS, test_registration.SHAPE, 10 + number, most=3.0)
        files = [
            dicom(
                test_registration.stored(images[index]),
                f"p{number}-{index}",
                series_uid=f"1.2.3.{number}.{index}.{which}",
            )
            for index in range(PAIRS)
            for which, images in enumerate((moved.fixed, moved.moving))
        ]
        made.append(Site({}, files))
    return made


def _dashed(told: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return settings of a test, as the default has them where the test takes fewer steps."""
    found = {name.replace("-", "_"): value for name, value in told.items()} | changes
    found.pop("least_steps", None)
    return found


CASES = (
    Case(
        *("tabular", "eval_brier", trial),
        {
            "table": "trial",
            "outcome": "preterm",
            "features": ",".join(data.FEATURES),
            "standardise": "sums",
        },
    ),
    Case(
        *("prognosis", "eval_concordance", rossi),
        {
            "table": "prisoners",
            "time": "week",
            "event": "arrest",
            "features": "fin,age,race,wexp,mar,paro,prio",
        },
    ),
    Case(
        *("classification_2d", "eval_balanced_accuracy", films),
        {
            **{
                "table": "films",
                "label": "profusion",
                "classes": "0,1,2,3",
                "ordinal": True,
                "modality": "DX",
            },
            **{"size": 40, "local_epochs": 3, "learning_rate": 0.005, "num_server_rounds": 8},
        },
    ),
    Case(
        *("classification_3d", "eval_balanced_accuracy", nodules),
        {
            **{"table": "nodules", "label": "subtype", "classes": "solid,ground-glass"},
            **{"shape": "16,16,16", "num_server_rounds": 4, "local_epochs": 2, "batch_size": 8},
            **{"learning_rate": 0.005, "augment": False},
        },
    ),
    Case(
        *("segmentation", "eval_dice", organs),
        _dashed(test_segmentation.SETTINGS, local_epochs=2),
    ),
    Case(
        *("slide_mil", "eval_auc", bags),
        _dashed(test_slide_mil.SMALL, positive="true", num_server_rounds=8, local_epochs=2),
    ),
    Case(
        *("brain_age", "eval_error_years", heads),
        {
            **{"slices": 16, "rows": 18, "columns": 18, "channels": 8, "blocks": 3},
            **{"dropout": 0.0, "num_server_rounds": 6, "local_epochs": 3, "learning_rate": 0.005},
        },
    ),
    Case(
        *("despeckling", "eval_looks_gain", speckle),
        {
            **{"side": 96, "patch": 48, "channels": 16, "depth": 5, "num_server_rounds": 4},
            **{"local_epochs": 4, "learning_rate": 0.006, "batch_size": 4},
        },
    ),
    Case(
        *("registration", "eval_correlation", pairs_of_heads),
        _dashed(test_registration.SMALL),
    ),
)


def main() -> None:
    """Run those that are named, or all, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    known = [case.recipe for case in CASES]
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"of {', '.join(known)}")
    named = parser.parse_args().recipes
    if unknown := set(named) - set(known):
        parser.error(f"no case for {', '.join(sorted(unknown))}")
    logging.disable(logging.INFO)
    figures: dict[str, float] = {}
    print(f"{'recipe':20}{'score':26}{'federated':>16}{'in one place':>16}")
    for case in CASES:
        if named and case.recipe not in named:
            continue
        with tempfile.TemporaryDirectory() as folder:
            sites = case.sites()
            apart = [site.write(Path(folder) / str(number)) for number, site in enumerate(sites)]
            pooled = [together(sites).write(Path(folder) / "all")]
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
    config = recipe.config(**{**case.told, **who, "held_out": 0.3})
    return recipe.run(releases, config).mean(case.score)


if __name__ == "__main__":
    main()

"""FLamby's Fed-TCGA-BRCA: the prognosis recipe across its six regions, on its split and fresh ones.

``concordance``: mean over regions of Harrell's C on their test patients, on FLamby's split;
``concordance_seeds`` and ``concordance_seeds_sd``: over five fresh splits, which hold out a fifth
of each region's patients, by event, and of each kind at least one; a region whose test patients
have no pair to compare doesn't count. ``..._pooled``: lifelines' Cox model of all training rows,
with regions as strata and the same penalty. ``_penalty`` figures are with ``weight-decay`` 0.1
instead of the recipe's own.

Published, mean over regions and seeds, on its split: pooled 0.676, FedAvg 0.732, best federated
0.815. The data are in FLamby's repository, ``flamby/datasets/fed_tcga_brca``, under the terms of
the Genomic Data Commons.

Example: python bench/tcga_brca.py FLamby/flamby/datasets/fed_tcga_brca
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tests.recipes.harness import Recipe, write_release

SEEDS = (43, 44, 45, 46, 47)
TEST_SHARE = 0.2
PENALTIES = {"": None, "_penalty": 0.1}
PUBLISHED = {"published_fedavg": 0.732, "published_best": 0.815, "published_pooled": 0.676}
Floats = NDArray[np.float64]


def patients(folder: Path) -> pl.DataFrame:
    """Return all rows: subject, region, days, event, fold, and ``f0`` to ``f38``."""
    rows = pl.read_csv(folder / "brca.csv")
    split = pl.read_csv(folder / "dataset_creation_scripts" / "train_test_split.csv")
    rows = rows.join(split.select("pid", "fold", "fold2"), on="pid", maintain_order="left")
    features = [name for name in rows.columns[1:] if name not in ("E", "T", "fold", "fold2")]
    return rows.select(
        subject=pl.col("pid"),
        region=pl.col("fold2").str.slice(-1).cast(pl.Int64),
        days=pl.col("T").cast(pl.Float64),
        event=pl.col("E").cast(pl.Int64),
        fold=pl.col("fold"),
        **{f"f{index}": pl.col(name).cast(pl.Float64) for index, name in enumerate(features)},
    )


def with_fresh_split(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Hold out a fifth of each region's patients with the event, and of those without."""
    rng = np.random.default_rng(seed)
    fold = np.full(rows.height, "train", dtype=object)
    groups = rows.select("region", "event").to_numpy()
    for group in np.unique(groups, axis=0):
        members = rng.permutation(np.flatnonzero((groups == group).all(axis=1)))
        fold[members[: max(1, round(TEST_SHARE * len(members)))]] = "test"
    return rows.with_columns(fold=pl.Series(fold.tolist()))


def concordances(rows: pl.DataFrame, folder: Path, penalty: float | None) -> tuple[float, float]:
    """Return the mean over regions of C, federated, and of the fit to all training rows."""
    from lifelines import CoxPHFitter

    recipe = Recipe("prognosis")
    task = recipe.module("task")
    features = [name for name in rows.columns if name[0] == "f" and name[1:].isdigit()]
    regions = rows.partition_by("region", maintain_order=True)
    folder.mkdir()
    releases = [
        write_release(folder / str(number), {"brca": region.drop("region")})
        for number, region in enumerate(regions)
    ]
    told = {} if penalty is None else {"weight_decay": penalty}
    config = recipe.config(
        table="brca",
        time="days",
        event="event",
        features=",".join(features),
        split_column="fold",
        minimum_nodes=len(releases),
        **told,
    )
    plan = task.Plan.read(config)
    model = task.Risk(plan)
    model.load_state_dict(recipe.run(releases, config).arrays)
    federated = []
    for release in releases:
        _, asked = task.of_release(release, plan)
        federated.append(_concordance(asked.times, task.risks(model, asked), asked.events))

    training = rows.filter(pl.col("fold") == "train")
    scale = training.select(features).to_numpy()
    mean, deviation = scale.mean(axis=0), scale.std(axis=0)
    kept = deviation > 0

    def scaled(some: pl.DataFrame) -> Floats:
        found: Floats = ((some.select(features).to_numpy() - mean) / np.where(kept, deviation, 1))[
            :, kept
        ]
        return found

    import pandas as pd

    frame = pd.DataFrame(scaled(training))
    frame.columns = [str(name) for name in frame.columns]
    for name in ("days", "event", "region"):
        frame[name] = training[name].to_numpy()
    # lifelines' penalty is of the mean log likelihood, as the recipe's.
    fit = CoxPHFitter(penalizer=float(config["weight-decay"]), l1_ratio=0.0)
    fit.fit(frame, "days", "event", strata=["region"])
    weights = fit.params_.to_numpy()
    pooled = []
    for region in regions:
        asked = region.filter(pl.col("fold") == "test")
        risk = scaled(asked) @ weights
        pooled.append(_concordance(asked["days"], risk, asked["event"]))
    return float(np.nanmean(federated)), float(np.nanmean(pooled))


def _concordance(days: Any, risk: Any, event: Any) -> float:
    """Return Harrell's C; NaN without a pair to compare."""
    from lifelines.utils import concordance_index

    try:
        return float(concordance_index(days, -risk, event))
    except ZeroDivisionError:
        return float("nan")


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("WARDGATE_TCGA_BRCA")
    parser.add_argument("data", nargs="?", type=Path, default=default and Path(default))
    folder = parser.parse_args().data
    logging.disable(logging.INFO)
    if folder is None or not (folder / "brca.csv").is_file():
        print(json.dumps({"skipped": "the data set isn't here"}))
        return
    rows = patients(folder)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="wardgate-bench-") as made:
        for name, penalty in PENALTIES.items():
            own, pooled = concordances(rows, Path(made) / f"own{name}", penalty)
            figures |= {f"concordance{name}": own, f"concordance_pooled{name}": pooled}
            found = np.array(
                [
                    concordances(with_fresh_split(rows, s), Path(made) / f"{s}{name}", penalty)
                    for s in SEEDS
                ]
            )
            for column, kind in enumerate(("", "_pooled")):
                figures[f"concordance_seeds{kind}{name}"] = float(found[:, column].mean())
                figures[f"concordance_seeds{kind}_sd{name}"] = float(found[:, column].std(ddof=1))
    told = {name: float(f"{value:.4g}") for name, value in (figures | PUBLISHED).items()}
    print(json.dumps({"bench": "tcga_brca", **told}))


if __name__ == "__main__":
    main()

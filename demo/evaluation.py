"""How good the federated model is: against the pooled one and each hospital's own, honestly.

Only the demo may run this: it reads the releases of all four hospitals, which nobody else sees
together. All models are scored on the same held-out women of all hospitals.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.table import Table

from contract.errors import DataError
from contract.statistics.summaries import Counts, Moments
from contract.work import Scalar
from demo import data

SITE = "site"
TASK = Path(__file__).resolve().parent.parent / "recipes/tabular/tabular_recipe/task.py"
CONVERGED_STEPS = 1000
_Z = NormalDist().inv_cdf(0.975)

Floats = NDArray[np.float64]
Weights = Mapping[str, NDArray[Any]]
"""A model's arrays by name, as they travel."""


def _load_task() -> Any:
    """Import the recipe's own model code from where the recipe lies."""
    name = "_demo_tabular_task"
    spec = importlib.util.spec_from_file_location(name, TASK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


task = _load_task()


# ---- the truth that only the demo can see ------------------------------------------------------


def pooled_frame(release_folders: Mapping[str, Path], table: str = "trial") -> pl.DataFrame:
    """Return all sites' rows of ``table`` with a column ``site``; keys are the sites' names."""
    frames = [
        pl.read_parquet(folder / "tables" / f"{table}.parquet").with_columns(
            pl.lit(site).alias(SITE)
        )
        for site, folder in sorted(release_folders.items())
    ]
    return pl.concat(frames, how="vertical_relaxed")


def told_frame(release_folders: Mapping[str, Path], table: str = "trial") -> pl.DataFrame:
    """Return what ``pooled_frame`` does, without the values that exact answers leave out.

    A release declares whose value of each variable is told: where few have none, a few others are
    left out with them (docs/reference/disclosure.md).
    """
    frame = pooled_frame(release_folders, table)
    members = pl.concat(
        [
            pl.read_parquet(folder / "membership.parquet")
            for _, folder in sorted(release_folders.items())
        ],
        how="diagonal",
    )
    told = {c.removeprefix("variable:"): members[c] for c in members.columns if ":" in c}
    return frame.with_columns(
        pl.when(told[name]).then(pl.col(name)).otherwise(None).alias(name)
        for name in frame.columns
        if name in told and name != "arm"  # which arm somebody is in, cells tell
    )


def pooled_hazard(release_folders: Mapping[str, Path]) -> tuple[float, float, float]:
    """Return the hazard ratio of the trial's main result and its 95 % interval, of pooled rows.

    By statsmodels, hospitals as strata, ties after Efron: another implementation than ours.
    """
    import numpy as np
    from statsmodels.duration.hazard_regression import PHReg

    frame = pooled_frame(release_folders)
    time, event = data.SURVIVAL
    fitted = PHReg(
        frame[time].cast(pl.Float64).to_numpy(),
        (frame["arm"] == "T").cast(pl.Float64).to_numpy()[:, None],
        status=(frame[event] == "Yes").cast(pl.Float64).to_numpy(),
        strata=frame[SITE].to_numpy(),
        ties="efron",
    ).fit()
    low, high = fitted.conf_int()[0]
    return float(np.exp(fitted.params[0])), float(np.exp(low)), float(np.exp(high))


def pooled_table1(
    frame: pl.DataFrame, without: Mapping[str, Collection[str]] | None = None
) -> dict[str, dict[str, Moments | Counts]]:
    """Return the summary of every row of ``TABLE_1`` by arm, computed on the pooled rows.

    ``without``: variable to sites whose part is left out, for rows that a site withheld.
    """
    variables = {variable.name: variable for variable in data.dictionary()}
    truth: dict[str, dict[str, Moments | Counts]] = {}
    for name in data.TABLE_1:
        left_out = list((without or {}).get(name, ()))
        rows = frame.filter(~pl.col(SITE).is_in(left_out))
        truth[name] = {}
        for arm in variables["arm"].levels:
            column = rows.filter(pl.col("arm") == arm)[name]
            present = column.drop_nulls()
            missing = column.null_count()
            if variables[name].kind == "category":
                counts = tuple(int((present == level).sum()) for level in variables[name].levels)
                truth[name][arm] = Counts(counts, missing)
            else:
                values = present.cast(pl.Float64).to_numpy()
                mean = float(values.mean()) if values.size else 0.0
                m2 = float(((values - mean) ** 2).sum())
                truth[name][arm] = Moments(int(values.size), missing, mean, m2)
    return truth


# ---- models to compare with --------------------------------------------------------------------


def train_pooled(frame: pl.DataFrame, parameters: Mapping[str, Scalar]) -> dict[str, NDArray[Any]]:
    """Return the weights that the recipe's objective has on the pooled training rows."""
    plan = task.Plan.read(parameters)
    training, _ = task.split(frame, plan)
    return _fit(task.examples(training, plan), plan)


def train_alone(
    frame: pl.DataFrame, site: str, parameters: Mapping[str, Scalar]
) -> dict[str, NDArray[Any]]:
    """Return the weights that ``site`` finds on its own training rows."""
    return train_pooled(frame.filter(pl.col(SITE) == site), parameters)


def _fit(examples: Any, plan: Any) -> dict[str, NDArray[Any]]:
    if len(examples) == 0:
        raise DataError("There is nobody to train on; lower the held-out fraction.")
    # Gradient descent converges when its step is at most 1 / L. For the log loss of a linear
    # model L is a quarter of the largest eigenvalue of the inputs' second moments.
    inputs = np.column_stack([examples.inputs.double().numpy(), np.ones(len(examples))])
    largest = float(np.linalg.eigvalsh(inputs.T @ inputs / len(examples))[-1])
    step = 1 / (largest / 4 + plan.weight_decay)
    model = task.build_model(plan)
    plan = dataclasses.replace(plan, learning_rate=step, local_epochs=CONVERGED_STEPS)
    task.train(model, examples, plan)
    return {name: value.numpy() for name, value in model.state_dict().items()}


def predictions(
    weights: Weights, frame: pl.DataFrame, parameters: Mapping[str, Scalar]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return probability and outcome of each held-out row, in the order of subjects."""
    import torch

    plan = task.Plan.read(parameters)
    _, held_out = task.split(frame, plan)
    examples = task.examples(held_out, plan)
    model = task.build_model(plan)
    model.load_state_dict({name: torch.from_numpy(np.array(w)) for name, w in weights.items()})
    probabilities: Floats = task.predict(model, examples)
    return probabilities, examples.outcomes.numpy() > 0.5


# ---- scores ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % confidence interval."""

    estimate: float
    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        """Say whether the two intervals have a point in common."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Evaluation:
    """A model's scores on ``n`` held-out women, ``events`` of whom had the outcome."""

    auc: Interval
    brier: float
    n: int
    events: int


@dataclass(frozen=True)
class Difference:
    """AUC of one model minus that of another on the same women, with a two-sided p-value."""

    auc: Interval
    p_value: float


def delong(outcomes: NDArray[np.bool_], scores: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Return the AUC of each score (k) and their covariance (k x k).

    DeLong, DeLong and Clarke-Pearson, Biometrics 1988;44:837-45, by the ranks of Sun and Xu, IEEE
    Signal Processing Letters 2014;21:1389-93. Raises ``DataError`` below two women of either kind.
    """
    m, n = int(outcomes.sum()), int((~outcomes).sum())
    if m < 2 or n < 2:
        raise DataError(f"{m} events among {m + n} held-out women don't give an AUC's interval.")
    table = np.stack(scores)
    with_, without = table[:, outcomes], table[:, ~outcomes]
    ranks = np.stack([_midranks(row) for row in np.hstack([with_, without])])
    own_with = np.stack([_midranks(row) for row in with_])
    own_without = np.stack([_midranks(row) for row in without])
    below = (ranks[:, :m] - own_with) / n
    above = 1 - (ranks[:, m:] - own_without) / m
    covariance = np.atleast_2d(np.cov(below)) / m + np.atleast_2d(np.cov(above)) / n
    return below.mean(axis=1), covariance


def _midranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    midranks: Floats = (last - (counts - 1) / 2)[inverse]
    return midranks


def score(probabilities: Floats, outcomes: NDArray[np.bool_]) -> Evaluation:
    """Return AUC with DeLong's interval (cut at 0 and 1), and Brier score."""
    aucs, covariance = delong(outcomes, [probabilities])
    return Evaluation(
        auc=_interval(float(aucs[0]), float(covariance[0, 0]), 0.0, 1.0),
        brier=float(np.mean((probabilities - outcomes) ** 2)),
        n=int(outcomes.size),
        events=int(outcomes.sum()),
    )


def evaluate(weights: Weights, frame: pl.DataFrame, parameters: Mapping[str, Scalar]) -> Evaluation:
    """Return the model's scores on the held-out women of ``frame``."""
    return score(*predictions(weights, frame, parameters))


def difference(outcomes: NDArray[np.bool_], one: Floats, other: Floats) -> Difference:
    """Return DeLong's paired difference ``one - other`` on the same women."""
    aucs, covariance = delong(outcomes, [one, other])
    delta = float(aucs[0] - aucs[1])
    variance = max(float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]), 0.0)
    if variance < 1e-15:
        # Both put the women in the same order, or one errs about all of them alike.
        return Difference(Interval(delta, delta, delta), 1.0 if abs(delta) < 1e-9 else 0.0)
    p_value = 2 * NormalDist().cdf(-abs(delta) / math.sqrt(variance))
    return Difference(_interval(delta, variance, -1.0, 1.0), p_value)


def _interval(estimate: float, variance: float, lowest: float, highest: float) -> Interval:
    half = _Z * math.sqrt(max(variance, 0.0))
    return Interval(estimate, max(estimate - half, lowest), min(estimate + half, highest))


# ---- what is shown -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One model: what it was trained on, its scores, and federated minus it (None for itself)."""

    model: str
    trained_on: int
    evaluation: Evaluation
    federated_minus_it: Difference | None


def compare(
    federated: Weights, frame: pl.DataFrame, parameters: Mapping[str, Scalar]
) -> tuple[Row, ...]:
    """Return the rows: federated, pooled, then each site alone, all on the same held-out women."""
    plan = task.Plan.read(parameters)
    training, _ = task.split(frame, plan)
    models: list[tuple[str, int, Weights]] = [
        ("pooled", training.height, train_pooled(frame, parameters))
    ]
    for site in sorted(frame[SITE].unique().to_list()):
        own = training.filter(pl.col(SITE) == site).height
        models.append((f"{site} alone", own, train_alone(frame, site, parameters)))
    ours, outcomes = predictions(federated, frame, parameters)
    rows = [Row("federated", training.height, score(ours, outcomes), None)]
    for name, size, weights in models:
        theirs, _ = predictions(weights, frame, parameters)
        against = difference(outcomes, ours, theirs)
        rows.append(Row(name, size, score(theirs, outcomes), against))
    return tuple(rows)


def conclusion(rows: Sequence[Row]) -> str:
    """Say in one sentence what the intervals allow to be said, computed from them."""
    federated = rows[0].evaluation
    apart = [
        row.model
        for row in rows[1:]
        if row.federated_minus_it is not None
        and row.federated_minus_it.auc.low * row.federated_minus_it.auc.high > 0
    ]
    among = f"With {federated.events} preterm births among {federated.n} held-out women"
    if apart:
        return (
            f"{among}, the paired difference from the federated model excludes zero for "
            f"{', '.join(apart)} ({len(rows) - 1} comparisons, not adjusted for their number)."
        )
    if all(row.evaluation.auc.overlaps(federated.auc) for row in rows[1:]):
        return (
            f"{among}, all intervals overlap and every paired difference includes zero: "
            "these data can't tell the models apart."
        )
    return f"{among}, every paired difference includes zero: these data can't tell them apart."


def table(rows: Sequence[Row]) -> Table:
    """Return the comparison as a table for the terminal, with its conclusion below."""
    shown = Table(
        title="Preterm birth, on the same held-out women of all hospitals",
        caption=conclusion(rows),
        caption_justify="left",
    )
    shown.add_column("model")
    shown.add_column("trained on", justify="right")
    shown.add_column("AUC (95 % interval)", justify="right")
    shown.add_column("Brier", justify="right")
    shown.add_column("federated minus it", justify="right")
    for row in rows:
        against = row.federated_minus_it
        shown.add_row(
            row.model,
            str(row.trained_on),
            _written(row.evaluation.auc, "{:.3f}"),
            f"{row.evaluation.brier:.4f}",
            "" if against is None else _written(against.auc, "{:+.3f}"),
        )
    return shown


def _written(interval: Interval, form: str) -> str:
    low, high = form.format(interval.low), form.format(interval.high)
    return f"{form.format(interval.estimate)} ({low} to {high})"

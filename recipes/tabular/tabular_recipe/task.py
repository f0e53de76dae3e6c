"""What is learned: the run's plan, a table as tensors, the model, its training and scores.

Nothing here knows of messages or networks, so the same code trains on one table or on many. No
error text holds a value of the table: an exception in a client travels to the server.
"""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from learning import releases
from learning.releases import NAME, SUBJECT, Release

MISSING = ":missing"
TEST = "test"
"""What a split's column says of those held out."""

Scalar = bool | int | float | str
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Feature:
    """One input: a number's value, a category's level (``name=level``), or ``name:missing``.

    ``mean`` and ``sd`` are those of the whole federation: the input is ``(x - mean) / sd``, and a
    missing ``x`` is imputed with the mean, so that it becomes 0. With ``standardise = "sums"``, the
    model does that itself (``Scale``), and they are 0 and 1 here.
    """

    column: str
    level: str | None
    of_missing: bool
    mean: float
    sd: float

    @classmethod
    def parse(cls, text: str, mean: float, sd: float) -> Feature:
        """Return the feature called ``text``; ``ValueError`` when it or its scale is malformed."""
        of_missing = text.endswith(MISSING)
        column, equals, level = text.removesuffix(MISSING).partition("=")
        if not NAME.match(column) or (equals and (of_missing or not level)):
            raise ValueError(f"features: {text!r} is not name, name=level or name:missing")
        if not (math.isfinite(mean) and math.isfinite(sd) and sd > 0):
            raise ValueError(f"standard-deviations: {text!r} needs a finite mean and an sd above 0")
        return cls(column, level if equals else None, of_missing, mean, sd)

    def values(self, frame: pl.DataFrame) -> Floats:
        """Return the standardised input, one float32 for each row."""
        raw = self.raw(frame)
        return np.nan_to_num((raw - self.mean) / self.sd, nan=0.0).astype(np.float32)

    def raw(self, frame: pl.DataFrame) -> NDArray[np.float64]:
        """Return the values as they are, one for each row, NaN where missing."""
        column = _column(frame, self.column)
        if self.of_missing:
            raw = column.is_null().cast(pl.Float64)
        elif self.level is not None:
            raw = (_text(column) == self.level).cast(pl.Float64)
        elif column.dtype.is_numeric() or column.dtype == pl.Boolean:
            raw = column.cast(pl.Float64)
        else:
            raise ValueError(f"column {self.column!r} is no number; write it as name=level")
        found: NDArray[np.float64] = raw.fill_null(float("nan")).to_numpy()
        return found


@dataclass(frozen=True)
class Plan:
    """What a run is told: data, model, optimisation. Made from the run config by ``Plan.read``."""

    table: str
    outcome: str
    positive: str
    features: tuple[Feature, ...]
    by_sums: bool
    split_column: str
    hidden_units: int
    seed: int
    local_epochs: int
    learning_rate: float
    weight_decay: float
    held_out: float
    split_seed: int
    membership_report: bool
    dp_sgd: bool
    noise_multiplier: float
    clip_norm: float
    sampling: float
    delta: float

    @classmethod
    def read(cls, config: Mapping[str, Scalar]) -> Plan:
        """Return the plan of a run config; ``ValueError`` names the key that doesn't fit."""
        names = _list(str(config["features"]))
        by_sums = str(config["standardise"]) == "sums"
        if not by_sums and config["standardise"] != "given":
            raise ValueError("standardise: must be given or sums")
        if by_sums and (config["means"] or config["standard-deviations"]):
            raise ValueError("standardise: sums needs no means and no standard-deviations")
        means = [0.0] * len(names) if by_sums else _numbers(config, "means", len(names))
        sds = [1.0] * len(names) if by_sums else _numbers(config, "standard-deviations", len(names))
        if not names or len(set(names)) != len(names):
            raise ValueError("features: at least one is needed, and each only once")
        plan = cls(
            table=str(config["table"]),
            outcome=str(config["outcome"]),
            positive=str(config["positive"]),
            features=tuple(
                Feature.parse(n, m, s) for n, m, s in zip(names, means, sds, strict=True)
            ),
            by_sums=by_sums,
            split_column=str(config["split-column"]),
            hidden_units=int(config["hidden-units"]),
            seed=int(config["seed"]),
            local_epochs=int(config["local-epochs"]),
            learning_rate=float(config["learning-rate"]),
            weight_decay=float(config["weight-decay"]),
            held_out=float(config["held-out"]),
            split_seed=int(config["split-seed"]),
            membership_report=bool(config["membership-report"]),
            dp_sgd=bool(config["dp-sgd"]),
            noise_multiplier=float(config["dp-noise-multiplier"]),
            clip_norm=float(config["dp-clip-norm"]),
            sampling=float(config["dp-sampling"]),
            delta=float(config["dp-delta"]),
        )
        plan._check()
        return plan

    def _check(self) -> None:
        for key, name in (("table", self.table), ("outcome", self.outcome)):
            if not NAME.match(name):
                raise ValueError(f"{key}: {name!r} is not a name")
        if self.split_column and not NAME.match(self.split_column):
            raise ValueError("split-column: is not a name")
        if self.by_sums and self.dp_sgd:
            raise ValueError("dp-sgd: exact sums would tell what it hides; give the means")
        if self.outcome in {f.column for f in self.features}:
            raise ValueError(f"features: {self.outcome!r} is the outcome")
        if not 0 <= self.hidden_units <= 1024:
            raise ValueError("hidden-units: must be 0 (logistic regression) to 1024")
        if not 1 <= self.local_epochs <= 1000:
            raise ValueError("local-epochs: must be 1 to 1000")
        if not (self.learning_rate > 0 and self.weight_decay >= 0):
            raise ValueError("learning-rate must be above 0, weight-decay 0 or above")
        if not self.learning_rate * self.weight_decay < 1:
            raise ValueError("learning-rate times weight-decay must be below 1 for steps to shrink")
        if not 0 <= self.held_out < 1:
            raise ValueError("held-out: must be a fraction, 0 or above and below 1")
        if not (self.noise_multiplier > 0 and self.clip_norm > 0):
            raise ValueError("dp-noise-multiplier and dp-clip-norm must be above 0")
        if not (0 < self.sampling <= 1 and 0 < self.delta < 1):
            raise ValueError("dp-sampling must be above 0, at most 1, dp-delta between 0 and 1")


@dataclass(frozen=True)
class Examples:
    """Inputs (n x features, float32, standardised) and outcomes (n, float32, 0 or 1)."""

    inputs: Tensor
    outcomes: Tensor

    def __len__(self) -> int:
        return int(self.outcomes.shape[0])


def read_table(release: Path, plan: Plan) -> pl.DataFrame:
    """Return the columns of the release's table that the plan needs; needs ``manifest.json``."""
    wanted = {plan.outcome, *(f.column for f in plan.features)}
    wanted |= {plan.split_column} - {""}
    return Release(release).table(plan.table, sorted(wanted))


@functools.lru_cache(maxsize=4)
def of_release(release: Path, plan: Plan) -> tuple[Examples, Examples]:
    """Return a release's examples to train on and those held out, read once for all rounds."""
    training, held_out = split(read_table(release, plan), plan)
    return examples(training, plan), examples(held_out, plan)


def is_held_out(subject: str, plan: Plan) -> bool:
    """Say whether a subject is held out by ``held-out`` and ``split-seed``."""
    return releases.is_held_out(subject, plan.held_out, plan.split_seed)


def split(frame: pl.DataFrame, plan: Plan) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows to train on and those held out, of subjects whose outcome is known."""
    known = frame.filter(_column(frame, plan.outcome).is_not_null())
    if plan.split_column:
        held_out = (_text(_column(known, plan.split_column)) == TEST).fill_null(False)
    else:
        held_out = pl.Series(
            (is_held_out(subject, plan) for subject in _text(known[SUBJECT])), dtype=pl.Boolean
        )
    return known.filter(~held_out), known.filter(held_out)


def examples(frame: pl.DataFrame, plan: Plan) -> Examples:
    """Return a frame's rows as tensors, in an order that doesn't depend on the file's."""
    frame = frame.sort(SUBJECT, maintain_order=True)
    if plan.by_sums:
        inputs = raw(frame, plan).astype(np.float32)
    else:
        inputs = np.stack([feature.values(frame) for feature in plan.features], axis=1)
    positive = (_text(_column(frame, plan.outcome)) == plan.positive).cast(pl.Float32)
    # Copied, since a matrix product's last bits depend on how its memory is aligned.
    return Examples(torch.from_numpy(inputs), torch.from_numpy(positive.to_numpy().copy()))


def raw(frame: pl.DataFrame, plan: Plan) -> NDArray[np.float64]:
    """Return the features as they are (n x features), NaN where missing."""
    return np.stack([feature.raw(frame) for feature in plan.features], axis=1)


class Scale(nn.Module):
    """Inputs as they are in, standardised ones out; a missing one becomes the mean."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("sd", torch.ones(width))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``(x - mean) / sd``, and 0 where ``x`` is missing."""
        return torch.nan_to_num((inputs - self.mean) / self.sd, nan=0.0)


def build_model(plan: Plan) -> nn.Module:
    """Return the model at its start: zeros for logistic regression, seeded for a network.

    It maps inputs (n x features) to logits (n x 1). With ``standardise = "sums"`` its first layer,
    ``scale``, holds the federation's means and standard deviations.
    """
    layers = _layers(plan)
    if not plan.by_sums:
        return nn.Sequential(*layers)
    named = [("scale", Scale(len(plan.features))), *((str(i), x) for i, x in enumerate(layers))]
    return nn.Sequential(OrderedDict(named))


def _layers(plan: Plan) -> list[nn.Module]:
    width = len(plan.features)
    if plan.hidden_units == 0:
        linear = nn.Linear(width, 1)
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        return [linear]
    generator = torch.Generator().manual_seed(plan.seed)
    first, last = nn.Linear(width, plan.hidden_units), nn.Linear(plan.hidden_units, 1)
    for layer in (first, last):
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
    return [first, nn.Tanh(), last]


def train(model: nn.Module, data: Examples, plan: Plan) -> float:
    """Take ``local_epochs`` full-batch gradient steps; return the mean log loss after them.

    The objective is the mean log loss plus ``weight_decay / 2`` times the squared weights (biases
    are free). One step per round, averaged by number of examples, is exactly the gradient step of
    the pooled objective.
    """
    torch.set_num_threads(1)
    if len(data) == 0:
        return 0.0
    optimiser = descent(model, plan)
    model.train()
    for _ in range(plan.local_epochs):
        optimiser.zero_grad()
        _log_loss(model, data).backward()
        optimiser.step()
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
        raise ValueError("training diverged; choose a smaller learning-rate")
    with torch.no_grad():
        return float(_log_loss(model, data))


def descent(model: nn.Module, plan: Plan) -> torch.optim.SGD:
    """Return gradient descent in which weights shrink and biases don't."""
    weights = [p for name, p in model.named_parameters() if name.endswith("weight")]
    biases = [p for name, p in model.named_parameters() if not name.endswith("weight")]
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": plan.weight_decay},
        {"params": biases},
    ]
    return torch.optim.SGD(groups, lr=plan.learning_rate)


def predict(model: nn.Module, data: Examples) -> NDArray[np.float64]:
    """Return each row's probability of the positive outcome."""
    model.eval()
    with torch.no_grad():
        logits: Tensor = model(data.inputs).squeeze(1)
    probabilities: NDArray[np.float64] = torch.sigmoid(logits.double()).numpy()
    return probabilities


@dataclass(frozen=True)
class Scores:
    """Mean log loss and Brier score of ``n`` held-out rows; zeros without rows."""

    n: int
    loss: float
    brier: float


def evaluate(model: nn.Module, data: Examples) -> Scores:
    """Score the model; every score is finite."""
    torch.set_num_threads(1)
    if len(data) == 0:
        return Scores(0, 0.0, 0.0)
    with torch.no_grad():
        loss = float(_log_loss(model, data))
    brier = float(np.mean((predict(model, data) - data.outcomes.double().numpy()) ** 2))
    return Scores(len(data), loss, brier)


def membership(model: nn.Module, members: Examples, others: Examples) -> tuple[float, float]:
    """Return (AUC, true positives at 1% false ones) of telling who was trained on by their loss.

    A loss below a threshold says "trained on" (Yeom et al. 2018; Carlini et al. 2022 for the rate).
    Chance, (0.5, 0.01), when there is nobody on one side.
    """
    if not len(members) or not len(others):
        return 0.5, 0.01
    inside, outside = (_losses(model, data) for data in (members, others))
    ordered = np.sort(outside)
    above = outside.size - np.searchsorted(ordered, inside, "right")
    ties = np.searchsorted(ordered, inside, "right") - np.searchsorted(ordered, inside, "left")
    auc = float((above + ties / 2).sum()) / (inside.size * outside.size)
    threshold = ordered[math.floor(0.01 * outside.size + 1e-9)]
    return auc, float(np.count_nonzero(inside < threshold)) / inside.size


def _losses(model: nn.Module, data: Examples) -> NDArray[np.float64]:
    model.eval()
    with torch.no_grad():
        losses: Tensor = nn.functional.binary_cross_entropy_with_logits(
            model(data.inputs).squeeze(1), data.outcomes, reduction="none"
        )
    found: NDArray[np.float64] = losses.double().numpy()
    return found


def _log_loss(model: nn.Module, data: Examples) -> Tensor:
    logits = model(data.inputs).squeeze(1)
    return nn.functional.binary_cross_entropy_with_logits(logits, data.outcomes)


def _column(frame: pl.DataFrame, name: str) -> pl.Series:
    if name not in frame.columns:
        raise ValueError(f"the table has no column {name!r}")
    return frame[name]


def _text(column: pl.Series) -> pl.Series:
    """Values as text, so that a level is compared alike whatever type the table gave it."""
    return column.cast(pl.String)


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(config: Mapping[str, Scalar], key: str, count: int) -> Sequence[float]:
    parts = _list(str(config[key]))
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        raise ValueError(f"{key}: not all of them are numbers") from None
    if len(numbers) != count:
        raise ValueError(f"{key}: {len(numbers)} given for {count} features")
    return numbers

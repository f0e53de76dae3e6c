"""What is learned: the run's plan, a table as tensors, the model and its scores.

No error text holds a value of the table: an exception in a client travels to the server.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from learning import releases, rounds, training
from learning.releases import NAME, SUBJECT, Release
from learning.training import Scalar
from prognosis_recipe.survival import Ties, concordance, partial_loss

TEST = "test"
"""What a split's column says of those held out."""


@dataclass(frozen=True)
class Feature:
    """One input: a number (``age``) or a level of a category (``stage=II``: 1 or 0)."""

    column: str
    level: str | None

    @classmethod
    def parse(cls, text: str) -> Feature:
        """Return the feature called ``text``; ``ValueError`` when it is malformed."""
        column, equals, level = text.partition("=")
        if not NAME.match(column) or (equals and not level):
            raise ValueError(f"features: {text!r} is not name or name=level")
        return cls(column, level if equals else None)

    def values(self, frame: pl.DataFrame) -> NDArray[np.float64]:
        """Return the values as they are, NaN where missing."""
        column = frame[self.column]
        if self.level is not None:
            raw = (column.cast(pl.String) == self.level).cast(pl.Float64)
        elif column.dtype.is_numeric() or column.dtype == pl.Boolean:
            raw = column.cast(pl.Float64)
        else:
            raise ValueError(f"column {self.column!r} is no number; write it as name=level")
        found: NDArray[np.float64] = raw.fill_null(float("nan")).to_numpy()
        return found


@dataclass(frozen=True)
class Plan:
    """What a run is told of data and model. Made from the run config by ``Plan.read``."""

    table: str
    time: str
    event: str
    positive: str
    features: tuple[Feature, ...]
    standardise: bool
    hidden_units: int
    hidden_layers: int
    dropout: float
    ties: Ties
    event_share: float
    seed: int
    held_out: float
    split_seed: int
    split_column: str

    @classmethod
    def read(cls, config: Mapping[str, Scalar]) -> Plan:
        """Return the plan of a run config; ``ValueError`` names the key that doesn't fit."""
        names = [part.strip() for part in str(config["features"]).split(",") if part.strip()]
        if not names or len(set(names)) != len(names):
            raise ValueError("features: at least one is needed, and each only once")
        ties: dict[str, Literal["breslow", "efron"]] = {"breslow": "breslow", "efron": "efron"}
        if config["ties"] not in ties:
            raise ValueError("ties: must be breslow or efron")
        plan = cls(
            table=str(config["table"]),
            time=str(config["time"]),
            event=str(config["event"]),
            positive=str(config["positive"]),
            features=tuple(map(Feature.parse, names)),
            standardise=bool(config["standardise"]),
            hidden_units=int(config["hidden-units"]),
            hidden_layers=int(config["hidden-layers"]),
            dropout=float(config["dropout"]),
            ties=ties[str(config["ties"])],
            event_share=float(config["event-share"]),
            seed=int(config["seed"]),
            held_out=float(config["held-out"]),
            split_seed=int(config["split-seed"]),
            split_column=str(config["split-column"]),
        )
        plan.check()
        return plan

    def check(self) -> None:
        """Raise ``ValueError`` that names the key that is out of its range."""
        for key, name in (("table", self.table), ("time", self.time), ("event", self.event)):
            if not NAME.match(name):
                raise ValueError(f"{key}: is not a name")
        if self.split_column and not NAME.match(self.split_column):
            raise ValueError("split-column: is not a name")
        if {self.time, self.event} & {feature.column for feature in self.features}:
            raise ValueError("features: time or event is among them")
        if not (0 <= self.hidden_units <= 1024 and 1 <= self.hidden_layers <= 8):
            raise ValueError("hidden-units must be 0 (Cox) to 1024, hidden-layers 1 to 8")
        if not 0 <= self.event_share <= 1:
            raise ValueError("event-share must be 0 to 1")
        if not (0 <= self.dropout < 1 and 0 <= self.held_out < 1):
            raise ValueError("dropout and held-out must be 0 or above and below 1")


@dataclass(frozen=True)
class Patients:
    """Features as they are (n x features, NaN where missing), times and events (n)."""

    rows: NDArray[np.float64]
    times: NDArray[np.float64]
    events: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.times)

    @property
    def tensors(self) -> TensorDataset:
        """Inputs, times and events in float32."""
        parts = (self.rows, self.times, self.events)
        return TensorDataset(*(torch.tensor(part, dtype=torch.float32) for part in parts))


@functools.lru_cache(maxsize=4)
def of_release(release: Path, plan: Plan) -> tuple[Patients, Patients]:
    """Return those to train on and those held out, whose time and event are known."""
    wanted = {plan.time, plan.event, *(feature.column for feature in plan.features)}
    frame = Release(release).table(plan.table, sorted(wanted | {plan.split_column} - {""}))
    time = frame[plan.time]
    if not time.dtype.is_numeric():
        raise ValueError(f"column {plan.time!r} is no number")
    event = frame[plan.event].cast(pl.Float64 if plan.positive == "1" else pl.String, strict=False)
    happened = (event == 1.0) if plan.positive == "1" else (event == plan.positive)
    frame = frame.with_columns(time.cast(pl.Float64), happened.cast(pl.Float64).alias(plan.event))
    frame = frame.filter(
        pl.col(plan.time).is_not_null() & (pl.col(plan.time) >= 0) & event.is_not_null()
    )
    if plan.split_column:
        test = (frame[plan.split_column].cast(pl.String) == TEST).fill_null(False)
    else:
        test = pl.Series(
            [
                releases.is_held_out(subject, plan.held_out, plan.split_seed)
                for subject in frame[SUBJECT].cast(pl.String)
            ],
            dtype=pl.Boolean,
        )
    return _patients(frame.filter(~test), plan), _patients(frame.filter(test), plan)


def _patients(frame: pl.DataFrame, plan: Plan) -> Patients:
    rows = np.stack([feature.values(frame) for feature in plan.features], axis=1)
    return Patients(rows, frame[plan.time].to_numpy(), frame[plan.event].to_numpy())


class Risk(nn.Module):
    """The log relative hazard of each row: linear (Cox), or a network (DeepSurv).

    ``mean`` and ``sd`` are the federation's, and ``event_share`` is the share of its patients with
    the event; a missing value becomes the mean.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        width = len(plan.features)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("sd", torch.ones(width))
        self.register_buffer("event_share", torch.full((1,), plan.event_share or 1.0))
        layers: list[nn.Module] = []
        generator = torch.Generator().manual_seed(plan.seed)
        if plan.hidden_units:
            for _ in range(plan.hidden_layers):
                layers += [nn.Linear(width, plan.hidden_units), nn.SELU()]
                if plan.dropout:
                    layers.append(nn.AlphaDropout(plan.dropout))
                width = plan.hidden_units
        layers.append(nn.Linear(width, 1, bias=False))
        for layer in layers:
            if isinstance(layer, nn.Linear):
                with torch.no_grad():
                    # LeCun's start, which SELU needs; Cox's model starts at no effect.
                    spread = layer.in_features**-0.5 if plan.hidden_units else 0.0
                    layer.weight.normal_(0, 1, generator=generator).mul_(spread)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (n) risks of inputs as they are (n x features)."""
        standard = torch.nan_to_num((inputs - self.mean) / self.sd, nan=0.0)
        risks: Tensor = self.layers(standard).squeeze(1)
        return risks


def chosen(config: Mapping[str, Scalar], plan: Plan) -> dict[str, Scalar]:
    """Return the run config with ``strategy`` "auto" decided.

    Cox's model, of which a round is the gradient, is solved by L-BFGS; all else is averaged.
    """
    if config["strategy"] != "auto":
        return dict(config)
    solved = not plan.hidden_units and rounds.is_full_gradient(config)
    return {**config, "strategy": "lbfgs" if solved else "fedavg"}


def loss(model: Risk, batch: tuple[Tensor, Tensor, Tensor], ties: Ties) -> Tensor:
    """Return a batch's partial loss as one stratum: for each event that so many patients have.

    That is by the federation's share. By the batch's own events, a batch (or a hospital) with one
    would push as hard as one with ten.
    """
    inputs, times, events = batch
    value = partial_loss(model(inputs).float(), times, events, ties) * events.mean()
    return (value / model.event_share).squeeze()


@dataclass(frozen=True)
class Scores:
    """Of held-out patients: partial loss, Harrell's C, how many, and pairs that compare."""

    loss: float
    concordance: float
    n: int
    pairs: int


def risks(model: nn.Module, patients: Patients) -> NDArray[np.float64]:
    """Return each patient's log relative hazard."""
    model.eval().to(training.device())
    with torch.no_grad():
        found = [model(inputs) for inputs, *_ in training.batches(patients.tensors, 4096)]
    return torch.cat(found).double().cpu().numpy() if found else np.zeros(0)


def evaluate(model: nn.Module, patients: Patients, ties: Ties) -> Scores:
    """Score the model on patients of one hospital; every score is finite."""
    if not len(patients):
        return Scores(0.0, 0.5, 0, 0)
    found = risks(model, patients)
    value = partial_loss(
        *(torch.tensor(part) for part in (found, patients.times, patients.events)), ties
    )
    index, pairs = concordance(found, patients.times, patients.events)
    return Scores(float(value), index, len(patients), pairs)

"""What is learned and then explained: the network, its loss, scores, a hospital's explanation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from explanation_recipe import aggregates
from explanation_recipe.attributions import by_region, grad_cam, integrated_gradients
from explanation_recipe.patients import Patients
from explanation_recipe.plan import Plan
from learning import networks, training

_AT_ONCE = 64


class TableModel(nn.Module):
    """Rows as they are, NaN where missing, to logits; scaled by the federation's mean and sd."""

    def __init__(self, features: int, hidden_units: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("sd", torch.ones(features))
        if hidden_units:
            layers = [nn.Linear(features, hidden_units), nn.Tanh(), nn.Linear(hidden_units, 1)]
            self.answer = nn.Sequential(*layers)
        else:
            self.answer = nn.Sequential(nn.Linear(features, 1))

    def scaled(self, rows: Tensor) -> Tensor:
        """Return rows about mean 0 and sd 1; what is missing is at the mean."""
        return torch.nan_to_num((rows - self.mean) / self.sd)

    def forward(self, rows: Tensor) -> Tensor:
        """Return logits (n, 1)."""
        found: Tensor = self.answer(self.scaled(rows))
        return found


def build_model(plan: Plan) -> nn.Module:
    """Return the network at its start; the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        if plan.images:
            return networks.classifier("small", dimensions=2, channels=1, outputs=1)
        return TableModel(len(plan.features), plan.hidden_units)


def template(plan: Plan) -> dict[str, NDArray[np.float32]]:
    """Return an explanation of nothing: the form of what leaves."""
    nobody = np.zeros(0, dtype=np.bool_)
    if plan.images:
        found = aggregates.of_regions(np.zeros((0, *plan.regions)), 1)
    else:
        width = len(plan.features)
        found = aggregates.of_features(np.zeros((0, width)), np.zeros((0, width)), 1)
        if plan.rules:
            holds = np.zeros((0, len(plan.rules)), dtype=np.bool_)
            found |= aggregates.of_rules(holds, nobody, nobody, 1, 1)
    return {name: np.zeros(value.shape, np.float32) for name, value in found.items()}


class Part(Dataset[Any]):
    """Some of the patients as (inputs, outcome)."""

    def __init__(self, patients: Patients, chosen: NDArray[np.bool_]) -> None:
        self._patients = patients
        self._index = np.flatnonzero(chosen)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        at = self._index[index : index + 1]
        return self._patients.inputs(at)[0], torch.tensor(float(self._patients.positive[at[0]]))


def loss(model: nn.Module, batch: Any) -> Tensor:
    """Return the mean log loss of a batch."""
    inputs, positive = batch
    logits = model(inputs).squeeze(1).float()
    return nn.functional.binary_cross_entropy_with_logits(logits, positive)


def evaluate(model: nn.Module, part: Part) -> tuple[float, float]:
    """Return the mean log loss and the share told right; zeros of nobody."""
    if len(part) == 0:
        return 0.0, 0.0
    model.to(training.device()).eval()
    logits, known = [], []
    with torch.no_grad():
        for inputs, positive in training.batches(part, _AT_ONCE):
            logits.append(model(inputs).squeeze(1).float())
            known.append(positive)
    found, wanted = torch.cat(logits), torch.cat(known)
    mean = nn.functional.binary_cross_entropy_with_logits(found, wanted)
    return float(mean), float(((found > 0) == (wanted > 0)).float().mean())


@dataclass(frozen=True)
class Explained:
    """What leaves of a hospital: arrays like the template, the gap to completeness, how many."""

    arrays: dict[str, NDArray[np.float32]]
    gap: float
    patients: int


def explain(
    model: nn.Module, patients: Patients, plan: Plan, drafts: Path | None = None
) -> Explained:
    """Explain the model's answers for all patients; with fewer than the minimum, for none.

    Of images, for all whom the model calls positive: a map is of evidence for that. ``drafts`` is
    where maps of single images are written. They stay in the hospital.
    """
    empty = template(plan)
    if drafts is None and len(patients) < plan.minimum_patients:
        return Explained(empty, 0.0, 0)
    model.to(training.device()).eval()
    found, gaps, logits = [], [], []
    for index in _parts(len(patients)):
        inputs = patients.inputs(index).to(training.device())
        with torch.no_grad():
            logits.append(model(inputs).squeeze(1).float().cpu())
        made, gap = _attributed(model, inputs, plan)
        gaps.append(gap.cpu())
        if drafts is not None and plan.images:
            for position, patient in enumerate(index):
                name = f"{patients.assets[int(patient)].digest}-saliency.png"
                _picture(made[position, 0]).save(drafts / name)
        made = by_region(made, plan.regions) if plan.images else made
        found.append(made.cpu().double().numpy())
    if len(patients) < plan.minimum_patients:
        return Explained(empty, 0.0, 0)
    whole, gap, k = np.concatenate(found), torch.cat(gaps), plan.minimum_patients
    predicted = torch.cat(logits).numpy() > 0
    if plan.images:
        whole, gap = whole[predicted], gap[torch.from_numpy(predicted)]
        if len(whole) < k:
            return Explained(empty, 0.0, 0)
        arrays = aggregates.of_regions(whole, k)
    else:
        arrays = aggregates.of_features(whole, patients.rows, k)
        if plan.rules:
            arrays |= aggregates.of_rules(
                patients.rules, patients.positive, predicted, k, plan.round_to
            )
    told = {name: value.astype(np.float32) for name, value in arrays.items()}
    return Explained(told, float(gap.mean()), len(whole))


def _attributed(model: nn.Module, inputs: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    """Return the attributions of inputs, and by how much each one's sum misses (0 of Grad-CAM)."""
    if plan.method == "grad-cam":
        found = grad_cam(model.features, model.fc, inputs)
        return found, torch.zeros(len(inputs))
    if isinstance(model, TableModel):
        # A missing value is at the mean, which is the baseline: it adds nothing.
        start, answer = model.scaled(inputs), model.answer
    else:
        start, answer = inputs, model
    baseline = torch.zeros_like(start)

    def logit(at: Tensor) -> Tensor:
        told: Tensor = answer(at).squeeze(1)
        return told

    found = integrated_gradients(logit, start, baseline, plan.path_steps)
    with torch.no_grad():
        missed = found.flatten(1).sum(1) - (logit(start) - logit(baseline))
    return found, missed.abs()


def _parts(number: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, number, _AT_ONCE):
        yield np.arange(start, min(start + _AT_ONCE, number))


def _picture(values: Tensor) -> Image.Image:
    scaled = values.abs() / values.abs().max().clamp_min(1e-12)
    return Image.fromarray((scaled * 255).round().to(torch.uint8).cpu().numpy())

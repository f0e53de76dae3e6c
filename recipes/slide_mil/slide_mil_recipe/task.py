"""What is learned: the network at its start, the loss of a batch of bags, and the scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from learning import training
from learning.loading import Examples
from slide_mil_recipe.network import BagClassifier
from slide_mil_recipe.plan import Plan

__all__ = ["Plan", "Scores", "auc", "build_model", "evaluate", "loss"]

_SCORED_AT_ONCE = 8


def build_model(plan: Plan) -> BagClassifier:
    """Return the network at its start; the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        return BagClassifier(plan.features, plan.width, plan.attention_units, plan.pooling)


def loss(model: nn.Module, batch: Any) -> Tensor:
    """Return the mean log loss of a batch of bags."""
    features, there, labels = batch
    return nn.functional.binary_cross_entropy_with_logits(model(features, there).float(), labels)


@dataclass(frozen=True)
class Scores:
    """Mean log loss, and area under the ROC curve: 0.5 where one class is missing."""

    loss: float = 0.0
    auc: float = 0.5


def evaluate(model: nn.Module, examples: Examples[Any]) -> Scores:
    """Score the model on bags; every score is finite."""
    if len(examples) == 0:
        return Scores()
    model.to(training.device()).eval()
    logits, labels = [], []
    with torch.no_grad():
        for features, there, known in training.batches(examples, _SCORED_AT_ONCE):
            logits.append(model(features, there).float().cpu())
            labels.append(known.cpu())
    found, known = torch.cat(logits), torch.cat(labels)
    mean = float(nn.functional.binary_cross_entropy_with_logits(found, known))
    return Scores(mean, auc(found.double().numpy(), known.numpy() > 0))


def auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Return how often a positive scores above a negative, ties half; 0.5 without both."""
    above, below = scores[positive], np.sort(scores[~positive])
    if not above.size or not below.size:
        return 0.5
    wins = np.searchsorted(below, above, "left") + np.searchsorted(below, above, "right")
    return float(wins.sum()) / (2 * above.size * below.size)

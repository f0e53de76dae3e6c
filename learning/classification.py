"""Classes of images: labels of a table, losses for rare and for ordered classes, scores.

Ordered classes (stages) are learned as the K - 1 questions "more than k?" of one network, so that a
mistake by two stages costs more than by one (Frank and Hall 2001). Rare classes weigh more
(``balanced``), or what is already sure weighs less (focal loss, Lin et al. 2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from flwr.app import MetricRecord
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from learning import networks, weights
from learning.releases import SUBJECT
from learning.run_config import Scalar, names
from learning.training import Batch, Loss

MAX_CLASSES = 100
HEADS = ("fc.", "class_layers.", "_fc.")
"""What the last layers of ``learning.networks`` are called."""


@dataclass(frozen=True)
class Classes:
    """The classes, in their order, and how they are learned."""

    names: tuple[str, ...]
    ordinal: bool = False
    weights: str = "none"
    """``none``, or ``balanced``: each class weighs the same at a hospital, however rare."""
    focal_gamma: float = 0.0

    @classmethod
    def read(cls, config: Mapping[str, Scalar]) -> Classes:
        """Return what a run config says; ``ValueError`` names the key that doesn't fit."""
        found = cls(
            names(config, "classes"),
            bool(config["ordinal"]),
            str(config["class-weights"]),
            float(config["focal-gamma"]),
        )
        if not 2 <= len(set(found.names)) == len(found.names) <= MAX_CLASSES:
            raise ValueError(f"classes: must be 2 to {MAX_CLASSES} different names, with commas")
        if found.weights not in ("none", "balanced"):
            raise ValueError("class-weights: must be none or balanced")
        if not 0 <= found.focal_gamma <= 5:
            raise ValueError("focal-gamma: must be 0 to 5")
        if found.ordinal and found.focal_gamma:
            raise ValueError("focal-gamma: must be 0 where ordinal is true")
        return found

    @property
    def outputs(self) -> int:
        """How many numbers a network gives."""
        return len(self.names) - self.ordinal


@dataclass(frozen=True)
class Classifier:
    """A network that tells classes, and what it begins from."""

    classes: Classes
    network: str
    normalisation: str
    weights: str
    seed: int

    @classmethod
    def read(cls, config: Mapping[str, Scalar]) -> Classifier:
        """Return what a run config says; ``ValueError`` names the key that doesn't fit."""
        return cls(
            Classes.read(config),
            str(config["network"]),
            str(config["normalisation"]),
            str(config["weights"]),
            int(config["seed"]),
        )

    def build(self, dimensions: int, channels: int) -> nn.Module:
        """Return the network, its weights drawn from ``seed``."""
        torch.manual_seed(self.seed)
        return networks.classifier(
            self.network,
            dimensions=dimensions,
            channels=channels,
            outputs=self.classes.outputs,
            normalised=self.normalisation,
        )

    def begin(self, model: nn.Module, node_config: Mapping[str, object]) -> None:
        """Set a hospital's approved weights, but for the last layer: it tells other classes."""
        if not self.weights:
            return
        found = weights.read(self.weights, weights.folder_of(node_config))
        weights.begin(model, {n: v for n, v in found.items() if not n.startswith(HEADS)})

    def loss(self, found: Sequence[int]) -> Loss:
        """Return the mean loss of a batch, of a hospital whose training examples' classes are so.

        A batch is (images, classes).
        """
        return loss_of(self.classes, weights_of(found, self.classes))


@dataclass(frozen=True)
class Scores:
    """Scores on ``n`` examples; all are 0 without any.

    ``balanced`` is the mean of the classes' recalls, over classes that occur; ``auc`` the mean of
    their areas under the curve, each against the rest (0.5 where one class alone occurs);
    ``distance`` the mean number of classes between told and true.
    """

    n: int = 0
    loss: float = 0.0
    accuracy: float = 0.0
    balanced: float = 0.0
    auc: float = 0.0
    distance: float = 0.0

    def metrics(self) -> MetricRecord:
        """Return them as they leave: ``eval_...`` and ``num-examples``."""
        return MetricRecord(
            {
                "eval_loss": self.loss,
                "eval_accuracy": self.accuracy,
                "eval_balanced_accuracy": self.balanced,
                "eval_auc": self.auc,
                "eval_distance": self.distance,
                "num-examples": self.n,
            }
        )


def labels(frame: pl.DataFrame, column: str, classes: Sequence[str]) -> dict[str, int]:
    """Return the class of each subject that has one; one with rows of several classes has none.

    Booleans are ``true`` and ``false``; other values go by their text. ``ValueError`` when a value
    is no class.
    """
    texts = frame[column].cast(pl.String)
    known = frame.select(pl.col(SUBJECT), texts.alias("label")).drop_nulls().unique()
    if not set(known["label"]) <= set(classes):
        raise ValueError(f"classes: column {column!r} has values that aren't listed")
    single = known.filter(pl.len().over(SUBJECT) == 1).sort(SUBJECT)
    return {subject: classes.index(label) for subject, label in single.iter_rows()}


def weights_of(found: Sequence[int], classes: Classes) -> Tensor:
    """Return how much an example of each class weighs; their mean over the examples is 1."""
    number = len(classes.names)
    if classes.weights == "none" or not found:
        return torch.ones(number)
    counts = torch.bincount(torch.tensor(found), minlength=number).float()
    present = int((counts > 0).sum())
    return torch.where(counts > 0, len(found) / (present * counts.clamp(min=1)), 0.0)


def loss_of(classes: Classes, weights: Tensor) -> Loss:
    """Return the mean loss of a batch (images, classes)."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        images, wanted = batch
        return (
            each_loss(model(images), wanted, classes) * weights.to(images.device)[wanted]
        ).mean()

    return loss


def each_loss(logits: Tensor, wanted: Tensor, classes: Classes) -> Tensor:
    """Return the loss of each example, in float32 whatever the network computes in."""
    logits = logits.float()
    if classes.ordinal:
        steps = torch.arange(classes.outputs, device=logits.device)
        above = (wanted[:, None] > steps).float()
        return functional.binary_cross_entropy_with_logits(logits, above, reduction="none").sum(1)
    entropy = functional.cross_entropy(logits, wanted, reduction="none")
    if not classes.focal_gamma:
        return entropy
    return (1 - torch.exp(-entropy)) ** classes.focal_gamma * entropy


def probabilities(logits: Tensor, classes: Classes) -> Tensor:
    """Return the probability of each class: (batch, classes)."""
    logits = logits.float()
    if not classes.ordinal:
        return logits.softmax(1)
    above = logits.sigmoid()
    ends = torch.ones_like(above[:, :1])
    above = torch.cat((ends, torch.cummin(above, 1).values, 0 * ends), 1)
    return above[:, :-1] - above[:, 1:]


def scores(told: Tensor, wanted: Tensor, loss: float) -> Scores:
    """Return the scores of probabilities (n, classes) against classes (n)."""
    if not len(wanted):
        return Scores()
    chosen = told.argmax(1)
    right = (chosen == wanted).float()
    found = sorted(set(wanted.tolist()))
    recalls = [float(right[wanted == index].mean()) for index in found]
    areas = [auc(told[:, index].numpy(), (wanted == index).numpy()) for index in found]
    return Scores(
        n=len(wanted),
        loss=loss,
        accuracy=float(right.mean()),
        balanced=float(np.mean(recalls)),
        auc=float(np.mean(areas)),
        distance=float((chosen - wanted).abs().float().mean()),
    )


def auc(score: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve (Mann and Whitney's U), ties counted half."""
    number = int(positive.sum())
    if number in (0, len(positive)):
        return 0.5
    _, where, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[where]
    rank_sum = float(ranks[positive].sum())
    return (rank_sum - number * (number + 1) / 2) / (number * (len(positive) - number))


def evaluate(model: nn.Module, examples: Sequence[tuple[Tensor, int]], classes: Classes) -> Scores:
    """Return the scores of a model on examples (image, class)."""
    from learning.training import batches, device

    model.to(device()).eval()
    told, wanted, total = [], [], 0.0
    with torch.inference_mode():
        for images, true in batches(examples, 32):
            logits = model(images)
            total += float(each_loss(logits, true, classes).sum())
            told.append(probabilities(logits, classes).cpu())
            wanted.append(true.cpu())
    if not told:
        return Scores()
    return scores(torch.cat(told), torch.cat(wanted), total / len(examples))

"""What is learned: images as logarithms, hidden pixels, the network and its truncated loss.

Speckle multiplies what is there, so its logarithm is added to it. The network sees an image with
some pixels hidden and says what they are, from those around them; since speckle can't be told from
a distance, what it says is the mean without it (Krull et al. 2019, "Noise2Void"). The logarithm of
speckle has a long dark tail; a loss that is truncated isn't drawn by it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from learning import pixels, releases, training
from learning.loading import Examples
from learning.releases import Asset, Release
from learning.training import Scalar

FLOOR = 1 / 255
"""Added before the logarithm is taken."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Plan:
    """What a run is told of data and model. Made from the run config by ``Plan.read``."""

    kind: str
    modality: str
    side: int
    patch: int
    channels: int
    depth: int
    hidden_share: float
    correlation: int
    truncation: float
    clip_residual: float
    seed: int
    held_out: float
    split_seed: int

    @classmethod
    def read(cls, config: Mapping[str, Scalar]) -> Plan:
        """Return the plan of a run config; ``ValueError`` names the key that doesn't fit."""
        plan = cls(
            kind=str(config["kind"]),
            modality=str(config["modality"]),
            side=int(config["side"]),
            patch=int(config["patch"]),
            channels=int(config["channels"]),
            depth=int(config["depth"]),
            hidden_share=float(config["hidden-share"]),
            correlation=int(config["correlation"]),
            truncation=float(config["truncation"]),
            clip_residual=float(config["clip-residual"]),
            seed=int(config["seed"]),
            held_out=float(config["held-out"]),
            split_seed=int(config["split-seed"]),
        )
        if plan.kind not in ("", "dicom", "photograph"):
            raise ValueError("kind: must be dicom, photograph or empty")
        if not (16 <= plan.patch <= plan.side <= 2048):
            raise ValueError("side and patch: 16 <= patch <= side <= 2048 must hold")
        if not (1 <= plan.channels <= 512 and 2 <= plan.depth <= 32):
            raise ValueError("channels must be 1 to 512, depth 2 to 32")
        if not 0 < plan.hidden_share <= 0.5:
            raise ValueError("hidden-share: must be above 0, at most 0.5")
        if not 1 <= plan.correlation <= 15:
            raise ValueError("correlation: must be 1 to 15")
        if not 0.5 <= plan.truncation <= 1:
            raise ValueError("truncation: must be 0.5 to 1")
        if not plan.clip_residual > 0:
            raise ValueError("clip-residual: must be above 0")
        if not 0 <= plan.held_out < 1:
            raise ValueError("held-out: must be 0 or above and below 1")
        return plan


@functools.lru_cache(maxsize=4)
def of_release(release: Path, plan: Plan) -> tuple[Examples[Asset], Examples[Asset]]:
    """Return the images to train on and those held out, as logarithms: (1, rows, columns)."""
    found = Release(release).assets(
        kind=plan.kind or None, modality=plan.modality.split(",") if plan.modality else None
    )
    images = [asset for asset in found if asset.kind in ("dicom", "photograph")]
    parts: tuple[list[Asset], list[Asset]] = ([], [])
    for asset in images:
        parts[releases.is_held_out(asset.subject, plan.held_out, plan.split_seed)].append(asset)
    read = functools.partial(_read, plan=plan)
    return Examples(parts[0], read), Examples(parts[1], read)


def _read(asset: Asset, plan: Plan) -> Tensor:
    return torch.from_numpy(logarithm(scaled(pixels.image(asset), plan.side)))[None]


def scaled(values: Floats, side: int) -> Floats:
    """Return an image from 0 to 1, its middle square at most ``side`` wide.

    It isn't resampled: that would change how speckle hangs together.
    """
    rows, columns = values.shape
    top, left = max(0, (rows - side) // 2), max(0, (columns - side) // 2)
    part = values[top : top + side, left : left + side]
    short = ((0, max(0, side - part.shape[0])), (0, max(0, side - part.shape[1])))
    low, high = float(values.min()), float(values.max())
    found: Floats = (part - np.float32(low)) / np.float32(max(high - low, 1e-6))
    return np.pad(found, short, mode="reflect") if any(map(sum, short)) else found


def logarithm(values: Floats) -> Floats:
    """Return the logarithm of an image from 0 to 1."""
    found: Floats = np.log(values + np.float32(FLOOR), dtype=np.float32)
    return found


class Denoiser(nn.Module):
    """A residual convolutional network (Zhang et al. 2017, DnCNN): a logarithm in, a clean one out.

    Group normalisation, whose values aren't those of a hospital's batches.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        torch.manual_seed(plan.seed)
        groups = math.gcd(plan.channels, 8)
        layers: list[nn.Module] = [nn.Conv2d(1, plan.channels, 3, padding=1), nn.ReLU()]
        for index in range(plan.depth - 2):
            # Some layers look further, so that the window grows with depth and not with cost.
            step = 1 + index % 3
            layers += [
                nn.Conv2d(plan.channels, plan.channels, 3, padding=step, dilation=step),
                nn.GroupNorm(groups, plan.channels),
                nn.ReLU(),
            ]
        layers.append(nn.Conv2d(plan.channels, 1, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, 1, rows, columns) for the same."""
        smooth = functional.avg_pool2d(images, 5, 1, 2, count_include_pad=False)
        found: Tensor = smooth + self.layers(images)
        return found


def hide(images: Tensor, generator: torch.Generator, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """Return patches with pixels hidden, the patches, and where pixels are hidden.

    A hidden pixel takes the value of one that is near but further than speckle hangs together
    (``correlation`` pixels); so do those around it.
    """
    count, _, rows, columns = images.shape
    tops = torch.randint(0, rows - plan.patch + 1, (count,), generator=generator)
    lefts = torch.randint(0, columns - plan.patch + 1, (count,), generator=generator)
    whole = torch.stack(
        [
            image[:, top : top + plan.patch, left : left + plan.patch]
            for image, top, left in zip(images, tops.tolist(), lefts.tolist(), strict=True)
        ]
    )
    size = (count, 1, plan.patch, plan.patch)
    chosen = torch.rand(size, generator=generator) < plan.hidden_share / plan.correlation**2
    width = 2 * plan.correlation - 1
    hidden = functional.max_pool2d(chosen.float(), width, 1, width // 2) > 0
    near, far = plan.correlation, plan.correlation + 3
    away = torch.randint(near, far + 1, (2,), generator=generator)
    signs = torch.randint(0, 2, (2,), generator=generator) * 2 - 1
    shift = (away * signs).tolist()
    others = torch.roll(whole, shifts=shift, dims=(2, 3))
    hidden, chosen = hidden.to(images.device), chosen.to(images.device)
    return torch.where(hidden, others, whole), whole, chosen


def truncated_loss(found: Tensor, truth: Tensor, where: Tensor, plan: Plan) -> Tensor:
    """Return the mean squared residual of the hidden pixels, truncated twice.

    Each residual counts as no more than ``clip-residual`` (Huber's loss beyond it), and only the
    smaller share ``truncation`` of them counts at all: the dark tail of speckle and what no
    neighbourhood tells (a needle, a caliper) move nothing.
    """
    residuals = (found - truth)[where]
    if residuals.numel() == 0:
        return found.sum() * 0
    losses = functional.huber_loss(
        residuals, torch.zeros_like(residuals), reduction="none", delta=plan.clip_residual
    )
    kept = max(1, math.floor(plan.truncation * losses.numel()))
    if kept < losses.numel():
        losses = torch.topk(losses, kept, largest=False, sorted=False).values
    return 2 * losses.mean()


def loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor], plan: Plan) -> Tensor:
    """Return the truncated loss of patches that ``hide`` made."""
    hidden, whole, where = batch
    return truncated_loss(model(hidden).float(), whole, where, plan)


def clean(model: nn.Module, image: Tensor) -> Tensor:
    """Return an image without speckle, 0 to 1: (rows, columns) of a logarithm (1, rows, columns).

    The mean of a logarithm is less than the logarithm of the mean: brightness is set to the
    image's own.
    """
    model.eval()
    with torch.no_grad():
        found = torch.exp(model(image[None])[0, 0])
    before = torch.exp(image[0])
    level = before.mean() / found.mean().clamp(min=1e-6)
    return (found * level - FLOOR).clamp(0, 1)


def looks(image: Tensor, block: int = 8) -> float:
    """Return the equivalent number of looks of an image's even parts: mean squared over variance.

    It is the median over the smoother half of its blocks; more looks is less speckle.
    """
    parts = image.unfold(0, block, block).unfold(1, block, block).reshape(-1, block * block)
    parts = parts[parts.mean(1) > 0.02]
    if not len(parts):
        return 0.0
    ratio = parts.var(1) / parts.mean(1).square()
    smooth = ratio.sort().values[: max(1, len(ratio) // 2)]
    return float(1 / smooth.median().clamp(min=1e-6))


@dataclass(frozen=True)
class Scores:
    """Of held-out images: the loss, and by what factor the number of looks grew."""

    loss: float
    gain: float
    n: int


def evaluate(model: nn.Module, images: Examples[Asset], plan: Plan) -> Scores:
    """Score the model; every score is finite."""
    if not len(images):
        return Scores(0.0, 1.0, 0)
    place = training.device()
    model.to(place).eval()
    generator = torch.Generator().manual_seed(training.seed_of(plan.seed, "evaluate"))
    total, gains = 0.0, []
    with torch.no_grad():
        for batch in training.batches(images, 8):
            hidden = hide(batch, generator, plan)
            total += float(loss(model, hidden, plan)) * len(batch)
            for image in batch:
                before = looks((torch.exp(image[0]) - FLOOR).clamp(0, 1).cpu())
                after = looks(clean(model, image).cpu())
                if before > 0 and after > 0:
                    gains.append(math.log(after / before))
    gain = math.exp(sum(gains) / len(gains)) if gains else 1.0
    return Scores(total / len(images), min(gain, 1e6), len(images))

"""Outlines of structures: pairs of image and mask in a release, the loss, Dice.

A pair is a group of the catalogue that links an image in one role and its mask in another: a
picture each, or the slices of a series each, or a DICOM segmentation as the mask.
Loss: soft Dice (Milletari et al. 2016) and cross-entropy together (Isensee et al. 2021, nnU-Net).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from learning import augmentation, masks, networks, pixels
from learning.loading import Examples
from learning.pixels import Floats
from learning.releases import Asset, Release, is_held_out, linked
from learning.training import Batch

MAX_STRUCTURES = 64
Scalar = bool | int | float | str


@dataclass(frozen=True)
class Network:
    """A U-Net, and how images are brought before it. ``shape`` is (rows, columns) or (slices, ...).

    ``window`` are the values that become -1 and 1; none: mean 0 and standard deviation 1.
    """

    structures: tuple[str, ...]
    shape: tuple[int, ...]
    colour: bool
    window: tuple[float, float] | None
    widths: tuple[int, ...]
    normalisation: str
    seed: int

    @classmethod
    def read(cls, config: Mapping[str, Scalar]) -> Network:
        """Return what a run config says; ``ValueError`` names the key that doesn't fit."""
        shape = _whole(config, "shape")
        widths = _whole(config, "widths")
        names = tuple(n.strip() for n in str(config["structures"]).split(","))
        low, high = float(config["window-low"]), float(config["window-high"])
        network = cls(
            structures=names,
            shape=shape,
            colour=bool(config["colour"]),
            window=(low, high) if (low, high) != (0.0, 0.0) else None,
            widths=widths,
            normalisation=str(config["normalisation"]),
            seed=int(config["seed"]),
        )
        if len(shape) not in (2, 3) or not all(8 <= side <= 1024 for side in shape):
            raise ValueError("shape: must be two or three sides of 8 to 1024")
        if math.prod(shape) > 2**24:
            raise ValueError("shape: is too large")
        if not 2 <= len(widths) <= 6 or not all(w % 4 == 0 and 4 <= w <= 512 for w in widths):
            raise ValueError("widths: must be 2 to 6 multiples of 4, up to 512")
        if not 1 <= len(names) <= MAX_STRUCTURES or len(set(names)) != len(names) or "" in names:
            raise ValueError(f"structures: must be 1 to {MAX_STRUCTURES} different names")
        if network.window is not None and not low < high:
            raise ValueError("window-low: must be below window-high")
        if network.colour and len(shape) == 3:
            raise ValueError("colour: is of pictures only")
        return network

    def build(self) -> nn.Module:
        """Return the network, its weights drawn from ``seed``."""
        torch.manual_seed(self.seed)
        return networks.UNet(
            len(self.shape),
            3 if self.colour else 1,
            len(self.structures) + 1,
            self.widths,
            self.normalisation,
        )

    def prepared(self, assets: Sequence[Asset]) -> Floats:
        """Return an image as the network sees it: (channels, ...)."""
        if self.colour:
            picture = pixels.colour(assets[0])
            planes = [pixels.resized(picture[..., c], self.shape) for c in range(3)]
            return np.stack(planes) * np.float32(2) - np.float32(1)
        values = self.values(assets)
        small = pixels.resized(values, self.shape)
        if self.window is None:
            return pixels.standardised(small)[None]
        return pixels.windowed(small, *self.window)[None] * np.float32(2) - np.float32(1)

    def values(self, assets: Sequence[Asset]) -> Floats:
        """Return the image's own values."""
        if len(self.shape) == 2:
            return pixels.image(assets[0])
        return pixels.volume(assets).values


def _whole(config: Mapping[str, Scalar], key: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in str(config[key]).split(","))
    except ValueError:
        raise ValueError(f"{key}: must be whole numbers, comma-separated") from None


# ---- what is learned from ------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """An image and its mask, each a picture or the instances of a series."""

    image: tuple[Asset, ...]
    mask: tuple[Asset, ...]


@dataclass(frozen=True)
class Pairs:
    """Which pairs of a release are learned from, and who of its patients is held out."""

    network: Network
    image_role: str
    mask_role: str
    held_out: float
    split_seed: int

    @classmethod
    def read(cls, config: Mapping[str, Scalar]) -> Pairs:
        """Return what a run config says; ``ValueError`` names the key that doesn't fit."""
        pairs = cls(
            Network.read(config),
            str(config["image-role"]),
            str(config["mask-role"]),
            float(config["held-out"]),
            int(config["split-seed"]),
        )
        if not pairs.image_role or pairs.image_role == pairs.mask_role:
            raise ValueError("image-role and mask-role: must be two roles of a group")
        if not 0 <= pairs.held_out < 1:
            raise ValueError("held-out: must be 0 or above and below 1")
        return pairs


@functools.cache
def examples(folder: Path, pairs: Pairs) -> tuple[Examples[Pair], Examples[Pair]]:
    """Return what to train on and what to score, as (image, mask); decoded once."""
    release = Release(folder)
    known = {asset.digest: asset for asset in release.assets()}
    halves: dict[bool, list[Pair]] = {False: [], True: []}
    for links in release.groups().values():
        image = linked(links, known, pairs.image_role)
        mask = linked(links, known, pairs.mask_role)
        if image and mask:
            held_out = is_held_out(image[0].subject, pairs.held_out, pairs.split_seed)
            halves[held_out].append(Pair(image, mask))
    read = functools.partial(_read, pairs.network)
    return Examples(halves[False], read), Examples(halves[True], read)


def _read(network: Network, pair: Pair) -> tuple[Tensor, Tensor]:
    image = network.prepared(pair.image)
    if len(network.shape) == 2:
        found = masks.of_picture(pair.mask[0], len(network.structures))
    else:
        volume = pixels.volume(pair.image)
        found = masks.of_volume(pair.mask, volume, len(network.structures))
    small = functional.interpolate(
        torch.from_numpy(found)[None, None].float(), network.shape, mode="nearest-exact"
    )
    return torch.from_numpy(image), small[0, 0].to(torch.uint8)


# ---- how ----------------------------------------------------------------------------------------


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return soft Dice loss of the structures plus cross-entropy, in float32."""
    images, outlines = batch
    logits = model(images).float()
    wanted = outlines.long()
    entropy = functional.cross_entropy(logits, wanted)
    told = logits.softmax(1)[:, 1:]
    true = functional.one_hot(wanted, logits.shape[1]).movedim(-1, 1)[:, 1:].to(told.dtype)
    axes = tuple(range(2, told.ndim))
    both = (told * true).sum(axes)
    all_of = told.sum(axes) + true.sum(axes)
    dice: Tensor = ((2 * both + 1) / (all_of + 1)).mean()
    return entropy + 1 - dice


def augment(batch: Batch, generator: torch.Generator) -> Batch:
    """Turn, move and brighten images, their masks with them. Not mirrored: left isn't right."""
    images, outlines = batch
    moved, along = augmentation.moved(images, generator, outlines, mirrored=())
    return augmentation.brightened(moved, generator), along


@dataclass(frozen=True)
class Overlap:
    """Scores on ``n`` images; 0 without any. ``dice`` is the mean over images and structures."""

    n: int = 0
    loss: float = 0.0
    dice: float = 0.0


def evaluate(model: nn.Module, pairs: Examples[Pair], structures: int) -> Overlap:
    """Return the scores of a model on examples (image, mask)."""
    from learning.training import batches, device

    model.to(device()).eval()
    found: list[float] = []
    total = 0.0
    with torch.inference_mode():
        for batch in batches(pairs, 1):
            total += float(loss(model, batch))
            told = model(batch[0]).argmax(1)
            found.append(dice(told[0].cpu().numpy(), batch[1][0].cpu().numpy(), structures))
    if not found:
        return Overlap()
    return Overlap(len(found), total / len(found), float(np.mean(found)))


def dice(
    told: np.ndarray[tuple[int, ...], np.dtype[np.integer]],
    true: np.ndarray[tuple[int, ...], np.dtype[np.integer]],
    structures: int,
) -> float:
    """Return the mean over structures of 2 |A and B| / (|A| + |B|); 1 where neither has it."""
    values = []
    for number in range(1, structures + 1):
        one, other = told == number, true == number
        size = int(one.sum()) + int(other.sum())
        values.append(2 * int((one & other).sum()) / size if size else 1.0)
    return float(np.mean(values))

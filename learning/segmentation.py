"""Outlines of structures: pairs of image and mask in a release, the loss, Dice.

A pair is a group of the catalogue that links an image in one role and its mask in another: a
picture each, or the slices of a series each, or a DICOM segmentation as the mask.
Losses: soft Dice (Milletari et al. 2016), cross-entropy, focal loss (Lin et al. 2017), or sums of
them, as in nnU-Net (Isensee et al. 2021).
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

from learning import augmentation, masks, networks, patches, pixels
from learning.loading import Examples
from learning.patches import Patches
from learning.pixels import Floats
from learning.releases import Asset, Release, linked
from learning.run_config import Scalar, whole_numbers
from learning.splits import Split
from learning.training import Batch, Local, Loss, device, seed_of

MAX_STRUCTURES = 64
LOSSES = ("dice-ce", "dice", "ce", "dice-focal")
_FOCAL = 2.0
_SLAB = 2**21
"""Voxels whose loss is worked out at once."""


@dataclass(frozen=True)
class Network:
    """A U-Net, and how images are brought before it. ``shape`` is (rows, columns) or (slices, ...).

    Without ``patches`` every image is brought to ``shape``. With so many of each image, it keeps
    its size at ``spacing_mm`` (0 in an axis: its own) and ``shape`` is what is seen at once, in
    windows that share ``overlap``. ``window`` are the values that become -1 and 1; none: mean 0 and
    standard deviation 1.
    """

    structures: tuple[str, ...]
    shape: tuple[int, ...]
    patches: int
    spacing_mm: tuple[float, ...]
    overlap: float
    colour: bool
    window: tuple[float, float] | None
    widths: tuple[int, ...]
    normalisation: str
    seed: int

    @classmethod
    def read(cls, config: Mapping[str, Scalar]) -> Network:
        """Return what a run config says; ``ValueError`` names the key that doesn't fit."""
        shape = whole_numbers(config, "shape")
        widths = whole_numbers(config, "widths")
        names = tuple(n.strip() for n in str(config["structures"]).split(","))
        low, high = float(config["window-low"]), float(config["window-high"])
        network = cls(
            structures=names,
            shape=shape,
            patches=int(config["patches"]),
            spacing_mm=_spacing(str(config["spacing-mm"]), len(shape)),
            overlap=float(config["overlap"]),
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
        if not 0 <= network.patches <= 64:
            raise ValueError("patches: must be 0 to 64")
        if network.spacing_mm and not network.patches:
            raise ValueError("spacing-mm: without patches, images are brought to shape")
        if network.spacing_mm and len(shape) == 2:
            raise ValueError("spacing-mm: is of volumes only")
        if not 0 <= network.overlap <= 0.9:
            raise ValueError("overlap: must be 0 to 0.9")
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
            if self.patches:
                picture = pixels.colour(assets[0]).transpose(2, 0, 1)
            else:
                picture = pixels.colour_resized(assets[0], (self.shape[0], self.shape[1]))
            return np.ascontiguousarray(picture * np.float32(2) - np.float32(1))
        if len(self.shape) == 2:
            values = pixels.image(assets[0])
            return self._scaled(pixels.resized(values, self.size(values.shape)))
        return self.prepared_volume(pixels.volume(assets))

    def prepared_volume(self, volume: pixels.Volume) -> Floats:
        """Return a volume as the network sees it: (1, slices, rows, columns)."""
        size = self.size(volume.values.shape, volume.spacing_mm)
        return self._scaled(pixels.resized(volume.values, size))

    def size(self, whole: Sequence[int], spacing_mm: Sequence[float] = ()) -> tuple[int, ...]:
        """Return the size to which an image of the size ``whole`` is brought."""
        if not self.patches:
            return self.shape
        wanted = self.spacing_mm or (0.0,) * len(whole)
        own = tuple(spacing_mm) or wanted
        found = tuple(
            max(1, round(side * old / new)) if new else side
            for side, old, new in zip(whole, own, wanted, strict=True)
        )
        if math.prod(found) > pixels.MOST_VALUES:
            raise ValueError("spacing-mm: makes an image too large")
        return found

    def _scaled(self, values: Floats) -> Floats:
        if self.window is None:
            return pixels.standardised(values)[None]
        return pixels.windowed(values, *self.window)[None] * np.float32(2) - np.float32(1)

    def logits(self, model: nn.Module, image: Tensor) -> Tensor:
        """Return the model's logits of a prepared image: (1, structures + 1, ...)."""
        if self.patches:
            return patches.logits(model, image, self.shape, self.overlap)
        found: Tensor = model(image[None].float().to(device()))
        return found.cpu()


def _spacing(text: str, dimensions: int) -> tuple[float, ...]:
    if not text:
        return ()
    try:
        found = tuple(float(number) for number in text.split(","))
    except ValueError:
        found = ()
    if len(found) == 1:
        found *= dimensions
    if len(found) != dimensions or not all(side == 0 or 0.1 <= side <= 20 for side in found):
        raise ValueError("spacing-mm: must be one number of 0.1 to 20 or one for each axis, or 0")
    return found


# ---- what is learned from ------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """An image and its mask, each a picture or the instances of a series."""

    image: tuple[Asset, ...]
    mask: tuple[Asset, ...]


@dataclass(frozen=True)
class Pairs:
    """Which pairs of a release are learned from, how, and who of its patients is held out."""

    network: Network
    image_role: str
    mask_role: str
    loss: str
    around: float
    """Share of the patches that lie around a structure."""
    split: Split

    @classmethod
    def read(cls, config: Mapping[str, Scalar]) -> Pairs:
        """Return what a run config says; ``ValueError`` names the key that doesn't fit."""
        pairs = cls(
            Network.read(config),
            str(config["image-role"]),
            str(config["mask-role"]),
            str(config["loss"]),
            float(config["around"]),
            Split.read(config),
        )
        if not pairs.image_role or pairs.image_role == pairs.mask_role:
            raise ValueError("image-role and mask-role: must be two roles of a group")
        if pairs.loss not in LOSSES:
            raise ValueError(f"loss: must be one of {', '.join(LOSSES)}")
        if not 0 <= pairs.around <= 1:
            raise ValueError("around: must be 0 to 1")
        return pairs

    def training(self, pairs: Examples[Pair], local: Local) -> Examples[Pair] | Patches:
        """Return what a round trains on: the images whole, or that round's patches of them."""
        network = self.network
        if not network.patches:
            return pairs
        seed = seed_of(local.seed, local.round)
        return Patches(pairs, network.shape, network.patches, self.around, seed)


@functools.cache
def examples(folder: Path, pairs: Pairs) -> tuple[Examples[Pair], Examples[Pair]]:
    """Return what to train on and what to score, as (image, mask); decoded once."""
    release = Release(folder)
    known = {asset.digest: asset for asset in release.assets()}
    is_held_out = pairs.split.of(release)
    halves: dict[bool, list[Pair]] = {False: [], True: []}
    for links in release.groups().values():
        image = linked(links, known, pairs.image_role)
        mask = linked(links, known, pairs.mask_role)
        if image and mask:
            halves[is_held_out(image[0].subject)].append(Pair(image, mask))
    read = functools.partial(_read, pairs.network)
    return Examples(halves[False], read), Examples(halves[True], read)


def _read(network: Network, pair: Pair) -> tuple[Tensor, Tensor]:
    """Whole images that stay large are kept in 16 bits: their values are about 1."""
    if len(network.shape) == 2:
        image = network.prepared(pair.image)
        found = masks.of_picture(pair.mask[0], len(network.structures))
    else:
        volume = pixels.volume(pair.image)
        image = network.prepared_volume(volume)
        found = masks.of_volume(pair.mask, volume, len(network.structures))
    outline = torch.from_numpy(found)[None, None]
    if outline.shape[2:] != image.shape[1:]:
        outline = functional.interpolate(outline, image.shape[1:], mode="nearest-exact")
    values = torch.from_numpy(image)
    return values.half() if network.patches else values, outline[0, 0]


# ---- how ----------------------------------------------------------------------------------------


def loss_of(kind: str) -> Loss:
    """Return the mean loss of a batch (images, masks), by one of the names in ``LOSSES``."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        images, outlines = batch
        return _loss(kind, [_sums(kind, model(images).float(), outlines.long())])

    return loss


@dataclass(frozen=True)
class _Sums:
    """Of some voxels: entropy and how many; for each image and structure, what Dice is made of."""

    entropy: Tensor
    voxels: int
    both: Tensor
    all_of: Tensor


def _sums(kind: str, logits: Tensor, wanted: Tensor) -> _Sums:
    entropy = functional.cross_entropy(logits, wanted, reduction="none")
    if kind == "dice-focal":
        entropy = (1 - torch.exp(-entropy)) ** _FOCAL * entropy
    told = logits.softmax(1)[:, 1:]
    numbers = torch.arange(1, logits.shape[1], device=logits.device)
    shape = (1, -1, *[1] * (wanted.ndim - 1))
    true = (wanted[:, None] == numbers.view(shape)).to(told.dtype)
    axes = tuple(range(2, told.ndim))
    both, all_of = (told * true).sum(axes), told.sum(axes) + true.sum(axes)
    return _Sums(entropy.sum(), wanted.numel(), both, all_of)


def _loss(kind: str, parts: Sequence[_Sums]) -> Tensor:
    """Return the loss of images whose voxels' sums these are."""
    entropy = torch.stack([part.entropy for part in parts]).sum()
    entropy = entropy / sum(part.voxels for part in parts)
    if kind == "ce":
        return entropy
    both = torch.stack([part.both for part in parts]).sum(0)
    all_of = torch.stack([part.all_of for part in parts]).sum(0)
    dice: Tensor = 1 - ((2 * both + 1) / (all_of + 1)).mean()
    return dice if kind == "dice" else entropy + dice


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


def evaluate(model: nn.Module, examples: Examples[Pair], pairs: Pairs) -> Overlap:
    """Return the scores of a model on whole images (image, mask), one after the other."""
    network = pairs.network
    model.to(device()).eval()
    found: list[float] = []
    total = 0.0
    with torch.inference_mode():
        for image, outline in examples:
            logits = network.logits(model, image)
            rows = max(1, _SLAB // max(1, outline[0].numel()))
            slabs = zip(logits.split(rows, 2), outline[None].split(rows, 1), strict=True)
            sums = [_sums(pairs.loss, one.float(), other.long()) for one, other in slabs]
            total += float(_loss(pairs.loss, sums))
            told = logits.argmax(1)[0].numpy()
            found.append(dice(told, outline.numpy(), len(network.structures)))
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

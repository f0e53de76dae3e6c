"""Invented anatomy: heads of a few organs, moved by known maps, seen by several modalities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from learning.deformations import affine_field, blurred, compose, positions, warp

torch.set_num_threads(1)

_ORGANS = (
    # middle (3, from -1 to 1), radii (3), brightness
    ((0.0, 0.0, 0.0), (0.72, 0.62, 0.6), 0.4),
    ((0.15, -0.25, -0.1), (0.22, 0.2, 0.25), 0.8),
    ((-0.1, 0.25, 0.1), (0.25, 0.18, 0.2), 0.65),
    ((-0.42, 0.0, 0.15), (0.16, 0.2, 0.2), 1.0),
)


@dataclass(frozen=True)
class Moved:
    """Pairs of which the truth is known: ``fixed`` is ``moving`` warped by ``field``."""

    fixed: Tensor
    moving: Tensor
    field: Tensor
    fixed_labels: Tensor
    moving_labels: Tensor

    def target_error(self, field: Tensor) -> float:
        """The mean distance in voxels by which a field misses, over the head (a TRE)."""
        missed = (field - self.field).pow(2).sum(1, keepdim=True).sqrt()
        return float(missed[self.fixed_labels > 0].mean())


def heads(number: int, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return images (n, 1, *shape) from 0 to 1 and their labels; every head is another."""
    d = len(shape)
    size = torch.tensor([n - 1.0 for n in shape]).view(d, *[1] * d)
    places = positions(shape, torch.zeros(1)) / size * 2 - 1
    values, labels = torch.zeros(2, number, 1, *shape)
    for one in range(number):
        for label, (middle, radii, bright) in enumerate(_ORGANS, start=1):
            drawn = torch.rand(2, 3, generator=generator) - 0.5
            centre = torch.tensor(middle) + 0.1 * drawn[0]
            radius = torch.tensor(radii) * (1 + 0.1 * drawn[1])
            far = sum(((places[a] - centre[a]) / radius[a]) ** 2 for a in range(d))
            labels[one, 0][far < 1] = label
            values[one, 0][far < 1] = bright
    texture = blurred(torch.randn(values.shape, generator=generator), 1.5)
    texture = 0.08 * texture / texture.std() * (labels > 0)
    return (blurred(values, 0.7) + texture).clamp(0, 1), labels


def moved_heads(number: int, shape: tuple[int, ...], seed: int, most: float = 2.0) -> Moved:
    """Return heads moved by an affine map and a smooth field of at most ``most`` voxels."""
    generator = torch.Generator().manual_seed(seed)
    d = len(shape)
    moving, labels = heads(number, shape, generator)
    matrix = torch.eye(d) + 0.15 * (torch.rand(number, d, d, generator=generator) - 0.5)
    shift = (torch.rand(number, d, generator=generator) - 0.5) * 0.14 * min(shape)
    rough = blurred(torch.randn(number, d, *shape, generator=generator), min(shape) / 8)
    largest = rough.abs().amax(dim=tuple(range(1, d + 2)), keepdim=True)
    field = compose(affine_field(matrix, shift, shape), rough / largest * most)
    noise = 0.01 * torch.randn(moving.shape, generator=generator)
    fixed = (warp(moving, field) + noise).clamp(0, 1)
    return Moved(fixed, moving, field, warp(labels, field, "nearest"), labels)


def ultrasound(tissue: Tensor, seed: int) -> Tensor:
    """Return what a probe above sees of tissue (n, 1, *shape), a CT-like image from 0 to 1.

    Borders across the beam reflect, tissue scatters with speckle in no order of its brightness, and
    the beam weakens with depth (after Wein et al. 2008).
    """
    generator = torch.Generator().manual_seed(seed)
    step = tissue - torch.roll(tissue, 1, 2)
    step[:, :, 0] = 0
    echoes = 1.6 * blurred(step.abs(), 0.7)
    inside = (blurred((tissue > 0.05).float(), 1.0) > 0.5).float()
    rayleigh = (-torch.rand(tissue.shape, generator=generator).clamp_min(1e-6).log()).sqrt()
    scatter = (0.25 + 0.5 * torch.sin(9 * tissue).abs()) * inside * blurred(rayleigh, 0.5) / 2
    depth = torch.arange(tissue.shape[2]) / tissue.shape[2]
    weaker = torch.exp(-0.7 * depth).view(1, 1, -1, *[1] * (tissue.ndim - 3))
    return (torch.log1p(8 * (echoes + scatter) * weaker) / 2.2).clamp(0, 1)


def stored(image: Tensor, most: int = 1000) -> np.ndarray:
    """Return an image from 0 to 1 as a scanner stores it: whole numbers, without the first axes."""
    return (image.squeeze() * most).round().numpy().astype(np.uint16)

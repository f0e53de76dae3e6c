"""Networks that register a moving image to a fixed one: an affine stage, then a cascade.

Sources: Balakrishnan et al. 2019, "VoxelMorph"; Zhao et al. 2019, "Unsupervised 3D End-to-End
Medical Image Registration with Volume Tweening Network" (affine stage, invertibility loss) and
"Recursive Cascaded Networks". No layer keeps statistics of a batch, so that weights alone are what
hospitals average.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from learning import pixels
from learning.deformations import (
    affine_field,
    compose,
    integrate,
    roughness,
    round_trip,
    warp,
)
from learning.loading import Examples
from learning.pixels import Floats
from learning.releases import Asset
from learning.run_config import Scalar, whole_numbers

_POOLED = 4


@dataclass(frozen=True)
class Registered:
    """What a cascade made of one pair: the whole field, its parts, and the warped moving image."""

    field: Tensor
    affine: Tensor
    matrix: Tensor
    stages: tuple[Tensor, ...]
    warped: Tensor


@dataclass(frozen=True)
class Registering:
    """How a recipe registers: the images' size, the cascade, what its fields cost."""

    shape: tuple[int, ...]
    channels: tuple[int, ...]
    stages: int
    integration_steps: int
    smoothness: float
    affine_price: float
    seed: int

    @classmethod
    def read(cls, config: Mapping[str, Scalar]) -> Registering:
        """Return what a run config says; ``ValueError`` names the key that doesn't fit."""
        found = cls(
            shape=whole_numbers(config, "shape"),
            channels=whole_numbers(config, "channels"),
            stages=int(config["stages"]),
            integration_steps=int(config["integration-steps"]),
            smoothness=float(config["smoothness"]),
            affine_price=float(config["affine-price"]),
            seed=int(config["seed"]),
        )
        if len(found.shape) not in (2, 3) or not all(8 <= n <= 1024 for n in found.shape):
            raise ValueError("shape: must be two or three sizes of 8 to 1024")
        if not 2 <= len(found.channels) <= 6 or not all(1 <= n <= 512 for n in found.channels):
            raise ValueError("channels: must be two to six numbers of 1 to 512")
        if not (0 <= found.stages <= 10 and 0 <= found.integration_steps <= 10):
            raise ValueError("stages and integration-steps must be 0 to 10")
        if not min(found.smoothness, found.affine_price) >= 0:
            raise ValueError("smoothness and affine-price must be 0 or above")
        return found

    def build(self) -> Cascade:
        """Return the network at its start, which moves nothing; the same for the same seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return Cascade(len(self.shape), self.channels, self.stages, self.integration_steps)

    def price(self, found: Registered) -> Tensor:
        """Return what the fields of a registration cost."""
        return regulariser(found, self.smoothness, self.affine_price)

    def image(self, instances: Sequence[Asset]) -> Floats:
        """Return an image of a release as it is: the first instance, or the volume of them all."""
        if len(self.shape) == 2:
            return pixels.image(instances[0])
        return pixels.volume(instances).values


@dataclass(frozen=True)
class Pairs:
    """Pairs (fixed, moving), each (1, *shape) from 0 to 1, and of how many subjects they are."""

    examples: Examples[Any]
    subjects: int


class AffineStage(nn.Module):  # type: ignore[misc]  # PyTorch is untyped here
    """Two images to a matrix and a shift; the identity before it is trained."""

    def __init__(self, dimensions: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.body = nn.Sequential(
            *(
                _block(dimensions, before, after, 2)
                for before, after in itertools.pairwise([2, *channels])
            )
        )
        self.head = nn.Linear(channels[-1] * _POOLED**dimensions, dimensions * (dimensions + 1))
        nn.init.normal_(self.head.weight, std=1e-4)
        nn.init.zeros_(self.head.bias)

    def forward(self, fixed: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
        """Return the matrix (n, d, d) and the shift (n, d) in voxels."""
        d = self.dimensions
        seen = self.body(torch.cat([fixed, moving], 1))
        pooled = (functional.adaptive_avg_pool2d if d == 2 else functional.adaptive_avg_pool3d)(
            seen, _POOLED
        )
        told = self.head(pooled.flatten(1)).float().view(-1, d, d + 1)
        size = torch.tensor(fixed.shape[2:], device=fixed.device).to(told)
        return torch.eye(d, device=told.device) + told[..., :d], told[..., d] * size


class DeformableStage(nn.Module):  # type: ignore[misc]
    """A U-Net: two images to a field, or to the velocity whose flow is the field."""

    def __init__(self, dimensions: int, channels: Sequence[int], integration_steps: int) -> None:
        super().__init__()
        self.steps = integration_steps
        self.entry = _block(dimensions, 2, channels[0], 1)
        self.down = nn.ModuleList(
            _block(dimensions, before, after, 2) for before, after in itertools.pairwise(channels)
        )
        self.up = nn.ModuleList(
            _block(dimensions, below + beside, beside, 1)
            for below, beside in zip(channels[:0:-1], channels[-2::-1], strict=True)
        )
        self.out = _convolution(dimensions)(channels[0], dimensions, 3, padding=1)
        nn.init.normal_(self.out.weight, std=1e-4)
        nn.init.zeros_(self.out.bias)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Return the field (n, d, *shape)."""
        seen = [self.entry(torch.cat([fixed, moving], 1))]
        for down in self.down:
            seen.append(down(seen[-1]))
        now = seen.pop()
        for up, beside in zip(self.up, reversed(seen), strict=True):
            mode = "bilinear" if now.ndim == 4 else "trilinear"
            now = functional.interpolate(now, beside.shape[2:], mode=mode, align_corners=True)
            now = up(torch.cat([now, beside], 1))
        field: Tensor = self.out(now).float()
        return integrate(field, self.steps) if self.steps else field


class Cascade(nn.Module):  # type: ignore[misc]
    """An affine stage and ``stages`` deformable ones, each seeing what the ones before made."""

    def __init__(
        self, dimensions: int, channels: Sequence[int], stages: int, integration_steps: int = 0
    ) -> None:
        super().__init__()
        self.affine = AffineStage(dimensions, channels)
        self.deformable = nn.ModuleList(
            DeformableStage(dimensions, channels, integration_steps) for _ in range(stages)
        )

    def forward(self, fixed: Tensor, moving: Tensor) -> Registered:
        """Register ``moving`` to ``fixed``, both (n, 1, *shape); interpolated once, at the end."""
        matrix, shift = self.affine(fixed, moving)
        affine = affine_field(matrix, shift, fixed.shape[2:])
        field, warped = affine, warp(moving, affine)
        stages = []
        for stage in self.deformable:
            stages.append(stage(fixed, warped))
            field = compose(field, stages[-1])
            warped = warp(moving, field)
        return Registered(field, affine, matrix, tuple(stages), warped)


def rigidity(matrix: Tensor) -> Tensor:
    """Return how far matrices are from rotations: zero when orthogonal with determinant 1."""
    eye = torch.eye(matrix.shape[-1], device=matrix.device)
    products = (matrix[:, :, :, None] * matrix[:, :, None, :]).sum(1)
    gram = (products - eye).pow(2).sum((1, 2))
    return (gram + (torch.linalg.det(matrix) - 1).pow(2)).mean()


def regulariser(found: Registered, smoothness: float, affine: float) -> Tensor:
    """Return the price of a registration's stages: rough fields and an affine part that shears."""
    price = affine * rigidity(found.matrix)
    for stage in found.stages:
        price = price + smoothness * roughness(stage)
    return price


def invertibility(forward: Registered, backward: Registered) -> Tensor:
    """Return the mean squared round trip of two registrations, each the other's inverse."""
    there = round_trip(forward.field, backward.field).pow(2).sum(1).mean()
    return (there + round_trip(backward.field, forward.field).pow(2).sum(1).mean()) / 2


def _convolution(dimensions: int) -> Any:
    return nn.Conv2d if dimensions == 2 else nn.Conv3d


def _block(dimensions: int, before: int, after: int, stride: int) -> nn.Module:
    return nn.Sequential(
        _convolution(dimensions)(before, after, 3, stride=stride, padding=1), nn.LeakyReLU(0.1)
    )

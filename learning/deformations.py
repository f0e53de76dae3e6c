"""Deformations of images and volumes: displacement fields, what they do, and how sound they are.

A field is a tensor (n, d, *shape) in voxels, its channels in the order of the axes; it takes the
point ``x`` of the fixed image to ``x + field(x)`` of the moving one. ``d`` is 2 or 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def positions(shape: Sequence[int], like: Tensor) -> Tensor:
    """Return each voxel's own position, (d, *shape)."""
    axes = [torch.arange(n, device=like.device, dtype=like.dtype) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def warp(image: Tensor, field: Tensor, mode: str = "bilinear") -> Tensor:
    """Return ``image`` (n, channels, *shape) at ``x + field(x)``; outside, its edge goes on."""
    shape = field.shape[2:]
    places = positions(shape, field) + field
    last = torch.tensor([max(1, n - 1) for n in image.shape[2:]], device=field.device)
    scaled = 2 * places / last.view(1, -1, *[1] * len(shape)).to(field) - 1
    grid = scaled.flip(1).movedim(1, -1).to(image.dtype)
    return functional.grid_sample(image, grid, mode=mode, padding_mode="border", align_corners=True)


def compose(first: Tensor, then: Tensor) -> Tensor:
    """Return the field that warps by ``first`` and what comes of it by ``then``."""
    return then + warp(first, then)


def integrate(velocity: Tensor, steps: int) -> Tensor:
    """Return the flow of a stationary velocity after one unit of time, by scaling and squaring.

    Source: Arsigny et al. 2006, "A Log-Euclidean Framework for Statistics on Diffeomorphisms".
    """
    field = velocity / 2**steps
    for _ in range(steps):
        field = compose(field, field)
    return field


def affine_field(matrix: Tensor, shift: Tensor, shape: Sequence[int]) -> Tensor:
    """Return ``matrix @ (x - c) + c + shift - x`` with ``c`` the middle: (n, d, *shape).

    ``matrix`` is (n, d, d), ``shift`` (n, d), in voxels.
    """
    d = len(shape)
    middle = torch.tensor([(n - 1) / 2 for n in shape], device=matrix.device, dtype=matrix.dtype)
    centred = positions(shape, matrix) - middle.view(d, *[1] * d)
    # Written out, since a product would be taken in 16 bits under mixed precision.
    moved = (matrix.view(-1, d, d, *[1] * d) * centred[None, None]).sum(2) - centred
    return moved + shift.view(*shift.shape, *[1] * d)


def at(field: Tensor, points: Tensor) -> Tensor:
    """Return a field's displacement at points (n, k, d) in voxels, interpolated: (n, k, d)."""
    shape = field.shape[2:]
    last = torch.tensor([max(1, n - 1) for n in shape], device=field.device).to(field)
    grid = (2 * points / last - 1).flip(-1)
    found = functional.grid_sample(
        field,
        grid.view(*points.shape[:2], *[1] * (len(shape) - 1), len(shape)),
        padding_mode="border",
        align_corners=True,
    )
    return found.flatten(2).transpose(1, 2)


def differences(field: Tensor) -> list[Tensor]:
    """Return forward differences along each axis, cropped alike: d times (n, c, *shape-1)."""
    d = field.ndim - 2
    here = field[(..., *[slice(None, -1)] * d)]
    found = []
    for axis in range(d):
        window = [slice(None, -1)] * d
        window[axis] = slice(1, None)
        found.append(field[(..., *window)] - here)
    return found


def roughness(field: Tensor) -> Tensor:
    """Return the mean squared gradient of a field, the regulariser of VoxelMorph."""
    return torch.stack([(step**2).mean() for step in differences(field)]).mean()


def jacobian_determinants(field: Tensor) -> Tensor:
    """Return the determinants of the map's Jacobian, (n, *shape-1); folds have 0 or less."""
    d = field.ndim - 2
    gradient = torch.stack(differences(field), dim=2).movedim((1, 2), (-2, -1))
    return torch.linalg.det(gradient + torch.eye(d, device=field.device, dtype=field.dtype))


def folded_share(field: Tensor) -> float:
    """Return the share of voxels where the map isn't locally invertible."""
    return float((jacobian_determinants(field) <= 0).float().mean())


def round_trip(forward: Tensor, backward: Tensor) -> Tensor:
    """Return how far a point ends from where it began, there and back: a field (n, d, *shape)."""
    return compose(forward, backward)


def inverse_error(forward: Tensor, backward: Tensor) -> Tensor:
    """Return the mean distance in voxels of the round trips that begin on either side."""
    both = round_trip(forward, backward), round_trip(backward, forward)
    return torch.stack([trip.pow(2).sum(1).add(1e-12).sqrt().mean() for trip in both]).mean()


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Return ``image`` (n, channels, *shape) under a Gaussian of ``sigma`` voxels."""
    d = image.ndim - 2
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.softmax(-(offsets**2) / (2 * sigma**2), 0)
    flat = image.flatten(0, 1)[:, None]
    convolve = functional.conv2d if d == 2 else functional.conv3d
    for axis in range(d):
        around = [0] * (2 * d)
        around[2 * (d - 1 - axis)] = around[2 * (d - 1 - axis) + 1] = radius
        size = [1] * d
        size[axis] = -1
        flat = convolve(functional.pad(flat, around, mode="replicate"), kernel.view(1, 1, *size))
    return flat.view(image.shape)

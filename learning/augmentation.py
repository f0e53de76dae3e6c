"""Examples made more various while training: mirrored, turned, moved, brighter. Seeded.

A batch is (batch, channels, rows, columns) or (batch, channels, slices, rows, columns); what is
done to an image is done to its mask. Draws are from the generator alone, so a second run draws
alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def chances(number: int, generator: torch.Generator) -> Tensor:
    """Return so many numbers from 0 to 1."""
    return torch.rand(number, generator=generator)


def moved(
    images: Tensor,
    generator: torch.Generator,
    masks: Tensor | None = None,
    *,
    mirrored: Sequence[int] = (-1,),
    turn_degrees: float = 10.0,
    shift: float = 0.05,
    scale: float = 0.1,
) -> tuple[Tensor, Tensor | None]:
    """Return images, and masks of whole numbers (batch, ...), mirrored, turned, moved and scaled.

    ``mirrored`` are axes, each with a chance of one half; turns are about the slices' axis.
    ``shift`` and ``scale`` are shares of a side. Outside is 0.
    """
    number, dimensions = len(images), images.ndim - 2
    angles = (2 * chances(number, generator) - 1) * torch.pi * turn_degrees / 180
    scales = 1 + (2 * chances(number, generator) - 1) * scale
    matrix = torch.zeros(number, dimensions, dimensions + 1)
    for axis in range(dimensions):
        matrix[:, axis, axis] = scales
        matrix[:, axis, -1] = (2 * chances(number, generator) - 1) * 2 * shift
    matrix[:, 0, 0] = matrix[:, 1, 1] = scales * angles.cos()
    matrix[:, 0, 1] = -scales * angles.sin()
    matrix[:, 1, 0] = scales * angles.sin()
    for axis in mirrored:
        # affine_grid counts axes from the last one: x, y, z.
        flips = 1 - 2 * (chances(number, generator) < 0.5).float()
        matrix[:, :, -axis - 1] *= flips[:, None]
    grid = functional.affine_grid(
        matrix.to(images.device), [number, 1, *images.shape[2:]], align_corners=False
    )
    found = functional.grid_sample(images, grid, align_corners=False)
    if masks is None:
        return found, None
    nearest = functional.grid_sample(
        masks[:, None].float(), grid, mode="nearest", align_corners=False
    )
    return found, nearest[:, 0].to(masks.dtype)


def brightened(images: Tensor, generator: torch.Generator, strength: float = 0.1) -> Tensor:
    """Return images whose contrast and brightness differ by up to ``strength``."""
    number = len(images)
    gain = 1 + (2 * chances(number, generator) - 1) * strength
    offset = (2 * chances(number, generator) - 1) * strength
    shape = (number, *[1] * (images.ndim - 1))
    place = images.device
    return images * gain.reshape(shape).to(place) + offset.reshape(shape).to(place)

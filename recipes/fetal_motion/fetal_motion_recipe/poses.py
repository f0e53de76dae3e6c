"""Where slices lie while a fetus moves: poses, a random movement, and what a scanner would see.

A pose is a row of six numbers: a rotation vector in radians (axis times angle), then a shift.
Lengths are in voxels of an isotropic cube, positions are from its middle, axes are (z, y, x). A
slice is the plane that it was planned as, rotated, then shifted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_PROFILE = (-0.5, 0.0, 0.5)
"""Where a thick slice is sampled, in thicknesses."""


@dataclass(frozen=True)
class Scan:
    """How stacks are taken: of a cube of ``side`` voxels, slices ``thickness`` voxels apart.

    Stacks are orthogonal, one along each axis in turn.
    """

    side: int
    stacks: int
    slices: int
    thickness: float

    @property
    def count(self) -> int:
        """Slices of all stacks."""
        return self.stacks * self.slices

    def axis(self) -> Tensor:
        """Return the axis that each slice's normal is along: (count,)."""
        return (torch.arange(self.count) // self.slices) % 3

    def height(self) -> Tensor:
        """Return how far each slice is planned from the middle, in voxels: (count,)."""
        places = torch.arange(self.slices) - (self.slices - 1) / 2
        return (places * self.thickness).repeat(self.stacks)

    def order(self) -> Tensor:
        """Return when each slice is taken: even ones of a stack first, then odd ones (count,)."""
        inside = torch.cat([torch.arange(0, self.slices, 2), torch.arange(1, self.slices, 2)])
        when = torch.argsort(inside)
        return torch.cat([when + stack * self.slices for stack in range(self.stacks)])


def rotations(vectors: Tensor) -> Tensor:
    """Return the matrices of rotation vectors (..., 3), by Rodrigues' formula: (..., 3, 3)."""
    z, y, x = vectors.unbind(-1)
    zero = torch.zeros_like(z)
    rows = [torch.stack(row, -1) for row in ((zero, -x, y), (x, zero, -z), (-y, z, zero))]
    cross = torch.stack(rows, -2)
    angle = (vectors.pow(2).sum(-1) + 1e-12).sqrt()[..., None, None]
    squared = (cross[..., :, :, None] * cross[..., None, :, :]).sum(-2)
    eye = torch.eye(3, device=vectors.device, dtype=vectors.dtype)
    return eye + torch.sin(angle) / angle * cross + (1 - torch.cos(angle)) / angle**2 * squared


def planned(scan: Scan, places: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Return points of all slices as planned: (count, m, 3).

    ``places`` (m, 3) are in a slice's own frame: along its normal, its rows, its columns.
    """
    found = []
    for axis, height in zip(scan.axis().tolist(), scan.height().tolist(), strict=True):
        own = places.clone()
        own[:, 0] += height
        others = [a for a in range(3) if a != axis]
        inverse = [0, 0, 0]
        for source, target in enumerate((axis, *others)):
            inverse[target] = source
        found.append(own[:, inverse])
    return torch.stack(found).to(device)


def placed(points: Tensor, poses: Tensor) -> Tensor:
    """Return points (count, m, 3) where poses (..., count, 6) take them: (..., count, m, 3)."""
    matrices = rotations(poses[..., :3])[..., None, :, :]
    turned = (matrices * points[..., None, :]).sum(-1)
    return turned + poses[..., None, 3:]


def anchors(scan: Scan) -> Tensor:
    """Return a slice's middle and the corners of its inner half, by which poses are compared."""
    far = scan.side / 4
    corners = [(0.0, a * far, b * far) for a in (-1, 1) for b in (-1, 1)]
    return torch.tensor([(0.0, 0.0, 0.0), *corners])


def pose_error(scan: Scan, found: Tensor, true: Tensor) -> Tensor:
    """Return the mean distance of the anchors under two poses, in voxels: (..., count)."""
    points = planned(scan, anchors(scan), found.device)
    return (placed(points, found) - placed(points, true)).norm(dim=-1).mean(-1)


def pixels(scan: Scan) -> Tensor:
    """Return where the pixels of one slice are, in its own frame: (side * side, 3)."""
    line = torch.arange(scan.side) - (scan.side - 1) / 2
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([torch.zeros(scan.side**2), rows.flatten(), columns.flatten()], 1)


def acquire(volume: Tensor, poses: Tensor, scan: Scan) -> Tensor:
    """Return the slices (n, count, side, side) that poses (n, count, 6) take of cubes (n, d, h, w).

    The profile across a slice is a mean over its thickness.
    """
    own, seen = pixels(scan), []
    for offset in _PROFILE:
        places = own.clone()
        places[:, 0] += offset * scan.thickness
        points = placed(planned(scan, places, volume.device), poses)
        seen.append(sample(volume, points.flatten(1, 2)))
    shape = (volume.shape[0], scan.count, scan.side, scan.side)
    return torch.stack(seen).mean(0).view(shape)


def sample(volume: Tensor, points: Tensor) -> Tensor:
    """Return a cube's values (n, d, h, w) at points (n, m, 3) from its middle: (n, m)."""
    half = torch.tensor([(size - 1) / 2 for size in volume.shape[1:]], device=volume.device)
    grid = (points / half.to(points)).flip(-1)[:, :, None, None]
    found = functional.grid_sample(volume[:, None], grid, align_corners=True)
    return found[:, 0, :, 0, 0]


def movement(
    scan: Scan, number: int, degrees: float, shift: float, generator: torch.Generator
) -> Tensor:
    """Draw poses of a fetus that drifts, and turns at once now and then: (number, count, 6).

    ``degrees`` and ``shift`` (voxels) bound each rotation's and shift's component.
    """
    rests = max(2, scan.count // 6)
    bound = torch.tensor([math.radians(degrees)] * 3 + [shift] * 3)
    held = (torch.rand(number, rests, 6, generator=generator) * 2 - 1) * bound
    when = torch.linspace(0, rests - 1, scan.count)
    before = when.floor().long().clamp(max=rests - 2)
    share = (when - before)[None, :, None]
    # It lies still around each rest and moves in between.
    share = (share * 3 - 1).clamp(0, 1)
    path = held[:, before] * (1 - share) + held[:, before + 1] * share
    return path[:, scan.order()]

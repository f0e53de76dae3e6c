"""A volume from slices at known poses; slices that don't fit it count less, and poses are refined.

Sources: Gholipour et al. 2010, "Robust Super-Resolution Volume Reconstruction From Slice
Acquisitions" (M-estimation); Kuklisova-Murgasova et al. 2012, "Reconstruction of fetal brain MRI
with intensity matching and complete outlier removal" (registration and reconstruction in turn).
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from fetal_motion_recipe.poses import Scan, acquire, pixels, placed, planned

_TUKEY = 4.685
"""The constant that keeps 95 % efficiency under Gaussian noise (Huber 1981)."""


def reconstruct(
    slices: Tensor, poses: Tensor, scan: Scan, rounds: int = 3
) -> tuple[Tensor, Tensor]:
    """Return the cube (side, side, side) and each slice's weight (count,), 0 for an outlier.

    ``slices`` is (count, side, side), ``poses`` (count, 6). A voxel is the weighted mean of the
    pixels around it. After each round a slice is weighed by how it fits, with Tukey's biweight.
    """
    weights = torch.ones(scan.count, device=slices.device)
    volume = scatter(slices, poses, weights, scan)
    for _ in range(rounds):
        again = acquire(volume[None], poses[None], scan)[0]
        misfit = (again - slices).pow(2).mean((1, 2)).sqrt()
        middle = misfit.median()
        spread = 1.4826 * (misfit - middle).abs().median() + 1e-6
        far = ((misfit - middle).clamp_min(0) / (_TUKEY * spread)).clamp(max=1)
        weights = (1 - far**2) ** 2
        volume = scatter(slices, poses, weights, scan)
    return volume, weights


def scatter(slices: Tensor, poses: Tensor, weights: Tensor, scan: Scan) -> Tensor:
    """Return the cube in which each pixel is spread over the eight voxels around it."""
    side = scan.side
    sums = torch.zeros(2, side**3, device=slices.device)
    for offset in (-0.25, 0.25):  # across the thickness
        own = pixels(scan)
        own[:, 0] += offset * scan.thickness
        points = placed(planned(scan, own, slices.device), poses).flatten(0, 1) + (side - 1) / 2
        low = points.floor()
        share = points - low
        values = slices.flatten()
        trust = weights.repeat_interleave(side * side)
        for corner in itertools.product((0, 1), repeat=3):
            at = low.long() + torch.tensor(corner, device=slices.device)
            inside = ((at >= 0) & (at < side)).all(1)
            part = torch.where(torch.tensor(corner, device=share.device) > 0, share, 1 - share)
            amount = (part.prod(1) * trust)[inside]
            index = ((at[:, 0] * side + at[:, 1]) * side + at[:, 2])[inside]
            sums[0].index_add_(0, index, amount * values[inside])
            sums[1].index_add_(0, index, amount)
    return (sums[0] / sums[1].clamp_min(1e-3)).view(side, side, side)


def refine(
    slices: Tensor, poses: Tensor, scan: Scan, rounds: int, steps: int, rate: float = 0.02
) -> Tensor:
    """Return poses at which the slices fit the volume made of them better, by gradient descent."""
    found = poses.clone()
    scale = torch.tensor([1.0] * 3 + [scan.side / 4] * 3, device=poses.device)
    for _ in range(rounds):
        with torch.no_grad():
            volume, _ = reconstruct(slices, found, scan)
        moved = torch.zeros_like(found, requires_grad=True)
        optimiser = torch.optim.Adam([moved], lr=rate)
        for _ in range(steps):
            again = acquire(volume[None], (found + moved * scale)[None], scan)[0]
            # Each slice on its own: outliers are those that have to move.
            loss = (again - slices).pow(2).mean((1, 2)).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        found = (found + moved * scale).detach()
    return found


def psnr(found: Tensor, true: Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB, of the true volume's range."""
    error = (found - true).pow(2).mean().clamp_min(1e-12)
    return float(10 * torch.log10((true.max() - true.min()).pow(2).clamp_min(1e-12) / error))

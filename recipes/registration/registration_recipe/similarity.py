"""How alike two images are where they lie on each other."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def local_correlation(one: Tensor, other: Tensor, window: int) -> Tensor:
    """Return the mean squared correlation of (n, 1, *shape) in windows of voxels: 0 to 1.

    Source: Avants et al. 2008; as in VoxelMorph (Balakrishnan et al. 2019, eq. 6). A window without
    contrast counts as 0.
    """
    means = _means(torch.cat([one, other, one * one, other * other, one * other], 1), window)
    first, second, first2, second2, product = means.split(1, 1)
    cross = product - first * second
    variances = (first2 - first**2) * (second2 - second**2)
    return (cross**2 / (variances.clamp_min(0) + 1e-6)).clamp(0, 1).mean()


def dice(one: Tensor, other: Tensor) -> float:
    """Return 2|A and B| / (|A| + |B|), the mean over the labels above 0 that either has."""
    found = []
    for label in torch.unique(torch.cat([one.flatten(), other.flatten()])):
        if label > 0:
            a, b = one == label, other == label
            found.append(float(2 * (a & b).sum() / (a.sum() + b.sum())))
    return sum(found) / max(1, len(found))


def _means(images: Tensor, window: int) -> Tensor:
    pool = functional.avg_pool2d if images.ndim == 4 else functional.avg_pool3d
    return pool(images, window, stride=1, padding=window // 2, count_include_pad=False)

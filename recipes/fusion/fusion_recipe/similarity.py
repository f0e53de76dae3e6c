"""A similarity that doesn't care what made the images: MIND, the modality independent descriptor.

Source: Heinrich et al. 2012, "MIND: Modality independent neighbourhood descriptor for multi-modal
deformable registration". A voxel is described by how much the patch around it differs from those
beside it, in units of the local noise, so an edge is told alike whether it is bright or dark.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn import functional


def descriptor(image: Tensor, radius: int, distance: int) -> Tensor:
    """Return MIND of (n, 1, *shape): (n, 2 d, *shape), each 0 to 1, the likest neighbour at 1.

    ``radius`` is the patch's, ``distance`` how far off the neighbours are, both in voxels.
    """
    d = image.ndim - 2
    distances = torch.cat(
        [
            _patches((image - _shifted(image, axis, sign * distance)) ** 2, radius)
            for axis, sign in itertools.product(range(d), (-1, 1))
        ],
        dim=1,
    )
    noise = distances.mean(1, keepdim=True)
    middle = noise.mean(dim=tuple(range(1, d + 2)), keepdim=True)
    noise = noise.clamp(middle * 1e-3, middle * 1e3) + 1e-10  # as the authors' own code bounds it
    found = torch.exp(-distances / noise)
    return found / found.amax(1, keepdim=True)


def difference(one: Tensor, other: Tensor, radius: int = 1, distance: int = 2) -> Tensor:
    """Return the mean squared difference of two images' descriptors."""
    apart = descriptor(one, radius, distance) - descriptor(other, radius, distance)
    return apart.pow(2).mean()


def mutual_information(one: Tensor, other: Tensor, bins: int = 16) -> float:
    """Return the mutual information in nats of two images' values, in equal bins."""
    a, b = (_binned(image, bins) for image in (one, other))
    counts = torch.bincount(a * bins + b, minlength=bins * bins).double().view(bins, bins)
    joint = counts / counts.sum()
    apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    there = joint > 0
    return float((joint[there] * (joint[there] / apart[there]).log()).sum())


def _binned(image: Tensor, bins: int) -> Tensor:
    low, high = image.min(), image.max()
    scaled = (image - low) / (high - low).clamp_min(1e-12) * bins
    return scaled.long().clamp(0, bins - 1).flatten()


def _shifted(image: Tensor, axis: int, by: int) -> Tensor:
    """The image moved along an axis; at the border its edge goes on."""
    size = image.shape[axis + 2]
    places = (torch.arange(size, device=image.device) + by).clamp(0, size - 1)
    return image.index_select(axis + 2, places)


def _patches(image: Tensor, radius: int) -> Tensor:
    pool = functional.avg_pool2d if image.ndim == 4 else functional.avg_pool3d
    return pool(image, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)

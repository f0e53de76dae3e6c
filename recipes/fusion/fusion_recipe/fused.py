"""One picture of two that lie on each other: of each place, what the one that shows more shows.

Source: after Liu et al. 2015, "A general framework for image fusion based on multi-scale
transform": a smooth base is averaged, and of the detail the more active image's is taken, softly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from learning.deformations import blurred


def fuse(fixed: Tensor, warped: Tensor, width: float = 1.5) -> Tensor:
    """Return the fusion of two images (n, 1, *shape) from 0 to 1; of twice the same, itself.

    Where one is empty (0 around it), the base is the other's alone. ``width`` in voxels is how wide
    an area says which image shows more.
    """
    base, detail, active, there = [], [], [], []
    for image in (fixed, warped):
        smooth = blurred(image, width)
        base.append(smooth)
        detail.append(image - smooth)
        active.append(blurred((image - smooth) ** 2, width))
        there.append(blurred((image > 0).to(image), width) + 1e-6)
    share = (active[0] + 1e-8) / (active[0] + active[1] + 2e-8)
    details = share * detail[0] + (1 - share) * detail[1]
    bases = (there[0] * base[0] + there[1] * base[1]) / (there[0] + there[1])
    return torch.clamp(bases + details, 0, 1)

"""A network that says where each slice lies, from what it shows and from the slices around it.

Sources: Hou et al. 2018, "3-D Reconstruction in Canonical Co-Ordinate Space From Arbitrarily
Oriented 2-D Images" (a slice's anchor points in an atlas' frame); Xu et al. 2022, "SVoRT: Iterative
Transformer for Slice-to-Volume Registration in Fetal Brain MRI" (slices attend to one another).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from fetal_motion_recipe.poses import Scan, anchors, placed, planned

_WAVES = 6


class SlicePoses(nn.Module):
    """Slices of stacks to their poses: (n, count, side, side) to (n, count, 6).

    Before it is trained it says what was planned: zeros.
    """

    def __init__(self, scan: Scan, channels: int, width: int, layers: int) -> None:
        super().__init__()
        steps = [1, channels, 2 * channels, 2 * channels]
        self.look = nn.Sequential(
            *(
                layer
                for before, after in itertools.pairwise(steps)
                for layer in (nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU())
            ),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(2 * channels * 16, width),
        )
        self.place = nn.Linear(3 + 2 * _WAVES, width)
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.attend = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.say = nn.Linear(width, 6)
        nn.init.zeros_(self.say.weight)
        nn.init.zeros_(self.say.bias)
        self.register_buffer("known", _known(scan), persistent=False)
        self.scale = scan.side / 4

    def forward(self, slices: Tensor) -> Tensor:
        n, count = slices.shape[:2]
        seen = self.look(slices.flatten(0, 1)[:, None]).view(n, count, -1)
        told: Tensor = self.say(self.attend(seen + self.place(self.known)))
        return torch.cat([told[..., :3], told[..., 3:] * self.scale], -1)


def anchor_loss(scan: Scan, found: Tensor, true: Tensor) -> Tensor:
    """Return the mean squared distance of the slices' anchor points, in voxels."""
    points = planned(scan, anchors(scan), found.device)
    return (placed(points, found) - placed(points, true)).pow(2).sum(-1).mean()


def _known(scan: Scan) -> Tensor:
    """What a slice's place in its stack says: its axis, and waves of its height."""
    axis = torch.nn.functional.one_hot(scan.axis(), 3).float()
    height = scan.height()[:, None] / scan.side
    waves = height * math.pi * 2.0 ** torch.arange(_WAVES)
    return torch.cat([axis, waves.sin(), waves.cos()], 1)

"""What each input adds to an answer: integrated gradients, and Grad-CAM of images.

Sources: Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks"; Selvaraju et al. 2017,
"Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization". Both explain the
model's logit, not the disease.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


def integrated_gradients(
    answer: Callable[[Tensor], Tensor], inputs: Tensor, baseline: Tensor, steps: int
) -> Tensor:
    """Return each input's share of ``answer(inputs) - answer(baseline)``, of the inputs' shape.

    ``answer`` maps (n, ...) to (n,). The gradient's integral along the straight path is a sum over
    ``steps`` midpoints, so shares add up to the difference as steps grow (completeness); of a
    linear model they do with one.
    """
    total = torch.zeros_like(inputs)
    for step in range(steps):
        share = (step + 0.5) / steps
        at = (baseline + share * (inputs - baseline)).detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(answer(at).sum(), at)
        total += gradient
    return (inputs - baseline) * total / steps


def grad_cam(body: nn.Module, head: nn.Module, images: Tensor) -> Tensor:
    """Return where the answer's evidence is, 0 or above: (n, 1, *shape) of the images' shape.

    ``body`` makes maps of images, ``head`` an answer of the maps' means: (n, 1).
    """
    with torch.enable_grad():
        maps = body(images).detach().requires_grad_()
        answer = head(maps.flatten(2).mean(2))
        (gradient,) = torch.autograd.grad(answer.sum(), maps)
    weights = gradient.flatten(2).mean(2)[..., None, None]
    found = torch.relu((weights * maps).sum(1, keepdim=True)).detach()
    return functional.interpolate(found, images.shape[2:], mode="bilinear", align_corners=False)


def by_region(maps: Tensor, regions: tuple[int, int]) -> Tensor:
    """Return the share of each map's evidence in each region of a grid: (n, rows, columns).

    A map's shares are 0 or above and add up to 1, so that every patient counts as much; all are 0
    of a map without evidence.
    """
    size = maps[0].numel() / (regions[0] * regions[1])
    sums = functional.adaptive_avg_pool2d(maps.abs(), regions)[:, 0] * size
    return sums / sums.sum((1, 2), keepdim=True).clamp_min(1e-12)

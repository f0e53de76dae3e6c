"""Fused pictures of single patients, as drafts: they stay in the hospital."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from fusion_recipe.fused import fuse
from learning import training
from learning.registration import Pairs


def write(model: nn.Module, pairs: Pairs, folder: Path) -> int:
    """Write each pair's fusion as ``ASSET-fused.png``, of a volume the slice in the middle.

    ``ASSET`` is the first instance of the fixed image. Return how many were written.
    """
    model.to(training.device()).eval()
    for index, (fixed_image, _) in enumerate(pairs.examples.items):
        fixed, moving = (image[None].to(training.device()) for image in pairs.examples[index])
        with torch.no_grad():
            found = fuse(fixed, model(fixed, moving).warped)[0, 0].cpu().numpy()
        flat = found if found.ndim == 2 else found[len(found) // 2]
        picture = Image.fromarray((flat * 255).round().astype(np.uint8))
        picture.save(folder / f"{fixed_image[0].digest}-fused.png")
    return len(pairs.examples)

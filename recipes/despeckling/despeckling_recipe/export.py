"""How a finished model is written as ONNX: logarithms (n x 1 x side x side) to clean ones.

``task.logarithm`` makes the one, ``task.clean`` says how the other becomes an image.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from despeckling_recipe import task
from learning.training import Scalar


def export(run_config: Mapping[str, Scalar]) -> tuple[nn.Module, Tensor]:
    """Return the run's network and an example of what it reads."""
    plan = task.Plan.read(run_config)
    return task.Denoiser(plan), torch.zeros(2, 1, plan.side, plan.side)

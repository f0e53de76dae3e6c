"""How a finished model is written as ONNX: pictures (n x channels x size x size) to logits."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from classification_2d_recipe import task


def export(run_config: Mapping[str, task.Scalar]) -> tuple[nn.Module, Tensor]:
    """Return the run's network and an example of what it reads."""
    plan = task.Plan.read(run_config)
    return task.build_model(plan), torch.zeros(2, 3 if plan.colour else 1, plan.size, plan.size)

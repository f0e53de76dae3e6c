"""How a finished model is written as ONNX: heads (n x 1 x shape) to standardised ages (n)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from brain_age_recipe import task
from learning.training import Scalar


def export(run_config: Mapping[str, Scalar]) -> tuple[nn.Module, Tensor]:
    """Return the run's network and an example of what it reads."""
    plan = task.Plan.read(run_config)
    return task.Network(plan), torch.zeros(2, 1, *plan.shape)

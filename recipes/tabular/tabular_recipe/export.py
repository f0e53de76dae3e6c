"""How a finished model is written as ONNX: features (n x features) to logits (n x 1)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tabular_recipe import task


def export(run_config: Mapping[str, task.Scalar]) -> tuple[nn.Module, Tensor]:
    """Return the run's model and an example of what it reads."""
    plan = task.Plan.read(run_config)
    return task.build_model(plan), torch.zeros(2, len(plan.features))

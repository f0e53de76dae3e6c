"""How a finished model is written as ONNX: rows as they are (n x features) to log hazards (n)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from learning.training import Scalar
from prognosis_recipe import task


def export(run_config: Mapping[str, Scalar]) -> tuple[nn.Module, Tensor]:
    """Return the run's model and an example of what it reads."""
    plan = task.Plan.read(run_config)
    return task.Risk(plan), torch.zeros(2, len(plan.features))

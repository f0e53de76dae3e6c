"""How a finished model is written as ONNX: bags of ``most-tiles`` tiles to logits (n).

It reads the tiles' features, and which of the tiles are there: a smaller bag is filled up.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from learning.training import Scalar
from slide_mil_recipe import task


def export(run_config: Mapping[str, Scalar]) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """Return the run's network and examples of what it reads."""
    plan = task.Plan.read(run_config)
    there = torch.ones(2, plan.most_tiles, dtype=torch.bool)
    there[1, plan.most_tiles // 2 + 1 :] = False
    return task.build_model(plan), (torch.zeros(*there.shape, plan.features), there)

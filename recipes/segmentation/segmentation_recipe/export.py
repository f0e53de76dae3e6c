"""How a finished model is written as ONNX: prepared images (n x channels x shape) to logits.

The first class is the background. Images are prepared as ``learning.segmentation.Network`` says;
with patches, ``shape`` is the window's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from learning.run_config import Scalar
from learning.segmentation import Network


def export(run_config: Mapping[str, Scalar]) -> tuple[nn.Module, Tensor]:
    """Return the run's network and an example of what it reads.

    The example isn't of one value: normalised, that would be rounding errors and nothing else.
    """
    network = Network.read(run_config)
    shape = (2, 3 if network.colour else 1, *network.shape)
    return network.build(), torch.linspace(-1, 1, math.prod(shape)).reshape(shape)

"""What the registration networks are before they are trained, and what their prices measure."""

from __future__ import annotations

import math

import pytest
import torch

from learning.deformations import folded_share, warp
from learning.registration import Cascade, invertibility, regulariser, rigidity


@pytest.mark.parametrize("shape", [(17, 20), (12, 9, 11)])
def test_an_untrained_cascade_leaves_a_pair_almost_as_it_was(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net = Cascade(len(shape), [4, 8, 8], stages=2, integration_steps=3)
    fixed, moving = torch.rand(2, 1, *shape), torch.rand(2, 1, *shape)
    with torch.no_grad():
        found = net(fixed, moving)
    assert found.field.shape == (2, len(shape), *shape)
    assert float(found.field.abs().max()) < 0.1
    torch.testing.assert_close(found.warped, warp(moving, found.field))
    assert folded_share(found.field) == 0
    assert len(found.stages) == 2


def test_every_weight_learns() -> None:
    torch.manual_seed(0)
    net = Cascade(2, [4, 8], stages=2)
    fixed, moving = torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16)
    there, back = net(fixed, moving), net(moving, fixed)
    price = regulariser(there, 1.0, 1.0) + invertibility(there, back)
    (price + (there.warped - fixed).pow(2).mean()).backward()
    assert all(weight.grad is not None for weight in net.parameters())


def test_a_rotation_is_rigid_and_a_stretch_is_not() -> None:
    turn = torch.tensor([[math.cos(0.4), -math.sin(0.4)], [math.sin(0.4), math.cos(0.4)]])[None]
    assert float(rigidity(turn)) < 1e-12
    stretch = torch.diag(torch.tensor([1.1, 1.0]))[None]
    assert math.isclose(float(rigidity(stretch)), 0.21**2 + 0.1**2, rel_tol=1e-5)


def test_fields_are_in_32_bits_under_mixed_precision() -> None:
    net = Cascade(2, [4, 8], stages=1)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16))
    assert found.field.dtype == found.warped.dtype == torch.float32

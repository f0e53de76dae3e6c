"""Displacement fields against maps whose inverse, volume and landmarks are known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learning.deformations import (
    affine_field,
    at,
    blurred,
    compose,
    folded_share,
    integrate,
    inverse_error,
    jacobian_determinants,
    positions,
    roughness,
    warp,
)

SHAPES = [(12, 15), (9, 8, 10)]


def smooth(shape: tuple[int, ...], most: float, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(2, len(shape), *shape, generator=torch.Generator().manual_seed(seed))
    field = blurred(noise, 2.0)
    return field / field.abs().max() * most


@pytest.mark.parametrize("shape", SHAPES)
def test_no_displacement_changes_nothing(shape: tuple[int, ...]) -> None:
    image = torch.rand(2, 3, *shape)
    torch.testing.assert_close(warp(image, torch.zeros(2, len(shape), *shape)), image)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_whole_shift_moves_the_voxels_and_the_edge_goes_on(shape: tuple[int, ...]) -> None:
    image = torch.rand(1, 1, *shape)
    field = torch.zeros(1, len(shape), *shape)
    field[:, 0] = 2
    wanted = torch.cat([image[:, :, 2:], image[:, :, -1:], image[:, :, -1:]], 2)
    torch.testing.assert_close(warp(image, field), wanted)


@given(st.floats(-0.3, 0.3), st.floats(-2, 2), st.floats(-0.3, 0.3), st.floats(-2, 2))
def test_two_affine_maps_compose_as_their_matrices_do(
    shear: float, shift: float, other: float, by: float
) -> None:
    shape = (24, 24)
    one = torch.tensor([[[1.0, shear], [0.0, 1.0]]]), torch.tensor([[shift, 0.5]])
    two = torch.tensor([[[1.0, 0.0], [other, 1.0]]]), torch.tensor([[0.5, by]])
    found = compose(affine_field(*one, shape), affine_field(*two, shape))
    matrix = one[0] @ two[0]
    moved = (one[0] @ two[1][..., None])[..., 0] + one[1]
    wanted = affine_field(matrix, moved, shape)
    inner = (slice(None), slice(None), slice(9, 15), slice(9, 15))  # what stays inside
    torch.testing.assert_close(found[inner], wanted[inner], atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_affine_map_has_its_determinant_everywhere(shape: tuple[int, ...]) -> None:
    d = len(shape)
    matrix = (torch.eye(d) + 0.1 * torch.rand(d, d))[None]
    found = jacobian_determinants(affine_field(matrix, torch.ones(1, d), shape))
    torch.testing.assert_close(found, torch.linalg.det(matrix)[0].expand_as(found))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_flow_is_undone_by_the_flow_of_the_opposite_velocity(shape: tuple[int, ...]) -> None:
    velocity = smooth(shape, 2.0)
    there, back = integrate(velocity, 6), integrate(-velocity, 6)
    alone = float(velocity.norm(dim=1).mean())
    assert float(inverse_error(there, back)) < 0.1 * alone
    assert float(inverse_error(there, torch.zeros_like(there))) > 0.5 * alone
    assert folded_share(there) == 0


def test_a_mirrored_image_is_folded_everywhere() -> None:
    matrix = torch.tensor([[[-1.0, 0.0], [0.0, 1.0]]])
    assert folded_share(affine_field(matrix, torch.zeros(1, 2), (8, 8))) == 1


def test_a_field_at_a_voxel_is_that_of_the_voxel_and_linear_in_between() -> None:
    field = smooth((9, 8, 10), 2.0)
    points = positions((9, 8, 10), field).flatten(1).T.expand(2, -1, 3)
    torch.testing.assert_close(at(field, points), field.flatten(2).transpose(1, 2))
    halfway = torch.tensor([[[3.5, 4.0, 5.0]]]).expand(2, 1, 3)
    wanted = (field[:, :, 3, 4, 5] + field[:, :, 4, 4, 5]) / 2
    torch.testing.assert_close(at(field, halfway)[:, 0], wanted)


def test_the_roughness_of_a_slope_is_its_square() -> None:
    field = torch.zeros(1, 2, 6, 6)
    field[:, 0] = 0.5 * torch.arange(6.0)[:, None]
    assert math.isclose(float(roughness(field)), 0.5**2 / 4, rel_tol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_blur_keeps_what_is_even_and_has_its_width(shape: tuple[int, ...]) -> None:
    even = torch.full((1, 2, *shape), 3.0)
    torch.testing.assert_close(blurred(even, 1.5), even)
    point = torch.zeros(1, 1, 41, 41)
    point[..., 20, 20] = 1
    spread = blurred(point, 2.0)[0, 0]
    distance = (torch.arange(41.0) - 20) ** 2
    assert abs(float((spread.sum(1) * distance).sum()) - 4.0) < 0.15

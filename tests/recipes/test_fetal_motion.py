"""The fetal-motion recipe: slices of heads that moved in a known way, put where they belong."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.recipes.harness import Recipe, series, write_release
from tests.recipes.phantoms import heads, stored

SIDE = 20
SMALL: dict[str, Any] = {
    "side": SIDE,
    "voxel_mm": 2.0,
    "stacks": 3,
    "slices": 8,
    "slice_voxels": 1.8,
    "shift_voxels": 3.0,
    "channels": 8,
    "width": 32,
    "layers": 1,
    "refine_rounds": 2,
    "refine_steps": 5,
    "scored": 2,
    "num_server_rounds": 4,
    "local_steps": 22,
    "batch_size": 6,
    "learning_rate": 0.004,
    "held_out": 0.2,
}
METRICS = ("eval_error_mm", "eval_planned_error_mm", "eval_psnr", "eval_planned_psnr")


@cache
def recipe() -> Recipe:
    return Recipe("fetal_motion")


@cache
def plan() -> Any:
    return recipe().module("task").Plan.read(recipe().config(**SMALL))


def still(number: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return heads(number, (SIDE, SIDE, SIDE), generator)[0][:, 0]


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("fetal")
    folders = []
    for site in range(2):
        files = []
        for index, head in enumerate(still(8, 30 + site)):
            inside = {"thickness_mm": 2.0, "spacing_mm": (2.0, 2.0)}
            files += series(stored(head), f"p{site}{index}", **inside)
        folders.append(write_release(folder / str(site), files=files))
    return folders


def test_only_the_declared_metrics_leave(scans: list[Path]) -> None:
    few = {"num_server_rounds": 1, "local_steps": 2, "scored": 1, "refine_rounds": 1}
    run = recipe().run(scans, recipe().config(**SMALL | few))
    run.check_replies({"train_loss"}, METRICS)
    assert run.mean("eval_planned_error_mm") > 3


@pytest.mark.slow
def test_slices_of_fetuses_nobody_trained_on_are_placed_better_than_as_planned(
    scans: list[Path],
) -> None:
    trained = recipe().run(scans, recipe().config(**SMALL))
    trained.check_replies({"train_loss"}, METRICS)
    assert trained.mean("eval_error_mm") < 0.85 * trained.mean("eval_planned_error_mm")
    assert trained.mean("eval_psnr") > trained.mean("eval_planned_psnr") + 1
    assert trained.mean("eval_planned_error_mm") > 3


def test_at_the_true_poses_the_volume_is_what_was_scanned() -> None:
    poses, made = recipe().module("poses"), recipe().module("reconstruction")
    scan, volume = plan().scan, still(1, 5)
    true = poses.movement(scan, 1, 25.0, 3.0, torch.Generator().manual_seed(1))
    slices = poses.acquire(volume, true, scan)[0]
    good, _ = made.reconstruct(slices, true[0], scan)
    bad, _ = made.reconstruct(slices, torch.zeros_like(true[0]), scan)
    assert made.psnr(good, volume[0]) > made.psnr(bad, volume[0]) + 2


def test_slices_that_were_spoiled_hardly_count() -> None:
    poses, made = recipe().module("poses"), recipe().module("reconstruction")
    scan, volume = plan().scan, still(1, 6)
    none = torch.zeros(1, scan.count, 6)
    slices = poses.acquire(volume, none, scan)[0]
    spoiled = slices.clone()
    spoiled[[4, 11]] = 1.0
    found, weights = made.reconstruct(spoiled, none[0], scan)
    trusting = made.scatter(spoiled, none[0], torch.ones(scan.count), scan)
    assert float(weights[[4, 11]].max()) < 0.1
    assert float(weights.median()) > 0.8
    assert made.psnr(found, volume[0]) > made.psnr(trusting, volume[0])


def test_refining_brings_slices_that_are_a_little_off_nearer() -> None:
    poses, made = recipe().module("poses"), recipe().module("reconstruction")
    scan, volume = plan().scan, still(1, 7)
    true = torch.zeros(1, scan.count, 6)
    slices = poses.acquire(volume, true, scan)[0]
    off = true[0].clone()
    off[::5, 3:] = 1.0
    found = made.refine(slices, off, scan, rounds=4, steps=10)
    before, after = (float(poses.pose_error(scan, p, true[0])[::5].mean()) for p in (off, found))
    assert after < 0.7 * before


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3))
def test_a_rotation_vector_gives_a_rotation_by_its_length(vector: list[float]) -> None:
    given_vector = torch.tensor(vector, dtype=torch.float64)
    matrix = recipe().module("poses").rotations(given_vector)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(3).double(), atol=1e-6, rtol=0)
    angle = float(given_vector.norm())
    assert math.isclose(float(matrix.trace()), 1 + 2 * math.cos(angle), abs_tol=1e-5)
    torch.testing.assert_close(matrix @ given_vector, given_vector, atol=1e-6, rtol=0)


def test_slices_as_planned_are_planes_of_the_cube() -> None:
    poses = recipe().module("poses")
    scan = poses.Scan(side=9, stacks=3, slices=3, thickness=2.0)
    volume = torch.rand(1, 9, 9, 9)
    seen = poses.sample(volume, poses.planned(scan, poses.pixels(scan)).flatten(0, 1)[None])
    planes = seen.view(scan.count, 9, 9)
    torch.testing.assert_close(planes[0], volume[0, 2])  # height -2 of 4
    torch.testing.assert_close(planes[4], volume[0, :, 4])
    torch.testing.assert_close(planes[8], volume[0, :, :, 6])


def test_the_card_names_every_parameter_and_output() -> None:
    recipe().check_card(["train_loss", *METRICS])
    recipe().check_imports()

"""The registration recipe: known deformations found by a network that was never shown one."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

from learning.deformations import folded_share, inverse_error, warp
from learning.training import Local, train
from tests.recipes.harness import Recipe, Run, dicom, series, write_release
from tests.recipes.phantoms import Moved, moved_heads, stored

SHAPE = (24, 24)
SMALL: dict[str, Any] = {
    "shape": "24,24",
    "window_high": 1000.0,
    "channels": "8,16,16",
    "stages": 1,
    "smoothness": 0.1,
    "integration_steps": 3,
    "similarity_window": 5,
    "batch_size": 8,
    "local_steps": 10,
    "num_server_rounds": 5,
    "held_out": 0.15,
    "learning_rate": 0.003,
}
METRICS = (
    "eval_correlation",
    "eval_correlation_before",
    "eval_folded_share",
    "eval_inverse_error",
)


@cache
def recipe() -> Recipe:
    return Recipe("registration")


def release(folder: Path, moved: Moved) -> Path:
    """A release whose subjects have two images each."""
    files = []
    for index in range(len(moved.fixed)):
        for which, image in (("a", moved.fixed), ("b", moved.moving)):
            series_uid = f"1.2.3.{index}.{ord(which)}"
            files.append(
                dicom(stored(image[index]), f"p{folder.name}{index}", series_uid=series_uid)
            )
    return write_release(folder, files=files)


def run(folder: Path, **changes: Any) -> Run:
    folders = [
        release(folder / f"s{site}", moved_heads(16, SHAPE, 10 + site, most=3.0))
        for site in range(2)
    ]
    return recipe().run(folders, recipe().config(**SMALL | changes))


def model(found: Run, **changes: Any) -> Any:
    task = recipe().module("task")
    built = task.build_model(task.Plan.read(recipe().config(**SMALL | changes)))
    built.load_state_dict(found.arrays)
    return built.eval()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("trained"))


def test_patients_nobody_trained_on_are_registered_by_what_hospitals_learned(
    trained: Run,
) -> None:
    unseen = moved_heads(12, SHAPE, 99, most=3.0)
    with torch.no_grad():
        found = model(trained)(unseen.fixed, unseen.moving)
    nothing = torch.zeros_like(unseen.field)
    assert unseen.target_error(found.field) < 0.7 * unseen.target_error(nothing)
    assert folded_share(found.field) < 0.001


@pytest.mark.slow
def test_the_cascade_goes_further_than_its_affine_stage_alone() -> None:
    task, dice = recipe().module("task"), recipe().module("similarity").dice
    plan = task.Plan.read(recipe().config(**SMALL))
    seen, unseen = moved_heads(28, SHAPE, 1, most=3.0), moved_heads(12, SHAPE, 99, most=3.0)
    net = task.build_model(plan)
    local = Local(0.003, steps=144, batch_size=8, optimiser="adam")
    train(net, TensorDataset(seen.fixed, seen.moving), task.loss_of(plan), local)
    with torch.no_grad():
        found = net(unseen.fixed, unseen.moving)
    fields = found.field, found.affine, torch.zeros_like(found.field)
    errors = [unseen.target_error(field) for field in fields]
    overlaps = [
        dice(unseen.fixed_labels, warp(unseen.moving_labels, field, "nearest")) for field in fields
    ]
    assert errors[0] < 0.95 * errors[1] < 0.6 * errors[2]
    assert overlaps[0] > overlaps[1] + 0.01 > overlaps[2] + 0.1


def test_hospitals_see_the_gain_on_their_held_out_patients(trained: Run) -> None:
    assert trained.mean("eval_correlation") > 1.3 * trained.mean("eval_correlation_before")
    assert trained.mean("eval_folded_share") < 0.001
    trained.check_replies({"train_loss"}, METRICS)


@pytest.mark.slow
def test_the_invertibility_loss_lowers_the_inverse_error() -> None:
    task = recipe().module("task")
    moved, unseen = moved_heads(16, SHAPE, 20), moved_heads(12, SHAPE, 98)
    errors = []
    for price in (0.3, 0.0):
        plan = task.Plan.read(recipe().config(**SMALL | {"invertibility": price}))
        net = task.build_model(plan)
        local = Local(0.003, steps=30, batch_size=8, optimiser="adam")
        train(net, TensorDataset(moved.fixed, moved.moving), task.loss_of(plan), local)
        with torch.no_grad():
            there, back = net(unseen.fixed, unseen.moving), net(unseen.moving, unseen.fixed)
        errors.append(float(inverse_error(there.field, back.field)))
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.slow
def test_volumes_are_registered_too(tmp_path: Path) -> None:
    moved = moved_heads(6, (16, 16, 16), 5, most=1.0)
    files = []
    for index in range(6):
        for name, image in (("a", moved.fixed), ("b", moved.moving)):
            files += series(stored(image[index]), f"p{index}", name=name)
    folder = write_release(tmp_path / "r", files=files)
    changes = SMALL | {
        "shape": "16,16,16",
        "similarity_window": 5,
        "channels": "8,8",
        "learning_rate": 0.005,
    }
    changes |= {"num_server_rounds": 4, "local_steps": 15, "batch_size": 4, "minimum_nodes": 1}
    found = recipe().run([folder], recipe().config(**changes | {"held_out": 0.0}))
    losses = [row["train_loss"] for row in found.metrics("train", last=False)]
    net = model(found, **changes)
    with torch.no_grad():
        field = net(moved.fixed, moved.moving).field
    assert losses[-1] < losses[0]
    assert moved.target_error(field) < 0.9 * moved.target_error(torch.zeros_like(field))


def test_a_hospital_without_pairs_answers_zeros(tmp_path: Path) -> None:
    lone = write_release(tmp_path / "r", files=[dicom(stored(torch.rand(1, 24, 24)), "p")])
    task = recipe().module("task")
    plan = task.Plan.read(recipe().config(**SMALL))
    for held_out in (False, True):
        found = task.pairs(lone, plan, held_out)
        assert found.subjects == len(found.examples) == 0
        scores = task.evaluate(task.build_model(plan), found.examples, plan)
        assert scores == task.Scores()


def test_between_patients_nobody_is_paired_with_someone_of_the_other_side(tmp_path: Path) -> None:
    moved = moved_heads(12, SHAPE, 3)
    folder = release(tmp_path / "r", moved)
    task = recipe().module("task")
    told = SMALL | {"pairs": "between", "held_out": 0.5}
    plan = task.Plan.read(recipe().config(**told))
    sides = [task.pairs(folder, plan, held_out).examples.items for held_out in (False, True)]
    people = [{image[0].subject for pair in side for image in pair} for side in sides]
    assert people[0] and people[1] and not people[0] & people[1]


@pytest.mark.parametrize("change", [{"shape": "24"}, {"pairs": "x"}, {"similarity_window": 4}])
def test_a_parameter_out_of_its_range_is_named(change: dict[str, Any]) -> None:
    (key,) = (name.replace("_", "-") for name in change)
    with pytest.raises(ValueError, match=key):
        recipe().module("task").Plan.read(recipe().config(**SMALL | change))


def test_the_card_names_every_parameter_and_output() -> None:
    recipe().check_card(["train_loss", *METRICS])
    recipe().check_imports()

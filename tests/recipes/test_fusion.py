"""The fusion recipe: CT and ultrasound of one head, brought together without being told how."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from learning.deformations import folded_share, warp
from tests.recipes.harness import Recipe, Run, dicom, write_release
from tests.recipes.phantoms import Moved, moved_heads, stored, ultrasound

SHAPE = (32, 32)
SMALL: dict[str, Any] = {
    "shape": "32,32",
    "fixed_low": 0.0,
    "fixed_high": 1000.0,
    "moving_low": 0.0,
    "moving_high": 1000.0,
    "channels": "8,16,16",
    "integration_steps": 3,
    "batch_size": 8,
    "local_steps": 12,
    "num_server_rounds": 4,
    "held_out": 0.15,
    "learning_rate": 0.003,
}
METRICS = (
    "eval_information",
    "eval_information_before",
    "eval_difference",
    "eval_difference_before",
    "eval_folded_share",
)


@cache
def recipe() -> Recipe:
    return Recipe("fusion")


def plan() -> Any:
    return recipe().module("task").Plan.read(recipe().config(**SMALL))


def release(folder: Path, moved: Moved, seen: torch.Tensor) -> Path:
    files = []
    for index in range(len(seen)):
        who = f"p{folder.name}{index}"
        files.append(dicom(stored(moved.fixed[index]), who, modality="CT"))
        files.append(dicom(stored(seen[index]), who, modality="US", series_uid=f"1.2.{index}"))
    return write_release(folder, files=files)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    folder = tmp_path_factory.mktemp("fusion")
    folders = []
    for site in range(2):
        moved = moved_heads(16, SHAPE, 40 + site)
        folders.append(release(folder / f"s{site}", moved, ultrasound(moved.moving, site)))
    drafts = folder / "drafts"
    drafts.mkdir()
    config = recipe().config(**SMALL | {"drafts": True})
    return recipe().run(folders, config, **{"drafts-path": str(drafts)}), drafts


def test_landmarks_of_patients_nobody_trained_on_come_nearer(trained: tuple[Run, Path]) -> None:
    unseen = moved_heads(12, SHAPE, 88)
    model = recipe().module("task").build_model(plan()).eval()
    model.load_state_dict(trained[0].arrays)
    with torch.no_grad():
        found = model(unseen.fixed, ultrasound(unseen.moving, 5))
    nothing = torch.zeros_like(unseen.field)
    assert unseen.target_error(found.field) < 0.7 * unseen.target_error(nothing)
    assert folded_share(found.field) < 0.001


def test_mutual_information_that_nobody_trained_on_rises(trained: tuple[Run, Path]) -> None:
    run, _ = trained
    run.check_replies({"train_loss"}, METRICS)
    assert run.mean("eval_information") > run.mean("eval_information_before")
    assert run.mean("eval_difference") < run.mean("eval_difference_before")


def test_fusions_of_patients_are_drafts_and_in_no_reply(trained: tuple[Run, Path]) -> None:
    run, drafts = trained
    pictures = sorted(drafts.iterdir())
    assert len(pictures) == 32  # each patient of both hospitals, once
    assert all(path.name.endswith("-fused.png") for path in pictures)
    with Image.open(pictures[0]) as picture:
        assert picture.size == (32, 32)
        assert np.asarray(picture).std() > 5
    sizes = {a.numpy().size for r in run.grid.replies for a in _arrays(r)}
    assert 32 * 32 not in sizes


def _arrays(reply: Any) -> list[Any]:
    return [a for record in reply.content.array_records.values() for a in record.values()]


def test_a_descriptor_is_the_same_of_an_image_and_of_its_negative() -> None:
    similarity = recipe().module("similarity")
    image = moved_heads(1, SHAPE, 1).fixed
    wanted = similarity.descriptor(image, 1, 2)
    for other in (1 - image, 0.3 * image + 0.5):
        found = similarity.descriptor(other, 1, 2)
        torch.testing.assert_close(found, wanted, atol=5e-3, rtol=0)
    for shape in ((9, 11), (7, 8, 9)):
        made = similarity.descriptor(torch.rand(2, 1, *shape), 1, 1)
        assert made.shape == (2, 2 * len(shape), *shape)
        assert float(made.max()) == 1.0
        assert float(made.min()) >= 0


def test_descriptors_of_two_modalities_differ_least_where_they_belong_together() -> None:
    similarity = recipe().module("similarity")
    moved = moved_heads(6, (40, 40), 2)
    seen = ultrasound(moved.fixed, 1)
    shift = torch.zeros(6, 2, 40, 40)
    apart = []
    for by in (0.0, 2.0, 4.0):
        shift[:, 0] = by
        apart.append(float(similarity.difference(moved.fixed, warp(seen, shift), 2, 2)))
    assert apart[0] < apart[1] < apart[2]


def test_mutual_information_is_the_entropy_of_an_image_with_itself() -> None:
    similarity = recipe().module("similarity")
    values = torch.randint(0, 4, (1, 1, 64, 64)).float()
    share = torch.bincount(values.flatten().long()).double() / values.numel()
    entropy = float(-(share * share.log()).sum())
    assert abs(similarity.mutual_information(values, 3 - values, bins=4) - entropy) < 1e-9
    assert similarity.mutual_information(values, torch.rand(1, 1, 64, 64)) < 0.03


def test_a_fusion_keeps_what_either_shows() -> None:
    fuse = recipe().module("fused").fuse
    image = moved_heads(1, SHAPE, 4).fixed
    torch.testing.assert_close(fuse(image, image), image.clamp(0, 1), atol=1e-5, rtol=0)
    left, right = torch.full((2, 1, 1, 32, 32), 0.5)
    left[..., 16, 4:12] = 1.0
    right[..., 16, 20:28] = 1.0
    both = fuse(left, right)
    assert float(both[..., 16, 6:10].min()) > 0.8
    assert float(both[..., 16, 22:26].min()) > 0.8


def test_the_card_names_every_parameter_and_output() -> None:
    recipe().check_card(["train_loss", *METRICS])
    recipe().check_imports("PIL")

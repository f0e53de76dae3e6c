"""The recipe of CT classes: nodules that differ in texture, over two hospitals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from learning.nifti import written
from learning.pixels import Volume
from tests.recipes.harness import File, Recipe, series, write_release
from tests.recipes.pictures import nodule

METRICS = ("eval_loss", "eval_accuracy", "eval_balanced_accuracy", "eval_auc", "eval_distance")
CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe("classification_3d")


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two hospitals; one has slices twice as thick."""
    folders = []
    for site, slices in (("north", 8), ("south", 4)):
        rng = np.random.default_rng(len(folders))
        files: list[File] = []
        rows = []
        for number in range(32):
            kind, subject = number % 2, f"{site}-{number}"
            files += series(
                nodule(kind, rng, (slices, 16, 16)),
                subject,
                modality="CT",
                sop_class_uid=CT,
                intercept=-1024,
                thickness_mm=16 / slices,
            )
            rows.append({"subject": subject, "subtype": ("solid", "ground-glass")[kind]})
        folder = tmp_path_factory.mktemp(site) / "release"
        folders.append(write_release(folder, {"nodules": pl.DataFrame(rows)}, files))
    return folders


def told(recipe: Recipe, **changes: Any) -> dict[str, Any]:
    values = {
        "table": "nodules", "label": "subtype", "classes": "solid,ground-glass",
        "spacing-mm": 1.0, "shape": "16,16,16", "num-server-rounds": 4, "local-epochs": 2,
        "least-steps": 0, "learning-rate": 0.005, "batch-size": 8, "augment": False,
    }  # fmt: skip
    return recipe.config(**(values | changes))


def test_textures_are_told_apart_over_hospitals(recipe: Recipe, releases: list[Path]) -> None:
    run = recipe.run(releases, told(recipe))
    run.check_replies(["train_loss"], METRICS)
    # Both classes are as frequent: whoever always says one is right in half of all cases.
    assert run.mean("eval_balanced_accuracy") > 0.75
    assert run.mean("eval_auc") > 0.85


def test_a_nifti_volume_is_the_same_example_as_its_series(recipe: Recipe, tmp_path: Path) -> None:
    values = np.random.default_rng(2).integers(0, 255, (6, 14, 16)).astype(np.uint8)
    stored = series(values, "a", modality="CT", sop_class_uid=CT, thickness_mm=2.0, bits=8)
    upright = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])
    data = written(values, Volume(values, (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), upright))
    nifti = File("b", data, ".nii", {"kind": "volume", "modality": "CT", "frames": 6})
    rows = {"subject": ["a", "b"], "subtype": ["solid"] * 2, "fold": ["train", "test"]}
    folder = write_release(tmp_path / "r", {"nodules": pl.DataFrame(rows)}, [*stored, nifti])
    task = recipe.module("task")
    plan = task.Plan.read(told(recipe, **{"split-column": "fold", "window-high": 300.0}))
    training, held_out = task.examples(folder, plan)
    assert (len(training), len(held_out)) == (1, 1)
    assert np.array_equal(training[0][0], held_out[0][0])
    assert training[0][0].std() > 0


def test_what_is_done_to_volumes_is_the_same_in_each_run(
    recipe: Recipe, releases: list[Path]
) -> None:
    config = told(recipe, augment=True, **{"num-server-rounds": 1, "local-steps": 2})
    one, other = (recipe.run(releases, config).arrays for _ in range(2))
    assert {n: w.numpy().tobytes() for n, w in one.items()} == {
        n: w.numpy().tobytes() for n, w in other.items()
    }


def test_a_volume_is_cut_around_a_point_in_the_patients_coordinates(recipe: Recipe) -> None:
    task = recipe.module("task")
    plan = task.Plan.read(told(recipe, shape="8,8,8", centre="x,y,z", **{"spacing-mm": 2.0}))
    values = np.full((20, 40, 40), -1000, np.float32)
    values[10:12, 30:34, 8:12] = 400  # slices of 4 mm, pixels of 2 mm
    volume = Volume(values, (4.0, 2.0, 2.0), (-50.0, 10.0, -300.0), np.eye(3)[::-1].copy())
    centre = (-50.0 + 9.5 * 2, 10.0 + 31.5 * 2, -300.0 + 10.5 * 4)
    cut = task.prepared(volume, centre, plan)
    assert cut.shape == (8, 8, 8)
    assert cut[2:6, 2:6, 2:6].mean() > 0.7  # its edges are blurred
    assert cut[0].max() == cut[:, 0].max() == cut[:, :, 0].max() == -1
    far = task.prepared(volume, (1e6, 0.0, 0.0), plan)
    assert (far == -1).all()


def test_a_patient_without_a_centre_is_left_out_where_one_is_wanted(
    recipe: Recipe, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    files = [f for s in ("a", "b") for f in series(nodule(0, rng, (8, 8, 8)), s, modality="CT")]
    rows = {"subject": ["a", "b"], "subtype": ["solid"] * 2, "x": [1.0, None], "y": [1.0, 1.0]}
    table = pl.DataFrame(rows | {"z": [1, 1]})
    folder = write_release(tmp_path / "r", {"nodules": table}, files)
    task = recipe.module("task")
    plan = task.Plan.read(told(recipe, centre="x,y,z", **{"held-out": 0.0}))
    training, _ = task.examples(folder, plan)
    assert [item.assets[0].subject for item in training.items] == ["a"]
    assert training[0][0].shape == (1, 16, 16, 16)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"shape": "8,8"}, "shape"),
        ({"shape": "512,512,512"}, "shape"),
        ({"centre": "x,y"}, "centre"),
        ({"window-low": 500.0}, "window-low"),
        ({"spacing-mm": 0.0}, "spacing-mm"),
    ],
)
def test_a_run_config_that_doesnt_fit_names_its_key(
    recipe: Recipe, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        recipe.module("task").Plan.read(recipe.config(**changes))


def test_the_card_and_the_imports_are_whole(recipe: Recipe) -> None:
    recipe.check_card([*METRICS, "train_loss", "num-examples"])
    recipe.check_imports()

"""The recipe of image classes: stages of chest films, lesions of the skin, over hospitals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from tests.recipes.harness import Recipe, dicom, photograph, write_release
from tests.recipes.pictures import chest, lesion

CHEST_XRAY = Path("/work/shared/data/chest-xray/pneumoniamnist_balanced3166.npz")
METRICS = ("eval_loss", "eval_accuracy", "eval_balanced_accuracy", "eval_auc", "eval_distance")
DX = "1.2.840.10008.5.1.4.1.1.1.1"


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe("classification_2d")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two hospitals' chest films with a stage each, one of them with another contrast."""
    folders = []
    for site, contrast in (("north", 1.0), ("south", 0.8)):
        rng = np.random.default_rng(len(folders))
        files, rows = [], []
        for number in range(64):
            stage, subject = number % 4, f"{site}-{number}"
            film = chest(stage, rng, 40, contrast)
            files.append(dicom(film, subject, modality="DX", sop_class_uid=DX, bits=16))
            rows.append({"subject": subject, "profusion": str(stage)})
        folder = tmp_path_factory.mktemp(site) / "release"
        folders.append(write_release(folder, {"films": pl.DataFrame(rows)}, files))
    return folders


def staged(recipe: Recipe, **changes: Any) -> dict[str, Any]:
    told = {
        "table": "films", "label": "profusion", "classes": "0,1,2,3", "ordinal": True,
        "modality": "DX,CR", "size": 40, "num-server-rounds": 6, "local-epochs": 3,
        "least-steps": 0, "learning-rate": 0.005, "held-out": 0.25, "augment": False,
    }  # fmt: skip
    return recipe.config(**(told | changes))


def test_stages_of_films_are_learned_over_hospitals(recipe: Recipe, films: list[Path]) -> None:
    run = recipe.run(films, staged(recipe))
    run.check_replies(["train_loss"], METRICS)
    # Chance is a quarter, and a mean distance of 1.25.
    assert run.mean("eval_balanced_accuracy") > 0.5
    assert run.mean("eval_distance") < 0.6
    first, last = run.metrics(last=False)[0], run.metrics()[0]
    assert last["eval_loss"] < first["eval_loss"]


def test_a_second_run_gives_the_same_bytes(recipe: Recipe, films: list[Path]) -> None:
    config = staged(recipe, **{"num-server-rounds": 1, "local-epochs": 1, "augment": True})
    one, other = (recipe.run(films, config).arrays for _ in range(2))
    assert {n: w.numpy().tobytes() for n, w in one.items()} == {
        n: w.numpy().tobytes() for n, w in other.items()
    }


@pytest.mark.slow
def test_lesions_are_told_apart_under_each_hospitals_light(recipe: Recipe, tmp_path: Path) -> None:
    folders = []
    for site, light in (("warm", (1.0, 0.85, 0.7)), ("cold", (0.75, 0.9, 1.0))):
        rng = np.random.default_rng(len(folders) + 5)
        files, rows = [], []
        for number in range(48):
            kind = (0, 0, 0, 0, 1, 2)[number % 6]  # rare ones
            subject = f"{site}-{number}"
            files.append(photograph(lesion(kind, rng, 32, light), subject))
            rows.append({"subject": subject, "diagnosis": ("nevus", "melanoma", "other")[kind]})
        table = {"skin": pl.DataFrame(rows)}
        folders.append(write_release(tmp_path / site, table, files))
    config = recipe.config(
        **{
            "table": "skin", "label": "diagnosis", "classes": "nevus,melanoma,other",
            "kind": "photograph", "colour": True, "colour-constancy": True, "size": 32,
            "class-weights": "balanced", "focal-gamma": 1.0, "num-server-rounds": 5,
            "local-epochs": 3, "learning-rate": 0.005, "batch-size": 8, "augment": True,
        }
    )  # fmt: skip
    run = recipe.run(folders, config)
    # Whoever always says "nevus" has a balanced accuracy of one third.
    assert run.mean("eval_balanced_accuracy") > 0.7
    assert run.mean("eval_auc") > 0.85


def test_mixed_precision_learns_too(recipe: Recipe, films: list[Path]) -> None:
    config = staged(recipe, **{"num-server-rounds": 1, "local-steps": 2, "mixed-precision": True})
    run = recipe.run(films, config)
    run.check_replies(["train_loss"], METRICS)
    assert all(value.dtype is torch.float32 for value in run.arrays.values())


def test_a_network_begins_from_approved_weights_but_for_its_head(
    recipe: Recipe, films: list[Path], tmp_path: Path
) -> None:
    import hashlib

    task = recipe.module("task")
    plan = task.Plan.read(staged(recipe, seed=99))
    given = {name: value.clone() for name, value in task.build_model(plan).state_dict().items()}
    path = tmp_path / "w.safetensors"
    save_file(given, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.rename(tmp_path / f"{digest}.safetensors")
    config = staged(
        recipe, weights=digest, **{"num-server-rounds": 1, "learning-rate": 1e-9, "local-steps": 1}
    )
    found = recipe.run(films, config, **{"weights-path": str(tmp_path)}).arrays
    fresh = task.build_model(task.Plan.read(staged(recipe))).state_dict()
    stem = "features.0.weight"
    np.testing.assert_allclose(found[stem], given[stem], atol=1e-4)
    np.testing.assert_allclose(found["fc.weight"], fresh["fc.weight"], atol=1e-4)
    with pytest.raises(ValueError, match="approved"):
        recipe.run(films, config, **{"weights-path": str(tmp_path / "elsewhere")})


def test_a_hospital_without_images_answers_zeros(
    recipe: Recipe, films: list[Path], tmp_path: Path
) -> None:
    table = {"films": pl.DataFrame({"subject": ["a"], "profusion": ["1"]})}
    empty = write_release(tmp_path / "r", table)
    config = staged(recipe, **{"num-server-rounds": 1, "local-steps": 1})
    run = recipe.run([films[0], empty], config)
    assert all(value == 0 for value in run.metrics()[1].values())
    assert all(value == 0 for value in run.metrics("train")[1].values())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"classes": "a"}, "classes"),
        ({"classes": "a,a"}, "classes"),
        ({"class-weights": "x"}, "class-weights"),
        ({"ordinal": True, "focal-gamma": 1.0}, "focal-gamma"),
        ({"size": 8}, "size"),
        ({"kind": "slide"}, "kind"),
        ({"table": "../t"}, "table"),
        ({"colour-constancy": True}, "colour-constancy"),
        ({"held-out": 1.0}, "held-out"),
    ],
)
def test_a_run_config_that_doesnt_fit_names_its_key(
    recipe: Recipe, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        recipe.module("task").Plan.read(recipe.config(**changes))


@pytest.mark.parametrize(
    "network",
    [
        "resnet18",
        pytest.param("densenet121", marks=pytest.mark.slow),
        pytest.param("efficientnet-b0", marks=pytest.mark.slow),
    ],
)
def test_larger_networks_take_the_same_images(recipe: Recipe, network: str) -> None:
    task = recipe.module("task")
    plan = task.Plan.read(recipe.config(network=network, colour=True, size=64))
    model = task.build_model(plan).eval()
    with torch.inference_mode():
        assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 2)
    assert not any("running" in name for name in model.state_dict())


def test_the_card_and_the_imports_are_whole(recipe: Recipe) -> None:
    recipe.check_card([*METRICS, "train_loss", "num-examples"])
    recipe.check_imports()


@pytest.mark.skipif(not CHEST_XRAY.exists(), reason="needs the chest films")
def test_pneumonia_is_seen_on_public_films(recipe: Recipe, tmp_path: Path) -> None:
    with np.load(CHEST_XRAY) as held:
        names = set(held.files)
        images = held[next(n for n in names if "train" in n and "image" in n)]
        found = held[next(n for n in names if "train" in n and "label" in n)].reshape(-1)
    rng = np.random.default_rng(0)
    folders = []
    for site, chosen in enumerate(np.array_split(rng.permutation(len(found))[:400], 2)):
        files = [photograph(images[index].squeeze(), f"{site}-{index}") for index in chosen]
        rows = [{"subject": f"{site}-{index}", "pneumonia": bool(found[index])} for index in chosen]
        table = {"films": pl.DataFrame(rows)}
        folders.append(write_release(tmp_path / str(site), table, files))
    config = recipe.config(
        **{
            "table": "films", "label": "pneumonia", "classes": "false,true", "kind": "photograph",
            "size": 28, "num-server-rounds": 4, "local-epochs": 2, "learning-rate": 0.005,
            "augment": False,
        }
    )  # fmt: skip
    run = recipe.run(folders, config)
    assert run.mean("eval_auc") > 0.85

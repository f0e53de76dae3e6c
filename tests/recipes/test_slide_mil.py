"""The whole-slide recipe: bags whose label hangs on few tiles, slides as scanners write them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tifffile
import torch
from sklearn.metrics import roc_auc_score

from tests.recipes.harness import File, Recipe, Run, write_release

torch.set_num_threads(1)
FEATURES, TILES = 16, 40
SMALL: dict[str, Any] = {
    "source": "table",
    "feature_count": FEATURES,
    "most_tiles": TILES,
    "width": 32,
    "attention_units": 16,
    "num_server_rounds": 10,
    "local_epochs": 4,
    "least_steps": 0,
    "batch_size": 16,
    "learning_rate": 0.005,
    "held_out": 0.3,
}


@cache
def recipe() -> Recipe:
    return Recipe("slide_mil")


def bags_of_digits(number: int, seed: int) -> dict[str, pl.DataFrame]:
    """Bags of instances of ten kinds; one is positive when it holds one or two of kind nine."""
    rng = np.random.default_rng(seed)
    kinds = np.random.default_rng(0).normal(size=(10, FEATURES)) * 0.6
    rows, labels = [], []
    for index in range(number):
        held = rng.integers(0, 9, TILES - rng.integers(0, 10))
        positive = index % 2 == 0
        if positive:
            held[: rng.integers(1, 3)] = 9
        values = kinds[held] + rng.normal(size=(len(held), FEATURES)) * 0.7
        subject = f"s{seed}-{index}"
        labels.append({"subject": subject, "outcome": positive})
        rows += [
            {"subject": subject, "slide": "a"} | {f"f{j}": v for j, v in enumerate(value)}
            for value in values
        ]
    return {"table": pl.DataFrame(labels), "tiles": pl.DataFrame(rows)}


def run(folder: Path, **changes: Any) -> Run:
    folders = [write_release(folder / str(site), bags_of_digits(70, 1 + site)) for site in range(2)]
    config = recipe().config(**SMALL | {"positive": "true"} | changes)
    return recipe().run(folders, config)


def test_attention_finds_the_few_tiles_that_a_mean_loses(tmp_path: Path) -> None:
    with_attention = run(tmp_path / "attention")
    with_mean = run(tmp_path / "mean", pooling="mean")
    areas = [found.mean("eval_auc") for found in (with_attention, with_mean)]
    assert areas[0] > 0.85
    assert areas[0] > areas[1] + 0.05
    with_attention.check_replies({"train_loss"}, {"eval_loss", "eval_auc"})
    net = recipe().module("task").build_model(plan())
    net.load_state_dict(with_attention.arrays)
    frames = bags_of_digits(20, 50)
    found = []
    for (subject, _), rows in frames["tiles"].group_by(["subject", "slide"], maintain_order=True):
        if int(str(subject).split("-")[1]) % 2 == 0:  # its first tile is of kind nine
            values = torch.tensor(rows.select(pl.col("^f.*$")).to_numpy()[None]).float()
            with torch.no_grad():
                weights = net.attention(values, torch.ones(1, values.shape[1], dtype=torch.bool))
            found.append(float(weights[0, 0]) * values.shape[1])
    assert np.median(found) > 3  # an even share is 1


def plan(**changes: Any) -> Any:
    return recipe().module("plan").Plan.read(recipe().config(**SMALL | changes))


@pytest.mark.parametrize("pooling", ["attention", "mean", "max"])
def test_what_fills_a_bag_up_changes_no_answer(pooling: str) -> None:
    net = recipe().module("network").BagClassifier(5, 8, 4, pooling)
    tiles = torch.randn(2, 7, 5)
    there = torch.ones(2, 7, dtype=torch.bool)
    filled = torch.cat([tiles, torch.full((2, 3, 5), 9.0)], 1)
    known = torch.cat([there, torch.zeros(2, 3, dtype=torch.bool)], 1)
    torch.testing.assert_close(net(tiles, there), net(filled, known))
    order = torch.randperm(7)
    torch.testing.assert_close(net(tiles, there), net(tiles[:, order], there))
    nothing = torch.zeros(1, 4, dtype=torch.bool)
    assert bool(torch.isfinite(net(torch.zeros(1, 4, 5), nothing)).all())


def test_the_area_under_the_curve_is_scikit_learns() -> None:
    task = recipe().module("task")
    rng = np.random.default_rng(3)
    for _ in range(20):
        scores = rng.integers(0, 6, 30).astype(float)
        positive = rng.random(30) < 0.4
        assert abs(task.auc(scores, positive) - roc_auc_score(positive, scores)) < 1e-12
    assert task.auc(scores, np.ones(30, dtype=bool)) == 0.5


def slide(subject: str, ill: bool, seed: int) -> File:
    """A tiled TIFF: glass around tissue, in which the ill have a few dark stripes."""
    import io

    rng = np.random.default_rng(seed)
    picture = np.full((512, 512, 3), 245, np.uint8)
    tissue = rng.normal((200, 120, 170), 8, (320, 320, 3)).clip(0, 255)
    if ill:
        for _ in range(2):
            row, column = rng.integers(0, 4, 2) * 64 + 32
            tissue[row : row + 64, column : column + 64 : 4] = (60, 20, 90)
    picture[96:416, 96:416] = tissue
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, picture, tile=(256, 256), photometric="rgb")
    row = {"kind": "slide", "modality": "SM"}
    return File(subject, buffer.getvalue(), ".tiff", row)


def test_slides_are_cut_into_tiles_of_tissue_and_learned_from(tmp_path: Path) -> None:
    folders = []
    for site in range(2):
        subjects = [f"s{site}-{index}" for index in range(16)]
        ill = [index % 2 == 0 for index in range(16)]
        files = [
            slide(s, i, 100 * site + n) for n, (s, i) in enumerate(zip(subjects, ill, strict=True))
        ]
        table = pl.DataFrame({"subject": subjects, "outcome": ill})
        folders.append(write_release(tmp_path / str(site), {"table": table}, files))
    changes = SMALL | {"source": "slides", "positive": "true", "network": "small"}
    changes |= {"tile_pixels": 64, "downsample": 1.0, "tissue": 0.5, "most_tiles": 36}
    changes |= {"num_server_rounds": 5, "learning_rate": 0.01}
    found = recipe().run(folders, recipe().config(**changes))
    bags = recipe().module("bags")
    made = bags.bags(folders[0], plan(**changes), False, Path("/weights")).examples
    tiles = [len(features) for features, _ in made]
    assert all(16 <= n <= 36 for n in tiles)  # of 64, most of them glass
    assert found.mean("eval_auc") > 0.8


APERIO = Path("/work/shared/data/slides/CMU-1-Small-Region.svs")


@pytest.mark.skipif(not APERIO.is_file(), reason="needs a public slide that isn't here")
def test_an_aperio_slide_becomes_a_bag_of_finite_features(tmp_path: Path) -> None:
    file = File("p", APERIO.read_bytes(), ".svs", {"kind": "slide", "modality": "SM"})
    table = pl.DataFrame({"subject": ["p"], "outcome": [True]})
    folder = write_release(tmp_path / "r", {"table": table}, [file])
    asked = plan(source="slides", positive="true", network="small", held_out=0.0, most_tiles=50)
    ((features, label),) = (
        recipe().module("bags").bags(folder, asked, False, Path("/weights")).examples
    )
    assert len(features) > 20
    assert bool(torch.isfinite(features).all())
    assert float(features.float().std(0).mean()) > 0
    assert label == 1


def test_features_of_a_table_are_thinned_out_whole_and_kept_apart_by_slide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from learning import releases

    monkeypatch.setattr(releases, "_AT_ONCE", 60)  # two columns of thirty rows
    frame = pl.DataFrame(
        {
            "subject": ["a", "b", "a"] * 10,
            "slide": ["1", "1", "2"] * 10,
            **{f"f{n}": [row + n / 8 for row in range(30)] for n in range(5)},
        }
    )
    frame = frame.with_columns(f3=pl.when(pl.col("f0") == 3).then(None).otherwise("f3"))
    outcomes = {"subject": ["a", "b"], "outcome": [True, False], "fold": ["train", "test"]}
    folder = write_release(tmp_path / "r", {"table": pl.DataFrame(outcomes), "tiles": frame})
    asked = plan(
        positive="true", most_tiles=4, split_column="fold", **{"feature-count": 5, "bag": "slide"}
    )
    bags = recipe().module("bags").bags
    training, held_out = (bags(folder, asked, half, Path("/weights")) for half in (False, True))
    assert (training.subjects, held_out.subjects) == (1, 1)
    told = [(features[:, 0].tolist(), label) for features, label in training.examples]
    assert told == [([0, 9, 18, 27], 1), ([2, 11, 20, 29], 1)]
    assert [features[:, 4].tolist() for features, _ in held_out.examples] == [
        [1.5, 10.5, 19.5, 28.5]
    ]
    # The fourth row of the first slide lacks a number; it stays out wherever it is chosen.
    every = plan(positive="true", most_tiles=10, held_out=0.0, feature_count=5, bag="slide")
    found = bags(folder, every, False, Path("/weights")).examples
    assert [len(features) for features, _ in found] == [9, 10, 10]
    # A node's release holds one table: tiles that carry their patient's outcome.
    one = frame.with_columns(outcome=pl.col("subject") == "a")
    folder = write_release(tmp_path / "one", {"tiles": one})
    told = {"table": "tiles", "bag": "subject", "most_tiles": 10, "feature_count": 5}
    found = bags(folder, plan(positive="true", held_out=0.0, **told), False, Path("/weights"))
    assert [(len(features), label) for features, label in found.examples] == [(9, 1), (10, 0)]


def test_the_card_names_every_parameter_and_output() -> None:
    recipe().check_card(["train_loss", "eval_loss", "eval_auc"])
    recipe().check_imports("openslide")

"""The brain-age recipe: heads whose ventricles grow with age, as DICOM of three hospitals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.ndimage import gaussian_filter

from learning import pixels
from tests.recipes.harness import File, Recipe, Run, dicom, series, write_release

RECIPE = Recipe("brain_age")
task = RECIPE.module("task")


def head(age: float, seed: int, slices: int = 20, side: int = 28) -> np.ndarray:
    """A T1-like head: scalp, grey and white matter, ventricles that are dark and grow with age.

    Its size, place, brightness and the coil's shading are chance.
    """
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(
        np.linspace(-1, 1, slices),
        np.linspace(-1, 1, side),
        np.linspace(-1, 1, side),
        indexing="ij",
    )
    size = rng.uniform(0.75, 0.95)
    centre = rng.uniform(-0.06, 0.06, 3)

    def inside(scale: tuple[float, float, float], at: tuple[float, float, float]) -> np.ndarray:
        parts = zip((z, y, x), scale, at, centre, strict=True)
        return sum(((v - c - a * size) / (s * size)) ** 2 for v, s, a, c in parts) < 1

    found = np.zeros(z.shape)
    found[inside((1, 1, 0.85), (0, 0, 0))] = 0.5
    found[inside((0.88, 0.88, 0.74), (0, 0, 0))] = 0.65
    found[inside((0.74, 0.74, 0.6), (0, 0, 0))] = 0.9
    wide = 0.08 + 0.20 * (age - 20) / 70 + rng.normal(0, 0.012)
    for sign in (-1, 1):
        found[inside((0.36, 0.42, max(wide, 0.03)), (0.0, 0.0, sign * 0.24))] = 0.15
    found = gaussian_filter(found, 0.6) * (1 + 0.2 * rng.uniform(-1, 1) * x)
    noisy = found * rng.uniform(600, 1200) + rng.normal(0, 12, z.shape)
    return np.clip(noisy, 0, 4095).round().astype(np.uint16)


def release(folder: Path, people: range, *, enhanced: bool = False) -> Path:
    """A hospital's scans: a series of instances each, or one instance of many frames."""
    ages, files = [], []
    for seed in people:
        subject, age = f"subject-{seed:03d}", float(np.random.default_rng(seed + 7).uniform(20, 90))
        values = head(age, seed, slices=24 if enhanced else 20)
        made: list[File] = (
            [dicom(values, subject, thickness_mm=6.0, spacing_mm=(7.0, 7.0))]
            if enhanced
            else series(values, subject, thickness_mm=7.0, spacing_mm=(7.0, 7.0))
        )
        files += [*made, dicom(values[3], subject, series_uid=f"1.2.{seed}")]  # a localiser
        ages.append({"subject": subject, "age": age})
    return write_release(folder, {"table": pl.DataFrame(ages)}, files)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("releases")
    return [
        release(folder / "a", range(0, 22)),
        release(folder / "b", range(22, 40), enhanced=True),
        release(folder / "c", range(40, 56)),
    ]


def config(**changes: Any) -> dict[str, Any]:
    small = {
        "slices": 20,
        "rows": 24,
        "columns": 24,
        "channels": 8,
        "blocks": 3,
        "dropout": 0.0,
        "least_steps": 0,
    }
    return RECIPE.config(**(small | {"minimum_nodes": 3, "held_out": 0.3} | changes))


@pytest.fixture(scope="module")
def trained(releases: list[Path]) -> Run:
    told = {"num_server_rounds": 6, "local_epochs": 4, "learning_rate": 0.005}
    told |= {"slices": 16, "rows": 18, "columns": 18}
    return RECIPE.run(releases, config(**told))


def test_it_tells_age_far_better_than_everybodys_mean(trained: Run, releases: list[Path]) -> None:
    plan = task.Plan.read(config())
    parts = [task.of_release(folder, plan) for folder in releases]
    known = np.array([age for part, _ in parts for _, age in part.items])
    asked = np.array([age for _, part in parts for _, age in part.items])
    guessed = float(np.abs(asked - known.mean()).mean())
    assert len(asked) >= 10
    assert trained.mean("eval_error_years") < 0.5 * guessed
    assert abs(trained.mean("eval_bias_years")) < 0.5 * guessed


def test_only_the_declared_metrics_leave(trained: Run) -> None:
    trained.check_replies(train={"train_loss"}, evaluate={"eval_error_years", "eval_bias_years"})


def test_scans_are_decoded_once_for_all_rounds(
    releases: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    real = pixels.volume
    monkeypatch.setattr(pixels, "volume", lambda assets: decoded.append(1) or real(assets))
    told = config(num_server_rounds=3, local_epochs=2, split_seed=7, channels=2, minimum_nodes=1)
    RECIPE.run(releases[:1], told)
    assert len(decoded) == 22


def test_the_series_with_the_most_slices_is_chosen(releases: list[Path]) -> None:
    plan = task.Plan.read(config())
    for folder, slices in zip(releases, (20, 24, 20), strict=True):
        training, held_out = task.of_release(folder, plan)
        for assets, _ in (*training.items, *held_out.items):
            assert sum(asset.frames for asset in assets) == slices


def test_the_head_is_cut_out_and_brought_to_one_size(releases: list[Path]) -> None:
    plan = task.Plan.read(config())
    training, _ = task.of_release(releases[0], plan)
    (volume, _age) = training[0]
    assert tuple(volume.shape) == (1, 20, 24, 24)
    whole = pixels.volume(training.items[0][0])
    assert (whole.values > 200).mean() < (volume > -1).float().mean()


@pytest.mark.slow
def test_a_second_run_gives_the_same_bytes(releases: list[Path]) -> None:
    told = config(num_server_rounds=1, local_epochs=1, channels=2, dropout=0.2)
    one, other = (RECIPE.run(releases, told).arrays for _ in range(2))
    assert all(one[name].numpy().tobytes() == other[name].numpy().tobytes() for name in one)


def test_it_begins_with_approved_weights(releases: list[Path], tmp_path: Path) -> None:
    import hashlib

    from safetensors.torch import save

    plan = task.Plan.read(config(channels=2, seed=9))
    published = {f"features.{n}": v for n, v in task.Network(plan).features.state_dict().items()}
    data = save(published)
    digest = hashlib.sha256(data).hexdigest()
    (tmp_path / f"{digest}.safetensors").write_bytes(data)
    told = config(channels=2, num_server_rounds=1, local_epochs=1, learning_rate=1e-9)
    found = RECIPE.run(
        releases, told | {"weights": digest}, **{"weights-path": str(tmp_path)}
    ).arrays
    for name, value in published.items():
        assert np.allclose(found[name], value, atol=1e-6)
    with pytest.raises(ValueError, match="aren't approved"):
        RECIPE.run(releases, told | {"weights": "0" * 64})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"table": "../t"}, "table"),
        ({"slices": 4}, "slices"),
        ({"age_sd": 0.0}, "age-sd"),
        ({"dropout": 1.0}, "dropout"),
        ({"least_slices": 0}, "least-slices"),
    ],
)
def test_a_run_config_that_doesnt_fit_names_its_key(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        task.Plan.read(config(**changes))


def test_the_card_is_complete_and_the_imports_are_its_own() -> None:
    outputs = ["train_loss", "eval_error_years", "eval_bias_years", "num-examples"]
    RECIPE.check_card(outputs)
    RECIPE.check_imports()

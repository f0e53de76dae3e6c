"""The despeckling recipe: what it gains over filters where the truth is known, and elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, median_filter, uniform_filter

from tests.recipes.harness import Recipe, Run, photograph, write_release

RECIPE = Recipe("despeckling")
task = RECIPE.module("task")
BREAST = Path(__file__).resolve().parents[3] / "shared/data/breast-ultrasound"
LOOKS = 4
"""Of the speckle: a mean of so many exponential intensities, that is gamma."""


def tissue(seed: int, side: int = 96) -> np.ndarray:
    """Echogenicity of layers and lesions, 0 to 1, with edges."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    wave = 6 * np.sin(columns / side * rng.uniform(2, 6) + rng.uniform(0, 6))
    bounds = np.sort(rng.uniform(0.1, 0.9, 3)) * side
    found = rng.uniform(0.15, 0.6, 4)[np.searchsorted(bounds, (rows + wave).ravel())]
    found = found.reshape(side, side)
    for _ in range(4):
        centre, radii = rng.uniform(0, side, 2), rng.uniform(6, 22, 2)
        inside = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 < 1
        found[inside] = rng.uniform(0.05, 0.8)
    return gaussian_filter(found, 0.7)


def speckled(truth: np.ndarray, seed: int) -> np.ndarray:
    """Multiplied by gamma speckle of mean 1."""
    rng = np.random.default_rng(1000 + seed)
    return truth * rng.gamma(LOOKS, 1 / LOOKS, truth.shape)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """As 8-bit pixels, 1.6 at the top."""
    return np.clip(np.round(values / 1.6 * 255), 0, 255).astype(np.uint8)


def psnr(found: np.ndarray, truth: np.ndarray) -> float:
    """Decibels, after a common brightness."""
    found = found * (truth.mean() / found.mean())
    return float(10 * np.log10(truth.max() ** 2 / np.mean((found - truth) ** 2)))


def lee(values: np.ndarray, size: int = 5) -> np.ndarray:
    """Lee 1980: as much of the local mean as the local variance says is speckle."""
    mean = uniform_filter(values, size)
    variance = uniform_filter(values**2, size) - mean**2
    noise = mean**2 / LOOKS
    signal = np.maximum(variance - noise, 0) / (1 + 1 / LOOKS)
    return mean + signal / (signal + noise + 1e-9) * (values - mean)


def config(**changes: Any) -> dict[str, Any]:
    small = {"side": 96, "patch": 48, "channels": 16, "depth": 5, "modality": "US"}
    return RECIPE.config(**(small | {"minimum_nodes": 3} | changes))


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("releases")
    made = []
    for site in range(3):
        files = [
            photograph(to_bytes(speckled(tissue(i), i)), f"subject-{i}", modality="US")
            for i in range(site * 10, site * 10 + 10)
        ]
        made.append(write_release(folder / str(site), files=files))
    return made


@pytest.fixture(scope="module")
def trained(releases: list[Path]) -> Run:
    told = {"num_server_rounds": 4, "local_epochs": 6, "learning_rate": 0.006, "batch_size": 4}
    return RECIPE.run(releases, config(**told))


def cleaned(arrays: dict[str, Any], noisy: np.ndarray, **changes: Any) -> np.ndarray:
    plan = task.Plan.read(config(**changes))
    model = task.Denoiser(plan)
    model.load_state_dict(arrays)
    image = task.logarithm(task.scaled(to_bytes(noisy).astype(np.float32), plan.side))
    return task.clean(model, torch.from_numpy(image)[None]).double().numpy()


def test_it_comes_nearer_to_the_truth_than_filters_do(trained: Run) -> None:
    figures: dict[str, list[float]] = {"noisy": [], "median": [], "lee": [], "recipe": []}
    for seed in range(500, 506):
        truth = tissue(seed)
        noisy = speckled(truth, seed)
        figures["noisy"].append(psnr(noisy, truth))
        figures["median"].append(psnr(median_filter(noisy, 5), truth))
        figures["lee"].append(psnr(lee(noisy), truth))
        figures["recipe"].append(psnr(cleaned(trained.arrays, noisy), truth))
    means = {name: float(np.mean(values)) for name, values in figures.items()}
    assert means["recipe"] > means["noisy"] + 6, means
    assert means["recipe"] > max(means["median"], means["lee"]) + 0.5, means


def test_the_score_that_leaves_says_that_speckle_is_less(trained: Run) -> None:
    assert trained.mean("eval_looks_gain") > 3
    first = np.mean([row["eval_loss"] for row in trained.metrics(last=False)[:3]])
    assert trained.mean("eval_loss") < first
    trained.check_replies(train={"train_loss"}, evaluate={"eval_loss", "eval_looks_gain"})


def test_a_truncated_loss_isnt_moved_by_the_largest_residuals() -> None:
    plan = task.Plan.read(config(truncation=0.9))
    truth = torch.zeros(1, 1, 10, 10)
    found = torch.full_like(truth, 0.1)
    where = torch.ones_like(truth, dtype=torch.bool)
    quiet = task.truncated_loss(found, truth, where, plan)
    truth[0, 0, 0] = -50.0
    assert torch.equal(task.truncated_loss(found, truth, where, plan), quiet)
    whole = task.Plan.read(config(truncation=1.0))
    assert task.truncated_loss(found, truth, where, whole) > 10 * quiet


def test_hidden_pixels_are_hidden_and_nothing_else_is_changed() -> None:
    plan = task.Plan.read(config(correlation=2))
    images = torch.rand(3, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    hidden, whole, where = task.hide(images, torch.Generator().manual_seed(1), plan)
    assert hidden.shape == (3, 1, 48, 48)
    assert bool(where.any())
    assert not bool((hidden[where] == whole[where]).any())
    assert 0.7 < float((hidden == whole).float().mean()) < 0.99


def test_a_second_run_gives_the_same_bytes(releases: list[Path]) -> None:
    told = config(num_server_rounds=1, local_epochs=1, channels=8)
    one, other = (RECIPE.run(releases, told).arrays for _ in range(2))
    assert all(one[name].numpy().tobytes() == other[name].numpy().tobytes() for name in one)


def test_a_hospital_without_images_changes_nothing(releases: list[Path], tmp_path: Path) -> None:
    empty = write_release(tmp_path / "empty")
    told = config(num_server_rounds=1, local_epochs=1, channels=8, minimum_nodes=2)
    with_it = RECIPE.run([releases[0], empty], told)
    alone = RECIPE.run([releases[0]], told | {"minimum-nodes": 1})
    for name, value in with_it.arrays.items():
        assert torch.allclose(value, alone.arrays[name], atol=1e-7)


@pytest.mark.skipif(not BREAST.is_dir(), reason="the breast ultrasound images aren't here")
def test_on_real_ultrasound_it_smooths_more_than_a_median_filter_and_keeps_edges(
    tmp_path: Path,
) -> None:
    from PIL import Image

    paths = sorted(BREAST.glob("*/*[0-9]).png"))[:24]
    pictures = [np.asarray(Image.open(path).convert("L")) for path in paths]
    folders = [
        write_release(
            tmp_path / str(site),
            files=[
                photograph(pixels, f"subject-{site}-{i}", modality="US")
                for i, pixels in enumerate(pictures[site::3])
            ],
        )
        for site in range(3)
    ]
    told = {"correlation": 3, "num_server_rounds": 4, "local_epochs": 6, "side": 128}
    run = RECIPE.run(folders, config(**told, learning_rate=0.006, batch_size=4))
    gains, by_median = [], []
    plan = task.Plan.read(config(**told))
    model = task.Denoiser(plan)
    model.load_state_dict(run.arrays)
    for pixels in pictures[:9]:
        image = task.scaled(pixels.astype(np.float32), plan.side)
        before = task.looks(torch.from_numpy(image))
        found = task.clean(model, torch.from_numpy(task.logarithm(image))[None])
        gains.append(task.looks(found) / before)
        by_median.append(task.looks(torch.from_numpy(median_filter(image, 3))) / before)
        coarse = np.corrcoef(
            gaussian_filter(found.numpy(), 3).ravel(), gaussian_filter(image, 3).ravel()
        )
        assert coarse[0, 1] > 0.9
    assert np.median(gains) > np.median(by_median)
    assert np.median(gains) > 1.5


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"kind": "slide"}, "kind"),
        ({"patch": 8}, "patch"),
        ({"hidden_share": 0.0}, "hidden-share"),
        ({"truncation": 0.4}, "truncation"),
        ({"correlation": 0}, "correlation"),
        ({"clip_residual": 0.0}, "clip-residual"),
    ],
)
def test_a_run_config_that_doesnt_fit_names_its_key(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        task.Plan.read(config(**changes))


def test_the_card_is_complete_and_the_imports_are_its_own() -> None:
    RECIPE.check_card(["train_loss", "eval_loss", "eval_looks_gain", "num-examples"])
    RECIPE.check_imports()

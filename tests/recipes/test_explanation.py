"""The explanation recipe: attributions by hand, and means that hold nobody's own."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recipes.harness import Recipe, dicom, write_release

torch.set_num_threads(1)
SMALL: dict[str, Any] = {
    "features": "age,dose,smoker=yes,noise",
    "positive": "true",
    "rules": "age>=60; age>=60 & smoker=yes; dose<-100",
    "num_server_rounds": 6,
    "local_epochs": 3,
    "learning_rate": 0.1,
}
METRICS = ("train_loss", "eval_loss", "eval_accuracy", "completeness_gap")


@cache
def recipe() -> Recipe:
    return Recipe("explanation")


def part(name: str) -> Any:
    return recipe().module(name)


def plan(**changes: Any) -> Any:
    return part("plan").Plan.read(recipe().config(**SMALL | changes))


def table(number: int, seed: int) -> pl.DataFrame:
    """Age and smoking decide; dose and noise don't."""
    rng = np.random.default_rng(seed)
    age, smoker = rng.normal(60, 10, number), rng.random(number) < 0.4
    logit = 0.15 * (age - 60) + 2.0 * (smoker - 0.4)
    return pl.DataFrame(
        {
            "subject": [f"p{seed}-{index}" for index in range(number)],
            "age": age,
            "dose": rng.normal(0, 1, number),
            "noise": rng.normal(0, 1, number),
            "smoker": ["yes" if s else "no" for s in smoker],
            "outcome": rng.random(number) < 1 / (1 + np.exp(-2 * logit)),
        }
    )


def releases(folder: Path, sizes: tuple[int, ...] = (150, 120)) -> list[Path]:
    return [
        write_release(folder / str(site), {"table": table(size, site)})
        for site, size in enumerate(sizes)
    ]


def explained(found: Any) -> dict[str, np.ndarray]:
    return {n: a.numpy() for n, a in found.arrays.items() if not n.startswith("model.")}


# ---- attributions --------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4), st.floats(-3, 3), st.integers(1, 9))
def test_of_a_linear_model_an_attribution_is_weight_times_distance(
    weights: list[float], bias: float, steps: int
) -> None:
    w = torch.tensor(weights, dtype=torch.float64)
    inputs, baseline = torch.randn(5, 4).double(), torch.randn(1, 4).double()
    found = part("attributions").integrated_gradients(
        lambda x: x @ w + bias, inputs, baseline, steps
    )
    torch.testing.assert_close(found, (inputs - baseline) * w)


def test_attributions_add_up_to_the_answer_as_steps_grow() -> None:
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    net.double()
    inputs, baseline = 2 * torch.randn(20, 6).double(), torch.zeros(1, 6).double()
    gaps = []
    for steps in (2, 16, 128):
        found = part("attributions").integrated_gradients(
            lambda x: net(x)[:, 0], inputs, baseline, steps
        )
        with torch.no_grad():
            missed = found.sum(1) - (net(inputs) - net(baseline))[:, 0]
        gaps.append(float(missed.abs().max()))
    assert gaps[2] < gaps[1] < gaps[0]
    assert gaps[2] < 1e-4


def test_an_input_that_changes_nothing_has_no_attribution() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    with torch.no_grad():
        net[0].weight[:, 1] = 0
    found = part("attributions").integrated_gradients(
        lambda x: net(x)[:, 0], torch.randn(10, 3), torch.zeros(1, 3), 8
    )
    assert float(found[:, 1].abs().max()) == 0
    assert float(found[:, 0].abs().min()) > 0


def test_grad_cam_of_two_maps_is_their_weighted_sum_without_its_negative_part() -> None:
    images = torch.rand(3, 2, 8, 8)
    head = torch.nn.Linear(2, 1)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[2.0, -1.0]]))
    found = part("attributions").grad_cam(torch.nn.Identity(), head, images)
    wanted = torch.relu(2 * images[:, :1] - images[:, 1:]) / 64
    torch.testing.assert_close(found, wanted)


def test_a_maps_regions_have_shares_of_its_evidence() -> None:
    maps = torch.zeros(2, 1, 8, 12)
    maps[0, 0, 0, 0], maps[0, 0, 7, 11] = 3.0, -1.0
    found = part("attributions").by_region(maps, (2, 3))
    assert found[0].tolist() == [[0.75, 0, 0], [0, 0, 0.25]]
    assert float(found[1].abs().max()) == 0


# ---- the whole run -------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden_units", [0, 8])
def test_what_decides_is_told_from_what_does_not(tmp_path: Path, hidden_units: int) -> None:
    config = recipe().config(**SMALL | {"hidden_units": hidden_units})
    found = recipe().run(releases(tmp_path), config)
    found.check_replies({"train_loss"}, {"eval_loss", "eval_accuracy"})
    assert found.mean("eval_accuracy") > 0.7
    absolute = explained(found)["attribution.absolute"]
    assert min(absolute[0], absolute[2]) > 3 * max(absolute[1], absolute[3])


def test_of_a_linear_model_the_means_are_those_of_the_pooled_table(tmp_path: Path) -> None:
    found = recipe().run(releases(tmp_path), recipe().config(**SMALL))
    pooled = pl.concat([table(150, 0), table(120, 1)])
    rows = np.stack(
        [
            pooled["age"].to_numpy(),
            pooled["dose"].to_numpy(),
            (pooled["smoker"] == "yes").cast(pl.Float64).to_numpy(),
            pooled["noise"].to_numpy(),
        ],
        1,
    )
    weights = found.arrays["model.answer.0.weight"].numpy()[0]
    mean, sd = (found.arrays[f"model.{n}"].numpy() for n in ("mean", "sd"))
    wanted = (rows - mean) / sd * weights
    told = explained(found)
    np.testing.assert_allclose(told["attribution.mean"], wanted.mean(0), atol=1e-4)
    np.testing.assert_allclose(told["attribution.absolute"], np.abs(wanted).mean(0), rtol=1e-4)
    (gap,) = {r["completeness_gap"] < 1e-4 for r in gaps(found)}
    assert gap
    old = (pooled["age"] >= 60).to_numpy()
    with_outcome = old & pooled["outcome"].to_numpy()
    assert abs(told["rules.share"][0] - old.mean()) < 0.03  # rounded to multiples of five
    assert abs(told["rules.positive"][0] - with_outcome.mean()) < 0.03
    assert told["rules.reported"].tolist() == [1, 1, 1]  # of the last, nobody


def gaps(found: Any) -> list[dict[str, float]]:
    return [
        dict(reply.content.metric_records["metrics"])
        for reply in found.grid.replies
        if reply.metadata.message_type == "train.explain"
    ]


def test_images_are_explained_by_region_and_maps_stay_as_drafts(tmp_path: Path) -> None:
    folders = []
    for site in range(2):
        rng = np.random.default_rng(site)
        ill = np.arange(24) % 2 == 0
        files = []
        for index, positive in enumerate(ill):
            picture = rng.normal(300, 30, (32, 32))
            if positive:  # a spot in the upper left quarter
                picture[4:12, 4:12] += 300
            stored = picture.clip(0).astype(np.uint16)
            files.append(dicom(stored, f"p{site}{index}", modality="DX"))
        frame = pl.DataFrame(
            {"subject": [f"p{site}{index}" for index in range(24)], "outcome": ill.tolist()}
        )
        folders.append(write_release(tmp_path / str(site), {"table": frame}, files))
    drafts = tmp_path / "drafts"
    drafts.mkdir()
    told = {"source": "images", "features": "", "rules": "", "path_steps": 8, "size": 32}
    told |= {"regions": "2,2", "drafts": True, "num_server_rounds": 2, "local_epochs": 4}
    config = recipe().config(**SMALL | told | {"learning_rate": 0.01, "batch_size": 8})
    found = recipe().run(folders, config, **{"drafts-path": str(drafts)})
    shares = explained(found)["attribution.regions"]
    assert shares[0, 0] > 0.4, shares  # an even share is 0.25
    assert found.mean("eval_accuracy") > 0.8
    assert len(list(drafts.glob("*-saliency.png"))) == 48
    biggest = {
        array.numpy().size
        for reply in found.grid.replies
        if reply.metadata.message_type == "train.explain"
        for array in reply.content.array_records["arrays"].values()
    }
    assert biggest == {1, 4}  # no map of an image


# ---- nobody's own --------------------------------------------------------------------------------


def test_a_hospital_with_fewer_than_the_minimum_answers_zeros(tmp_path: Path) -> None:
    (folder,) = releases(tmp_path, (9,))
    asked = plan()
    patients = part("patients").patients(folder, asked)
    found = part("task").explain(part("task").build_model(asked), patients, asked)
    assert found.patients == 0
    assert found.gap == 0
    assert all(not value.any() for value in found.arrays.values())
    assert set(found.arrays) == set(part("task").template(asked))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.integers(5, 12), st.integers(0, 10**6))
def test_no_number_of_a_rule_is_of_one_to_k_minus_one(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    holds = rng.random((n, 5)) < rng.random(5)
    holds[:, 4] = holds[:, 3]
    if n:
        holds[rng.integers(0, n), 4] ^= True  # one patient between two rules
    positive, predicted = rng.random((2, n)) < 0.5
    found = part("aggregates").of_rules(holds, positive, predicted, k, 1)
    shown = np.flatnonzero(found["rules.reported"])
    for rule in range(5):
        if rule not in shown:
            assert all(found[name][rule] == 0 for name in found)
    for rule in shown:
        inside = holds[:, rule]
        assert n >= k
        cells = [inside, ~inside, inside & positive, inside & ~positive]
        cells += [inside & predicted, inside & ~predicted]
        for other in shown:
            cells += [inside & ~holds[:, other], holds[:, other] & ~inside]
        assert all(not 0 < int(cell.sum()) < k for cell in cells)
    assert not {3, 4} <= set(shown)


def test_a_level_that_few_have_is_kept_back() -> None:
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(size=40), np.arange(40) < 3, np.arange(40) < 15], 1).astype(float)
    values[:4, 0] = np.nan
    found = part("aggregates").of_features(values * 2, values, 10)
    assert found["attribution.reported"].tolist() == [0, 0, 1]
    assert found["attribution.mean"][1] == 0
    assert found["attribution.mean"][2] == 2 * 15 / 40


def test_no_run_config_asks_for_fewer_than_five() -> None:
    with pytest.raises(ValueError, match="minimum-patients"):
        plan(minimum_patients=4)


@pytest.mark.parametrize(
    ("key", "value"),
    [("rules", "age>>60"), ("rules", "age>x"), ("rules", "outcome=true"), ("regions", "4")],
)
def test_a_parameter_that_does_not_fit_is_named(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=key):
        plan(**{key: value})


def test_the_card_names_every_parameter_and_output() -> None:
    outputs = ["attribution.mean", "attribution.absolute", "attribution.reported"]
    outputs += ["attribution.regions", "rules.share", "rules.positive", "rules.predicted"]
    recipe().check_card([*METRICS, *outputs, "rules.reported"])
    recipe().check_imports("PIL")

"""The prognosis recipe: Cox's model against lifelines, DeepSurv where a line isn't enough."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import CoxPHFitter
from lifelines.datasets import load_rossi
from lifelines.utils import concordance_index

from tests.recipes.harness import Recipe, Run, write_release

RECIPE = Recipe("prognosis")
survival = RECIPE.module("survival")
task = RECIPE.module("task")
ROSSI = ["fin", "age", "race", "wexp", "mar", "paro", "prio"]


def pseudonym(index: int) -> str:
    return hashlib.sha256(f"subject {index}".encode()).hexdigest()[:32]


def split_up(folder: Path, frame: pd.DataFrame, sites: int) -> list[Path]:
    """Deal a table out to hospitals, unevenly."""
    bounds = [round(len(frame) * (i / sites) ** 1.3) for i in range(sites + 1)]
    made = []
    for site, (start, end) in enumerate(itertools.pairwise(bounds)):
        part = pl.from_pandas(frame.iloc[start:end].reset_index(drop=True))
        part = part.with_columns(subject=pl.Series([pseudonym(i) for i in range(start, end)]))
        made.append(write_release(folder / str(site), {"table": part}))
    return made


# ---- the likelihood and the concordance ----------------------------------------------------------


def by_hand(risk: np.ndarray, time: np.ndarray, event: np.ndarray, ties: str) -> float:
    """Minus the log partial likelihood by its definition, over the number of events."""
    total = 0.0
    for at in np.unique(time[event == 1]):
        dying = (time == at) & (event == 1)
        hazards, theirs = np.exp(risk[time >= at]).sum(), np.exp(risk[dying]).sum()
        for rank in range(int(dying.sum())):
            share = rank / dying.sum() if ties == "efron" else 0.0
            total += np.log(hazards - share * theirs)
        total -= risk[dying].sum()
    return total / event.sum()


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.floats(-4, 4), st.integers(1, 6), st.integers(0, 1)), min_size=2, max_size=25
    ),
    st.sampled_from(["breslow", "efron"]),
)
def test_the_loss_is_the_partial_likelihood_by_its_definition(
    rows: list[tuple[float, int, int]], ties: str
) -> None:
    risk, time, event = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    told = survival.partial_loss(*map(torch.tensor, (risk, time, event)), ties)
    expected = by_hand(risk, time, event, ties) if event.any() else 0.0
    assert float(told) == pytest.approx(expected, abs=1e-5)


def test_its_gradient_is_that_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    risk = torch.randn(12, generator=generator, dtype=torch.float64, requires_grad=True)
    time = torch.randint(1, 5, (12,), generator=generator).double()
    event = (torch.rand(12, generator=generator) < 0.7).double()
    for ties in ("efron", "breslow"):
        assert torch.autograd.gradcheck(
            lambda r, ties=ties: survival.partial_loss(r, time, event, ties), (risk,)
        )


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(-3, 3), st.integers(1, 6), st.integers(0, 1)), min_size=2, max_size=25
    )
)
def test_the_concordance_is_that_of_lifelines(rows: list[tuple[int, int, int]]) -> None:
    risk, time, event = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    found, pairs = survival.concordance(risk, time, event)
    if pairs:
        assert found == pytest.approx(concordance_index(time, -risk, event))
    else:
        assert found == 0.5


# ---- Cox's model ---------------------------------------------------------------------------------


def rossi_config(**changes: Any) -> dict[str, Any]:
    told = {"time": "week", "event": "arrest", "features": ",".join(ROSSI), "weight_decay": 0.0}
    return RECIPE.config(**(told | {"held_out": 0.0, "num_server_rounds": 20} | changes))


@pytest.fixture(scope="module")
def rossi(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run, pd.DataFrame]:
    frame = load_rossi()
    folder = tmp_path_factory.mktemp("rossi")
    pooled = RECIPE.run(split_up(folder / "one", frame, 1), rossi_config(minimum_nodes=1))
    apart = RECIPE.run(split_up(folder / "three", frame, 3), rossi_config(minimum_nodes=3))
    return pooled, apart, frame


def coefficients(run: Run) -> np.ndarray:
    return np.asarray(run.arrays["layers.0.weight"][0] / run.arrays["sd"])


def test_in_one_place_it_is_lifelines_fit(rossi: tuple[Run, Run, pd.DataFrame]) -> None:
    fitted = CoxPHFitter().fit(rossi[2], "week", "arrest")
    np.testing.assert_allclose(coefficients(rossi[0]), fitted.params_[ROSSI], atol=0.003)


def test_across_hospitals_it_is_lifelines_fit_with_hospitals_as_strata(
    rossi: tuple[Run, Run, pd.DataFrame],
) -> None:
    _, apart, frame = rossi
    bounds = [round(len(frame) * (i / 3) ** 1.3) for i in range(4)]
    site = np.searchsorted(bounds, np.arange(len(frame)), side="right")
    fitted = CoxPHFitter().fit(frame.assign(site=site), "week", "arrest", strata=["site"])
    np.testing.assert_allclose(coefficients(apart), fitted.params_[ROSSI], atol=0.003)


def test_only_the_declared_metrics_leave(rossi: tuple[Run, Run, pd.DataFrame]) -> None:
    rossi[1].check_replies(train={"train_loss"}, evaluate={"eval_loss", "eval_concordance"})


# ---- DeepSurv ------------------------------------------------------------------------------------


def simulated(n: int, seed: int) -> pd.DataFrame:
    """Katzman et al. 2018, 4.1: a Gaussian bump of hazard, of two features in ten."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, 10))
    risk = np.log(5.0) * np.exp(-(x[:, 0] ** 2 + x[:, 1] ** 2) / (2 * 0.5**2))
    time = rng.exponential(5 * np.exp(-2 * risk))
    censored = np.quantile(time, 0.9)
    frame = pd.DataFrame({f"x{i}": x[:, i] for i in range(10)})
    return frame.assign(time=np.minimum(time, censored), event=(time < censored).astype(int))


@pytest.fixture(scope="module")
def bump(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return split_up(tmp_path_factory.mktemp("bump"), simulated(1500, 1), 3)


def test_deepsurv_finds_a_hazard_that_a_line_cant(bump: list[Path]) -> None:
    features = ",".join(f"x{i}" for i in range(10))
    common = {"features": features, "minimum_nodes": 3}
    line = RECIPE.run(bump, RECIPE.config(**common, num_server_rounds=5))
    network = RECIPE.run(
        bump,
        RECIPE.config(
            **common,
            hidden_units=16,
            num_server_rounds=15,
            local_epochs=4,
            batch_size=128,
            optimiser="adam",
            learning_rate=0.01,
            weight_decay=0.01,
        ),
    )
    assert line.mean("eval_concordance") < 0.57
    assert network.mean("eval_concordance") > 0.65


def test_a_second_run_gives_the_same_bytes(bump: list[Path]) -> None:
    config = RECIPE.config(
        features="x0,x1", hidden_units=4, num_server_rounds=2, batch_size=100, dropout=0.1
    )
    one, other = (RECIPE.run(bump, config).arrays for _ in range(2))
    assert all(one[name].numpy().tobytes() == other[name].numpy().tobytes() for name in one)


# ---- data ----------------------------------------------------------------------------------------


def test_levels_missing_values_and_a_columns_split(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "subject": ["a", "b", "c", "d"],
            "stage": ["I", "II", None, "II"],
            "age": [50, None, 70, 80],
            "time": [1.0, 2.0, None, 4.0],
            "event": ["dead", "alive", "dead", "dead"],
            "fold": ["train", "train", "train", "test"],
        }
    )
    folder = write_release(tmp_path / "r", {"table": frame})
    config = RECIPE.config(features="age,stage=II", positive="dead", split_column="fold")
    training, held_out = task.of_release(folder, task.Plan.read(config))
    np.testing.assert_equal(training.rows, [[50, 0], [np.nan, 1]])
    assert training.events.tolist() == [1, 0]
    assert (len(held_out), held_out.times.tolist()) == (1, [4.0])


def test_few_events_are_not_told_as_a_number_of_examples(bump: list[Path]) -> None:
    """The gate holds it against the least cohort: a hospital with two events would be left out."""
    config = RECIPE.config(features="x0", num_server_rounds=1, held_out=0.0)
    run = RECIPE.run(bump, config)
    trained = [task.of_release(folder, task.Plan.read(config))[0] for folder in bump]
    assert [row["num-examples"] for row in run.metrics("train")] == [len(t) for t in trained]
    assert all(t.events.sum() < len(t) for t in trained)


def test_a_hospital_without_events_changes_nothing(tmp_path: Path) -> None:
    rows = simulated(40, 2)
    quiet = write_release(
        tmp_path / "quiet",
        {"table": pl.from_pandas(rows.assign(event=0)).with_columns(
            subject=pl.Series([pseudonym(i) for i in range(40)])
        )},
    )  # fmt: skip
    loud = split_up(tmp_path / "loud", rows, 1)
    config = RECIPE.config(features="x0", num_server_rounds=10, weight_decay=0.0)
    both = RECIPE.run([*loud, quiet], config)
    alone = RECIPE.run(loud, config | {"minimum-nodes": 1})
    # Of the scale it has a say, as any hospital has.
    effects = [run.arrays["layers.0.weight"] / run.arrays["sd"] for run in (both, alone)]
    torch.testing.assert_close(effects[0], effects[1], atol=1e-3, rtol=0)
    assert both.metrics()[1]["num-examples"] == 0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"features": ""}, "features"),
        ({"features": "time"}, "features"),
        ({"features": "x0", "ties": "exact"}, "ties"),
        ({"features": "x0", "hidden_units": -1}, "hidden-units"),
        ({"features": "x0", "dropout": 1.0}, "dropout"),
        ({"features": "x0", "event_share": 1.5}, "event-share"),
        ({"features": "x0", "table": "../t"}, "table"),
    ],
)
def test_a_run_config_that_doesnt_fit_names_its_key(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        task.Plan.read(RECIPE.config(**changes))


def test_the_card_is_complete_and_the_imports_are_its_own() -> None:
    RECIPE.check_card(["train_loss", "eval_loss", "eval_concordance", "num-examples"])
    RECIPE.check_imports()

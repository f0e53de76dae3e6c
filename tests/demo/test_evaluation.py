"""The demo's evaluation: DeLong as published, tables as pooled, no claim beyond the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from contract.errors import DataError
from contract.statistics.summaries import Counts, Moments
from demo import data, evaluation
from demo.evaluation import Difference, Evaluation, Interval, Row
from tests.recipes.releases import write_releases

# Albumin, total protein, K-G score and outcome of 43 women with ovarian cancer: DeLong, DeLong and
# Clarke-Pearson (1988), as printed in the SAS/STAT User's Guide, PROC LOGISTIC, "Comparing
# Receiver Operating Characteristic Curves".
OVARIAN = np.array(
    [
        (3.0, 5.8, 10, 0),
        (3.2, 6.3, 5, 1),
        (3.9, 6.8, 3, 1),
        (2.8, 4.8, 6, 0),
        (3.2, 5.8, 3, 1),
        (0.9, 4.0, 5, 0),
        (2.5, 5.7, 8, 0),
        (1.6, 5.6, 5, 1),
        (3.8, 5.7, 5, 1),
        (3.7, 6.7, 6, 1),
        (3.2, 5.4, 4, 1),
        (3.8, 6.6, 6, 1),
        (4.1, 6.6, 5, 1),
        (3.6, 5.7, 5, 1),
        (4.3, 7.0, 4, 1),
        (3.6, 6.7, 4, 0),
        (2.3, 4.4, 6, 1),
        (4.2, 7.6, 4, 0),
        (4.0, 6.6, 6, 0),
        (3.5, 5.8, 6, 1),
        (3.8, 6.8, 7, 1),
        (3.0, 4.7, 8, 0),
        (4.5, 7.4, 5, 1),
        (3.7, 7.4, 5, 1),
        (3.1, 6.6, 6, 1),
        (4.1, 8.2, 6, 1),
        (4.3, 7.0, 5, 1),
        (4.3, 6.5, 4, 1),
        (3.2, 5.1, 5, 1),
        (2.6, 4.7, 6, 1),
        (3.3, 6.8, 6, 0),
        (1.7, 4.0, 7, 0),
        (3.7, 6.1, 5, 1),
        (3.3, 6.3, 7, 1),
        (4.2, 7.7, 6, 1),
        (3.5, 6.2, 5, 1),
        (2.9, 5.7, 9, 0),
        (2.1, 4.8, 7, 1),
        (2.8, 6.2, 8, 0),
        (4.0, 7.0, 7, 1),
        (3.3, 5.7, 6, 1),
        (3.7, 6.9, 5, 1),
        (3.6, 6.6, 5, 1),
    ]
)
ALBUMIN, PROTEIN, KG = OVARIAN[:, 0], OVARIAN[:, 1], 10 - OVARIAN[:, 2]
BENEFITS = OVARIAN[:, 3] == 1


@pytest.mark.parametrize(
    ("scores", "auc", "low", "high"),
    [
        (ALBUMIN, 0.7366, 0.5549, 0.9182),
        (KG, 0.7258, 0.5243, 0.9273),
        (PROTEIN, 0.6478, 0.4518, 0.8439),
    ],
)
def test_auc_and_its_interval_are_those_of_the_published_example(
    scores: np.ndarray, auc: float, low: float, high: float
) -> None:
    found = evaluation.score(scores, BENEFITS).auc
    assert (found.estimate, found.low, found.high) == pytest.approx((auc, low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("scores", "delta", "low", "high", "p_value"),
    [
        (ALBUMIN, 0.0108, -0.1761, 0.1976, 0.9102),
        (PROTEIN, -0.0780, -0.2830, 0.1271, 0.4561),
    ],
)
def test_paired_differences_are_those_of_the_published_example(
    scores: np.ndarray, delta: float, low: float, high: float, p_value: float
) -> None:
    found = evaluation.difference(BENEFITS, scores, KG)
    assert (found.auc.estimate, found.auc.low, found.auc.high) == pytest.approx(
        (delta, low, high), abs=5e-5
    )
    assert found.p_value == pytest.approx(p_value, abs=1e-4)


def slow_delong(outcomes: np.ndarray, scores: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """DeLong's estimator by its definition: the mean over all pairs."""
    above, below = [], []
    for values in scores:
        pairs = values[outcomes][:, None] - values[~outcomes][None, :]
        wins = (pairs > 0) + 0.5 * (pairs == 0)
        above.append(wins.mean(axis=1))
        below.append(wins.mean(axis=0))
    m, n = int(outcomes.sum()), int((~outcomes).sum())
    covariance = np.atleast_2d(np.cov(np.array(above))) / m
    covariance = covariance + np.atleast_2d(np.cov(np.array(below))) / n
    return np.array([a.mean() for a in above]), covariance


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 9)), min_size=8, max_size=60
    ).filter(lambda rows: 2 <= sum(r[0] for r in rows) <= len(rows) - 2)
)
def test_the_fast_method_is_the_definition_with_ties_too(rows: list[tuple[bool, int, int]]) -> None:
    outcomes = np.array([r[0] for r in rows])
    scores = [np.array([float(r[k]) for r in rows]) for k in (1, 2)]
    for fast, slow in zip(
        evaluation.delong(outcomes, scores), slow_delong(outcomes, scores), strict=True
    ):
        np.testing.assert_allclose(fast, slow, atol=1e-12)


def test_the_standard_error_is_about_that_of_a_bootstrap() -> None:
    rng = np.random.default_rng(7)
    outcomes = np.arange(240) < 30
    scores = rng.normal(outcomes * 0.6, 1.0)
    _, covariance = evaluation.delong(outcomes, [scores])
    drawn = []
    for _ in range(1500):
        rows = np.concatenate([rng.integers(0, 30, 30), rng.integers(30, 240, 210)])
        drawn.append(float(evaluation.delong(outcomes[rows], [scores[rows]])[0][0]))
    assert np.std(drawn) == pytest.approx(float(covariance[0, 0]) ** 0.5, rel=0.1)


def test_a_model_differs_from_itself_by_nothing() -> None:
    same = evaluation.difference(BENEFITS, KG, KG * 2 + 1)
    assert same == Difference(Interval(0.0, 0.0, 0.0), 1.0)


def test_without_events_there_is_no_interval_and_one_line_says_so() -> None:
    with pytest.raises(DataError, match="1 events among 3"):
        evaluation.score(np.array([0.1, 0.2, 0.3]), np.array([True, False, False]))


# ---- the trial ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    return evaluation.pooled_frame(write_releases(tmp_path_factory.mktemp("releases")))


@pytest.fixture(scope="module")
def parameters(frame: pl.DataFrame) -> dict[str, Any]:
    import tomllib

    recipe = Path(evaluation.TASK).parents[1] / "pyproject.toml"
    config: dict[str, Any] = tomllib.loads(recipe.read_text())["tool"]["flwr"]["app"]["config"]
    means, deviations = [], []
    for feature in data.FEATURES:
        name, _, level = feature.partition("=")
        values = frame[name].drop_nulls()
        numbers = (values == level if level else values).cast(pl.Float64)
        means.append(str(numbers.mean()))
        deviations.append(str(numbers.std()))
    return config | {
        "table": "trial",
        "outcome": "preterm",
        "features": ",".join(data.FEATURES),
        "means": ",".join(means),
        "standard-deviations": ",".join(deviations),
    }


def test_pooled_table_1_has_the_published_preterm_births(frame: pl.DataFrame) -> None:
    truth = evaluation.pooled_table1(frame)
    assert list(truth) == list(data.TABLE_1)
    assert truth["preterm"] == {"T": Counts((358, 50), 5), "C": Counts((353, 53), 4)}


def test_pooled_table_1_has_polars_own_means_and_deviations(frame: pl.DataFrame) -> None:
    truth = evaluation.pooled_table1(frame)
    for arm in ("T", "C"):
        for name in ("age", "bmi", "baseline_pocket_depth"):
            column = frame.filter(pl.col("arm") == arm)[name]
            found = truth[name][arm]
            assert isinstance(found, Moments)
            assert (found.n, found.missing) == (column.count(), column.null_count())
            assert found.mean == pytest.approx(column.mean())
            assert found.standard_deviation == pytest.approx(column.std())


def test_a_row_can_leave_out_the_site_that_withheld_it(frame: pl.DataFrame) -> None:
    whole = evaluation.pooled_table1(frame)["tobacco"]["T"]
    rest = evaluation.pooled_table1(frame, {"tobacco": ["new-york"]})["tobacco"]["T"]
    new_york = frame.filter((pl.col("site") == "new-york") & (pl.col("arm") == "T"))["tobacco"]
    assert isinstance(whole, Counts)
    assert isinstance(rest, Counts)
    assert whole.n - rest.n == new_york.count()
    assert whole.counts[1] - rest.counts[1] == int((new_york == "Yes").sum()) == 4


def test_the_pooled_fit_has_converged(frame: pl.DataFrame, parameters: dict[str, Any]) -> None:
    # At the optimum the gradient of log loss plus penalty is zero.
    weights = evaluation.train_pooled(frame, parameters)
    plan = evaluation.task.Plan.read(parameters)
    training, _ = evaluation.task.split(frame, plan)
    examples = evaluation.task.examples(training, plan)
    inputs = examples.inputs.double().numpy()
    beta, intercept = weights["0.weight"][0].astype(float), float(weights["0.bias"][0])
    residuals = 1 / (1 + np.exp(-(inputs @ beta + intercept))) - examples.outcomes.numpy()
    assert np.abs(inputs.T @ residuals / len(inputs) + plan.weight_decay * beta).max() < 1e-5
    assert abs(residuals.mean()) < 1e-5


def test_training_alone_sees_only_its_own_women(
    frame: pl.DataFrame, parameters: dict[str, Any]
) -> None:
    kentucky = evaluation.train_alone(frame, "kentucky", parameters)
    own = evaluation.train_pooled(frame.filter(pl.col("site") == "kentucky"), parameters)
    assert all((kentucky[name] == own[name]).all() for name in own)


def test_the_comparison_scores_every_model_on_the_same_women(
    frame: pl.DataFrame, parameters: dict[str, Any]
) -> None:
    pooled = evaluation.train_pooled(frame, parameters)
    rows = evaluation.compare(pooled, frame, parameters)
    sites = [f"{hospital.name} alone" for hospital in data.HOSPITALS]
    assert [row.model for row in rows] == ["federated", "pooled", *sorted(sites)]
    assert len({(row.evaluation.n, row.evaluation.events) for row in rows}) == 1
    assert rows[1].federated_minus_it == Difference(Interval(0.0, 0.0, 0.0), 1.0)
    assert sum(row.trained_on for row in rows[2:]) == rows[0].trained_on
    for row in rows:
        auc = row.evaluation.auc
        assert 0 <= auc.low <= auc.estimate <= auc.high <= 1
        assert 0 < row.evaluation.brier < 0.25
    console = Console(width=140, record=True, file=None, quiet=False)
    console.print(evaluation.table(rows))
    shown = console.export_text()
    assert "kentucky alone" in shown
    assert f"{rows[0].evaluation.events} preterm births" in " ".join(shown.split())


# ---- what is said ------------------------------------------------------------------------------


def row(model: str, low: float, high: float, against: tuple[float, float] | None) -> Row:
    scores = Evaluation(Interval((low + high) / 2, low, high), 0.1, 240, 28)
    if against is None:
        return Row(model, 500, scores, None)
    middle = sum(against) / 2
    return Row(model, 100, scores, Difference(Interval(middle, *against), 0.5))


def test_overlapping_intervals_are_called_what_they_are() -> None:
    said = evaluation.conclusion(
        [row("federated", 0.5, 0.7, None), row("x alone", 0.45, 0.65, (-0.05, 0.1))]
    )
    assert "28 preterm births among 240" in said
    assert "all intervals overlap" in said
    assert "can't tell the models apart" in said


def test_a_difference_that_excludes_zero_is_named_with_its_caveat() -> None:
    said = evaluation.conclusion(
        [
            row("federated", 0.6, 0.7, None),
            row("x alone", 0.4, 0.5, (0.1, 0.3)),
            row("y alone", 0.6, 0.7, (-0.1, 0.1)),
        ]
    )
    assert "excludes zero for x alone (2 comparisons, not adjusted" in said


def test_overlap_is_not_claimed_where_there_is_none() -> None:
    said = evaluation.conclusion(
        [row("federated", 0.6, 0.7, None), row("x alone", 0.3, 0.5, (-0.01, 0.4))]
    )
    assert "overlap" not in said
    assert "every paired difference includes zero" in said

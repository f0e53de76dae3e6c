"""Imputations are draws from what the other variables tell, and pooled they are unbiased."""

from __future__ import annotations

import math
from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.imputation.mice import MICE, MICEData

from contract.deriving import Coded, Column
from contract.errors import DataError
from contract.statistics.rubin import Pooled, pool
from node.catalog.declaring import Wishes
from node.catalog.dictionary import parse_dictionary
from node.catalog.freezing import plan_release
from node.catalog.imputing import _multinomial, impute
from node.catalog.selection import Selection
from node.catalog.store import Catalog
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.schema import parse_schema
from node.intake.tables import ingest_table


def subjects(number: int) -> list[str]:
    return [f"{i:08x}" for i in range(number)]


def at_random(rng: np.random.Generator, size: int) -> tuple[Any, Any, Any]:
    """x, y = 1 + 2 x + noise, and y again, missing where x is large: at random given x."""
    x = rng.normal(size=size)
    y = 1 + 2 * x + rng.normal(size=size)
    gone = rng.random(size) < 1 / (1 + np.exp(0.5 - x))
    return x, y, np.where(gone, np.nan, y)


def pooled_mean(completed: list[dict[str, Column]], name: str) -> Pooled:
    values = [one[name] for one in completed]
    assert all(isinstance(v, np.ndarray) for v in values)
    return pool(
        [float(np.mean(v)) for v in values],  # type: ignore[arg-type]
        [float(np.var(v, ddof=1)) / len(v) for v in values],  # type: ignore[arg-type]
    )


def test_a_mean_that_complete_cases_get_wrong_is_right_again() -> None:
    x, y, seen = at_random(np.random.default_rng(1), 4000)
    assert np.nanmean(seen) < y.mean() - 0.5
    found = pooled_mean(impute({"x": x, "y": seen}, subjects(4000), 10), "y")
    assert abs(found.estimate - y.mean()) < 4 * found.standard_error
    assert found.missing_information > 0.05


def test_coefficients_are_as_near_as_statsmodels_mice() -> None:
    rng = np.random.default_rng(8)
    x, _, seen = at_random(rng, 1500)
    z = rng.normal(size=1500) + x
    z[rng.random(1500) < 0.2] = np.nan
    np.random.seed(3)  # statsmodels draws from NumPy's global generator
    theirs = MICE("y ~ x + z", sm.OLS, MICEData(pd.DataFrame({"x": x, "y": seen, "z": z}))).fit(
        5, 10
    )
    fits = []
    for one in impute({"x": x, "y": seen, "z": z}, subjects(1500), 10):
        design = np.column_stack([np.ones(1500), one["x"], one["z"]])  # type: ignore[arg-type]
        fits.append(sm.OLS(one["y"], design).fit())
    for at in range(3):
        mine = pool([float(f.params[at]) for f in fits], [float(f.bse[at]) ** 2 for f in fits])
        apart = abs(mine.estimate - float(np.asarray(theirs.params)[at]))
        assert apart < 3 * math.hypot(mine.standard_error, float(np.asarray(theirs.bse)[at]))
        assert 0.5 < mine.standard_error / float(np.asarray(theirs.bse)[at]) < 2


def test_levels_are_drawn_by_what_the_others_tell() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=6000)
    scores = np.column_stack([np.zeros(6000), x, -1 - x])
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    codes = (rng.random(6000)[:, None] > np.cumsum(shares, axis=1)).sum(axis=1)
    gone = rng.random(6000) < 1 / (1 + np.exp(-2 * x))
    seen = Coded(np.where(gone, -1, codes), ("a", "b", "c"))
    for one in impute({"x": x, "c": seen}, subjects(6000), 3):
        held = one["c"]
        assert isinstance(held, Coded)
        assert (held.codes[~gone] == codes[~gone]).all()
        found = np.bincount(held.codes, minlength=3) / 6000
        wanted = np.bincount(codes, minlength=3) / 6000
        assert found == pytest.approx(wanted, abs=0.03)
        assert np.bincount(codes[~gone], minlength=3)[1] / (~gone).sum() < wanted[1] - 0.08


def test_a_multinomial_model_is_that_of_statsmodels() -> None:
    rng = np.random.default_rng(6)
    x = np.column_stack([np.ones(3000), rng.normal(size=(3000, 2))])
    scores = x @ np.array([[0, 0.5, -0.5], [0, 1, -1], [0, -1, 0.5]])
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    codes = (rng.random(3000)[:, None] > np.cumsum(shares, axis=1)).sum(axis=1)
    theirs = sm.MNLogit(codes, x).fit(disp=0).params
    assert _multinomial(x, codes, 3)[:, 1:] == pytest.approx(np.asarray(theirs), abs=2e-3)


def test_a_level_that_is_told_completely_or_lacks_stays_finite() -> None:
    x = np.linspace(-1, 1, 200)
    codes = (x > 0).astype(np.int64)
    codes[::10] = -1
    found = impute({"x": x, "c": Coded(codes, ("a", "b", "never"))}, subjects(200), 2)
    for one in found:
        held = one["c"]
        assert isinstance(held, Coded)
        assert set(held.codes.tolist()) <= {0, 1, 2}
        assert ((held.codes == 1) == (x > 0)).mean() > 0.95


@given(st.integers(0, 2**32 - 1), st.integers(20, 120), st.floats(0, 0.7))
@settings(max_examples=12, deadline=None)
def test_what_is_known_stays_and_only_values_that_occur_are_drawn(
    seed: int, size: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    x, c = np.round(rng.normal(50, 10, size)), rng.integers(0, 3, size)
    x[rng.random(size) < share] = np.nan
    c[rng.random(size) < share] = -1
    columns: dict[str, Column] = {
        "x": x,
        "c": Coded(c, ("a", "b", "c")),
        "z": rng.normal(size=size),
    }
    try:
        found = impute(columns, subjects(size), 2)
    except DataError:
        assert len(set(x[~np.isnan(x)])) < 2 or len(set(c[c >= 0])) < 2
        return
    for one in found:
        number, category = one["x"], one["c"]
        assert isinstance(number, np.ndarray)
        assert isinstance(category, Coded)
        assert (number[~np.isnan(x)] == x[~np.isnan(x)]).all()
        assert (category.codes[c >= 0] == c[c >= 0]).all()
        assert set(number.tolist()) <= set(x[~np.isnan(x)].tolist())
        assert (category.codes >= 0).all()
    again = impute(columns, subjects(size), 2)
    assert all((a["x"] == b["x"]).all() for a, b in zip(found, again, strict=True))  # type: ignore[union-attr]


def test_draws_differ_from_one_another_and_from_other_pseudonyms() -> None:
    x, _, seen = at_random(np.random.default_rng(1), 200)
    one, two = impute({"x": x, "y": seen}, subjects(200), 2)
    assert (one["y"] != two["y"]).any()  # type: ignore[union-attr]
    (other, _) = impute({"x": x, "y": seen}, [s + "0" for s in subjects(200)], 2)
    assert (one["y"] != other["y"]).any()  # type: ignore[union-attr]


@pytest.mark.parametrize("values", [[np.nan, np.nan], [1.0, np.nan], [2.0, 2.0]])
def test_a_column_without_two_values_is_not_imputed_from(values: list[float]) -> None:
    with pytest.raises(DataError, match="two values"):
        impute({"x": np.array(values), "y": np.array([1.0, 2.0])}, subjects(2), 2)


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Randomization validity, as Rubin 1987 means it: of 95 % intervals about 95 hold the truth."""
    covered = 0
    for seed in range(200):
        x, _, seen = at_random(np.random.default_rng(seed), 300)
        low, high = pooled_mean(impute({"x": x, "y": seen}, subjects(300), 10), "y").interval()
        covered += low < 1 < high
    assert covered >= 178  # matching can't reach beyond what occurs, so a little less than 190


# ---- in a release --------------------------------------------------------------------------------

SCHEMA = parse_schema(
    {
        "table": "t",
        "subject": "pid",
        "columns": [
            {"name": "bmi", "type": "number"},
            {"name": "age", "type": "integer"},
            {"name": "smoker", "type": "category", "levels": ["no", "yes"]},
        ],
    },
    "test",
)
DICTIONARY: list[dict[str, Any]] = [
    {"name": "bmi", "kind": "number", "minimum": 10, "maximum": 60},
    {"name": "age", "kind": "number", "whole": True},
    {"name": "smoker", "kind": "category", "levels": ["yes", "no"]},
    {
        "name": "bmi_full",
        "kind": "number",
        "minimum": 10,
        "maximum": 60,
        "derive": {"impute": "bmi", "using": ["age", "smoker"], "imputations": 3},
    },
    {
        "name": "smoker_full",
        "kind": "category",
        "levels": ["yes", "no"],
        "derive": {"impute": "smoker", "using": ["bmi", "age"], "imputations": 3},
    },
]


@pytest.fixture
def hospital(catalog: Catalog, home: NodeHome, now: datetime) -> NodeHome:
    rng = np.random.default_rng(1)
    rows = ["pid,bmi,age,smoker"]
    for i in range(300):
        bmi = "" if rng.random() < 0.2 else f"{rng.normal(27, 3):.1f}"
        smoker = "" if rng.random() < 0.2 else str(rng.choice(["no", "yes"]))
        rows.append(f"p{i},{bmi},{rng.integers(30, 80)},{smoker}")
    data = ("\n".join(rows) + "\n").encode()
    ingest_table(data, SCHEMA, Pseudonyms(b"k" * 32), catalog, home, now=now)
    return home


def test_a_release_has_each_imputation_as_a_column(hospital: NodeHome, catalog: Catalog) -> None:
    variables = parse_dictionary({"name": "d", "variables": DICTIONARY}, "test").variables

    def plan() -> Any:
        selection = Selection(table="t")
        return plan_release(
            catalog,
            hospital,
            "r",
            selection,
            today=date(2026, 3, 1),
            variables=variables,
            wishes=Wishes(strata=()),
        )

    found = plan()
    frame = pl.read_parquet(found.parts["tables/t.parquet"])
    for at in (1, 2, 3):
        assert frame[f"bmi_full.{at}"].null_count() == 0
        assert frame[f"smoker_full.{at}"].null_count() == 0
        known = frame.filter(pl.col("bmi").is_not_null())
        assert (known["bmi"] == known[f"bmi_full.{at}"]).all()
    assert (frame["bmi_full.1"] != frame["bmi_full.2"]).any()
    assert plan().manifest.digest == found.manifest.digest
    # Who has no bmi are enough to be told of, or in no set.
    declaration = found.manifest.declaration
    assert "moments" in declaration.variable("bmi_full.1").by
    assert "levels" in declaration.variable("smoker_full.3").by

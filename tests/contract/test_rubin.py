"""Rubin's rules against published figures and statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.imputation.mice import MICE, MICEData

from contract.errors import DocumentError
from contract.statistics.rubin import pool, pool_vector


def with_variance(mean: float, between: float) -> list[float]:
    """Five estimates with this mean and variance."""
    base = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    return [float(v) for v in mean + base * math.sqrt(between / base.var(ddof=1))]


# SAS/STAT, the MI procedure, "Getting Started" (fitness data, 31 men, 5 imputations): variance
# information and parameter estimates.
PUBLISHED = {
    "Oxygen": (47.094040, 0.056930, 0.954041, 1.022356, 25.549, 0.071606, 0.068898),
    "RunTime": (10.572073, 0.000811, 0.064496, 0.065469, 27.721, 0.015084, 0.014968),
    "RunPulse": (171.787793, 0.922032, 3.269089, 4.375528, 15.753, 0.338455, 0.275664),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_analysis_of_the_fitness_data(name: str) -> None:
    mean, between, within, total, degrees, increase, missing = PUBLISHED[name]
    found = pool(with_variance(mean, between), [within] * 5, complete=30)
    assert found.estimate == pytest.approx(mean)
    assert found.variance == pytest.approx(total, abs=2e-6)
    assert found.degrees_of_freedom == pytest.approx(degrees, abs=6e-3)
    assert found.variance / found.within - 1 == pytest.approx(increase, abs=2e-5)
    assert found.missing_information == pytest.approx(missing, abs=2e-5)
    low, high = found.interval()
    quantile = stats.t.ppf(0.975, found.degrees_of_freedom)
    assert (low + high) / 2 == pytest.approx(mean)
    assert high - mean == pytest.approx(quantile * math.sqrt(total), rel=1e-5)


def test_coefficients_are_pooled_as_statsmodels_does() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=200)
    y = 1 + 2 * x + rng.normal(size=200)
    x[rng.random(200) < 0.3] = np.nan
    np.random.seed(5)  # statsmodels draws from NumPy's global generator
    mice = MICE("y ~ x", sm.OLS, MICEData(pd.DataFrame({"x": x, "y": y})))
    result = mice.fit(5, 6)
    fits = mice.results_list
    params = [np.asarray(f.params) for f in fits]
    covariances = [np.asarray(f.cov_params()) for f in fits]
    estimate, covariance = pool_vector(params, covariances)
    assert estimate == pytest.approx(np.asarray(result.params), rel=1e-12)
    assert covariance == pytest.approx(np.asarray(result.cov_params()), rel=1e-12)
    for at in range(2):
        one = pool([p[at] for p in params], [c[at, at] for c in covariances])
        assert one.estimate == pytest.approx(estimate[at], rel=1e-12)
        assert one.standard_error == pytest.approx(result.bse[at], rel=1e-12)


figures = st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3)), min_size=2, max_size=20)


@given(figures, st.integers(1, 500), st.randoms())
def test_the_order_of_imputations_is_nothing(
    some: list[tuple[float, float]], complete: int, chance: object
) -> None:
    mixed = list(some)
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    found = pool([q for q, _ in some], [u for _, u in some], complete)
    again = pool([q for q, _ in mixed], [u for _, u in mixed], complete)
    assert found.estimate == pytest.approx(again.estimate)
    assert found.variance == pytest.approx(again.variance)
    assert 0 < found.degrees_of_freedom <= complete
    assert found.variance >= found.within * (1 - 1e-12)
    assert 0 <= found.missing_information <= 1


def test_without_anything_missing_it_is_the_complete_analysis() -> None:
    found = pool([2.0] * 5, [0.25] * 5, complete=28)
    assert (found.estimate, found.standard_error) == (2.0, 0.5)
    assert found.missing_information == 0
    assert found.degrees_of_freedom == pytest.approx(29 / 31 * 28)
    large = pool([2.0] * 5, [0.25] * 5)
    assert large.interval() == pytest.approx((2 - 0.5 * 1.959964, 2 + 0.5 * 1.959964), rel=1e-6)
    assert large.p_value() == pytest.approx(2 * stats.norm.sf(4))
    assert found.p_value() == pytest.approx(2 * stats.t.sf(4, found.degrees_of_freedom))


@pytest.mark.parametrize(
    ("estimates", "variances"),
    [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, math.nan], [1.0, 1.0]), ([1.0, 2.0], [1.0, -1.0])],
)
def test_what_is_no_set_of_imputations_is_refused(
    estimates: list[float], variances: list[float]
) -> None:
    with pytest.raises(DocumentError):
        pool(estimates, variances)


def test_a_vector_needs_its_covariances() -> None:
    with pytest.raises(DocumentError):
        pool_vector([np.zeros(2)], [np.eye(2)])

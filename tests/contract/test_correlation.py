"""Correlations from merged co-moments are those of the pooled rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from contract.errors import DocumentError
from contract.statistics import correlation
from contract.statistics.summaries import CoMoments


def rows(seed: int, n: int, width: int = 4) -> np.ndarray:
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(n, width)) @ generator.normal(size=(width, width))
    return mixed * [1, 1e3, 1e-3, 10][:width] + [0, 5e3, 1, -3][:width]


def merged(table: np.ndarray, seed: int) -> CoMoments:
    owner = np.random.default_rng(seed).integers(0, 5, len(table))
    total = CoMoments.of(list(table[:0].T))
    for site in range(5):
        total = total.merge(CoMoments.of(list(table[owner == site].T)))
    return total


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(5, 80))
def test_matrices_and_tests_are_those_of_the_pooled_rows(seed: int, n: int) -> None:
    table = rows(seed, n)
    held = merged(table, seed)
    found = correlation.correlation_matrix(held.n, held.products)
    np.testing.assert_allclose(
        correlation.covariance_matrix(held.n, held.products), np.cov(table.T), rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(found.matrix, np.corrcoef(table.T), rtol=1e-9, atol=1e-12)
    wanted = stats.pearsonr(table[:, 0], table[:, 1])
    assert found.p_values[0, 1] == pytest.approx(wanted.pvalue, rel=1e-6)
    assert (found.low[1, 0], found.high[1, 0]) == pytest.approx(tuple(wanted.confidence_interval()))
    assert np.isnan(np.diag(found.p_values)).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(8, 80))
def test_a_partial_correlation_is_that_of_the_residuals(seed: int, n: int) -> None:
    table = rows(seed, n)
    held = merged(table, seed)
    found = correlation.partial_correlation(held.n, held.products, 0, 2, [1, 3])
    design = np.column_stack([np.ones(n), table[:, [1, 3]]])
    left = [
        table[:, j] - design @ np.linalg.lstsq(design, table[:, j], rcond=None)[0] for j in (0, 2)
    ]
    r = float(np.corrcoef(*left)[0, 1])
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(r, abs=1e-7)
    assert found.degrees == (n - 4,)
    t = r * math.sqrt((n - 4) / (1 - r * r))
    assert found.statistic == pytest.approx(t, rel=1e-4)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(t), n - 4), rel=1e-3, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.integers(0, 6), min_size=4, max_size=4), min_size=2, max_size=5))
def test_spearmans_correlation_is_scipys_of_the_levels(counts: list[list[int]]) -> None:
    table = np.array(counts)
    first, second = np.nonzero(table)
    times = table[first, second]
    x, y = np.repeat(first, times), np.repeat(second, times)
    assume(len(set(x)) > 1 and len(set(y)) > 1 and len(x) > 2)
    found, wanted = correlation.spearman(table), stats.spearmanr(x, y)
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(wanted.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(wanted.pvalue, rel=1e-6, abs=1e-12)


def test_what_has_no_correlation_is_said() -> None:
    for found in (
        correlation.correlation(1, 1, 1, 1),
        correlation.correlation(9, 0, 0, 5),
        correlation.correlation(9, 1, 1.5, 1),
        correlation.spearman([[3, 0], [4, 0]]),
        correlation.spearman([[0, 0], [0, 0]]),
        correlation.partial_correlation(9, [1, 0.5, 1, 1, 0.5, 1], 0, 1, [2]),
        correlation.partial_correlation(9, [1, 0.5, 0, 1, 0, 0], 0, 1, [2]),
    ):
        assert math.isnan(found.p_value)
        assert found.note
    whole = correlation.correlation_matrix(9, [4.0, 0.0, 0.0])
    assert whole.matrix[0, 0] == 1
    assert np.isnan(whole.matrix[0, 1]) and np.isnan(whole.matrix[1, 1])
    straight = correlation.correlation(9, 1.0, 1.0, 1.0)
    assert (straight.statistic, straight.p_value) == (math.inf, 0.0)
    two = correlation.correlation(2, 1.0, 1.0, 1.0)
    assert math.isnan(two.p_value) and two.estimate is not None and two.estimate.value == 1
    with pytest.raises(DocumentError):
        correlation.square([1, 2, 3, 4])
    with pytest.raises(DocumentError):
        correlation.partial_correlation(9, [1, 0, 1], 0, 1, [1])

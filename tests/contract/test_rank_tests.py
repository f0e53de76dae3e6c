"""Tests by ranks on bins are scipy's of the binned values, and bound those of the values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from contract.errors import DocumentError
from contract.statistics.rank_tests import kruskal_wallis, mann_whitney, ordered
from contract.statistics.summaries import Counts

BINS = st.integers(2, 7).flatmap(
    lambda bins: st.lists(
        st.lists(st.integers(0, 12), min_size=bins, max_size=bins), min_size=2, max_size=4
    )
)


@settings(deadline=None, max_examples=40)
@given(BINS)
def test_on_the_bins_they_are_scipys(counts: list[list[int]]) -> None:
    table = np.array(counts)
    assume((table.sum(axis=1) > 1).all() and (table.sum(axis=0) > 0).sum() > 1)
    values = [np.repeat(np.arange(row.size), row) for row in table]
    found = mann_whitney(*table[:2])
    if len(set(np.concatenate(values[:2]))) > 1:
        wanted = stats.mannwhitneyu(*values[:2], method="asymptotic")
        assert found.test.statistic == wanted.statistic
        assert found.test.p_value == pytest.approx(wanted.pvalue, rel=1e-9)
    else:
        assert found.test.note
    several, kruskal = kruskal_wallis(table), stats.kruskal(*values)
    assert several.test.statistic == pytest.approx(kruskal.statistic, abs=1e-9)
    if kruskal.statistic > 0:  # scipy's may be below it by rounding, and its p value then NaN
        assert several.test.p_value == pytest.approx(kruskal.pvalue, rel=1e-7)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(2, 12), st.floats(0, 1.5), st.booleans())
def test_the_bounds_hold_for_the_values_themselves(
    seed: int, bins: int, shift: float, tied: bool
) -> None:
    generator = np.random.default_rng(seed)
    groups = [generator.normal(shift * g, 1, generator.integers(5, 60)) for g in range(3)]
    groups = [np.clip(g, -3, 4.5) for g in groups]
    if tied:
        groups = [np.round(g, 1) for g in groups]
    edges = np.linspace(-3, 4.5, bins + 1)
    table = [np.histogram(g, edges)[0] for g in groups]
    found, wanted = mann_whitney(*table[:2]), stats.mannwhitneyu(*groups[:2], method="asymptotic")
    if not found.test.note:
        assert abs(found.test.statistic - wanted.statistic) <= found.error
        assert found.least_p * (1 - 1e-9) <= wanted.pvalue <= found.most_p * (1 + 1e-9)
    several, kruskal = kruskal_wallis(table), stats.kruskal(*groups)
    if not several.test.note:
        assert abs(several.test.statistic - kruskal.statistic) <= several.error + 1e-9
        assert several.least_p * (1 - 1e-9) <= kruskal.pvalue <= several.most_p * (1 + 1e-9)


def test_a_published_example_of_levels_comes_out() -> None:
    # Hollander and Wolfe 1973, p. 69 (the example of R's wilcox.test): W = 35, without ties.
    first = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
    second = [1.15, 0.88, 0.90, 0.74, 1.21]
    edges = np.arange(0.705, 2.0, 0.01)
    found = mann_whitney(np.histogram(first, edges)[0], np.histogram(second, edges)[0])
    assert (found.test.statistic, found.error) == (35, 0)
    assert found.least_p == found.test.p_value == found.most_p


def test_nobody_and_one_bin_are_said() -> None:
    for found in (
        mann_whitney([0, 0], [3, 4]),
        mann_whitney([5, 0], [4, 0]),
        mann_whitney([], []),
        kruskal_wallis([[3, 4], [0, 0]]),
        kruskal_wallis([[3, 0], [4, 0]]),
    ):
        assert math.isnan(found.test.p_value)
        assert found.test.note
    with pytest.raises(DocumentError):
        mann_whitney([1, 2], [1, 2, 3])
    assert mann_whitney([5, -1, 3], [2, 2, 9]).test.approximate


def test_a_histogram_is_in_order_from_below_to_above() -> None:
    assert ordered(Counts((4, 5), 9, below=1, above=2)) == (1, 4, 5, 2)

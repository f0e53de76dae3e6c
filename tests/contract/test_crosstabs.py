"""Tests of merged crosstabs agree with published examples, scipy and statsmodels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special, stats
from scipy.stats import contingency
from scipy.stats.contingency import association
from statsmodels.stats.contingency_tables import mcnemar

from contract.errors import DocumentError
from contract.statistics import crosstabs
from contract.statistics.conditional_odds import conditional_odds_ratio
from contract.statistics.crosstabs import chi_squared, fisher_exact, mutual_independence

TABLES = st.tuples(st.integers(2, 4), st.integers(2, 4)).flatmap(
    lambda shape: st.lists(
        st.lists(st.integers(0, 30), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0],
        max_size=shape[0],
    )
)


@settings(deadline=None, max_examples=60)
@given(TABLES)
def test_chi_squared_is_scipys(counts: list[list[int]]) -> None:
    table = np.array(counts)
    assume(table.sum(axis=0).min() > 0 and table.sum(axis=1).min() > 0)
    found, wanted = chi_squared(table), stats.chi2_contingency(table)
    assert found.test.statistic == pytest.approx(wanted.statistic)
    assert found.test.p_value == pytest.approx(wanted.pvalue)
    assert found.test.degrees == (wanted.dof,)
    np.testing.assert_allclose(found.expected, wanted.expected_freq)
    assert found.cramers_v == pytest.approx(association(table, method="cramer"), abs=1e-12)
    assert 0 <= found.corrected_v <= 1


def test_empty_levels_are_left_out() -> None:
    full = chi_squared([[10, 20, 5], [4, 30, 9]])
    padded = chi_squared([[10, 0, 20, 5], [0, 0, 0, 0], [4, 0, 30, 9]])
    assert padded.test == full.test
    assert padded.expected.shape == (3, 4)
    for nothing in ([[0, 0], [0, 0]], [[3, 4], [0, 0]], [[5, 0], [6, 0]]):
        found = chi_squared(nothing).test
        assert math.isnan(found.p_value)
        assert found.note


def test_counts_with_noise_are_clamped_and_marked() -> None:
    found = chi_squared([[10, -2], [5, 8]]).test
    assert found.approximate
    assert found.statistic == chi_squared([[10, 0], [5, 8]]).test.statistic
    assert crosstabs.trend([[1.5, 4], [6, 2]]).approximate
    for refused in ([[10, -2], [5, 8]], [[1.5, 2], [3, 4]]):
        with pytest.raises(DocumentError, match="carry noise"):
            fisher_exact(refused)


def test_fishers_exact_test_gives_published_p_values() -> None:
    # Fisher 1935, the lady tasting tea (Agresti 1990, p. 61); job satisfaction by income (Agresti
    # 2002, p. 57), as in the examples of R's fisher.test.
    tea = fisher_exact([[3, 1], [1, 3]])
    assert tea.p_value == pytest.approx(0.4857, abs=5e-5)
    assert tea.estimate is not None
    # To more digits than R, which stops at 6.408309 (0.2117329 to 621.9338).
    assert tea.estimate.value == pytest.approx(6.4083, rel=1e-4)
    assert (tea.estimate.low, tea.estimate.high) == pytest.approx((0.21173, 626.24), rel=1e-4)
    convictions = fisher_exact([[2, 10], [15, 3]])
    assert convictions.p_value == pytest.approx(0.0005367, abs=5e-8)
    jobs = [[1, 2, 1, 0], [3, 3, 6, 1], [10, 10, 14, 9], [6, 7, 12, 11]]
    assert fisher_exact(jobs).p_value == pytest.approx(0.7827, abs=5e-5)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 40), min_size=4, max_size=4))
def test_fishers_exact_test_of_two_by_two_is_scipys(counts: list[int]) -> None:
    table = np.array(counts).reshape(2, 2)
    assume(table.sum(axis=0).min() > 0 and table.sum(axis=1).min() > 0)
    found = fisher_exact(table)
    assert found.p_value == pytest.approx(stats.fisher_exact(table).pvalue, rel=1e-9)
    if found.estimate is not None and not math.isnan(found.estimate.value):
        other = contingency.odds_ratio(table)
        low, high = other.confidence_interval()
        assert found.estimate.value == pytest.approx(other.statistic, rel=1e-6)
        assert (found.estimate.low, found.estimate.high) == pytest.approx((low, high), rel=1e-6)


def test_a_large_tables_conditional_odds_ratio_is_the_sample_s_nearly() -> None:
    table = np.array([[230_000, 70_000], [210_000, 90_000]])
    found = conditional_odds_ratio(table)
    assert found.value == pytest.approx(23 * 9 / (21 * 7), rel=1e-5)
    half = 1.959963984540054 * math.sqrt((1 / table).sum())
    assert math.log(found.high / found.low) == pytest.approx(2 * half, rel=2e-3)


def test_a_table_of_any_variables_is_tested_for_mutual_independence() -> None:
    """R 4.2.2: summary(UCBAdmissions); of two variables the statistic is Pearson's."""
    admissions = [512, 313, 89, 19, 353, 207, 17, 8, 120, 205, 202, 391, 138, 279, 131, 244, 53,
                  138, 94, 299, 22, 351, 24, 317]  # fmt: skip
    found = mutual_independence(np.reshape(admissions, (6, 2, 2)))
    assert found.statistic == pytest.approx(2000.328068, rel=1e-9)
    assert found.degrees == (16,)
    table = [[10, 20, 30], [25, 15, 10]]
    assert mutual_independence(table).statistic == pytest.approx(chi_squared(table).test.statistic)
    assert math.isnan(mutual_independence(np.zeros((2, 3, 2))).statistic)


def every(rows: list[int], columns: list[int]) -> list[list[list[int]]]:
    """All tables of three columns with these margins."""
    if len(rows) == 1:
        return [[columns]]
    found = []
    for a in range(min(rows[0], columns[0]) + 1):
        for b in range(min(rows[0] - a, columns[1]) + 1):
            c = rows[0] - a - b
            if c <= columns[2]:
                rest = [columns[0] - a, columns[1] - b, columns[2] - c]
                found += [[[a, b, c], *more] for more in every(rows[1:], rest)]
    return found


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=2, max_size=3))
def test_fishers_exact_test_counts_every_table_with_its_margins(counts: list[list[int]]) -> None:
    table = np.array(counts)
    assume(table.sum(axis=0).min() > 0 and table.sum(axis=1).min() > 0)
    tables = np.array(every(table.sum(axis=1).tolist(), table.sum(axis=0).tolist()))
    weights = np.exp(-special.gammaln(tables + 1).sum(axis=(1, 2)))
    seen = np.exp(-special.gammaln(table + 1).sum())
    wanted = weights[weights <= seen * (1 + 1e-7)].sum() / weights.sum()
    assert fisher_exact(table).p_value == pytest.approx(wanted, rel=1e-6)


def test_a_table_too_large_to_enumerate_is_simulated_only_when_asked() -> None:
    table = np.random.default_rng(1).integers(5, 40, (5, 5))
    found = fisher_exact(table)
    assert math.isnan(found.p_value)
    assert "too many" in found.note
    small = [[3, 1, 4], [1, 5, 2], [6, 5, 3]]
    exact = fisher_exact(small).p_value
    drawn = fisher_exact(small, max_steps=1, simulate=np.random.default_rng(2))
    assert drawn.name.endswith("simulated")
    assert drawn.p_value == pytest.approx(exact, abs=0.02)


def test_mcnemars_test_is_statsmodels() -> None:
    ratings = [[794, 86], [150, 570]]  # Agresti 1990, p. 350
    found, wanted = crosstabs.mcnemar(ratings), mcnemar(ratings, exact=False)
    assert found.statistic == pytest.approx(wanted.statistic)
    assert found.p_value == pytest.approx(wanted.pvalue)
    exact = crosstabs.mcnemar([[30, 12], [4, 20]])
    assert exact.p_value == pytest.approx(stats.binomtest(4, 16).pvalue)
    assert math.isnan(crosstabs.mcnemar([[3, 0], [0, 4]]).p_value)
    with pytest.raises(DocumentError):
        crosstabs.mcnemar([[3, 0.5], [1, 4]], exact=True)


def test_a_trend_is_found_as_published() -> None:
    # Agresti 2002, table 5.3: alcohol and malformations; z^2 = 6.57, p = 0.0104.
    malformed = [48, 38, 5, 1, 1]
    without = [17066, 14464, 788, 126, 37]
    found = crosstabs.trend([malformed, without], [0, 0.5, 1.5, 4, 7])
    assert found.statistic**2 == pytest.approx(6.57, abs=0.005)
    assert found.p_value == pytest.approx(0.0104, abs=5e-5)
    assert math.isnan(crosstabs.trend([[0, 0], [3, 4]]).p_value)


@settings(deadline=None, max_examples=40)
@given(TABLES)
def test_ordinal_association_is_scipys(counts: list[list[int]]) -> None:
    table = np.array(counts)
    rows, columns = np.nonzero(table)
    times = table[rows, columns]
    x, y = np.repeat(rows, times), np.repeat(columns, times)
    assume(len(set(x)) > 1 and len(set(y)) > 1)
    found = crosstabs.kendall_tau_b(table).value
    true = stats.kendalltau(x, y, method="asymptotic")
    assert found == pytest.approx(true.statistic, abs=1e-12)
    assert crosstabs.kendall_test(table).p_value == pytest.approx(
        true.pvalue, rel=1e-9, nan_ok=True
    )
    above = np.sign(x[:, None] - x[None, :]) * np.sign(y[:, None] - y[None, :])
    gamma = crosstabs.goodman_kruskal_gamma(table)
    if (above != 0).any():
        assert gamma.value == pytest.approx(above.sum() / np.abs(above).sum())


def test_gamma_has_the_published_standard_error() -> None:
    # Agresti 2002, pp. 58 and 80: job satisfaction by income, gamma 0.221, standard error 0.117.
    jobs = [[1, 3, 10, 6], [2, 3, 10, 7], [1, 6, 14, 12], [0, 1, 9, 11]]
    found = crosstabs.goodman_kruskal_gamma(jobs)
    assert found.value == pytest.approx(0.221, abs=5e-4)
    assert found.standard_error == pytest.approx(0.117, abs=5e-4)


def test_gamma_is_tested_by_its_error_where_it_is_none() -> None:
    jobs = np.array([[1, 3, 10, 6], [2, 3, 10, 7], [1, 6, 14, 12], [0, 1, 9, 11]], dtype=float)

    def pairs(table: np.ndarray, sign: int) -> float:
        return sum(
            table[i, j] * table[k, m]
            for i, j, k, m in itertools.product(range(4), repeat=4)
            if i < k and sign * (m - j) > 0
        )

    def more(at: int) -> float:
        moved = jobs.copy().ravel()
        moved[at] += 0.5
        lower = moved.copy()
        lower[at] -= 1
        ends = (
            pairs(one.reshape(4, 4), 1) - pairs(one.reshape(4, 4), -1) for one in (moved, lower)
        )
        return next(ends) - next(ends)

    # The delta method on how many more pairs are concordant, by its differences.
    slopes = np.array([more(at) for at in range(16)])
    weights = jobs.ravel()
    error = np.sqrt(weights @ slopes**2 - (weights @ slopes) ** 2 / weights.sum())
    found = crosstabs.gamma_test(jobs)
    assert found.statistic == pytest.approx((pairs(jobs, 1) - pairs(jobs, -1)) / error, rel=1e-9)
    assert found.estimate == crosstabs.goodman_kruskal_gamma(jobs)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(found.statistic)), rel=1e-9)
    assert math.isnan(crosstabs.gamma_test([[3, 0], [0, 0]]).p_value)


def test_a_crosstab_gets_its_shape() -> None:
    assert crosstabs.table_of(range(6), (2, 3)).tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(DocumentError):
        crosstabs.table_of(range(6), (2, 2))
    with pytest.raises(DocumentError):
        chi_squared([1, 2, 3])
    with pytest.raises(DocumentError):
        chi_squared([[1, 2, 3], [1, 2, 4]], continuity=True)


def test_fishers_test_of_hundreds_of_subjects_is_a_number() -> None:
    """In so large a table the exact p value is near that of Pearson's test."""
    found = fisher_exact([[230, 70], [210, 90], [205, 80]])
    assert found.p_value == pytest.approx(
        stats.chi2_contingency([[230, 70], [210, 90], [205, 80]], correction=False).pvalue, abs=0.01
    )

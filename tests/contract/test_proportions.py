"""Proportions, ratios, strata and balance agree with published examples and statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from statsmodels.stats import proportion
from statsmodels.stats.contingency_tables import StratifiedTable, Table2x2

from contract.errors import DocumentError
from contract.statistics import balance, proportions
from contract.statistics.stratified import generalised, mantel_haenszel
from contract.statistics.summaries import Moments

CELLS = st.lists(st.integers(1, 60), min_size=4, max_size=4)


def test_newcombes_published_intervals_come_out() -> None:
    # Newcombe 1998 (Statistics in Medicine 17), p. 861: 81 of 263; p. 876: 56/70 less 48/80.
    one = proportions.wilson(81, 263)
    assert (one.low, one.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    two = proportions.risk_difference([[56, 14], [48, 32]])
    assert two.value == pytest.approx(0.2)
    assert (two.low, two.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@settings(max_examples=40)
@given(st.integers(0, 50), st.integers(1, 50), st.sampled_from([0.8, 0.95, 0.99]))
def test_intervals_of_a_proportion_are_statsmodels(events: int, more: int, level: float) -> None:
    n = events + more
    for name, found in (
        ("wilson", proportions.wilson(events, n, level)),
        ("beta", proportions.clopper_pearson(events, n, level)),
    ):
        wanted = proportion.proportion_confint(events, n, 1 - level, method=name)
        assert (found.low, found.high) == pytest.approx(wanted, abs=1e-9)


@settings(max_examples=40)
@given(CELLS)
def test_ratios_are_statsmodels(counts: list[int]) -> None:
    table = np.array(counts).reshape(2, 2)
    wanted = Table2x2(table.astype(float))
    odds, risk = proportions.odds_ratio(table), proportions.risk_ratio(table)
    assert odds.value == pytest.approx(wanted.oddsratio)
    assert (odds.low, odds.high) == pytest.approx(wanted.oddsratio_confint())
    assert risk.value == pytest.approx(wanted.riskratio)
    assert (risk.low, risk.high) == pytest.approx(wanted.riskratio_confint())
    swapped = proportions.odds_ratio(table[::-1])
    assert swapped.value * odds.value == pytest.approx(1)


def test_empty_cells_are_said_or_corrected() -> None:
    for found in (
        proportions.odds_ratio([[5, 0], [3, 4]]),
        proportions.risk_ratio([[0, 5], [3, 4]]),
        proportions.odds_ratio([[0, 0], [3, 4]]),
        proportions.wilson(0, 0),
        proportions.clopper_pearson(0, 0),
        proportions.number_needed_to_treat([[5, 5], [5, 5]]),
    ):
        assert math.isnan(found.standard_error)
        assert found.note
    assert proportions.odds_ratio([[5, 0], [3, 4]], correction=0.5).value == pytest.approx(
        5.5 * 4.5 / (0.5 * 3.5)
    )
    noisy = proportions.risk_difference([[5, -1], [3, 4]])
    assert noisy.approximate
    assert proportions.wilson(5, 4).approximate
    with pytest.raises(DocumentError):
        proportions.odds_ratio([[1, 2, 3], [4, 5, 6]])


def test_the_number_needed_to_treat_is_the_difference_inverted() -> None:
    found = proportions.number_needed_to_treat([[34, 86], [21, 99]])
    assert found.value == pytest.approx(120 / 13)
    certain = proportions.number_needed_to_treat([[56, 14], [48, 32]])
    assert (certain.low, certain.high) == pytest.approx((1 / 0.33387, 1 / 0.05243), rel=1e-3)


@settings(deadline=None, max_examples=40)
@given(st.lists(CELLS, min_size=2, max_size=5), st.booleans())
def test_strata_are_pooled_as_statsmodels_does(strata: list[list[int]], corrected: bool) -> None:
    tables = np.array(strata).reshape(-1, 2, 2)
    found = mantel_haenszel(tables, continuity=corrected, tarone=corrected)
    wanted = StratifiedTable([t.astype(float) for t in tables])
    assert found.odds_ratio.value == pytest.approx(wanted.oddsratio_pooled)
    assert found.odds_ratio.standard_error == pytest.approx(wanted.logodds_pooled_se)
    assert found.risk_ratio.value == pytest.approx(wanted.riskratio_pooled)
    test = wanted.test_null_odds(correction=corrected)
    if not corrected:  # statsmodels lets the correction pass zero
        assert found.association.statistic == pytest.approx(test.statistic)
        assert found.association.p_value == pytest.approx(test.pvalue)
    if abs(found.odds_ratio.value - 1) < 1e-3:
        return  # statsmodels solves a quadratic whose leading term is then 0
    alike = wanted.test_equal_odds(adjust=corrected)
    assert found.homogeneity.statistic == pytest.approx(alike.statistic, abs=1e-6)
    assert found.homogeneity.p_value == pytest.approx(alike.pvalue, abs=1e-6)


def test_one_stratum_is_the_plain_table() -> None:
    table = [[12, 30], [5, 44]]
    found = mantel_haenszel([table])
    assert found.odds_ratio.value == pytest.approx(proportions.odds_ratio(table).value)
    assert found.risk_ratio.value == pytest.approx(proportions.risk_ratio(table).value)
    plain = proportions.risk_ratio(table)
    assert found.risk_ratio.standard_error == pytest.approx(plain.standard_error)
    difference = proportions.risk_difference(table)
    assert found.risk_difference.value == pytest.approx(difference.value)
    assert math.isnan(found.homogeneity.p_value)


def test_berkeleys_admissions_give_rs_values() -> None:
    # UCBAdmissions of R (Bickel et al. 1975), men by women, admitted first, six departments.
    departments = [
        [[512, 313], [89, 19]],
        [[353, 207], [17, 8]],
        [[120, 205], [202, 391]],
        [[138, 279], [131, 244]],
        [[53, 138], [94, 299]],
        [[22, 351], [24, 317]],
    ]
    found = mantel_haenszel(departments)
    # mantelhaen.test(UCBAdmissions): 1.4269; 0.9046968 (0.7719074 to 1.0603298).
    assert found.association.statistic == pytest.approx(1.4269, abs=5e-5)
    assert found.odds_ratio.value == pytest.approx(0.9046968, abs=5e-8)
    ends = (found.odds_ratio.low, found.odds_ratio.high)
    assert ends == pytest.approx((0.7719074, 1.0603298), abs=5e-7)


def test_hair_and_eyes_over_sexes_give_r_s_generalised_test() -> None:
    """R 4.2.2: mantelhaen.test(HairEyeColor); of two by two the plain test uncorrected."""
    counts = [32, 53, 10, 3, 11, 50, 10, 30, 10, 25, 7, 5, 3, 15, 7, 8, 36, 66, 16, 4, 9, 34, 7,
              64, 5, 29, 7, 5, 2, 14, 7, 8]  # fmt: skip
    found = generalised(np.reshape(counts, (2, 4, 4)))
    assert found.statistic == pytest.approx(140.2833320514, rel=1e-10)
    assert found.degrees == (9,)
    small = [[[12, 5], [3, 9]], [[7, 8], [2, 6]]]
    plain = mantel_haenszel(small, continuity=False).association.statistic
    assert generalised(small).statistic == pytest.approx(plain, rel=1e-12)


def test_strata_that_tell_nothing_drop_out() -> None:
    told = [[[10, 20], [5, 30]], [[7, 9], [4, 12]]]
    silent = [[[0, 0], [0, 0]], [[0, 12], [0, 9]], [[6, 0], [8, 0]]]
    found, wanted = mantel_haenszel(told + silent), mantel_haenszel(told)
    assert found.odds_ratio == wanted.odds_ratio
    assert found.homogeneity == wanted.homogeneity
    for nothing in ([], silent):
        gone = mantel_haenszel(np.array(nothing).reshape(-1, 2, 2))
        assert math.isnan(gone.odds_ratio.value)
        assert gone.association.note
    assert mantel_haenszel([[[10, -1], [5, 30]], *told]).odds_ratio.approximate
    with pytest.raises(DocumentError):
        mantel_haenszel([[1, 2], [3, 4]])


def test_in_one_large_stratum_satos_error_is_nearly_walds() -> None:
    found = mantel_haenszel([[[40, 60], [25, 75]]]).risk_difference
    wald = proportions.risk_difference([[40, 60], [25, 75]])
    assert found.standard_error == pytest.approx(wald.standard_error, rel=0.01)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(2, 5))
def test_a_difference_of_levels_is_mahalanobis_of_the_rows(seed: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    rows = [generator.choice(levels, 80, p=generator.dirichlet(np.ones(levels))) for _ in "ab"]
    a, b = (np.bincount(r, minlength=levels) for r in rows)
    assume((np.minimum(a, b) > 0).all())
    dummies = [np.eye(levels)[r][:, 1:] for r in rows]
    covariance = sum(np.cov(d.T, ddof=0).reshape(levels - 1, -1) for d in dummies) / 2
    apart = dummies[0].mean(axis=0) - dummies[1].mean(axis=0)
    wanted = math.sqrt(apart @ np.linalg.solve(covariance, apart))
    assert balance.of_levels(a, b).value == pytest.approx(wanted, abs=1e-9)
    # Which level is left out, and levels of nobody, change nothing.
    assert balance.of_levels(a[::-1], b[::-1]).value == pytest.approx(wanted, abs=1e-9)
    padded = balance.of_levels([*a, 0], [*b, 0]).value
    assert padded == pytest.approx(wanted, abs=1e-9)


def test_two_levels_are_a_share() -> None:
    share = balance.of_shares(30, 80, 12, 70)
    levels = balance.of_levels([30, 50], [12, 58])
    assert levels.value == pytest.approx(abs(share.value))
    p, q = 30 / 80, 12 / 70
    assert share.value == pytest.approx((p - q) / math.sqrt((p * (1 - p) + q * (1 - q)) / 2))


def test_differences_of_numbers_are_standardised() -> None:
    a, b = Moments(40, 0, 10.0, 39 * 4.0), Moments(60, 0, 9.0, 59 * 9.0)
    found = balance.of_numbers(a, b)
    assert found.value == pytest.approx(1 / math.sqrt(6.5))
    # Austin 2009: variance (n + m) / nm + d^2 / 2(n + m).
    assert found.standard_error**2 == pytest.approx(100 / 2400 + found.value**2 / 200)
    pooled = math.sqrt((39 * 4 + 59 * 9) / 98)
    assert balance.hedges_g(a, b).value == pytest.approx((1 - 3 / (4 * 98 - 1)) / pooled, rel=1e-4)


def test_what_has_no_standardised_difference_is_said() -> None:
    constant = Moments(5, 0, 1.0, 0.0)
    for found in (
        balance.of_numbers(Moments(), constant),
        balance.of_numbers(constant, constant),
        balance.of_shares(0, 0, 1, 2),
        balance.of_levels([0, 0], [1, 2]),
        balance.of_levels([5, 0], [8, 0]),
        balance.hedges_g(Moments(1, 0, 1.0, 0.0), Moments(1, 0, 2.0, 0.0)),
    ):
        assert math.isnan(found.value)
        assert found.note
    assert balance.of_levels([5, 0, 3], [0, 8, 0]).value == math.inf
    assert balance.of_shares(5, 5, 0, 5).value == math.inf
    assert balance.of_levels([5, -1], [3, 4]).approximate
    with pytest.raises(DocumentError):
        balance.of_levels([1, 2], [1, 2, 3])

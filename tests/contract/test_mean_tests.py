"""Tests of means are those of pooled rows, and NIST's certified analyses of variance hold."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.oneway import anova_oneway

from contract.errors import DocumentError
from contract.statistics import mean_tests
from contract.statistics.estimates import adjusted
from contract.statistics.summaries import CoMoments, Moments

# NIST Statistical Reference Datasets, one-way analysis of variance.
SIRSTV = [
    [196.3052, 196.1240, 196.1890, 196.2569, 196.3403],
    [196.3042, 196.3825, 196.1669, 196.3257, 196.0422],
    [196.1303, 196.2005, 196.2889, 196.0343, 196.1811],
    [196.2795, 196.1748, 196.1494, 196.1485, 195.9885],
    [196.2119, 196.1051, 196.1850, 196.0052, 196.2090],
]
# The atomic weight of silver, less 107.868, in 1e-7, by instrument.
ATMWTAG = [
    [
        1568, 1465, 1572, 1785, 1446, 1903, 1526, 1494, 1616, 1587, 1519, 1486, 1419, 1569, 1508,
        1672, 1385, 1518, 1662, 1424, 1360, 1333, 1610, 1477,
    ],
    [
        1079, 1344, 1513, 1197, 1604, 1385, 1642, 1365, 1151, 1082, 1517, 1448, 1198, 1482, 1334,
        1609, 1101, 1512, 1469, 1360, 1254, 1261, 1450, 1368,
    ],
]  # fmt: skip


def simon_lesage(leading: str, replicates: int) -> list[list[float]]:
    """The generated sets SmLs01 to SmLs09 (Simon and Lesage 1989): nine treatments."""
    middles = [4, 3, 5, 3, 5, 3, 5, 3, 5]
    return [
        [
            float(f"{leading}.{digit}")
            for digit in [middle, *[middle - 1, middle + 1] * (replicates // 2)]
        ]
        for middle in middles
    ]


# Groups, certified F, R squared where given, residual standard deviation, digits asked for.
NIST = {
    "SiRstv": (SIRSTV, 1.18046237440255, 1.04076068334656e-01, 9),
    "AtmWtAg": (
        [[float(f"107.868{x}") for x in group] for group in ATMWTAG],
        1.59467335677930e01,
        1.51048314446410e-05,
        9,
    ),
    "SmLs01": (simon_lesage("1", 21), 21.0, 0.1, 9),
    "SmLs02": (simon_lesage("1", 201), 201.0, 0.1, 9),
    "SmLs03": (simon_lesage("1", 2001), 2001.0, 0.1, 9),
    "SmLs04": (simon_lesage("1000000", 21), 21.0, 0.1, 9),
    "SmLs05": (simon_lesage("1000000", 201), 201.0, 0.1, 9),
    "SmLs06": (simon_lesage("1000000", 2001), 2001.0, 0.1, 9),
    "SmLs07": (simon_lesage("1000000000000", 21), 21.0, 0.1, 3),
    "SmLs08": (simon_lesage("1000000000000", 201), 201.0, 0.1, 3),
    "SmLs09": (simon_lesage("1000000000000", 2001), 2001.0, 0.1, 3),
}


def over_sites(values: list[float], sites: int, seed: int) -> Moments:
    """The moments of values dealt at random over sites, merged."""
    generator = random.Random(seed)
    shuffled = generator.sample(values, len(values))
    cuts = [0, *sorted(generator.randrange(len(values) + 1) for _ in range(sites - 1)), len(values)]
    total = Moments()
    for a, b in pairwise(cuts):
        total = total.merge(Moments.of(np.array(shuffled[a:b], dtype=np.float64)))
    return total


def of(values: list[float]) -> Moments:
    return Moments.of(np.array(values, dtype=np.float64))


@pytest.mark.parametrize("sites", [1, 2, 7, 60])
@pytest.mark.parametrize("name", NIST)
def test_anova_is_the_certified_one_however_rows_lie_over_sites(name: str, sites: int) -> None:
    groups, f, residual, digits = NIST[name]
    for seed in range(1 if len(groups[0]) > 1000 else 5):
        found = mean_tests.anova([over_sites(group, sites, seed) for group in groups])
        assert found.test.statistic == pytest.approx(f, rel=10.0**-digits)
        assert found.residual_standard_deviation == pytest.approx(residual, rel=10.0**-digits)


@pytest.mark.parametrize(("large", "digits"), [(1000000, 9), (10000000, 8)])
@pytest.mark.parametrize("sites", [1, 3, 100, 400])
def test_numacc_3_and_4_keep_their_digits_over_many_sites(
    large: int, digits: int, sites: int
) -> None:
    values = [float(f"{large}.2")] + [float(f"{large}.1"), float(f"{large}.3")] * 500
    for seed in range(3):
        found = over_sites(values, sites, seed)
        assert found.standard_deviation == pytest.approx(0.1, rel=10.0**-digits)


GROUPS = st.lists(
    st.lists(st.floats(-1e3, 1e3).map(lambda x: round(x, 3)), min_size=3, max_size=15),
    min_size=2,
    max_size=4,
).filter(lambda groups: all(len(set(g)) > 1 for g in groups))


@settings(deadline=None, max_examples=40)
@given(GROUPS, st.integers(0, 99))
def test_tests_of_means_are_scipys_of_the_pooled_rows(groups: list[list[float]], seed: int) -> None:
    a, b = (over_sites(group, 3, seed) for group in groups[:2])
    for found, wanted in (
        (mean_tests.student_t(a, b), stats.ttest_ind(*groups[:2])),
        (mean_tests.welch_t(a, b), stats.ttest_ind(*groups[:2], equal_var=False)),
        (mean_tests.one_sample_t(a, 1.5), stats.ttest_1samp(groups[0], 1.5)),
    ):
        assert found.statistic == pytest.approx(wanted.statistic, rel=1e-9, abs=1e-9)
        assert found.p_value == pytest.approx(wanted.pvalue, rel=1e-8)
        assert found.degrees[0] == pytest.approx(wanted.df)
    interval = stats.ttest_ind(*groups[:2], equal_var=False).confidence_interval(0.9)
    estimate = mean_tests.welch_t(a, b, 0.9).estimate
    assert estimate is not None
    assert (estimate.low, estimate.high) == pytest.approx(tuple(interval))
    merged = [over_sites(group, 4, seed) for group in groups]
    one_way = stats.f_oneway(*groups)
    table = mean_tests.anova(merged)
    assert table.test.statistic == pytest.approx(one_way.statistic, rel=1e-8)
    assert table.test.p_value == pytest.approx(one_way.pvalue, rel=1e-7)
    bartlett, wanted = mean_tests.bartlett(merged), stats.bartlett(*groups)
    assert bartlett.statistic == pytest.approx(wanted.statistic, abs=1e-8)
    welch = anova_oneway(groups, use_var="unequal", welch_correction=True)
    assert mean_tests.welch_anova(merged).statistic == pytest.approx(welch.statistic, rel=1e-8)
    assert mean_tests.welch_anova(merged).p_value == pytest.approx(welch.pvalue, rel=1e-7)


def test_a_paired_test_follows_from_comoments() -> None:
    generator = np.random.default_rng(1)
    x = generator.normal(10, 2, 40)
    y = x + generator.normal(0.3, 0.5, 40)
    held = CoMoments.of([x[:13], y[:13]]).merge(CoMoments.of([x[13:], y[13:]]))
    found = mean_tests.paired_t(held.n, held.means, held.products)
    wanted = stats.ttest_rel(x, y)
    assert found.statistic == pytest.approx(wanted.statistic, rel=1e-9)
    assert found.p_value == pytest.approx(wanted.pvalue, rel=1e-9)
    same = CoMoments.of([x, x])
    assert mean_tests.paired_t(same.n, same.means, same.products).note == mean_tests.CONSTANT


def test_normality_is_judged_as_scipy_does() -> None:
    values = np.random.default_rng(2).gamma(2.0, size=200)
    d = values - values.mean()
    found = mean_tests.jarque_bera(200, (d**2).sum(), (d**3).sum(), (d**4).sum())
    wanted = stats.jarque_bera(values)
    assert found.statistic == pytest.approx(wanted.statistic)
    assert found.p_value == pytest.approx(wanted.pvalue)


def test_p_values_keep_their_digits_far_out() -> None:
    a, b = [0.0, 0.1] * 100, [0.5, 0.6] * 100
    found, wanted = mean_tests.student_t(of(a), of(b)), stats.ttest_ind(a, b)
    assert 0 < found.p_value < 1e-250
    assert found.p_value == pytest.approx(wanted.pvalue, rel=1e-6)


NOBODY, ONE, CONSTANT, SOME = Moments(), of([3.0]), of([2.0, 2.0, 2.0]), of([1.0, 2.0, 4.0])


@pytest.mark.parametrize(
    "found",
    [
        mean_tests.one_sample_t(NOBODY),
        mean_tests.one_sample_t(ONE),
        mean_tests.one_sample_t(CONSTANT),
        mean_tests.student_t(NOBODY, SOME),
        mean_tests.student_t(ONE, ONE),
        mean_tests.student_t(CONSTANT, CONSTANT),
        mean_tests.welch_t(ONE, SOME),
        mean_tests.welch_t(CONSTANT, CONSTANT),
        mean_tests.anova([]).test,
        mean_tests.anova([SOME, NOBODY]).test,
        mean_tests.anova([ONE, ONE]).test,
        mean_tests.anova([CONSTANT, CONSTANT]).test,
        mean_tests.welch_anova([SOME, CONSTANT]),
        mean_tests.welch_anova([SOME, ONE]),
        mean_tests.bartlett([SOME]),
        mean_tests.bartlett([SOME, CONSTANT]),
        mean_tests.paired_t(1, (0, 0), (0, 0, 0)),
        mean_tests.jarque_bera(3, 0, 0, 0),
    ],
)
def test_what_is_not_defined_is_nan_with_the_reason(found: mean_tests.HypothesisTest) -> None:
    assert math.isnan(found.p_value)
    assert found.note


def test_groups_of_different_constants_differ_for_certain() -> None:
    found = mean_tests.anova([CONSTANT, of([3.0, 3.0])])
    assert (found.test.statistic, found.test.p_value) == (math.inf, 0.0)


def test_moments_with_noise_are_marked() -> None:
    noisy = Moments(40, 0, 1.0, -3.0)
    assert mean_tests.student_t(noisy, SOME).approximate
    assert mean_tests.anova([noisy, SOME]).test.approximate
    assert not mean_tests.anova([SOME, SOME]).test.approximate


def test_pairs_of_groups_have_adjusted_p_values() -> None:
    groups = [of([1.0, 2.0, 4.0]), of([2.0, 3.5, 4.0]), of([9.0, 10.0, 12.0])]
    found = mean_tests.pairwise(groups)
    assert [(pair.first, pair.second) for pair in found] == [(0, 1), (0, 2), (1, 2)]
    assert [p.adjusted_p for p in found] == adjusted([p.test.p_value for p in found])
    assert found[0].test == mean_tests.welch_t(groups[0], groups[1])


def test_adjusted_p_values_are_those_of_a_published_example() -> None:
    # Benjamini and Hochberg 1995, section 4.1: fifteen endpoints of a trial of thrombolysis.
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
         0.5719, 0.6528, 0.7590, 1.0]  # fmt: skip
    assert sum(x <= 0.05 for x in adjusted(p, "bonferroni")) == 3
    assert sum(x <= 0.05 for x in adjusted(p, "benjamini-hochberg")) == 4
    assert adjusted([0.01, math.nan, 0.04, 0.03])[::2] == pytest.approx([0.03, 0.06])
    assert adjusted(p, "none") == p
    with pytest.raises(DocumentError):
        adjusted(p, "fewest")

"""Agreement and reliability come out as published: Cohen, Fleiss, Krippendorff, Shrout, Altman."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import aggregate_raters, cohens_kappa, fleiss_kappa

from contract.errors import DocumentError
from contract.statistics import agreement, reliability
from contract.statistics.reliability import Coincidences, krippendorff_alpha
from contract.statistics.summaries import CoMoments

# Cohen 1960, table 1.
COHEN = [[88, 14, 18], [10, 40, 10], [2, 6, 12]]
# Fleiss 1971: 30 patients, six psychiatrists, five diagnoses; how often each was given.
FLEISS = [
    [0, 0, 0, 6, 0], [0, 3, 0, 0, 3], [0, 1, 4, 0, 1], [0, 0, 0, 0, 6], [0, 3, 0, 3, 0],
    [2, 0, 4, 0, 0], [0, 0, 4, 0, 2], [2, 0, 3, 1, 0], [2, 0, 0, 4, 0], [0, 0, 0, 0, 6],
    [1, 0, 0, 5, 0], [1, 1, 0, 4, 0], [0, 3, 3, 0, 0], [1, 0, 0, 5, 0], [0, 2, 0, 3, 1],
    [0, 0, 5, 0, 1], [3, 0, 0, 1, 2], [5, 1, 0, 0, 0], [0, 2, 0, 4, 0], [1, 0, 2, 0, 3],
    [0, 0, 0, 0, 6], [0, 1, 0, 5, 0], [0, 2, 0, 1, 3], [2, 0, 0, 4, 0], [1, 0, 0, 4, 1],
    [0, 5, 0, 1, 0], [4, 0, 0, 0, 2], [0, 2, 0, 4, 0], [1, 0, 5, 0, 0], [0, 0, 0, 0, 6],
]  # fmt: skip
# Krippendorff 2011 (Computing Krippendorff's alpha-reliability), section C: four observers.
KRIPPENDORFF = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""
# Shrout and Fleiss 1979, table 2: six targets, four judges.
SHROUT = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)
# Bland and Altman 1986, table 1: peak flow (l/min), first readings of two meters.
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


def codes_of(text: str, first: int = 1) -> np.ndarray:
    return np.array(
        [
            [-1 if x == "." else int(x) - first for x in line.split()]
            for line in text.split("\n")
            if line
        ]
    ).T


def comoments(table: np.ndarray) -> CoMoments:
    """Of two sites, merged."""
    cut = len(table) // 3
    return CoMoments.of(list(table[:cut].T)).merge(CoMoments.of(list(table[cut:].T)))


def test_cohens_kappa_is_his_own() -> None:
    found = agreement.cohen_kappa(COHEN)
    assert (found.observed, found.expected) == pytest.approx((0.70, 0.41))
    assert found.estimate.value == pytest.approx(0.492, abs=5e-4)
    share = agreement.percent_agreement(COHEN)
    assert share.value == pytest.approx(0.7)
    assert share.low < 0.7 < share.high


@settings(deadline=None, max_examples=40)
@given(
    st.integers(2, 4).flatmap(
        lambda k: st.lists(
            st.lists(st.integers(0, 30), min_size=k, max_size=k), min_size=k, max_size=k
        )
    ),
    st.sampled_from(["none", "linear", "quadratic"]),
)
def test_kappas_and_their_errors_are_statsmodels(
    counts: list[list[int]], weights: agreement.Weights
) -> None:
    table = np.array(counts)
    assume(table.sum(axis=0).min() > 0 and table.sum(axis=1).min() > 0)
    names = {"none": None, "linear": "linear", "quadratic": "quadratic"}
    found, wanted = agreement.cohen_kappa(table, weights), cohens_kappa(table, wt=names[weights])
    assert found.estimate.value == pytest.approx(wanted.kappa, abs=1e-10)
    assert found.estimate.standard_error == pytest.approx(wanted.std_kappa, abs=1e-8)
    assert found.test.statistic == pytest.approx(wanted.z_value, abs=1e-6)


def test_scores_place_the_levels_of_weighted_kappa() -> None:
    even = agreement.cohen_kappa(COHEN, "linear", scores=[3, 5, 7])
    assert even.estimate == agreement.cohen_kappa(COHEN, "linear").estimate
    apart = agreement.cohen_kappa(COHEN, "linear", scores=[0, 1, 9])
    assert apart.estimate.value != even.estimate.value
    with pytest.raises(DocumentError):
        agreement.cohen_kappa(COHEN, "linear", scores=[1, 2])


def test_fleiss_kappa_is_his_own() -> None:
    found = agreement.fleiss_kappa_of_ratings(FLEISS)
    assert found.estimate.value == pytest.approx(0.430, abs=5e-4)
    assert found.test.statistic == pytest.approx(17.7, abs=0.05)  # as R's irr::kappam.fleiss
    assert found.observed == pytest.approx(0.5556, abs=5e-5)
    assert found.expected == pytest.approx(0.2199, abs=5e-4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(2, 5), st.integers(2, 4))
def test_pairwise_crosstabs_suffice_for_fleiss_kappa_and_alpha(
    seed: int, raters: int, levels: int
) -> None:
    codes = np.random.default_rng(seed).integers(0, levels, (25, raters))
    assume(len(np.unique(codes)) > 1)
    pairs = []
    for a, b in combinations(range(raters), 2):
        table = np.zeros((levels, levels))
        np.add.at(table, (codes[:, a], codes[:, b]), 1)
        pairs.append(table)
    wanted = fleiss_kappa(aggregate_raters(codes, levels)[0])
    assert agreement.fleiss_kappa(pairs, raters).estimate.value == pytest.approx(wanted)
    matrix = reliability.of_crosstabs(pairs, raters)
    np.testing.assert_allclose(matrix, Coincidences.of(codes, levels).matrix)


def test_krippendorffs_alpha_is_his_own() -> None:
    held = Coincidences.of(codes_of(KRIPPENDORFF), 5)
    values = [1, 2, 3, 4, 5]
    for metric, wanted in {
        "nominal": 0.743, "ordinal": 0.815, "interval": 0.849, "ratio": 0.797,
    }.items():  # fmt: skip
        found = krippendorff_alpha(held.matrix, metric, values)  # type: ignore[arg-type]
        assert found.value == pytest.approx(wanted, abs=5e-4), metric
    assert held.matrix.sum() == pytest.approx(40)
    assert held.alone == 1
    # Sections A and B: two observers, binary and nominal data without gaps.
    binary = codes_of("0 1 0 0 0 0 0 0 1 0\n1 1 1 0 0 1 0 0 0 0", 0)
    assert krippendorff_alpha(Coincidences.of(binary, 2).matrix).value == pytest.approx(
        0.095, abs=5e-4
    )
    nominal = codes_of("1 1 2 2 4 3 3 3 5 4 4 1\n2 1 2 2 2 3 3 3 5 4 4 4")
    assert krippendorff_alpha(Coincidences.of(nominal, 5).matrix).value == pytest.approx(
        0.692, abs=5e-4
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(0, 30), st.integers(2, 5), st.integers(1, 4))
def test_coincidences_merge_exactly_in_any_order(
    seed: int, n: int, raters: int, levels: int
) -> None:
    generator = np.random.default_rng(seed)
    codes = generator.integers(-1, levels, (n, raters))
    owner = generator.integers(0, 4, n)
    whole = Coincidences.of(codes, levels)
    parts = [Coincidences.of(codes[owner == site], levels) for site in range(4)]
    for order in (parts, parts[::-1]):
        total = order[0].merge(order[1]).merge(order[2].merge(order[3]))
        assert np.array_equal(total.pairs, whole.pairs)
        assert (total.subjects, total.alone) == (whole.subjects, whole.alone)
    assert sum(whole.subjects) + whole.alone == n
    # By the definition: each subject's ordered pairs of ratings, over its ratings less one.
    slow = np.zeros((levels, levels))
    for row in codes:
        given_ = [int(x) for x in row if x >= 0]
        for i, x in enumerate(given_):
            for j, y in enumerate(given_):
                if i != j:
                    slow[x, y] += 1 / (len(given_) - 1)
    np.testing.assert_allclose(whole.matrix, slow, atol=1e-12)


def test_intraclass_correlations_are_shrouts_and_fleiss_own() -> None:
    held = comoments(SHROUT)
    found = reliability.intraclass_correlations(held.n, held.means, held.products)
    squares = (
        found.between_subjects, found.within_subjects, found.between_raters, found.residual,
    )  # fmt: skip
    assert squares == pytest.approx((11.24, 6.26, 32.49, 1.02), abs=5e-3)
    singles, averages = ([e.value for e in part] for part in (found.single, found.average))
    assert singles == pytest.approx([0.17, 0.29, 0.71], abs=5e-3)
    assert averages == pytest.approx([0.44, 0.62, 0.91], abs=5e-3)
    # Intervals as R's psych::ICC prints them for the same table.
    ends = [(e.low, e.high) for e in (*found.single, *found.average)]
    printed = [(-0.133, 0.72), (0.019, 0.76), (0.342, 0.95), (-0.884, 0.91), (0.071, 0.93),
               (0.676, 0.99)]  # fmt: skip
    for one, wanted in zip(ends, printed, strict=True):
        assert one == pytest.approx(wanted, abs=6e-3)
    assert found.p_values[:2] == pytest.approx((0.165, 0.00013), abs=5e-4)


def test_limits_of_agreement_are_blands_and_altmans_own() -> None:
    held = comoments(np.array([WRIGHT, MINI], float).T)
    found = agreement.bland_altman(held.n, held.means, held.products)
    assert found.bias.value == pytest.approx(-2.1, abs=0.05)
    assert found.standard_deviation == pytest.approx(38.8, abs=0.05)
    # They print mean - 2 s to mean + 2 s, -79.7 to 75.5; and the bias' interval, -22.0 to 17.8.
    twice = agreement.bland_altman(held.n, held.means, held.products, coverage=0.9545)
    assert (twice.lower.value, twice.upper.value) == pytest.approx((-79.7, 75.5), abs=0.2)
    assert (found.bias.low, found.bias.high) == pytest.approx((-22.0, 17.8), abs=0.1)


def test_lins_concordance_follows_from_comoments() -> None:
    held = comoments(np.array([WRIGHT, MINI], float).T)
    found = agreement.concordance(held.n, held.means, held.products)
    x, y = np.array(WRIGHT, float), np.array(MINI, float)
    wanted = 2 * np.cov(x, y, ddof=0)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert found.value == pytest.approx(wanted)
    assert 0.8 < found.low < found.value < found.high < 1


def test_what_has_no_agreement_is_said() -> None:
    one = np.zeros((3, 3))
    one[1, 1] = 9
    for kappa in (
        agreement.cohen_kappa(one),
        agreement.cohen_kappa(np.zeros((2, 2))),
        agreement.fleiss_kappa([one] * 3, 3),
        agreement.fleiss_kappa([np.zeros((2, 2))], 2),
    ):
        assert math.isnan(kappa.estimate.value) and math.isnan(kappa.test.p_value)
        assert kappa.estimate.note
    for alpha in (krippendorff_alpha(one), krippendorff_alpha(np.zeros((2, 2)))):
        assert math.isnan(alpha.value) and alpha.note
    for n, means, products in ((1, [1, 2], [0, 0, 0]), (5, [3, 3], [0, 0, 0])):
        icc = reliability.intraclass_correlations(n, means, products)
        assert all(math.isnan(e.value) and e.note for e in (*icc.single, *icc.average))
    full = reliability.intraclass_correlations(5, [3, 3], [10, 10, 10])
    assert [e.value for e in full.single] == pytest.approx([1, 1, 1])
    assert math.isnan(agreement.bland_altman(1, [1, 2], [0, 0, 0]).upper.value)
    assert math.isnan(agreement.concordance(9, [1, 2], [0, 0, 4]).value)
    assert agreement.cohen_kappa([[5, -1], [2, 6]]).estimate.approximate


def test_tables_that_do_not_fit_are_refused() -> None:
    for refused in (
        lambda: agreement.cohen_kappa([[1, 2, 3], [4, 5, 6]]),
        lambda: agreement.fleiss_kappa([COHEN], 3),
        lambda: agreement.fleiss_kappa([COHEN, COHEN, [[1, 0, 0]] * 3], 3),
        lambda: agreement.fleiss_kappa_of_ratings([[1, 2], [2, 2]]),
        lambda: reliability.of_crosstabs([COHEN], 3),
        lambda: krippendorff_alpha([[1, 2], [3, 4]]),
        lambda: krippendorff_alpha([[1, 2], [2, 4]], "interval", [1]),
        lambda: krippendorff_alpha([[1, 2], [2, 4]], "ratio", [-1, 1]),
        lambda: reliability.intraclass_correlations(9, [1.0], [3.0]),
        lambda: Coincidences.of(np.array([[0, 5]]), 3),
        lambda: Coincidences.of(np.array([[0], [1]]), 3),
        lambda: Coincidences.of(np.array([[0, 1]]), 3).merge(
            Coincidences.of(np.array([[0, 1]]), 2)
        ),
    ):
        with pytest.raises(DocumentError):
            refused()

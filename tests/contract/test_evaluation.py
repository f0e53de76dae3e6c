"""ROC, accuracy and calibration from merged counts: published values, and bounds that hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from contract.errors import DocumentError
from contract.statistics import calibration as cal
from contract.statistics import evaluation
from contract.statistics.summaries import Moments

# Hanley and McNeil 1982, table 1: readings of CT, from definitely normal to definitely abnormal.
NORMAL, ABNORMAL = [33, 6, 6, 11, 2], [3, 2, 2, 11, 33]


def scored(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = np.zeros(n, dtype=bool)
    truth[: generator.integers(2, n - 1)] = True
    return truth, np.clip(generator.normal(0.4 + 0.2 * truth, 0.2), 0.001, 0.999)


def area_by_pairs(truth: np.ndarray, score: np.ndarray) -> float:
    with_it, without = score[truth][:, None], score[~truth][None, :]
    return float(((with_it > without) + 0.5 * (with_it == without)).mean())


def test_hanleys_and_mcneils_area_and_error_come_out() -> None:
    found = evaluation.roc(range(6), ABNORMAL, NORMAL, "hanley-mcneil")
    assert found.auc.value == pytest.approx(0.893, abs=5e-4)
    assert found.auc.standard_error == pytest.approx(0.032, abs=1e-3)
    exact = evaluation.roc(range(6), ABNORMAL, NORMAL)
    assert exact.auc.low < 0.893 < exact.auc.high < 1


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(6, 150), st.integers(1, 30))
def test_the_area_on_the_scores_lies_within_the_stated_error(seed: int, n: int, bins: int) -> None:
    truth, score = scored(seed, n)
    edges = np.linspace(0, 1, bins + 1)
    with_it, without = (np.histogram(score[t], edges)[0] for t in (truth, ~truth))
    found = evaluation.roc(edges, with_it, without)
    true = area_by_pairs(truth, score)
    assert found.least - 1e-12 <= true <= found.most + 1e-12
    assert abs(found.auc.value - true) <= found.error + 1e-12
    assert found.error == pytest.approx(
        (with_it * without).sum() / (2 * with_it.sum() * without.sum())
    )
    # The area is that under the curve's own points.
    area = np.trapezoid(found.curve.y, found.curve.x)
    assert found.auc.value == pytest.approx(float(area))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(6, 80))
def test_delongs_error_is_that_of_the_structural_components(seed: int, n: int) -> None:
    truth, score = scored(seed, n)
    score = np.round(score, 1)
    edges = np.arange(-0.05, 1.06, 0.1)
    with_it, without = (np.histogram(score[t], edges)[0] for t in (truth, ~truth))
    x, y = score[truth], score[~truth]
    wins = (x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :])
    wanted = wins.mean(axis=1).var(ddof=1) / len(x) + wins.mean(axis=0).var(ddof=1) / len(y)
    found = evaluation.roc(edges, with_it, without).auc
    assert found.standard_error == pytest.approx(math.sqrt(wanted), abs=1e-9)


def test_points_of_the_curves_are_those_of_the_thresholds() -> None:
    truth, score = scored(3, 80)
    edges = np.linspace(0, 1, 11)
    with_it, without = (np.histogram(score[t], edges)[0] for t in (truth, ~truth))
    roc = evaluation.roc(edges, with_it, without).curve
    recall = evaluation.precision_recall(edges, with_it, without)
    for at, threshold in enumerate(roc.thresholds):
        called = score >= threshold - 1e-12
        assert roc.y[at] == pytest.approx((called & truth).sum() / truth.sum())
        assert roc.x[at] == pytest.approx((called & ~truth).sum() / (~truth).sum())
        assert recall.curve.x[at] == pytest.approx(roc.y[at])
        if called.any():
            assert recall.curve.y[at] == pytest.approx(truth[called].mean())
    assert recall.prevalence == pytest.approx(truth.mean())
    assert truth.mean() < recall.average_precision < 1
    # Who lies below or above the grid is counted too.
    wide = evaluation.roc(edges, [1, *with_it, 2], [3, *without, 0])
    assert wide.auc.value != evaluation.roc(edges, with_it, without).auc.value


def test_average_precision_of_a_ranking_is_the_textbooks() -> None:
    # Manning, Raghavan, Schuetze 2008, section 8.4: relevant at ranks 1, 3, 6, 9, 10 of ten.
    order = [1, 0, 1, 0, 0, 1, 0, 0, 1, 1]
    with_it = order[::-1]
    found = evaluation.precision_recall(range(11), with_it, [1 - x for x in with_it])
    assert found.average_precision == pytest.approx((1 + 2 / 3 + 3 / 6 + 4 / 9 + 5 / 10) / 5)


def test_altmans_liver_scans_come_out() -> None:
    # Altman and Bland 1994 (BMJ 308, 1552 and 309, 102): abnormal scan by abnormal pathology.
    found = evaluation.accuracy([[231, 32], [27, 54]])
    assert found.sensitivity.value == pytest.approx(0.90, abs=5e-3)
    assert found.specificity.value == pytest.approx(0.63, abs=5e-3)
    assert found.positive_predictive_value.value == pytest.approx(0.88, abs=5e-3)
    assert found.negative_predictive_value.value == pytest.approx(0.67, abs=5e-3)
    assert found.prevalence.value == pytest.approx(0.75, abs=5e-3)
    assert found.positive_likelihood_ratio.value == pytest.approx(2.4, abs=0.05)
    assert found.f1 == pytest.approx(2 * 231 / (2 * 231 + 32 + 27))
    assert found.matthews == pytest.approx(
        stats.pearsonr([1] * 263 + [0] * 81, [1] * 231 + [0] * 32 + [1] * 27 + [0] * 54).statistic
    )
    assert found.youden == pytest.approx(2 * found.balanced_accuracy - 1)


def test_likelihood_ratios_have_the_standard_error_of_simel_samsa_and_matchar() -> None:
    found = evaluation.accuracy([[90, 20], [10, 80]]).positive_likelihood_ratio
    assert found.value == pytest.approx(4.5)
    assert found.standard_error == pytest.approx(math.sqrt(1 / 90 - 0.01 + 1 / 20 - 0.01))


def test_classes_are_reported_one_against_the_rest() -> None:
    found = evaluation.confusion([[5, 1, 0], [2, 3, 1], [0, 0, 8]])
    first = found.classes[0]
    assert (first.precision, first.recall) == pytest.approx((5 / 7, 5 / 6))
    assert first.f1 == pytest.approx(2 * 5 / (7 + 6))
    assert found.accuracy.value == pytest.approx(16 / 20)
    assert found.macro.recall == pytest.approx((5 / 6 + 3 / 6 + 1) / 3)
    assert found.weighted.recall == pytest.approx(found.accuracy.value)
    gone = evaluation.confusion([[4, 0], [0, 0]])
    assert math.isnan(gone.classes[1].recall)
    assert gone.macro.recall == 0.5


def test_what_is_not_defined_or_noisy_is_said() -> None:
    alone = evaluation.roc([0, 1, 2], [0, 0], [3, 4])
    assert math.isnan(alone.auc.value) and alone.auc.note
    assert evaluation.precision_recall([0, 1, 2], [0, 0], [3, 4]).note
    empty = evaluation.accuracy([[0, 0], [0, 0]])
    assert math.isnan(empty.sensitivity.value) and math.isnan(empty.f1)
    assert evaluation.accuracy([[5, -1], [2, 6]]).specificity.approximate
    assert evaluation.roc([0, 1, 2], [5, -3], [3, 4]).auc.approximate
    nobody = evaluation.confusion([[0, 0], [0, 0]])
    assert math.isnan(nobody.accuracy.value) and math.isnan(nobody.weighted.f1)
    for refused in (
        lambda: evaluation.roc([0, 1], [1, 2], [1, 2]),
        lambda: evaluation.roc([0, 1, 2], [1, 2], [1, 2, 3]),
        lambda: evaluation.roc([2, 1, 0], [1, 2], [1, 2]),
        lambda: evaluation.confusion([[1, 2, 3]]),
        lambda: cal.calibration([0, 1, 2], [1, 2], [1, 2]),
        lambda: cal.calibration([0, 1], [1, 2], [1, 2]),
        lambda: cal.calibration([0, 0.5, 1], [1, 2], [1, 2], [0.2, 1.4]),
        lambda: cal.calibration([0, 0.5, 1], [1, 2], [1, 2], [0.2]),
    ):
        with pytest.raises(DocumentError):
            refused()


# ---- calibration -------------------------------------------------------------------------------


def test_slope_and_intercept_are_statsmodels_of_the_bins() -> None:
    truth, score = scored(5, 400)
    edges = np.linspace(0, 1, 11)
    with_it, without = (np.histogram(score[t], edges)[0] for t in (truth, ~truth))
    found = cal.calibration(edges, with_it, without)
    middle = (edges[1:] + edges[:-1]) / 2
    logit = np.log(middle / (1 - middle))
    counts = np.column_stack([with_it, without])
    free = sm.GLM(counts, sm.add_constant(logit), family=sm.families.Binomial()).fit(tol=1e-12)
    assert found.slope.value == pytest.approx(free.params[1], rel=1e-8)
    assert found.slope.standard_error == pytest.approx(free.bse[1], rel=1e-6)
    assert found.slope_intercept.value == pytest.approx(free.params[0], rel=1e-8)
    fixed = sm.GLM(counts, np.ones((10, 1)), offset=logit, family=sm.families.Binomial()).fit()
    assert found.intercept.value == pytest.approx(fixed.params[0], rel=1e-8)
    n = with_it + without
    expected = n * middle
    wanted = ((with_it - expected) ** 2 / (expected * (1 - middle))).sum()
    assert found.hosmer_lemeshow.statistic == pytest.approx(wanted)
    assert found.hosmer_lemeshow.degrees == (8,)
    assert found.ratio.value == pytest.approx(with_it.sum() / expected.sum())
    gaps = np.abs(with_it / n - middle)
    assert found.expected_error == pytest.approx((n * gaps).sum() / n.sum())
    assert found.largest_error == pytest.approx(gaps.max())


def test_perfect_calibration_has_slope_one() -> None:
    edges = np.linspace(0, 1, 6)
    with_it = [10, 30, 50, 70, 90]
    found = cal.calibration(edges, with_it, [90, 70, 50, 30, 10], fitted=False)
    assert found.slope.value == pytest.approx(1, abs=1e-9)
    assert found.intercept.value == pytest.approx(0, abs=1e-9)
    assert found.ratio.value == pytest.approx(1)
    assert found.hosmer_lemeshow.p_value == pytest.approx(1)
    assert found.hosmer_lemeshow.degrees == (5,)
    assert [b.observed.value for b in found.bins] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(6, 100), st.integers(1, 20))
def test_brier_is_exact_from_moments_and_bounded_from_bins(seed: int, n: int, bins: int) -> None:
    truth, score = scored(seed, n)
    true = float(((score - truth) ** 2).mean())
    moments = [Moments.of(score[t]) for t in (truth, ~truth)]
    assert cal.brier(*moments) == pytest.approx(true, rel=1e-12)
    edges = np.linspace(0, 1, bins + 1)
    counts = [np.histogram(score[t], edges)[0] for t in (truth, ~truth)]
    bounds = cal.brier_of_bins(edges, *counts)
    assert bounds.least <= true <= bounds.most
    assert bounds.least <= bounds.value <= bounds.most


def test_discrimination_slope_is_the_difference_of_means() -> None:
    truth, score = scored(7, 60)
    found = cal.discrimination_slope(Moments.of(score[truth]), Moments.of(score[~truth]))
    assert found.value == pytest.approx(score[truth].mean() - score[~truth].mean())


def test_calibration_of_nobody_one_outcome_one_bin_or_separated_says_so() -> None:
    edges = [0, 0.25, 0.5, 0.75, 1]
    for counts in (
        ([0, 0, 0, 0], [0, 0, 0, 0]),
        ([0, 0, 0, 0], [3, 4, 5, 6]),
        ([0, 9, 0, 0], [0, 4, 0, 0]),
        ([0, 0, 5, 6], [7, 8, 0, 0]),
    ):
        found = cal.calibration(edges, *counts)
        assert math.isnan(found.slope.value) and found.slope.note
    assert math.isnan(cal.brier(Moments(), Moments()))
    assert math.isnan(cal.brier_of_bins(edges, [0] * 4, [0] * 4).value)
    assert math.isnan(cal.discrimination_slope(Moments(), Moments()).value)
    assert cal.calibration(edges, [1, 2, -1, 4], [4, 3, 2, 1]).slope.approximate

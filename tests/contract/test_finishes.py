"""Whatever merged figures hold, a finish answers, or refuses in one sentence; it never breaks."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import DocumentError
from contract.statistics import (
    agreement,
    balance,
    calibration,
    correlation,
    crosstabs,
    evaluation,
    mean_tests,
    proportions,
    quantiles,
    rank_tests,
    reliability,
    stratified,
)
from contract.statistics.estimates import Estimate, HypothesisTest
from contract.statistics.summaries import Moments

COUNT = st.one_of(
    st.integers(0, 3),
    st.integers(-4, 60),
    st.floats(-3, 30).map(lambda x: round(x, 2)),
    st.sampled_from([0, 10**9, 2**45]),
)


def row(size: int) -> st.SearchStrategy[list[float]]:
    return st.lists(COUNT, min_size=size, max_size=size)


def table(rows: int, columns: int) -> st.SearchStrategy[list[list[float]]]:
    return st.lists(row(columns), min_size=rows, max_size=rows)


NUMBER = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 1e12]), st.floats(-1e6, 1e6))
MOMENTS = st.builds(
    Moments, st.integers(-3, 40), st.integers(-2, 5), NUMBER, st.one_of(st.just(0.0), NUMBER)
)
GRID = [0.0, 0.25, 0.5, 0.75, 1.0]
SQUARES = st.sampled_from([2, 3]).flatmap(lambda k: table(k, k))
OBLONGS = st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(lambda s: table(*s))
COMOMENTS = st.tuples(
    st.integers(-2, 20),
    st.lists(NUMBER, min_size=2, max_size=2),
    st.lists(NUMBER, min_size=3, max_size=3),
)

FINISHES: dict[str, tuple[st.SearchStrategy[Any], Callable[..., Any]]] = {
    "chi_squared": (OBLONGS, crosstabs.chi_squared),
    "fisher_exact": (OBLONGS, lambda t: crosstabs.fisher_exact(t, max_steps=100_000)),
    "mcnemar": (table(2, 2), crosstabs.mcnemar),
    "trend": (table(2, 4), crosstabs.trend),
    "gamma": (OBLONGS, crosstabs.goodman_kruskal_gamma),
    "gamma_test": (OBLONGS, crosstabs.gamma_test),
    "slope_of_bins": (table(2, 4), lambda t: calibration.discrimination_slope_of_bins(GRID, *t)),
    "tau": (OBLONGS, crosstabs.kendall_tau_b),
    "spearman": (OBLONGS, correlation.spearman),
    "mann_whitney": (table(2, 5), lambda t: rank_tests.mann_whitney(*t)),
    "kruskal_wallis": (table(3, 5), rank_tests.kruskal_wallis),
    "wilson": (row(2), lambda r: proportions.wilson(*r)),
    "clopper_pearson": (row(2), lambda r: proportions.clopper_pearson(*r)),
    "risk_difference": (table(2, 2), proportions.risk_difference),
    "risk_ratio": (table(2, 2), proportions.risk_ratio),
    "odds_ratio": (table(2, 2), proportions.odds_ratio),
    "number_needed": (table(2, 2), proportions.number_needed_to_treat),
    "mantel_haenszel": (st.lists(table(2, 2), min_size=1, max_size=4), stratified.mantel_haenszel),
    "generalised": (st.lists(OBLONGS, min_size=1, max_size=1), stratified.generalised),
    "mutual_independence": (OBLONGS, crosstabs.mutual_independence),
    "of_levels": (table(2, 4), lambda t: balance.of_levels(*t)),
    "of_shares": (row(4), lambda r: balance.of_shares(*r)),
    "cohen_kappa": (SQUARES, agreement.cohen_kappa),
    "weighted_kappa": (SQUARES, lambda t: agreement.cohen_kappa(t, "quadratic")),
    "percent_agreement": (SQUARES, agreement.percent_agreement),
    "fleiss_kappa": (table(2, 2), lambda t: agreement.fleiss_kappa([t] * 3, 3)),
    "alpha": (
        SQUARES,
        lambda t: reliability.krippendorff_alpha(np.add(t, np.transpose(t)), "ordinal"),
    ),
    "roc": (table(2, 4), lambda t: evaluation.roc(GRID, *t)),
    "precision_recall": (table(2, 4), lambda t: evaluation.precision_recall(GRID, *t)),
    "accuracy": (table(2, 2), evaluation.accuracy),
    "confusion": (SQUARES, evaluation.confusion),
    "calibration": (table(2, 4), lambda t: calibration.calibration(GRID, *t)),
    "brier_of_bins": (table(2, 4), lambda t: calibration.brier_of_bins(GRID, *t)),
    "quantile": (
        st.tuples(row(4), COUNT, COUNT, st.floats(0, 1), st.booleans()),
        lambda a: quantiles.quantile(
            [0, 1, 2, 3, 5], a[0], a[3], below=a[1], above=a[2], whole=a[4]
        ),
    ),
    "one_sample": (MOMENTS, mean_tests.one_sample_t),
    "mean_interval": (MOMENTS, mean_tests.mean_interval),
    "student": (st.tuples(MOMENTS, MOMENTS), lambda m: mean_tests.student_t(*m)),
    "welch": (st.tuples(MOMENTS, MOMENTS), lambda m: mean_tests.welch_t(*m)),
    "pairwise": (st.lists(MOMENTS, max_size=4), mean_tests.pairwise),
    "anova": (st.lists(MOMENTS, max_size=4), mean_tests.anova),
    "welch_anova": (st.lists(MOMENTS, max_size=4), mean_tests.welch_anova),
    "bartlett": (st.lists(MOMENTS, max_size=4), mean_tests.bartlett),
    "of_numbers": (st.tuples(MOMENTS, MOMENTS), lambda m: balance.of_numbers(*m)),
    "hedges_g": (st.tuples(MOMENTS, MOMENTS), lambda m: balance.hedges_g(*m)),
    "brier": (st.tuples(MOMENTS, MOMENTS), lambda m: calibration.brier(*m)),
    "discrimination": (
        st.tuples(MOMENTS, MOMENTS),
        lambda m: calibration.discrimination_slope(*m),
    ),
    "paired": (COMOMENTS, lambda c: mean_tests.paired_t(*c)),
    "bland_altman": (COMOMENTS, lambda c: agreement.bland_altman(*c)),
    "concordance": (COMOMENTS, lambda c: agreement.concordance(*c)),
    "icc": (COMOMENTS, lambda c: reliability.intraclass_correlations(*c)),
    "correlations": (COMOMENTS, lambda c: correlation.correlation_matrix(c[0], c[2])),
    "partial": (
        st.tuples(st.integers(-1, 20), st.lists(NUMBER, min_size=6, max_size=6)),
        lambda c: correlation.partial_correlation(c[0], c[1], 0, 1, [2]),
    ),
}


@pytest.mark.parametrize("name", FINISHES)
def test_a_finish_answers_or_refuses_whatever_it_is_given(name: str) -> None:
    figures, finish = FINISHES[name]

    @settings(deadline=None, max_examples=20)
    @given(figures)
    def holds(given_: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                found = finish(given_)
            except DocumentError:
                return
        check(found)

    holds()


def check(found: Any) -> None:
    """A p value is a probability, an interval holds its estimate, and what is NaN says why."""
    if isinstance(found, HypothesisTest):
        assert math.isnan(found.p_value) or 0 <= found.p_value <= 1
        assert found.note or not math.isnan(found.p_value)
    if isinstance(found, Estimate):
        assert found.note or not math.isnan(found.value)
        slack = 1e-9 * (1 + abs(found.value))
        if not math.isnan(found.low + found.high + found.value):
            assert found.low - slack <= found.value <= found.high + slack
    if isinstance(found, list | tuple):
        for one in found:
            check(one)
    elif dataclasses.is_dataclass(found):
        for field in dataclasses.fields(found):
            check(getattr(found, field.name))

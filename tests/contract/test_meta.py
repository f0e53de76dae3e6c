"""Meta-analysis has the published results, and another implementation's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from statsmodels.stats.meta_analysis import combine_effects

from contract.errors import DocumentError
from contract.statistics.meta import Method, pool

BCG = np.array([
    [4, 119, 11, 128], [6, 300, 29, 274], [3, 228, 11, 209], [62, 13536, 248, 12619],
    [33, 5036, 47, 5761], [180, 1361, 372, 1079], [8, 2537, 10, 619], [505, 87886, 499, 87892],
    [29, 7470, 45, 7232], [17, 1699, 65, 1600], [186, 50448, 141, 27197], [5, 2493, 3, 2338],
    [27, 16886, 29, 17825],
])  # fmt: skip
"""Colditz et al. 1994: tuberculosis and none, vaccinated and not, in thirteen trials."""


def log_risk_ratios() -> tuple[list[float], list[float]]:
    a, b, c, d = BCG.T.astype(float)
    estimates = np.log(a / (a + b) / (c / (c + d)))
    return estimates.tolist(), np.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)).tolist()


@pytest.mark.parametrize(
    ("method", "estimate", "error", "low", "high", "tau2", "i2", "h2"),
    [
        # R 4.2.2, metafor 3.8-1: rma(yi, vi, data = escalc("RR", ..., data = dat.bcg)). Its REML
        # stops at 1e-5; ML and PM are told to go on to 1e-12.
        ("fixed", -0.430285163654, 0.0404987517109, -0.509661258426, -0.350909068882,
         0.0, 0.921173468546, 12.6860840069),
        ("dl", -0.714117222073, 0.178742089535, -1.06444528008, -0.363789164062,
         0.308760262862, 0.921173468546, 12.6860840069),
        ("reml", -0.714532348365, 0.17978153178, -1.06689767574, -0.36216702099,
         0.313243325981, 0.92221386075, 12.8557608031),
        ("ml", -0.711199135474, 0.171896808777, -1.048110689734, -0.374287581214,
         0.280028137269, 0.913782837894, 11.598618831550),
        ("pm", -0.714968153493, 0.180892191538, -1.069510333992, -0.360425972995,
         0.318068452205, 0.923303379542, 13.038384142904),
    ],
)  # fmt: skip
def test_the_bcg_trials_are_pooled_as_metafor_does(
    method: Method, estimate: float, error: float, low: float, high: float,
    tau2: float, i2: float, h2: float,
) -> None:  # fmt: skip
    found = pool(*log_risk_ratios(), method, hartung_knapp=False)
    tight = 1e-6 if method == "reml" else 1e-10
    assert found.estimate == pytest.approx(estimate, rel=tight)
    assert found.standard_error == pytest.approx(error, rel=tight)
    assert found.interval == pytest.approx((low, high), rel=tight)
    assert found.tau2 == pytest.approx(tau2, rel=tight)
    assert (found.i2, found.h2) == pytest.approx((i2, h2), rel=tight)
    assert found.q == pytest.approx(152.233008082, rel=1e-10)
    assert found.q_p == pytest.approx(1.99676459085e-26, rel=1e-8)
    assert found.tau2_interval == pytest.approx((0.1197, 1.1115), abs=1e-4)
    assert found.weights.sum() == pytest.approx(1)


def test_hartung_and_knapps_interval_is_metafors() -> None:
    found = pool(*log_risk_ratios())
    assert found.standard_error == pytest.approx(0.180791745519, rel=1e-6)
    assert found.interval == pytest.approx((-1.108443723, -0.32062097373), rel=1e-6)
    assert found.p == pytest.approx(0.00192001508513, rel=1e-5)
    assert found.prediction[0] < found.interval[0] < found.interval[1] < found.prediction[1]


estimates = st.lists(st.floats(-5, 5), min_size=2, max_size=12)


@settings(max_examples=60, deadline=None)
@given(estimates, st.integers(0, 1000))
def test_dersimonian_and_lairds_is_that_of_statsmodels(values: list[float], seed: int) -> None:
    errors = np.random.default_rng(seed).uniform(0.1, 2, len(values))
    found = pool(values, errors.tolist(), "dl", hartung_knapp=False)
    fixed = pool(values, errors.tolist(), "fixed")
    assume(found.q > 0)  # by which it divides
    expected = combine_effects(np.array(values), errors**2, method_re="dl")
    if expected.tau2 > 0:  # it takes one below zero as it is
        assert found.tau2 == pytest.approx(expected.tau2, rel=1e-9, abs=1e-12)
        assert found.estimate == pytest.approx(expected.mean_effect_re, rel=1e-9, abs=1e-12)
    else:
        assert found.tau2 == pytest.approx(0, abs=1e-12)
    assert fixed.estimate == pytest.approx(expected.mean_effect_fe, rel=1e-9, abs=1e-12)
    assert fixed.standard_error == pytest.approx(expected.sd_eff_w_fe, rel=1e-9)
    assert found.q == pytest.approx(expected.q, rel=1e-9, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(estimates, st.integers(0, 1000))
def test_reml_maximises_the_restricted_likelihood(values: list[float], seed: int) -> None:
    errors = np.random.default_rng(seed).uniform(0.1, 2, len(values))
    y, v = np.array(values), errors**2
    found = pool(values, errors.tolist())

    def log_likelihood(tau2: float) -> float:
        w = 1 / (v + tau2)
        mean = w @ y / w.sum()
        return float(-0.5 * (np.log(v + tau2).sum() + np.log(w.sum()) + w @ (y - mean) ** 2))

    best = log_likelihood(found.tau2)
    for by in (0.9, 0.99, 1.01, 1.1):
        assert log_likelihood(found.tau2 * by) <= best + 1e-9
    assert log_likelihood(found.tau2 + 1e-4) <= best + 1e-9


def test_one_site_is_its_own_pool() -> None:
    found = pool([0.5], [0.2])
    assert (found.estimate, found.standard_error, found.sites) == (0.5, pytest.approx(0.2), 1)
    assert math.isnan(found.prediction[0])
    assert math.isnan(found.q_p)


@pytest.mark.parametrize(
    ("values", "errors"), [([], []), ([1.0], [0.0]), ([1.0, math.nan], [1.0, 1.0])]
)
def test_what_can_not_be_pooled_is_said(values: list[float], errors: list[float]) -> None:
    with pytest.raises(DocumentError):
        pool(values, errors)


def test_another_method_is_refused_and_agreement_leaves_no_variance() -> None:
    with pytest.raises(DocumentError, match="fixed, dl, pm, ml, reml, not typo"):
        pool([0.1, 0.9], [0.1, 0.2], "typo")  # type: ignore[arg-type]
    for method in ("dl", "pm", "ml", "reml"):
        assert pool([0.1, 0.1, 0.1], [0.1, 0.2, 0.3], method).tau2 == 0

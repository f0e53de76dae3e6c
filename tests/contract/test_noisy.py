"""Moments with noise add up as their sums do, and say how far they may be off."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import kurtosis, skew

from contract.statistics.answers import Noise, NoiseTerm
from contract.statistics.noisy import (
    TAIL,
    comoments,
    estimate,
    estimate_comoments,
    estimate_shape,
    moments,
    powers,
    quantile,
    shape,
)
from contract.statistics.summaries import CoMoments, Counts, Moments, Shape

sums = st.tuples(st.integers(-50, 5000).filter(bool), st.floats(-1e4, 1e4), st.floats(-1e5, 1e5))


@given(sums, sums)
def test_moments_merge_to_the_sums_of_their_sums_whatever_the_signs(
    a: tuple[int, float, float], b: tuple[int, float, float]
) -> None:
    n, total, squares = (x + y for x, y in zip(a, b, strict=True))
    if not n:
        return
    merged = moments(a[0], 0, a[1], a[2], 58.0).merge(moments(b[0], 0, b[1], b[2], 58.0))
    assert merged.n == n
    assert merged.mean - 58.0 == pytest.approx(total / n, abs=1e-4, rel=1e-6)
    assert merged.m2 == pytest.approx(squares - total**2 / n, abs=1e-2, rel=1e-6)


@given(st.lists(st.floats(18, 98), min_size=2, max_size=50))
def test_sums_without_noise_are_the_exact_moments(values: list[float]) -> None:
    array = np.array(values)
    aside = array - 58
    found = moments(len(values), 3, float(aside.sum()), float((aside**2).sum()), 58.0)
    exact = Moments.of(array)
    assert found.mean == pytest.approx(exact.mean)
    assert found.m2 == pytest.approx(exact.m2, abs=1e-6 * len(values))
    none = Noise(1.0, 0.0, 0.95, tuple(NoiseTerm(f, "", 0.0) for f in ("n", "sum", "squares")))
    said = estimate(found, none, 18, 98)
    assert said.mean == pytest.approx(exact.mean)
    assert said.standard_deviation == pytest.approx(exact.standard_deviation, abs=1e-3)
    assert said.mean_half_width == said.standard_deviation_half_width == 0


def test_where_noise_may_be_all_nothing_is_said() -> None:
    noise = Noise(
        0.5,
        0.0,
        0.95,
        (NoiseTerm("n", "", 6.0), NoiseTerm("sum", "", 240.0), NoiseTerm("squares", "", 1e4)),
    )
    said = estimate(Moments(int(TAIL * 6), 0, 40.0, 100.0), noise, 18, 98)
    assert all(math.isnan(v) for v in (said.mean, said.mean_half_width, said.standard_deviation))
    said = estimate(Moments(100, 0, 400.0, -5.0), noise, 18, 98)
    assert said.mean == 98
    assert said.standard_deviation == 0
    assert 0 < said.standard_deviation_half_width <= 40


# ---- shapes and comoments ------------------------------------------------------------------------

noisy_sums = st.tuples(st.integers(-50, 5000).filter(bool), *[st.floats(-300, 300)] * 4)


@given(noisy_sums, noisy_sums)
def test_shapes_merge_to_the_sums_of_their_sums_whatever_the_signs(
    a: tuple[int, float, float, float, float], b: tuple[int, float, float, float, float]
) -> None:
    n, *sums = (x + y for x, y in zip(a, b, strict=True))
    merged = shape(a[0], 1, a[1:], 0.0).merge(shape(b[0], 2, b[1:], 0.0))
    assert (merged.n, merged.missing) == (n, 3)
    if not n:
        return
    expected = shape(int(n), 3, sums, 0.0)
    # The farther the parts' means lie apart, the more digits cancel.
    far = max(abs(a[1] / a[0]), abs(b[1] / b[0]), abs(expected.mean), 1.0)
    size = max(abs(a[0]), abs(b[0])) ** 3 / min(abs(n), abs(a[0]), abs(b[0])) ** 2
    for name, power in (("mean", 1), ("m2", 2), ("m3", 3), ("m4", 4)):
        found, wanted = getattr(merged, name), getattr(expected, name)
        assert found == pytest.approx(wanted, rel=1e-6, abs=1e-9 * size * far**power)


@given(noisy_sums, noisy_sums)
def test_comoments_merge_to_the_sums_of_their_sums_whatever_the_signs(
    a: tuple[int, float, float, float, float], b: tuple[int, float, float, float, float]
) -> None:
    def made(n: int, sums: tuple[float, ...]) -> CoMoments:
        return comoments(n, 1, sums[:2], (*sums[2:], sums[0]), (5.0, 50.0), (10.0, 2.0))

    n, *sums = (x + y for x, y in zip(a, b, strict=True))
    merged = made(a[0], a[1:]).merge(made(b[0], b[1:]))
    assert (merged.n, merged.missing) == (n, 2)
    if not n:
        return
    expected = made(int(n), tuple(sums))
    far = max(abs(a[1] / a[0]), abs(b[1] / b[0]), abs(a[2] / a[0]), abs(b[2] / b[0]), 1.0)
    size = max(abs(a[0]), abs(b[0])) ** 2 / min(abs(n), abs(a[0]), abs(b[0]))
    assert merged.means == pytest.approx(expected.means, rel=1e-9, abs=1e-6 * far)
    assert merged.products == pytest.approx(
        expected.products, rel=1e-9, abs=1e-9 * 100 * size * far**2
    )


def test_without_noise_what_is_said_is_what_the_values_are() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.gamma(3, 4, 500).clip(0, 40), rng.normal(0, 1, 500).clip(-5, 5)
    y = (y + x / 20).clip(-5, 5)
    no = Noise(
        1, 0, 0.95, tuple(NoiseTerm(f, "", 0.0) for f in ("n", "sum", "squares", "products"))
    )
    of_x = estimate_shape(Shape.of(x), no, 0, 40)
    assert of_x.skewness == pytest.approx(skew(x, bias=False))
    assert of_x.kurtosis == pytest.approx(kurtosis(x, bias=False))
    both = estimate_comoments(CoMoments.of([x, y]), no, [(0, 40), (-5, 5)])
    assert both.covariance == pytest.approx(np.cov(x, y))
    assert both.correlation == pytest.approx(np.corrcoef(x, y))
    assert not both.covariance_half_width.any()


def drawn_terms(scales: dict[str, float]) -> Noise:
    return Noise(1, 0, 0.95, tuple(NoiseTerm(f, "", scale) for f, scale in scales.items()))


def test_half_widths_of_shapes_and_correlations_hold_in_19_of_20_draws() -> None:
    rng = np.random.default_rng(8)
    x, z = rng.beta(2, 5, 3000) * 2 - 1, rng.normal(0, 0.3, 3000)
    y = (0.5 * x + z).clip(-1, 1)
    n, scale = x.size, 6.0
    t = [float(n), x.sum(), (2 * x**2 - 1).sum(), (4 * x**3 - 3 * x).sum()]
    t.append((8 * x**4 - 8 * x**2 + 1).sum())
    truth = Shape.of(x)
    correlation = float(np.corrcoef(x, y)[0, 1])
    covariance = np.cov(x, y)
    hits, draws = np.zeros(6), 400
    for _ in range(draws):
        count, *sums = np.array(t) + rng.laplace(0, scale, 5)
        of = powers([count, *sums])
        found = shape(round(count), 0, of[1:], 0.0)
        said = estimate_shape(found, drawn_terms({"n": scale, "sum": scale}), -1, 1)
        noisy = comoments(
            round(count),
            0,
            np.array([x.sum(), y.sum()]) + rng.laplace(0, scale, 2),
            np.array([t[2], x @ y, (2 * y**2 - 1).sum()]) + rng.laplace(0, scale, 3),
            (0.0, 0.0),
            (1.0, 1.0),
        )
        terms = drawn_terms({"n": scale, "sum": scale, "products": scale})
        both = estimate_comoments(noisy, terms, [(-1, 1), (-1, 1)])
        off = np.abs(both.covariance - covariance) <= both.covariance_half_width
        hits += (
            abs(said.skewness - truth.skewness) <= said.skewness_half_width,
            abs(said.kurtosis - truth.kurtosis) <= said.kurtosis_half_width,
            abs(both.correlation[0, 1] - correlation) <= both.correlation_half_width[0, 1],
            off[0, 0],
            off[0, 1],
            off[1, 1],
        )
    assert (hits >= 0.95 * draws - 15).all()
    assert said.skewness_half_width < 0.5
    assert both.correlation_half_width[0, 1] < 0.1


def test_covariances_have_no_negative_eigenvalue_however_noisy() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        noisy = comoments(
            60, 0, rng.laplace(0, 30, 4), rng.laplace(0, 60, 10), (0.0,) * 4, (1.0,) * 4
        )
        terms = drawn_terms({"n": 1.0, "sum": 30.0, "products": 60.0})
        said = estimate_comoments(noisy, terms, [(-1, 1)] * 4)
        assert np.linalg.eigvalsh(said.covariance).min() >= -1e-9
        inside = said.correlation[np.isfinite(said.correlation)]
        assert (np.abs(inside) <= 1 + 1e-9).all()


def test_where_noise_may_be_all_a_shape_says_nothing() -> None:
    terms = drawn_terms({"n": 6.0, "sum": 6.0, "products": 6.0})
    assert math.isnan(estimate_shape(Shape(10, 0, 0.1, 1.0, 0.1, 1.0), terms, -1, 1).skewness)
    few = CoMoments(10, 0, (0.0, 0.0), (1.0, 0.0, 1.0))
    assert np.isnan(estimate_comoments(few, terms, [(-1, 1)] * 2).correlation).all()


# ---- quantiles -----------------------------------------------------------------------------------


def grid(values: NDArray[np.float64], bins: int, scale: float, rng: np.random.Generator) -> Counts:
    counted = np.histogram(values, np.linspace(0, 100, bins + 1))[0]
    noise = (
        np.rint(rng.laplace(0, scale, bins + 2)).astype(int) if scale else np.zeros(bins + 2, int)
    )
    return Counts(tuple(int(v) for v in counted + noise[:bins]), 0, int(noise[-2]), int(noise[-1]))


@pytest.mark.parametrize("probability", [0.05, 0.25, 0.5, 0.9])
def test_a_quantile_lies_between_its_edges_in_19_of_20_draws(probability: float) -> None:
    rng = np.random.default_rng(4)
    values = rng.gamma(4, 8, 2000).clip(0, 100)
    truth = float(np.quantile(values, probability))
    terms = drawn_terms({"counts": 6.0})
    hits, widths, draws = 0, [], 300
    for _ in range(draws):
        said = quantile(grid(values, 50, 6.0, rng), terms, 0, 100, probability)
        hits += said.low <= truth <= said.high
        assert said.low <= said.value <= said.high
        widths.append(min(said.high, 100) - max(said.low, 0))
    assert hits >= 0.95 * draws - 12
    assert np.median(widths) < 20


def test_without_noise_a_quantile_is_right_within_its_bin() -> None:
    rng = np.random.default_rng(6)
    values = rng.uniform(5, 95, 1000)
    counted = grid(values, 20, 0.0, rng)
    for probability in (0.1, 0.5, 0.99):
        said = quantile(counted, drawn_terms({"counts": 0.0}), 0, 100, probability)
        assert said.value == pytest.approx(np.quantile(values, probability), abs=5)
        assert said.high - said.low == pytest.approx(5)


def test_of_nobody_no_quantile_is_told() -> None:
    rng = np.random.default_rng(7)
    terms = drawn_terms({"counts": 6.0})
    said = quantile(grid(np.array([]), 20, 6.0, rng), terms, 0, 100, 0.5)
    assert math.isnan(said.value) or not math.isfinite(said.high - said.low) or said.high > said.low
    nothing = quantile(Counts((0,) * 20), terms, 0, 100, 0.5)
    assert math.isnan(nothing.value)
    assert (nothing.low, nothing.high) == (-math.inf, math.inf)

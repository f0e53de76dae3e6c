"""Quantiles from merged counts are the pooled ones, right within one cell of the grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.dictionary import Variable
from contract.errors import DocumentError
from contract.statistics import quantiles
from contract.statistics.summaries import Counts

HDL = Variable(name="hdl", kind="number", unit="mmol/L", minimum=0.5, maximum=3.0, bins=125)
AGE = Variable(name="age", kind="number", minimum=18, maximum=98, bins=80, whole=True)


def merged(values: np.ndarray, variable: Variable, owner: np.ndarray) -> Counts:
    total = Counts((0,) * (variable.bins or 0))
    for site in np.unique(owner):
        total = total.merge(Counts.of_histogram(values[owner == site], variable))
    return total


NUMPYS = {
    1: "inverted_cdf",
    4: "interpolated_inverted_cdf",
    5: "hazen",
    6: "weibull",
    7: "linear",
    8: "median_unbiased",
    9: "normal_unbiased",
}


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32),
    st.integers(1, 300),
    st.integers(1, 9),
    st.floats(0, 1),
    st.sampled_from(sorted(NUMPYS)),
)
def test_a_quantile_lies_within_a_cells_width_for_every_partition(
    seed: int, n: int, sites: int, q: float, kind: int
) -> None:
    generator = np.random.default_rng(seed)
    owner = generator.integers(0, sites, n)
    # Sites whose subjects differ, so that a mean of their quantiles is far off.
    values = np.clip(generator.normal(1.2 + owner / 10, 0.3), 0.5, 3.0)
    found = quantiles.of_counts(merged(values, HDL, owner), HDL, [q], kind=kind)[0]
    pooled = float(np.quantile(values, q, method=NUMPYS[kind]))  # type: ignore[call-overload]
    assert found.low - 1e-12 <= pooled <= found.high + 1e-12
    assert found.low <= found.value <= found.high
    assert found.high - found.low == pytest.approx(0.02)
    assert found.n == n


def test_it_is_not_the_mean_of_the_sites_quantiles() -> None:
    generator = np.random.default_rng(3)
    sizes, shifts = [900, 300, 60], [0.0, 0.5, -0.4]
    parts = [
        np.clip(generator.normal(1.4 + s, 0.2, n), 0.5, 3)
        for n, s in zip(sizes, shifts, strict=True)
    ]
    owner = np.repeat([0, 1, 2], sizes)
    pooled = np.concatenate(parts)
    found = quantiles.of_counts(merged(pooled, HDL, owner), HDL, [0.05])[0]
    assert found.low <= np.quantile(pooled, 0.05) <= found.high
    averaged = float(np.mean([np.quantile(part, 0.05) for part in parts]))
    assert not found.low - 0.02 <= averaged <= found.high + 0.02


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(18, 97), min_size=1, max_size=60),
    st.floats(0, 1),
    st.sampled_from(sorted(NUMPYS)),
)
def test_whole_numbers_on_a_grid_of_ones_are_exact(ages: list[int], q: float, kind: int) -> None:
    # The last cell holds 97 and 98, both its ends: one more of 17 would tell them apart.
    values = np.array(ages, dtype=np.float64)
    wide = AGE.model_copy(update={"maximum": 99, "bins": 81})
    found = quantiles.of_counts(Counts.of_histogram(values, wide), wide, [q], kind=kind)[0]
    wanted = float(np.quantile(values, q, method=NUMPYS[kind]))  # type: ignore[call-overload]
    assert found.low == found.high == pytest.approx(found.value)
    assert found.value == pytest.approx(wanted, rel=1e-9)


def test_the_last_cell_holds_both_its_ends() -> None:
    last = quantiles.of_counts(Counts.of_histogram(np.arange(18.0, 99), AGE), AGE, [1.0])[0]
    assert (last.low, last.high) == (97, 98)


SHARES = (0.05, 0.125, 0.25, 0.5, 0.75, 0.9)
RS = {
    1: (3, 7, 8, 12, 18, 21),
    2: (3, 7, 8, 13.5, 19, 21),
    3: (3, 7, 8, 12, 18, 21),
    4: (3, 5, 8, 12, 18, 20.8),
    5: (3.4, 7, 8, 13.5, 19, 21.9),
    6: (3, 5.5, 8, 13.5, 19.5, 23.1),
    7: (5.2, 7.375, 8, 13.5, 18.5, 20.9),
    8: (3, 6.5, 8, 13.5, 19 + 1 / 6, 22.3),
    9: (3, 6.625, 8, 13.5, 19.125, 22.2),
}
"""R 4.2: quantile(c(3, 7, 8, 8, 9, 12, 15, 15, 18, 20, 21, 24), SHARES, type = ...)."""


@pytest.mark.parametrize("kind", RS)
def test_each_type_is_that_of_r(kind: int) -> None:
    counts = np.bincount([3, 7, 8, 8, 9, 12, 15, 15, 18, 20, 21, 24], minlength=30)
    edges = np.arange(31)
    told = [quantiles.quantile(edges, counts, q, whole=True, kind=kind).value for q in SHARES]
    assert told == pytest.approx(RS[kind], abs=1e-9)


def test_the_median_of_an_even_number_is_between_the_middle_two_unless_told_otherwise() -> None:
    of_four = quantiles.quantile([1, 2, 3, 4, 5], [1] * 4, 0.5, whole=True)
    assert (of_four.rank, of_four.value) == (2.5, 2.5)
    assert quantiles.quantile([1, 2, 3, 4, 5], [1] * 4, 0.5, whole=True, kind=1).value == 2
    with pytest.raises(DocumentError, match="type 1 to 9"):
        quantiles.quantile([1, 2], [1], 0.5, kind=10)


def test_the_share_is_the_decimal_that_was_written() -> None:
    found = quantiles.quantile(np.arange(31), [1] * 30, 0.1, kind=1)
    assert (found.rank, found.low) == (3, 2.0)  # 0.1 * 30 is 3.0000000000000004 in float64
    # R: quantile(1:27, 1/3, type = 2); no decimal is a third.
    assert quantiles.quantile(np.arange(1, 29), [1] * 27, 1 / 3, whole=True, kind=2).value == 9.5


def test_the_interval_has_the_ranks_that_tables_of_the_median_have() -> None:
    # At 95 %: of 100 values the 40th and the 61st, of 10 the 2nd and the 9th.
    for n, first, last in ((100, 40, 61), (10, 2, 9)):
        found = quantiles.quantile(np.arange(n + 1), [1] * n, 0.5)
        assert (found.interval_low, found.interval_high) == (first - 1, last)
    few = quantiles.quantile([0, 1, 2], [1, 1], 0.5)
    assert (few.interval_low, few.interval_high) == (-math.inf, math.inf)
    many = quantiles.quantile([0, 1, 2, 3], [10**9, 10**9, 10**9], 0.5)
    assert (many.interval_low, many.interval_high) == (1, 2)


def test_the_interquartile_range_is_bounded() -> None:
    values = np.clip(np.random.default_rng(5).normal(1.4, 0.3, 200), 0.5, 3.0)
    quartiles = quantiles.of_counts(Counts.of_histogram(values, HDL), HDL, [0.25, 0.75])
    found = quantiles.interquartile_range(*quartiles)
    lower, upper = np.quantile(values, [0.25, 0.75])
    assert found.low <= upper - lower <= found.high
    assert found.high - found.low <= 0.0401


def test_between_a_value_on_the_grid_and_one_outside_nothing_is_told() -> None:
    found = quantiles.quantile([0, 1], [1], 0.5, above=1)
    assert math.isnan(found.value)
    assert (found.low, found.high) == (0.5, math.inf)


def test_what_lies_outside_the_grid_is_said() -> None:
    found = quantiles.quantile([0, 1, 2], [1, 1], 0.1, below=8)
    assert math.isnan(found.value)
    assert found.note.startswith("It lies below")
    assert (found.low, found.high) == (-math.inf, 0.0)
    above = quantiles.quantile([0, 1, 2], [1, 1], 0.9, above=8)
    assert (above.low, above.high) == (2.0, math.inf)


def test_nobody_and_noise_are_said() -> None:
    nobody = quantiles.quantile([0, 1], [0], 0.5)
    assert math.isnan(nobody.value)
    assert nobody.note
    noisy = quantiles.quantile([0, 1, 2, 3], [5, -3, 4], 0.5)
    assert noisy.approximate
    assert (noisy.n, noisy.low) == (9, 0.0)
    half = quantiles.quantile([0, 1, 2], [1.25, 1.25], 1.0)
    assert half.approximate
    assert half.high == 2.0


@pytest.mark.parametrize(
    ("edges", "counts", "q"),
    [([0, 1], [1], 1.5), ([0, 1, 1], [1, 1], 0.5), ([0, 1], [1, 1], 0.5), ([0], [], 0.5)],
)
def test_what_is_no_grid_is_refused(edges: list[float], counts: list[int], q: float) -> None:
    with pytest.raises(DocumentError):
        quantiles.quantile(edges, counts, q)

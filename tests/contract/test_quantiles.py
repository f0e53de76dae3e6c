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


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 300), st.integers(1, 9), st.floats(0, 1))
def test_a_quantile_lies_in_its_cell_for_every_partition(
    seed: int, n: int, sites: int, q: float
) -> None:
    generator = np.random.default_rng(seed)
    owner = generator.integers(0, sites, n)
    # Sites whose subjects differ, so that a mean of their quantiles is far off.
    values = np.clip(generator.normal(1.2 + owner / 10, 0.3), 0.5, 3.0)
    found = quantiles.of_counts(merged(values, HDL, owner), HDL, [q])[0]
    pooled = float(np.quantile(values, q, method="inverted_cdf"))
    assert found.low <= pooled <= found.high
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
    assert found.low <= np.quantile(pooled, 0.05, method="inverted_cdf") <= found.high
    averaged = float(np.mean([np.quantile(part, 0.05) for part in parts]))
    assert not found.low - 0.02 <= averaged <= found.high + 0.02


def test_whole_numbers_on_a_grid_of_ones_are_exact() -> None:
    values = np.random.default_rng(4).integers(18, 99, 501).astype(np.float64)
    counts = Counts.of_histogram(values, AGE)
    for q in (0.0, 0.01, 0.25, 0.5, 0.75, 0.9, 0.975):
        found = quantiles.of_counts(counts, AGE, [q])[0]
        # The last cell holds 97 and 98, both its ends.
        wanted = np.quantile(values, q, method="inverted_cdf")
        assert found.low == found.value == found.high == wanted or wanted >= 97
    last = quantiles.of_counts(counts, AGE, [1.0])[0]
    assert (last.low, last.high) == (97, 98)


def test_the_share_is_the_decimal_that_was_written() -> None:
    found = quantiles.quantile(np.arange(31), [1] * 30, 0.1)
    assert (found.rank, found.low) == (3, 2.0)  # 0.1 * 30 is 3.0000000000000004 in float64


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
    found = quantiles.interquartile_range(Counts.of_histogram(values, HDL), HDL)
    lower, upper = np.quantile(values, [0.25, 0.75], method="inverted_cdf")
    assert found.low <= upper - lower <= found.high
    assert found.high - found.low <= 0.0401
    assert quantiles.median(Counts.of_histogram(values, HDL), HDL).q == 0.5


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

"""Factors have more digits than a double: measured in fractions, which round nothing."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from contract.statistics import doubled
from contract.statistics.doubled import Doubled
from contract.statistics.least_squares import Factor, finish_linear, merged

Matrix = NDArray[np.float64]


def fractions(matrix: Matrix) -> list[list[Fraction]]:
    return [[Fraction(float(one)) for one in row] for row in matrix]


def gram(rows: list[list[Fraction]]) -> list[list[Fraction]]:
    width = range(len(rows[0]))
    return [[sum((row[i] * row[j] for row in rows), Fraction(0)) for j in width] for i in width]


def whole(r: Doubled) -> list[list[Fraction]]:
    pairs = zip(fractions(r[0]), fractions(r[1]), strict=True)
    return [[a + b for a, b in zip(high, low, strict=True)] for high, low in pairs]


def apart(one: list[list[Fraction]], other: list[list[Fraction]]) -> float:
    """How far two matrices of products are apart, of the columns' lengths."""
    lengths = [float(other[i][i]) ** 0.5 or 1.0 for i in range(len(other))]
    return max(
        abs(float(a - b)) / lengths[i] / lengths[j]
        for i, (left, right) in enumerate(zip(one, other, strict=True))
        for j, (a, b) in enumerate(zip(left, right, strict=True))
    )


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 5))
def test_a_factor_has_the_products_of_its_rows_to_twenty_digits(
    seed: int, rows: int, width: int
) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, width)) * 10.0 ** random.integers(-8, 9, width)
    r = doubled.triangle(x)
    assert apart(gram(whole(r)), gram(fractions(x))) < 1e-20
    assert (np.diag(r[0]) >= 0).all()
    assert not np.tril(r[0], -1).any()


@given(st.integers(0, 2**32), st.integers(2, 6))
def test_merged_factors_are_that_of_all_rows_in_any_order_and_grouping(
    seed: int, sites: int
) -> None:
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(40, 3)), random.normal(size=40) * 1e8
    parts = [Factor.of(x[rows], y[rows]) for rows in np.array_split(random.permutation(40), sites)]
    pooled = gram(fractions(np.column_stack([x, y])))
    one_by_one = parts[0]
    for part in parts[1:]:
        one_by_one = one_by_one.merge(part)
    for found in (merged(parts), merged(parts[::-1]), one_by_one):
        assert found.n == 40
        assert apart(gram(whole(found.whole)), pooled) < 1e-20


def test_more_rows_than_are_multiplied_at_once_lose_nothing() -> None:
    random = np.random.default_rng(1)
    x = random.integers(-1000, 1000, (20000, 2)).astype(float)
    high, low = doubled.product(x, x)
    assert not low.any()
    assert (high == (x.astype(int).T @ x.astype(int))).all()


@pytest.mark.parametrize("empty", [0, 1])
def test_a_site_of_no_rows_or_an_empty_column_changes_nothing(empty: int) -> None:
    x = np.column_stack([np.ones(9), np.arange(9.0)])
    y = np.arange(9.0) ** 2
    one = Factor.of(x, y)
    other = Factor.of(np.zeros((empty, 2)), np.zeros(empty))
    found = finish_linear(one.merge(other)).coefficients
    assert found == pytest.approx(finish_linear(one).coefficients, rel=1e-15)
    assert doubled.triangle(np.zeros((3, 2)))[0].tolist() == [[0, 0], [0, 0]]

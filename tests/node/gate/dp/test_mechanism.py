"""OpenDP's discrete Laplace as the lane uses it: its probabilities, its scale, its form."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from node.gate.dp.mechanism import discrete_laplace


@pytest.mark.parametrize("epsilon", [0.1, 0.3, 0.5, 1.0, 0.5 / 7])
@pytest.mark.parametrize("sensitivity", [1, 2**20])
def test_the_scale_gives_no_more_than_epsilon(sensitivity: int, epsilon: float) -> None:
    values, scale = discrete_laplace([0, 5, -7], sensitivity, epsilon)
    assert len(values) == 3
    assert all(isinstance(value, int) for value in values)
    assert scale >= sensitivity / epsilon * (1 - 1e-15)
    assert scale == pytest.approx(sensitivity / epsilon, rel=1e-9)


def test_draws_have_the_probabilities_of_the_discrete_laplace() -> None:
    draws = 20_000
    found = Counter(discrete_laplace([0] * draws, 1, 0.5)[0])
    ratio = math.exp(-0.5)
    statistic = 0.0
    tail = draws
    for x in range(-8, 9):
        expected = draws * (1 - ratio) / (1 + ratio) * ratio ** abs(x)
        statistic += (found[x] - expected) ** 2 / expected
        tail -= found[x]
    expected = draws * 2 * ratio**9 / (1 + ratio)
    statistic += (tail - expected) ** 2 / expected
    assert statistic < 46.8  # chi-squared with 17 degrees of freedom: 1 in 10,000 is above


def test_neighbours_results_are_within_the_factor_that_epsilon_says() -> None:
    draws, epsilon = 20_000, 0.5
    without = Counter(discrete_laplace([10] * draws, 1, epsilon)[0])
    with_one = Counter(discrete_laplace([11] * draws, 1, epsilon)[0])
    for x in range(6, 16):
        ratio = without[x] / with_one[x]
        error = 5 * math.sqrt(1 / without[x] + 1 / with_one[x])
        assert abs(math.log(ratio)) <= epsilon + error


def test_two_draws_of_one_question_are_not_alike() -> None:
    first, _ = discrete_laplace([0] * 50, 1, 0.1)
    second, _ = discrete_laplace([0] * 50, 1, 0.1)
    assert first != second

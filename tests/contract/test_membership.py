"""Membership inference in numbers: against published ones, and against known distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from contract.membership import (
    auc,
    correct_guesses,
    epsilon_lower_bound,
    true_positive_rate,
)
from tests.examples import examples

SCORES = st.lists(st.floats(-100, 100), min_size=1, max_size=40)


@given(SCORES, SCORES)
def test_auc_is_mann_and_whitneys_u(members: list[float], others: list[float]) -> None:
    u = stats.mannwhitneyu(members, others).statistic
    assert auc(members, others) == pytest.approx(u / (len(members) * len(others)))


def test_auc_and_rate_of_two_gaussians_are_those_of_the_textbook() -> None:
    """Hanley and McNeil 1982: AUC = Phi(d / sqrt 2); TPR = Phi(d - z(1 - FPR))."""
    generator = np.random.default_rng(1)
    members, others = generator.normal(1.5, 1, 40_000), generator.normal(0, 1, 40_000)
    assert auc(members, others) == pytest.approx(stats.norm.cdf(1.5 / math.sqrt(2)), abs=0.005)
    for rate in (0.001, 0.01, 0.1):
        expected = stats.norm.cdf(1.5 - stats.norm.ppf(1 - rate))
        assert true_positive_rate(members, others, rate) == pytest.approx(expected, abs=0.015)


def test_a_rate_never_calls_more_of_the_others_members_than_allowed() -> None:
    assert true_positive_rate([1, 2, 3], [2] * 100) == pytest.approx(1 / 3)
    assert true_positive_rate([1, 1], [1] * 10) == 0  # nobody can be told apart
    assert true_positive_rate([5], [1]) == 1
    for bad in ([], [math.nan], [math.inf]):
        with pytest.raises(ValueError, match="finite"):
            auc(bad, [1])


@pytest.mark.parametrize(("correct", "guesses"), [(90, 100), (100, 100), (700, 1000), (40, 50)])
def test_with_delta_0_the_bound_is_that_of_clopper_and_pearson(correct: int, guesses: int) -> None:
    """Of a pure guarantee, each guess is right at most as often as randomised response."""
    rate = stats.beta.ppf(0.05, correct, guesses - correct + 1)
    bound = epsilon_lower_bound(correct, guesses, guesses)
    assert bound == pytest.approx(math.log(rate / (1 - rate)), rel=1e-6)


def test_chance_proves_nothing_and_more_right_guesses_prove_more() -> None:
    assert epsilon_lower_bound(50, 100, 100) == 0
    bounds = [epsilon_lower_bound(v, 100, 200, 1e-5) for v in range(50, 101, 5)]
    assert bounds == sorted(bounds)
    # All of a thousand: the most that a thousand canaries can prove.
    assert epsilon_lower_bound(1000, 1000, 1000) == pytest.approx(5.81, abs=0.01)


@pytest.mark.parametrize("delta", [1e-6, 1e-5, 1e-4])
def test_a_delta_lowers_what_is_proven(delta: float) -> None:
    pure = epsilon_lower_bound(95, 100, 1000)
    assert 0 < epsilon_lower_bound(95, 100, 1000, delta) < pure


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_randomised_response_is_never_proven_to_be_more_than_it_is(epsilon: float) -> None:
    """Warner 1965: the mechanism that is exactly epsilon; the bound errs in 1 of 20 audits."""
    generator = np.random.default_rng(7)
    audits, above = examples(40, 200), 0
    for _ in range(audits):
        included = generator.random(300) < 0.5
        told = generator.random(300) < 1 / (1 + math.exp(-epsilon))
        answer = np.where(told, included, ~included)
        right, made = correct_guesses(answer + generator.random(300) * 1e-6, included, 300)
        above += epsilon_lower_bound(right, made, 300) > epsilon
    assert above <= audits / 10  # half of it expected at most


def test_guesses_are_made_at_both_ends_only() -> None:
    scores = [9, 8, 5, 4, 2, 1]
    included = [True, True, False, True, False, False]
    assert correct_guesses(scores, included, 4) == (4, 4)
    assert correct_guesses(scores, included, 6) == (4, 6)

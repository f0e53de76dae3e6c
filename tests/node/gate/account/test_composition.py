"""Composition agrees with what is published, and with an accountant of another kind."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.gate.account import composition
from node.gate.account.composition import epsilon
from node.gate.account.events import Event, GaussianRelease, PureRelease


def test_nothing_spent_is_zero_and_imports_no_accountant() -> None:
    code = (
        "import sys, node.gate.account.account as a, node.gate.account.composition as c; "
        "assert c.epsilon({}, 1e-6) == 0; "
        "assert c.epsilon({a.events.PureRelease(0.5): 1}, 0) == 0.5; "
        "assert c.epsilon({a.events.PureRelease(0.25): 8}, 1e-6) == 2.0; "
        "print('dp_accounting' in sys.modules, 'scipy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(("each", "count"), [(0.5, 1), (0.5, 6), (0.05, 9), (1.0, 4)])
def test_of_a_few_pure_releases_the_library_saves_nothing(each: float, count: int) -> None:
    events: dict[Event, int] = {PureRelease(each): count}
    assert epsilon(events, 1e-6) == pytest.approx(each * count)
    composed = composition._composed(((PureRelease(each), count),), 1e-6)
    assert composed == pytest.approx(each * count, abs=1.5e-3 * count)


def test_pure_releases_without_a_delta_add_up() -> None:
    assert epsilon({PureRelease(0.5): 3, PureRelease(0.25): 2}, 0.0) == 2.0


def test_noise_of_a_gaussian_has_no_epsilon_without_a_delta() -> None:
    assert epsilon({GaussianRelease(1.0): 1}, 0.0) == math.inf


def optimal(each: float, count: int, delta: float) -> float:
    """Theorem 3.3 of Kairouz, Oh and Viswanath 2015: the least epsilon at this delta, on its grid.

    ``count`` releases are (``(count - 2i) each``, ``delta_i``)-private, and none less is possible.
    """
    best = count * each
    for i in range(count // 2 + 1):
        at = (
            sum(
                math.comb(count, j)
                * (math.exp((count - j) * each) - math.exp((count - 2 * i + j) * each))
                for j in range(i)
            )
            / (1 + math.exp(each)) ** count
        )
        if at <= delta:
            best = min(best, (count - 2 * i) * each)
    return best


@pytest.mark.parametrize(("each", "count"), [(0.1, 80), (0.5, 16), (0.05, 200), (0.25, 32)])
def test_pure_releases_compose_as_the_optimal_composition_theorem_says(
    each: float, count: int
) -> None:
    delta = 1e-6
    ours = epsilon({PureRelease(each): count}, delta)
    exact = optimal(each, count, delta)
    # The theorem gives points two epsilons apart; the truth between them is a curve below.
    assert exact - 2 * each <= ours <= exact + 0.01


@pytest.mark.parametrize(("each", "count"), [(0.1, 100), (0.01, 1000), (0.05, 400)])
def test_composition_is_below_the_advanced_theorem_and_above_nothing_spent(
    each: float, count: int
) -> None:
    delta = 1e-6
    # Dwork, Rothblum and Vadhan 2010; Dwork and Roth 2014, Theorem 3.20.
    advanced = each * math.sqrt(2 * count * math.log(1 / delta)) + count * each * math.expm1(each)
    assert each < epsilon({PureRelease(each): count}, delta) < min(advanced, count * each)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.05, 0.1, 0.25, 0.5]), st.integers(1, 5)),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=10)
def test_an_account_never_counts_more_than_the_sum_and_never_falls(
    spends: list[tuple[float, int]],
) -> None:
    events: dict[Event, int] = {}
    last = 0.0
    for each, count in spends:
        events[PureRelease(each)] = events.get(PureRelease(each), 0) + count
        now = epsilon(events, 1e-6)
        assert last <= now + 1e-3
        assert now <= sum(e.epsilon * n for e, n in events.items() if isinstance(e, PureRelease))
        last = now


def gaussian_delta(sigma: float, at: float) -> float:
    """Balle and Wang 2018, Theorem 8: the exact delta of Gaussian noise of ``sigma``."""

    def cdf(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    a, b = 1 / (2 * sigma), at * sigma
    return cdf(a - b) - math.exp(at) * cdf(-a - b)


@pytest.mark.parametrize(("sigma", "count"), [(1.0, 1), (4.0, 1), (10.0, 100), (20.0, 50)])
def test_gaussian_releases_have_the_delta_of_the_analytic_theorem(sigma: float, count: int) -> None:
    delta = 1e-5
    found = epsilon({GaussianRelease(sigma): count}, delta)
    # Composed, they are one of noise sigma / sqrt(count) (Dong, Roth and Su 2022, Corollary 3.3).
    assert gaussian_delta(sigma / math.sqrt(count), found) == pytest.approx(delta, rel=0.01)


@pytest.mark.parametrize(("sigma", "count"), [(2.0, 1), (10.0, 100), (5.0, 10)])
def test_gaussian_releases_are_below_the_bound_by_renyi_divergence(
    sigma: float, count: int
) -> None:
    delta = 1e-5
    # Mironov 2017, Proposition 7 (order a costs a / 2 sigma^2), Propositions 1 and 3.
    bound = min(
        order * count / (2 * sigma**2) + math.log(1 / delta) / (order - 1)
        for order in itertools.chain([1 + x / 10 for x in range(1, 100)], range(11, 200))
    )
    found = epsilon({GaussianRelease(sigma): count}, delta)
    assert 0.7 * bound < found < bound


def test_dp_sgd_costs_what_its_papers_say() -> None:
    # Abadi et al. 2016, section 4 (q = 0.01, sigma = 4, 10,000 steps, delta 1e-5): the moments
    # accountant gives epsilon 1.26. Tight accounting gives a little less, never more.
    found = epsilon({GaussianRelease(4.0, 0.01): 10_000}, 1e-5)
    assert 0.9 < found < 1.26
    # TensorFlow Privacy's MNIST tutorial: 60,000 examples, batch 250, noise 1.3, 15 epochs: 1.18.
    found = epsilon({GaussianRelease(1.3, 250 / 60_000): 15 * 240}, 1e-5)
    assert 0.85 < found < 1.18


def test_accountants_of_two_kinds_agree_on_what_is_spent_together() -> None:
    from dp_accounting import dp_event
    from dp_accounting.rdp import RdpAccountant

    events: dict[Event, int] = {PureRelease(0.1): 20, GaussianRelease(1.1, 0.01): 500}
    ours = epsilon(events, 1e-5)
    by_renyi = RdpAccountant(orders=[1 + x / 10 for x in range(1, 100)] + list(range(12, 64)))
    by_renyi.compose(dp_event.LaplaceDpEvent(1 / 0.1), 20)
    by_renyi.compose(dp_event.PoissonSampledDpEvent(0.01, dp_event.GaussianDpEvent(1.1)), 500)
    assert ours == pytest.approx(by_renyi.get_epsilon(1e-5), rel=0.3)

"""What noise amounts to is what the node's own accountant says, and no receipt is left out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.receipts import Receipt
from node.gate.account.composition import epsilon as charged
from node.gate.account.events import GaussianRelease
from researcher.spending import epsilon, spent
from tests.contract.world import World


@settings(max_examples=15)
@given(st.lists(st.floats(0.3, 60), min_size=1, max_size=4), st.integers(1, 40))
def test_the_epsilon_is_what_a_site_is_charged_or_a_little_less(
    multipliers: list[float], times: int
) -> None:
    """The account's discretisation is on the safe side; this is the curve itself."""
    events = dict.fromkeys((GaussianRelease(z) for z in multipliers), times)
    exact = epsilon(multipliers=[e.noise_multiplier for e in events] * times)
    account = charged(events, 1e-5)
    assert exact <= account * (1 + 1e-6) + 1e-6
    assert exact >= account * 0.97 - 0.02


@pytest.mark.parametrize(
    ("multiplier", "times", "known"),
    [
        # Balle and Wang 2018: at sigma 1 the classical bound is 4.84; the exact curve is below it.
        (1.0, 1, 4.377),
        (2.0, 100, 33.1),
    ],
)
def test_published_figures_are_met(multiplier: float, times: int, known: float) -> None:
    assert epsilon([multiplier] * times) == pytest.approx(known, rel=2e-3)


@given(st.floats(0.001, 1e4), st.integers(1, 10_000))
def test_many_releases_are_as_one_with_less_noise(multiplier: float, times: int) -> None:
    found = epsilon([multiplier] * times)
    assert found == pytest.approx(epsilon([multiplier / math.sqrt(times)]), rel=1e-6, abs=1e-9)
    assert 0 <= found < math.inf


def test_payloads_without_noise_are_counted_and_steps_of_a_sum_are_not() -> None:
    world = World()

    def receipt(**changes: object) -> Receipt:
        return Receipt.verify(world.receipt("kentucky", "ab" * 32, **changes), world.roster())

    found = spent(
        [receipt(noise=(4.0, 4.0)), receipt(), receipt(rules=()), receipt(payload_bytes=0)]
    )
    assert (found.releases, found.payloads_without) == (2, 1)
    assert found.epsilon == epsilon([4.0, 4.0])
    assert spent([]).epsilon == 0


@pytest.mark.parametrize("multiplier", [5e-324, 1e-200, 1e-9])
def test_a_receipt_that_says_next_to_no_noise_ends_nothing(multiplier: float) -> None:
    assert epsilon([multiplier, 1.0]) == math.inf

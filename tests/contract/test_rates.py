"""Rates by person-time are those of R's poisson.test."""

from __future__ import annotations

import math

import pytest

from contract.errors import DocumentError
from contract.statistics.rates import rate, rate_ratio


def test_a_rate_has_the_interval_of_r() -> None:
    """R 4.2.2: example(poisson.test), poisson.test(137, 24.19893)."""
    found = rate(137, 24.19893)
    assert found.value == pytest.approx(5.66141, abs=5e-6)
    assert (found.low, found.high) == (
        pytest.approx(4.753125, abs=5e-7),
        pytest.approx(6.692709, abs=5e-7),
    )
    none = rate(0, 10)
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(-math.log(0.025) / 10)
    assert math.isnan(rate(0, 0).value)
    with pytest.raises(DocumentError):
        rate(-1, 1)


def test_two_rates_are_compared_as_r_does() -> None:
    """R 4.2.2: example(poisson.test), c(11, 6 + 8 + 7) in c(800, 1083 + 1050 + 878)."""
    found = rate_ratio((21, 3011), (11, 800))
    assert found.p_value == pytest.approx(0.07967, abs=5e-6)
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(1.971488, abs=5e-7)
    assert found.estimate.low == pytest.approx(0.8584264, abs=5e-8)
    assert found.estimate.high == pytest.approx(4.2772659, abs=5e-8)
    none = rate_ratio((0, 1.0), (3, 2.0)).estimate
    assert none is not None
    assert math.isinf(none.high)
    assert math.isnan(rate_ratio((0, 1.0), (0, 2.0)).p_value)

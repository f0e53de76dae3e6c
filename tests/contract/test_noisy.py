"""Moments with noise add up as their sums do, and say how far they may be off."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.statistics.answers import Noise, NoiseTerm
from contract.statistics.noisy import TAIL, estimate, moments
from contract.statistics.summaries import Moments

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

"""Clipping and quantisation of an update: what is promised holds for all arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from contract.errors import Refused
from node.gate.updates.noise import STEPS_PER_SIGMA, DiscreteGaussian
from node.gate.updates.treatment import Treatment, norm, treat

KEY = b"k" * 32


def numbers(dtype: str, bound: float) -> st.SearchStrategy[Any]:
    return arrays_of.arrays(
        dtype,
        arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
        elements=st.floats(-bound, bound, width=16 if dtype == "float16" else 32),
    )


@st.composite
def pairs(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    received, reply = {}, {}
    for index in range(draw(st.integers(1, 3))):
        before = draw(numbers(draw(st.sampled_from(["float16", "float32", "float64"])), 100.0))
        change = draw(
            arrays_of.arrays(before.dtype, before.shape, elements=st.floats(-50, 50, width=16))
        )
        received[str(index)], reply[str(index)] = before, before + change
    return received, reply


@given(pairs(), st.floats(0.01, 100), st.sampled_from([0, 8, 16]))
@settings(max_examples=200)
def test_an_update_is_never_longer_than_the_limit_but_for_rounding(
    pair: tuple[dict[str, Any], dict[str, Any]], limit: float, bits: int
) -> None:
    received, reply = pair
    treated = treat(received, reply, Treatment(limit, bits))
    count = sum(a.size for a in reply.values())
    # Half a unit in the last place of each sum, and half a step of each quantised number.
    units = sum(
        float((np.abs(a.astype(float)) * np.finfo(a.dtype).eps + 1e-7).sum())
        for a in treated.arrays.values()
        if a.size
    )
    steps = math.sqrt(count) * limit / (2 ** (bits - 1) - 1) if bits else 0.0
    assert norm(received, treated.arrays, exact=True) <= limit + units + steps
    for name, array in treated.arrays.items():
        assert (array.dtype, array.shape) == (reply[name].dtype, reply[name].shape)


@given(pairs())
def test_a_short_update_leaves_as_it_is(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    received, reply = pair
    treated = treat(received, reply, Treatment(clip_norm=1e6))
    assert treated.scale == 1.0
    for name, array in treated.arrays.items():
        np.testing.assert_array_equal(array, reply[name])


def test_a_long_update_keeps_its_direction() -> None:
    received = {"w": np.zeros((2, 2), "float32"), "b": np.zeros(1, "float32")}
    reply = {"w": np.full((2, 2), 3, "float32"), "b": np.array([8], "float32")}
    treated = treat(received, reply, Treatment(clip_norm=1.0))
    assert treated.scale == pytest.approx(0.1, rel=1e-6)  # sqrt(4 * 9 + 64) = 10
    np.testing.assert_allclose(treated.arrays["w"], 0.3, rtol=1e-5)
    np.testing.assert_allclose(treated.arrays["b"], 0.8, rtol=1e-5)


@given(pairs(), st.sampled_from([8, 16]))
def test_quantised_numbers_are_few_near_and_always_the_same(
    pair: tuple[dict[str, Any], dict[str, Any]], bits: int
) -> None:
    zeros = {n: np.zeros_like(a, "float64") for n, a in pair[0].items()}
    reply = {n: pair[1][n].astype("float64") for n in zeros}
    once = treat(zeros, reply, Treatment(bits=bits)).arrays
    again = treat(zeros, reply, Treatment(bits=bits)).arrays
    for name, array in once.items():
        assert array.tobytes() == again[name].tobytes()
        if not array.size or not np.abs(reply[name]).max() > 1e-30:
            continue
        step = np.abs(reply[name]).max() / (2 ** (bits - 1) - 1)
        whole = array / step
        np.testing.assert_allclose(whole, np.rint(whole), atol=1e-6)
        assert np.abs(array - reply[name]).max() <= step * 0.5001


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("treatment", [Treatment(clip_norm=1.0), Treatment(bits=8)])
def test_what_is_not_finite_is_refused_or_stays_so(bad: float, treatment: Treatment) -> None:
    received = {"w": np.zeros(3, "float32")}
    reply = {"w": np.array([0, bad, 1], "float32")}
    try:
        treated = treat(received, reply, treatment)
    except Refused as refusal:
        assert refusal.code == "not-finite"
    else:  # and the second table refuses it
        assert not np.isfinite(treated.arrays["w"]).all()


def test_arrays_that_hold_no_floats_leave_as_they_were_received() -> None:
    received = {"w": np.zeros(3, "float32"), "batches": np.array(7)}
    reply = {"w": np.ones(3, "float32"), "batches": np.array(123456789)}
    for treatment in (Treatment(clip_norm=9.0), Treatment(bits=8)):
        assert treat(received, reply, treatment).arrays["batches"] == 7


def test_noise_lies_on_the_grid_and_an_update_is_rounded_towards_zero_on_it() -> None:
    step = 2.0**-10
    received = {"w": np.zeros(5000, "float64")}
    reply = {"w": np.full(5000, 2.9 * step)}
    treated = treat(received, reply, Treatment(1.0, 0, step), DiscreteGaussian(KEY))
    drawn = DiscreteGaussian(KEY).draw(5000)
    np.testing.assert_array_equal(treated.arrays["w"], (drawn + 2) * step)
    assert np.std(treated.arrays["w"]) == pytest.approx(step * STEPS_PER_SIGMA, rel=0.05)


def test_no_two_numbers_of_an_update_share_a_draw() -> None:
    step = 1 / STEPS_PER_SIGMA
    zeros = {name: np.zeros(70_000, np.float64) for name in ("a", "b", "c")}
    found = treat(zeros, zeros, Treatment(1.0, 0, step), DiscreteGaussian(KEY)).arrays
    drawn = DiscreteGaussian(KEY).draw(210_000) * step
    np.testing.assert_allclose(np.concatenate(list(found.values())), drawn, rtol=1e-12)

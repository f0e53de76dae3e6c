"""Every reply is looked at before a strategy is."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.records import Arrays, Metrics
from coordinator.work.training.checks import WEIGHTS, is_finite, is_weight, objection, odd_ones

FLOATS = st.sampled_from([np.dtype(t) for t in ("f2", "f4", "f8")])


@given(array=FLOATS.flatmap(lambda t: hnp.arrays(t, hnp.array_shapes(min_side=0, max_dims=3))))
def test_finite_means_no_nan_and_no_infinity(array):
    assert is_finite(array) == bool(np.isfinite(array).all())


def test_a_sum_that_overflows_is_not_mistaken_for_infinity():
    assert is_finite(np.full(10, np.finfo("f4").max, dtype="f4"))
    assert is_finite(np.array([1, 2]))


@pytest.mark.parametrize(("value", "good"), [
    (0, True), (5, True), (1e9, True), (2.5, True), (-1, False), (1e9 + 1, False), (True, False),
    (float("nan"), False), (float("inf"), False), ("3", False), ([3], False), (10**30, False),
])  # fmt: skip
def test_a_weight_is_a_number_from_zero_to_a_thousand_million(value, good):
    assert is_weight(value) is good


def test_an_evaluation_needs_no_arrays_and_a_training_those_that_were_sent():
    sent = {"arrays": Arrays({"w": np.zeros(2)})}
    scores = {"metrics": Metrics({"num-examples": 3})}
    assert objection(sent, scores, train=False, weights=WEIGHTS) == ""
    assert objection(sent, scores, train=True, weights=WEIGHTS) == "unlike-instruction"
    assert objection({}, sent, train=True, weights=WEIGHTS) == ""
    own = {"metrics": Metrics({"n": -1})}
    assert objection(sent, own, train=False, weights=WEIGHTS | {"n"}) == "bad-weight"


def test_the_layout_of_most_is_the_norm_and_the_first_among_equals():
    assert odd_ones([("a",), ("b",), ("a",)]) == [1]
    assert odd_ones([("b",), ("a",), ("a",)]) == [0]
    assert odd_ones([("a",), ("b",)]) == [1]
    assert odd_ones([]) == []

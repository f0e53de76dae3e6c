"""Every reply is looked at before a strategy is."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.records import Arrays, Metrics
from coordinator.work.training.checks import (
    WEIGHTS,
    is_finite,
    is_weight,
    layout,
    objection,
    odd_ones,
    set_apart,
)

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


def test_a_metric_of_some_sites_is_averaged_over_these_and_costs_none_its_update():
    replies = [
        {"metrics": Metrics({"num-examples": 10, "loss": 1.0, "auc": 0.5})},
        {"metrics": Metrics({"num-examples": 30, "loss": 2.0, "auc": 0.9})},
        {"metrics": Metrics({"num-examples": 99, "loss": 3.0})},  # of one class only
        {"metrics": Metrics({"num-examples": 9, "loss": 4.0, "per-class": [1.0, 2.0]})},
    ]
    assert odd_ones([layout(reply) for reply in replies]) == []
    assert set_apart(replies) == {
        "auc": pytest.approx((10 * 0.5 + 30 * 0.9) / 40), "auc-sites": 2, "per-class-sites": 1,
    }  # fmt: skip
    assert [set(r["metrics"].items) for r in replies] == [{"num-examples", "loss"}] * 4
    assert set_apart(replies) == {}
    assert set_apart([]) == {}


def test_what_weighs_a_reply_is_never_set_apart_and_who_lacks_it_is_unlike_the_others():
    replies = [{"metrics": Metrics({"num-examples": 1, "n": 2})}] * 2
    replies.append({"metrics": Metrics({"num-examples": 1})})
    assert odd_ones([layout(reply, WEIGHTS | {"n"}) for reply in replies]) == [2]
    assert set_apart(replies, WEIGHTS | {"n"}) == {}

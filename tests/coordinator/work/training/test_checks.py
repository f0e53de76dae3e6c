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


def trained(values, dtype="f4", metrics=None, sent=0.0):
    arrays = Arrays({"w": np.array(values, dtype)})
    was = {"arrays": Arrays({"w": np.full(len(values), sent, dtype)})}
    reply = {"arrays": arrays, "metrics": Metrics({"num-examples": 3} | (metrics or {}))}
    return objection(was, reply, train=True, weights=WEIGHTS)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_numbers_that_no_training_comes_to_are_absurd_unless_they_were_sent(dtype):
    assert trained([1e17, -3.0, 0], dtype) == trained([9e17] * 1000, dtype) == ""
    assert trained([1.0, -1e19], dtype) == trained([1e38], dtype) == "absurd-values"
    assert trained([float("nan"), 1e38], dtype) == "not-finite"
    # As a mask that a network holds among its arrays.
    lowest = float(np.finfo("f4").min)
    assert trained([lowest, lowest], dtype, sent=lowest) == ""
    assert trained([65504.0], "f2") == trained([2**62], "i8") == ""


def test_metrics_that_are_not_finite_make_a_reply_unsound():
    for value in (float("nan"), float("inf"), [0.5, float("nan")]):
        assert trained([1.0], metrics={"train_loss": value}) == "not-finite"
    assert trained([1.0], metrics={"train_loss": -1e300, "many": [1, 2]}) == ""


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


def test_what_fewer_sites_than_the_minimum_say_is_not_told():
    replies = [
        {"metrics": Metrics({"num-examples": 10, "auc": 0.5, "own": 0.25})},
        {"metrics": Metrics({"num-examples": 30, "auc": 0.9})},
        {"metrics": Metrics({"num-examples": 99})},
    ]
    assert set_apart(replies, minimum=2) == {
        "auc": pytest.approx(0.8), "auc-sites": 2, "own-sites": 1,
    }  # fmt: skip


def test_lists_of_different_lengths_and_a_list_for_a_number_are_set_apart():
    replies = [
        {"metrics": Metrics({"num-examples": 10, "per-class": [1.0, 2.0], "loss": 1.0})},
        {"metrics": Metrics({"num-examples": 30, "per-class": [1.0, 2.0, 3.0], "loss": [2.0]})},
    ]
    assert set_apart(replies) == {"loss-sites": 2, "per-class-sites": 2}
    assert [set(r["metrics"].items) for r in replies] == [{"num-examples"}] * 2


def test_what_weighs_a_reply_is_never_set_apart_and_who_lacks_it_is_unlike_the_others():
    replies = [{"metrics": Metrics({"num-examples": 1, "n": 2})}] * 2
    replies.append({"metrics": Metrics({"num-examples": 1})})
    assert odd_ones([layout(reply, WEIGHTS | {"n"}) for reply in replies]) == [2]
    assert set_apart(replies, WEIGHTS | {"n"}) == {}

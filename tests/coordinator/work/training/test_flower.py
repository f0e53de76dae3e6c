"""What is known of strategies: which need single updates, and how each kind's start is watched."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from flwr.server import strategy as older
from flwr.serverapp import strategy as today

from coordinator.work.training.flower import _in_its_dtypes, innermost, needs_single_updates
from learning.strategies import Cyclic, EarlyStopping, Scaffold, Scheduled

NEEDY = {
    "FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum", "Bulyan", "QFedAvg", "FedXgbBagging",
    "FedXgbCyclic", "DifferentialPrivacyServerSideFixedClipping",
    "DifferentialPrivacyServerSideAdaptiveClipping",
    "DifferentialPrivacyClientSideAdaptiveClipping",
}  # fmt: skip
MEANS = {
    "FedAvg", "FedProx", "FedAvgM", "FedAdam", "FedYogi", "FedAdagrad",
    "DifferentialPrivacyClientSideFixedClipping",
}  # fmt: skip


def made(name: str) -> today.Strategy:
    if "ClientSideAdaptive" in name or "ServerSideAdaptive" in name:
        return getattr(today, name)(today.FedAvg(), 0.1, 2)
    if name.startswith("Differential"):
        return getattr(today, name)(today.FedAvg(), 1.0, 1.0, 2)
    return getattr(today, name)(*([0.1] if name == "QFedAvg" else []))


def test_every_strategy_of_flowers_is_known_to_need_single_updates_or_not() -> None:
    others = {"Result", "Strategy", "strategy_utils"}
    assert set(today.__all__) - others == NEEDY | MEANS


@pytest.mark.parametrize("name", sorted(NEEDY | MEANS))
def test_a_strategy_says_in_one_sentence_why_a_sum_is_not_enough(name: str) -> None:
    reason = needs_single_updates(made(name))
    assert bool(reason) == (name in NEEDY)
    if reason:
        assert reason.startswith(name) and reason.endswith(".") and reason.count(".") == 1


def test_a_subclass_needs_what_its_parent_needs_and_a_wrapper_what_is_inside() -> None:
    class Own(today.FedMedian):
        pass

    class Averaging(today.FedAvg):
        pass

    assert needs_single_updates(Own())
    assert not needs_single_updates(Averaging())
    wrapped = today.DifferentialPrivacyClientSideFixedClipping(today.Krum(), 1.0, 1.0, 2)
    assert "Krum" in needs_single_updates(wrapped)
    assert "FedMedian" in needs_single_updates(EarlyStopping(Scheduled(Own(), {}), "loss"))
    assert isinstance(innermost(EarlyStopping(Scheduled(Own(), {}), "loss")), Own)
    assert needs_single_updates(Cyclic()) and not needs_single_updates(Scaffold())
    assert needs_single_updates(older.Krum()) and not needs_single_updates(older.FedAdam)


def test_one_that_says_nothing_is_taken_to_work_on_means() -> None:
    class FedMedian:  # of somebody else's
        needs_single_updates = 3

    assert needs_single_updates(FedMedian()) == ""
    assert needs_single_updates(importlib) == ""


def test_a_new_model_has_the_dtypes_of_the_one_before() -> None:
    """Else a site would send back whole numbers where it got their mean, and not be believed."""
    before = ArrayRecord({"n": Array(np.array(7)), "w": Array(np.ones(2, np.float32))})
    mean = ArrayRecord({"n": Array(np.array(9.8)), "w": Array(np.full(2, 0.1))})
    kept = _in_its_dtypes(mean, before)
    assert {k: a.numpy().dtype.name for k, a in kept.items()} == {"n": "int64", "w": "float32"}
    assert kept["n"].numpy() == 9  # as PyTorch copies 9.8 into a whole number
    assert mean["n"].numpy() == 9.8
    assert _in_its_dtypes(before, before) is before

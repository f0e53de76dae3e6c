"""A recipe's reply at the gate, as it leaves under a policy that treats updates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.documents import MetricRange, RecipeGrant
from contract.errors import Refused
from contract.receipts import Receipt
from node.gate.account.events import GaussianRelease
from node.gate.policy import ProjectLimits
from node.gate.updates.noise import DiscreteGaussian, UpdateNoise
from node.gate.updates.replies import noised_metric
from tests.attacks.training.asking import SUBJECTS, Rounds
from tests.contract.world import BUNDLE
from tests.node.gate.conftest import Hospital

WEIGHTS = {"w": np.zeros((4, 5), "float32")}
REPLY = {"w": np.full((4, 5), 2, "float32")}
NOISE = {"clip_norm": 1.0, "noise_multiplier": 4.0}


def test_a_treated_update_is_on_ledger_and_receipt_as_such(hospital: Hospital) -> None:
    rounds = Rounds(hospital, {"clip_norm": 1.0, "quantise_bits": 8})
    left, metrics = rounds.send(WEIGHTS, REPLY, {"loss": 0.5})
    assert np.linalg.norm(left["w"]) == pytest.approx(1, rel=1e-6)
    assert metrics == {"loss": 0.5, "num-examples": SUBJECTS}
    [entry] = hospital.entries("answer")
    assert entry.body["treatment"]["clip_norm"] == 1.0
    assert entry.body["treatment"]["scale"] == pytest.approx(1 / math.sqrt(80))
    answer = hospital.gate.asked.answer(rounds.admission.digest, "1")
    assert answer is not None
    receipt = Receipt.verify(answer.receipt, hospital.world.roster())
    assert receipt.rules[-2:] == ("UpdateClipped", "UpdateQuantised")


def test_without_a_treatment_a_reply_leaves_byte_for_byte(hospital: Hospital) -> None:
    left, _ = Rounds(hospital, {}).send(WEIGHTS, REPLY)
    assert left["w"].tobytes() == REPLY["w"].tobytes()
    [entry] = hospital.entries("answer")
    assert "treatment" not in entry.body


def test_with_noise_no_exact_number_leaves(hospital: Hospital) -> None:
    rounds = Rounds(hospital, NOISE)
    left, metrics = rounds.send(WEIGHTS, REPLY, {"loss": 0.5, "num-examples": 143})
    assert metrics["num-examples"] == SUBJECTS  # as the release is listed, not as counted
    assert metrics["loss"] != 0.5
    assert 0 <= metrics["loss"] <= 10
    assert not np.isin(left["w"], REPLY["w"] * (1 / math.sqrt(80))).any()


def test_a_project_may_have_more_noise_than_the_others(hospital: Hospital) -> None:
    rounds = Rounds(hospital, {"clip_norm": 1.0})
    for noise in (None, 4.0):
        limits = {"birth": ProjectLimits(noise_multiplier=noise)}
        hospital.policy = hospital.policy.model_copy(update={"projects": limits})
        rounds.send(WEIGHTS, REPLY, {"loss": 0.5})
    charged = [row.event for row in hospital.gate.account.spends()]
    assert charged == [GaussianRelease(2.0)] * 2
    assert [e.body.get("noise") for e in hospital.entries("answer")] == [None, [2.0, 2.0]]


@pytest.mark.parametrize("tells", [True, False])
def test_a_receipt_says_what_noise_was_charged_where_the_policy_tells(
    hospital: Hospital, tells: bool
) -> None:
    rounds = Rounds(hospital, NOISE)
    privacy = hospital.policy.privacy.model_copy(update={"tell_spent": tells})
    hospital.policy = hospital.policy.model_copy(update={"privacy": privacy})
    rounds.send(WEIGHTS, REPLY, {"loss": 0.5})
    answer = hospital.gate.asked.answer(rounds.admission.digest, "1")
    assert answer is not None
    receipt = Receipt.verify(answer.receipt, hospital.world.roster())
    charged = [row.event for row in hospital.gate.account.spends()]
    assert charged == [GaussianRelease(2.0)] * 2
    assert receipt.noise == ((2.0, 2.0) if tells else ())
    [entry] = hospital.entries("answer")
    assert entry.body["noise"] == [2.0, 2.0]  # which stays here


def test_with_noise_a_metric_without_a_declared_range_does_not_leave(hospital: Hospital) -> None:
    rounds = Rounds(hospital, NOISE)
    rounds.grant = rounds.grant.model_copy(update={"metric_ranges": {}})
    for metrics in ({"loss": 0.5}, {"loss": math.nan}, {"loss": "text"}):
        with pytest.raises(Refused) as caught:
            rounds.send(WEIGHTS, REPLY, metrics)
        assert caught.value.code in ("undeclared-range", "not-finite")
    assert hospital.entries("answer") == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_no_number_is_refused_before_noise_hides_it(
    hospital: Hospital, bad: float
) -> None:
    with pytest.raises(Refused) as caught:
        Rounds(hospital, NOISE).send(WEIGHTS, REPLY, {"loss": bad})
    assert caught.value.code == "not-finite"


def test_noise_that_can_not_be_drawn_lets_nothing_out(hospital: Hospital) -> None:
    rounds = Rounds(hospital, NOISE)
    hospital.home.noise_key.write_bytes(b"cut short")
    with pytest.raises(Refused) as caught:
        rounds.send(WEIGHTS, REPLY)
    assert caught.value.code == "noise"


@pytest.mark.parametrize(
    "reply",
    [
        {"w": np.zeros((5, 4), "float32")},
        {"w": np.zeros((4, 5), "float64")},
        {"v": np.zeros((4, 5), "float32")},
        {"w": np.zeros((4, 5), "float32"), "v": np.zeros(1, "float32")},
    ],
)
def test_what_is_no_update_of_what_was_received_is_not_treated_but_refused(
    hospital: Hospital, reply: dict[str, Any]
) -> None:
    for defence in ({"clip_norm": 1.0}, {"quantise_bits": 8}, NOISE):
        with pytest.raises(Refused) as caught:
            Rounds(hospital, defence).send(WEIGHTS, reply)
        assert caught.value.code == "undeclared-output"


@given(
    st.floats(-1e9, 1e9),
    st.floats(-100, 100),
    st.floats(0.001, 1000),
    st.binary(min_size=32, max_size=32),
)
def test_a_noised_metric_stays_in_its_range(
    value: float, minimum: float, width: float, key: bytes
) -> None:
    declared = MetricRange(minimum=minimum, maximum=minimum + width)
    found = noised_metric(value, declared, UpdateNoise(1.0, 1.0), 3, DiscreteGaussian(key))
    assert declared.minimum <= found <= declared.maximum


def test_ranges_are_those_of_declared_metrics_and_not_empty() -> None:
    allowed = MetricRange(minimum=0, maximum=1)
    with pytest.raises(ValueError, match="no metric"):
        RecipeGrant(name="a", bundle=BUNDLE, metrics=("loss",), metric_ranges={"auc": allowed})
    with pytest.raises(ValueError, match="below"):
        MetricRange(minimum=1, maximum=1)

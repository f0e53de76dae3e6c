"""Noise on a model update is charged to the same account as answers in statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest

from contract.documents import MetricRange
from contract.errors import Refused
from contract.records import Arrays, Metrics, Records
from foundation import tensors
from node.gate.account import Limits, Payer
from node.gate.account.composition import epsilon
from node.gate.account.events import GaussianRelease
from node.gate.policy import Policy, PrivacySettings, TrainingSettings
from node.gate.rules import TrainingOutput
from tests.node.gate.conftest import GRANT, Hospital

RANGED = GRANT.model_copy(update={"metric_ranges": {"loss": MetricRange(minimum=0, maximum=10)}})


def answer(hospital: Hospital, task: str) -> None:
    """Let one reply of a recipe out, with arrays and a metric."""
    arrays = {"w": np.ones((2, 3), "float32")}
    content: Records = {
        "arrays": Arrays(dict(arrays)),
        "metrics": Metrics({"loss": 0.5, "num-examples": 100}),
    }
    encoded = tensors.encode(content)
    received = {"arrays": {"w": ("float32", (2, 3))}}
    output = TrainingOutput("train", content, received, RANGED, {"arrays": arrays}, b"asked")
    admission = hospital.gate.admit(hospital.member, hospital.training(hospital.release(100)))
    hospital.gate.answer_task(
        hospital.member, admission, task, output, encoded.message, encoded.blob, 0.1
    )


def with_policy(hospital: Hospital, noise: float, most: float) -> None:
    """Put noise and a budget in force."""
    hospital.policy = Policy(
        disclosure=hospital.policy.disclosure,
        privacy=PrivacySettings(epsilon_project=most, epsilon_subject_year=100),
        training=TrainingSettings(minimum_subjects=20, clip_norm=1.0, noise_multiplier=noise),
        jobs=hospital.policy.jobs,
    )
    key = hospital.home.root / "noise.key"
    key.write_bytes(b"k" * 32)
    hospital.gate._noise_key = key


def test_a_reply_with_noise_is_charged_for_arrays_and_metrics(hospital: Hospital) -> None:
    with_policy(hospital, noise=8.0, most=20.0)
    answer(hospital, "1")
    account = hospital.gate.account
    assert [row.event for row in account.spends()] == [GaussianRelease(4.0)] * 2
    payer = Payer(hospital.world.consortium, "birth")
    standing = account.standing(payer, Limits.of(hospital.policy, "birth"), hospital.now)
    assert standing.delta == 1 / (10 * 110)
    assert standing.epsilon_project == epsilon({GaussianRelease(4.0): 2}, standing.delta)
    assert 0.5 < standing.epsilon_project < math.inf


def test_a_reply_that_the_account_can_t_pay_for_stays_here(hospital: Hospital) -> None:
    with_policy(hospital, noise=8.0, most=0.6)
    with pytest.raises(Refused) as caught:
        answer(hospital, "1")
    assert caught.value.code == "privacy-budget"
    assert hospital.entries("answer") == []
    assert hospital.entries("withheld")[-1].body["code"] == "privacy-budget"
    assert hospital.gate.account.spends() == []


def test_a_reply_without_noise_is_no_matter_of_the_account(hospital: Hospital) -> None:
    answer(hospital, "1")
    assert hospital.entries("answer")
    assert hospital.gate.account.spends() == []
    assert hospital.entries("spent") == []

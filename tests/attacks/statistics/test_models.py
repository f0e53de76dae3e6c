"""What the sums of a model give away to whoever chooses its coefficients."""

from __future__ import annotations

import math

import pytest

from contract import wire_pb2 as wire
from contract.documents import Model, Statistic
from tests.attacks.statistics.conftest import Node

ATTACKS = (
    (
        "Coefficients chosen to weigh one row",
        "Huth et al. 2023, as for covariance; DataSHIELD's known holes: a fit's score",
        "no model is fitted unless the hospital's policy says so",
        "test_coefficients_that_weigh_one_row",
    ),
)
MODEL = Model(family="poisson", outcome="marker", terms=(("age",),))
ASK = (Statistic(kind="moments", variable="marker"), Statistic(kind="moments", variable="age"))
STEEP, TARGET = -1.5, 0


def read_off(node: Node) -> float | None:
    """Return the marker of the oldest patient, known to be 88; None when there is no answer."""
    decided = node.message(*ASK, analysis="main", lane="exact", fit=MODEL).decision
    if not decided.accepted:
        assert decided.code == "models-off"
        return None
    step = wire.ModelStep(beta=[0.0, STEEP])
    task = wire.Task(job=decided.job, task="step-0", payload=step.SerializeToString())
    sealed = node.desk.task(node.hospital.member, task, lambda *_: None)
    part = wire.ModelPart.FromString(sealed.message.reply.payload)
    # Pearson's sum is that of y^2 / mu, and mu is smallest by far where the age is largest.
    return math.sqrt(part.pearson * math.exp(STEEP * 88))


def test_coefficients_that_weigh_one_row(node: Node) -> None:
    policy = node.hospital.policy
    allowed = policy.disclosure.model_copy(update={"models": True})
    node.hospital.policy = policy.model_copy(update={"disclosure": allowed})
    try:
        assert read_off(node) == pytest.approx(node.table[TARGET]["marker"], rel=1e-4)
    finally:
        node.hospital.policy = policy
    assert read_off(node) is None

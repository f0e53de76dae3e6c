"""Noise at the gate: on the ledger in its order, told to the researcher, refused in one form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from contract import wire_pb2 as wire
from contract.cohorts import Cohort
from contract.errors import Refused
from contract.receipts import Receipt
from contract.statistics import forms
from contract.work import Statistic, StatisticsWork
from node.gate.gate import Admission, Sealed
from node.gate.policy import Policy, PrivacySettings, ProjectLimits
from tests.node.gate.conftest import Hospital

OLD = Cohort(variable="age", at_least=70)
ASK = (
    Statistic(kind="moments", variable="age", by="arm"),
    Statistic(kind="count", variable="arm"),
)


def columns(subjects: int) -> tuple[dict[str, Any], Any]:
    """Columns of so many old subjects among a hundred."""
    ages = np.full(100, 40.0)
    ages[:subjects] = 75.0
    return {"age": ages, "arm": np.arange(100) % 2}, ages >= 70


def admit(hospital: Hospital, release: str, **wishes: Any) -> Admission:
    work = StatisticsWork(ask=ASK, cohort=OLD, **wishes)
    return hospital.gate.admit(hospital.member, hospital.job(release, work=work))


def answer(hospital: Hospital, admission: Admission, subjects: int = 30) -> Sealed:
    """What the desk does."""
    gate, member = hospital.gate, hospital.member
    found = gate.noise(member, admission, ASK, lambda: columns(subjects))
    return gate.answer_statistics(member, admission, found.parts, 0.1, found)


def test_an_answer_with_noise_is_charged_before_it_and_says_what_it_cost(
    hospital: Hospital,
) -> None:
    release = hospital.release(100)
    sealed = answer(hospital, admit(hospital, release, epsilon=0.4))
    said = wire.StatisticsAnswer.FromString(sealed.message.reply.payload)
    assert said.account.spent == pytest.approx(0.4)
    assert said.account.remaining == pytest.approx(7.6, abs=0.01)
    parts = forms.decode(said)
    assert forms.fits(parts, ASK, hospital.world.project())
    assert [part.noise.epsilon for part in parts if part.noise] == pytest.approx(
        [0.4 * 2 / 3, 0.4 / 3]
    )
    assert [part.lane for part in parts] == ["dp", "dp"]
    kinds = [e.kind for e in hospital.entries() if e.kind in ("admitted", "spent", "answer")]
    assert kinds == ["admitted", "spent", "answer"]
    spent, left = hospital.entries("spent")[0].body, hospital.entries("answer")[0].body
    assert spent["job"] == left["job"]
    assert left["lane"] == "dp"
    roster = hospital.trusted.current_roster(hospital.now)
    assert Receipt.verify(sealed.message.reply.receipt, roster).lane == "dp"

    again = answer(hospital, admit(hospital, release, epsilon=0.4))
    said_again = wire.StatisticsAnswer.FromString(again.message.reply.payload)
    assert said_again.parts == said.parts
    assert said_again.account.spent == 0
    assert len(hospital.entries("spent")) == 1


def test_few_are_answered_as_many_are(hospital: Hospital) -> None:
    for subjects in (0, 1, 19, 20, 100):
        release = hospital.release(100, name=f"trial{subjects}")
        sealed = answer(hospital, admit(hospital, release, epsilon=0.05), subjects)
        said = wire.StatisticsAnswer.FromString(sealed.message.reply.payload)
        assert not any(part.withheld for part in said.parts)
    assert hospital.entries("withheld") == []


def test_an_account_that_is_empty_refuses_in_one_form(hospital: Hospital) -> None:
    hospital.policy = hospital.policy.model_copy(
        update={"projects": {"birth": ProjectLimits(epsilon=0.3)}}
    )
    failures = []
    for subjects in (0, 1, 50):
        release = hospital.release(100, name=f"trial{subjects}")
        admission = admit(hospital, release)
        with pytest.raises(Refused) as caught:
            answer(hospital, admission, subjects)
        failures.append((caught.value.code, caught.value.sentence))
    assert (
        failures == [("privacy-budget", "The privacy account doesn't allow this question now.")] * 3
    )
    assert [e.body["code"] for e in hospital.entries("withheld")] == ["privacy-budget"] * 3
    assert hospital.entries("spent") == []


def test_where_noise_is_not_allowed_a_question_is_refused_before_work(hospital: Hospital) -> None:
    hospital.policy = Policy(
        disclosure=hospital.policy.disclosure,
        privacy=PrivacySettings(allowed=False),
        jobs=hospital.policy.jobs,
    )
    with pytest.raises(Refused) as caught:
        admit(hospital, hospital.release(100))
    assert caught.value.code == "not-declared"
    hospital.policy = hospital.policy.model_copy(update={"privacy": PrivacySettings()})
    with pytest.raises(Refused) as caught:
        admit(hospital, hospital.release(100, name="other"), lane="exact")
    assert caught.value.code == "not-declared"

"""The steward's preview of a question that waits: the account before it and after."""

from __future__ import annotations

import re
from typing import Any

import pytest
from typer.testing import CliRunner

from contract.cohorts import Cohort
from contract.work import Statistic, StatisticsWork
from node.commands import inbox
from node.gate.account import Charge, Limits, Payer, PureRelease
from node.gate.policy import ApprovalSettings
from node.gate.rules import Waits
from tests.node.gate.conftest import Hospital

COUNT = Statistic(kind="count", variable="arm")


def shown(hospital: Hospital, **work: Any) -> str:
    """Let a question wait, and show it as the steward sees it."""
    hospital.policy = hospital.policy.model_copy(
        update={"approval": ApprovalSettings(hold_jobs=["statistics"])}
    )
    hospital.home.policy.write_text(
        'profile = "standard"\n[approval]\nhold_jobs = ["statistics"]\n'
    )
    asked = StatisticsWork(ask=(COUNT,), **work)
    release = hospital.release(100)
    with pytest.raises(Waits):
        hospital.gate.admit(hospital.member, hospital.job(release, work=asked))
    done = CliRunner().invoke(inbox.app, ["show", "1", "--home", str(hospital.home.root)])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_steward_sees_the_account_before_and_after_a_question(hospital: Hospital) -> None:
    payer = Payer(hospital.world.consortium, "birth")
    limits = Limits.of(hospital.policy, "birth")
    charge = Charge("q", PureRelease(1.0))
    hospital.gate.account.spend(payer, "", [charge], limits, hospital.now)
    text = shown(hospital, cohort=Cohort(variable="age", at_least=70), epsilon=0.25)
    assert re.search(r"account before +epsilon 1 of 8 by the project", text)
    assert re.search(r"account after +epsilon 1.25 of 8 by the project", text)
    assert len(hospital.gate.account.spends()) == 1


def test_a_steward_sees_that_a_question_needs_no_noise(hospital: Hospital) -> None:
    text = shown(hospital)
    assert re.search(r"noise +none", text)
    assert "account" not in text

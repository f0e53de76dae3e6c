"""A question of several steps stands on what stands now: its time, the policy, its one session."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from contract import wire_pb2 as wire
from contract.models import Model
from contract.terms import Term
from contract.work import Statistic
from tests.attacks.statistics.conftest import Node, empty_catalogue, node

__all__ = ["empty_catalogue", "node"]  # fixtures

MODEL = Model(family="linear", outcome="marker", terms=(Term.of("age"),))
ASK = (Statistic(kind="moments", variable="marker"), Statistic(kind="moments", variable="age"))


@pytest.fixture
def allowed(node: Node) -> Iterator[Node]:
    """The node, with models allowed and its clock and policy put back afterwards."""
    policy, now = node.hospital.policy, node.hospital.now
    disclosure = policy.disclosure.model_copy(update={"models": True})
    node.hospital.policy = policy.model_copy(update={"disclosure": disclosure})
    yield node
    node.hospital.policy, node.hospital.now = policy, now


def begin(node: Node) -> str:
    """Offer a model; return its job."""
    decided = node.message(*ASK, analysis="main", lane="exact", fit=MODEL).decision
    assert decided.accepted, decided.code
    return str(decided.job)


def step(node: Node, job: str, name: str = "step-0") -> wire.FromNode:
    """Take a step."""
    payload = wire.ModelStep().SerializeToString()
    task = wire.Task(job=job, task=name, payload=payload)
    return node.desk.task(node.hospital.member, task, lambda *_: None).message


def test_a_step_is_answered_and_the_same_again_is_the_same(allowed: Node) -> None:
    job = begin(allowed)
    first = step(allowed, job).reply
    assert wire.ModelPart.FromString(first.payload).n > 300
    assert step(allowed, job).reply == first


def test_a_step_says_as_a_count_does_how_many_are_not_in_the_analysis_set(
    allowed: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    gaps = [row | {"marker": ""} if i % 16 < 5 else row for i, row in enumerate(allowed.table)]
    monkeypatch.setattr(allowed, "release", allowed.freeze(gaps, "gaps"))
    said = allowed.ask(Statistic(kind="count", variable="marker"), analysis="main", lane="exact")
    assert said is not None
    counted = said[0].groups[""].missing
    assert counted > 0
    part = wire.ModelPart.FromString(step(allowed, begin(allowed)).reply.payload)
    assert (part.missing, part.missing % 10) == (counted, 0)  # in steps of the policy's cell


def test_after_the_jobs_end_no_step_is_answered(allowed: Node) -> None:
    job = begin(allowed)
    allowed.hospital.now += timedelta(days=2)
    assert step(allowed, job).failed.code == "expired"
    allowed.desk.stop_disallowed()
    assert job not in allowed.desk.steps.sessions


def test_another_policy_holds_for_what_was_let_in_under_the_old_one(allowed: Node) -> None:
    job = begin(allowed)
    policy = allowed.hospital.policy
    stricter = policy.disclosure.model_copy(update={"minimum_cohort": 60})
    allowed.hospital.policy = policy.model_copy(update={"disclosure": stricter})
    assert step(allowed, job).failed.code in ("not-declared", "policy")
    none = policy.disclosure.model_copy(update={"models": False})
    allowed.hospital.policy = policy.model_copy(update={"disclosure": none})
    assert step(allowed, job).failed.code == "models-off"
    allowed.hospital.policy = policy
    assert step(allowed, job).HasField("reply")


def test_a_restarted_node_leads_no_question_a_second_time(allowed: Node) -> None:
    job = begin(allowed)
    assert step(allowed, job).HasField("reply")
    envelope = dict(allowed.hospital.gate.asked.open_jobs(allowed.hospital.world.consortium))[job]
    allowed.restart()
    again = allowed.desk.offered(allowed.hospital.member, envelope)
    assert again is not None
    assert (again.message.decision.accepted, again.message.decision.code) == (False, "restarted")
    assert not step(allowed, job, "step-1").HasField("reply")


def test_a_closed_question_takes_no_step(allowed: Node) -> None:
    job = begin(allowed)
    allowed.desk.close(allowed.hospital.member, job)
    assert step(allowed, job).failed.code == "not-admitted"


def test_while_a_step_is_worked_on_another_is_refused(allowed: Node) -> None:
    job = begin(allowed)
    with allowed.desk.steps.sessions[job].lock:
        assert step(allowed, job).failed.code == "busy"

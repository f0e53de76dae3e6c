"""What waits for the steward: nothing is worked on or leaves before enough of them signed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from contract import wire_pb2 as wire
from contract.envelope import Envelope
from contract.errors import Refused
from contract.keys import SigningKey
from contract.records import Metrics, decode
from contract.statistics.answers import Part
from contract.statistics.summaries import Moments
from foundation import tensors
from node.catalog import schema
from node.gate import admitting
from node.gate.gate import Admission
from node.gate.inbox.decisions import REASONS, decide, output_subject
from node.gate.inbox.stewards import register
from node.gate.policy import ApprovalSettings, JobLimits, Policy, ProjectLimits, TrainingSettings
from node.gate.rules import TrainingOutput, Waits
from tests.contract.world import BUNDLE, NOW
from tests.node.gate.conftest import GRANT, SITE, Hospital


def policy(**approval: Any) -> Policy:
    return Policy(
        approval=ApprovalSettings(**approval),
        training=TrainingSettings(minimum_subjects=20),
        jobs=JobLimits(per_hour=100_000),
    )


def waits(hospital: Hospital, envelope: bytes) -> str:
    """Offer a job that must wait; return its digest."""
    with pytest.raises(Waits):
        hospital.gate.admit(hospital.member, envelope)
    return Envelope.parse(envelope).digest


def first_steward(hospital: Hospital) -> SigningKey:
    return hospital.world.stewards[SITE]


def sign(
    hospital: Hospital,
    subject: str,
    key: SigningKey | None = None,
    what: str = "job",
    place: tuple[str, str] | None = None,
    **more: Any,
) -> None:
    """Let a steward decide, as the command does."""
    key = key or first_steward(hospital)
    where = place or (hospital.member.consortium, SITE)
    envelope = decide(key, what, subject, where, hospital.now, **more)  # type: ignore[arg-type]
    hospital.gate.inbox.add_decision(subject, key.id, envelope, hospital.now)


def second_steward(hospital: Hospital, by: SigningKey | None = None) -> SigningKey:
    key = SigningKey.generate()
    envelope = register(by or first_steward(hospital), "jo", key.public, hospital.now)
    hospital.gate.inbox.add_steward(key.id, "jo", envelope, hospital.now)
    return key


# ---- jobs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["statistics", "training"])
def test_a_held_kind_waits_until_the_steward_signs_and_then_works(
    hospital: Hospital, kind: str
) -> None:
    hospital.policy = policy(hold_jobs=[kind])
    make = hospital.job if kind == "statistics" else hospital.training
    envelope = make(hospital.release())
    digest = waits(hospital, envelope)
    assert hospital.gate.ready(hospital.member) == []
    assert [(r.job, r.reasons) for r in hospital.gate.inbox.rows("waiting")] == [
        (digest, ("held",))
    ]
    sign(hospital, digest)
    assert hospital.gate.ready(hospital.member) == [envelope]
    admission = hospital.gate.admit(hospital.member, envelope)
    assert not admission.resumed
    assert [e.kind for e in hospital.entries() if e.kind in ("waiting", "admitted")] == [
        "waiting", "admitted",
    ]  # fmt: skip
    assert hospital.gate.inbox.rows("waiting") == []
    assert hospital.gate.admit(hospital.member, envelope).resumed


def test_the_other_kind_does_not_wait(hospital: Hospital) -> None:
    hospital.policy = policy(hold_jobs=["training"])
    assert hospital.gate.admit(hospital.member, hospital.job(hospital.release()))


def test_a_waiting_job_survives_a_restart_and_is_written_down_once(hospital: Hospital) -> None:
    hospital.policy = policy(hold_jobs=["statistics"])
    envelope = hospital.job(hospital.release())
    digest = waits(hospital, envelope)
    for _ in range(3):
        hospital.reopen()
        waits(hospital, envelope)
    assert len(hospital.entries("waiting")) == 1
    assert len(hospital.gate.inbox.rows()) == 1
    sign(hospital, digest)
    hospital.reopen()
    assert hospital.gate.admit(hospital.member, envelope)


def test_a_job_that_would_be_refused_is_refused_and_does_not_wait(hospital: Hospital) -> None:
    hospital.policy = policy(hold_jobs=["statistics", "training"])
    for envelope in (
        hospital.job(hospital.release(101, granted=False)),
        hospital.job(hospital.release(5)),
        hospital.training(hospital.release(), rate=2.0),
    ):
        with pytest.raises(Refused) as caught:
            hospital.gate.admit(hospital.member, envelope)
        assert not isinstance(caught.value, Waits)
    assert hospital.gate.inbox.rows() == []


def test_a_steward_can_not_let_in_what_is_outside_the_project(hospital: Hospital) -> None:
    hospital.policy = policy(hold_jobs=["training"])
    envelope = hospital.training(hospital.release(), rate=2.0)
    sign(hospital, Envelope.parse(envelope).digest)
    with pytest.raises(Refused) as caught:
        hospital.gate.admit(hospital.member, envelope)
    assert caught.value.code == "parameter"


def test_a_recipe_that_the_project_names_waits_until_it_is_approved_here(
    hospital: Hospital,
) -> None:
    with hospital.catalog.engine.begin() as connection:
        connection.execute(schema.recipes.delete())
    envelope = hospital.training(hospital.release())
    digest = waits(hospital, envelope)
    assert hospital.gate.inbox.rows("waiting")[0].reasons == ("recipe",)
    # The job's approval alone is not the recipe's: nothing of it is on this disk.
    sign(hospital, digest)
    waits(hospital, envelope)
    with hospital.catalog.engine.begin() as connection:
        connection.execute(
            schema.recipes.insert().values(
                bundle=BUNDLE, name="tabular", version="1", lock_json="[]", approved_at=NOW
            )
        )
    assert hospital.gate.ready(hospital.member) == [envelope]
    assert hospital.gate.admit(hospital.member, envelope)


def test_a_policy_that_holds_no_more_lets_what_waits_go_on(hospital: Hospital) -> None:
    hospital.policy = policy(hold_jobs=["statistics"])
    envelope = hospital.job(hospital.release())
    waits(hospital, envelope)
    before = hospital.gate.situation()
    hospital.policy = policy()
    assert hospital.gate.situation() != before
    assert hospital.gate.ready(hospital.member) == [envelope]


@pytest.mark.parametrize("code", [*REASONS])
def test_a_refusal_tells_a_reason_of_the_list_and_keeps_the_stewards_words(
    hospital: Hospital, code: str
) -> None:
    hospital.policy = policy(hold_jobs=["statistics"])
    envelope = hospital.job(hospital.release())
    sign(hospital, waits(hospital, envelope), code=code, note="Dr Mayer says no")
    with pytest.raises(Refused) as caught:
        hospital.gate.admit(hospital.member, envelope)
    assert (caught.value.code, caught.value.sentence) == (f"steward-{code}", REASONS[code])
    assert hospital.entries("refused")[-1].body["code"] == f"steward-{code}"
    assert "Mayer" not in json.dumps([e.body for e in hospital.entries()])
    assert hospital.gate.inbox.rows("waiting") == []
    # A coordinator that didn't hear it asks again and hears the same.
    hospital.reopen()
    with pytest.raises(Refused) as caught:
        hospital.gate.admit(hospital.member, envelope)
    assert caught.value.code == f"steward-{code}"
    assert len(hospital.entries("refused")) == 1


def test_words_are_told_when_the_steward_says_so(hospital: Hospital) -> None:
    hospital.policy = policy(hold_jobs=["statistics"])
    envelope = hospital.job(hospital.release())
    note = "Ask under version 2."
    sign(hospital, waits(hospital, envelope), code="declined", note=note, tell=True)
    with pytest.raises(Refused) as caught:
        hospital.gate.admit(hospital.member, envelope)
    assert caught.value.sentence == note


def test_a_job_that_is_closed_waits_no_more(hospital: Hospital) -> None:
    hospital.policy = policy(hold_jobs=["statistics"])
    envelope = hospital.job(hospital.release())
    digest = waits(hospital, envelope)
    hospital.gate.asked.close(hospital.member.consortium, digest, hospital.now)
    assert [r.state for r in hospital.gate.inbox.rows()] == ["over"]
    sign(hospital, digest)
    with pytest.raises(Refused) as caught:
        hospital.gate.admit(hospital.member, envelope)
    assert caught.value.code == "replay"


def test_an_expired_job_is_not_let_in_whoever_signs(hospital: Hospital) -> None:
    hospital.policy = policy(hold_jobs=["statistics"])
    envelope = hospital.job(hospital.release())
    digest = waits(hospital, envelope)
    hospital.now += timedelta(hours=2)
    sign(hospital, digest)
    with pytest.raises(Refused) as caught:
        hospital.gate.admit(hospital.member, envelope)
    assert caught.value.code == "not-believed"


def test_a_full_inbox_refuses_instead_of_growing(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admitting, "MAX_WAITING", 2)
    hospital.policy = policy(hold_jobs=["statistics"])
    release = hospital.release()
    envelopes = [hospital.job(release) for _ in range(3)]
    for envelope in envelopes[:2]:
        waits(hospital, envelope)
    with pytest.raises(Refused) as caught:
        hospital.gate.admit(hospital.member, envelopes[2])
    assert caught.value.code == "inbox-full"
    assert len(hospital.gate.inbox.rows()) == 2


def test_what_is_said_of_a_waiting_job_is_the_same_whatever_the_patients_are(
    hospital: Hospital,
) -> None:
    hospital.policy = policy(hold_jobs=["statistics"])
    said = set()
    for subjects in (20, 21, 5000):
        digest = waits(hospital, hospital.job(hospital.release(subjects)))
        message = hospital.gate.waiting(hospital.member, digest).message
        assert message.decision.waiting
        assert not message.decision.accepted
        message.decision.job = ""
        said.add(message.SerializeToString(deterministic=True))
    assert len(said) == 1


# ---- whose signature counts ----------------------------------------------------------------------


def forged(h: Hospital, subject: str) -> None:
    sign(h, subject, SigningKey.generate())


def by_another_hospitals_steward(h: Hospital, subject: str) -> None:
    sign(h, subject, h.world.stewards["minnesota"])


def for_another_job(h: Hospital, subject: str) -> None:
    key = first_steward(h)
    envelope = decide(key, "job", "0" * 64, (h.member.consortium, SITE), h.now)
    h.gate.inbox.add_decision(subject, key.id, envelope, h.now)


def for_another_site(h: Hospital, subject: str) -> None:
    sign(h, subject, place=(h.member.consortium, "minnesota"))


def for_another_consortium(h: Hospital, subject: str) -> None:
    sign(h, subject, place=("stroke", SITE))


def for_an_output(h: Hospital, subject: str) -> None:
    sign(h, subject, what="output")


def changed_after_signing(h: Hospital, subject: str) -> None:
    key = first_steward(h)
    envelope = decide(key, "job", subject, (h.member.consortium, SITE), h.now, code="risk")
    changed = json.loads(envelope)
    other = Envelope.seal("x", b"")
    body = json.loads(Envelope.parse(envelope).body)
    body |= {"verdict": "approve", "code": ""}
    changed["payload"] = other.seal("x", json.dumps(body).encode()).payload
    h.gate.inbox.add_decision(subject, key.id, json.dumps(changed).encode(), h.now)


def by_a_steward_whom_nobody_registered(h: Hospital, subject: str) -> None:
    sign(h, subject, second_steward(h, by=SigningKey.generate()))


def by_a_removed_steward(h: Hospital, subject: str) -> None:
    second = second_steward(h)
    sign(h, subject, second)
    h.gate.inbox.remove_steward("jo", h.now)


def nonsense(h: Hospital, subject: str) -> None:
    h.gate.inbox.add_decision(subject, "0" * 64, b"\xff", h.now)


@pytest.mark.parametrize(
    "make",
    [
        forged, by_another_hospitals_steward, for_another_job, for_another_site,
        for_another_consortium, for_an_output, changed_after_signing,
        by_a_steward_whom_nobody_registered, by_a_removed_steward, nonsense,
    ],
    ids=lambda make: make.__name__,
)  # fmt: skip
def test_a_decision_that_does_not_hold_counts_for_nothing(
    hospital: Hospital, make: Callable[[Hospital, str], None]
) -> None:
    hospital.policy = policy(hold_jobs=["statistics"])
    envelope = hospital.job(hospital.release())
    digest = waits(hospital, envelope)
    make(hospital, digest)
    waits(hospital, envelope)
    sign(hospital, digest)  # and the true one counts beside it
    assert hospital.gate.admit(hospital.member, envelope)


def test_two_people_are_two_keys_and_one_person_twice_is_one(hospital: Hospital) -> None:
    hospital.policy = policy(hold_jobs=["statistics"], people=2)
    second = second_steward(hospital)
    envelope = hospital.job(hospital.release())
    digest = waits(hospital, envelope)
    sign(hospital, digest)
    waits(hospital, envelope)
    hospital.now += timedelta(minutes=1)
    sign(hospital, digest)  # the same person, again
    waits(hospital, envelope)
    # The same person's decision under another row's name is still one key.
    key = first_steward(hospital)
    again = decide(key, "job", digest, (hospital.member.consortium, SITE), hospital.now)
    hospital.gate.inbox.add_decision(digest, second.id, again, hospital.now)
    waits(hospital, envelope)
    sign(hospital, digest, second)
    assert hospital.gate.admit(hospital.member, envelope)


def test_one_of_two_people_is_enough_to_refuse(hospital: Hospital) -> None:
    hospital.policy = policy(hold_jobs=["statistics"], people=2)
    second = second_steward(hospital)
    envelope = hospital.job(hospital.release())
    digest = waits(hospital, envelope)
    sign(hospital, digest)
    sign(hospital, digest, second, code="risk")
    with pytest.raises(Refused) as caught:
        hospital.gate.admit(hospital.member, envelope)
    assert caught.value.code == "steward-risk"


# ---- outputs -------------------------------------------------------------------------------------

PARTS = [Part({"": Moments(100, 0, 50.0, 10.0)})]


def answer(hospital: Hospital, admission: Admission) -> wire.FromNode:
    gate = hospital.gate
    return gate.answer_statistics(hospital.member, admission, PARTS, 0.1).message


def held_answer(hospital: Hospital) -> tuple[Admission, Any]:
    admission = hospital.gate.admit(hospital.member, hospital.job(hospital.release()))
    message = answer(hospital, admission)
    assert message.decision.waiting
    row = hospital.gate.inbox.held(admission.digest, "statistics")
    assert row is not None
    assert row.payload is not None
    return admission, row


def test_a_held_answer_leaves_only_when_it_is_released_and_then_as_it_was(
    hospital: Hospital,
) -> None:
    hospital.policy = policy(hold_outputs=["statistics"])
    admission, row = held_answer(hospital)
    assert hospital.entries("answer") == []
    assert hospital.entries("held")[-1].body["output"] == row.subject
    assert hospital.gate.again(admission.digest, "statistics") is None
    assert hospital.gate.decided_outputs(hospital.member) == []
    waiting = hospital.gate.settle_held(hospital.member, admission, row)
    assert waiting.message.decision.waiting
    sign(hospital, row.subject, what="output")
    [found] = hospital.gate.decided_outputs(hospital.member)
    sealed = hospital.gate.settle_held(hospital.member, admission, found)
    assert sealed.message.reply.payload == row.payload
    assert len(hospital.entries("answer")) == 1
    assert hospital.entries("answer")[0].body["stewards"] == [first_steward(hospital).id]
    # Asked again, after a restart too, it is the same answer and no second entry.
    hospital.reopen()
    again = hospital.gate.again(admission.digest, "statistics")
    assert again is not None
    assert again.message == sealed.message
    assert len(hospital.entries("answer")) == 1
    after = hospital.gate.inbox.held(admission.digest, "statistics")
    assert after is not None
    assert after.payload is None


def test_a_held_answer_that_is_refused_never_leaves(hospital: Hospital) -> None:
    hospital.policy = policy(hold_outputs=["statistics"])
    admission, row = held_answer(hospital)
    sign(hospital, row.subject, what="output", code="output", note="row 3 is one man")
    for _ in range(2):
        found = hospital.gate.inbox.held(admission.digest, "statistics")
        assert found is not None
        sealed = hospital.gate.settle_held(hospital.member, admission, found)
        assert sealed.message.failed.code == "steward-output"
        assert b"one man" not in sealed.message.SerializeToString()
    assert len(hospital.entries("withheld")) == 1
    assert hospital.entries("answer") == []
    assert hospital.gate.inbox.held(admission.digest, "statistics").payload is None  # type: ignore[union-attr]


def test_the_approval_of_a_job_releases_no_answer_of_it(hospital: Hospital) -> None:
    hospital.policy = policy(hold_jobs=["statistics"], hold_outputs=["statistics"])
    envelope = hospital.job(hospital.release())
    sign(hospital, waits(hospital, envelope))
    admission = hospital.gate.admit(hospital.member, envelope)
    assert answer(hospital, admission).decision.waiting
    row = hospital.gate.inbox.held(admission.digest, "statistics")
    assert row is not None
    sign(hospital, row.subject, what="job")
    sealed = hospital.gate.settle_held(hospital.member, admission, row)
    assert sealed.message.decision.waiting


def test_one_answers_release_is_not_that_of_another_with_the_same_bytes(
    hospital: Hospital,
) -> None:
    hospital.policy = policy(hold_outputs=["statistics"])
    _, row = held_answer(hospital)
    other, same = held_answer(hospital)
    assert row.payload == same.payload
    assert row.subject != same.subject
    sign(hospital, row.subject, what="output")
    sealed = hospital.gate.settle_held(hospital.member, other, same)
    assert sealed.message.decision.waiting


def test_two_people_release_an_answer_together(hospital: Hospital) -> None:
    hospital.policy = policy(hold_outputs=["statistics"], people=2)
    second = second_steward(hospital)
    admission, row = held_answer(hospital)
    for _ in range(2):
        sign(hospital, row.subject, what="output")
        sealed = hospital.gate.settle_held(hospital.member, admission, row)
        assert sealed.message.decision.waiting
    sign(hospital, row.subject, second, what="output")
    assert hospital.gate.settle_held(hospital.member, admission, row).message.reply.payload


@pytest.mark.parametrize(
    ("held", "of_project", "waiting"),
    [
        ([], None, False), ([], True, True), (["statistics"], None, True),
        (["statistics"], False, False), (["training"], None, False),
    ],
)  # fmt: skip
def test_a_project_holds_its_answers_or_not_whatever_the_policy_does_for_others(
    hospital: Hospital, held: list[str], of_project: bool | None, waiting: bool
) -> None:
    limits = {"birth": ProjectLimits(hold_outputs=of_project)}
    hospital.policy = policy(hold_outputs=held).model_copy(update={"projects": limits})
    admission = hospital.gate.admit(hospital.member, hospital.job(hospital.release()))
    assert answer(hospital, admission).decision.waiting is waiting


def test_a_job_approved_with_its_answers_held_holds_them(hospital: Hospital) -> None:
    hospital.policy = policy(hold_jobs=["statistics"])
    envelope = hospital.job(hospital.release())
    sign(hospital, waits(hospital, envelope), hold_outputs=True)
    admission = hospital.gate.admit(hospital.member, envelope)
    assert answer(hospital, admission).decision.waiting


def test_a_steward_can_hold_the_answers_of_a_job_that_is_under_way(hospital: Hospital) -> None:
    admission = hospital.gate.admit(hospital.member, hospital.job(hospital.release()))
    stranger = SigningKey.generate()
    sign(hospital, admission.digest, stranger, hold_outputs=True)
    assert not answer(hospital, admission).decision.waiting
    other = hospital.gate.admit(hospital.member, hospital.job(hospital.release()))
    hospital.policy = policy(people=2)  # one is enough to hold
    sign(hospital, other.digest, hold_outputs=True)
    assert answer(hospital, other).decision.waiting


def test_a_crash_while_an_answer_is_released_neither_loses_nor_doubles_it(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital.policy = policy(hold_outputs=["statistics"])
    admission, row = held_answer(hospital)
    sign(hospital, row.subject, what="output")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(type(hospital.gate.inbox), "finish", killed)
        hospital.gate.settle_held(hospital.member, admission, row)
    hospital.reopen()
    [left] = hospital.gate.decided_outputs(hospital.member)
    sealed = hospital.gate.settle_held(hospital.member, admission, left)
    assert sealed.message.reply.payload == row.payload
    assert len(hospital.entries("answer")) == 1
    assert hospital.gate.decided_outputs(hospital.member) == []


def test_an_answer_is_not_released_once_its_project_was_withdrawn(hospital: Hospital) -> None:
    hospital.policy = policy(hold_outputs=["statistics"])
    admission, row = held_answer(hospital)
    sign(hospital, row.subject, what="output")
    hospital.gate.asked.approve_project(hospital.world.consortium, "birth", None, hospital.now)
    with pytest.raises(Refused) as caught:
        hospital.gate.settle_held(hospital.member, admission, row)
    assert caught.value.code == "project-not-approved"
    assert hospital.entries("answer") == []


def test_a_held_reply_of_a_recipe_leaves_with_its_tensors_once_released(
    hospital: Hospital,
) -> None:
    hospital.policy = policy(hold_outputs=["training"])
    admission = hospital.gate.admit(hospital.member, hospital.training(hospital.release()))
    encoded = tensors.encode({"metrics": Metrics({"loss": 0.5, "num-examples": 100})})
    output = TrainingOutput("evaluate", decode(encoded.message, b""), {}, GRANT)
    gate, member = hospital.gate, hospital.member
    sealed = gate.answer_task(member, admission, "000001", output, encoded.message, b"", 0.1)
    assert sealed.message.decision.waiting
    row = gate.inbox.held(admission.digest, "000001")
    assert row is not None
    assert row.subject == output_subject(admission.digest, "000001", row.payload or b"")
    sign(hospital, row.subject, what="output")
    sealed = gate.settle_held(member, admission, row)
    assert sealed.message.reply.task == "000001"
    assert wire.RecordDict.FromString(sealed.message.reply.payload) == encoded.message

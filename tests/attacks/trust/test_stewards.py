"""Somebody with a steward's key who wants more than that steward may do alone."""

from __future__ import annotations

import pytest

from contract.envelope import Envelope
from contract.keys import SigningKey
from node.gate.inbox.decisions import Verdict, What, decide, verdict
from node.gate.policy import ApprovalSettings, DisclosureSettings, JobLimits, Policy
from tests.attacks.trust.conftest import Target
from tests.node.gate.conftest import SITE

ATTACKS = (
    (
        "Stolen steward's key approves what waits",
        "Clark and Wilson 1987, separation of duty",
        "two different stewards' keys (approval.people)",
        "test_one_stolen_key_approves_nothing_where_two_people_must",
    ),
    (
        "One approval counted twice",
        "CWE-837, improper enforcement of a single, unique action",
        "a key counts once, under the id that its own bytes give",
        "test_one_person_who_signs_twice_is_one_person",
    ),
    (
        "An approval written into the database",
        "CWE-345, insufficient verification of data authenticity",
        "the gate checks a steward's signature whenever it acts on a decision",
        "test_a_row_in_the_database_approves_nothing",
    ),
)


def policy(people: int) -> Policy:
    return Policy(
        disclosure=DisclosureSettings(minimum_cohort=20, minimum_cell=10),
        approval=ApprovalSettings(hold_jobs=["statistics"], people=people),
        jobs=JobLimits(per_hour=1000),
    )


def sign(target: Target, job: bytes, key: SigningKey, row: str = "") -> None:
    """Put a decision into the inbox, perhaps under another's row."""
    hospital = target.hospital
    subject = Envelope.parse(job).digest
    envelope = decide(key, "job", subject, (target.world.consortium, SITE), hospital.now)
    hospital.gate.inbox.add_decision(subject, row or key.id, envelope, hospital.now)


def test_one_stolen_key_approves_nothing_where_two_people_must(target: Target) -> None:
    thief = target.world.stewards[SITE]
    for people, outcome in ((1, ""), (2, "waiting")):
        target.hospital.policy = policy(people)
        job = target.job_by(target.world.researchers["ana"])
        assert target.ask(job) == "waiting"
        sign(target, job, thief)
        assert target.ask(job) == outcome


def test_one_person_who_signs_twice_is_one_person(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = target.world.stewards[SITE]
    target.hospital.policy = policy(2)

    def signed_twice() -> bytes:
        job = target.job_by(target.world.researchers["ana"])
        assert target.ask(job) == "waiting"
        sign(target, job, person)
        sign(target, job, person, row="f" * 64)
        return job

    with monkeypatch.context() as off:
        # Off: approvals are counted by rows, not by keys.
        off.setattr("node.gate.deciding.verdict", _counting_rows)
        assert target.ask(signed_twice()) == ""

    assert target.ask(signed_twice()) == "waiting"


def _counting_rows(
    envelopes: list[bytes],
    allowed: frozenset[str],
    what: What,
    subject: str,
    place: tuple[str, str],
    people: int,
) -> Verdict | None:
    found = verdict(envelopes, allowed, what, subject, place, 1)
    return found if len(envelopes) >= people else None


def test_a_row_in_the_database_approves_nothing(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can write to the catalogue, and has no steward's key."""
    target.hospital.policy = policy(1)

    def written() -> bytes:
        job = target.job_by(target.world.researchers["ana"])
        assert target.ask(job) == "waiting"
        sign(target, job, target.mallory)
        return job

    with monkeypatch.context() as off:
        off.setattr("node.gate.deciding.allowed_keys", lambda *_: frozenset({target.mallory.id}))
        assert target.ask(written()) == ""

    assert target.ask(written()) == "waiting"

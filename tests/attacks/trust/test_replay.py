"""The same job once more, after a restart or a restored backup; and jobs whose ground is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from contract.errors import Refused
from contract.keys import SigningKey
from contract.statistics.answers import Part
from contract.statistics.summaries import Moments
from contract.trust import TrustedDocuments
from node.catalog.asked import Asked
from node.gate import admitting
from node.gate.before_work import SignerOnTheRoster
from node.gate.gate import Admission
from tests.attacks.trust.conftest import Target
from tests.contract.world import members

ATTACKS = (
    (
        "Replay after a restart",
        "Syverson 1994, A Taxonomy of Replay Attacks",
        "nonces are kept in the catalogue for ever",
        "test_a_job_is_not_answered_again_after_a_restart",
    ),
    (
        "Replay after a restored catalogue",
        "Matetic et al. 2017, ROTE: Rollback Protection for Trusted Execution",
        "the ledger remembers what was answered",
        "test_a_job_is_not_answered_again_after_the_catalogue_was_restored",
    ),
    (
        "Removed in mid-round",
        "Samuel, Mathewson, Cappos and Dingledine 2010, Survivable Key Compromise",
        "a project ends with its members; each reply is checked again",
        "test_a_researcher_who_is_removed_gets_no_further_reply",
    ),
    (
        "A stolen key that is replaced in mid-round",
        "Samuel, Mathewson, Cappos and Dingledine 2010, Survivable Key Compromise",
        "the key that signed a job is looked up again before each reply",
        "test_a_key_that_is_replaced_gets_no_further_reply",
    ),
)
PARTS = [Part({"": Moments(100, 0, 50.0, 10.0)})]


def answered(target: Target) -> bytes:
    """A job that was answered and is over."""
    gate, member = target.hospital.gate, target.hospital.member
    envelope = target.job_by(target.world.researchers["ana"])
    admission = target.admit(envelope)
    gate.answer_statistics(member, admission, PARTS, 0.1)
    gate.asked.close(member.consortium, admission.digest, target.hospital.now)
    return envelope


def test_a_job_is_not_answered_again_after_a_restart(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    envelope = answered(target)
    target.restart()

    with monkeypatch.context() as off:
        off.setattr(Asked, "seen_nonce", lambda *_: None)
        off.setattr(Asked, "add_job", lambda *_: None)
        assert target.ask(envelope) == ""

    target.restart()
    assert target.ask(envelope) == "replay"


def test_a_job_is_not_answered_again_after_the_catalogue_was_restored(
    target: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever can restore the database, but not the ledger, wants a second answer."""
    hospital = target.hospital
    target.admit(target.job_by(target.world.researchers["ana"]))
    backup = tmp_path / "backup"
    hospital.catalog.engine.dispose()
    backup.mkdir()
    for path in hospital.home.root.glob("catalogue.db*"):
        shutil.copy(path, backup)
    envelope = answered(target)

    def restore() -> None:
        hospital.catalog.engine.dispose()
        for path in hospital.home.root.glob("catalogue.db*"):
            path.unlink()
        for path in backup.iterdir():
            shutil.copy(path, hospital.home.root)
        target.restart()

    with monkeypatch.context() as off:
        off.setattr(admitting.remembering, "remember", lambda *_: 0)
        restore()
        assert target.ask(envelope) == ""

    restore()
    assert target.ask(envelope) == "replay"
    # A job that nobody answered yet is worked on as ever.
    assert target.ask(target.job_by(target.world.researchers["ana"])) == ""


def still_allowed(target: Target, admission: Admission) -> str:
    """What is checked before each reply of a round: empty, or why no more."""
    try:
        target.hospital.gate.check_still_allowed(target.hospital.member, admission)
    except Refused as refusal:
        return refusal.code
    return ""


def test_a_researcher_who_is_removed_gets_no_further_reply(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = target.world
    admission = target.admit(target.hospital.training(target.hospital.release()))
    assert still_allowed(target, admission) == ""
    left = {n: k for n, k in world.researchers.items() if n != "ana"}

    with monkeypatch.context() as off:
        off.setattr(TrustedDocuments, "_forget_projects_of_former_stewards", lambda _: None)
        off.setattr(SignerOnTheRoster, "check", lambda *_: None)
        assert target.hear(world.signed_roster(2, researchers=members(left))) == []
        assert still_allowed(target, admission) == ""

    assert target.hear(world.signed_roster(3, researchers=members(left))) == []
    assert still_allowed(target, admission) in ("revoked", "project-not-approved")


def test_a_key_that_is_replaced_gets_no_further_reply(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = target.world
    admission = target.admit(target.hospital.training(target.hospital.release()))
    keys = world.researchers | {"ana": SigningKey.generate()}
    assert target.hear(world.signed_roster(2, researchers=members(keys))) == []

    with monkeypatch.context() as off:
        off.setattr(SignerOnTheRoster, "check", lambda *_: None)
        assert still_allowed(target, admission) == ""

    assert still_allowed(target, admission) == "revoked"

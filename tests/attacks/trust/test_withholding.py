"""A coordinator that keeps documents to itself, mixes old with new, or keeps one hospital apart."""

from __future__ import annotations

from datetime import timedelta

import pytest

from contract.keys import SigningKey
from contract.trust import TrustedDocuments
from node.gate.policy import DisclosureSettings, JobLimits, Policy
from tests.attacks.trust.conftest import Target
from tests.contract.world import NOW, YEAR, members
from tests.node.gate.conftest import GRANT, SITE

TUF = "TUF specification 1.0, 1.5.2 (freeze, mix-and-match)"
ATTACKS = (
    (
        "Withheld revocation",
        TUF,
        "a roster is believed for a bounded time (its expiry, and jobs.roster_days)",
        "test_a_revocation_can_be_withheld_for_so_long_only",
    ),
    (
        "One hospital kept apart",
        TUF,
        "a project names the roster that it was made under",
        "test_a_hospital_that_is_kept_on_an_old_roster_stops_when_it_hears_of_a_newer_one",
    ),
    (
        "One hospital kept apart, seen by a colleague's question",
        "Laurie, Langley and Kasper 2013, RFC 6962 (gossip)",
        "a job names the roster that its researcher knows",
        "test_an_honest_question_shows_a_hospital_that_it_is_kept_apart",
    ),
    (
        "An older project with a newer roster",
        TUF,
        "a roster names the versions of the projects in force",
        "test_an_older_project_is_not_mixed_with_a_newer_roster",
    ),
)


def policy(days: int) -> Policy:
    return Policy(
        disclosure=DisclosureSettings(minimum_cohort=20, minimum_cell=10),
        jobs=JobLimits(roster_days=days),
    )


def test_a_revocation_can_be_withheld_for_so_long_only(target: Target) -> None:
    """Roster 2 takes ana out; the coordinator doesn't bring it."""
    ana = target.world.researchers["ana"]
    target.hospital.now = NOW + timedelta(days=60)

    target.hospital.policy = policy(366)  # off: only the roster's own expiry, in a year
    assert target.ask(target.job_by(ana)) == ""

    target.hospital.policy = policy(45)
    assert target.ask(target.job_by(ana)) == "roster-old"
    target.hospital.policy = policy(366)
    target.hospital.now = NOW + YEAR
    assert target.ask(target.job_by(ana)) == "no-roster"


def replaced(target: Target) -> tuple[bytes, bytes]:
    """Roster 2 with a new key for ana, whose old one was stolen; project 2, made under it."""
    world = target.world
    keys = world.researchers | {"ana": SigningKey.generate()}
    roster = world.signed_roster(2, researchers=members(keys))
    return roster, world.signed_project(2, roster_version=2, recipes=(GRANT,))


def test_a_hospital_that_is_kept_on_an_old_roster_stops_when_it_hears_of_a_newer_one(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thief of ana's old key wants answers under the new project."""
    world, thief = target.world, target.world.researchers["ana"]
    roster, project = replaced(target)
    asked = target.hospital.gate.asked
    asked.put_project(world.consortium, "birth", 2, project)

    with monkeypatch.context() as off, target.fooled():
        off.setattr(TrustedDocuments, "_check_time", lambda *_: None)
        target.hospital.settle(project)  # our steward approved version 2
        assert target.ask(target.job_by(thief, project_version=2)) == ""

    assert "made under a roster of version 2" in target.hear(b"", project)[0]
    assert target.ask(target.job_by(thief, project_version=2)) == "no-roster"
    assert target.ask(target.job_by(thief)) == "no-roster"  # not under the old one either
    assert target.hear(roster, project) == []
    assert target.ask(target.job_by(thief, project_version=2)) == "bad-signature"


def test_an_honest_question_shows_a_hospital_that_it_is_kept_apart(target: Target) -> None:
    ana = target.world.researchers["ana"]
    # A job that doesn't say what its researcher knows is answered under the old roster.
    assert target.ask(target.job_by(ana)) == ""
    # One that does is not: this hospital learns that a newer roster is kept from it.
    assert target.ask(target.job_by(ana, roster_version=2)) == "not-believed"
    refusal = target.hospital.entries("refused")[-1]
    assert refusal.body["code"] == "not-believed"


def test_an_older_project_is_not_mixed_with_a_newer_roster(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has no memory (a researcher, a node that joined anew) is shown an old project."""
    world = target.world
    roster = world.signed_roster(2, projects={"birth": 2})
    old = world.signed_project(1, researchers=("ana", "ben"))

    with monkeypatch.context() as off:
        off.setattr(TrustedDocuments, "_check_time", lambda *_: None)
        fooled = world.view(SITE)
        fooled.update_roster(roster, NOW)
        assert fooled.update_project(old, NOW)

    assert target.hear(roster) == []
    assert "older than version 2" in target.hear(b"", old)[0]
    assert target.hospital.trusted.projects == {}

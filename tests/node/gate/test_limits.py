"""What one project may do here, and when: each limit stops its own kind of job and no other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from contract.errors import Refused
from contract.work import Statistic, StatisticsWork
from node.gate.limits import LIMITS, is_open
from node.gate.policy import JobLimits, Policy, ProjectLimits, TrainingSettings
from tests.contract.world import BUNDLE, NOW
from tests.node.gate.conftest import GRANT, Hospital


def limited(hospital: Hospital, **limits: Any) -> None:
    hospital.policy = Policy(
        training=TrainingSettings(minimum_subjects=20),
        jobs=JobLimits(per_hour=100_000),
        projects={"birth": ProjectLimits(**limits)},
    )


def asking(*statistics: tuple[str, str, str | None]) -> StatisticsWork:
    return StatisticsWork(ask=tuple(Statistic(kind=k, variable=v, by=b) for k, v, b in statistics))


def code(hospital: Hospital, envelope: bytes) -> str:
    """Why a job is refused; empty when it is let in."""
    try:
        hospital.gate.admit(hospital.member, envelope)
    except Refused as refusal:
        assert refusal.sentence.endswith(".")
        assert not any(c.isdigit() for c in refusal.sentence)
        return refusal.code
    return ""


AGE = asking(("moments", "age", None))
BY_ARM = asking(("moments", "age", "arm"))


@pytest.mark.parametrize(
    ("limits", "work", "expected"),
    [
        ({"kinds": ["training"]}, AGE, "limit-kind"),
        ({"kinds": ["statistics"]}, AGE, ""),
        ({"researchers": ["ben"]}, AGE, "limit-researcher"),
        ({"researchers": ["ana", "ben"]}, AGE, ""),
        ({"purposes": ["marketing"]}, AGE, "limit-purpose"),
        ({"purposes": ["research"]}, AGE, ""),
        ({"legal_bases": ["GDPR 6(1)f"]}, AGE, "limit-legal-basis"),
        ({"legal_bases": ["consent"]}, AGE, ""),
        ({"jurisdictions": ["DE", "FR"]}, AGE, "limit-jurisdiction"),  # the project names none
        ({"variables": ["arm"]}, AGE, "limit-variable"),
        ({"variables": ["age"]}, AGE, ""),
        ({"variables": ["age"]}, BY_ARM, "limit-variable"),
        ({"variables": ["age", "arm"]}, BY_ARM, ""),
        ({"recipes": ["0" * 64]}, AGE, ""),  # of recipes only
    ],
)
def test_a_limit_stops_its_own_kind_of_question(
    hospital: Hospital, limits: dict[str, Any], work: StatisticsWork, expected: str
) -> None:
    release = hospital.release()
    limited(hospital, **limits)
    assert code(hospital, hospital.job(release, work=work)) == expected


@pytest.mark.parametrize(
    ("reaches", "expected"),
    [(("DE",), ""), (("DE", "US"), "limit-jurisdiction"), ((), "limit-jurisdiction")],
)
def test_every_jurisdiction_that_a_project_reaches_must_be_allowed(
    hospital: Hospital, reaches: tuple[str, ...], expected: str
) -> None:
    hospital.settle(hospital.world.signed_project(2, jurisdictions=reaches, recipes=(GRANT,)))
    limited(hospital, jurisdictions=["DE", "FR"])
    assert code(hospital, hospital.job(hospital.release(), project_version=2)) == expected


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"recipes": ["0" * 64]}, "limit-recipe"),
        ({"recipes": [BUNDLE]}, ""),
        ({"variables": ["age"]}, "limit-variable"),  # a recipe sees the whole release
        ({"variables": ["age", "arm"]}, ""),
        ({"kinds": ["statistics"]}, "limit-kind"),
    ],
)
def test_a_limit_stops_its_own_kind_of_training(
    hospital: Hospital, limits: dict[str, Any], expected: str
) -> None:
    release = hospital.release()
    limited(hospital, **limits)
    assert code(hospital, hospital.training(release)) == expected


def test_a_limit_of_one_project_is_not_anothers(hospital: Hospital) -> None:
    hospital.policy = Policy(projects={"death": ProjectLimits(researchers=["ben"])})
    assert code(hospital, hospital.job(hospital.release())) == ""


def test_the_projects_rate_counts_all_its_researchers_and_forgets_after_an_hour(
    hospital: Hospital,
) -> None:
    hospital.settle(hospital.world.signed_project(2, researchers=("ana", "ben")))
    release = hospital.release()
    limited(hospital, per_hour=2)

    def ask(who: str) -> str:
        return code(hospital, hospital.job(release, project_version=2, researcher=who))

    assert [ask("ana"), ask("ben"), ask("ana"), ask("ben")] == ["", "", *["limit-rate"] * 2]
    hospital.now += timedelta(hours=1, seconds=1)
    assert ask("ben") == ""


def test_a_limit_that_comes_later_stops_a_job_that_is_under_way(hospital: Hospital) -> None:
    admission = hospital.gate.admit(hospital.member, hospital.training(hospital.release()))
    hospital.gate.check_still_allowed(hospital.member, admission)
    limited(hospital, researchers=["ben"])
    with pytest.raises(Refused) as caught:
        hospital.gate.check_still_allowed(hospital.member, admission)
    assert caught.value.code == "limit-researcher"


def test_every_limit_of_the_policy_is_checked_somewhere() -> None:
    checked = {
        "kinds": "kind", "researchers": "researcher", "purposes": "purpose",
        "legal_bases": "legal-basis", "jurisdictions": "jurisdiction", "variables": "variable",
        "recipes": "recipe", "per_hour": "rate",
    }  # fmt: skip
    assert set(checked.values()) == set(LIMITS)
    elsewhere = {"hours", "epsilon", "lanes", "hold_outputs"}
    assert set(ProjectLimits.model_fields) == set(checked) | elsewhere


# ---- hours ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["jobs", "project"])
def test_no_new_job_is_let_in_after_hours_and_one_that_was_goes_on(
    hospital: Hospital, where: str
) -> None:
    opening = NOW.astimezone().strftime("%H:%M")
    closing = (NOW + timedelta(hours=1)).astimezone().strftime("%H:%M")
    hours = f"{opening}-{closing}"
    hospital.policy = Policy(
        jobs=JobLimits(hours=hours if where == "jobs" else ""),
        projects={"birth": ProjectLimits(hours=hours if where == "project" else "")},
    )
    release = hospital.release()
    long = {"releases": {"kentucky": release}, "expires_at": NOW + timedelta(hours=5)}
    let_in = hospital.world.signed_job(**long)
    hospital.gate.admit(hospital.member, let_in)
    hospital.now = NOW + timedelta(minutes=59)
    assert code(hospital, hospital.job(release)) == ""
    hospital.now = NOW + timedelta(minutes=60)
    assert code(hospital, hospital.job(release)) == "hours"
    assert hospital.gate.admit(hospital.member, let_in).resumed


@pytest.mark.parametrize("text", ["always", "mon 25:00-26:00", "7-19"])
def test_hours_that_are_none_make_no_policy(text: str) -> None:
    with pytest.raises(ValidationError):
        JobLimits(hours=text)
    with pytest.raises(ValidationError):
        ProjectLimits(hours=text)


def test_no_hours_are_always() -> None:
    assert is_open("", datetime(2026, 1, 1, tzinfo=UTC))

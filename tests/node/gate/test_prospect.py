"""What a job would meet is told before anything is worked out, spent or written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.errors import Refused
from contract.work import SecureUpdates, Statistic, StatisticsWork, TrainingWork
from node.catalog.manifest import Declaration, DeclaredVariable, Stratum
from node.commands.policy import check
from node.gate.before_work import admit
from node.gate.policy import DisclosureSettings, PrivacySettings, TrainingSettings
from node.gate.prospect import prospect
from tests.contract.world import BUNDLE, NOW
from tests.node.gate.conftest import Hospital

DECLARED = Declaration(
    minimum_cohort=20,
    minimum_cell=10,
    strata=(Stratum(variable="arm", levels=("A", "B")),),
    cells=(((0,),), ((1,),)),
    variables=(DeclaredVariable(name="age", by={"moments": ("arm",)}),),
)
MEAN = Statistic(kind="moments", variable="age", by="arm")
NOT_DECLARED = Statistic(kind="histogram", variable="age")


def told(hospital: Hospital, job: bytes) -> dict[str, str]:
    question = hospital.gate.question(hospital.member, job)
    admit(question)
    period = hospital.gate.period_seconds(hospital.member, job)
    return dict(prospect(question, hospital.gate.dp, period))


def statistics(hospital: Hospital, **how: object) -> bytes:
    release = hospital.release(declaration=DECLARED)
    return hospital.job(release, work=StatisticsWork(ask=(MEAN, NOT_DECLARED), **how))


def test_of_each_statistic_its_lane_is_told_and_what_noise_costs(hospital: Hospital) -> None:
    before = len(hospital.entries())
    found = told(hospital, statistics(hospital))
    assert found["release's strata"] == "arm"
    assert found["mean and variance of age, for each arm"] == "exact: 2 groups of 2 cells by arm"
    assert found["counts of age on the agreed grid"] == "dp: epsilon 0.5"
    assert found["account before"].startswith("epsilon 0 of 8")
    assert found["account after"].startswith("epsilon 0.499 of 8")
    assert found["leaves"].startswith("at the end of a period of 30 ms")
    assert "fewer than 20 subjects" in found["withheld"]
    assert found["rules before egress"] == "DeclaredSchema, DeclaredSize, MinimumCohort"
    assert found["held outputs"] == "none"
    # Nothing was spent or written down by telling.
    assert len(hospital.entries()) == before
    assert not hospital.gate.account.spends()


@pytest.mark.parametrize(
    ("how", "privacy", "why"),
    [
        ({"lane": "exact"}, PrivacySettings(), "the question wants no noise"),
        ({}, PrivacySettings(allowed=False), "privacy.allowed"),
    ],
)
def test_what_is_withheld_is_told_with_the_reason(
    hospital: Hospital, how: dict[str, object], privacy: PrivacySettings, why: str
) -> None:
    hospital.policy = hospital.policy.model_copy(update={"privacy": privacy})
    found = told(hospital, statistics(hospital, **how))
    said = found["counts of age on the agreed grid"]
    assert said.startswith("withheld: not declared, and ")
    assert why in said
    assert "account after" not in found


def test_an_account_that_is_too_small_is_told(hospital: Hospital) -> None:
    little = PrivacySettings(epsilon_question=0.5, epsilon_project=0.5, epsilon_subject_year=0.25)
    hospital.policy = hospital.policy.model_copy(update={"privacy": little})
    assert "more than there is" in told(hospital, statistics(hospital))["account after"]


def test_of_training_all_that_is_done_to_an_update_is_told(hospital: Hospital) -> None:
    training = TrainingSettings(
        minimum_subjects=40, clip_norm=2, noise_multiplier=4, quantise_bits=8
    )
    hospital.policy = hospital.policy.model_copy(update={"training": training})
    found = told(hospital, hospital.training(hospital.release()))
    assert found["minimum"] == "40 subjects in the release"
    assert found["clip"] == "to a norm of 2"
    assert found["noise"] == "Gaussian, 4 times clip_norm"
    assert found["quantise"] == "to 8 bits"
    assert found["secure sum"].startswith("none")
    assert found["account before"].startswith("epsilon 0 of 8")
    spent = float(found["after one reply"].split()[1])
    assert 1 < spent < 8


def test_of_a_secure_sum_its_terms_are_told(hospital: Hospital) -> None:
    disclosure = DisclosureSettings(minimum_sum_sites=3)
    hospital.policy = hospital.policy.model_copy(update={"disclosure": disclosure})
    release = hospital.release()
    sites = hospital.world.sites
    job = hospital.world.signed_job(
        releases=dict.fromkeys(sites, release),
        minimum_sites=3,
        work=TrainingWork(bundle=BUNDLE, secure=SecureUpdates(clip_norm=1.5)),
    )
    found = told(hospital, job)
    assert found["secure sum"].startswith("over 3 sites or more, and at most 4 sets")
    assert "clipped to 1.5, 26 bits" in found["secure sum"]
    assert found["noise of a sum"] == "none"
    assert found["epsilon"] == "none is claimed without noise"


def test_the_command_shows_it_below_the_rules(
    hospital: Hospital,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, world = hospital.gate.asked, hospital.world
    asked.put_roster(world.consortium, world.signed_roster())
    identity = hospital.home.identity(world.consortium)
    identity.mkdir(parents=True)
    (identity / "site.key").write_bytes(world.sites[hospital.site].to_pem())
    hospital.home.policy.write_text("")
    job = tmp_path / "job.json"
    job.write_bytes(statistics(hospital))
    monkeypatch.setattr("node.commands.policy.now", lambda: NOW)
    monkeypatch.setenv("COLUMNS", "120")
    check(job, hospital.home.root)
    out = capsys.readouterr().out
    for words in ("before work", "CohortLargeEnough", "exact: 2 groups", "dp: epsilon 0.5"):
        assert words in out
    # What is refused is told no further.
    job.write_bytes(statistics(hospital, lane="exact", epsilon=None, analysis="none"))
    with pytest.raises(Refused, match="no analysis set none; it has none"):
        check(job, hospital.home.root)
    assert "of what would leave" not in capsys.readouterr().out

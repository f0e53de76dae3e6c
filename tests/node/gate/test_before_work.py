"""The first table: each rule lets a good question pass and stops its own kind of bad one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from contract.cohorts import Cohort
from contract.envelope import Envelope
from contract.errors import DocumentError, Refused
from contract.keys import SigningKey
from contract.work import SecureUpdates, Statistic, StatisticsWork, TrainingWork
from node.catalog import schema
from node.catalog.manifest import ReleaseColumn
from node.gate.before_work import BEFORE_WORK, admit
from node.gate.policy import (
    DisclosureSettings,
    JobLimits,
    Policy,
    PrivacySettings,
    ProjectLimits,
    TrainingSettings,
)
from node.gate.rules import Question
from tests.contract.world import BUNDLE, NOW, YEAR, members, sign
from tests.node.gate.conftest import GRANT, SITE, Hospital


def refusal(hospital: Hospital, envelope: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        hospital.gate.admit(hospital.member, envelope)
    return caught.value


def ask(*statistics: tuple[str, str, str | None]) -> StatisticsWork:
    return StatisticsWork(ask=tuple(Statistic(kind=k, variable=v, by=b) for k, v, b in statistics))


def test_a_good_question_passes_every_rule_in_the_tables_order(hospital: Hospital) -> None:
    for envelope in (hospital.job(hospital.release()), hospital.training(hospital.release())):
        admission = hospital.gate.admit(hospital.member, envelope)
        assert admission.release.subjects == 100
        assert not admission.resumed
        entry = hospital.entries("admitted")[-1]
        assert entry.body["rules"] == [
            "RosterInForce", "SignedAndValid", "NotAReplay", "WithinHours", "AskedOften",
            "ProjectApproved", "ReleaseGranted", "WithinLimits", "WithinTheDictionary",
            "FitsTheRelease", "DeclaredCells", "ModelWithinLimits", "RecipeApproved",
            "SumsAsWanted", "WeightsApproved", "DraftsAllowed", "EngineAllowed",
            "CohortLargeEnough", "StewardDecides",
        ]  # fmt: skip
        assert entry.body["job"] == admission.digest


# ---- each rule's objection: what is wrong, and the code by which it is known ---------------------


def no_roster(h: Hospital) -> bytes:
    h.trusted.roster = None
    return h.job(h.release())


def expired_roster(h: Hospital) -> bytes:
    h.now = NOW + 2 * YEAR
    return h.job(h.release())


def off_the_roster(h: Hospital) -> bytes:
    stay = {name: key for name, key in h.world.sites.items() if name != SITE}
    h.trusted.update_roster(h.world.signed_roster(2, sites=members(stay)), h.now)
    return h.job(h.release())


def forged(h: Hospital) -> bytes:
    return sign(h.world.job(releases={SITE: h.release()}), SigningKey.generate())


def unsigned(h: Hospital) -> bytes:
    return sign(h.world.job(releases={SITE: h.release()}))


def nonsense(h: Hospital) -> bytes:
    return b"\xff"


def not_ascii(h: Hospital) -> bytes:
    return h.job(h.release()).replace(b'"payload":"', '"payload":"é'.encode())


def expired_job(h: Hospital) -> bytes:
    envelope = h.job(h.release())
    h.now += timedelta(hours=2)
    return envelope


def another_project_version(h: Hospital) -> bytes:
    return h.job(h.release(), project_version=2)


def closed_job(h: Hospital) -> bytes:
    envelope = h.job(h.release())
    h.gate.asked.close(h.member.consortium, h.gate.admit(h.member, envelope).digest, h.now)
    return envelope


def refused_job(h: Hospital) -> bytes:
    envelope = h.job(h.release(5))
    refusal(h, envelope)
    h.policy = Policy(disclosure=DisclosureSettings(minimum_cohort=3, minimum_cell=3))
    return envelope


def nonce_of_another(h: Hospital) -> bytes:
    release = h.release()
    h.gate.admit(h.member, h.job(release, nonce="1" * 32))
    return h.job(release, nonce="1" * 32, work=ask(("count", "age", None)))


def too_often(h: Hospital) -> bytes:
    release = h.release()
    h.policy = Policy(jobs=JobLimits(per_hour=3))
    for _ in range(3):
        h.gate.admit(h.member, h.job(release))
    return h.job(release)


def unapproved_project(h: Hospital) -> bytes:
    h.gate.asked.approve_project(h.world.consortium, "birth", None, h.now)
    return h.job(h.release())


def newer_project_not_yet_approved(h: Hospital) -> bytes:
    h.trusted.update_project(h.world.signed_project(2), h.now)
    return h.job(h.release(), project_version=2)


def project_of_others(h: Hospital) -> bytes:
    h.settle(h.world.signed_project(2, sites=("minnesota",)))
    return h.job(h.release(), project_version=2)


def kind_not_in_project(h: Hospital) -> bytes:
    h.settle(h.world.signed_project(2, kinds=("training",)))
    return h.job(h.release(), project_version=2)


def not_granted(h: Hospital) -> bytes:
    return h.job(h.release(granted=False))


def granted_to_another_project(h: Hospital) -> bytes:
    digest = h.release(granted=False)
    h.catalog.grant(digest, h.world.consortium, "death", h.now)
    return h.job(digest)


def granted_in_another_consortium(h: Hospital) -> bytes:
    digest = h.release(granted=False)
    h.catalog.grant(digest, "stroke", "birth", h.now)
    return h.job(digest)


def revoked_release(h: Hospital) -> bytes:
    digest = h.release()
    h.catalog.revoke_release(digest, h.now)
    return h.job(digest)


def out_of_hours(h: Hospital) -> bytes:
    h.policy = Policy(jobs=JobLimits(hours="mon-fri 07:00-07:01"))
    return h.job(h.release())


def outside_a_limit(h: Hospital) -> bytes:
    h.policy = Policy(projects={"birth": ProjectLimits(variables=["arm"])})
    return h.job(h.release())


def a_roster_made_long_ago(h: Hospital) -> bytes:
    h.now = NOW + timedelta(days=90)
    return h.job(h.release())


def no_release_for_us(h: Hospital) -> bytes:
    return h.world.signed_job(releases={"minnesota": h.release()})


def several_rows(h: Hospital) -> bytes:
    return h.job(h.release(rows=150))


def too_many(h: Hospital) -> bytes:
    h.policy = Policy(jobs=JobLimits(max_statistics=2))
    return h.job(h.release(), work=ask(*[("count", "age", None)] * 3))


def unknown_variable(h: Hospital) -> bytes:
    return h.job(h.release(), work=ask(("moments", "income", None)))


def grouped_by_a_number(h: Hospital) -> bytes:
    return h.job(h.release(), work=ask(("moments", "age", "age")))


def histogram_without_a_grid(h: Hospital) -> bytes:
    return h.job(h.release(), work=ask(("histogram", "weight", None)))


def not_in_the_release(h: Hospital) -> bytes:
    return h.job(h.release(), work=ask(("moments", "weight", None)))


def cohort_outside_the_dictionary(h: Hospital) -> bytes:
    work = ask(("count", "age", None)).model_copy(
        update={"cohort": Cohort(variable="height", at_least=150)}
    )
    return h.job(h.release(), work=work)


def cohort_by_what_the_release_has_not_got(h: Hospital) -> bytes:
    work = ask(("count", "age", None)).model_copy(
        update={"cohort": Cohort(variable="weight", at_least=50)}
    )
    return h.job(h.release(), work=work)


def in_other_levels(h: Hospital) -> bytes:
    columns = (ReleaseColumn(name="arm", type="category", levels=("A", "Z")),)
    return h.job(h.release(columns=columns), work=ask(("count", "arm", None)))


def exact_of_what_is_not_declared(h: Hospital) -> bytes:
    work = ask(("moments", "age", "arm")).model_copy(update={"lane": "exact"})
    return h.job(h.release(), work=work)


def noise_that_policy_forbids(h: Hospital) -> bytes:
    h.policy = h.policy.model_copy(update={"privacy": PrivacySettings(allowed=False)})
    return h.job(h.release(), work=ask(("moments", "age", "arm")))


def noise_that_the_projects_limits_forbid(h: Hospital) -> bytes:
    h.policy = h.policy.model_copy(update={"projects": {"birth": ProjectLimits(lanes=["exact"])}})
    return h.job(h.release(), work=ask(("moments", "age", "arm")))


def unknown_analysis(h: Hospital) -> bytes:
    work = ask(("count", "age", None)).model_copy(update={"analysis": "main"})
    return h.job(h.release(), work=work)


def foreign_recipe(h: Hospital) -> bytes:
    return h.job(h.release(), work=TrainingWork(bundle="0" * 64))


def recipe_of_the_project_that_our_steward_did_not_approve(h: Hospital) -> bytes:
    with h.catalog.engine.begin() as connection:
        connection.execute(schema.recipes.update().values(withdrawn_at=NOW))
    return h.training(h.release())


def parameter_outside(h: Hospital) -> bytes:
    return h.training(h.release(), rate=1.5)


def parameter_unknown(h: Hospital) -> bytes:
    return h.training(h.release(), shell="x")


def other_sites_were_to_get_our_model(h: Hospital) -> bytes:
    work = TrainingWork(bundle=BUNDLE, cross_evaluation=True)
    return h.job(h.release(), work=work)


def training_off(h: Hospital) -> bytes:
    h.policy = Policy(training=TrainingSettings(allowed=False))
    return h.training(h.release())


def in_clear_where_the_policy_wants_sums(h: Hospital) -> bytes:
    wants(h, secure_only=True)
    return h.training(h.release())


def in_clear_where_the_project_wants_sums(h: Hospital) -> bytes:
    grant = GRANT.model_copy(update={"secure": True})
    h.settle(h.world.signed_project(2, recipes=(grant,)))
    return h.job(h.release(), work=TrainingWork(bundle=BUNDLE), project_version=2)


def wants(h: Hospital, **training: Any) -> None:
    """Change what the policy says of training."""
    changed = h.policy.training.model_copy(update=training)
    h.policy = h.policy.model_copy(update={"training": changed})


def summed(h: Hospital, sites: int = 4, minimum: int = 4, **work: Any) -> bytes:
    """A secure job of so many sites, at a hospital that wants four in a sum."""
    disclosure = h.policy.disclosure.model_copy(update={"minimum_sum_sites": 4})
    h.policy = h.policy.model_copy(update={"disclosure": disclosure})
    own = h.release()
    secure = SecureUpdates(clip_norm=1.0, **work)
    others = {name: "ab" * 32 for name in h.world.sites if name != SITE}
    return h.world.signed_job(
        releases={SITE: own} | dict(list(others.items())[: sites - 1]),
        work=TrainingWork(bundle=BUNDLE, secure=secure),
        minimum_sites=minimum,
    )


def a_sum_over_too_few_sites(h: Hospital) -> bytes:
    return summed(h, 3)


def a_sum_that_may_end_with_too_few_sites(h: Hospital) -> bytes:
    return summed(h, 4, minimum=3)


def a_sparse_sum_where_none_is_allowed(h: Hospital) -> bytes:
    return summed(h, sparse=True)


def a_sum_with_too_little_noise(h: Hospital) -> bytes:
    wants(h, sum_noise_multiplier=1.0)
    return summed(h, noise_multiplier=0.5)


def a_sum_where_answers_are_looked_at(h: Hospital) -> bytes:
    held = h.policy.approval.model_copy(update={"hold_outputs": ["training"]})
    h.policy = h.policy.model_copy(update={"approval": held})
    return summed(h)


def a_superlink_where_the_policy_has_none(h: Hospital) -> bytes:
    return h.job(h.release(), work=TrainingWork(bundle=BUNDLE, engine="superlink"))


PRETRAINED = "5" * 64


def approve_weights(h: Hospital, digest: str = PRETRAINED) -> None:
    with h.catalog.engine.begin() as connection:
        values = {"digest": digest, "name": "w", "size_bytes": 1, "tensors": 1, "approved_at": NOW}
        connection.execute(schema.weights.insert().values(values))


def weights_that_nobody_here_approved(h: Hospital) -> bytes:
    grant = GRANT.model_copy(update={"weights": (PRETRAINED,)})
    h.settle(h.world.signed_project(2, recipes=(grant,)))
    work = TrainingWork(bundle=BUNDLE, parameters={"weights": PRETRAINED})
    return h.job(h.release(), work=work, project_version=2)


def weights_that_the_project_does_not_list(h: Hospital) -> bytes:
    approve_weights(h, "6" * 64)
    grant = GRANT.model_copy(update={"weights": (PRETRAINED,)})
    h.settle(h.world.signed_project(2, recipes=(grant,)))
    work = TrainingWork(bundle=BUNDLE, parameters={"weights": "6" * 64})
    return h.job(h.release(), work=work, project_version=2)


def weights_where_the_project_lists_none(h: Hospital) -> bytes:
    approve_weights(h)
    return h.training(h.release(), weights=PRETRAINED)


def drafts_where_the_policy_has_none(h: Hospital) -> bytes:
    h.settle(h.world.signed_project(2, recipes=(GRANT.model_copy(update={"drafts": True}),)))
    return h.job(h.release(), work=TrainingWork(bundle=BUNDLE), project_version=2)


def small(h: Hospital) -> bytes:
    return h.job(h.release(19))


def small_for_training(h: Hospital) -> bytes:
    h.policy = Policy(training=TrainingSettings(minimum_subjects=200))
    return h.training(h.release(199))


OBJECTIONS: dict[Callable[[Hospital], bytes], str] = {
    no_roster: "no-roster",
    expired_roster: "no-roster",
    a_roster_made_long_ago: "roster-old",
    in_other_levels: "does-not-fit",
    out_of_hours: "hours",
    outside_a_limit: "limit-variable",
    off_the_roster: "revoked",
    forged: "bad-signature",
    unsigned: "bad-signature",
    nonsense: "not-believed",
    not_ascii: "not-believed",
    expired_job: "not-believed",
    another_project_version: "not-believed",
    closed_job: "replay",
    refused_job: "replay",
    nonce_of_another: "replay",
    too_often: "rate",
    unapproved_project: "project-not-approved",
    newer_project_not_yet_approved: "project-not-approved",
    project_of_others: "project-not-approved",
    kind_not_in_project: "kind",
    not_granted: "release-not-granted",
    granted_to_another_project: "release-not-granted",
    granted_in_another_consortium: "release-not-granted",
    revoked_release: "release-not-granted",
    no_release_for_us: "release-not-granted",
    several_rows: "rows",
    too_many: "too-many",
    unknown_variable: "not-in-dictionary",
    grouped_by_a_number: "not-in-dictionary",
    histogram_without_a_grid: "not-in-dictionary",
    not_in_the_release: "not-in-dictionary",
    cohort_outside_the_dictionary: "not-in-dictionary",
    cohort_by_what_the_release_has_not_got: "not-in-dictionary",
    exact_of_what_is_not_declared: "not-declared",
    noise_that_policy_forbids: "not-declared",
    noise_that_the_projects_limits_forbid: "not-declared",
    unknown_analysis: "not-declared",
    foreign_recipe: "recipe-not-approved",
    recipe_of_the_project_that_our_steward_did_not_approve: "recipe-not-approved",
    parameter_outside: "parameter",
    parameter_unknown: "parameter",
    other_sites_were_to_get_our_model: "cross-evaluation",
    training_off: "training-off",
    weights_that_nobody_here_approved: "weights-not-approved",
    weights_that_the_project_does_not_list: "weights-not-approved",
    weights_where_the_project_lists_none: "parameter",
    drafts_where_the_policy_has_none: "drafts-off",
    in_clear_where_the_policy_wants_sums: "secure-only",
    in_clear_where_the_project_wants_sums: "secure-only",
    a_sum_over_too_few_sites: "too-few-sites",
    a_sum_that_may_end_with_too_few_sites: "too-few-sites",
    a_sparse_sum_where_none_is_allowed: "sparse-sum",
    a_sum_with_too_little_noise: "noise",
    a_sum_where_answers_are_looked_at: "held",
    a_superlink_where_the_policy_has_none: "engine",
    small: "cohort-too-small",
    small_for_training: "cohort-too-small",
}


@pytest.mark.parametrize("make", OBJECTIONS, ids=lambda make: make.__name__)
def test_each_rule_objects_under_its_own_code_and_the_ledger_says_so(
    hospital: Hospital, make: Callable[[Hospital], bytes]
) -> None:
    envelope = make(hospital)
    admitted = len(hospital.entries("admitted"))
    refused = len(hospital.entries("refused"))
    found = refusal(hospital, envelope)
    assert found.code == OBJECTIONS[make]
    assert found.sentence.endswith(".")
    assert len(hospital.entries("admitted")) == admitted
    assert len(hospital.entries("refused")) == refused + 1
    assert hospital.entries("refused")[-1].body["code"] == found.code


def test_every_rules_own_code_is_seen_in_an_objection() -> None:
    seen = {*OBJECTIONS.values(), "not-believed"}
    # What waits isn't refused: tests/node/gate/inbox has that.
    own = {rule.code for rule in BEFORE_WORK} - {"waiting"}
    assert {code for code in own if not any(s.startswith(code) for s in seen)} == set()


def test_a_secure_job_as_policy_and_project_want_it_is_let_in(hospital: Hospital) -> None:
    wants(hospital, secure_only=True, sum_noise_multiplier=1.0)
    admission = hospital.gate.admit(hospital.member, summed(hospital, noise_multiplier=1.0))
    hospital.gate.check_still_allowed(hospital.member, admission)
    wants(hospital, sum_noise_multiplier=2.0)
    with pytest.raises(Refused) as caught:
        hospital.gate.check_still_allowed(hospital.member, admission)
    assert caught.value.code == "noise"


def test_weights_are_seen_until_they_are_withdrawn(hospital: Hospital) -> None:
    envelope = weights_that_nobody_here_approved(hospital)
    approve_weights(hospital)
    admission = hospital.gate.admit(hospital.member, envelope)
    hospital.gate.check_still_allowed(hospital.member, admission)
    with hospital.catalog.engine.begin() as connection:
        connection.execute(schema.weights.update().values(withdrawn_at=NOW))
    with pytest.raises(Refused) as caught:
        hospital.gate.check_still_allowed(hospital.member, admission)
    assert caught.value.code == "weights-not-approved"


def test_drafts_are_left_where_project_and_policy_allow_them(hospital: Hospital) -> None:
    envelope = drafts_where_the_policy_has_none(hospital)
    training = hospital.policy.training
    allowing = training.model_copy(update={"drafts": True})
    hospital.policy = hospital.policy.model_copy(update={"training": allowing})
    admission = hospital.gate.admit(hospital.member, envelope)
    hospital.policy = hospital.policy.model_copy(update={"training": training})
    with pytest.raises(Refused) as caught:
        hospital.gate.check_still_allowed(hospital.member, admission)
    assert caught.value.code == "drafts-off"


# ---- what a refusal may tell ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["statistics", "training"])
def test_a_refusal_reads_the_same_for_no_subject_one_and_one_too_few(
    hospital: Hospital, kind: str
) -> None:
    make = hospital.job if kind == "statistics" else hospital.training
    said = set()
    for subjects in (0, 1, 2, 9, 10, 18, 19):
        envelope = make(hospital.release(subjects))
        found = refusal(hospital, envelope)
        digest = Envelope.parse(envelope).digest
        sealed = hospital.gate.decision(hospital.member, digest, found)
        decision = sealed.message.decision
        assert decision.job == digest
        decision.job = ""
        said.add(sealed.message.SerializeToString(deterministic=True))
    assert len(said) == 1
    assert hospital.gate.admit(hospital.member, make(hospital.release(20)))


def test_a_release_that_does_not_exist_looks_like_one_that_is_not_granted_or_is_revoked(
    hospital: Hospital,
) -> None:
    revoked = hospital.release(101)
    hospital.catalog.revoke_release(revoked, NOW)
    said = {
        (found.code, found.sentence)
        for digest in ("0" * 64, hospital.release(100, granted=False), revoked)
        for found in [refusal(hospital, hospital.job(digest))]
    }
    assert len(said) == 1


def test_an_ungranted_release_gives_nothing_away_about_its_size_or_columns(
    hospital: Hospital,
) -> None:
    said = {
        (found.code, found.sentence)
        for changes in ({}, {"subjects": 1, "rows": 1}, {"columns": ()}, {"rows": 500})
        for found in [
            refusal(hospital, hospital.job(hospital.release(**{"granted": False} | changes)))
        ]
    }
    assert len(said) == 1


# ---- order -------------------------------------------------------------------------------------


class Watched:
    """A question that records which of its doors are opened."""

    def __init__(self, question: Question) -> None:
        self.opened: list[str] = []
        for name in (
            "seen_nonce", "asked_this_hour", "approved_project", "granted", "approved_recipes",
        ):  # fmt: skip
            setattr(question, name, self.watch(name, getattr(question, name)))

    def watch(self, name: str, door: Callable[..., Any]) -> Callable[..., Any]:
        def opening(*arguments: Any) -> Any:
            self.opened.append(name)
            return door(*arguments)

        return opening


def test_an_unbelieved_question_never_reaches_the_catalogue(hospital: Hospital) -> None:
    question = hospital.gate.question(hospital.member, forged(hospital))
    watched = Watched(question)
    with pytest.raises(Refused):
        admit(question)
    assert watched.opened == []


def test_nothing_is_looked_up_in_releases_before_the_project_is_approved(
    hospital: Hospital,
) -> None:
    question = hospital.gate.question(hospital.member, unapproved_project(hospital))
    watched = Watched(question)
    with pytest.raises(Refused):
        admit(question)
    assert "granted" not in watched.opened
    assert watched.opened[-1] == "approved_project"


def test_the_first_objection_decides_when_everything_is_wrong(hospital: Hospital) -> None:
    bad = hospital.job(hospital.release(1, granted=False), researcher="ana", project_version=1)
    unapproved_project(hospital)
    assert refusal(hospital, bad).code == "project-not-approved"


# ---- replay, restart, rate -----------------------------------------------------------------------


def test_an_accepted_job_is_let_in_again_after_a_restart_and_counted_once(
    hospital: Hospital,
) -> None:
    hospital.policy = Policy(jobs=JobLimits(per_hour=1))
    envelope = hospital.job(hospital.release())
    first = hospital.gate.admit(hospital.member, envelope)
    hospital.reopen()
    again = hospital.gate.admit(hospital.member, envelope)
    assert again.resumed
    assert (again.digest, again.release) == (first.digest, first.release)
    assert len(hospital.entries("admitted")) == 1
    assert hospital.gate.asked.open_jobs(hospital.world.consortium) == [(first.digest, envelope)]


@pytest.mark.parametrize("make", [closed_job, refused_job], ids=["closed", "refused"])
def test_a_job_that_is_over_stays_over_after_a_restart(
    hospital: Hospital, make: Callable[[Hospital], bytes]
) -> None:
    envelope = make(hospital)
    hospital.reopen()
    assert refusal(hospital, envelope).code == "replay"
    assert hospital.gate.asked.open_jobs(hospital.world.consortium) == []


def test_an_accepted_job_is_refused_for_good_when_its_release_is_taken_back(
    hospital: Hospital,
) -> None:
    digest = hospital.release()
    envelope = hospital.job(digest)
    hospital.gate.admit(hospital.member, envelope)
    hospital.catalog.ungrant(digest, hospital.world.consortium, "birth")
    assert refusal(hospital, envelope).code == "release-not-granted"
    hospital.catalog.grant(digest, hospital.world.consortium, "birth", NOW)
    assert refusal(hospital, envelope).code == "replay"


def test_a_forged_job_uses_up_no_nonce_and_no_rate(hospital: Hospital) -> None:
    job = hospital.world.job(releases={SITE: hospital.release()})
    for _ in range(3):
        refusal(hospital, sign(job, SigningKey.generate()))
    true = sign(job, hospital.world.researchers["ana"])
    assert hospital.gate.admit(hospital.member, true).job == job


def test_the_rate_counts_refused_jobs_and_forgets_them_after_an_hour(hospital: Hospital) -> None:
    hospital.policy = Policy(jobs=JobLimits(per_hour=2))
    release, tiny = hospital.release(), hospital.release(1)
    refusal(hospital, hospital.job(tiny))
    hospital.gate.admit(hospital.member, hospital.job(release))
    assert refusal(hospital, hospital.job(release)).code == "rate"
    hospital.now += timedelta(hours=1, seconds=1)
    assert hospital.gate.admit(hospital.member, hospital.job(release))


def test_one_researchers_rate_is_not_anothers(hospital: Hospital) -> None:
    hospital.policy = Policy(jobs=JobLimits(per_hour=1))
    project = hospital.world.signed_project(2, researchers=("ana", "ben"))
    hospital.settle(project)
    release = hospital.release()
    hospital.gate.admit(hospital.member, hospital.job(release, project_version=2))
    bens = hospital.job(release, project_version=2, researcher="ben")
    assert hospital.gate.admit(hospital.member, bens).job.researcher == "ben"


def test_without_a_readable_policy_nothing_is_let_in(hospital: Hospital) -> None:
    class Gone(DocumentError):
        pass

    def unreadable() -> Policy:
        raise Gone("no policy")

    hospital.gate.policy = unreadable
    with pytest.raises(Gone):
        hospital.gate.admit(hospital.member, hospital.job(hospital.release()))
    assert hospital.entries("admitted") == []


def test_a_grant_can_let_a_sites_own_model_be_evaluated_elsewhere(hospital: Hospital) -> None:
    grant = GRANT.model_copy(update={"cross_evaluation": True})
    hospital.settle(hospital.world.signed_project(2, recipes=(grant,)))
    work = TrainingWork(bundle=BUNDLE, cross_evaluation=True)
    envelope = hospital.job(hospital.release(), work=work, project_version=2)
    assert not hospital.gate.admit(hospital.member, envelope).resumed

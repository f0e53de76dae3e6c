"""What one project may do here, and when: each limit stops its own kind of job and no other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contract import wire_pb2 as wire
from contract.cohorts import Cohort
from contract.dictionary import Variable
from contract.documents import ParameterRange
from contract.errors import Refused
from contract.statistics.answers import Part
from contract.statistics.summaries import Moments
from contract.work import Statistic, StatisticsWork
from node.catalog.manifest import Declaration, DeclaredVariable
from node.gate.account import Limits, Payer
from node.gate.limits import LIMITS, is_open
from node.gate.policy import JobLimits, Policy, ProjectLimits, TrainingSettings
from tests.contract.world import BUNDLE, NOW, VARIABLES
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
HISTOGRAM = asking(("histogram", "age", None))
OF_ARM_A = AGE.model_copy(
    update={"cohort": Cohort.model_validate({"variable": "arm", "levels": ["A"]})}
)


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


@pytest.mark.parametrize(
    ("granularity", "work", "expected"),
    [
        ({"age": 10}, HISTOGRAM, ""),  # the dictionary has ten bins
        ({"age": 9}, HISTOGRAM, "limit-granularity"),
        ({"arm": 2}, BY_ARM, ""),
        ({"arm": 1}, BY_ARM, "limit-granularity"),
        ({"arm": 1}, AGE, ""),
        ({"arm": 1}, OF_ARM_A, "limit-granularity"),  # selected by
    ],
)
def test_a_dictionary_that_is_finer_than_a_site_allows_the_project_is_not_answered_by(
    hospital: Hospital, granularity: dict[str, int], work: StatisticsWork, expected: str
) -> None:
    limited(hospital, granularity=granularity)
    assert code(hospital, hospital.job(hospital.release(), work=work)) == expected


@pytest.mark.parametrize(
    ("whole", "bins", "cut", "refused"),
    [
        (False, 10, {"at_least": 50}, False),
        (False, 10, {"not": {"variable": "age", "below": 50}}, False),
        (False, 10, {"at_most": 100}, False),
        (False, 10, {"at_least": 55}, True),
        (False, 10, {"at_least": 50.0000001}, True),  # beside the edge: who is 50 exactly
        (False, 10, {"above": 50}, True),
        (False, 10, {"at_least": 0, "at_most": 50}, True),
        (True, 10, {"above": 49}, False),  # the same as from 50 on
        (True, 10, {"above": 50}, True),
        (False, None, {"at_least": 50}, True),  # as fine as its values
        (False, None, {"missing": True}, False),
    ],
)
def test_a_cohort_cuts_a_number_no_finer_than_its_bins(
    hospital: Hospital, whole: bool, bins: int | None, cut: dict[str, Any], refused: bool
) -> None:
    age = Variable(name="age", kind="number", minimum=0, maximum=100, bins=bins, whole=whole)
    others = tuple(one for one in VARIABLES if one.name != "age")
    hospital.settle(hospital.world.signed_project(2, variables=(age, *others), recipes=(GRANT,)))
    limited(hospital, granularity={"age": 10})
    cohort = Cohort.model_validate(cut if "not" in cut else {"variable": "age", **cut})
    work = asking(("count", "arm", None)).model_copy(update={"cohort": cohort})
    job = hospital.job(hospital.release(), project_version=2, work=work)
    assert (code(hospital, job) == "limit-granularity") == refused


AGE_AGAIN = {"add": [0, {"variable": "age"}]}
DERIVED: tuple[dict[str, Any], ...] = (
    {"name": "old", "kind": "number", "minimum": 0, "maximum": 100, "bins": 20},
    {"name": "older", "kind": "number", "minimum": 0, "maximum": 100, "bins": 15},
    {"name": "sum", "kind": "number", "minimum": 0, "maximum": 200},
    {"name": "decades", "kind": "category", "levels": ["a", "b", "c"]},
    {"name": "thirds", "kind": "category", "levels": ["a", "b", "c"]},
    *({"name": f"from_{cut}", "kind": "category", "levels": ["no", "yes"]} for cut in "xyz"),
)
MADE: dict[str, dict[str, Any]] = {
    "old": AGE_AGAIN,
    "older": {"add": [0, {"variable": "old"}]},
    "sum": AGE_AGAIN,
    "decades": {"bins": {"variable": "age"}, "edges": [30, 60], "levels": ["a", "b", "c"]},
    "thirds": {"bins": {"variable": "age"}, "edges": [33, 66], "levels": ["a", "b", "c"]},
    **{
        f"from_{name}": {"where": {"variable": "age", "at_least": cut}}
        for name, cut in (("x", 31), ("y", 32), ("z", 33))
    },
}


@pytest.mark.parametrize(
    ("granularity", "refused"),
    [
        ({"age": 9}, set(MADE) - {"sum", "decades"}),
        # Ten bins of its own: one cut more could make twenty parts, three levels thirty.
        ({"age": 10}, {"old", "older", "thirds", "from_x", "from_y", "from_z"}),
        ({"age": 45}, {"old", "older", "from_x", "from_y", "from_z"}),
        ({"age": 60}, {"old", "older", "from_y", "from_z"}),
        ({"age": 10, "old": 20, "thirds": 3, "from_x": 2}, {"older", "from_y", "from_z"}),
        ({"arm": 1}, set()),
    ],
)
def test_a_variable_is_no_finer_under_other_names(
    hospital: Hospital, granularity: dict[str, int], refused: set[str]
) -> None:
    derived = [Variable.model_validate({**one, "derive": MADE[one["name"]]}) for one in DERIVED]
    variables = (*VARIABLES, *derived)
    hospital.settle(hospital.world.signed_project(2, variables=variables, recipes=(GRANT,)))
    limited(hospital, granularity=granularity)
    found = set()
    for variable in derived:
        kind = "moments" if variable.kind == "number" else "levels"
        work = asking((kind, variable.name, None))
        asked = hospital.job(hospital.release(), project_version=2, work=work)
        found |= {variable.name} if code(hospital, asked) == "limit-granularity" else set()
    assert found == refused


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"rate": 0.1}, ""),
        ({"rate": 0.9}, "limit-parameter"),  # the project allows it
        ({}, "limit-parameter"),  # the recipe's own value isn't known
    ],
)
def test_a_parameter_is_within_what_the_site_allows_the_project(
    hospital: Hospital, given: dict[str, float], expected: str
) -> None:
    limited(hospital, parameters={BUNDLE: {"rate": ParameterRange(minimum=0, maximum=0.5)}})
    assert code(hospital, hospital.training(hospital.release(), **given)) == expected


def test_a_range_of_another_recipe_is_not_this_ones(hospital: Hospital) -> None:
    limited(hospital, parameters={"0" * 64: {"rate": ParameterRange(minimum=0, maximum=0.5)}})
    assert code(hospital, hospital.training(hospital.release(), rate=0.9)) == ""


STRICTER = ("minimum_cohort", "minimum_cell", "epsilon_question", "delta", "noise_multiplier")


@given(
    cohort=st.none() | st.integers(3, 500),
    cell=st.none() | st.integers(3, 500),
    epsilon=st.none() | st.floats(0.01, 16),
    noise=st.none() | st.floats(0.01, 100),
)
def test_what_holds_for_a_project_is_never_laxer_than_for_all(
    cohort: int | None, cell: int | None, epsilon: float | None, noise: float | None
) -> None:
    own = ProjectLimits(
        minimum_cohort=cohort, minimum_cell=cell, epsilon_question=epsilon, noise_multiplier=noise
    )
    whole = Policy(
        training=TrainingSettings(clip_norm=1, noise_multiplier=2), projects={"birth": own}
    )
    found = whole.under("birth")
    assert found.disclosure.minimum_cell >= max(whole.disclosure.minimum_cell, cell or 0)
    assert found.disclosure.minimum_cohort >= max(
        whole.disclosure.minimum_cohort, cohort or 0, found.disclosure.minimum_cell
    )
    assert found.privacy.epsilon_question == min(0.5, epsilon or 0.5)
    assert found.training.noise_multiplier == max(2, noise or 0)
    assert found.digest == whole.digest
    assert found.under("birth") == found
    assert whole.under("death") is whole
    Policy.model_validate(found.model_dump())  # and it is in order


def test_a_project_with_a_larger_cohort_gets_nothing_of_a_smaller_release(
    hospital: Hospital,
) -> None:
    release = hospital.release(100)
    limited(hospital, minimum_cohort=101)
    assert code(hospital, hospital.job(release, work=AGE)) == "cohort-too-small"
    limited(hospital, minimum_cohort=100)
    assert code(hospital, hospital.job(release, work=AGE)) == ""


def test_a_project_with_a_larger_cell_has_no_exact_answer_of_finer_cells(
    hospital: Hospital,
) -> None:
    declaration = Declaration(
        minimum_cohort=20,
        minimum_cell=10,
        cells=(((),),),
        variables=(DeclaredVariable(name="age", by={"moments": ()}),),
    )
    release = hospital.release(declaration=declaration)
    exactly = AGE.model_copy(update={"lane": "exact"})
    limited(hospital, minimum_cell=11)
    assert code(hospital, hospital.job(release, work=exactly)) == "not-declared"
    limited(hospital, minimum_cell=10)
    assert code(hospital, hospital.job(release, work=exactly)) == ""


def test_an_answer_that_is_small_for_the_project_is_withheld(hospital: Hospital) -> None:
    release = hospital.release()
    part = Part({"": Moments(n=60, missing=0, mean=50.0, m2=10.0)})
    for least, withheld in ((61, True), (60, False)):
        limited(hospital, minimum_cohort=least)
        admission = hospital.gate.admit(hospital.member, hospital.job(release, work=AGE))
        sealed = hospital.gate.answer_statistics(hospital.member, admission, [part], 0.0)
        answer = wire.StatisticsAnswer.FromString(sealed.message.reply.payload)
        assert answer.parts[0].withheld == withheld


def test_a_project_has_no_larger_delta_than_it_is_allowed(hospital: Hospital) -> None:
    payer = Payer("preterm", "birth")
    standing = []
    for delta in (None, 1e-12):
        limited(hospital, delta=delta)
        limits = Limits.of(hospital.policy, "birth")
        standing.append(hospital.gate.account.standing(payer, limits, hospital.now).delta)
    assert standing[1] == 1e-12 < standing[0]


def test_noise_for_a_project_needs_a_norm_to_clip_to() -> None:
    with pytest.raises(ValidationError, match="clip_norm"):
        Policy(projects={"birth": ProjectLimits(noise_multiplier=1)})


def test_every_limit_of_the_policy_is_checked_somewhere() -> None:
    checked = {
        "kinds": "kind", "researchers": "researcher", "purposes": "purpose",
        "legal_bases": "legal-basis", "jurisdictions": "jurisdiction", "variables": "variable",
        "recipes": "recipe", "per_hour": "rate", "granularity": "granularity",
        "parameters": "parameter",
    }  # fmt: skip
    assert set(checked.values()) == set(LIMITS)
    elsewhere = {"hours", "epsilon", "lanes", "hold_outputs", *STRICTER}
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


def test_a_projects_cell_is_a_multiple_of_the_policys() -> None:
    """Rounded to 10 and to 13, twelve would read as 10 and as 0: between 10 and 12."""
    for told, cell in ((13, 20), (20, 20), (9, 10), (21, 30)):
        whole = Policy.model_validate({"projects": {"birth": {"minimum_cell": told}}})
        assert whole.disclosure.minimum_cell == 10
        assert whole.under("birth").disclosure.minimum_cell == cell

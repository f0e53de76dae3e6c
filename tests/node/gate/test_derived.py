"""What the gate makes of derived and imputed variables."""

from __future__ import annotations

import pytest

from contract.cohorts import Cohort
from contract.documents import Project, Statistic, StatisticsWork
from contract.errors import Refused
from node.catalog.deriving import rule
from node.catalog.manifest import ReleaseColumn
from node.gate.exact import lanes
from tests.contract.world import VARIABLES
from tests.node.gate.conftest import GRANT, Hospital

AGE = {"variable": "age"}
DOUBLE = {"name": "double", "kind": "number", "minimum": 0, "maximum": 200}
FULL = {"name": "full", "kind": "number", "minimum": 0, "maximum": 120}
COLUMNS = tuple(
    ReleaseColumn(name=name, type=kind)
    for name, kind in (
        *(("age", "number"), ("arm", "category"), ("double", "number")),
        *((f"full.{i}", "number") for i in (1, 2)),
    )
)


def settled(hospital: Hospital, factor: float = 2) -> Project:
    """A project that derives ``double`` and imputes ``full``."""
    derived = {**DOUBLE, "derive": {"multiply": [factor, AGE]}}
    imputed = {**FULL, "derive": {"impute": "age", "using": ["arm"], "imputations": 2}}
    variables = (*(v.model_dump() for v in VARIABLES), derived, imputed)
    hospital.settle(hospital.world.signed_project(2, recipes=(GRANT,), variables=variables))
    return hospital.trusted.projects["birth"].document


def work(variable: str, **more: object) -> StatisticsWork:
    ask = (Statistic(kind="moments", variable=variable),)
    return StatisticsWork.model_validate({"ask": ask, **more})


def asked(hospital: Hospital, release: str, question: StatisticsWork) -> str:
    """Ask; return the code of the refusal, empty if it was admitted."""
    job = hospital.job(release, work=question, project_version=2)
    try:
        hospital.gate.admit(hospital.member, job)
    except Refused as refusal:
        return refusal.code
    return ""


def test_a_release_that_was_derived_in_another_way_is_not_asked(hospital: Hospital) -> None:
    project = settled(hospital)
    derived = {
        "double": rule(project.variables, "double"),
        "full.1": rule(project.variables, "full.1"),
        "full.2": rule(project.variables, "full.2"),
    }
    fits = hospital.release(columns=COLUMNS, derived=derived)
    assert asked(hospital, fits, work("double")) == ""
    for other in ({}, {**derived, "double": "0" * 64}):
        release = hospital.release(columns=COLUMNS, derived=other)
        assert asked(hospital, release, work("double")) == "derived-otherwise"
        assert asked(hospital, release, work("age")) == ""
        of_whom = work("age", cohort=Cohort(variable="double", above=1))
        assert asked(hospital, release, of_whom) == "derived-otherwise"
    plain = hospital.release()
    assert asked(hospital, plain, work("double")) == "not-in-dictionary"


def test_imputed_values_have_no_noise(hospital: Hospital) -> None:
    """One subject's value decides on what others' are, so noise for one would hide too little."""
    project = settled(hospital)
    release = hospital.release(columns=COLUMNS)
    row = next(r for r in hospital.catalog.list_releases() if r.digest == release)
    (plan,) = lanes(work("double", lane="dp"), project, row.manifest, hospital.policy)
    assert plan is None  # with noise
    with pytest.raises(Refused, match="declares no exact answer"):
        lanes(work("full.1", lane="dp"), project, row.manifest, hospital.policy)
    by = StatisticsWork(
        ask=(
            Statistic(kind="moments", variable="age"),
            Statistic(kind="moments", variable="full.1"),
        ),
        lane="dp",
    )
    first, second = lanes(by, project, row.manifest, hospital.policy)
    assert first is None
    assert second is not None
    assert not second.groups

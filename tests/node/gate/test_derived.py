"""What the gate makes of derived and imputed variables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from contract.cohorts import Cohort
from contract.documents import Project
from contract.errors import Refused
from contract.statistics.summaries import Counts, Moments
from contract.work import Statistic, StatisticsWork
from node.catalog.declaring import Minimums, Wishes
from node.catalog.deriving import rule
from node.catalog.freezing import plan_release
from node.catalog.manifest import ReleaseColumn
from node.catalog.releases import write_release
from node.catalog.selection import Selection
from node.catalog.sources import CatalogClinicalStore
from node.catalog.strata import StratumWish
from node.deid.pseudonyms import Pseudonyms
from node.gate.exact import lanes
from tests.attacks.statistics.conftest import SUBJECTS, Node
from tests.attacks.statistics.conftest import VARIABLES as ASKED
from tests.contract.world import NOW, VARIABLES
from tests.node.catalog.making import Records, asset, consent, source
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


# ---- asked for real ------------------------------------------------------------------------------

DERIVED: tuple[dict[str, Any], ...] = (
    {
        "name": "log_marker",
        "kind": "number",
        "minimum": 0,
        "maximum": 6,
        "derive": {"log": {"variable": "marker"}},
    },
    {
        "name": "age_group",
        "kind": "category",
        "levels": ["young", "old"],
        "derive": {"bins": {"variable": "age"}, "edges": [60], "levels": ["young", "old"]},
    },
    {
        "name": "full",
        "kind": "number",
        "minimum": 0,
        "maximum": 200,
        "derive": {"impute": "marker", "using": ["age", "ill"], "imputations": 2},
    },
)


def derived_node(hospital: Hospital) -> Node:
    """A node whose release has been made with the project's derived variables."""
    node = Node(hospital)
    raw = (*(v.model_dump() for v in ASKED), *DERIVED)
    hospital.settle(hospital.world.signed_project(3, variables=raw))
    node.version = 3
    plan = plan_release(
        hospital.catalog,
        hospital.home,
        "derived",
        Selection(table="trial"),
        today=NOW.date(),
        wishes=Wishes(strata=[StratumWish("arm")], minimums=Minimums(20, 10, 0.5)),
        variables=hospital.trusted.projects["birth"].document.variables,
    )
    node.release = write_release(hospital.catalog, hospital.home, plan, now=NOW).digest
    hospital.catalog.grant(node.release, hospital.world.consortium, "birth", NOW)
    return node


def test_derived_variables_are_answered_as_if_the_table_had_them(hospital: Hospital) -> None:
    node = derived_node(hospital)
    ages = np.array([row["age"] for row in node.table])
    markers = np.array([float(row["marker"] or "nan") for row in node.table])
    answer = node.ask(
        Statistic(kind="levels", variable="age_group"),
        Statistic(kind="moments", variable="log_marker"),
        Statistic(kind="levels", variable="age_group", by="arm"),
        Statistic(kind="moments", variable="full.1"),
        Statistic(kind="moments", variable="full.2"),
    )
    assert answer is not None
    groups, logs, by_arm, one, two = answer
    assert [part.lane for part in answer] == ["exact"] * 5
    counts = groups.groups[""]
    assert isinstance(counts, Counts)
    # As many are left out as lack a marker, so that their number isn't told.
    assert sum(counts.counts) in (SUBJECTS - 2, SUBJECTS)
    assert counts.counts == pytest.approx((int((ages < 60).sum()), int((ages >= 60).sum())), abs=2)
    moments = logs.groups[""]
    assert isinstance(moments, Moments)
    # Two have no marker, and others are left out so that it isn't two.
    assert SUBJECTS - 22 <= moments.n <= SUBJECTS - 2
    assert moments.mean == pytest.approx(float(np.nanmean(np.log(markers))), abs=0.05)
    assert set(by_arm.groups) == {"A", "B"}
    first, second = one.groups[""], two.groups[""]
    assert isinstance(first, Moments)
    assert isinstance(second, Moments)
    assert first.n == second.n


def test_a_number_under_two_names_tells_nobody(hospital: Hospital) -> None:
    """The attack: the sum of a number less that of its imputed copy, and of how many have each."""
    node = derived_node(hospital)
    answer = node.ask(
        Statistic(kind="moments", variable="marker"), Statistic(kind="moments", variable="full.1")
    )
    assert answer is not None
    plain, full = (part.groups[""] for part in answer)
    assert isinstance(plain, Moments)
    assert isinstance(full, Moments)
    assert full.n == plain.n or abs(full.n - plain.n) >= 20


HELD: tuple[dict[str, Any], ...] = tuple(
    {"name": name, "kind": "category", "levels": ["no", "yes"], "derive": derive}
    for name, derive in (
        ("research", {"consent": "research"}),
        ("genetics", {"consent": "genetics"}),
        ("ct", {"linked": "images", "modality": "CT"}),
    )
)


def test_who_consents_and_is_linked_is_a_cohort_like_any_other(hospital: Hospital) -> None:
    """And a purpose that three consent to isn't told."""
    node = Node(hospital)
    subjects = [Pseudonyms(b"k" * 32).subject(row["pid"]) for row in node.table]
    given = [consent(s, "research") for i, s in enumerate(subjects) if i % 3 == 0]
    given += [consent(s, "genetics") for s in subjects[:3]]
    store = CatalogClinicalStore(hospital.catalog)
    store.replace_source(source(), Records({"consents": given}), ())
    hospital.catalog.record([asset(i, s) for i, s in enumerate(subjects) if i % 4 == 0], [])
    raw = (*(v.model_dump() for v in ASKED), *HELD)
    hospital.settle(hospital.world.signed_project(3, variables=raw))
    node.version = 3
    plan = plan_release(
        hospital.catalog,
        hospital.home,
        "held",
        Selection(table="trial"),
        today=NOW.date(),
        wishes=Wishes(
            strata=[StratumWish("research"), StratumWish("ct")],
            minimums=Minimums(20, 10, 0.5),
            analyses={},
        ),
        variables=hospital.trusted.projects["birth"].document.variables,
    )
    node.release = write_release(hospital.catalog, hospital.home, plan, now=NOW).digest
    hospital.catalog.grant(node.release, hospital.world.consortium, "birth", NOW)
    yes = {name: Cohort(variable=name, levels=("yes",)) for name in ("research", "ct", "genetics")}
    linked = yes["research"] & ~yes["ct"]
    answer = node.ask(Statistic(kind="levels", variable="ill"), cohort=linked)
    assert answer is not None
    assert answer[0].lane == "exact"
    counts = answer[0].groups[""]
    assert isinstance(counts, Counts)
    inside = [row for i, row in enumerate(node.table) if i % 3 == 0 and i % 4]
    ill = [sum(row["ill"] == level for row in inside) for level in ("no", "yes")]
    assert counts.counts == pytest.approx(ill, abs=2)  # a few are left out
    assert node.ask(Statistic(kind="levels", variable="genetics")) is None
    assert node.ask(Statistic(kind="levels", variable="ill"), cohort=yes["genetics"]) is None

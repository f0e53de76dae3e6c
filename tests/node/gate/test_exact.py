"""Which questions a declaration answers exactly: unions of cells, however they are worded."""

from __future__ import annotations

from typing import Any

import pytest

from contract import wire_pb2 as wire
from contract.cohorts import Cohort
from contract.dictionary import Variable
from contract.errors import Refused
from contract.work import Statistic, StatisticsWork
from node.catalog.manifest import (
    AnalysisSet,
    Declaration,
    DeclaredVariable,
    Grid,
    Joint,
    ReleaseColumn,
    ReleaseManifest,
    Stratum,
)
from node.gate import exact
from node.gate.exact import WITHHELD
from node.gate.policy import DisclosureSettings, Policy, PrivacySettings, ProjectLimits
from researcher.offers import release_info
from tests.contract.world import World

VARIABLES = (
    Variable(name="arm", kind="category", levels=("A", "B", "C")),
    Variable(name="sex", kind="category", levels=("f", "m")),
    Variable(name="age", kind="number", whole=True, minimum=0, maximum=100, bins=10),
    Variable(name="x", kind="number", minimum=0, maximum=10, bins=5),
    Variable(name="ill", kind="category", levels=("no", "yes")),
)
PROJECT = World().project(variables=VARIABLES)
# Arms A and B; by age 50 and 70, of which two ranges of arm B are one cell; a missing arm.
DECLARATION = Declaration(
    minimum_cohort=20,
    minimum_cell=10,
    strata=(
        Stratum(variable="arm", levels=("A", "B"), missing=True),
        Stratum(variable="age", cuts=(50, 70)),
    ),
    cells=(
        ((0, 0),), ((0, 1),), ((0, 2),), ((1, 0),), ((1, 1), (1, 2)), ((2, 0), (2, 1), (2, 2)),
    ),
    variables=(
        DeclaredVariable(
            name="x",
            by={
                "count": ("arm", "age"),
                "moments": ("arm", "age"),
                "shape": (),
                "histogram": (),
            },
            in_analyses=("count", "moments"),
            grid=Grid(minimum=0, maximum=10, bins=5),
        ),
        DeclaredVariable(
            name="ill",
            by={"count": ("arm", "age"), "levels": ("arm",)},
            in_analyses=("levels",),
        ),
        DeclaredVariable(name="sex", by={"levels": ()}),
        DeclaredVariable(name="arm", by={"levels": ("arm", "age")}, in_analyses=("levels",)),
        DeclaredVariable(
            name="age",
            by={"moments": ("arm",)},
            in_analyses=("moments",),
            grid=Grid(minimum=0, maximum=100, bins=20),
        ),
    ),
    analyses=(
        AnalysisSet(
            name="main",
            variables=("x", "age", "ill", "sex"),
            by=("arm",),
            joint=(
                Joint(variables=("ill", "sex"), by=()),
                Joint(variables=("ill", "x"), by=("arm",)),
                Joint(variables=("age", "ill"), by=("arm",)),
            ),
            products=(Joint(variables=("age", "x"), by=("arm",)),),
        ),
        AnalysisSet(name="small", variables=("x",), by=None),
    ),
)  # fmt: skip
MANIFEST = ReleaseManifest(
    name="r",
    table="t",
    columns=tuple(
        ReleaseColumn(name=v.name, type="number" if v.kind == "number" else "category")
        for v in VARIABLES
    ),
    rows=500,
    subjects=500,
    declaration=DECLARATION,
    files=(),
)


def c(**values: Any) -> Cohort:
    return Cohort.model_validate(values)


A = c(variable="arm", levels=["A"])
YOUNG = c(variable="age", below=50)


def cells(cohort: Cohort | None, kind: str = "moments", name: str = "x", **more: Any) -> Any:
    """The cells of each group; None when it isn't exact."""
    by, across = more.pop("by", None), more.pop("across", ())
    statistic = Statistic.model_validate(
        {"kind": kind, "variable": name, "by": by, "across": across}
    )
    work = StatisticsWork(ask=(statistic,), cohort=cohort, **more)
    [found] = exact.plan(work, PROJECT, DECLARATION)
    return None if found is None else dict(found.groups)


@pytest.mark.parametrize(
    ("cohort", "found"),
    [
        (None, (0, 1, 2, 3, 4, 5)),
        (A, (0, 1, 2)),
        (~A, (3, 4, 5)),
        (c(variable="arm", levels=["B"]), (3, 4)),
        (c(variable="arm", levels=["B", "C"]), (3, 4)),
        (c(variable="arm", missing=True), (5,)),
        (A & YOUNG, (0,)),
        (A & ~YOUNG, (1, 2)),
        (A & c(variable="age", above=49), (1, 2)),  # whole years
        (A & c(variable="age", at_least=49.5), (1, 2)),
        (A & c(variable="age", at_least=50, below=70), (1,)),
        ((A & YOUNG) | (A & ~YOUNG), (0, 1, 2)),
        ((A & c(variable="sex", levels=["f"])) | (A & ~c(variable="sex", levels=["f"])), (0, 1, 2)),
    ],
)
def test_a_union_of_cells_is_exact_however_it_is_worded(
    cohort: Cohort | None, found: tuple[int, ...]
) -> None:
    assert cells(cohort) == {"": found}


@pytest.mark.parametrize(
    "cohort",
    [
        YOUNG,  # cuts the cell of those without an arm
        c(variable="age", at_least=70) & c(variable="arm", levels=["B"]),  # half a merged cell
        A & c(variable="age", at_least=51),
        A & c(variable="age", above=50),
        A & c(variable="sex", levels=["f"]),
        A & c(variable="x", at_least=3),
        c(variable="arm", levels=["C"]),  # in no cell
        A & ~A,
    ],
)
def test_what_is_no_union_of_cells_is_not_exact(cohort: Cohort) -> None:
    assert cells(cohort) is None


def test_groups_are_unions_of_cells_too() -> None:
    assert cells(None, by="arm") == {"A": (0, 1, 2), "B": (3, 4)}
    assert cells(A | YOUNG & c(variable="arm", levels=["B"]), by="arm") == {
        "A": (0, 1, 2),
        "B": (3,),
    }
    assert cells(None, by="sex") is None


def test_a_kind_is_exact_by_its_own_strata_only() -> None:
    assert cells(A, "levels", "ill") == {"": (0, 1, 2)}
    assert cells(A & YOUNG, "levels", "ill") is None
    assert cells(A & YOUNG, "count", "ill") == {"": (0,)}
    assert cells(None, "histogram") == {"": (0, 1, 2, 3, 4, 5)}
    assert cells(A, "histogram") is None
    assert cells(None, "levels", "sex") is not None
    assert cells(A, "levels", "sex") is None
    assert cells(None, "shape") is not None
    assert cells(A, "shape") is None
    assert cells(None, "shape", analysis="main") is None


def test_a_crosstab_is_exact_where_its_combinations_are() -> None:
    def crossed(*names: str, cohort: Cohort | None = None, **more: Any) -> bool:
        more = {"analysis": "main"} | more
        return cells(cohort, "crosstab", names[0], across=names[1:], **more) is not None

    assert crossed("ill", "x") and crossed("x", "ill")
    assert crossed("ill", "x", cohort=A)
    assert not crossed("ill", "x", cohort=A & YOUNG)
    assert crossed("ill", "sex")
    assert not crossed("ill", "sex", cohort=A)
    assert not crossed("ill", "sex", by="arm")
    assert not crossed("x", "sex") and not crossed("ill", "x", "sex")
    assert not crossed("ill", "x", analysis=None) and not crossed("ill", "x", analysis="other")
    assert not crossed("ill", "age")  # the release counts ages on another grid


def test_a_category_that_is_a_stratum_may_be_crossed_with_what_is_exact_by_it() -> None:
    def crossed(*names: str, **more: Any) -> Any:
        cohort = more.pop("cohort", None)
        return cells(cohort, "crosstab", names[0], across=names[1:], **more)

    everybody = {"": (0, 1, 2, 3, 4, 5)}
    assert crossed("ill", "arm") == crossed("arm", "ill") == everybody
    assert crossed("ill", "arm", analysis="main") == everybody
    assert crossed("ill", "x", "arm", analysis="main") == everybody
    assert crossed("sex", "arm") is None  # levels of sex are exact for everybody only
    assert crossed("ill", "sex", "arm", analysis="main") is None
    assert crossed("x", "arm") is None  # so are bins of x
    assert crossed("ill", "arm", cohort=A) == {"": (0, 1, 2)}
    assert crossed("ill", "arm", cohort=A & YOUNG) is None
    assert crossed("ill", "age") is None  # a number's ranges aren't its bins


def test_comoments_are_exact_in_an_analysis_set_that_declares_each_product() -> None:
    def found(*names: str, cohort: Cohort | None = None, **more: Any) -> Any:
        more = {"analysis": "main"} | more
        return cells(cohort, "comoments", names[0], across=names[1:], **more)

    assert found("x", "age", by="arm") == {"A": (0, 1, 2), "B": (3, 4)}
    assert found("age", "x", cohort=A) == {"": (0, 1, 2)}
    assert found("age", "x", cohort=A & YOUNG) is None
    assert found("age", "x", analysis=None) is None
    assert found("age", "x", analysis="small") is None
    without = DECLARATION.model_copy(
        update={"analyses": (DECLARATION.analyses[0].model_copy(update={"products": ()}),)}
    )
    statistic = Statistic(kind="comoments", variable="x", across=("age",))
    work = StatisticsWork(ask=(statistic,), analysis="main")
    assert exact.plan(work, PROJECT, without) == [None]


def test_a_histogram_is_exact_on_the_releases_grid_only() -> None:
    other = World().project(
        variables=tuple(v.model_copy(update={"bins": 6}) if v.name == "x" else v for v in VARIABLES)
    )
    work = StatisticsWork(ask=(Statistic(kind="histogram", variable="x"),))
    assert exact.plan(work, PROJECT, DECLARATION) != [None]
    assert exact.plan(work, other, DECLARATION) == [None]


def test_an_analysis_set_has_its_variables_and_its_own_strata() -> None:
    assert cells(A, analysis="main") == {"": (0, 1, 2)}
    assert cells(A & YOUNG, analysis="main") is None
    assert cells(A, "count", "ill", analysis="main") is None
    assert cells(None, "histogram", analysis="main") is None
    assert cells(A, analysis="small") is None
    assert cells(A, analysis="other") is None


def lanes(policy: Policy, **terms: Any) -> list[Any]:
    ask = tuple(Statistic(kind="moments", variable="x", by=by) for by in (None, "sex"))
    return exact.lanes(StatisticsWork(ask=ask, **terms), PROJECT, MANIFEST, policy)


def test_what_is_not_declared_has_noise_if_it_may_and_is_withheld_else() -> None:
    noise, none = Policy(), Policy(privacy=PrivacySettings(allowed=False))
    first, second = lanes(noise)
    assert first is not None and first.set == "variable:x"
    assert second is None
    for policy, terms in ((noise, {"lane": "exact"}), (none, {}), (noise, {"analysis": "main"})):
        first, second = lanes(policy, **terms)
        assert first is not None and first.groups
        assert second is WITHHELD
    assert lanes(noise, lane="dp") == [None, None]
    only = Policy(projects={"birth": ProjectLimits(lanes=["dp"])})
    assert lanes(only) == [None, None]
    with pytest.raises(Refused, match="declares no exact answer"):
        lanes(only, lane="exact")


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"analysis": "other"}, "The release has no analysis set other; it has main."),
        ({"analysis": "small"}, "The release has no analysis set small; it has main."),
        (
            {"analysis": "main", "variable": "arm"},
            "arm is not in the release's analysis set main, which is of x, age, ill, sex.",
        ),
        (
            {"kind": "crosstab", "variable": "ill", "across": ("sex",), "lane": "exact"},
            "Several variables at once are asked of an analysis set; it has main.",
        ),
        (
            {"kind": "histogram", "variable": "age", "lane": "exact"},
            "The release doesn't count age on the project's grid.",
        ),
    ],
)
def test_a_refusal_says_what_there_is_to_be_asked(terms: dict[str, Any], said: str) -> None:
    asked = {"kind": "count", "variable": "x"} | terms
    how = {name: asked.pop(name) for name in ("analysis", "lane") if name in asked}
    work = StatisticsWork(ask=(Statistic.model_validate(asked),), **how)
    with pytest.raises(Refused) as refusal:
        exact.lanes(work, PROJECT, MANIFEST, Policy())
    assert (refusal.value.code, refusal.value.sentence) == ("not-declared", said)


def test_a_release_for_sums_alone_is_refused_as_if_it_declared_nothing() -> None:
    said = {}
    for sums_only in (True, False):
        declaration = (
            DECLARATION.model_copy(update={"sums_only": True})
            if sums_only
            else Declaration(minimum_cohort=20, minimum_cell=10)
        )
        manifest = MANIFEST.model_copy(update={"declaration": declaration})
        for name in ("main", "other"):
            work = StatisticsWork(ask=(Statistic(kind="count", variable="x"),), analysis=name)
            with pytest.raises(Refused) as refusal:
                exact.lanes(work, PROJECT, manifest, Policy())
            said[sums_only, name] = refusal.value.sentence
    assert said[True, "main"] == said[False, "main"]
    assert said[True, "other"] == said[False, "other"]


def test_a_declaration_for_laxer_minimums_than_the_policys_answers_nothing() -> None:
    strict = DisclosureSettings(minimum_cohort=50, minimum_cell=10)
    assert lanes(Policy(disclosure=strict)) == [None, None]
    with pytest.raises(Refused) as refusal:
        lanes(Policy(disclosure=strict), lane="exact")
    assert refusal.value.code == "not-declared"


def test_a_release_of_an_older_format_is_one_cell() -> None:
    old = MANIFEST.model_copy(update={"declaration": None, "format": 2})
    ask = tuple(Statistic(kind="moments", variable="x", by=by) for by in (None, "arm"))
    found = exact.lanes(StatisticsWork(ask=ask), PROJECT, old, Policy())
    assert found[0] is not None and found[0].groups == {"": (0,)}
    assert found[1] is None


def test_a_listing_says_what_is_exact_of_several_variables() -> None:
    main = DECLARATION.analyses[0]
    message = wire.AnalysisSet(
        name="main",
        variables=main.variables,
        joint=exact.as_bits(main, main.joint),
        products=exact.as_bits(main, main.products),
    )
    found = release_info("here", wire.Release(analyses=[message]))
    assert found.joint["main"] == {frozenset(one.variables) for one in main.joint}
    assert found.products["main"] == {frozenset(("age", "x"))}

"""A model is let in by what a release declares together, and by nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from contract.dictionary import Variable
from contract.errors import Refused
from contract.models import Model
from contract.statistics import models
from contract.work import StatisticsWork
from node.catalog.manifest import (
    AnalysisSet,
    Declaration,
    DeclaredVariable,
    Grid,
    Joint,
    Stratum,
)
from node.gate.modelling import Together
from tests.contract.world import World

CATEGORIES, NUMBERS = ("a", "b", "c", "d"), ("u", "v", "w")
PROJECT = World().project(
    variables=(
        *(Variable(name=n, kind="category", levels=("no", "yes")) for n in CATEGORIES),
        *(Variable(name=n, kind="number", minimum=1, maximum=101) for n in NUMBERS),
        Variable(name="narrow", kind="number", minimum=0, maximum=2),
    )
)
PAIRS = [("a", "b"), ("a", "c"), ("b", "c"), ("a", "d"), ("b", "d"), ("c", "d")]
PRODUCTS = [
    *(("u", "v"), ("u", "w"), ("v", "w")),
    *((c, n) for c in CATEGORIES for n in NUMBERS),
    *(("narrow", n) for n in ("u", "v", "w")),
]


def declaration(
    joint: list[tuple[str, ...]] | None = None,
    products: list[tuple[str, ...]] | None = None,
    gridded: tuple[str, ...] = ("u",),
    by: tuple[str, ...] = (),
) -> Declaration:
    """What a release declares: two cells, by ``a``."""
    grid = Grid(minimum=1, maximum=101, bins=10)
    return Declaration(
        minimum_cohort=20,
        minimum_cell=10,
        strata=(Stratum(variable="a", levels=("no", "yes")),),
        cells=(((0,),), ((1,),)),
        variables=tuple(
            DeclaredVariable(name=n, by={"histogram": by}, in_analyses=("histogram",), grid=grid)
            if n in gridded
            else DeclaredVariable(name=n)
            for n in (*CATEGORIES, *NUMBERS, "narrow")
        ),
        analyses=(
            AnalysisSet(
                name="main",
                variables=(*CATEGORIES, *NUMBERS, "narrow"),
                by=("a",),
                joint=tuple(Joint(variables=n, by=by) for n in (PAIRS if joint is None else joint)),
                products=tuple(
                    Joint(variables=tuple(sorted(n)), by=by)
                    for n in (PRODUCTS if products is None else products)
                ),
            ),
        ),
    )


def objection(
    declared: Declaration,
    cells: tuple[int, ...] = (0, 1),
    *,
    everything: bool = False,
    **model: Any,
) -> str:
    """Return why a model isn't let in, empty when it is."""
    asked = Model.model_validate({"family": "linear", "outcome": "u", "terms": []} | model)
    work = StatisticsWork(
        ask=models.marginals(asked, PROJECT), analysis="main", lane="exact", fit=asked
    )
    models.check(work, PROJECT)
    try:
        Together(work, PROJECT, declared, cells).check(everything=everything)
    except Refused as refusal:
        assert refusal.code == "not-declared-together"
        return refusal.sentence
    return ""


def test_two_categories_need_counts_of_both_and_the_refusal_names_them() -> None:
    terms = [["a"], ["b"], ["c"]]
    assert objection(declaration(), terms=terms) == ""
    said = objection(declaration(joint=[p for p in PAIRS if p != ("b", "c")]), terms=terms)
    assert said.startswith("Counts of b and c together are not declared in main")


def test_a_product_of_categories_needs_counts_of_what_its_columns_multiply() -> None:
    terms = [["a", "b"], ["c"]]
    assert "a, b and c" in objection(declaration(), terms=terms)
    assert objection(declaration(joint=[*PAIRS, ("a", "b", "c")]), terms=terms) == ""
    four = [["a", "b"], ["c", "d"]]
    threes = [("a", "b", "c"), ("a", "b", "d"), ("a", "c", "d"), ("b", "c", "d")]
    assert "a, b, c and d" in objection(declaration(joint=[*PAIRS, *threes]), terms=four)


def test_an_outcome_that_is_a_category_counts_with_each_term() -> None:
    logistic = {"family": "logistic", "outcome": "d", "terms": [["a"], ["u"]]}
    assert objection(declaration(), **logistic) == ""
    without = declaration(joint=[("a", "b")])
    assert "a and d" in objection(without, **logistic)


def test_the_event_of_a_cox_model_counts_with_each_term_and_stratum() -> None:
    cox = {"family": "cox", "outcome": "u", "event": "d", "terms": [["a"]], "strata": ["b"]}
    assert objection(declaration(), **cox) == ""
    for pair in (("a", "d"), ("b", "d"), ("a", "b")):
        without = declaration(joint=[p for p in PAIRS if p != pair])
        assert f"{pair[0]} and {pair[1]}" in objection(without, **cox)


def test_a_model_of_several_steps_needs_all_its_categories_together() -> None:
    logistic = {"family": "logistic", "outcome": "d", "terms": [["a"], ["b"], ["u"]]}
    assert objection(declaration(), **logistic) == ""
    assert "a, b and d" in objection(declaration(), everything=True, **logistic)
    enough = declaration(joint=[*PAIRS, ("a", "b", "d")])
    assert objection(enough, everything=True, **logistic) == ""
    four = {**logistic, "terms": [["a"], ["b"], ["c"]]}
    assert "a, b, c and d" in objection(enough, everything=True, **four)


def test_numbers_are_declared_as_products() -> None:
    model = {"outcome": "u", "terms": [["v"], ["w"], ["a"]]}
    assert objection(declaration(), **model) == ""
    for pair in (("v", "w"), ("u", "v"), ("a", "w")):
        without = declaration(products=[p for p in PRODUCTS if p != pair])
        assert f"{pair[0]} and {pair[1]}" in objection(without, **model)


def test_weights_and_a_logged_offset_are_a_factor_of_every_product() -> None:
    weighted = {"outcome": "u", "terms": [["a"]], "weights": "w"}
    offset = {
        "family": "poisson",
        "outcome": "u",
        "terms": [["a"]],
        "offset": [{"form": "function", "function": "log", "variable": "w"}],
    }
    for model in (weighted, offset):
        assert objection(declaration(), **model) == ""
        without = declaration(products=[p for p in PRODUCTS if p != ("a", "w")])
        assert "a and w" in objection(without, **model)


def test_an_offset_weighs_nobody_far_above_others() -> None:
    poisson = {"family": "poisson", "outcome": "u", "terms": [["v"]]}
    wide = [{"form": "power", "variable": "w", "scale": 10}]
    assert "The offset I(w/10) would weigh" in objection(declaration(), **poisson, offset=wide)
    narrow = [{"form": "value", "variable": "narrow"}]
    assert objection(declaration(), **poisson, offset=narrow) == ""


def test_offsets_are_held_to_what_terms_are_and_are_narrow_all_together() -> None:
    """The squares of a linear model's offset of the tenth power are those of the largest value."""
    high = {"form": "power", "variable": "w", "power": 10, "shift": 1, "scale": 100}
    third = high | {"power": 3}
    log = {"form": "function", "function": "log", "variable": "w"}
    linear = {"outcome": "u", "terms": [["v"]]}
    poisson = linear | {"family": "poisson"}
    assert "needs counts of w" in objection(declaration(), **poisson, offset=[third])
    assert "offset log(w)" in objection(declaration(gridded=("w",)), **linear, offset=[log])
    gridded = declaration(gridded=("w",))
    assert objection(gridded, **poisson, offset=[third]) == ""
    assert "powers up to 3" in objection(gridded, **poisson, offset=[high])
    assert "twice" in objection(gridded, **poisson, offset=[third, third])
    assert "twice" in objection(gridded, **poisson, offset=[log, log])
    two = {"form": "value", "variable": "narrow"}
    wide = third | {"scale": 75}
    assert objection(gridded, **poisson, offset=[two]) == ""
    assert "with those of other offsets" in objection(gridded, **poisson, offset=[two, wide])


def spline(**said: Any) -> dict[str, Any]:
    return {"outcome": "v", "terms": [[{"form": "spline", "variable": "u", "basis": "ns"} | said]]}


@pytest.mark.parametrize(
    ("said", "fits"),
    [
        ({"knots": [31, 71]}, True),
        ({"knots": [31, 72]}, False),
        ({"df": 2}, True),  # a knot in the middle
        ({"df": 3}, False),  # knots at thirds
        ({"knots": [51], "boundary": [11, 91]}, True),
        ({"knots": [51], "boundary": [12, 91]}, False),
    ],
)
def test_a_splines_knots_are_edges_of_the_declared_grid(said: dict[str, Any], fits: bool) -> None:
    found = objection(declaration(), **spline(**said))
    assert found == "" if fits else "not edges of u's grid, which is u=1:101:10" in found


@pytest.mark.parametrize(
    "factor",
    [
        {"form": "function", "function": "log", "variable": "u"},
        {"form": "power", "power": 2, "variable": "u"},
        {"form": "spline", "basis": "ns", "df": 2, "variable": "u"},
    ],
)
def test_a_function_of_a_number_needs_counts_on_its_grid(factor: dict[str, Any]) -> None:
    model = {"outcome": "v", "terms": [[factor], ["a"]]}
    joined = [*PAIRS, ("a", "u")]
    assert objection(declaration(joint=joined), **model) == ""
    said = objection(declaration(joint=joined, gridded=()), **model)
    assert "on its grid" in said
    assert "Make the release again with --grid u=" in said
    assert "a and u together" in objection(declaration(), **model)


def test_high_powers_are_not_let_in() -> None:
    def power(number: int) -> dict[str, Any]:
        return {"outcome": "v", "terms": [[{"form": "power", "power": number, "variable": "u"}]]}

    assert objection(declaration(), **power(3)) == ""
    assert "powers up to 3" in objection(declaration(), **power(4))


def test_a_cohort_is_a_union_of_what_the_declared_strata_tell_apart() -> None:
    model = {"outcome": "v", "terms": [["b"], ["c"]]}
    assert objection(declaration(), (0, 1), **model) == ""
    assert objection(declaration(), (1,), **model)  # declared of all together only
    assert objection(declaration(by=("a",)), (1,), **model) == ""


def test_of_an_analysis_set_that_is_not_declared_no_model_is_let_in() -> None:
    asked = Model.model_validate({"family": "linear", "outcome": "u", "terms": [["v"]]})
    ask = models.marginals(asked, PROJECT)
    work = StatisticsWork(ask=ask, analysis="other", lane="exact", fit=asked)
    with pytest.raises(Refused, match="declares no exact answer"):
        Together(work, PROJECT, declaration(), (0, 1))

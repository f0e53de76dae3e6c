"""Derived columns tell together no more than one of them alone may."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.catalog.declaring import Declared, Minimums, Wishes, declare
from node.catalog.kinship import Kinship
from node.catalog.manifest import MAX_ANALYSES, Grid
from node.catalog.strata import Blocks, Categories, StratumWish

LIMITS = Minimums(cohort=5, cell=3, largest_contribution=0.5)
GRID = Grid(minimum=0, maximum=10, bins=5)
NAMES = ("x", "y", "copy", "low", "high", "first")
KIN = Kinship((NAMES,), (("x", "copy", "low", "high"),))
ANALYSES = {"main": ("x", "arm"), "other": ("copy", "y")}


def cut(values: Any, edge: float) -> Categories:
    codes = np.where(np.isnan(values), -1, (values >= edge).astype(np.int64))
    return Categories(codes, ("below", "above"))


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """A number; a copy that lacks for a few; two cuts through it near one another; a coalesce."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(10, 150))
    x = np.round(rng.normal(5, 2, size), draw(st.integers(0, 1)))
    x[rng.random(size) < draw(st.sampled_from([0.0, 0.03, 0.2]))] = np.nan
    y = np.where(rng.random(size) < 0.3, np.nan, rng.normal(5, 2, size))
    copy = x.copy()
    copy[rng.choice(size, draw(st.integers(0, 8)), replace=False)] = np.nan
    edge = draw(st.sampled_from([4.0, 5.0]))
    return {
        "arm": Categories(rng.integers(0, 2, size), ("a", "b")),
        "x": x,
        "y": y,
        "copy": copy,
        "low": cut(x, edge),
        "high": cut(x, edge + draw(st.sampled_from([0.0, 0.1, 1.0]))),
        "first": np.where(np.isnan(x), y, x),
    }


def declared(held: dict[str, Any], analyses: int, kinship: Kinship = KIN) -> Declared:
    wishes = Wishes(
        strata=[StratumWish("arm")],
        analyses=dict(itertools.islice(ANALYSES.items(), analyses)),
        grids={"x": GRID},
        minimums=LIMITS,
        kinship=kinship,
    )
    return declare(held, [f"{i:08x}" for i in range(len(held["x"]))], wishes)


def asked(found: Declared, name: str, kind: str) -> list[Any]:
    """The sets in which a kind of statistic of a variable is exact: who is in each."""
    variable = found.declaration.variable(name)
    if variable is None or kind not in variable.by:
        return []
    sets = [found.variables[name]]
    if kind in variable.in_analyses:
        sets += [
            found.analyses[a.name]
            for a in found.declaration.analyses
            if name in a.variables and a.by is not None
        ]
    return sets


def groups(found: Declared, name: str, kind: str) -> list[Any]:
    """Who is in each group of cells that a statistic may be asked of."""
    variable = found.declaration.variable(name)
    assert variable is not None
    blocks = Blocks(found.declaration.strata, found.declaration.cells)
    block = blocks.of(variable.by[kind])  # type: ignore[index]
    inside = np.where(found.cells >= 0, block[found.cells], -1)
    return [inside == one for one in np.unique(block)]


@given(tables(), st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_who_has_a_value_under_one_name_and_not_another_is_nobody_or_enough(
    held: dict[str, Any], analyses: int
) -> None:
    """The attack: a sum under one name less the sum under another."""
    found = declared(held, analyses)
    sets = [one for name in NAMES for one in asked(found, name, "moments")]
    sets += [one for name in ("low", "high") for one in asked(found, name, "levels")]
    for cell in range(len(found.declaration.cells)):
        here = found.cells == cell
        for one, other in itertools.combinations(sets, 2):
            for part in (one & ~other, other & ~one, one & other):
                number = int(np.count_nonzero(part & here))
                assert number == 0 or number >= LIMITS.cohort


@given(tables(), st.integers(0, 2))
@settings(max_examples=100, deadline=None)
def test_two_cuts_through_one_number_tell_of_nobody_or_of_enough(
    held: dict[str, Any], analyses: int
) -> None:
    """The attack: how many are below one cut, less how many are below the other."""
    found = declared(held, analyses)
    edges = np.linspace(0, 10, 6)
    below: dict[str, list[Any]] = {
        "low": [held["low"].codes == 0],
        "high": [held["high"].codes == 0],
        "x": [held["x"] < edge for edge in edges],
    }
    kinds = {"low": "levels", "high": "levels", "x": "histogram"}
    counts: list[tuple[Any, Any]] = []
    for name, conditions in below.items():
        for inside in asked(found, name, kinds[name]):
            for group in groups(found, name, kinds[name]):
                counts += [(group, inside & group & condition) for condition in conditions]
    for (group, one), (same, other) in itertools.combinations(counts, 2):
        if (group == same).all():
            number = abs(int(np.count_nonzero(one)) - int(np.count_nonzero(other)))
            assert number == 0 or number >= LIMITS.cell


def test_without_kinship_the_attacks_succeed() -> None:
    """So that the tests above attack something."""
    rng = np.random.default_rng(4)
    x = rng.normal(5, 2, 100)
    held: dict[str, Any] = {
        "arm": Categories(np.zeros(100, dtype=np.int64), ("a", "b")),
        "x": x,
        "copy": np.where(np.arange(100) == 17, np.nan, x),
        "y": np.where(np.arange(100) == 18, np.nan, x),
        "low": cut(x, 5.0),
        "high": cut(x, float(np.sort(x[x > 5])[0]) + 1e-9),
    }

    def told(kinship: Kinship) -> tuple[int, int]:
        found = declared(held, 2, kinship)
        apart = int((found.variables["copy"] & ~found.analyses["other"]).sum())
        levels = [found.declaration.variable(n).by for n in ("low", "high")]  # type: ignore[union-attr]
        return apart, sum("levels" in by for by in levels)

    # One lies between the cuts, and somebody may have the one value and not the other.
    assert told(Kinship())[1] == 2
    apart, cuts = told(Kinship((("x", "y", "copy", "low", "high"),), KIN.same))
    assert cuts == 1
    assert apart == 0 or apart >= LIMITS.cohort


def test_kin_with_values_for_the_same_subjects_have_one_set_and_stay_exact() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(5, 2, 300)
    x[:30] = np.nan
    held: dict[str, Any] = {
        "arm": Categories(rng.integers(0, 2, 300), ("a", "b")),
        "x": x,
        "low": cut(x, 5.0),
        "square": x**2,
    }
    kinship = Kinship((("x", "low", "square"),), (("x", "low", "square"),))
    found = declared(held, 1, kinship)
    assert (found.variables["x"] == found.variables["low"]).all()
    assert (found.variables["x"] == found.variables["square"]).all()
    for name, kind in (("low", "levels"), ("square", "moments"), ("x", "moments")):
        assert kind in found.declaration.variable(name).by  # type: ignore[union-attr]


@pytest.mark.parametrize(("between", "exact"), [(2, False), (0, True), (12, True)])
def test_a_cut_that_cells_are_told_apart_by_cuts_the_bins_too(between: int, exact: bool) -> None:
    """The attack: how many are in the bins up to 80, less how many are in the cell below 70."""
    rng = np.random.default_rng(1)
    ages = [rng.integers(20, 60, 150), rng.integers(60, 70, 60), rng.integers(80, 95, 40)]
    age = np.concatenate([*ages, np.full(between, 72)]).astype(np.float64)
    wishes = Wishes(
        strata=[StratumWish("age", (70.0,))],
        grids={"age": Grid(minimum=20, maximum=100, bins=4)},
        minimums=LIMITS,
    )
    found = declare({"age": age}, [f"{i:08x}" for i in range(age.size)], wishes)
    variable = found.declaration.variable("age")
    assert variable is not None
    assert len(found.declaration.cells) == 2
    assert ("histogram" in variable.by) == exact


def test_kin_that_there_is_no_room_for_are_not_exact() -> None:
    rng = np.random.default_rng(6)
    held: dict[str, Any] = {"arm": Categories(rng.integers(0, 2, 300), ("a", "b"))}
    held["x"] = rng.normal(5, 2, 300)
    names = [f"v{i}" for i in range(MAX_ANALYSES + 1)]
    for at, name in enumerate(names):
        held[name] = np.where(np.arange(300) == at, np.nan, held["x"])
    found = declared(held, 0, Kinship((("x", *names),), ()))
    for name in ("x", *names):
        assert not found.declaration.variable(name).by  # type: ignore[union-attr]
    assert found.declaration.variable("arm").by  # type: ignore[union-attr]


@pytest.mark.parametrize("values", [3, 9, 40])
def test_powers_of_a_number_of_few_values_are_not_exact_where_few_have_one(values: int) -> None:
    """n numbers give 4 n sums, of which 4 n + 1 values' counts can be worked out."""
    rng = np.random.default_rng(7)
    x = np.sort(rng.choice(np.arange(1, values), 300).astype(np.float64))
    x[0] = 0.0  # one has it, alone
    held: dict[str, Any] = {"arm": Categories(np.zeros(300, dtype=np.int64), ("a", "b"))}
    held |= {"x": x, "x2": x**2, "x4": x**4}
    names = ("x", "x2", "x4")
    found = declared(held, 0, Kinship((names,), (names,)))
    exact = "moments" in found.declaration.variable("x").by  # type: ignore[union-attr]
    assert exact == (values > 13)

"""What a release declares holds for any table: no piece that answers can be cut into is small."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import UsageError
from node.catalog.declaring import Declared, Minimums, Wishes, declare
from node.catalog.manifest import Grid
from node.catalog.strata import Blocks, Categories, Held, StratumWish, stratify
from node.commands.declaring import lost

LIMITS = Minimums(cohort=5, cell=3, largest_contribution=0.5)
GRID = Grid(minimum=0, maximum=10, bins=4)
ANALYSES = {"main": ("x", "y"), "wide": ("x", "y", "c"), "other": ("y", "c")}


def subjects(number: int) -> list[str]:
    """Pseudonyms."""
    return [f"{i:08x}" for i in range(number)]


@st.composite
def tables(draw: st.DrawFn) -> Held:
    """Tables of some dozens of subjects, with missing values and rare levels."""
    seed = draw(st.integers(0, 2**32 - 1))
    size = draw(st.integers(0, 150))
    gone = [draw(st.sampled_from([0.0, 0.02, 0.1, 0.4])) for _ in range(5)]
    rng = np.random.default_rng(seed)

    def category(levels: int, missing: float) -> Categories:
        share = rng.dirichlet(np.full(levels, draw(st.sampled_from([0.3, 5.0]))))
        codes = rng.choice(levels, size, p=share)
        codes[rng.random(size) < missing] = -1
        return Categories(codes.astype(np.int64), tuple("abcd"[:levels]))

    def number(missing: float) -> Any:
        values = np.round(rng.normal(5, 2, size), 1)
        values[rng.random(size) < missing] = np.nan
        return values

    return {
        "arm": category(2, gone[0]),
        "sex": category(3, gone[1]),
        "x": number(gone[2]),
        "y": number(gone[3]),
        "c": category(3, gone[4]),
    }


def declared(held: Held, strata: tuple[str, ...], analyses: int) -> Declared | None:
    """Declare by some strata; None when there is nobody for them."""
    wishes = Wishes(
        strata=[StratumWish(s, (5.0,)) if s == "x" else StratumWish(s) for s in strata],
        analyses=dict(itertools.islice(ANALYSES.items(), analyses)),
        grids={"x": GRID},
        minimums=LIMITS,
    )
    try:
        return declare(held, subjects(len(next(iter(held.values())).codes)), wishes)  # type: ignore[union-attr]
    except UsageError:
        return None


STRATA = st.sampled_from([(), ("arm",), ("arm", "sex"), ("sex", "x"), ("arm", "sex", "c")])


def value_sets(found: Declared, variable: str) -> list[Any]:
    """The sets in which functions of one variable may be asked."""
    return [
        found.variables[variable],
        *(found.analyses[a.name] for a in found.declaration.analyses if variable in a.variables),
    ]


@given(tables(), STRATA, st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_in_each_cell_the_pieces_of_every_variable_hold_nobody_or_enough(
    held: Held, strata: tuple[str, ...], analyses: int
) -> None:
    found = declared(held, strata, analyses)
    if found is None:
        return
    for cell in range(len(found.declaration.cells)):
        here = found.cells == cell
        assert np.count_nonzero(here) >= LIMITS.cohort
        sizes = []
        classes = sum(inside.astype(int) << i for i, inside in enumerate(found.analyses.values()))
        if found.analyses:
            held_by = [int(n) for n in np.bincount(classes[here])[1:] if n]
            sizes += itertools.accumulate(held_by)
        for name in held:
            sets = value_sets(found, name)
            masks = sum(inside.astype(int) << i for i, inside in enumerate(sets))
            pieces = np.bincount(masks[here])
            assert all(count == 0 or count >= LIMITS.cohort for count in pieces[1:].tolist())
            size = int(np.count_nonzero(found.variables[name] & here))
            if len(pieces) > 1 and pieces[1]:  # there are some in no analysis set
                sizes.append(size)
        # Sizes subtracted from one another tell of nobody or of enough.
        steps = sorted({0, *sizes})
        assert all(b - a >= LIMITS.cohort for a, b in itertools.pairwise(steps))


@given(tables(), STRATA, st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_nobody_joins_a_set_that_they_have_no_value_for(
    held: Held, strata: tuple[str, ...], analyses: int
) -> None:
    found = declared(held, strata, analyses)
    if found is None:
        return
    complete = {
        name: column.codes >= 0 if isinstance(column, Categories) else ~np.isnan(column)
        for name, column in held.items()
    }
    for name, inside in found.variables.items():
        assert not (inside & ~(complete[name] & (found.cells >= 0))).any()
    for analysis in found.declaration.analyses:
        inside = found.analyses[analysis.name]
        for name in analysis.variables:
            assert not (inside & ~found.variables[name]).any()


@given(tables(), STRATA, st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_every_count_of_a_level_or_bin_that_can_be_told_is_none_or_enough(
    held: Held, strata: tuple[str, ...], analyses: int
) -> None:
    found = declared(held, strata, analyses)
    if found is None:
        return
    blocks = Blocks(found.declaration.strata, found.declaration.cells)
    edges = np.linspace(GRID.minimum, GRID.maximum, GRID.bins + 1)
    for variable in found.declaration.variables:
        column = held[variable.name]
        for kind in ("levels", "histogram"):
            if kind not in variable.by:
                continue
            if isinstance(column, Categories):
                codes = column.codes
            else:
                codes = np.searchsorted(edges, column, side="right")
                codes[column == GRID.maximum] = GRID.bins
            block = blocks.of(variable.by[kind])[found.cells]
            sets = value_sets(found, variable.name)
            if kind not in variable.in_analyses:
                sets = sets[:1]
            masks = sum(inside.astype(int) << i for i, inside in enumerate(sets))
            for piece in {(int(b), int(m)) for b, m in zip(block, masks, strict=True) if m}:
                rows = (block == piece[0]) & (masks == piece[1]) & (found.cells >= 0)
                counts = np.bincount(codes[rows]).tolist()
                assert all(count == 0 or count >= LIMITS.cell for count in counts)


@given(tables(), STRATA)
@settings(max_examples=60, deadline=None)
def test_no_total_is_mostly_one_subjects(held: Held, strata: tuple[str, ...]) -> None:
    rich = {**held, "x": np.where(np.arange(held["x"].size) == 3, 1e6, held["x"])}  # type: ignore[union-attr]
    for table in (held, rich):
        found = declared(table, strata, 1)
        if found is None:
            continue
        blocks = Blocks(found.declaration.strata, found.declaration.cells)
        for name in ("x", "y"):
            variable = found.declaration.variable(name)
            if variable is None or "moments" not in variable.by:
                continue
            block = blocks.of(variable.by["moments"])[found.cells]
            for number in set(block.tolist()):
                rows = found.variables[name] & (block == number) & (found.cells >= 0)
                values = np.abs(table[name][rows])  # type: ignore[index]
                assert values.max() <= 0.5 * values.sum()


def test_zero_one_and_one_too_few_subjects_declare_the_same() -> None:
    seen = set()
    for few in (0, 1, 4):
        codes = np.array([0] * 40 + [1] * 40 + [2] * few)
        held: Held = {
            "arm": Categories(np.tile([0, 1], len(codes))[: len(codes)], ("A", "B")),
            "sex": Categories(codes, ("f", "m", "x")),
            "x": np.linspace(1, 9, len(codes)),
        }
        found = declared(held, ("arm", "sex"), 0)
        assert found is not None
        seen.add(found.declaration.model_dump_json())
        assert np.count_nonzero(found.cells >= 0) == 80
    assert len(seen) == 1


def test_missing_values_by_few_take_others_with_them_and_by_none_take_nobody() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(5, 1, 200), rng.normal(5, 1, 200)
    whole = (
        declared({"x": x, "y": y}, (), 0)
        if False
        else declare({"x": x, "y": y}, subjects(200), Wishes(strata=[], minimums=LIMITS))
    )
    assert whole.loss.by_variable == {"x": 0, "y": 0}
    y = y.copy()
    y[:2] = np.nan
    found = declare({"x": x, "y": y}, subjects(200), Wishes(strata=[], minimums=LIMITS))
    lost = found.loss.by_variable
    # Both sets have 198, so that their sizes tell nothing; or they are five apart.
    assert lost in ({"x": 2, "y": 2}, {"x": 0, "y": 5})


def test_analysis_sets_that_differ_by_few_are_told_to_the_steward() -> None:
    rng = np.random.default_rng(5)
    held: Held = {name: rng.normal(5, 1, 200) for name in ("x", "y", "z")}
    held["y"][:12] = np.nan
    held["z"][100:] = np.nan
    sets = {"one": ("x",), "most": ("x", "y"), "half": ("x", "z")}
    found = declare(held, subjects(200), Wishes(strata=[], analyses=sets, minimums=LIMITS))
    differ = int(np.count_nonzero(found.analyses["one"] ^ found.analyses["most"]))
    assert found.loss.nearly_alike == {("one", "most"): differ}
    assert any(f"one and most differ by {differ} subjects" in line for line in lost(found.loss))


def test_the_same_table_declares_the_same() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(5, 1, 100)
    x[:7] = np.nan
    held: Held = {"x": x, "y": rng.normal(5, 1, 100)}
    made = [declare(held, subjects(100), Wishes(strata=[], minimums=LIMITS)) for _ in range(2)]
    assert made[0].declaration == made[1].declaration
    assert all((made[0].variables[n] == made[1].variables[n]).all() for n in held)


def test_small_cells_are_merged_and_the_last_strata_given_up_first() -> None:
    arm = np.repeat([0, 1], 50)
    age = np.concatenate(
        [np.full(48, 40.0), np.full(2, 80.0), np.full(25, 40.0), np.full(25, 80.0)]
    )
    held: Held = {"arm": Categories(arm, ("A", "B")), "age": age}
    found = stratify(held, [StratumWish("arm"), StratumWish("age", (65.0,))], 5, 100)
    assert found.cells == (((0, 0), (0, 1)), ((1, 0),), ((1, 1),))
    assert found.combinations == 4
    assert found.excluded == 0
    blocks = Blocks(found.strata, found.cells)
    assert blocks.of(("arm",)).tolist() == [0, 1, 1]
    assert blocks.of(("age",)).tolist() == [0, 0, 0]
    assert blocks.of(()).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "wrong",
    [[StratumWish("height")], [StratumWish("x")], [StratumWish("arm", (1.0,))]],
)
def test_strata_are_categories_or_numbers_with_cuts(wrong: list[StratumWish]) -> None:
    held: Held = {"arm": Categories(np.zeros(50, dtype=np.int64), ("A",)), "x": np.ones(50)}
    with pytest.raises(UsageError):
        stratify(held, wrong, 5, 50)

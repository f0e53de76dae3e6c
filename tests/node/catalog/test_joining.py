"""What a release declares of several variables at once holds for any table."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix

from node.catalog.declaring import Declared, Minimums, Wishes, declare
from node.catalog.manifest import Grid
from node.catalog.strata import Blocks, Categories, Held, StratumWish

LIMITS = Minimums(cohort=5, cell=3, largest_contribution=0.5)
NAMES = ("u", "v", "w")


def declared(
    held: Held,
    strata: Sequence[str] = (),
    analyses: Mapping[str, tuple[str, ...]] = {"main": NAMES},
    grids: Mapping[str, Grid] = {},
) -> Declared:
    """Declare with low minimums."""
    first = next(iter(held.values()))
    number = len(first.codes) if isinstance(first, Categories) else len(first)
    wishes = Wishes(
        strata=[StratumWish(s) for s in strata],
        analyses=analyses,
        grids=grids,
        minimums=LIMITS,
    )
    return declare(held, [f"{i:08x}" for i in range(number)], wishes)


def category(*codes: Any) -> Categories:
    """A category of codes."""
    found = np.concatenate([np.atleast_1d(c) for c in codes]).astype(np.int64)
    return Categories(found, tuple("abcdef"[: int(found.max()) + 1]))


def cube(counts: Any) -> dict[str, Categories]:
    """A table of three categories with so many of each combination."""
    where = np.repeat(np.indices(counts.shape).reshape(3, -1), counts.ravel(), axis=1)
    return {name: category(codes) for name, codes in zip(NAMES, where, strict=True)}


def joint(found: Declared, *names: str, analysis: str = "main") -> Any:
    """By which strata combinations are declared."""
    one = found.declaration.analysis(analysis)
    assert one is not None
    return one.joint_by(names)


@st.composite
def tables(draw: st.DrawFn, most: int = 120) -> dict[str, Categories]:
    """A stratum and three categories that depend on one another, some of them missing."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(20, most))
    codes = {"t": rng.integers(0, 2, size)}
    base = rng.integers(0, 2, size)
    for name in NAMES:
        width = draw(st.integers(2, 3))
        own = rng.integers(0, width, size)
        same = rng.random(size) < draw(st.sampled_from([0.0, 0.5, 0.9]))
        codes[name] = np.where(same, np.minimum(base + codes["t"] * rng.integers(0, 2), 1), own)
        codes[name][rng.random(size) < draw(st.sampled_from([0.0, 0.0, 0.1]))] = -1
    return {name: Categories(c.astype(np.int64), tuple("abc")) for name, c in codes.items()}


SETS = {"main": NAMES, "pair": ("u", "v"), "all": ("t", *NAMES)}


@given(tables(), st.sampled_from([(), ("t",)]), st.integers(1, 3))
@settings(max_examples=80, deadline=None)
def test_every_count_of_a_combination_that_can_be_told_is_none_or_enough(
    held: dict[str, Categories], strata: tuple[str, ...], number: int
) -> None:
    found = declared(held, strata, dict(itertools.islice(SETS.items(), number)))
    blocks = Blocks(found.declaration.strata, found.declaration.cells)
    together: dict[Any, list[str]] = {}
    for analysis in found.declaration.analyses:
        for one in analysis.joint:
            together.setdefault((one.variables, one.by), []).append(analysis.name)
    for (names, by), sets in together.items():
        codes = np.stack([held[name].codes for name in names])
        block = blocks.of(by)[found.cells]
        masks = sum(found.analyses[name].astype(int) << i for i, name in enumerate(sets))
        inside = (masks > 0) & (found.cells >= 0)
        for piece in set(zip(block[inside].tolist(), masks[inside].tolist(), strict=True)):
            rows = inside & (block == piece[0]) & (masks == piece[1])
            counts = np.unique(codes[:, rows], axis=1, return_counts=True)[1]
            assert counts.min() >= LIMITS.cell


class Intruder:
    """Somebody with every exact answer about the analysis set ``main``, and integer programming.

    Unknown are the numbers of subjects with each combination of all variables in each cell.
    """

    def __init__(self, held: Mapping[str, Categories], found: Declared) -> None:
        self.found = found
        inside = found.analyses["main"] & (found.cells >= 0)
        cells = len(found.declaration.cells)
        self.shape = (cells, *(len(held[n].levels) for n in NAMES))
        codes = [found.cells[inside], *(held[n].codes[inside] for n in NAMES)]
        flat = np.ravel_multi_index([c.astype(int) for c in codes], self.shape)
        self.truth = np.bincount(flat, minlength=int(np.prod(self.shape)))
        self.axes = np.indices(self.shape).reshape(4, -1)
        self.known: dict[bytes, Any] = {}
        self._hear()

    def _hear(self) -> None:
        """Learn every count that is exact."""
        declaration = self.found.declaration
        blocks = Blocks(declaration.strata, declaration.cells)
        exact: list[tuple[tuple[str, ...], Any]] = [((), declaration.analyses[0].by)]
        for name in NAMES:
            variable = declaration.variable(name)
            if variable is not None and "levels" in variable.in_analyses:
                exact.append(((name,), variable.by["levels"]))
        exact += [(one.variables, one.by) for one in declaration.analyses[0].joint]
        for names, by in exact:
            if by is not None:
                self.hear(names, blocks.of(by))

    def hear(self, names: tuple[str, ...], block: Any) -> None:
        """Learn the counts of all combinations of some variables in each block of cells."""
        groups = [block[self.axes[0]], *(self.axes[1 + NAMES.index(n)] for n in names)]
        for group in np.unique(np.stack(groups), axis=1).T:
            row = (np.stack(groups) == group[:, None]).all(axis=0)
            self.known[row.tobytes()] = row

    def bounds(self, target: Any) -> tuple[int, int]:
        """Return between what a count lies, for all that is known."""
        rows = np.array(list(self.known.values()), dtype=float)
        sums = rows @ self.truth
        ends = []
        for sign in (1, -1):
            solved = milp(
                sign * target.astype(float),
                constraints=LinearConstraint(csr_matrix(rows), sums, sums),
                integrality=np.ones(rows.shape[1]),
                bounds=Bounds(0, np.inf),
            )
            assert solved.success
            ends.append(round(sign * solved.fun))
        return ends[0], ends[1]

    def targets(self) -> Iterator[Any]:
        """Yield each count of a combination of two or three variables that few have."""
        for size in (2, 3):
            for some in itertools.combinations(range(1, 4), size):
                values = np.unique(self.axes[list(some)], axis=1).T
                for value in values:
                    row = (self.axes[list(some)] == value[:, None]).all(axis=0)
                    if 0 < int(self.truth[row].sum()) < LIMITS.cell:
                        yield row


@given(tables(most=60))
@settings(max_examples=25, deadline=None)
def test_all_exact_answers_together_tell_of_no_combination_that_a_few_have_it(
    held: dict[str, Categories],
) -> None:
    held.pop("t")
    found = declared(held)
    intruder = Intruder(held, found)
    for target in intruder.targets():
        least, most = intruder.bounds(target)
        assert least == 0 or most >= LIMITS.cell


NESTED = np.array([[[0, 0], [9, 12]], [[6, 5], [1, 10]]])
"""Who has v = a has u = b: u is "any", v is "of a kind", w something else. One has u and not v."""


def test_pairs_whose_bounds_would_tell_of_one_subject_are_not_all_declared() -> None:
    held = cube(NESTED)
    found = declared(held)
    intruder = Intruder(held, found)
    target = (intruder.axes[1:] == np.array([[1], [1], [0]])).all(axis=0)
    assert intruder.truth[target].sum() == 1
    least, most = intruder.bounds(target)
    assert (least, most) != (1, 1) and (least == 0 or most >= LIMITS.cell)
    pairs = list(itertools.combinations(NAMES, 2))
    # Of each pair by itself every combination is held by enough, or by nobody.
    for pair in pairs:
        assert joint(declared({n: held[n] for n in pair}, analyses={"main": pair}), *pair) == ()
        intruder.hear(pair, np.zeros(1, dtype=int))
    assert intruder.bounds(target) == (1, 1)
    assert [joint(found, *pair) for pair in pairs] == [(), (), None]


def test_that_one_variable_contains_another_needs_no_answer() -> None:
    """Whoever knows that all with v = a have u = b needs no count of u with v."""
    held = cube(NESTED)
    for order in itertools.permutations(NAMES):
        found = declared(held, analyses={"main": order})
        assert None in [joint(found, "u", "w"), joint(found, "v", "w")]


def test_a_pair_whose_bounds_would_tell_of_one_subject_of_a_stratum_is_not_declared() -> None:
    counts = cube(NESTED)
    held = {"t": counts["w"], "u": counts["u"], "v": counts["v"]}
    both = {"main": ("u", "v")}
    assert joint(declared(held, (), both), "u", "v") == ()
    by = declared(held, ("t",), both)
    for name in "uv":
        variable = by.declaration.variable(name)
        assert variable is not None and variable.by["levels"] == ("t",)
    assert joint(by, "u", "v") is None


def test_a_combination_that_nobody_has_is_one_that_can_not_be() -> None:
    counts = np.full((2, 2, 2), 10)
    counts[0, 0] = 0
    assert joint(declared(cube(counts)), "u", "v") == ()
    assert joint(declared(cube(counts)), *NAMES) == ()
    counts[0, 0, 0] = 2
    assert joint(declared(cube(counts)), "u", "v") is None
    assert joint(declared(cube(counts)), *NAMES) is None
    assert joint(declared(cube(counts)), "u", "w") == ()
    counts[0, 0, 0] = 3
    assert joint(declared(cube(counts)), "u", "v") == ()


def test_nobody_in_one_stratum_is_as_few() -> None:
    counts = np.full((2, 2, 2), 10)
    seen = []
    for few in (0, 2):
        counts[0, 0, 0] = few
        held = cube(counts)
        table = {"t": held["w"], "u": held["u"], "v": held["v"]}
        seen.append(joint(declared(table, ("t",), {"main": ("u", "v")}), "u", "v"))
    assert seen == [(), ()]


def test_a_stratum_is_combined_with_what_is_in_its_own_cells() -> None:
    held = cube(np.full((2, 2, 2), 10))
    found = declared(held, ("u",))
    assert joint(found, "u", "v") == ("u",)
    assert joint(found, *NAMES) == ("u",)


def test_numbers_are_combined_on_their_grid_and_not_without() -> None:
    rng = np.random.default_rng(2)
    held: Held = {"u": category(rng.integers(0, 2, 200)), "x": rng.uniform(0, 10, 200)}
    both = {"main": ("u", "x")}
    assert joint(declared(held, (), both), "u", "x") is None
    grid = {"x": Grid(minimum=0, maximum=10, bins=4)}
    assert joint(declared(held, (), both, grid), "u", "x") == ()
    rare = {"x": Grid(minimum=0, maximum=10, bins=200)}
    assert joint(declared(held, (), both, rare), "u", "x") is None


def test_sets_that_differ_by_few_do_not_both_declare_a_combination() -> None:
    """Of 12 with a rare combination 2 lack w; the sets with and without w would tell of these."""
    counts = np.full((2, 2, 1), 60)
    counts[0, 0] = 12
    held = cube(counts)
    w = np.zeros(192, dtype=np.int64)
    for u, v, number in ((0, 0, 2), (0, 1, 10), (1, 0, 10), (1, 1, 20)):
        w[np.flatnonzero((held["u"].codes == u) & (held["v"].codes == v))[:number]] = -1
    table = {**held, "w": Categories(w, ("a",))}
    found = declared(table, (), {"main": NAMES, "pair": ("u", "v")})
    assert int(found.analyses["main"].sum()) < int(found.analyses["pair"].sum())
    by = [joint(found, "u", "v", analysis=name) for name in ("main", "pair")]
    assert by.count(None) == 1


def test_nothing_is_counted_together_of_what_is_told_of_others_than_its_set() -> None:
    """Those without w are a fifth, and two of them have u = a: the set less these would tell."""
    held = cube(np.full((2, 2, 1), 50))
    for few, by in ((2, None), (10, ())):
        w = np.zeros(200, dtype=np.int64)
        for u, number in ((0, few), (1, 40 - few)):
            rows = np.flatnonzero(held["u"].codes == u)
            w[np.concatenate([rows[: number // 2], rows[-(number - number // 2) :]])] = -1
        found = declared({**held, "w": Categories(w, ("a",))})
        assert int(found.analyses["main"].sum()) == 160
        assert int(found.variables["u"].sum()) == 200
        assert joint(found, "u", "v") == by


def test_few_who_are_in_no_set_are_done_without_for_the_sake_of_it() -> None:
    held = cube(np.full((2, 2, 1), 50))
    w = np.zeros(200, dtype=np.int64)
    w[[0, 60, *range(101, 105), *range(151, 155)]] = -1  # two of them have u = a
    found = declared({**held, "w": Categories(w, ("a",))})
    assert int(found.variables["u"].sum()) == int(found.analyses["main"].sum()) == 190
    assert int(found.variables["v"].sum()) == 200
    assert joint(found, "u", "v") == ()


def test_those_without_a_stratum_are_no_hindrance_to_asking_by_it() -> None:
    held = cube(np.full((2, 2, 1), 50))
    u = held["u"].codes.copy()
    u[:10], u[-10:] = -1, -1
    table = {"u": Categories(u, ("a", "b")), "v": held["v"]}
    found = declared(table, ("u",), {"main": ("u", "v")})
    assert len(found.declaration.cells) == 3
    assert found.declaration.analyses[0].by == ("u",)
    assert joint(found, "u", "v") == ("u",)
    variable = found.declaration.variable("u")
    assert variable is not None and variable.by["levels"] == ("u",)


# ---- products and shapes -------------------------------------------------------------------------


def products(found: Declared, *names: str) -> Any:
    """By which strata products are declared."""
    return found.declaration.analyses[0].products_by(names)


def test_products_are_declared_unless_they_are_mostly_one_subjects() -> None:
    rng = np.random.default_rng(3)
    held: dict[str, Any] = {"t": category(np.tile([0, 1], 100))}
    held |= {name: rng.normal(50, 10, 200) for name in "xy"}
    both = {"main": ("x", "y")}
    assert products(declared(held, ("t",), both), "x", "y") == ("t",)
    for name in "xy":  # nine standard deviations from the mean, in both
        held[name] = np.where(np.arange(200) == 17, 140.0, held[name])
    found = declared(held, ("t",), both)
    assert [found.declaration.variables[i].by["moments"] for i in (1, 2)] == [("t",), ("t",)]
    assert products(found, "x", "y") == ()  # of all 200 it isn't half
    for name in "xy":
        held[name] = np.where(np.arange(200) == 17, 170.0, held[name])
    found = declared(held, ("t",), both)
    assert [found.declaration.variables[i].by["moments"] for i in (1, 2)] == [(), ()]
    assert products(found, "x", "y") is None


def test_a_product_with_a_category_is_of_levels_that_enough_have() -> None:
    rng = np.random.default_rng(4)
    both = {"main": ("u", "x")}
    x = rng.normal(50, 10, 100)
    for few, by in ((2, None), (3, ())):
        held: Held = {"u": category(np.repeat([0, 1], [100 - few, few])), "x": x}
        assert products(declared(held, (), both), "u", "x") == by
    x[-1] = 1e4
    assert products(declared(held, (), both), "u", "x") is None


@pytest.mark.parametrize(("few", "by"), [(1, None), (3, ())])
def test_a_number_of_few_values_is_counted_as_what_it_is(few: int, by: Any) -> None:
    held: Held = {"x": np.repeat([0.0, 1.0], [60 - few, few])}
    variable = declared(held, (), {}).declaration.variables[0]
    assert variable.by.get("moments") == by
    assert variable.by.get("shape") == by
    five = np.concatenate([np.repeat([0.0, 1.0, 2.0, 3.0], 20), np.full(few, 4.0)])
    variable = declared({"x": five}, (), {}).declaration.variables[0]
    assert variable.by.get("moments") == ()
    assert variable.by.get("shape") == by


def test_a_product_of_two_numbers_of_two_values_is_a_count() -> None:
    counts = np.full((2, 2, 1), 20)
    for few, by in ((1, None), (3, ())):
        counts[1, 1] = few
        held = {name: one.codes.astype(float) for name, one in cube(counts).items()}
        assert products(declared(held, (), {"main": ("u", "v")}), "u", "v") == by


@pytest.mark.parametrize(
    ("size", "rare", "by"),
    [(11, 3, ("t",)), (11, 2, ()), (11, 1, None), (39, 1, None), (45, 1, ("t",))],
)
def test_a_product_with_a_number_of_few_values_needs_enough_of_each(
    size: int, rare: int, by: Any
) -> None:
    """A model's steps would tell how many have each; of many values they don't."""
    usual = np.tile(np.arange(size - 1.0), 6)
    x = np.concatenate([usual, np.full(rare, size - 1.0)])
    other = np.random.default_rng(6).normal(50, 10, 2 * x.size)
    held: dict[str, Any] = {"t": category(np.repeat([0, 1], x.size)), "x": np.tile(x, 2)}
    found = declared(held | {"z": other}, ("t",), {"main": ("x", "z")})
    assert found.declaration.variables[1].by["moments"] == ("t",)
    assert products(found, "x", "z") == by


def test_values_are_few_where_a_block_has_few() -> None:
    """Of the one stratum there are many values, of the other three, of which one is rare."""
    x = np.concatenate([np.arange(200.0), np.repeat([1.0, 2.0, 3.0], [100, 99, 1])])
    held: dict[str, Any] = {"t": category(np.repeat([0, 1], 200)), "x": x}
    held["z"] = np.random.default_rng(7).normal(50, 10, 400)
    assert products(declared(held, ("t",), {"main": ("x", "z")}), "x", "z") == ()


@pytest.mark.parametrize(("few", "by"), [(3, ()), (2, None)])
def test_few_values_are_counted_with_each_level_beside_them(few: int, by: Any) -> None:
    x = np.tile(np.arange(11.0), 20)
    u = np.tile(np.repeat([0, 1], 11), 10)
    u[np.flatnonzero((x == 7) & (u == 1))[few:]] = 0
    held: Held = {"u": category(u), "x": x}
    assert products(declared(held, (), {"main": ("u", "x")}), "u", "x") == by


def test_fourth_powers_that_are_mostly_one_subjects_are_not_told() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(0, 1, 200)
    x[3] = 9
    variable = declared({"x": x}, (), {}).declaration.variables[0]
    assert "moments" in variable.by and "shape" not in variable.by
    x[3] = 3
    assert "shape" in declared({"x": x}, (), {}).declaration.variables[0].by

"""What a release may declare beside earlier ones of its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.catalog.declaring import Minimums, Wishes, declare
from node.catalog.lineage import Apart, Asked, apart, beside_other_tables
from node.catalog.manifest import Grid
from node.catalog.membership import ANALYSIS, VARIABLE
from node.catalog.strata import Categories, Held, StratumWish

K, CELL = 10, 5
WISHES = Wishes(
    strata=[StratumWish("arm")],
    analyses={"main": ("age", "ill")},
    minimums=Minimums(K, CELL, 0.5),
)
Row = tuple[int, float, int]
"""Arm, age, ill."""


def patient(number: int) -> Row:
    return number % 2, 30.0 + number % 40, number // 2 % 2


def asked(rows: Mapping[str, Row], wishes: Wishes = WISHES) -> Asked:
    """A release of these subjects."""
    subjects = sorted(rows)
    arm, age, ill = (np.array([rows[s][at] for s in subjects]) for at in range(3))
    held: Held = {
        "arm": Categories(arm.astype(np.int64), ("A", "B")),
        "age": age.astype(np.float64),
        "ill": Categories(ill.astype(np.int64), ("no", "yes")),
    }
    made = declare(held, subjects, wishes)
    sets = {VARIABLE + n: m for n, m in made.variables.items()}
    sets |= {ANALYSIS + n: m for n, m in made.analyses.items()}
    return Asked(made.declaration, subjects, made.cells.astype(np.int64), sets, held)


def table(count: int = 200, **changes: Row) -> dict[str, Row]:
    return {f"s{n:04d}": patient(n) for n in range(count)} | changes


def kinds(found: Apart, name: str) -> set[str]:
    declared = found.declaration.variable(name)
    assert declared is not None
    return set(declared.by)


def test_a_first_release_and_one_of_the_same_rows_lose_nothing() -> None:
    first = asked(table())
    assert apart(first, [], 0.5).declaration == first.declaration
    assert apart(first, [first], 0.5) == Apart(first.declaration, 1, 0, ())


@pytest.mark.parametrize(
    "later",
    [
        table(201),  # one came
        {s: r for s, r in table().items() if s != "s0007"},  # one left
        table(s0007=(1, 80.0, 1)),  # one was corrected
        table(s0007=(0, 37.0, 1)),  # one is in the other arm
        table(200 + K),  # enough came, but too few of them in each arm
    ],
    ids=["came", "left", "corrected", "moved", "few in a cell"],
)
def test_a_few_who_differ_leave_nothing_exact(later: dict[str, Row]) -> None:
    first, second = asked(table()), asked(later)
    found = apart(second, [first], 0.5)
    assert found.small > 0
    assert found.declaration.cells == ()
    assert not any(v.by for v in found.declaration.variables)
    assert all(a.by is None for a in found.declaration.analyses)


def test_enough_who_come_in_each_cell_are_told_of() -> None:
    first, second = asked(table()), asked(table(300))
    found = apart(second, [first], 0.5)
    assert found.small == 0
    assert found.declaration.cells == second.declaration.cells
    assert kinds(found, "age") >= {"count", "moments"}
    assert kinds(found, "ill") >= {"count", "levels"}
    # Of a level that few of the newcomers have, no counts are exact.
    rare = table(300) | {f"s{n:04d}": (n % 2, 30.0 + n % 40, int(n < 204)) for n in range(200, 300)}
    found = apart(asked(rare), [first], 0.5)
    assert found.small == 0
    assert "levels" not in kinds(found, "ill")
    assert "levels of ill" in found.lost
    assert "count" in kinds(found, "ill")


def test_other_cells_over_the_same_rows_are_compared_too() -> None:
    """Cells that differ by three patients: those of age 50 and of 51 are between the two cuts."""
    rows = {f"s{n:04d}": (0, float(n % 80), 0) for n in range(400)}

    def cut(at: float) -> Asked:
        strata = [StratumWish("age", (at,))]
        return asked(rows, Wishes(strata=strata, minimums=WISHES.minimums))

    assert apart(cut(51), [cut(50)], 0.5).small > 0
    assert apart(cut(60), [cut(50)], 0.5).small == 0


def test_another_grid_or_derivation_is_not_exact_beside_the_first() -> None:
    def on(bins: int) -> Asked:
        grid = Grid(minimum=0, maximum=100, bins=bins)
        return asked(table(400), replace(WISHES, grids={"age": grid}))

    assert "histogram" in kinds(apart(on(4), [on(4)], 0.5), "age")
    found = apart(on(3), [on(4)], 0.5)
    assert "histogram of age" in found.lost
    assert kinds(found, "age") >= {"count", "moments"}
    first = replace(on(4), derived={"age": "0" * 64})
    assert apart(first, [first], 0.5).declaration == first.declaration
    found = apart(replace(first, derived={"age": "1" * 64}), [first], 0.5)
    assert found.derived
    assert found.declaration.cells == ()


def test_four_releases_of_which_each_two_are_far_apart_are_seen_through() -> None:
    """The first less the second and the fourth and with the third: one patient is left."""
    patterns = ["1111"] * 100 + [p for p in ("1100", "0011", "1001", "0110") for _ in range(2 * K)]
    patterns.append("1000")
    rows = {f"s{n:04d}": (n % 2, 30.0 + n % 40, n // 2 % 2) for n in range(len(patterns))}
    releases = [
        asked({s: r for (s, r), p in zip(rows.items(), patterns, strict=True) if p[at] == "1"})
        for at in range(4)
    ]
    total = [sum(r.held["age"].tolist()) for r in releases]  # type: ignore[union-attr]
    assert total[0] - total[1] + total[2] - total[3] == rows["s0180"][1]
    for later in range(4):
        for earlier in range(later):
            assert apart(releases[later], [releases[earlier]], 0.5).small == 0
    assert apart(releases[3], releases[:3], 0.5).small > 0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 119), max_size=60, unique=True),
    st.lists(st.integers(0, 119), max_size=60, unique=True),
    st.integers(0, 80),
)
def test_no_sum_of_a_cell_less_that_of_another_release_is_of_few(
    gone: Sequence[int], changed: Sequence[int], came: int
) -> None:
    before = table(120)
    after: dict[str, Row] = {s: r for n, (s, r) in enumerate(before.items()) if n not in gone}
    after |= {f"s{n:04d}": (n % 2, 77.0, n // 2 % 2) for n in changed if n not in gone}
    after |= {f"t{n:04d}": patient(n) for n in range(came)}
    first, second = asked(before), asked(after)
    found = apart(second, [first], 0.5)
    for name in ("arm", "age", "ill"):
        if not kinds(found, name):
            continue
        values = [values_of(r, name) for r in (first, second)]
        for cell in range(len(found.declaration.cells)):
            those = [
                {s: v[s] for s, c, t in zip(r.subjects, r.cells, r.told(name), strict=True)
                 if t and c == cell}
                for r, v in zip((first, second), values, strict=True)
            ]  # fmt: skip
            both = set(those[0]) | set(those[1])
            differ = {s for s in both if those[0].get(s) != those[1].get(s)}
            assert len(differ) == 0 or len(differ) >= K, (name, cell)


def values_of(release: Asked, name: str) -> dict[str, Any]:
    column = release.held[name]
    values = column.codes if isinstance(column, Categories) else column
    return dict(zip(release.subjects, values.tolist(), strict=True))


def consents(number: int, *others: int, without: int = 0, by: bool = False) -> Asked:
    """A release of a table of so many subjects, of whom every second consents; ``others`` not."""
    subjects = [f"s{n:04d}" for n in range(number) if n >= without]
    codes = np.array([(n % 2) ^ (n in others) for n in range(without, number)])
    held: Held = {"research": Categories(codes, ("no", "yes"))}
    strata = [StratumWish("research")] if by else []
    made = declare(held, subjects, replace(WISHES, strata=strata, analyses={}))
    sets = {VARIABLE + n: m for n, m in made.variables.items()}
    cells = made.cells.astype(np.int64)
    return Asked(made.declaration, subjects, cells, sets, held, {"research": "d" * 64})


@pytest.mark.parametrize("by", [False, True])
def test_two_tables_never_tell_together_who_consented_in_between(by: bool) -> None:
    """One gave a consent between the two releases, or is in one table alone: 100 and 101."""
    common = frozenset({"research"})

    def told(new: Asked, *others: Asked) -> set[str]:
        found = beside_other_tables(apart(new, [], 0.5), new, others, common, 0.5)
        lost = not kinds(found, "research") and (not by or not found.declaration.cells)
        assert (found.elsewhere == ("research",)) == lost
        return set() if lost else {"research"}

    new = consents(200, by=by)
    assert kinds(apart(new, [], 0.5), "research")
    assert told(new) == {"research"}
    assert told(new, consents(200, by=by), consents(160, by=by)) == {"research"}
    assert told(new, consents(200, *range(40), by=by)) == {"research"}
    for other in (consents(200, 7), consents(199), consents(200, without=1, by=True)):
        assert told(new, other) == set()
    # Forty are in one table alone, of whom one consents.
    few = consents(200, *range(161, 199, 2), by=by)
    assert told(few) == {"research"}
    assert told(few, consents(160, by=by)) == set()
    # One that says nothing of it, or derives it otherwise, is nothing to subtract.
    assert told(new, replace(consents(199), derived={"research": "e" * 64})) == {"research"}

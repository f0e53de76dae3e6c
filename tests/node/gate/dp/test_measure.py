"""What is measured is exact up to its grid, and one subject moves it by no more than it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.documents import Project, Statistic, Variable
from contract.errors import Refused
from contract.statistics import answers
from contract.statistics.summaries import Counts
from node.gate.dp.measure import STEPS, Measure, check, measure
from tests.contract.world import World

VARIABLES = (
    Variable(name="age", kind="number", minimum=18, maximum=98, bins=8),
    Variable(name="weight", kind="number"),
    Variable(name="sex", kind="category", levels=("f", "m")),
    Variable(name="arm", kind="category", levels=("a", "b", "c")),
)
PROJECT = World().project(variables=VARIABLES)
ASKED = [
    Statistic(kind=kind, variable=variable, by=by)
    for kind, variable in (
        ("count", "age"),
        ("count", "sex"),
        ("moments", "age"),
        ("histogram", "age"),
        ("levels", "sex"),
    )
    for by in (None, "arm")
]


def columns(rows: list[tuple[float, int, int]]) -> dict[str, Any]:
    """Columns of (age, sex, arm) rows."""
    age, sex, arm = zip(*rows, strict=True) if rows else ((), (), ())
    return {
        "age": np.array(age, dtype=np.float64),
        "weight": np.zeros(len(rows)),
        "sex": np.array(sex, dtype=np.int64),
        "arm": np.array(arm, dtype=np.int64),
    }


subject = st.tuples(
    st.one_of(
        st.floats(-1e6, 1e6), st.sampled_from([np.nan, np.inf, -np.inf, 18.0, 58.0, 98.0, 1e308])
    ),
    st.integers(-1, 1),
    st.integers(-1, 2),
)


def distance(a: list[int], b: list[int]) -> int:
    """In L1."""
    assert len(a) == len(b)
    return sum(abs(x - y) for x, y in zip(a, b, strict=True))


@given(st.lists(subject, max_size=6), subject, st.sampled_from(ASKED))
def test_one_subject_more_moves_the_figures_by_no_more_than_their_sensitivity(
    rows: list[tuple[float, int, int]], one: tuple[float, int, int], statistic: Statistic
) -> None:
    without = measure(statistic, PROJECT, columns(rows), None)
    with_one = measure(statistic, PROJECT, columns([*rows, one]), None)
    assert distance(without.counts, with_one.counts) <= 1
    assert distance(without.totals, with_one.totals) <= STEPS
    assert distance(without.squares, with_one.squares) <= STEPS


@given(
    st.lists(st.tuples(subject, st.booleans()), max_size=12),
    st.sampled_from([s for s in ASKED if s.kind != "moments"]),
)
def test_counts_are_those_that_the_exact_lane_would_tell(
    rows: list[tuple[tuple[float, int, int], bool]], statistic: Statistic
) -> None:
    everybody = columns([row for row, _ in rows])
    cohort = np.array([inside for _, inside in rows], dtype=np.bool_)
    members = {name: column[cohort] for name, column in everybody.items()}
    expected: list[int] = []
    for summary in answers.answer_locally([statistic], PROJECT, members)[0].groups.values():
        assert isinstance(summary, Counts)
        expected += [*summary.counts, summary.missing]
        if statistic.kind == "histogram":
            expected += [summary.below, summary.above]
    assert measure(statistic, PROJECT, everybody, cohort).counts == expected


@given(st.lists(st.floats(18, 98), min_size=1, max_size=20))
def test_sums_are_exact_up_to_their_grid(ages: list[float]) -> None:
    rows = [(age, 0, 0) for age in ages]
    found = measure(Statistic(kind="moments", variable="age"), PROJECT, columns(rows), None)
    moved = (np.array(ages) - 58) / 40
    assert found.counts == [len(ages), 0]
    assert found.totals[0] / STEPS == pytest.approx(moved.sum(), abs=len(ages) / STEPS)
    expected = (2 * moved**2 - 1).sum()
    assert found.squares[0] / STEPS == pytest.approx(expected, abs=4 * len(ages) / STEPS)


def test_the_form_is_that_of_the_question_whoever_is_in_the_cohort() -> None:
    rows = [(40.0, 0, 0), (70.0, 1, 1), (np.nan, -1, 2)]
    nobody = np.zeros(3, dtype=np.bool_)
    for statistic in ASKED:
        full = measure(statistic, PROJECT, columns(rows), None)
        empty = measure(statistic, PROJECT, columns(rows), nobody)
        assert [len(full.counts), len(full.totals), len(full.squares)] == [
            len(empty.counts),
            len(empty.totals),
            len(empty.squares),
        ]
        assert not any(empty.counts + empty.totals + empty.squares)


def test_a_cohort_is_its_members_alone() -> None:
    rows = [(20.0, 0, 0), (30.0, 1, 1), (np.nan, 1, 1), (99.0, -1, 2)]
    chosen = np.array([False, True, True, True])
    found = measure(
        Statistic(kind="levels", variable="sex", by="arm"), PROJECT, columns(rows), chosen
    )
    assert found == Measure([0, 0, 0, 0, 2, 0, 0, 0, 1], [], [])
    found = measure(Statistic(kind="histogram", variable="age"), PROJECT, columns(rows), chosen)
    assert found == Measure([0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1], [], [])


def test_moments_without_bounds_are_refused_whatever_the_data() -> None:
    with pytest.raises(Refused) as caught:
        check(Statistic(kind="moments", variable="weight"), PROJECT)
    assert caught.value.code == "no-bounds"
    wide = World().project(
        variables=(Variable(name="wide", kind="number", minimum=-1.7e308, maximum=1.7e308),)
    )
    with pytest.raises(Refused):
        check(Statistic(kind="moments", variable="wide"), wide)
    for statistic in ASKED:
        check(statistic, PROJECT)
    assert isinstance(PROJECT, Project)

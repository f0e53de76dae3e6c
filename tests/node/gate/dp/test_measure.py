"""What is measured is exact up to its grid, and one subject moves it by no more than it says."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import Refused
from contract.statistics import answers
from contract.statistics.summaries import Counts
from contract.work import Statistic
from node.gate.dp.measure import STEPS, Measure, check, measure, sensitivities
from node.gate.dp.parts import noisy_part
from tests.contract.world import World

VARIABLES = (
    Variable(name="age", kind="number", minimum=18, maximum=98, bins=8),
    Variable(name="weight", kind="number"),
    Variable(name="size", kind="number", minimum=0, maximum=1),
    Variable(name="sex", kind="category", levels=("f", "m")),
    Variable(name="arm", kind="category", levels=("a", "b", "c")),
)
PROJECT = World().project(variables=VARIABLES)
ASKED = [
    Statistic.model_validate({"kind": kind, "variable": variable, "across": across, "by": by})
    for kind, variable, across in (
        ("count", "age", ()),
        ("count", "sex", ()),
        ("moments", "age", ()),
        ("shape", "age", ()),
        ("histogram", "age", ()),
        ("levels", "sex", ()),
        ("crosstab", "sex", ("age",)),
        ("comoments", "age", ("size",)),
    )
    for by in (None, "arm")
]
COUNTED = [s for s in ASKED if s.kind not in ("moments", "shape", "comoments")]


def columns(rows: list[tuple[float, int, int]]) -> dict[str, Any]:
    """Columns of (age, sex, arm) rows."""
    age, sex, arm = zip(*rows, strict=True) if rows else ((), (), ())
    return {
        "age": np.array(age, dtype=np.float64),
        "weight": np.zeros(len(rows)),
        "size": np.array([float(one != 0) - (a == 2) * 0.5 for _, one, a in rows]),
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
    for before, after, most in zip(
        without.sums, with_one.sums, sensitivities(statistic), strict=True
    ):
        assert distance(before, after) <= most


@given(
    st.lists(st.tuples(subject, st.booleans()), max_size=12),
    st.sampled_from(COUNTED),
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
    assert found.sums[0][0] / STEPS == pytest.approx(moved.sum(), abs=len(ages) / STEPS)
    expected = (2 * moved**2 - 1).sum()
    assert found.sums[1][0] / STEPS == pytest.approx(expected, abs=len(ages) / STEPS)


@settings(max_examples=25)
@given(st.lists(subject, max_size=20))
def test_without_noise_what_is_said_is_what_the_values_within_bounds_are(
    rows: list[tuple[float, int, int]],
) -> None:
    def none(values: Sequence[int], sensitivity: int, epsilon: float) -> tuple[list[int], float]:
        return list(values), sensitivity / epsilon

    held = columns(rows)
    moved = held | {"age": np.clip(held["age"], 18, 98), "size": np.clip(held["size"], 0, 1)}
    for statistic in ASKED:
        exact = measure(statistic, PROJECT, held, None)
        part = noisy_part(statistic, PROJECT, exact, 1.0, none)
        known = held if statistic in COUNTED else moved
        expected = answers.answer_locally([statistic], PROJECT, known)[0]
        assert list(part.groups) == list(expected.groups)
        for level, found in part.groups.items():
            wanted = vars(expected.groups[level])
            if not expected.groups[level].n and statistic not in COUNTED:
                continue
            for name, value in vars(found).items():
                assert value == pytest.approx(wanted[name], rel=1e-6, abs=40**4 * 1e-3), name


def test_the_form_is_that_of_the_question_whoever_is_in_the_cohort() -> None:
    rows = [(40.0, 0, 0), (70.0, 1, 1), (np.nan, -1, 2)]
    nobody = np.zeros(3, dtype=np.bool_)
    for statistic in ASKED:
        full = measure(statistic, PROJECT, columns(rows), None)
        empty = measure(statistic, PROJECT, columns(rows), nobody)
        assert [len(full.counts), *map(len, full.sums)] == [
            len(empty.counts),
            *map(len, empty.sums),
        ]
        assert not any([*empty.counts, *chain(*empty.sums)])


def test_a_cohort_is_its_members_alone() -> None:
    rows = [(20.0, 0, 0), (30.0, 1, 1), (np.nan, 1, 1), (99.0, -1, 2)]
    chosen = np.array([False, True, True, True])
    found = measure(
        Statistic(kind="levels", variable="sex", by="arm"), PROJECT, columns(rows), chosen
    )
    assert found == Measure([0, 0, 0, 0, 2, 0, 0, 0, 1])
    found = measure(Statistic(kind="histogram", variable="age"), PROJECT, columns(rows), chosen)
    assert found == Measure([0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1])


def test_moments_without_bounds_are_refused_whatever_the_data() -> None:
    with pytest.raises(Refused) as caught:
        check(Statistic(kind="moments", variable="weight"), PROJECT)
    assert caught.value.code == "no-bounds"
    wide = World().project(
        variables=(Variable(name="wide", kind="number", minimum=-1.7e308, maximum=1.7e308),)
    )
    with pytest.raises(Refused):
        check(Statistic(kind="moments", variable="wide"), wide)
    pair = Statistic(kind="comoments", variable="age", across=("weight",))
    with pytest.raises(Refused) as caught:
        check(pair, PROJECT)
    assert caught.value.code == "no-bounds"
    for statistic in ASKED:
        check(statistic, PROJECT)
    assert isinstance(PROJECT, Project)


def test_more_figures_than_can_be_drawn_are_refused_before_any_is() -> None:
    levels = tuple(f"l{n}" for n in range(99))
    names = ("one", "other", "group")
    many = World().project(
        variables=tuple(Variable(name=name, kind="category", levels=levels) for name in names)
    )
    check(Statistic(kind="crosstab", variable="one", across=("other",)), many)
    with pytest.raises(Refused) as caught:
        check(Statistic(kind="crosstab", variable="one", across=("other",), by="group"), many)
    assert caught.value.code == "no-noise"

"""Shape, comoments and crosstabs: merged over any partition they are the pooled rows' own."""

from __future__ import annotations

from fractions import Fraction
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics import forms
from contract.statistics.answers import Part, answer_locally, check, merge_answers
from contract.statistics.summaries import CoMoments, Counts, Shape
from contract.work import Statistic
from tests.contract.world import World

VARIABLES = (
    Variable(name="x", kind="number", minimum=0, maximum=10, bins=5),
    Variable(name="y", kind="number", minimum=-5, maximum=5, bins=4),
    Variable(name="arm", kind="category", levels=("a", "b")),
    Variable(name="sex", kind="category", levels=("f", "m", "x")),
    Variable(name="loose", kind="number"),
)
PROJECT = World().project().model_copy(update={"variables": VARIABLES})
CROSS = Statistic(kind="crosstab", variable="arm", across=("sex", "x"))
ASK = (
    Statistic(kind="shape", variable="x", by="arm"),
    Statistic(kind="comoments", variable="x", across=("y", "loose")),
    CROSS,
)
CUTS = st.lists(st.integers(0, 60), max_size=5)
SMALL = st.floats(-1e4, 1e4, allow_nan=False).map(lambda value: round(value, 4))
Row = tuple[float, float, float, int, int]
ROWS = st.lists(
    st.tuples(
        st.one_of(st.just(float("nan")), st.floats(-2, 12).map(lambda v: round(v, 3))),
        st.one_of(st.just(float("nan")), st.floats(-6, 6).map(lambda v: round(v, 3))),
        SMALL,
        st.integers(-1, 1),
        st.integers(-1, 2),
    ),
    max_size=50,
)


def columns(rows: list[Row]) -> dict[str, np.ndarray]:
    x, y, loose, arm, sex = zip(*rows, strict=True) if rows else ((),) * 5
    return {
        "x": np.array(x, dtype=np.float64),
        "y": np.array(y, dtype=np.float64),
        "loose": np.array(loose, dtype=np.float64),
        "arm": np.array(arm, dtype=np.int64),
        "sex": np.array(sex, dtype=np.int64),
    }


def split(number: int, cuts: list[int]) -> list[tuple[int, int]]:
    return list(pairwise([0, *sorted(c % (number + 1) for c in cuts), number]))


def power_sums(values: list[float]) -> list[Fraction]:
    """Sums of the second, third and fourth powers of deviations, in exact arithmetic."""
    numbers = [Fraction(v) for v in values]
    mean = sum(numbers, Fraction()) / len(numbers)
    return [sum(((x - mean) ** power for x in numbers), Fraction()) for power in (2, 3, 4)]


@given(st.lists(SMALL, min_size=1, max_size=60), CUTS)
def test_a_shape_merged_over_any_partition_is_the_pooled_one(
    values: list[float], cuts: list[int]
) -> None:
    parts = [Shape.of(np.array(values[a:b])) for a, b in split(len(values), cuts)]
    found = reduce(Shape.merge, parts)
    assert found.n == len(values)
    size = max(*map(abs, values), 0.001, 0.001)
    for power, value, true in zip(
        (2, 3, 4), (found.m2, found.m3, found.m4), power_sums(values), strict=True
    ):
        assert abs(Fraction(value) - true) <= Fraction(1e-10 * len(values) * size**power)


@pytest.mark.parametrize("distribution", ["gamma", "normal", "uniform"])
def test_skewness_and_kurtosis_are_scipys_unbiased_ones(distribution: str) -> None:
    generator = np.random.default_rng(5)
    values = {
        "gamma": generator.gamma(2.0, 3.0, 5000),
        "normal": generator.normal(40.0, 2.0, 5000),
        "uniform": generator.uniform(-1.0, 9.0, 5000),
    }[distribution]
    found = reduce(Shape.merge, [Shape.of(part) for part in np.array_split(values, 7)])
    assert found.skewness == pytest.approx(stats.skew(values, bias=False), rel=1e-9, abs=1e-9)
    assert found.kurtosis == pytest.approx(stats.kurtosis(values, bias=False), rel=1e-9, abs=1e-9)


def test_a_constant_has_no_skewness() -> None:
    found = Shape.of(np.full(20, 3.5))
    assert np.isnan([found.skewness, found.kurtosis]).all()


@given(ROWS, CUTS)
def test_comoments_merged_over_any_partition_are_numpys(rows: list[Row], cuts: list[int]) -> None:
    held = columns(rows)
    table = np.column_stack([held["x"], held["y"], held["loose"]])
    parts = [CoMoments.of(list(table[a:b].T)) for a, b in split(len(rows), cuts)]
    found = reduce(CoMoments.merge, parts)
    complete = table[~np.isnan(table).any(axis=1)]
    assert (found.n, found.missing) == (len(complete), len(rows) - len(complete))
    if len(complete) > 1:
        true = np.cov(complete, rowvar=False, ddof=0) * len(complete)
        scale = np.abs(complete).max() ** 2 * len(complete) + 1e-9
        np.testing.assert_allclose(found.matrix, true, rtol=1e-9, atol=1e-12 * scale)


@given(ROWS, CUTS)
def test_crosstabs_count_each_combination_wherever_its_rows_are(
    rows: list[Row], cuts: list[int]
) -> None:
    parts = [
        answer_locally([CROSS], PROJECT, columns(rows[a:b])) for a, b in split(len(rows), cuts)
    ]
    found = merge_answers(parts)[0].groups[""]
    assert isinstance(found, Counts)
    table = np.array(found.counts).reshape(2, 3, 7)
    true = np.zeros_like(table)
    missing = 0
    edges = [0, 2, 4, 6, 8, 10]
    for x, _, _, arm, sex in rows:
        if np.isnan(x) or arm < 0 or sex < 0:
            missing += 1
        elif x < 0:
            true[arm, sex, 5] += 1
        elif x > 10:
            true[arm, sex, 6] += 1
        else:
            true[arm, sex, max(i for i in range(5) if edges[i] <= x)] += 1
    np.testing.assert_array_equal(table, true)
    assert found.missing == missing


@given(ROWS)
def test_new_kinds_come_back_from_the_wire_as_they_went(rows: list[Row]) -> None:
    parts = answer_locally(ASK, PROJECT, columns(rows))
    assert forms.fits(parts, ASK, PROJECT)
    plain = [Part(part.groups) for part in parts]
    assert forms.decode(forms.encode(plain)) == plain


@pytest.mark.parametrize(
    "statistic",
    [
        Statistic(kind="comoments", variable="x", across=("arm",)),
        Statistic(kind="shape", variable="sex"),
        Statistic(kind="crosstab", variable="arm", across=("loose",)),
        Statistic(kind="crosstab", variable="arm", across=("nowhere",)),
    ],
)
def test_a_statistic_that_the_dictionary_does_not_allow_is_said(statistic: Statistic) -> None:
    with pytest.raises(DocumentError):
        check(statistic, PROJECT)


def test_a_crosstab_has_a_bounded_number_of_cells() -> None:
    many = tuple(
        Variable(name=name, kind="category", levels=tuple(f"{name}{i}" for i in range(101)))
        for name in ("p", "q")
    )
    project: Project = PROJECT.model_copy(update={"variables": many})
    with pytest.raises(DocumentError, match="at most 10000"):
        check(Statistic(kind="crosstab", variable="p", across=("q",)), project)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "crosstab", "variable": "arm"},
        {"kind": "comoments", "variable": "x"},
        {"kind": "moments", "variable": "x", "across": ("y",)},
        {"kind": "crosstab", "variable": "arm", "across": ("arm",)},
        {"kind": "crosstab", "variable": "arm", "across": ("sex",), "by": "sex"},
        {"kind": "crosstab", "variable": "arm", "across": ("sex", "x", "y")},
    ],
)
def test_a_statistic_has_as_many_variables_as_its_kind(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Statistic.model_validate(wrong)


def test_a_part_of_another_form_does_not_fit() -> None:
    rows: list[Row] = [(1.0, 2.0, 3.0, 0, 1)] * 30
    good = answer_locally(ASK, PROJECT, columns(rows))
    shape, comoments, crosstab = (part.groups for part in good)
    wrong: list[dict[str, object]] = [
        {"a": Shape(30, 0, 1.0, -1.0, 0.0, 0.0)},
        {"": CoMoments(30, 0, (1.0, 2.0), (0.0, 0.0, 0.0))},
        {"": Counts((1,) * 41)},
    ]
    for place, groups in enumerate(wrong):
        parts = list(good)
        parts[place] = Part(groups)  # type: ignore[arg-type]
        assert not forms.fits(parts, ASK, PROJECT)
    assert set(shape) == {"a", "b"}
    assert set(comoments) == set(crosstab) == {""}

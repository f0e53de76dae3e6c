"""A cohort says who is meant in closed terms; worded otherwise, it has the same normal form."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from contract.cohorts import (
    MAX_CONDITIONS,
    Cohort,
    check,
    mask,
    normal_form,
    normalise,
    variables,
)
from contract.dictionary import Variable
from contract.errors import DocumentError
from contract.work import StatisticsWork
from tests.contract.world import World

AGE = Variable(name="age", kind="number", minimum=0, maximum=120, bins=12)
VISITS = Variable(name="visits", kind="number", whole=True)
ARM = Variable(name="arm", kind="category", levels=("A", "B", "C"))
PROJECT = World().project(variables=(AGE, VISITS, ARM))
VALUES = {
    "age": [float("nan"), 0.0, 49.5, 50.0, 50.5, 60.0, 1000.0],
    "visits": [float("nan"), -1.0, 0.0, 1.0, 2.0, 3.0],
    "arm": [-1, 0, 1, 2],
}
POINTS = list(itertools.product(*VALUES.values()))
COLUMNS: dict[str, Any] = {
    "age": np.array([p[0] for p in POINTS], dtype=np.float64),
    "visits": np.array([p[1] for p in POINTS], dtype=np.float64),
    "arm": np.array([p[2] for p in POINTS], dtype=np.int64),
}

MISSING = {"variable": "age", "missing": True}


def says(**values: Any) -> Cohort:
    """A cohort from what its JSON holds."""
    return Cohort.model_validate(values)


ages = st.sampled_from([49.5, 50.0, 50.5, 60.0])
counts = st.sampled_from([0.0, 1.0, 2.0])
leaves = st.one_of(
    st.builds(lambda v: says(variable="age", at_least=v), ages),
    st.builds(lambda v: says(variable="age", above=v), ages),
    st.builds(lambda v: says(variable="age", at_most=v), ages),
    st.builds(lambda a, b: says(variable="age", at_least=a, below=b), ages, ages),
    st.builds(lambda v: says(variable="visits", above=v), counts),
    st.builds(lambda v: says(variable="visits", at_most=v), counts),
    st.builds(
        lambda v: says(variable="arm", levels=v),
        st.lists(st.sampled_from(["A", "B", "C"]), min_size=1, max_size=3),
    ),
    st.builds(
        lambda n, m: says(variable=n, missing=m),
        st.sampled_from(["age", "visits", "arm"]),
        st.booleans(),
    ),
)
cohorts = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda some: Cohort(all=tuple(some)), st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda some: Cohort(any=tuple(some)), st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda one: Cohort(not_=one), inner),
    ),
    max_leaves=6,
)


@given(cohorts, cohorts)
@settings(max_examples=300)
def test_two_cohorts_have_one_normal_form_exactly_if_they_hold_for_the_same_values(
    one: Cohort, other: Cohort
) -> None:
    # The points have a value in every range that these cuts make, so equal masks are equal cohorts.
    alike = bool((mask(one, COLUMNS, PROJECT) == mask(other, COLUMNS, PROJECT)).all())
    assert (normal_form(one, PROJECT) == normal_form(other, PROJECT)) is alike


@given(cohorts)
def test_every_wording_of_a_cohort_has_its_normal_form(cohort: Cohort) -> None:
    known = normal_form(cohort, PROJECT)
    female = says(variable="arm", levels=["A"])
    for other in (
        ~~cohort,
        cohort & cohort,
        cohort | cohort,
        (cohort & female) | (cohort & ~female),
        Cohort(all=(cohort, Cohort(any=(female, ~female)))),
    ):
        assert normal_form(other, PROJECT) == known
    assert normal_form(Cohort.model_validate_json(cohort.model_dump_json()), PROJECT) == known


@given(cohorts)
def test_it_tells_which_variables_matter(cohort: Cohort) -> None:
    used = set(normalise(cohort, PROJECT).uses)
    assert used <= set(variables(cohort))
    selected = mask(cohort, COLUMNS, PROJECT).reshape([len(v) for v in VALUES.values()])
    for axis, name in enumerate(VALUES):
        first = selected.take([0], axis=axis)
        assert (name in used) is not bool((selected == first).all())


def test_wordings_that_mean_the_same_are_one() -> None:
    same = [
        says(variable="visits", above=1),
        says(variable="visits", at_least=2),
        says(variable="visits", above=1.5),
        ~(says(variable="visits", at_most=1) | says(variable="visits", missing=True)),
    ]
    assert len({normal_form(c, PROJECT) for c in same}) == 1
    assert normal_form(says(variable="age", at_least=50), PROJECT) != normal_form(
        says(variable="age", above=50), PROJECT
    )
    everybody = says(any=[says(variable="age", missing=True), says(variable="age", missing=False)])
    assert normal_form(everybody, PROJECT) == normal_form(None, PROJECT) == "true"
    nobody = says(variable="age", at_least=50, below=50)
    assert normal_form(nobody, PROJECT) == "false"
    assert not mask(nobody, COLUMNS, PROJECT).any()


def test_a_missing_value_is_in_no_range_and_in_its_complement() -> None:
    columns: dict[str, Any] = {"age": np.array([40.0, 60.0, np.nan])}
    older = says(variable="age", at_least=50)
    assert mask(older, columns, PROJECT).tolist() == [False, True, False]
    assert mask(~older, columns, PROJECT).tolist() == [True, False, True]
    arms: dict[str, Any] = {"arm": np.array([0, 1, -1])}
    assert mask(says(variable="arm", levels=["B"]), arms, PROJECT).tolist() == [False, True, False]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"variable": "age"},
        {"at_least": 3},
        {"variable": "age", "at_least": 3, "above": 3},
        {"variable": "age", "at_most": 3, "below": 3},
        {"variable": "age", "at_least": 3, "missing": True},
        {"variable": "age", "levels": []},
        {"variable": "age", "at_least": float("inf")},
        {"variable": "age", "at_least": 1e16},
        {"variable": "age", "expression": "age > 3"},
        {"all": []},
        {"all": [MISSING], "any": [MISSING]},
        {"variable": "age", "missing": True, "all": [MISSING]},
        {"all": [MISSING] * (MAX_CONDITIONS + 1)},
    ],
)
def test_a_cohort_says_one_thing_and_no_more_than_that(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Cohort.model_validate(wrong)


def test_a_cohort_nests_only_so_deep() -> None:
    text = '{"not":' * 60 + '{"variable":"age","missing":true}' + "}" * 60
    with pytest.raises(ValidationError):
        Cohort.model_validate_json(text)
    deep = says(variable="age", missing=True)
    with pytest.raises(ValidationError):
        for _ in range(20):
            deep = Cohort(not_=deep)
    with pytest.raises(ValidationError):
        StatisticsWork.model_validate_json(
            '{"ask":[{"kind":"count","variable":"age"}],"cohort":' + text + "}"
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"variable": "height", "missing": True},
        {"variable": "age", "levels": ["A"]},
        {"variable": "arm", "at_least": 1},
        {"variable": "arm", "levels": ["A", "D"]},
    ],
)
def test_what_the_dictionary_has_not_got_is_no_condition(wrong: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        check(Cohort.model_validate(wrong), PROJECT)
    check(says(variable="arm", levels=["A", "B"]), PROJECT)


def test_a_cohort_too_intricate_for_a_normal_form_is_refused() -> None:
    many = World().project(
        variables=tuple(
            Variable(name=f"v{i}", kind="category", levels=("0", "1")) for i in range(40)
        )
    )

    def parity(names: list[str]) -> Cohort:
        one = says(variable=names[0], levels=["1"])
        if len(names) == 1:
            return one
        rest = parity(names[1:])
        return (one & ~rest) | (~one & rest)

    check(parity([f"v{i}" for i in range(3)]), many)
    pairs = [
        says(variable=f"v{i}", levels=["1"]) & says(variable=f"v{i + 20}", levels=["1"])
        for i in range(20)
    ]
    with pytest.raises(DocumentError, match="intricate"):
        check(Cohort(any=tuple(pairs)), many)

"""A question that names what isn't there is told what there is, before it is sent."""

from __future__ import annotations

import pytest

from contract.cohorts import Cohort
from contract.conditions import where
from contract.dictionary import Variable
from contract.errors import NotFound, UsageError, WardgateError
from contract.work import Statistic
from researcher.checking import check
from researcher.questions import histogram, levels, mean, question
from tests.contract.world import World

AGE = Variable(name="Age", kind="number", minimum=0, maximum=100, bins=10)
BMI = Variable(name="bmi", kind="number")
ARM = Variable(name="arm", kind="category", levels=("control", "drug"))
PROJECT = World().project(variables=(AGE, BMI, ARM))


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        (mean("aeg"), NotFound, "aeg is not in the project's dictionary (did you mean Age?)"),
        (mean("age"), NotFound, "did you mean Age?"),
        (mean("Age", by="harm"), NotFound, "did you mean arm?"),
        (mean("zzz"), NotFound, "dictionary; 'wardgate projects' shows what is"),
        (mean("arm"), UsageError, "arm is a category and has no mean; ask for its levels"),
        (levels("Age"), UsageError, "Age is a number and has no levels"),
        (histogram("bmi"), UsageError, "gives bmi no grid"),
        (mean("bmi", by="Age"), UsageError, "Age is a number, and groups are"),
    ],
)
def test_what_is_asked_of_a_variable_must_be_of_its_kind(
    asked: Statistic, error: type[WardgateError], said: str
) -> None:
    with pytest.raises(error) as caught:
        check(question([asked]), PROJECT)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("cohort", "error", "said"),
    [
        (where("arm = placebo"), NotFound, "has no level 'placebo'; it has control, drug"),
        (where("ARM = drug"), NotFound, "did you mean arm?"),
        (~where("Age = 7"), UsageError, "compare it: 'Age >= 65'"),
        (where("arm > 3"), UsageError, "name its levels: 'arm = control'"),
    ],
)
def test_a_cohort_must_be_one_of_the_dictionary(
    cohort: Cohort, error: type[WardgateError], said: str
) -> None:
    with pytest.raises(error) as caught:
        check(question([mean("Age")], cohort=cohort), PROJECT)
    assert said in str(caught.value)


def test_a_question_that_fits_is_let_through() -> None:
    cohort = where("arm == drug") & where("Age known") & where("bmi < 30")
    check(
        question([mean("Age", by="arm"), levels("arm"), histogram("Age")], cohort=cohort), PROJECT
    )


def test_a_setting_out_of_its_range_is_named_with_the_range() -> None:
    with pytest.raises(UsageError, match="epsilon: Input should be less than or equal to 16"):
        question([mean("Age")], epsilon=100)

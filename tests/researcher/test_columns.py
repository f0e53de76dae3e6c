"""The same filter in Python, as JSON and as it is typed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from contract import cohorts
from contract.cohorts import Cohort
from contract.conditions import all_of
from contract.dictionary import Code, Variable
from contract.errors import DocumentError, UsageError
from researcher.columns import Column, column, read_cohort
from tests.contract.world import World

SEX = Variable(
    name="sex",
    kind="category",
    levels=("f", "m"),
    codes={
        "f": Code(code="248152002", terminology="http://snomed.info/sct"),
        "m": Code(code="248153007", terminology="http://snomed.info/sct"),
    },
)
AGE = Variable(name="age", kind="number", minimum=0, maximum=120, bins=12)
PROJECT = World().project().model_copy(update={"variables": (SEX, AGE)})


@pytest.mark.parametrize(
    ("made", "typed"),
    [
        (column("age") >= 65, "age >= 65"),
        (column("age") > 65, "age > 65"),
        (column("age") <= 40, "age <= 40"),
        (column("age") < 40, "age < 40"),
        (column("sex") == "f", "sex = f"),
        (column("sex") != "f", "sex != f"),
        (column("sex").isin("f", "m"), "sex = f | m"),
        (column("age").missing(), "age missing"),
        (column("age").known(), "age known"),
    ],
)
def test_operators_typed_conditions_and_json_say_one_cohort(made: Cohort, typed: str) -> None:
    same = cohorts.normal_form(made, PROJECT)
    assert same == cohorts.normal_form(all_of([typed]), PROJECT)
    read = Cohort.model_validate_json(made.model_dump_json())
    assert same == cohorts.normal_form(read, PROJECT)


def test_conditions_nest() -> None:
    made = ((column("age") >= 18) & (column("age") < 65)) | ~(column("sex") == "m")
    typed = cohorts.normal_form(made, PROJECT)
    other = (column("age").between(18, 64.9)) | ~Column("sex", SEX).coded("248153007")
    assert typed != cohorts.normal_form(other, PROJECT)
    again = (~(column("sex") == "m")) | ((column("age") < 65) & (column("age") >= 18))
    assert typed == cohorts.normal_form(again, PROJECT)


def test_codes_are_those_of_the_dictionary() -> None:
    sex = Column("sex", SEX)
    assert sex.coded("248152002") == (column("sex") == "f")
    with pytest.raises(DocumentError, match="no level of sex code 1"):
        sex.coded("1")
    with pytest.raises(DocumentError, match="no level of sex"):
        sex.coded("248152002", terminology="http://loinc.org")


def test_what_can_not_be_compared_is_said() -> None:
    with pytest.raises(DocumentError, match="age"):
        column("age").between(0, math.nan)
    with pytest.raises(DocumentError):
        column("a; drop table").missing()


def test_a_cohort_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "cohort.json"
    path.write_text(json.dumps({"not": {"variable": "age", "below": 18}}))
    assert read_cohort(path) == ~(column("age") < 18)
    for wrong in ("{", '{"variable": "age"}', '{"eval": "1"}'):
        path.write_text(wrong)
        with pytest.raises(UsageError, match="no cohort"):
            read_cohort(path)

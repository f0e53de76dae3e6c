"""Variables of a project: codes, missing markers, and that a project carries them unchanged."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from contract.dictionary import Code, Variable
from contract.documents import Project
from tests.contract.world import World

FEMALE = {"code": "248152002", "terminology": "http://snomed.info/sct"}
SEX: dict[str, Any] = {"name": "sex", "kind": "category", "levels": ["F", "M"]}


def test_a_level_with_its_code_is_the_level_and_its_code() -> None:
    short = Variable.model_validate(SEX | {"levels": [{"level": "F", **FEMALE}, "M"]})
    assert short == Variable.model_validate(SEX | {"codes": {"F": FEMALE}})
    assert short.levels == ("F", "M")
    assert short.codes == {"F": Code(**FEMALE)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"levels": [{"level": "F", **FEMALE, "display": "Jane"}, "M"]},
        {"levels": [{"level": "F"}, "M"]},
        {"levels": [{"level": 1, **FEMALE}]},
        {"levels": [{"level": "F", "code": "a b", "terminology": "t"}]},
        {"codes": {"X": FEMALE}},
        {"codes": {"F": FEMALE, "M": FEMALE}},
        {"missing": ["F"]},
        {"missing": ["a\nb"]},
        {"coded": {"code": "", "terminology": "t"}},
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Variable.model_validate(SEX | wrong)


def test_a_project_carries_its_variables_unchanged() -> None:
    variable = Variable.model_validate(
        SEX | {"codes": {"F": FEMALE}, "missing": ["9"], "required": True, "coded": FEMALE}
    )
    number = Variable(name="n", kind="number", whole=True, missing=("-9",), unit="mm[Hg]")
    project = World().project(variables=(variable, number))
    assert Project.read(project.model_dump_json().encode()) == project

"""A project's dictionary as TOML: what it may say, and that it reads back as it was written."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from contract.dictionary import Code, Variable
from contract.errors import ConfigurationError
from node.catalog.dictionary import Dictionary, parse_dictionary, read_dictionary, to_toml
from tests.examples import examples

SEX = {
    "name": "sex",
    "kind": "category",
    "levels": [{"level": "F", "code": "248152002", "terminology": "http://snomed.info/sct"}, "M"],
    "coded": {"code": "46098-0", "terminology": "http://loinc.org"},
    "missing": ["9"],
    "required": True,
}


def test_a_level_may_be_written_with_its_code() -> None:
    read = parse_dictionary({"name": "d", "variables": [SEX]}, "test").variables[0]
    assert read.levels == ("F", "M")
    assert read.codes == {"F": Code(code="248152002", terminology="http://snomed.info/sct")}


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ({"name": "x", "kind": "number", "mising": []}, r"variables\.0\.'mising'; did you mean"),
        ({**SEX, "missing": ["M"]}, "a level stands for a missing value"),
        ({**SEX, "codes": {"X": {"code": "1", "terminology": "t"}}}, "a code is that of no level"),
        (
            {**SEX, "levels": [{"level": x, "code": "1", "terminology": "t"} for x in "FM"]},
            "two levels have one code",
        ),
        ({"name": "subject", "kind": "number"}, "pseudonym"),
        ({"name": "x"}, "kind"),
    ],
)
def test_a_bad_variable_is_named(variable: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_dictionary({"name": "d", "variables": [variable]}, "test")


def test_a_projects_own_file_is_a_dictionary() -> None:
    example = Path(__file__).parents[3] / "docs/tutorials/example/project.toml"
    read = read_dictionary(example)
    assert (read.name, read.table) == ("stroke", "stroke")
    assert [v.name for v in read.variables if v.bins is not None] == ["age", "days"]
    with pytest.raises(ConfigurationError, match="purpose"):
        parse_dictionary({"name": "d", "variables": [SEX], "purpose": "?"}, "test")


def test_a_tables_schema_gives_a_draft_of_its_dictionary() -> None:
    example = Path(__file__).parents[3] / "docs/tutorials/example"
    drafted, agreed = (read_dictionary(example / f"{n}.toml") for n in ("stroke", "project"))
    assert [v.name for v in drafted.variables] == [
        *("age", "sex", "nihss", "arm", "good_outcome", "days", "died"),
    ]
    for variable in agreed.variables:
        mine = drafted.variable(variable.name)
        assert mine is not None
        assert (mine.kind, mine.levels, mine.unit) == (
            variable.kind,
            variable.levels,
            variable.unit,
        )
    age = drafted.variable("age")
    assert age is not None
    assert (age.minimum, age.maximum, age.bins, age.whole) == (20, 100, 10, True)
    assert read_dictionary(example / "stroke.toml").table == "stroke"
    assert parse_dictionary(tomllib.loads(to_toml(drafted)), "again") == drafted


def test_variables_are_named_once() -> None:
    with pytest.raises(ConfigurationError, match="occurs twice"):
        parse_dictionary({"name": "d", "variables": [SEX, SEX]}, "test")


def test_a_dictionary_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "d.toml"
    path.write_text('name = "d"\n[[variables]]\nname = "x"\nkind = "number"\n')
    assert read_dictionary(path).variable("x") == Variable(name="x", kind="number")
    assert read_dictionary(path).variable("y") is None
    path.write_text("name = ")
    with pytest.raises(ConfigurationError, match="not TOML"):
        read_dictionary(path)


lines = st.text(st.characters(exclude_characters="\r\n\x00", codec="utf-8"), max_size=20)
codes = st.builds(
    Code, code=st.from_regex(r"[!-~]{1,9}", fullmatch=True), terminology=st.just("http://t.t")
)


@st.composite
def variables(draw: st.DrawFn) -> Variable:
    name = draw(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,20}", fullmatch=True))
    levels = draw(st.lists(lines, min_size=1, max_size=4, unique=True))
    values: dict[str, Any] = {
        "name": name,
        "kind": draw(st.sampled_from(["number", "category"])),
        "meaning": draw(lines),
        "unit": draw(lines),
        "whole": draw(st.booleans()),
        "levels": levels,
        "codes": {level: draw(codes) for level in draw(st.sets(st.sampled_from(levels)))},
        "coded": draw(st.none() | codes),
        "missing": draw(st.lists(lines, max_size=3)),
        "required": draw(st.booleans()),
        **draw(st.sampled_from([{}, {"minimum": -1.5, "maximum": 3, "bins": 4}])),
    }
    try:
        return Variable.model_validate(values)
    except ValidationError:
        return Variable(name=name, kind="number")


@settings(max_examples=examples(20, 50), deadline=None)
@given(lines, st.lists(variables(), min_size=1, max_size=4, unique_by=lambda v: v.name))
def test_a_dictionary_written_as_toml_reads_back_as_it_was(
    title: str, some: list[Variable]
) -> None:
    try:
        whole = Dictionary(name="d", title=title, variables=tuple(some))
    except ValidationError:
        assert any(one.name == "subject" for one in some)
        return
    assert parse_dictionary(tomllib.loads(to_toml(whole)), "test") == whole

"""A mapping's file: what is refused, by place, and that nothing in it is ever evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import ConfigurationError
from node.catalog.mapping.expressions import Constant, walk
from node.catalog.mapping.file import parse_mapping, read_mapping
from node.catalog.mapping.reading import MAX_DEPTH, OPERATIONS
from tests.node.catalog.mapping.making import MemorySources, map_variables

COLUMN = {"from": "t.a"}


def refused(expression: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse_mapping({"dictionary": "d", "variables": {"x": expression}}, "m.toml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ({}, "needs one operation of"),
        ({"eval": "1"}, "needs one operation of"),
        ({"add": [1, 2], "divide": [1, 2]}, "needs one operation of"),
        ({"from": "t.a", "where": "1=1"}, "from has no parameter 'where'"),
        ({"from": "t"}, 'not written "table.column"'),
        ({"from": "t.a; drop"}, 'not written "table.column"'),
        ({"from": "t.a", "take": "median"}, "take is none of first"),
        ({"from": "t.a", "within": {"of": COLUMN}}, "within needs take"),
        ({"observation": "8480-6", "take": "count"}, 'not written "system|code"'),
        ({"observation": [], "take": "count"}, "not a list of 1 to"),
        ({"observation": "s|c"}, "take is none of"),
        ({"observation": "s|c", "take": "last"}, "needs its unit"),
        ({"observation": "s|c", "take": "minimum", "value": "code"}, "no minimum"),
        ({"observation": "s|c", "take": "any", "unit": "kg"}, "needs no value"),
        (
            {
                "observation": "s|c",
                "take": "any",
                "within": {"of": COLUMN, "from_days": 2, "to_days": 1},
            },
            "from_days is later",
        ),
        ({"observation": "s|c", "take": "any", "within": {"from_days": 2}}, "needs a date"),
        (
            {"observation": "s|c", "take": "any", "within": {"of": COLUMN, "to_days": 0.5}},
            "not a number of days",
        ),
        ({"add": [1]}, "not a list of 2 to"),
        ({"divide": [1, 2, 3]}, "not a list of 2 entries"),
        ({"power": [COLUMN, COLUMN]}, "exponent"),
        ({"power": [COLUMN, 99]}, "exponent"),
        ({"compare": [1, "like", 2]}, "sign is none of"),
        ({"compare": [1, 2]}, "not a list of 3 entries"),
        ({"bins": COLUMN, "edges": [2, 1], "levels": ["a", "b", "c"]}, "edges don't rise"),
        ({"bins": COLUMN, "edges": [2], "levels": ["a"]}, "levels is not a list of 2"),
        ({"recode": COLUMN}, "needs levels"),
        ({"recode": COLUMN, "levels": {"a": 1}}, "levels is not a text"),
        ({"convert": COLUMN}, "unit is not a text"),
        ({"convert": COLUMN, "unit": "mol", "molar_mass": 0}, "grams per mole"),
        (["from", "t.a"], "is no value and no operation"),
        (1e300, "too large"),
        (float("nan"), "too large"),
        ("x" * 300, "longer than"),
    ],
)
def test_what_is_no_expression_is_refused(expression: Any, message: str) -> None:
    said = refused(expression)
    assert message in said
    assert said.startswith("m.toml: variables.x")
    assert "\n" not in said


def test_the_place_inside_an_expression_is_named() -> None:
    said = refused({"add": [1, {"multiply": [2, {"frm": "t.a"}]}]})
    assert said.startswith("m.toml: variables.x.add.1.multiply.1: needs one operation")


def test_expressions_nest_so_deep_and_no_deeper() -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = {"add": [deep, 1]}
    assert len(list(walk(parse(deep)))) == 2 * MAX_DEPTH + 1
    assert "nests deeper" in refused({"add": [deep, 1]})


def parse(expression: Any) -> Any:
    mapping = parse_mapping({"dictionary": "d", "variables": {"x": expression}}, "m.toml")
    return mapping.variables["x"]


def test_a_file_names_its_dictionary_and_unknown_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text('dictionary = "d"\n[variables]\nx = { from = "t.a" }\ny = 1\n')
    mapping = read_mapping(path)
    assert mapping.tables == {"t"}
    assert mapping.variables["y"] == Constant(1)
    path.write_text('dictionary = "d"\nvariable = 1\n')
    with pytest.raises(ConfigurationError, match="did you mean 'variables'"):
        read_mapping(path)
    path.write_text("dictionary = ")
    with pytest.raises(ConfigurationError, match="not TOML"):
        read_mapping(path)
    path.write_text("x = " + "[" * 100_000)
    with pytest.raises(ConfigurationError):
        read_mapping(path)


scalars = st.booleans() | st.integers(-5, 5) | st.sampled_from(["t.a", "t.b", "s|c", "kg", "last"])
keys = st.sampled_from(
    [*OPERATIONS, "take", "unit", "within", "of", "levels", "edges", "value", "otherwise"]
)
expressions = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(OPERATIONS), expressions, min_size=1, max_size=1) | scalars)
def test_any_expression_is_mapped_or_refused(
    tmp_path_factory: pytest.TempPathFactory, expression: Any
) -> None:
    sources = MemorySources(tmp_path_factory.mktemp("s"))
    sources.add(
        {
            "table": "t",
            "columns": [{"name": "a", "type": "number"}, {"name": "b", "type": "date"}],
        },
        [{"subject": "s", "a": 1.0, "b": None}],
    )
    variables = [
        {"name": "n", "kind": "number"},
        {"name": "c", "kind": "category", "levels": ["true", "kg"]},
    ]
    try:
        mapped = map_variables(sources, variables, {"n": expression, "c": expression})
    except ConfigurationError as error:
        assert str(error).startswith("test: variables.")
    else:
        for result in mapped.results.values():
            assert result.problem or result.present <= 1

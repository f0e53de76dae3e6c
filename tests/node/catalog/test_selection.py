"""Selections: what they may say, and how they are read."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import ConfigurationError
from node.catalog import selection as module
from node.catalog.schema import UNDATED
from node.catalog.selection import (
    EVERY,
    LAST,
    AssetFilter,
    Days,
    Ranges,
    Selection,
    days_of,
    parse_selection,
    read_selection,
)
from node.catalog.tallies import day

FILE = """
table = "trial"
columns = ["age", "arm"]
observations = ["http://loinc.org|8480-6"]

[assets]
kind = ["dicom"]
any = [
  {modality = ["CT"], body_part = ["CHEST"]},
  {modality = ["MR"], not = {device_model = ["Old One"]}, dated = {from = 2020-01-01}},
]

[subjects]
consent = {purpose = ["research"]}
not = {observation = {code = ["http://loinc.org|8480-6"], number = {maximum = 90}}}
"""


def test_a_file_of_toml_and_the_same_of_json_are_one_selection(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(FILE)
    found = read_selection(tmp_path / "a.toml")
    assert found.assets is not None and found.assets.any is not None
    assert found.assets.any[1].dated == Days(first=date(2020, 1, 1))
    assert found.subjects is not None and found.subjects.not_ is not None
    values = found.model_dump(mode="json", by_alias=True, exclude_none=True)
    (tmp_path / "a.json").write_text(json.dumps(values))
    assert read_selection(tmp_path / "a.json") == found


@pytest.mark.parametrize(
    "values",
    [
        {"assets": {"modalty": ["CT"]}},
        {"assets": {"modality": []}},
        {"assets": {"modality": "CT"}},
        {"assets": {"any": []}},
        {"assets": {"dated": {}}},
        {"assets": {"sql": "1=1"}},
        {"columns": ["age"]},
        {"table": "trial; DROP TABLE assets"},
        {"observations": ["no bar"]},
        {"subjects": {"observation": {"number": {"minimum": 1}}}},
        {"subjects": {"asset": {"magnification": {"minimum": "x"}}}},
    ],
)
def test_what_is_not_on_the_closed_list_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        parse_selection(values, "test")


@pytest.mark.parametrize("text", ["[", "table = ", "\x00", "[[[[", "x = 1979-13-01"])
def test_what_is_no_toml_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ConfigurationError):
        read_selection(tmp_path / "a.toml")


def test_a_selection_may_not_nest_without_end(tmp_path: Path) -> None:
    deep: dict[str, Any] = {"modality": ["CT"]}
    for _ in range(module.MAX_DEPTH + 20):
        deep = {"not": deep}
    with pytest.raises(ConfigurationError, match="deep"):
        parse_selection({"assets": deep}, "test")
    many = {"any": [{"modality": ["CT"]}] * (module.MAX_CONDITIONS + 1)}
    with pytest.raises(ConfigurationError, match="more than"):
        parse_selection({"assets": many}, "test")
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(ConfigurationError):
        read_selection(tmp_path / "a.json")


def test_columns_and_groups_are_no_part_of_whom_a_selection_is_of() -> None:
    one = Selection(table="trial")
    assert Selection(table="trial", columns=("age",), groups=False).population == one.population
    assert Selection(table="other").population != one.population


FACET = {
    "kind": "dicom",
    "modality": "CT",
    "body_part": "CHEST",
    "laterality": "",
    "manufacturer": "ACME",
    "device_model": "One",
    "stain": "",
    "magnification": 0.0,
}
DATES = st.dates(date(2000, 1, 1), date(2002, 1, 1))
LEAVES = st.builds(
    lambda modality, first, until: AssetFilter(
        modality=(modality,),
        dated=Days(first=first, until=until) if first or until else None,
    ),
    st.sampled_from(["CT", "ct", "MR"]),
    st.none() | DATES,
    st.none() | DATES,
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda some, every, no: AssetFilter(any=some or None, all=every or None, not_=no),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(tuple),
        st.none() | inner,
    ),
    max_leaves=8,
)


def plainly(condition: AssetFilter, modality: str, when: date | None) -> bool:
    """Say whether one asset is meant, as one would read the filter aloud."""
    dated = condition.dated
    return (
        (condition.modality is None or modality.lower() in {m.lower() for m in condition.modality})
        and (
            dated is None
            or (
                when is not None
                and (dated.first is None or dated.first <= when)
                and (dated.until is None or when <= dated.until)
            )
        )
        and all(plainly(one, modality, when) for one in condition.all or ())
        and (condition.any is None or any(plainly(one, modality, when) for one in condition.any))
        and (condition.not_ is None or not plainly(condition.not_, modality, when))
    )


@given(FILTERS, st.none() | DATES)
def test_the_days_of_a_filter_are_those_on_which_it_holds(
    condition: AssetFilter, when: date | None
) -> None:
    ranges: Ranges = days_of(condition, FACET)
    inside = any(first <= day(when) <= last for first, last in ranges)
    assert inside == plainly(condition, "CT", when)
    flat = [end for one in ranges for end in one]
    assert flat == sorted(flat)
    assert all(UNDATED <= end <= LAST for end in flat)


def test_an_empty_filter_is_every_asset_on_every_day() -> None:
    assert days_of(AssetFilter(), FACET) == EVERY


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["assets", "subjects", "all", "any", "not", "asset", "table", "dated"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from([*Selection.model_fields, "x"]), VALUES, max_size=4))
def test_any_values_are_a_selection_or_a_clear_error(values: dict[str, Any]) -> None:
    with suppress(ConfigurationError):
        again = parse_selection(values, "test").model_dump(mode="json", by_alias=True)
        assert (
            parse_selection(again, "test").population == parse_selection(values, "test").population
        )

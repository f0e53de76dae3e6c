"""Each operation of a mapping: what it makes of values, units, levels and dates."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest

from tests.node.catalog.mapping.making import Apply, MemorySources, Observation

VISIT = date(2020, 3, 1)
SBP = "http://loinc.org|8480-6"
DIABETES = "http://snomed.info/sct|44054006"
RESOLVED = "http://terminology.hl7.org/CodeSystem/condition-clinical|resolved"


@pytest.fixture
def trial(sources: MemorySources) -> MemorySources:
    sources.add(
        {
            "table": "trial",
            "columns": [
                {"name": "age", "type": "integer", "unit": "years"},
                {"name": "weight", "type": "number", "unit": "kg"},
                {"name": "height", "type": "number", "unit": "cm"},
                {"name": "plain", "type": "number"},
                {
                    "name": "sex",
                    "type": "category",
                    "levels": [
                        {
                            "level": "F",
                            "code": "248152002",
                            "terminology": "http://snomed.info/sct",
                        },
                        "M",
                        "U",
                    ],
                },
                {"name": "smoker", "type": "boolean"},
                {"name": "born", "type": "date"},
                {"name": "visit", "type": "date"},
            ],
        },
        [
            {
                "subject": "a",
                "age": 63,
                "weight": 80.0,
                "height": 200.0,
                "plain": 1.0,
                "sex": "F",
                "smoker": True,
                "born": date(1960, 2, 29),
                "visit": VISIT,
            },
            {
                "subject": "b",
                "age": 40,
                "weight": 50.0,
                "height": None,
                "plain": 2.5,
                "sex": "M",
                "smoker": False,
                "born": date(1980, 3, 2),
                "visit": VISIT,
            },
            {
                "subject": "c",
                "age": None,
                "weight": None,
                "height": 150.0,
                "plain": None,
                "sex": "U",
                "smoker": None,
                "born": None,
                "visit": None,
            },
        ],
    )
    return sources


def number(apply: Apply, expression: Any, unit: str = "", **more: Any) -> list[float | None]:
    mapped = apply([{"name": "x", "kind": "number", "unit": unit, **more}], {"x": expression})
    assert mapped.results["x"].problem is None, mapped.results["x"].sentence
    values: list[float | None] = mapped.frame["x"].to_list()
    return values


def category(apply: Apply, expression: Any, *levels: Any) -> list[str | None]:
    mapped = apply([{"name": "x", "kind": "category", "levels": list(levels)}], {"x": expression})
    assert mapped.results["x"].problem is None, mapped.results["x"].sentence
    values: list[str | None] = mapped.frame["x"].to_list()
    return values


def truth(apply: Apply, expression: Any) -> list[str | None]:
    return category(apply, expression, "false", "true")


def problem(apply: Apply, expression: Any, **variable: Any) -> str | None:
    given = {"name": "x", "kind": "number", **variable}
    return apply([given], {"x": expression}).results["x"].problem


def column(name: str) -> dict[str, str]:
    return {"from": f"trial.{name}"}


@pytest.mark.usefixtures("trial")
def test_a_column_is_taken_and_converted_to_the_dictionarys_unit(apply: Apply) -> None:
    assert number(apply, column("height"), "m") == pytest.approx([2.0, None, 1.5])
    assert number(apply, column("age"), "a", whole=True) == [63, 40, None]
    assert problem(apply, column("height"), unit="kg") == "unit-mismatch"
    assert problem(apply, column("plain"), unit="kg") == "unit-mismatch"
    assert number(apply, {"convert": column("plain"), "unit": "kg"}, "g") == [1000, 2500, None]


@pytest.mark.usefixtures("trial")
def test_arithmetic_carries_units(apply: Apply) -> None:
    bmi = {"divide": [column("weight"), {"power": [column("height"), 2]}]}
    assert number(apply, bmi, "kg/m2") == pytest.approx([20.0, None, None])
    both = {"add": [column("height"), {"convert": 1, "unit": "m"}]}
    assert number(apply, both, "cm") == [300, None, 250]
    assert number(apply, {"subtract": [column("height"), 50]}, "cm") == [150, None, 100]
    assert number(apply, {"multiply": [2, column("weight"), 0.5]}, "kg") == [80, 50, None]
    assert number(apply, {"maximum_of": [column("weight"), 60]}, "kg") == [80, 60, None]
    assert number(apply, {"minimum_of": [column("weight"), 60]}, "kg") == [60, 50, None]
    assert problem(apply, {"add": [column("height"), column("weight")]}) == "unit-mismatch"
    assert problem(apply, {"power": [column("height"), 0.5]}) == "unit-mismatch"
    assert problem(apply, {"add": [column("height"), column("sex")]}) == "type-mismatch"


@pytest.mark.usefixtures("trial")
def test_what_is_not_finite_is_missing_and_counted(apply: Apply) -> None:
    x = {"name": "x", "kind": "number"}
    mapped = apply([x], {"x": {"divide": [column("plain"), {"subtract": [1, 1]}]}})
    assert mapped.frame["x"].to_list() == [None, None, None]
    assert mapped.results["x"].not_numbers == 2


@pytest.mark.usefixtures("trial")
def test_levels_are_matched_by_name_or_code_and_recoded(apply: Apply) -> None:
    assert category(apply, column("sex"), "F", "M", "U") == ["F", "M", "U"]
    female = {"level": "female", "code": "248152002", "terminology": "http://snomed.info/sct"}
    assert category(apply, column("sex"), female, "M") == ["female", "M", None]
    levels = {"F": "w", "M": "m"}
    assert category(apply, {"recode": column("sex"), "levels": levels}, "w", "m") == [
        "w",
        "m",
        None,
    ]
    rest = {"recode": column("sex"), "levels": {"F": "w"}, "otherwise": "other"}
    assert category(apply, rest, "w", "other") == ["w", "other", "other"]
    smoker = {"recode": column("smoker"), "levels": {"true": "Y", "false": "N"}, "absent": "?"}
    assert category(apply, smoker, "Y", "N", "?") == ["Y", "N", "?"]
    ages = {"recode": column("age"), "levels": {"63": "old", "40": "young"}}
    assert category(apply, ages, "old", "young") == ["old", "young", None]


@pytest.mark.usefixtures("trial")
def test_a_level_without_a_name_is_counted_and_a_number_is_not_quoted(apply: Apply) -> None:
    x = {"name": "x", "kind": "category", "levels": ["w"]}
    mapped = apply([x], {"x": {"recode": column("sex"), "levels": {"F": "w"}}})
    assert dict(mapped.results["x"].unmapped) == {"M": 1, "U": 1}
    mapped = apply([x], {"x": {"recode": column("age"), "levels": {"63": "w"}}})
    assert dict(mapped.results["x"].unmapped) == {"other numbers": 1}


@pytest.mark.usefixtures("trial")
def test_bins_have_their_edges_above(apply: Apply) -> None:
    bins = {"bins": column("age"), "edges": [40, 63], "levels": ["young", "middle", "old"]}
    assert category(apply, bins, "young", "middle", "old") == ["old", "middle", None]


@pytest.mark.usefixtures("trial")
def test_comparisons_and_logic_know_missing_values(apply: Apply) -> None:
    assert truth(apply, {"compare": [column("age"), ">=", 63]}) == ["true", "false", None]
    assert truth(apply, {"compare": [column("sex"), "=", "F"]}) == ["true", "false", "false"]
    tall = {"compare": [column("height"), ">", {"convert": 1.8, "unit": "m"}]}
    assert truth(apply, tall) == ["true", None, "false"]
    assert truth(apply, {"any_of": [tall, column("smoker")]}) == ["true", None, None]
    assert truth(apply, {"all_of": [tall, column("smoker")]}) == ["true", "false", "false"]
    assert truth(apply, {"not": column("smoker")}) == ["false", "true", None]
    later = {"compare": [column("born"), "<", column("visit")]}
    assert truth(apply, later) == ["true", "true", None]
    assert problem(apply, {"compare": [column("sex"), "<", "F"]}) == "type-mismatch"
    assert problem(apply, {"compare": [column("sex"), "=", 1]}) == "type-mismatch"


@pytest.mark.usefixtures("trial")
def test_dates_have_days_years_and_birthdays_between_them(apply: Apply) -> None:
    pair = [column("born"), column("visit")]
    a, b = (VISIT - date(1960, 2, 29)).days, (VISIT - date(1980, 3, 2)).days
    assert number(apply, {"days": pair}, "d") == [a, b, None]
    assert number(apply, {"years": pair}, "a") == pytest.approx([a / 365.25, b / 365.25, None])
    assert number(apply, {"completed_years": pair}, "a", whole=True) == [60, 39, None]
    assert number(apply, {"year": column("visit")}) == [2020, 2020, None]


@pytest.mark.usefixtures("trial")
def test_an_age_above_89_is_90(apply: Apply) -> None:
    older = {"add": [{"years": [column("born"), column("visit")]}, 35]}
    assert number(apply, older, "a")[0] == 90
    assert number(apply, {"multiply": [older, 1]}, "mo")[0] == 90 * 12


@pytest.mark.usefixtures("trial")
def test_coalesce_takes_the_first_that_is_there(apply: Apply) -> None:
    first = {"coalesce": [column("height"), {"convert": 1.7, "unit": "m"}]}
    assert number(apply, first, "cm") == [200, 170, 150]
    both = {"coalesce": [{"recode": column("sex"), "levels": {"F": "w"}}, "unknown"]}
    assert category(apply, both, "w", "unknown") == ["w", "unknown", "unknown"]


@pytest.mark.usefixtures("trial")
def test_range_whole_numbers_and_missing_markers_of_the_dictionary_are_kept(apply: Apply) -> None:
    given = {"name": "x", "kind": "number", "minimum": 0, "maximum": 2, "missing": ["1"]}
    mapped = apply([given], {"x": column("plain")})
    assert mapped.frame["x"].to_list() == [None, None, None]
    assert mapped.results["x"].out_of_range == 1
    whole = {"name": "x", "kind": "number", "whole": True}
    mapped = apply([whole], {"x": column("plain")})
    assert mapped.frame["x"].to_list() == [1, None, None]
    assert mapped.results["x"].not_numbers == 1
    level = {"name": "x", "kind": "category", "levels": ["F", "M"], "missing": ["U"]}
    mapped = apply([level], {"x": column("sex")})
    assert mapped.results["x"].unmapped == {}


def test_a_source_that_is_not_here_is_a_problem(apply: Apply) -> None:
    assert problem(apply, column("age")) == "source-missing"
    missing = apply([{"name": "y", "kind": "number"}], {"x": 1})
    assert missing.results["y"].problem == "no-mapping"


def at(days: int, hours: int = 0) -> datetime:
    return datetime(2020, 3, 1) + timedelta(days=days, hours=hours)


@pytest.fixture
def measured(trial: MemorySources) -> MemorySources:
    rows: list[Observation] = [
        ("a", SBP, 120.0, None, "mm[Hg]", at(-10)),
        ("a", SBP, 18.0, None, "kPa", at(0)),
        ("a", SBP, 150.0, None, "mm[Hg]", at(40)),
        ("a", SBP, 7.0, None, "kg", at(1)),
        ("b", SBP, 110.0, None, "mm[Hg]", None),
        ("a", DIABETES, None, None, "", at(-100)),
        ("a", DIABETES, None, RESOLVED, "", at(100)),
        ("d", SBP, 100.0, None, "mm[Hg]", at(0)),
    ]
    trial.batches = [rows[:3], rows[3:]]
    return trial


@pytest.mark.usefixtures("measured")
def test_observations_are_taken_first_last_least_and_most(apply: Apply) -> None:
    def taken(take: str, **more: Any) -> list[float | None]:
        given = {"observation": SBP, "take": take, "unit": "mm[Hg]", **more}
        return number(apply, given, "mm[Hg]")

    assert taken("first") == [120, 110, 100]
    assert taken("last") == [150, 110, 100]
    assert taken("minimum") == [120, 110, 100]
    assert taken("maximum") == [150, 110, 100]


@pytest.mark.usefixtures("measured")
def test_a_number_whose_unit_cannot_be_converted_is_left_out_and_counted(apply: Apply) -> None:
    given = {"observation": SBP, "take": "last", "unit": "mm[Hg]"}
    mapped = apply([{"name": "x", "kind": "number", "unit": "kPa"}], {"x": given})
    assert mapped.results["x"].in_other_units == 1
    assert mapped.frame["x"].to_list() == pytest.approx([19.9983, 14.66542, 13.3322])


@pytest.mark.usefixtures("measured")
def test_a_window_is_around_a_date_of_the_subjects_own(apply: Apply) -> None:
    around = {"of": column("visit"), "from_days": -365, "to_days": 0}
    given = {"observation": SBP, "take": "last", "unit": "kPa", "within": around}
    assert number(apply, given, "kPa") == [18.0, None, None, None]
    counted = {"observation": SBP, "take": "count", "within": around}
    assert number(apply, counted) == [2, 0, None, None]
    after = {"observation": SBP, "take": "any", "within": {"of": column("visit"), "from_days": 1}}
    assert truth(apply, after) == ["true", "false", None, None]


@pytest.mark.usefixtures("measured")
def test_a_window_may_be_around_another_observation(apply: Apply) -> None:
    first = {"observation": DIABETES, "take": "first", "value": "date"}
    around = {"of": first, "from_days": 90, "to_days": 100}
    given = {"observation": SBP, "take": "first", "unit": "mm[Hg]", "within": around}
    assert number(apply, given, "mm[Hg]")[0] == 120
    days = {"days": [first, column("visit")]}
    assert number(apply, days, "d")[0] == 100


@pytest.mark.usefixtures("measured")
def test_counts_can_leave_some_values_out(apply: Apply) -> None:
    assert number(apply, {"observation": DIABETES, "take": "count"}) == [2]
    started = {"observation": DIABETES, "take": "count", "without": RESOLVED}
    assert number(apply, started) == [1]
    ended = {"observation": DIABETES, "take": "count", "values": [RESOLVED]}
    assert number(apply, ended) == [1]
    code = {"observation": DIABETES, "take": "last", "value": "code"}
    status = {
        "level": "over",
        "code": "resolved",
        "terminology": RESOLVED.split("|", maxsplit=1)[0],
    }
    assert category(apply, code, status) == ["over"]


@pytest.mark.usefixtures("measured")
def test_subjects_are_those_of_all_that_is_named_or_of_the_tables_chosen(apply: Apply) -> None:
    diabetes = {"x": {"observation": DIABETES, "take": "any"}}
    x = [{"name": "x", "kind": "category", "levels": ["true", "false"]}]
    assert apply(x, diabetes).frame["subject"].to_list() == ["a"]
    mapped = apply(x, diabetes, subjects=["trial"])
    assert mapped.frame.rows() == [("a", "true"), ("b", "false"), ("c", "false")]


@pytest.mark.usefixtures("measured")
def test_what_nobody_was_ever_observed_for_is_missing_and_not_false(apply: Apply) -> None:
    x = [{"name": "x", "kind": "category", "levels": ["true", "false"]}]
    given = {"x": {"observation": "http://loinc.org|1-8", "take": "any"}}
    mapped = apply(x, given, subjects=["trial"])
    assert mapped.frame["x"].to_list() == [None, None, None]
    assert mapped.results["x"].without_source


def test_of_several_rows_one_must_be_chosen(sources: MemorySources, apply: Apply) -> None:
    columns = [
        {"name": "day", "type": "date"},
        {"name": "crp", "type": "number", "unit": "mg/L"},
        {"name": "ward", "type": "category", "levels": ["x", "y"]},
    ]
    sources.add(
        {"table": "visits", "rows": "many", "time": "day", "columns": columns},
        [
            {"subject": "a", "day": date(2020, 1, 2), "crp": 5.0, "ward": "x"},
            {"subject": "a", "day": date(2020, 1, 1), "crp": 3.0, "ward": "y"},
            {"subject": "a", "day": date(2020, 1, 3), "crp": None, "ward": None},
            {"subject": "b", "day": None, "crp": 9.0, "ward": "y"},
        ],
    )
    crp = {"from": "visits.crp"}
    assert problem(apply, crp) == "several-rows"
    assert number(apply, {**crp, "take": "first"}, "mg/L") == [3, 9]
    assert number(apply, {**crp, "take": "last"}, "mg/dL") == pytest.approx([0.5, 0.9])
    assert number(apply, {**crp, "take": "count"}) == [2, 1]
    assert category(apply, {"from": "visits.ward", "take": "last"}, "x", "y") == ["x", "y"]
    start = {"from": "visits.day", "take": "minimum"}
    early = {**crp, "take": "count", "within": {"of": start, "to_days": 0}}
    assert number(apply, early) == [1, None]

"""Derived variables: the closed list, against pandas, Polars and numbers from elsewhere."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from contract.derivation_words import in_words
from contract.derivations import Derivation
from contract.deriving import Coded, Column, Lost, Table, derive, fit
from contract.dictionary import Variable, imputed
from contract.documents import Project
from contract.errors import DataError
from contract.expansion import expand

READER: TypeAdapter[Any] = TypeAdapter(Derivation)
X, Y, ARM = {"variable": "x"}, {"variable": "y"}, {"variable": "arm"}
NAN = math.nan

numbers = st.lists(
    st.none() | st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, 1.0, -1.0, 9.0, 99.0]),
    min_size=1,
    max_size=30,
)


def table(
    x: list[float | None], y: list[float | None] | None = None, arm: list[str | None] | None = None
) -> Table:
    held: dict[str, Column] = {"x": np.array(x, dtype=np.float64)}
    held["y"] = np.array(y if y is not None else x, dtype=np.float64)
    levels = tuple(sorted({a for a in arm or [] if a is not None}))
    held["arm"] = Coded(
        np.array([-1 if a is None else levels.index(a) for a in arm or [None] * len(x)]), levels
    )
    return Table(len(x), held, {})


def made(node: dict[str, Any], held: Table) -> list[Any]:
    """Derive, and return plain values, None for missing."""
    found = derive(READER.validate_python(node), held)
    if isinstance(found, Coded):
        return [None if c < 0 else found.levels[c] for c in found.codes.tolist()]
    return [None if math.isnan(v) else v for v in found.tolist()]


@given(st.data(), numbers)
def test_arithmetic_is_that_of_pandas_and_polars(
    data: st.DataObject, x: list[float | None]
) -> None:
    y = data.draw(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=len(x), max_size=len(x)))
    a, b = pd.Series(x, dtype="float64"), pd.Series(y, dtype="float64")
    p, q = pl.Series(x, dtype=pl.Float64), pl.Series(y, dtype=pl.Float64)
    for key, in_pandas, in_polars in (
        ("add", a + b, p + q),
        ("subtract", a - b, p - q),
        ("multiply", a * b, p * q),
        ("divide", a / b, p / q),
    ):
        found = made({key: [X, Y]}, table(x, y))
        wanted = in_pandas.replace([np.inf, -np.inf], np.nan)
        assert found == [None if math.isnan(v) else v for v in wanted]
        finite = in_polars.fill_nan(None).to_list()
        assert found == [None if v is None or math.isinf(v) else v for v in finite]


@given(numbers)
def test_functions_of_one_number_are_those_of_the_standard_library(x: list[float | None]) -> None:
    def safely(function: Any, value: float | None) -> float | None:
        try:
            found = None if value is None else function(value)
        except (ValueError, OverflowError, ZeroDivisionError):
            return None
        return found if isinstance(found, float) and math.isfinite(found) else None

    for node, function in (
        ({"log": X}, math.log),
        ({"exp": X}, math.exp),
        ({"sqrt": X}, math.sqrt),
        ({"power": [X, 2]}, lambda v: v**2.0),
        ({"power": [X, -1]}, lambda v: v**-1.0),
        ({"power": [X, 0.5]}, lambda v: v**0.5),
    ):
        found = made(node, table(x))
        wanted = [safely(function, v) for v in x]
        assert [v is None for v in found] == [v is None for v in wanted]
        for mine, theirs in zip(found, wanted, strict=True):
            if mine is not None:
                assert mine == pytest.approx(theirs, rel=1e-14)


def test_a_division_by_zero_and_an_overflow_are_missing() -> None:
    assert made({"divide": [X, Y]}, table([1, 0, -1], [0, 0, 0])) == [None] * 3
    assert made({"exp": X}, table([710.0, 1.0])) == [None, math.e]
    assert made({"multiply": [X, X, X]}, table([1e200])) == [None]
    assert made({"add": [{"exp": X}, 1]}, table([710.0])) == [None]


@given(numbers, st.lists(st.integers(-50, 50), min_size=1, max_size=6, unique=True))
def test_bins_are_those_of_pandas_cut_closed_on_the_left(
    x: list[float | None], edges: list[int]
) -> None:
    edges.sort()
    levels = [f"l{i}" for i in range(len(edges) + 1)]
    found = made({"bins": X, "edges": edges, "levels": levels}, table(x))
    cut = pd.cut(
        pd.Series(x, dtype="float64"), [-np.inf, *edges, np.inf], right=False, labels=levels
    )
    assert found == [None if pd.isna(v) else v for v in cut]


@given(st.lists(st.none() | st.sampled_from("abc"), min_size=1, max_size=20))
def test_a_recoding_is_that_of_polars(arm: list[str | None]) -> None:
    held = table([0.0] * len(arm), arm=arm)
    series = pl.Series(arm, dtype=pl.String)
    names = {"a": "one", "b": "two"}
    for otherwise, absent in ((None, None), ("rest", None), (None, "none"), ("one", "none")):
        node = {"recode": ARM, "levels": names, "otherwise": otherwise, "absent": absent}
        other = series.replace_strict(names, default=otherwise, return_dtype=pl.String)
        other = other.set(series.is_null(), None)
        wanted = [absent if a is None else v for a, v in zip(arm, other.to_list(), strict=True)]
        assert made(node, held) == wanted


@given(st.data(), numbers)
def test_conditions_are_joined_as_pandas_joins_missing_booleans(
    data: st.DataObject, x: list[float | None]
) -> None:
    size = {"min_size": len(x), "max_size": len(x)}
    y = data.draw(st.lists(st.none() | st.floats(-1e6, 1e6), **size))
    arm = data.draw(st.lists(st.none() | st.sampled_from("ab"), **size))
    first = pd.array([pd.NA if v is None else v >= 1 for v in x], dtype="boolean")
    second = pd.array([pd.NA if v is None else 0 < v < 9 for v in y], dtype="boolean")
    third = pd.array([pd.NA if v is None else v == "a" for v in arm], dtype="boolean")
    wanted = (first | second) & ~(third & second)
    node = {
        "where": {
            "all": [
                {"any": [{**X, "at_least": 1}, {**Y, "above": 0, "below": 9}]},
                {"not": {"all": [{**ARM, "levels": ["a"]}, {**Y, "above": 0, "below": 9}]}},
            ]
        },
        "levels": ["off", "on"],
    }
    expected = [None if pd.isna(v) else ("on" if v else "off") for v in wanted]
    assert made(node, table(x, y, arm)) == expected
    again = READER.validate_json(READER.dump_json(READER.validate_python(node)))
    assert again == READER.validate_python(node)
    known = made({"where": {**X, "missing": False}}, table(x))
    assert known == ["no" if v is None else "yes" for v in x]


def test_a_whole_number_is_recoded_by_its_digits() -> None:
    node = {"recode": X, "levels": {"1": "yes", "0": "no", "1.5": "maybe"}, "absent": "unknown"}
    assert made(node, table([1, 0, 2, 1.5, None])) == ["yes", "no", None, "maybe", "unknown"]


@given(numbers)
def test_the_first_known_is_polars_coalesce(x: list[float | None]) -> None:
    y = [None if i % 3 else float(i) for i in range(len(x))]
    frame = pl.DataFrame({"x": x, "y": y}, schema={"x": pl.Float64, "y": pl.Float64})
    wanted = frame.select(pl.coalesce("x", "y", pl.lit(-1.0)))["x"].to_list()
    assert made({"first_known": [X, Y, -1]}, table(x, y)) == wanted


def test_the_first_known_of_categories_is_of_all_their_levels() -> None:
    held = Table(
        3,
        {"a": Coded(np.array([0, -1, -1]), ("p",)), "b": Coded(np.array([0, 1, -1]), ("q", "p"))},
        {},
    )
    assert made({"first_known": [{"variable": "a"}, {"variable": "b"}]}, held) == ["p", "p", None]


def test_how_many_are_known_counts_numbers_and_categories() -> None:
    held = table([1, None, None], [0, 0, None], arm=["A", None, None])
    assert made({"known": [X, Y, ARM]}, held) == [3, 1, 0]


def test_values_that_stand_for_missing_ones_are_missing() -> None:
    assert made({"missing_if": X, "values": [9, 99]}, table([9, 1, 99, None])) == [
        *(None, 1.0, None, None)
    ]
    held = table([0, 0], arm=["a", "9"])
    assert made({"missing_if": ARM, "values": ["9"]}, held) == ["a", None]


days = st.dates(date(1900, 1, 1), date(2100, 1, 1))


@given(st.lists(st.tuples(st.none() | days, st.none() | days), min_size=1, max_size=20))
def test_days_are_those_between_dates(pairs: list[tuple[date | None, date | None]]) -> None:
    def count(day: date | None) -> float:
        return NAN if day is None else float((day - date(1970, 1, 1)).days)

    held = Table(
        len(pairs),
        {},
        {
            "a": np.array([count(a) for a, _ in pairs]),
            "b": np.array([count(b) for _, b in pairs]),
        },
    )
    wanted = [None if a is None or b is None else float((b - a).days) for a, b in pairs]
    assert made({"days": ["a", "b"]}, held) == wanted
    years = made({"years": ["a", "b"]}, held)
    assert years == [None if w is None else w / 365.25 for w in wanted]


def test_the_body_mass_index_of_a_published_table() -> None:
    # WHO 1995, TRS 854, annex: 70 kg and 1.75 m are 22.9 kg/m2; 80 kg and 1.60 m are 31.2.
    node = {"divide": [X, {"power": [Y, 2]}]}
    found = made(node, table([70, 80], [1.75, 1.60]))
    assert [round(v, 2) for v in found] == [22.86, 31.25]


@given(numbers, st.randoms())
def test_rows_are_derived_one_by_one(x: list[float | None], chance: Any) -> None:
    """So that a site's rows make what the pooled rows would."""
    node = {"log": {"add": [{"multiply": [X, X]}, 1]}}
    whole = made(node, table(x))
    at = chance.randrange(len(x) + 1)
    parts = [made(node, table(part)) for part in (x[:at], x[at:]) if part]
    assert [v for part in parts for v in part] == whole


# ---- what the dictionary permits -----------------------------------------------------------------


def test_what_is_out_of_range_or_not_whole_is_missing_and_counted() -> None:
    variable = Variable(name="v", kind="number", minimum=0, maximum=10, whole=True)
    column, lost = fit(np.array([-1, 0, 10, 11, 2.5, NAN]), variable)
    assert isinstance(column, np.ndarray)
    assert np.isnan(column).tolist() == [True, False, False, True, True, True]
    assert lost == Lost(out_of_range=2, not_whole=1)


def test_a_level_that_the_dictionary_has_not_got_is_missing_and_counted() -> None:
    variable = Variable(name="v", kind="category", levels=("b", "a"))
    column, lost = fit(Coded(np.array([0, 1, 2, -1]), ("a", "b", "c")), variable)
    assert isinstance(column, Coded)
    assert column.codes.tolist() == [1, 0, -1, -1]
    assert lost == Lost(unknown_level=1)


def dictionary(*variables: dict[str, Any]) -> Project:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Project(
        consortium="c",
        issued_at=now,
        expires_at=now + timedelta(days=1),
        name="p",
        version=1,
        title="",
        purpose="",
        ethics_reference="",
        legal_basis="",
        sites=("a",),
        researchers=("r",),
        kinds=("statistics",),
        variables=variables,  # type: ignore[arg-type]
    )


NUMBER = {"name": "x", "kind": "number"}
LEVELS = {"name": "arm", "kind": "category", "levels": ["a", "b"]}


@pytest.mark.parametrize(
    ("derived", "sentence"),
    [
        ({"kind": "number", "derive": {"add": [{"variable": "later"}, 1]}}, "before"),
        ({"kind": "number", "derive": {"add": [{"variable": "new"}, 1]}}, "before"),
        ({"kind": "number", "derive": {"add": [ARM, 1]}}, "calculated with"),
        ({"kind": "number", "derive": {"recode": ARM, "levels": {"a": "b"}}}, "no number"),
        (
            {"kind": "category", "levels": ["b"], "derive": {"recode": ARM, "levels": {"a": "c"}}},
            "no level",
        ),
        ({"kind": "category", "levels": ["b"], "derive": {"log": X}}, "no category"),
        *(
            ({"kind": "category", "levels": ["no", "yes"], "derive": {"where": one}}, sentence)
            for one, sentence in (
                ({**ARM, "at_least": 1}, "no condition of that form"),
                ({**X, "levels": ["a"]}, "no condition of that form"),
                ({**ARM, "levels": ["c"]}, "a level that arm hasn't got"),
                ({"variable": "later", "missing": True}, "before"),
            )
        ),
        (
            {"kind": "category", "levels": ["yes"], "derive": {"where": {**X, "above": 1}}},
            "no is no level",
        ),
        ({"kind": "number", "derive": {"first_known": [X, ARM]}}, "stand for one another"),
        ({"kind": "number", "derive": {"eval": "x + 1"}}, "none of the operations"),
        ({"kind": "number", "derive": {"log": "x"}}, "valid number"),
        ({"kind": "number", "derive": {"power": [X, 9]}}, "less than or equal"),
        ({"kind": "number", "derive": {"bins": X, "edges": [2, 1], "levels": list("abc")}}, "rise"),
        ({"kind": "number", "derive": {"impute": "x", "using": ["x"]}}, "used twice"),
    ],
)
def test_what_can_not_be_derived_is_refused_when_the_dictionary_is_read(
    derived: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValidationError, match=sentence):
        dictionary(NUMBER, LEVELS, {"name": "new", **derived}, {"name": "later", "kind": "number"})


def test_expressions_that_nest_too_deep_are_refused() -> None:
    node: dict[str, Any] = X
    for _ in range(20):
        node = {"sqrt": node}
    with pytest.raises(ValidationError, match="too large"):
        dictionary(NUMBER, {"name": "new", "kind": "number", "derive": node})


def test_a_dictionary_comes_back_from_its_bytes_with_its_derivations() -> None:
    project = dictionary(
        NUMBER,
        LEVELS,
        {"name": "twice", "kind": "number", "derive": {"multiply": [2, X]}},
        {
            "name": "other",
            "kind": "category",
            "levels": ["b", "?"],
            "derive": {"recode": ARM, "levels": {"a": "b"}, "absent": "?"},
        },
    )
    assert Project.read(project.model_dump_json().encode()) == project


def test_an_imputed_variable_is_written_out_and_what_is_made_of_it_is_imputed_too() -> None:
    project = dictionary(
        NUMBER,
        {"name": "y", "kind": "number"},
        {
            "name": "full",
            "kind": "number",
            "derive": {"impute": "x", "using": ["y"], "imputations": 3},
        },
        {"name": "square", "kind": "number", "derive": {"power": [{"variable": "full.2"}, 2]}},
    )
    assert [v.name for v in project.variables][2:] == ["full.1", "full.2", "full.3", "square"]
    assert imputed(project.variables) == {"full.1", "full.2", "full.3", "square"}
    assert Project.read(project.model_dump_json().encode()) == project


def test_a_histogram_of_intensities_is_written_out_as_a_variable_for_each_bin() -> None:
    derive = {"intensity": "all", "modality": "CT", "minimum": -100, "maximum": 300, "bins": 4}
    project = dictionary({"name": "ct", "kind": "number", "unit": "[hnsf'U]", "derive": derive})
    found = {v.name: (v.minimum, v.maximum, v.unit) for v in project.variables}
    assert found["ct.mean"] == (-100, 300, "[hnsf'U]")
    assert found["ct.sd"] == (0, 400, "[hnsf'U]")
    assert [found[f"ct.b0{i}"] for i in range(4)] == [(0, 1, "")] * 4
    assert len(found) == 6


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["add", "variable", "derive", "name", "impute", "intensity", "bins"]
                ),
                inner,
                max_size=3,
            )
        ),
        max_leaves=10,
    )
)
def test_whatever_stands_there_is_a_dictionary_or_refused(anything: Any) -> None:
    assume(anything != [] and anything != ())
    expand(anything)
    with pytest.raises(ValidationError):
        dictionary({"name": "x", "kind": "number", "derive": {"unknown": anything}})


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"divide": [X, {"power": [Y, 2]}]}, "x / (y ^ 2)"),
        ({"add": [{"log": X}, 1.5]}, "log(x) + 1.5"),
        ({"days": ["a", "b"]}, "days from a to b"),
        ({"first_known": [X, 0]}, "first known of x, 0"),
        ({"known": [X, ARM]}, "how many are known of x, arm"),
        ({"missing_if": X, "values": [9, "?"]}, "x, missing if 9, ?"),
        ({"bins": X, "edges": [18], "levels": ["a", "b"]}, "x in bins at 18: a, b"),
        (
            {"recode": ARM, "levels": {"a": "b"}, "otherwise": "c", "absent": "d"},
            "arm recoded: a = b, others = c, missing = d",
        ),
        (
            {"where": {"any": [{**X, "at_least": 140}, {"not": {**ARM, "levels": ["a", "b"]}}]}},
            "yes where (x >= 140 or not arm is a or b)",
        ),
        ({"imaging": "kvp", "modality": "CT"}, "kvp of CT images"),
        (
            {"intensity": 1, "modality": "CT", "minimum": 0, "maximum": 4, "bins": 2},
            "share of CT pixels from 2 to 4",
        ),
        ({"impute": "x", "using": ["y"], "imputation": 2}, "x imputed by y, draw 2"),
    ],
)
def test_a_derivation_is_said_in_words(node: dict[str, Any], words: str) -> None:
    assert in_words(READER.validate_python(node)) == words


def test_a_column_that_the_table_lacks_is_an_error_in_one_line() -> None:
    for node in ({"log": {"variable": "z"}}, {"days": ["a", "b"]}):
        with pytest.raises(DataError) as raised:
            derive(READER.validate_python(node), table([1.0]))
        assert "\n" not in str(raised.value)

"""Mapping's algebra: parts make the whole, a recoding is total, units come back as they were."""

from __future__ import annotations

import tempfile
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from node.intake.measures import conversion, measure
from tests.examples import examples
from tests.node.catalog.mapping.making import MemorySources, Observation, map_variables

CODES = ("http://loinc.org|1-1", "http://loinc.org|2-2")
UNITS = ("mg/dL", "g/L", "mmol/L", "kg/m3")
VARIABLES: list[dict[str, Any]] = [
    {"name": "first", "kind": "number", "unit": "g/L"},
    {"name": "last", "kind": "number", "unit": "mg/dL"},
    {"name": "least", "kind": "number", "unit": "mg/dL"},
    {"name": "n", "kind": "number", "whole": True},
    {"name": "ever", "kind": "category", "levels": ["true", "false"]},
    {"name": "recent", "kind": "number", "unit": "mg/dL"},
    {"name": "arm", "kind": "category", "levels": ["A", "B"]},
]
NUMBER = {"observation": list(CODES), "unit": "mg/dL"}
EXPRESSIONS: dict[str, Any] = {
    "first": {**NUMBER, "take": "first"},
    "last": {**NUMBER, "take": "last"},
    "least": {**NUMBER, "take": "minimum"},
    "n": {"observation": CODES[0], "take": "count"},
    "ever": {"observation": CODES[1], "take": "any"},
    "recent": {
        **NUMBER,
        "take": "last",
        "within": {"of": {"from": "t.day"}, "from_days": -30, "to_days": 0},
    },
    "arm": {"recode": {"from": "t.group"}, "levels": {"x": "A"}, "otherwise": "B"},
}
START = datetime(2020, 1, 1)

subjects = st.sampled_from([f"{n:032x}" for n in range(6)])
times = st.none() | st.integers(0, 60).map(lambda days: START + timedelta(days=days))
observations = st.lists(
    st.tuples(
        subjects,
        st.sampled_from(CODES),
        st.floats(-1e6, 1e6),
        st.none(),
        st.sampled_from(UNITS),
        times,
    ),
    max_size=30,
)
people = st.dictionaries(
    subjects,
    st.tuples(
        st.none() | st.integers(0, 60).map(lambda d: date(2020, 1, 1) + timedelta(days=d)),
        st.none() | st.sampled_from(["x", "y"]),
    ),
    min_size=1,
)


def held(
    folder: Path, batches: list[list[Observation]], rows: dict[str, tuple[Any, Any]]
) -> MemorySources:
    sources = MemorySources(folder)
    sources.batches = batches
    columns = [
        {"name": "day", "type": "date"},
        {"name": "group", "type": "category", "levels": ["x", "y"]},
    ]
    table = [{"subject": s, "day": day, "group": group} for s, (day, group) in sorted(rows.items())]
    sources.add({"table": "t", "columns": columns}, table)
    return sources


def mapped(batches: list[list[Observation]], rows: dict[str, tuple[Any, Any]]) -> pl.DataFrame:
    with tempfile.TemporaryDirectory() as folder:
        sources = held(Path(folder), batches, rows)
        return map_variables(sources, VARIABLES, EXPRESSIONS, subjects=["t"]).frame


@settings(max_examples=examples(8, 40), deadline=None)
@given(observations, people, st.randoms(use_true_random=False), st.integers(1, 8))
def test_batches_in_any_order_and_parts_make_one_table(
    rows: list[Observation], table: dict[str, tuple[Any, Any]], random: Any, parts: int
) -> None:
    shuffled = random.sample(rows, len(rows))
    split = [shuffled[n::parts] for n in range(parts)]
    assert mapped([rows], table).equals(mapped(split, table))


@settings(max_examples=examples(8, 40), deadline=None)
@given(observations, people, st.data())
def test_sites_that_share_no_subject_add_up_to_the_pooled_table(
    rows: list[Observation], table: dict[str, tuple[Any, Any]], data: st.DataObject
) -> None:
    here = data.draw(st.sets(st.sampled_from(sorted(table))))
    parts = [here, set(table) - here]
    tables = [{s: table[s] for s in part} for part in parts]
    pooled = mapped([rows], table)
    # What nobody at a site was ever observed for is missing there, not false: pooled it is false.
    filled = [pl.col("n").fill_null(0), pl.col("ever").fill_null("false")]
    split = [
        mapped([[row for row in rows if row[0] in part]], some)
        for part, some in zip(parts, tables, strict=True)
        if some
    ]
    together = pl.concat([one.with_columns(filled) for one in split]).sort("subject")
    assert together.equals(pooled.with_columns(filled))


@settings(max_examples=examples(15, 40), deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("ABC")),
    st.lists(st.none() | st.sampled_from("abcdef"), min_size=1, max_size=12),
)
def test_a_recoding_with_otherwise_and_absent_leaves_nothing_missing(
    levels: dict[str, str], values: list[str | None]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sources = MemorySources(Path(folder))
        column = {"name": "g", "type": "category", "levels": list("abcdef")}
        rows = [{"subject": f"{n:02}", "g": value} for n, value in enumerate(values)]
        sources.add({"table": "t", "columns": [column]}, rows)
        x = {"name": "x", "kind": "category", "levels": ["A", "B", "C", "other", "none"]}
        total = {
            "recode": {"from": "t.g"},
            "levels": levels or {"a": "A"},
            "otherwise": "other",
            "absent": "none",
        }
        result = map_variables(sources, [x], {"x": total}).frame["x"].to_list()
    names = levels or {"a": "A"}
    assert result == ["none" if v is None else names.get(v, "other") for v in values]


@given(
    st.sampled_from(
        [
            ("mg/dL", "mmol/L", 180.156),
            ("[degF]", "Cel", None),
            ("mm[Hg]", "kPa", None),
            ("[lb_av]", "kg", None),
            ("a", "d", None),
            ("ng/mL", "nmol/L", 288.4),
            ("10*3/uL", "10*9/L", None),
            ("%", "1", None),
        ]
    ),
    st.floats(-1e9, 1e9),
)
def test_a_number_converted_and_back_is_what_it_was(
    units: tuple[str, str, float | None], value: float
) -> None:
    there = conversion(measure(units[0]), measure(units[1]), units[2])
    back = conversion(measure(units[1]), measure(units[0]), units[2])
    assert there is not None
    assert back is not None
    returned = (value * there.factor + there.offset) * back.factor + back.offset
    assert returned == pytest.approx(value, rel=1e-12, abs=1e-9)


# ---- any expression that makes sense -------------------------------------------------------------

NUMBERS = st.sampled_from([{"from": "w.mm"}, {"from": "w.cm"}, 2, 0, -1.5])
DATES = st.sampled_from([{"from": "w.d"}, {"from": "w.e"}])
LEVELS = st.sampled_from([{"from": "w.g"}, "x"])
TRUTHS = st.sampled_from([{"from": "w.b"}, True])


def _pair(name: str) -> Any:
    return lambda both: {name: list(both)}


def typed_expressions(depth: int) -> dict[str, st.SearchStrategy[Any]]:
    """Expressions of each kind, nested so deep."""
    if depth == 0:
        return {"number": NUMBERS, "date": DATES, "category": LEVELS, "boolean": TRUTHS}
    inner = typed_expressions(depth - 1)
    number, moment, level, truth = (inner[k] for k in ("number", "date", "category", "boolean"))
    signs = st.sampled_from(["<", "<=", "=", "!=", ">=", ">"])
    arithmetic = st.sampled_from(
        ["add", "subtract", "multiply", "divide", "minimum_of", "maximum_of"]
    )
    return {
        "number": NUMBERS
        | st.builds(lambda o, a, b: {o: [a, b]}, arithmetic, number, number)
        | st.builds(lambda a, n: {"power": [a, n]}, number, st.integers(-2, 3))
        | st.tuples(moment, moment).map(_pair("days"))
        | st.tuples(moment, moment).map(_pair("completed_years"))
        | moment.map(lambda d: {"year": d})
        | st.tuples(number, number).map(_pair("coalesce"))
        | number.map(lambda n: {"convert": n, "unit": "m"}),
        "date": DATES | st.tuples(moment, moment).map(_pair("coalesce")),
        "boolean": TRUTHS
        | st.builds(lambda a, s, b: {"compare": [a, s, b]}, number, signs, number)
        | st.builds(lambda a, s, b: {"compare": [a, s, b]}, moment, signs, moment)
        | st.builds(lambda a, b: {"compare": [a, "=", b]}, level, level)
        | st.lists(truth, min_size=1, max_size=2).map(lambda some: {"all_of": some})
        | st.lists(truth, min_size=1, max_size=2).map(lambda some: {"any_of": some})
        | truth.map(lambda t: {"not": t}),
        "category": LEVELS
        | number.map(lambda n: {"bins": n, "edges": [0, 10], "levels": ["x", "y", "z"]})
        | st.builds(lambda v: {"recode": v, "levels": {"x": "y", "true": "x"}}, level | truth)
        | st.builds(
            lambda v: {"recode": v, "levels": {"x": "z"}, "otherwise": "x", "absent": "y"}, level
        )
        | st.tuples(level, level).map(_pair("coalesce")),
    }


TYPED = typed_expressions(2)
days = st.none() | st.dates(date(1990, 1, 1), date(2020, 1, 1))
wide_rows = st.lists(
    st.fixed_dictionaries(
        {
            "mm": st.none() | st.floats(-1e3, 1e3),
            "cm": st.none() | st.integers(-50, 50),
            "d": days,
            "e": days,
            "g": st.none() | st.sampled_from("xy"),
            "b": st.none() | st.booleans(),
        }
    ),
    min_size=1,
    max_size=5,
)
WIDE = {
    "table": "w",
    "columns": [
        {"name": "mm", "type": "number", "unit": "mm"},
        {"name": "cm", "type": "integer", "unit": "cm"},
        {"name": "d", "type": "date"},
        {"name": "e", "type": "date"},
        {"name": "g", "type": "category", "levels": ["x", "y"]},
        {"name": "b", "type": "boolean"},
    ],
}


@settings(max_examples=examples(10, 60), deadline=None)
@given(wide_rows, TYPED["number"], TYPED["category"], TYPED["boolean"])
def test_a_subjects_values_are_its_own_whoever_else_is_there(
    rows: list[dict[str, Any]], number: Any, level: Any, truth: Any
) -> None:
    variables = [
        {"name": "n", "kind": "number", "minimum": -1e6, "maximum": 1e6},
        {"name": "c", "kind": "category", "levels": ["x", "z"]},
        {"name": "t", "kind": "category", "levels": ["true", "false"]},
    ]
    expressions = {"n": number, "c": level, "t": truth}

    def table(some: list[dict[str, Any]]) -> pl.DataFrame:
        with tempfile.TemporaryDirectory() as folder:
            sources = MemorySources(Path(folder))
            sources.add(WIDE, some)
            mapped = map_variables(sources, variables, expressions, subjects=["w"])
        for result in mapped.results.values():
            event(f"{result.name}: {result.problem or 'derived'}")
            assert result.present <= (0 if result.problem else mapped.subjects)
            assert result.problem in (None, "unit-mismatch")
        return mapped.frame

    named = [{"subject": f"{n:032x}", **row} for n, row in enumerate(rows)]
    assert pl.concat([table([row]) for row in named]).equals(table(named))

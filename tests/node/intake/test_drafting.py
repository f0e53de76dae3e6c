"""A schema drafted from a file: the file fits it, and what may identify somebody is dropped."""

from __future__ import annotations

import csv
import io
import tomllib
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.errors import DataError, UsageError
from node.commands import schema as command
from node.deid.pseudonyms import Pseudonyms
from node.intake.drafting import draft
from node.intake.schema import TableSchema, parse_schema, read_schema
from node.intake.tables import convert

KEY = Pseudonyms(b"k" * 32)


def drafted(path: Path) -> TableSchema:
    return parse_schema(tomllib.loads(draft(path, "pid", "visits")), "draft")


def test_types_levels_and_limits_are_those_of_the_file(tmp_path: Path) -> None:
    head = "pid;Age (years);sex;weight;seen;mrn;note;phone;ward;grade\n"
    rows = (
        f"p{i % 25};{30 + i % 40};{'FM'[i % 2]};{60 + i // 8},{i % 8};{1 + i % 28:02}.03.2024;"
        f"{7000 + i};came {i};0{i % 3};{i % 3:03};{'?' if i % 7 else i % 4}\n"
        for i in range(50)
    )
    path = tmp_path / "visits.csv"
    path.write_text(head + "".join(rows))
    schema = drafted(path)
    kinds = {c.variable if c in schema.kept else c.name: c.type for c in schema.columns}
    assert kinds == {
        "age_years": "integer",
        "sex": "category",
        "weight": "number",
        "seen": "date",
        "mrn": "identifier",
        "note": "text",
        "phone": "identifier",
        "ward": "category",  # of zeros that count nothing
        "grade": "integer",
    }
    age, sex, weight, seen = schema.columns[:4]
    assert (age.minimum, age.maximum, sex.levels) == (0, 70, ("F", "M"))
    assert (schema.separator, schema.decimal, seen.format) == (";", ",", "DD.MM.YYYY")
    assert (weight.minimum, weight.maximum) == (60, 70)
    assert "?" in schema.missing and schema.rows == "any"
    frame, _ = convert(path, schema, KEY)
    assert frame.height == 50 and frame["weight"].null_count() == 0


cells = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.floats(-1e6, 1e6).map(repr),
    st.sampled_from(["", "NA", "yes", "no", "a, b", "01", "2020-02-03", "20200203", "é", "?"]),
    st.text(max_size=5).filter(lambda text: "\0" not in text and "\r" not in text),
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(columns=st.lists(st.lists(cells, min_size=30, max_size=30), min_size=1, max_size=3))
def test_a_file_fits_the_schema_that_was_drafted_from_it(
    tmp_path: Path, columns: list[list[str]]
) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["pid", *(f"Column {i}" for i in range(len(columns)))])
    writer.writerows(zip((f"p{i}" for i in range(30)), *columns, strict=True))
    path = tmp_path / "any.csv"
    path.write_bytes(text.getvalue().encode())
    frame, made_missing = convert(path, drafted(path), KEY)
    assert frame.height == 30 and not any(made_missing.values())


def test_a_parquet_file_is_drafted_too_and_a_subject_that_is_not_there_is_said(
    tmp_path: Path,
) -> None:
    path = tmp_path / "any.parquet"
    pl.DataFrame({"pid": ["a", "b"], "x": [0.5, 2.0]}).write_parquet(path)
    command.schema(path, "pid", output=tmp_path / "any.toml")
    schema = read_schema(tmp_path / "any.toml")
    [x] = schema.columns
    assert (schema.table, x.type, x.minimum, x.maximum) == ("any", "number", 0, 2)
    with pytest.raises(UsageError, match="is there already"):
        command.schema(path, "pid", output=tmp_path / "any.toml")
    table = tmp_path / "any.csv"
    table.write_text("pid,x\n1,2\n")
    with pytest.raises(DataError, match="no column 'id' for its subjects: pid, x"):
        draft(table, "id", "any")


def test_a_first_line_that_is_a_patients_row_is_in_no_message(tmp_path: Path) -> None:
    table = tmp_path / "any.csv"
    table.write_text("Doe,1950-02-03,7\nRoe,1961-02-03,8\n")
    with pytest.raises(DataError, match="may be no header") as raised:
        draft(table, "pid", "any")
    assert "Doe" not in str(raised.value)


def test_numbers_of_the_hospital_are_dropped_also_where_they_come_again(tmp_path: Path) -> None:
    table = tmp_path / "any.csv"
    rows = (f"p{i},{4711000 + i // 2},{90_000 + 997 * (i // 2)},1e999\n" for i in range(60))
    table.write_text("pid,hospital,platelets,endless\n" + "".join(rows))
    kinds = {column.name: column.type for column in drafted(table).columns}
    assert kinds == {"hospital": "identifier", "platelets": "integer", "endless": "category"}

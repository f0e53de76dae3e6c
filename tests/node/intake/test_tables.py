"""CSV tables: what is kept, what is refused, and that an error never quotes a cell."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import ConfigurationError, DataError
from node.catalog.store import Catalog
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.schema import TableSchema, parse_schema, read_schema
from node.intake.tables import convert, ingest_table

KEY = Pseudonyms(b"k" * 32)
HEAD = b"pid,Age,arm,smoker,visit,height,note,mrn\n"


def schema(**changes: Any) -> TableSchema:
    values: dict[str, Any] = {
        "table": "trial",
        "subject": "pid",
        "columns": [
            {"name": "Age", "type": "integer", "rename": "age", "minimum": 0, "maximum": 120},
            {"name": "arm", "type": "category", "levels": ["A", "B"], "missing": ["?"]},
            {"name": "smoker", "type": "boolean"},
            {"name": "visit", "type": "date"},
            {"name": "height", "type": "number", "unit": "m", "required": True},
            {"name": "note", "type": "text"},
            {"name": "mrn", "type": "identifier"},
        ],
    }
    return parse_schema(values | changes, "test")


def refused(data: bytes, declared: TableSchema | None = None, **options: bool) -> str:
    with pytest.raises(DataError) as caught:
        convert(data, declared or schema(), KEY, **options)
    return str(caught.value)


def test_a_column_without_a_header_can_be_declared() -> None:
    declared = schema(subject="", columns=[{"name": "Age", "type": "integer", "rename": "age"}])
    frame, _ = convert(b'"","Age"\n"1",63\n"2",NA\n', declared, KEY)
    ages = {KEY.subject("1"): 63, KEY.subject("2"): None}
    assert dict(frame.rows()) == ages
    numbered = schema(subject="Age", columns=[{"name": "", "type": "integer", "rename": "number"}])
    frame, _ = convert(b"Age,\n63,1\n", numbered, KEY)
    assert frame.rows() == [(KEY.subject("63"), 1)]


def test_cells_become_what_the_schema_declares() -> None:
    data = HEAD + b'p1,63.0,A,Yes,2020-01-05,1.8e0,"two\nlines",9\n\n p1 ,NA,?,0,,2,,\n'
    frame, made_missing = convert(data, schema(), KEY)
    assert made_missing == {}
    assert frame.schema == {
        "subject": pl.String,
        "age": pl.Int64,
        "arm": pl.String,
        "smoker": pl.Boolean,
        "visit": pl.Date,
        "height": pl.Float64,
    }
    moved = date(2020, 1, 5) - timedelta(days=KEY.days(KEY.subject("p1")))
    assert frame.rows() == [
        (KEY.subject("p1"), 63, "A", True, moved, 1.8),
        (KEY.subject("p1"), None, None, False, None, 2.0),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"p1,SECRET,A,yes,2020-01-05,1.8,,", "row 4, column Age: not an integer."),
        (b"p1,6.5,A,yes,2020-01-05,1.8,,", "row 4, column Age: not an integer."),
        (b"p1,121,A,yes,2020-01-05,1.8,,", "row 4, column Age: out of range."),
        (b"p1,63,SECRET,yes,2020-01-05,1.8,,", "row 4, column arm: unknown level."),
        (b"p1,63,NA,yes,2020-01-05,1.8,,", "row 4, column arm: unknown level."),
        (b"p1,63,A,maybe,2020-01-05,1.8,,", "row 4, column smoker: not true or false."),
        (
            b"p1,63,A,yes,5.1.2020,1.8,,",
            "row 4, column visit: not a date written YYYY-MM-DD.",
        ),
        (b"p1,63,A,yes,2020-01-05,inf,,", "row 4, column height: not a number."),
        (b"p1,63,A,yes,2020-01-05,1e999,,", "row 4, column height: not a number."),
        (
            b"p1,63,A,yes,2020-01-05,,,",
            "row 4, column height: missing, though it is required.",
        ),
        (b",63,A,yes,2020-01-05,1.8,,", "row 4, column pid: the subject is missing."),
        (b"p1,63,A", "row 4: 3 cells, but the header has 8."),
        (b"p1,63,A,yes,2020-01-05,1.8,,,SECRET", "row 4: 9 cells, but the header has 8."),
        (b'p1,63,"A"x,,,,,', "row 4: not readable as CSV (quotes, separator?)."),
        (b"p1,63,\xff,yes,2020-01-05,1.8,,", "row 4: not UTF-8; convert the file."),
    ],
)
def test_an_error_names_the_line_and_column_and_no_value(row: bytes, message: str) -> None:
    data = HEAD + b'p0,1,A,no,2020-01-05,1.7,"two\nlines",\n' + row + b"\n"
    assert refused(data) == message


def test_an_error_counts_how_many_more_there_are() -> None:
    data = HEAD + b"p1,x,A,no,,1,,\n" * 3
    assert refused(data) == "row 2, column Age: not an integer (2 more such)."


def test_columns_that_are_missing_are_named_and_unknown_ones_are_not() -> None:
    message = refused(b"pid,Age\np1,3\n")
    assert message == "The file has no column 'arm' (nor 5 others of the schema)."
    message = refused(HEAD[:-1] + b",Jane Doe,x\n")
    assert message.startswith("2 columns are not in the schema, at positions 9, 10;")
    assert "Jane" not in message
    assert refused(HEAD[:-1] + b",pid\n") == "The header of column 9 occurs twice."


@pytest.mark.parametrize("data", [b"", b"\n", HEAD, HEAD + b"\n\n"])
def test_an_empty_table_is_refused(data: bytes) -> None:
    refused(data)


def test_lenient_makes_what_does_not_fit_missing_and_counts_it() -> None:
    data = HEAD + b"p1,300,Z,no,,1,,\np2,40,A,no,,1,,\np3,-1,A,no,,1,,\n"
    frame, made_missing = convert(data, schema(), KEY, lenient=True)
    assert made_missing == {"age": 2, "arm": 1}
    assert frame["age"].null_count() == 2
    refused(data.replace(b"300", b"x"), lenient=True)


def test_dates_of_one_subject_move_by_the_same_days() -> None:
    rows = b"".join(
        b"p%d,1,A,no,%s,1,,\n" % (p, d) for p in range(5) for d in (b"2020-02-01", b"2020-03-01")
    )
    frame, _ = convert(HEAD + rows, schema(), KEY)
    first, last = frame["visit"].to_list()[::2], frame["visit"].to_list()[1::2]
    assert {b - a for a, b in zip(first, last, strict=True)} == {timedelta(days=29)}
    assert len(set(first)) > 1
    assert all(day < date(2020, 2, 1) for day in first)


cells = st.text(max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=5))
def test_any_cells_are_taken_or_refused_without_being_quoted(
    rows: list[tuple[str, str, str]],
) -> None:
    import csv
    import io

    declared = parse_schema(
        {
            "table": "t",
            "subject": "p",
            "columns": [{"name": "n", "type": "number"}, {"name": "d", "type": "date"}],
        },
        "test",
    )
    text = io.StringIO()
    csv.writer(text).writerows([("p", "n", "d"), *rows])
    try:
        frame, _ = convert(text.getvalue().encode(errors="replace"), declared, KEY)
    except DataError as error:
        quoted = [cell for row in rows for cell in row if len(cell) > 6 and cell in str(error)]
        assert not quoted
    else:
        assert frame.height <= len(rows)


fields = st.sampled_from(
    [b"p1", b"1.5", b"2020-01-02", b'"', b",", b"\n", b"\r\n", b"\x00", b"\xff"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(fields | st.binary(max_size=4), max_size=24).map(b"".join))
def test_any_bytes_are_a_table_or_a_data_error(data: bytes) -> None:
    columns = [{"name": "n", "type": "number"}, {"name": "d", "type": "date"}]
    declared = parse_schema({"table": "t", "subject": "p", "columns": columns}, "test")
    for content in (data, b"p,n,d\n" + data, b"\xef\xbb\xbfp,n,d\r\np1,1," + data):
        for lenient in (False, True):
            try:
                frame, _ = convert(content, declared, KEY, lenient=lenient)
            except DataError as error:
                assert "\n" not in str(error)
            else:
                assert frame.columns == ["subject", "n", "d"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'p,n,d\na,1,"' + b"x" * 1_000_001 + b'"\n', "row 2: not readable as CSV"),
        (b'p,n,d\na,1,"' + b"x,\n" * 6_000_000, "row 2: not readable as CSV"),
        (b"p,n,d\na,1," + b"x" * 17_000_000, "row 2: not readable as CSV"),
    ],
)
def test_a_cell_or_record_without_an_end_is_refused(data: bytes, message: str) -> None:
    columns = [{"name": "n", "type": "number"}, {"name": "d", "type": "text"}]
    declared = parse_schema({"table": "t", "subject": "p", "columns": columns}, "test")
    assert refused(data, declared).startswith(message)


def test_dates_of_90_years_ago_or_more_are_left_out_and_counted(
    catalog: Catalog, home: NodeHome, now: datetime
) -> None:
    data = HEAD + b"p1,63,A,no,1936-03-01,1,,\np2,63,A,no,1936-03-02,1,,\n"
    report = ingest_table(data, schema(), KEY, catalog, home, now=now)
    assert [(f.rule, f.where, f.count) for f in report.quality.findings()] == [
        ("date-tells-age", "trial.visit", 1)
    ]


def test_ages_above_89_are_one_group(catalog: Catalog, home: NodeHome, now: datetime) -> None:
    columns = [
        {"name": "y", "type": "integer", "unit": "years"},
        {"name": "m", "type": "number", "unit": "months"},
        {"name": "kg", "type": "number", "unit": "kg"},
    ]
    declared = parse_schema({"table": "t", "subject": "p", "columns": columns}, "test")
    frame, _ = convert(b"p,y,m,kg\na,97,1164,97\nb,89,1068,89\n", declared, KEY)
    assert frame.sort("kg").select("y", "m", "kg").rows() == [(89, 1068, 89), (90, 1080, 97)]


def test_ages_without_a_unit_and_years_of_birth_are_known_by_their_name(
    catalog: Catalog, home: NodeHome, now: datetime
) -> None:
    columns = [
        {"name": "Age at entry", "type": "number", "rename": "entry"},
        {"name": "stage", "type": "integer"},
        {"name": "Geburtsjahr", "type": "integer"},
    ]
    declared = parse_schema({"table": "t", "subject": "p", "columns": columns}, "test")
    data = b"p,Age at entry,stage,Geburtsjahr\na,97,97,1936\nb,89,1,1937\n"
    report = ingest_table(data, declared, KEY, catalog, home, now=now)
    row = catalog.get_table("t")
    assert row is not None
    frame = pl.read_parquet(home.vault / "tables" / f"{row.digest}.parquet").sort("stage")
    assert frame.select("entry", "stage", "Geburtsjahr").rows() == [(89, 1, 1937), (90, 97, None)]
    assert report.quality.count("age-above-89") == 2


def test_a_large_table_is_sorted_in_parts_and_keeps_the_order_of_a_subjects_rows(
    catalog: Catalog, home: NodeHome, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    from node.intake import cells, sorting

    monkeypatch.setattr(sorting, "PART_BYTES", 2000)
    monkeypatch.setattr(sorting, "SORTED_BYTES", 8000)
    monkeypatch.setattr(cells, "BATCH_CHARACTERS", 500)
    columns = [{"name": "n", "type": "integer"}]
    declared = parse_schema({"table": "t", "subject": "p", "columns": columns}, "test")
    data = b"p,n\n" + b"".join(b"p%d,%d\n" % (n % 37 if n % 3 else 0, n) for n in range(1000))
    ingest_table(data, declared, KEY, catalog, home, now=now)
    row = catalog.get_table("t")
    assert row is not None
    assert (row.rows, row.subjects) == (1000, 37)
    frame = pl.read_parquet(home.vault / "tables" / f"{row.digest}.parquet")
    whole, _ = convert(data, declared, KEY)
    assert frame.equals(whole)
    assert len(list((home.vault / "tables").iterdir())) == 1


@pytest.mark.parametrize(
    "format_", ["YYYYMMDD", "YYYY/MM/DD", "DD.MM.YYYY", "DD/MM/YYYY", "MM/DD/YYYY"]
)
def test_dates_may_be_written_otherwise(format_: str) -> None:
    columns = [{"name": "d", "type": "date", "format": format_}]
    declared = parse_schema({"table": "t", "subject": "p", "columns": columns}, "test")
    cell = format_.replace("YYYY", "2020").replace("MM", "03").replace("DD", "05")
    frame, _ = convert(f"p,d\na,{cell}\n".encode(), declared, KEY)
    moved = date(2020, 3, 5) - timedelta(days=KEY.days(KEY.subject("a")))
    assert frame["d"].to_list() == [moved]


def test_dates_with_a_time_of_day_keep_the_day() -> None:
    columns = [{"name": "d", "type": "date", "format": "YYYY-MM-DD hh:mm:ss"}]
    declared = parse_schema({"table": "t", "subject": "p", "columns": columns}, "test")
    data = b"p,d\na,2020-03-05 23:59:59\na,2020-03-05T00:00:00.000\na,2020-03-05 07:00\n"
    frame, _ = convert(data, declared, KEY)
    assert set(frame["d"]) == {date(2020, 3, 5) - timedelta(days=KEY.days(KEY.subject("a")))}
    assert "not a date" in refused(b"p,d\na,2020-03-05 late\n", declared)


def test_a_decimal_comma_is_read_when_it_is_declared() -> None:
    columns = [{"name": "n", "type": "number", "missing": ["."]}, {"name": "i", "type": "integer"}]
    values = {"table": "t", "subject": "p", "separator": ";", "decimal": ",", "columns": columns}
    declared = parse_schema(values, "test")
    frame, _ = convert(b"p;n;i\na;1,5;2,0\na;-,25;3\na;.;4\n", declared, KEY)
    assert frame["n"].to_list() == [1.5, -0.25, None]
    assert frame["i"].to_list() == [2, 3, 4]
    for cell in (b"1.5", b"1.234,5", b"1,2,3"):
        assert "not a number" in refused(b"p;n;i\na;" + cell + b";1\n", declared)
    with pytest.raises(ConfigurationError, match="separator and decimal"):
        parse_schema(values | {"separator": ","}, "test")


@pytest.mark.parametrize("encoding", ["GB18030", "Big5", "Shift_JIS", "UTF-8"])
def test_other_encodings_are_read_when_they_are_declared(encoding: str) -> None:
    columns = [{"name": "性別", "rename": "sex", "type": "category", "levels": ["女", "男"]}]
    values = {"table": "t", "subject": "番", "encoding": encoding, "columns": columns}
    data = "番,性別\nа,女\nb,男\n".encode(encoding)
    frame, _ = convert(data, parse_schema(values, "test"), KEY)
    assert sorted(frame["sex"]) == ["女", "男"]
    wrong = "番,性別\nb,男\n".encode(encoding) + b"c,\xff\xff\n"
    message = refused(wrong, parse_schema(values, "test"))
    assert message.startswith(f"row 3: not {encoding}; ")


def test_other_separators_and_a_byte_order_mark_are_read() -> None:
    columns = [{"name": "n", "type": "number"}]
    values = {"table": "t", "subject": "p", "separator": ";", "columns": columns}
    frame, _ = convert(b"\xef\xbb\xbfp;n\r\na;1.5\r\n", parse_schema(values, "test"), KEY)
    assert frame["n"].to_list() == [1.5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subjects": "pid"}, r"unknown key 'subjects'; did you mean 'subject'"),
        ({"columns": [{"name": "a", "typ": "text"}]}, r"unknown key columns\.0\.'typ'.*'type'"),
        ({"columns": [{"name": "a", "type": "category"}]}, "a category needs levels"),
        ({"columns": [{"name": "a b", "type": "number"}]}, "add rename"),
        ({"columns": [{"name": "subject", "type": "number"}]}, "pseudonym"),
        ({"columns": [{"name": "a", "type": "number"}] * 2}, "declared twice"),
        ({"columns": [{"name": "a", "type": "boolean", "minimum": 1}]}, "only an integer"),
        ({"table": "../x"}, "table"),
    ],
)
def test_a_bad_schema_says_which_key(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        schema(**changes)


def test_a_schema_is_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        'table = "t"\nsubject = "p"\n[[columns]]\nname = "a b"\ntype = "number"\nrename = "ab"\n'
    )
    assert read_schema(path).kept[0].variable == "ab"
    path.write_text("table = ")
    with pytest.raises(ConfigurationError, match="not TOML"):
        read_schema(path)


def test_the_same_file_again_changes_nothing_and_another_replaces_it(
    catalog: Catalog, home: NodeHome, now: datetime
) -> None:
    data = HEAD + b"p1,63,A,no,,1,,\n"
    first = ingest_table(data, schema(), KEY, catalog, home, now=now)
    assert not first.unchanged
    assert first.dropped == ("note", "mrn")
    row = catalog.get_table("trial")
    assert row is not None
    later = now + timedelta(days=1)
    assert ingest_table(data, schema(), KEY, catalog, home, now=later).unchanged
    assert catalog.get_table("trial") == row
    ingest_table(data + b"p2,63,A,no,,1,,\n", schema(), KEY, catalog, home, now=later)
    files = list((home.vault / "tables").iterdir())
    changed = catalog.get_table("trial")
    assert changed is not None
    assert [file.name for file in files] == [f"{changed.digest}.parquet"]
    assert files[0].stat().st_mode & 0o777 == 0o600
    assert (changed.rows, changed.subjects) == (2, 2)


def test_a_dry_run_and_an_error_keep_nothing(
    catalog: Catalog, home: NodeHome, now: datetime
) -> None:
    data = HEAD + b"p1,63,A,no,,1,,\n"
    ingest_table(data, schema(), KEY, catalog, home, now=now, dry_run=True)
    with pytest.raises(DataError):
        ingest_table(data + b"p2\n", schema(), KEY, catalog, home, now=now)
    assert catalog.list_tables() == []
    assert not (home.vault / "tables").exists()

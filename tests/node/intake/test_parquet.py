"""Parquet tables: what is read as a CSV file would be, and what a stranger's footer can't do."""

from __future__ import annotations

import io
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import DataError
from node.deid.pseudonyms import Pseudonyms
from node.intake.parquet import parquet_batches
from node.intake.parquet_footer import read_footer
from node.intake.schema import parse_schema
from node.intake.tables import convert

KEY = Pseudonyms(b"k" * 32)


def written(tmp_path: Path, frame: pl.DataFrame, **options: Any) -> Path:
    path = tmp_path / "t.parquet"
    frame.write_parquet(path, **options)
    return path


def read(path: Path) -> pl.DataFrame:
    batches = [batch.frame for batch in parquet_batches(path, lambda header: None)]
    return pl.concat(batches) if batches else pl.DataFrame()


def test_cells_are_the_text_that_a_csv_file_would_have(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "text": ["a", None],
            "integer": pl.Series([1, -2], dtype=pl.Int16),
            "number": [0.1, float("nan")],
            "single": pl.Series([0.5, None], dtype=pl.Float32),
            "truth": [True, None],
            "date": [date(2020, 1, 2), None],
            "time": [datetime(2020, 1, 2, 3, 4), None],
            "decimal": [Decimal("1.50"), None],
            "category": pl.Series(["x", "y"], dtype=pl.Categorical),
        }
    )
    assert read(written(tmp_path, frame)).rows() == [
        ("a", "1", "0.1", "0.5", "true", "2020-01-02", "2020-01-02", "1.50", "x"),
        (None, "-2", None, None, None, None, None, None, "y"),
    ]


def test_a_table_of_parquet_and_of_csv_is_the_same_table(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "p": [f"p{n % 7}" for n in range(1000)],
            "n": [None if n % 5 == 0 else n / 7 for n in range(1000)],
            "d": [date(2000, 1, 1 + n % 28) for n in range(1000)],
        }
    )
    columns = [{"name": "n", "type": "number"}, {"name": "d", "type": "date"}]
    schema = parse_schema({"table": "t", "subject": "p", "columns": columns}, "test")
    path = written(tmp_path, frame, row_group_size=64)
    csv = io.BytesIO()
    frame.write_csv(csv)
    assert convert(path, schema, KEY)[0].equals(convert(csv.getvalue(), schema, KEY)[0])


def test_rows_are_read_a_row_group_at_a_time(tmp_path: Path) -> None:
    frame = pl.DataFrame({"n": range(1000)})
    path = written(tmp_path, frame, row_group_size=100)
    assert read_footer(path).rows == 1000
    assert len(list(parquet_batches(path, lambda header: None))) == len(
        read_footer(path).group_rows
    )
    assert read(path)["n"].to_list() == [str(n) for n in range(1000)]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pl.DataFrame({"a": [[1, 2]]}), "nested|repeated"),
        (pl.DataFrame({"a": [{"b": 1}]}), "nested"),
        (pl.DataFrame({"a": [b"\x00"]}), "type that is not taken"),
        (pl.DataFrame({"a": ["x" * 2_000_000]}), "longer than"),
    ],
)
def test_what_is_no_flat_table_is_refused(
    tmp_path: Path, frame: pl.DataFrame, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(written(tmp_path, frame))


def test_a_cell_that_does_not_fit_is_named_by_row_and_never_quoted(tmp_path: Path) -> None:
    frame = pl.DataFrame({"p": ["a", "b"], "n": ["1", "SECRET"]})
    columns = [{"name": "n", "type": "number"}]
    schema = parse_schema({"table": "t", "subject": "p", "columns": columns}, "test")
    with pytest.raises(DataError, match=r"^row 2, column n: not a number\.$"):
        convert(written(tmp_path, frame), schema, KEY)


whole = io.BytesIO()
pl.DataFrame({"p": ["a", "b", "c"], "n": [1.5, None, 2.5], "s": ["x", "y", None]}).write_parquet(
    whole, row_group_size=2
)
WHOLE = whole.getvalue()


CHANGES = st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=6)
CUTS = st.integers(0, len(WHOLE))


@settings(max_examples=12, deadline=None)
@given(CHANGES, CUTS)
def test_any_bytes_are_a_table_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], cut: int
) -> None:
    check(tmp_path_factory, changes, cut)


@pytest.mark.slow  # each example starts two processes
@settings(max_examples=300, deadline=None)
@given(CHANGES, CUTS)
def test_a_campaign_finds_no_bytes_that_are_neither(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], cut: int
) -> None:
    check(tmp_path_factory, changes, cut)


def check(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(WHOLE)
    for position, value in changes:
        data[position] = value
    path = tmp_path_factory.mktemp("fuzz") / "t.parquet"
    for content in (bytes(data), bytes(data[:cut]) + WHOLE[-8:]):
        path.write_bytes(content)
        try:
            assert read(path).height <= 10_000
        except DataError as error:
            assert "\n" not in str(error)

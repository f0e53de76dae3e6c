"""A node's home, an open catalogue and a table in it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from node.catalog.store import Catalog
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.schema import TableSchema, parse_schema
from node.intake.tables import ingest_table

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CSV = b"""pid,age,arm,smoker,visit,height,note
p1,63,A,yes,2020-01-05,1.81,hello
p2,NA,B,no,2021-02-03,,there
p3,41,,1,2020-05-05,1.62,
p1,64,A,0,2020-01-15,1.81,
"""


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return NodeHome(tmp_path / "node").create()


@pytest.fixture
def catalog(home: NodeHome) -> Iterator[Catalog]:
    with Catalog.open(home) as opened:
        yield opened


@pytest.fixture
def schema() -> TableSchema:
    return parse_schema(
        {
            "table": "trial",
            "subject": "pid",
            "columns": [
                {"name": "age", "type": "integer", "unit": "years", "minimum": 0, "maximum": 120},
                {"name": "arm", "type": "category", "levels": ["A", "B", "C"]},
                {"name": "smoker", "type": "boolean"},
                {"name": "visit", "type": "date"},
                {"name": "height", "type": "number", "unit": "m"},
                {"name": "note", "type": "text"},
            ],
        },
        "test",
    )


@pytest.fixture
def trial(catalog: Catalog, home: NodeHome, schema: TableSchema) -> bytes:
    """The table, taken in; its CSV."""
    ingest_table(CSV, schema, Pseudonyms(b"k" * 32), catalog, home, now=NOW)
    return CSV

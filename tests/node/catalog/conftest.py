"""A node's home, an open catalogue and a table in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from node.catalog.store import Catalog
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.schema import TableSchema, parse_schema
from node.intake.tables import ingest_table
from tests.node import homes
from tests.node.homes import new_home

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
    return new_home(tmp_path / "node")


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


POSTGRES = shutil.which("initdb"), shutil.which("pg_ctl")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of an empty PostgreSQL, made for these tests and listening on a socket only."""
    initdb, pg_ctl = POSTGRES
    if initdb is None or pg_ctl is None:
        pytest.skip("PostgreSQL (initdb, pg_ctl) isn't here")
    # PostgreSQL refuses to run as root.
    account: dict[str, str] = {"user": "nobody"} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="wg", dir="/tmp") as name:
        folder = Path(name)
        if account:
            shutil.chown(folder, account["user"])

        def run(*arguments: str) -> None:
            subprocess.run(
                arguments,
                check=True,
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                **account,  # type: ignore[call-overload]
            )

        data = str(folder / "data")
        run(initdb, "-D", data, "-U", "wardgate", "-A", "trust", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        run(pg_ctl, "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
        try:
            yield f"postgresql+psycopg://wardgate@/postgres?host={folder}"
        finally:
            run(pg_ctl, "-D", data, "-m", "immediate", "-w", "stop")


NUMBERS = count()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/either.db"
    base: str = request.getfixturevalue("postgres")
    name = f"catalogue{next(NUMBERS)}"
    admin = create_engine(base, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return base.replace("/postgres?", f"/{name}?")


@pytest.fixture
def either(url: str, home: NodeHome) -> Iterator[Catalog]:
    """An empty catalogue in a database of either kind."""
    with Catalog.open(home, url) as opened:
        yield opened


@pytest.fixture(scope="session")
def empty_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty catalogue's file, migrated once for all examples."""
    file = tmp_path_factory.mktemp("template") / "catalogue.db"
    file.write_bytes(homes.empty_catalogue())
    return file

"""Statements that are rendered once: on both databases they do what SQLAlchemy's own do."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    create_engine,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from foundation.statements import Prepared, transaction
from node.catalog.store import Catalog
from node.home import NodeHome

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
THINGS = Table(
    "things_of_statements",
    MetaData(),
    Column("number", Integer, primary_key=True),
    Column("name", String(16), nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("made_at", DateTime(timezone=True), nullable=False),
)
T = THINGS.c
ADD = Prepared(insert(THINGS))
SINCE = Prepared(
    select(T.name, T.data).where(T.made_at > bindparam("since"), T.number < 100).order_by(T.number)
)
RENAME = Prepared(update(THINGS).where(T.number == bindparam("which")).values(name="other"))


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """A database of either kind with an empty table."""
    if request.param == "sqlite":
        opened = create_engine(f"sqlite:///{tmp_path}/things.db")
    else:
        opened = create_engine(request.getfixturevalue("postgresql"))
    THINGS.drop(opened, checkfirst=True)
    THINGS.create(opened)
    return opened


def add(engine: Engine, number: int, *, durable: bool = True) -> None:
    with transaction(engine, durable=durable) as within:
        ADD.execute(
            within,
            number=number,
            name=f"n{number}",
            data=bytes([number, 0, 255]),
            made_at=NOW + timedelta(seconds=number),
        )


def test_what_is_written_is_read_with_its_constants_and_times(engine: Engine) -> None:
    for number in (1, 2, 3):
        add(engine, number, durable=number != 2)
    assert SINCE.rows(engine, since=NOW + timedelta(seconds=1)) == [
        ("n2", b"\x02\x00\xff"),
        ("n3", b"\x03\x00\xff"),
    ]
    assert SINCE.row(engine, since=NOW) == ("n1", b"\x01\x00\xff")
    assert SINCE.row(engine, since=NOW + timedelta(days=1)) is None


def test_core_sees_the_same(engine: Engine) -> None:
    add(engine, 1)
    with transaction(engine) as within:
        assert RENAME.execute(within, which=1).rowcount == 1
        assert RENAME.execute(within, which=2).rowcount == 0
    with engine.connect() as connection:
        row = connection.execute(select(THINGS)).one()
    assert (row.name, bytes(row.data)) == ("other", b"\x01\x00\xff")
    assert row.made_at.replace(tzinfo=None) == (NOW + timedelta(seconds=1)).replace(tzinfo=None)


def test_an_error_is_sqlalchemys_and_tells_no_value(engine: Engine) -> None:
    add(engine, 1)
    with pytest.raises(IntegrityError) as raised:
        add(engine, 1)
    assert "n1" not in str(raised.value)
    add(engine, 2)


def test_an_error_in_the_midst_takes_all_back(engine: Engine) -> None:
    def fail() -> None:
        with transaction(engine, durable=False) as within:
            RENAME.execute(within, which=1)
            raise KeyError

    add(engine, 1)
    with pytest.raises(KeyError):
        fail()
    assert SINCE.row(engine, since=NOW) == ("n1", b"\x01\x00\xff")


def test_only_a_transaction_that_need_not_be_durable_is_not(tmp_path: Path) -> None:
    engine = Catalog.open(NodeHome(tmp_path).create()).engine
    modes = []
    for durable in (False, True):
        with transaction(engine, durable=durable) as within:
            modes.append(within.connection.cursor().execute("PRAGMA synchronous").fetchone()[0])
    with engine.connect() as connection:
        modes.append(connection.exec_driver_sql("PRAGMA synchronous").scalar())
    assert modes == [1, 2, 2]


def test_a_forked_process_uses_none_of_its_parents_connections(tmp_path: Path) -> None:
    engine = Catalog.open(NodeHome(tmp_path).create()).engine
    with transaction(engine) as within:
        ours = within.connection
    pid = os.fork()
    if pid == 0:
        try:
            with transaction(engine) as within:
                os._exit(within.connection is ours)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with transaction(engine) as within:
        assert within.connection is ours

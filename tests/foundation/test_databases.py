"""The coordinator's and the node's schema, from empty to newest, on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, MetaData, create_engine, inspect, text

from contract import wire_pb2 as wire
from contract.errors import ConfigurationError, DocumentError, InvitationError, StorageError
from coordinator import schema as coordinator_schema
from coordinator.database import HEAD, MIGRATIONS
from coordinator.home import CoordinatorHome
from coordinator.jobs.states import JobEvent, JobState
from coordinator.jobs.store import JobStore
from coordinator.registry import invitations
from coordinator.registry.authority import Authority
from foundation import database
from node.catalog import database as node_database
from node.catalog import schema as node_schema
from node.catalog.store import Catalog
from node.home import NodeHome
from tests.contract.world import NOW, World

COUNTER = iter(range(1000))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of either kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    base: str = request.getfixturevalue("postgresql")
    name = f"empty{next(COUNTER)}"
    admin = create_engine(base, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    yield base.replace("/postgres?", f"/{name}?")


def open_coordinator_database(url: str) -> Engine:
    return database.open_database(Path("unused"), url, MIGRATIONS, HEAD)


def differences(engine: Engine, metadata: MetaData) -> list[Any]:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))


def test_the_coordinators_migrations_make_the_coordinators_schema(url: str) -> None:
    engine = open_coordinator_database(url)
    assert differences(engine, coordinator_schema.metadata) == []
    assert set(coordinator_schema.metadata.tables) <= set(inspect(engine).get_table_names())
    engine.dispose()


def test_the_nodes_migrations_make_the_nodes_schema(url: str, tmp_path: Path) -> None:
    with Catalog.open(NodeHome(tmp_path).create(), url) as catalog:
        assert differences(catalog.engine, node_schema.metadata) == []
        assert node_database.revision(catalog.engine) == node_database.HEAD


@pytest.mark.parametrize(
    ("folder", "head"),
    [(MIGRATIONS, HEAD), (Path(node_database.__file__).parent / "migrations", node_database.HEAD)],
    ids=["coordinator", "node"],
)
def test_the_head_that_the_code_names_is_the_only_one_of_its_revisions(
    folder: Path, head: str
) -> None:
    assert ScriptDirectory(str(folder)).get_heads() == [head]


def test_opening_again_changes_nothing_and_needs_no_alembic(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_coordinator_database(url).dispose()
    monkeypatch.setattr(database, "_upgrade", None)  # calling it would fail
    engine = open_coordinator_database(url)
    assert differences(engine, coordinator_schema.metadata) == []
    engine.dispose()


def test_the_registry_and_the_jobs_work_the_same_on_either_database(
    url: str, tmp_path: Path
) -> None:
    engine = open_coordinator_database(url)
    home = CoordinatorHome(tmp_path / "home").create()
    authority = Authority.create(home, "preterm", NOW)
    with engine.begin() as connection:
        connection.execute(
            coordinator_schema.consortium.insert().values(
                name="preterm", address="localhost:1", created_at=NOW
            )
        )
    invitation = invitations.invite(engine, authority, "site", "kentucky", NOW, timedelta(hours=1))
    with engine.connect() as connection:
        identifier = connection.execute(text("SELECT id FROM invitations")).scalar()
    assert isinstance(identifier, str)
    token = bytes.fromhex(invitation.token)
    with engine.begin() as connection:
        assert invitations.redeem(connection, identifier, token, "kentucky", NOW) == "site"
    with engine.begin() as connection, pytest.raises(InvitationError):
        invitations.redeem(connection, identifier, token, "kentucky", NOW)

    world, store = World(), JobStore(engine)
    view = world.settled()
    believed = view.job(world.signed_job(nonce="1" * 32), NOW)
    store.add(believed, NOW)
    store.add(believed, NOW)
    with pytest.raises(DocumentError, match="nonce"):
        store.add(view.job(world.signed_job(nonce="1" * 32, minimum_sites=2), NOW), NOW)
    assert store.get(believed.digest).submitted_at == NOW
    assert store.move(believed.digest, JobEvent.OFFER, NOW) is JobState.OFFERED
    store.move(believed.digest, JobEvent.RESULT, NOW, result=b"r")
    row = store.get(believed.digest)
    assert (row.state, row.result, row.ended_at) == (JobState.FINISHED, b"r", NOW)
    for number in range(3):
        event = wire.JobEvent(kind="log", text=str(number))
        assert store.add_event(believed.digest, event)
    assert [e.sequence for e in store.events(believed.digest, 1)] == [1, 2]
    engine.dispose()


def test_a_commit_on_sqlite_survives_a_power_cut(tmp_path: Path) -> None:
    engine = database.open_database(tmp_path / "c.db", "", MIGRATIONS, HEAD)
    with Catalog.open(NodeHome(tmp_path / "n").create()) as catalog:
        for each in (engine, catalog.engine):
            with each.connect() as connection:
                for pragma, value in (
                    ("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1),
                ):  # fmt: skip
                    found = connection.exec_driver_sql(f"PRAGMA {pragma}").scalar()
                    assert found == value, pragma
    engine.dispose()


def test_times_come_back_in_utc_from_either_database(url: str, tmp_path: Path) -> None:
    elsewhere = datetime(2026, 3, 1, 13, tzinfo=UTC).astimezone()
    with Catalog.open(NodeHome(tmp_path).create(), url) as catalog:
        from node.catalog.store import IntakeRow

        catalog.record([], [IntakeRow("x", "accepted", "", None, elsewhere)])
        found = catalog.known("x")
    assert found is not None
    assert found.time == elsewhere
    assert found.time.tzinfo is UTC


def test_a_database_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    nowhere = "postgresql+psycopg://nobody@127.0.0.1:1/none"
    with pytest.raises(StorageError, match="can't be opened"):
        open_coordinator_database(nowhere)
    with pytest.raises(StorageError):
        Catalog.open(NodeHome(tmp_path), nowhere)
    for bad in ("nonsense", "mysql://x/y", "postgresql+nodriver://x/y"):
        with pytest.raises(ConfigurationError):
            open_coordinator_database(bad)


def test_a_file_that_is_no_database_is_one_clear_error(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"not a database" * 100)
    with pytest.raises(StorageError):
        database.open_database(garbage, "", MIGRATIONS, HEAD)


def test_a_database_of_a_newer_version_is_left_alone(url: str) -> None:
    engine = open_coordinator_database(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ConfigurationError, match="newer"):
        open_coordinator_database(url)


def test_an_embedded_database_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "home" / "c.db"
    database.open_database(file, "", MIGRATIONS, HEAD).dispose()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_a_look_at_the_files_tells_every_write_of_whoever_made_it(tmp_path: Path) -> None:
    file = tmp_path / "one.db"
    engine = open_coordinator_database(f"sqlite:///{file}")

    def age() -> None:
        for path in (file, tmp_path / "one.db-wal"):
            if path.exists():
                an_hour_ago = path.stat().st_mtime - 3600
                os.utime(path, (an_hour_ago, an_hour_ago))

    assert database.written(engine) != database.written(engine)  # migrated just now
    age()
    before = database.written(engine)
    assert database.written(engine) == before
    with sqlite3.connect(file) as other:
        other.execute("PRAGMA user_version = 7")
    assert database.written(engine) != before
    age()
    assert database.written(engine) != before
    engine.dispose()


def test_nothing_is_told_without_a_file_to_look_at() -> None:
    engine = create_engine("sqlite://")
    assert database.written(engine) != database.written(engine)

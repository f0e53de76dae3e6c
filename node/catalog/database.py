"""The catalogue's database: how it is opened, and brought to the newest revision."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from contract.errors import ConfigurationError, StorageError
from foundation.files import private_folder, storage_errors
from node.home import NodeHome

HEAD = "0001"
"""The newest revision in ``migrations/versions``."""
BUSY_SECONDS = 10
READING = "wardgate_reading"
"""Execution option of a transaction that will not write."""


def open_database(home: NodeHome, url: str | None) -> Engine:
    """Return an engine on the newest revision, for ``home`` or at ``url``.

    ``StorageError`` when it can't be opened, ``ConfigurationError`` for a bad URL or the
    catalogue of a newer Wardgate.
    """
    engine = _engine(_target(home, url))
    try:
        if revision(engine) != HEAD:
            _upgrade(engine)
    except OperationalError:
        engine.dispose()
        raise StorageError("The catalogue can't be opened; is its database there?") from None
    return engine


def revision(engine: Engine) -> str | None:
    """Return the revision that the database is on, or None for a new one."""
    with engine.execution_options(**{READING: True}).connect() as connection:
        return _revision(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _target(home: NodeHome, url: str | None) -> URL:
    if url is not None:
        try:
            return make_url(url)
        except SQLAlchemyError:
            raise ConfigurationError("The catalogue's URL is not a database URL.") from None
    private_folder(home.root)
    with storage_errors(home.database):
        os.close(os.open(home.database, os.O_RDWR | os.O_CREAT, 0o600))
    return URL.create("sqlite", database=str(home.database))


def _engine(target: URL) -> Engine:
    if target.get_backend_name() != "sqlite":
        try:
            return create_engine(target, pool_pre_ping=True)
        except (SQLAlchemyError, ImportError):
            raise ConfigurationError("The catalogue's URL names an unknown database.") from None
    engine = create_engine(
        target, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False}
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: sqlite3.Connection, _record: Any) -> None:
    # Python's sqlite3 would begin transactions by itself, and only before some statements.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    # A transaction that reads and then writes fails at once, without waiting, if another wrote
    # in between (SQLITE_BUSY_SNAPSHOT); one that begins as a writer waits its turn.
    reading = connection.get_execution_options().get(READING, False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _upgrade(engine: Engine) -> None:
    # Alembic is large, and needed on the first start after an update only.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with engine.begin() as connection:
        current = _revision(connection)
        if current == HEAD:
            return
        if current is not None and current not in known:
            raise ConfigurationError("The catalogue was made by a newer Wardgate; update this one.")
        config.attributes["connection"] = connection
        command.upgrade(config, HEAD)

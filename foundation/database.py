"""Opening a database: durable SQLite by default, PostgreSQL by URL, always migrated.

SQLite: write-ahead log, ``synchronous=FULL`` (a commit survives a power cut), foreign keys on, and
transactions that begin as writers, so that none fails half-way because another wrote in between.
``reading`` is for transactions that only read.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from contract.errors import ConfigurationError, StorageError
from foundation.files import SECRET_MODE, private_folder, storage_errors

BUSY_SECONDS = 10
READING = "wardgate_reading"
"""Execution option of a transaction that will not write."""
GRAIN_NS, COARSE_GRAIN_NS = 10**8, 2 * 10**9
"""Two writes that are closer than this may leave a file the same times; the second is for file
systems that write down whole seconds."""
_readers: WeakKeyDictionary[Engine, Engine] = WeakKeyDictionary()
"""Engines with this option, by the engine whose connections they share: making one takes long."""


def open_database(file: Path, url: str, migrations: Path, head: str) -> Engine:
    """Return an engine on revision ``head``: at ``url``, or (if that is empty) SQLite in ``file``.

    ``migrations`` is the Alembic script folder; Alembic is imported only when there is work for
    it. ``StorageError`` when the database can't be opened, ``ConfigurationError`` for a bad URL or
    a database of a newer Wardgate.
    """
    engine = _engine(_target(file, url))
    try:
        if revision(engine) != head:
            _upgrade(engine, migrations, head)
    except DatabaseError:
        engine.dispose()
        raise StorageError("The database can't be opened; is it there, and is it ours?") from None
    return engine


def reading(engine: Engine) -> Connection:
    """Return a connection for reading only: it waits for no writer."""
    reader = _readers.get(engine)
    if reader is None:
        reader = _readers[engine] = engine.execution_options(**{READING: True})
    return reader.connect()


def written(engine: Engine) -> object:
    """Return what stays equal as long as nobody writes, by a look at SQLite's files alone.

    Right after a write, and of a server's database, it is equal to nothing: then ask the database.
    """
    if engine.dialect.name != "sqlite":
        return object()
    found = []
    for name in (f"{engine.url.database}", f"{engine.url.database}-wal"):
        with suppress(FileNotFoundError):
            status = Path(name).stat()
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    now = time.time_ns()
    fresh = any(
        abs(now - modified) < (GRAIN_NS if modified % 10**9 else COARSE_GRAIN_NS)
        for _, modified, _ in found
    )
    return object() if fresh or not found else tuple(found)


def aware(value: datetime) -> datetime:
    """Return a time read from a database as UTC (SQLite drops the zone)."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def revision(engine: Engine) -> str | None:
    """Return the revision that the database is on, or None for a new one."""
    with reading(engine) as connection:
        return _revision(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _target(file: Path, url: str) -> URL:
    if url:
        try:
            return make_url(url)
        except SQLAlchemyError:
            raise ConfigurationError("[database] url is not a database URL.") from None
    private_folder(file.parent)
    with storage_errors(file):
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, SECRET_MODE))
    return URL.create("sqlite", database=str(file))


def _engine(target: URL) -> Engine:
    if target.get_backend_name() != "sqlite":
        try:
            return create_engine(target, pool_pre_ping=True)
        except (SQLAlchemyError, ImportError):
            raise ConfigurationError("[database] url names an unknown database.") from None
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
    only_reads = connection.get_execution_options().get(READING, False)
    connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")


def _upgrade(engine: Engine, migrations: Path, head: str) -> None:
    # Alembic is large, and needed on the first start after an update only.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(migrations))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with engine.begin() as connection:
        current = _revision(connection)
        if current == head:
            return
        if current is not None and current not in known:
            raise ConfigurationError("The database was made by a newer Wardgate; update this one.")
        config.attributes["connection"] = connection
        command.upgrade(config, head)

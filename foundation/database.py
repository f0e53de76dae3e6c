"""Opening a database: durable SQLite by default, PostgreSQL by URL, always migrated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from contract.errors import Unavailable


def sqlite_url(path: Path) -> str:
    """Return the SQLAlchemy URL of an embedded database file."""
    return f"sqlite:///{path}"


def open_database(url: str, migrations: Path, head: str) -> Engine:
    """Return an engine on a database that is at revision ``head``, upgrading it if need be.

    ``migrations`` is the Alembic script folder. Alembic is imported only when there is work for
    it. ``Unavailable`` when the database can't be reached.
    """
    engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
    try:
        if _revision(engine) != head:
            _upgrade(engine, migrations, head)
    except SQLAlchemyError as error:
        raise Unavailable(
            f"The {engine.dialect.name} database can't be opened: {type(error).__name__}."
        ) from None
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "busy_timeout=10000",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return str(found) if found else None


def _upgrade(engine: Engine, migrations: Path, head: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, head)

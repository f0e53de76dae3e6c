"""A database that a console can read and can't write, whatever a page's code would try."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, event

_STATEMENTS = {
    "sqlite": "PRAGMA query_only=ON",
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
}


def read_only(engine: Engine) -> None:
    """Let every connection of ``engine`` from now on only read (SQLite and PostgreSQL)."""
    statement = _STATEMENTS[engine.dialect.name]

    def _prepare(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(statement)
        cursor.close()
        if engine.dialect.name == "postgresql":
            connection.commit()

    event.listen(engine, "connect", _prepare)
    engine.dispose()

"""The catalogue's database: how it is opened, and brought to the newest revision."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from foundation import database
from foundation.database import READING, revision
from node.home import NodeHome

__all__ = ["HEAD", "MIGRATIONS", "READING", "open_database", "revision"]

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "0008"
"""The newest revision in ``migrations/versions``."""


def open_database(home: NodeHome, url: str | None) -> Engine:
    """Return an engine on the newest revision, for ``home`` or at ``url``.

    ``StorageError`` when it can't be opened, ``ConfigurationError`` for a bad URL or the
    catalogue of a newer Wardgate.
    """
    return database.open_database(home.database, url or "", MIGRATIONS, HEAD)

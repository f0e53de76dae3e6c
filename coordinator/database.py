"""Opening the coordinator's database, and the one form in which times come back from it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from foundation.database import open_database

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "0001"


def open_coordinator_database(url: str) -> Engine:
    """Return an engine on the database at ``url``, at the newest revision."""
    return open_database(url, MIGRATIONS, HEAD)


def aware(value: datetime) -> datetime:
    """Return a time read from the database as UTC (SQLite drops the zone)."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

"""The coordinator's database: how it is opened, and brought to the newest revision."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine

from coordinator.config import CoordinatorSettings
from coordinator.home import CoordinatorHome
from foundation import database

MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "0003"
"""The newest revision in ``migrations/versions``."""


def open_coordinator_database(home: CoordinatorHome, settings: CoordinatorSettings) -> Engine:
    """Return an engine on the newest revision, in ``home`` or at the URL of the settings."""
    return database.open_database(home.database, settings.database.url, MIGRATIONS, HEAD)

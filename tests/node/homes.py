"""A node's home whose catalogue is there already: migrated once for all tests of a run."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from node.catalog.store import Catalog
from node.home import NodeHome


@cache
def empty_catalogue() -> bytes:
    """An empty catalogue's file."""
    with tempfile.TemporaryDirectory(prefix="wardgate-") as folder:
        home = NodeHome(Path(folder)).create()
        with Catalog.open(home) as catalog, catalog.engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.exec_driver_sql("BEGIN")
        return home.database.read_bytes()


def new_home(root: Path) -> NodeHome:
    """Make a home with an empty catalogue."""
    home = NodeHome(root).create()
    home.database.touch(mode=0o600)
    home.database.write_bytes(empty_catalogue())
    return home

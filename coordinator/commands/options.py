"""What every command of the coordinator begins with: the home, its settings, its database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Engine, select

from contract.errors import NotFound
from coordinator import schema
from coordinator.config import CoordinatorSettings, load_settings
from coordinator.database import open_coordinator_database
from coordinator.home import CoordinatorHome
from foundation.database import reading

DEFAULT_HOME = Path("~/.wardgate/coordinator")

HomeOption = Annotated[
    Path,
    typer.Option(
        "--home",
        envvar="WARDGATE_COORDINATOR_HOME",
        help="The folder that holds this coordinator.",
        show_default=True,
    ),
]


def coordinator_home(folder: Path) -> CoordinatorHome:
    """Return the home at ``folder``; a leading ``~`` is the user's own folder."""
    return CoordinatorHome(folder.expanduser().absolute())


@dataclass(frozen=True)
class Opened:
    """An initialised coordinator: its home, settings, database and name."""

    home: CoordinatorHome
    settings: CoordinatorSettings
    engine: Engine
    consortium: str


def open_coordinator(folder: Path) -> Opened:
    """Open the coordinator in ``folder``; ``NotFound`` when none was initialised there."""
    home = coordinator_home(folder).require()
    settings = load_settings(home)
    engine = open_coordinator_database(home, settings)
    with reading(engine) as connection:
        row = connection.execute(select(schema.consortium)).one_or_none()
    if row is None:
        raise NotFound("The database holds no consortium; run 'wardgate-coordinator init' first.")
    return Opened(home, settings, engine, row.name)


def now() -> datetime:
    """Return the time at which a command runs, in UTC."""
    return datetime.now(UTC)

"""The node's settings: ``node.toml``, overridden by ``WARDGATE_NODE_*``."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import Field

from foundation import settings
from foundation.defaults import default_text
from foundation.files import write_new
from foundation.web.settings import ConsoleSettings
from node.home import NodeHome


class DatabaseSettings(settings.Settings):
    """Where the catalogue is kept."""

    url: str = ""
    """An SQLAlchemy URL such as ``postgresql+psycopg://user@host/name``; empty: SQLite in home."""


class LinkSettings(settings.Settings):
    """The one connection to each coordinator."""

    first_backoff_seconds: Annotated[float, Field(gt=0)] = 0.5
    """Pause before the first attempt to reconnect; doubled each time, with jitter."""
    longest_backoff_seconds: Annotated[float, Field(gt=0)] = 30.0
    """Longest pause between two attempts."""


class WorkSettings(settings.Settings):
    """What work may use of this machine."""

    threads: Annotated[int, Field(ge=1, le=64)] = 4
    """Questions worked on at once."""
    training_jobs: Annotated[int, Field(ge=1, le=64)] = 4
    """Training jobs worked on at once; others wait for their turn."""
    column_cache_bytes: Annotated[int, Field(ge=0)] = 256 * 2**20
    """Memory for released columns that were asked for before."""
    worker_threads: Annotated[int, Field(ge=1)] = 2
    """Threads that a recipe's numerical libraries use."""


class NodeConsoleSettings(ConsoleSettings):
    """The steward's page."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8801
    """The page's port. 0 takes any free one (and prints it)."""


class NodeSettings(settings.Settings):
    """All settings of a node."""

    database: DatabaseSettings = DatabaseSettings()
    link: LinkSettings = LinkSettings()
    work: WorkSettings = WorkSettings()
    console: NodeConsoleSettings = NodeConsoleSettings()


def load_settings(home: NodeHome) -> NodeSettings:
    """Return the settings of the home's file (defaults without one) and the environment."""
    path = home.settings if home.settings.exists() else None
    environment = {k: v for k, v in os.environ.items() if k != "WARDGATE_NODE_HOME"}
    return settings.load(NodeSettings, path, "WARDGATE_NODE", environment)


def create_home(home: NodeHome) -> NodeHome:
    """Make a node's folders, its settings and its policy (``standard``) where there are none."""
    home.create()
    if not home.settings.exists():
        write_new(home.settings, default_text("node.toml").encode())
    if not home.policy.exists():
        write_new(home.policy, default_text("policy/standard.toml").encode())
    return home

"""The coordinator's settings: ``coordinator.toml``, overridden by ``WARDGATE_COORDINATOR_*``."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import Field

from coordinator.home import CoordinatorHome
from foundation import settings
from foundation.web.settings import ConsoleSettings


class ListenSettings(settings.Settings):
    """Where the one port is."""

    host: str = "0.0.0.0"  # noqa: S104 (a server; mutual TLS always)
    """The address to listen on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 7443
    """The one port, for nodes and researchers alike. 0 takes any free one (and prints it)."""


class DatabaseSettings(settings.Settings):
    """Where the registry and the jobs are kept."""

    url: str = ""
    """An SQLAlchemy URL such as ``postgresql+psycopg://user@host/name``; empty: SQLite in home."""


class CertificateSettings(settings.Settings):
    """How long certificates live."""

    lifetime_days: Annotated[float, Field(gt=0, le=365)] = 14.0
    """Life of a site's or researcher's certificate; it is renewed when a third is left."""
    invitation_hours: Annotated[float, Field(gt=0, le=720)] = 72.0
    """Life of an invitation, unless ``invite --hours`` says otherwise."""


class LinkSettings(settings.Settings):
    """The nodes' streams."""

    heartbeat_seconds: Annotated[int, Field(ge=1, le=300)] = 10
    """How often a node says that it is there. Three missed ones and it counts as offline."""
    revocation_seconds: Annotated[float, Field(gt=0, le=60)] = 0.5
    """How often revocations are looked for; a revoked site's live stream is cut within this."""


class JobSettings(settings.Settings):
    """How long jobs wait, and for whom."""

    statistics_seconds: Annotated[float, Field(gt=0)] = 60.0
    """A question in statistics is answered with who is there after this."""
    offline_grace_seconds: Annotated[float, Field(ge=0)] = 3.0
    """A site that has been offline for this long is not waited for when a job is offered."""
    absence_seconds: Annotated[float, Field(gt=0)] = 120.0
    """A site that drops out of a training round is waited for this long."""
    start_seconds: Annotated[float, Field(gt=0)] = 60.0
    """How long sites may take to accept or refuse a training job."""
    keep_free_bytes: Annotated[int, Field(ge=0)] = 2_000_000_000
    """Of the disk. A training round waits while its replies would take more than is left then."""


class SuperLinkSettings(settings.Settings):
    """A stock Flower SuperLink, for jobs of engine ``superlink``."""

    enabled: bool = False
    """Carry training over a SuperLink too, where a job asks for it."""
    host: str = "0.0.0.0"  # noqa: S104 (a server; mutual TLS always)
    """The address where SuperNodes reach its Fleet API."""
    port: Annotated[int, Field(ge=0, le=65535)] = 7444
    """The port of it. 0 takes any free one (and prints it)."""
    runtime: str = ""
    """HOST:PORT of a SuperLink on this machine; empty: one is started, on loopback."""
    secret_file: str = ""
    """The secret of that SuperLink's SuperExec, which we are then, alone. Empty: one is made."""


class CoordinatorConsoleSettings(ConsoleSettings):
    """The operator's page."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8802
    """The page's port. 0 takes any free one (and prints it)."""


class CoordinatorSettings(settings.Settings):
    """All settings of a coordinator."""

    listen: ListenSettings = ListenSettings()
    database: DatabaseSettings = DatabaseSettings()
    certificates: CertificateSettings = CertificateSettings()
    link: LinkSettings = LinkSettings()
    jobs: JobSettings = JobSettings()
    superlink: SuperLinkSettings = SuperLinkSettings()
    console: CoordinatorConsoleSettings = CoordinatorConsoleSettings()


def load_settings(home: CoordinatorHome) -> CoordinatorSettings:
    """Return the settings of the home's file (defaults without one) and the environment."""
    path = home.settings if home.settings.exists() else None
    environment = {k: v for k, v in os.environ.items() if k != "WARDGATE_COORDINATOR_HOME"}
    return settings.load(CoordinatorSettings, path, "WARDGATE_COORDINATOR", environment)

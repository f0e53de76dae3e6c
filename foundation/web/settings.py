"""The settings that every console has. Its port's default is the party's own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from foundation import settings


class ConsoleSettings(settings.Settings):
    """A page for the people who run this installation, behind a login."""

    host: str = "127.0.0.1"
    """The address to listen on. Beyond this machine only with ``--tls-cert`` and ``--tls-key``."""
    port: Annotated[int, Field(ge=0, le=65535)]
    """The page's port. 0 takes any free one (and prints it)."""
    session_minutes: Annotated[float, Field(gt=0, le=24 * 60)] = 480.0
    """A login lasts this long at most."""
    idle_minutes: Annotated[float, Field(gt=0, le=24 * 60)] = 60.0
    """A login ends when no page was opened for this long."""

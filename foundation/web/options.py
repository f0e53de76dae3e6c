"""Options of the command that serves a console: where to listen, what to serve with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foundation.web.settings import ConsoleSettings

HostOption = Annotated[
    str | None, typer.Option("--host", help="Address to listen on, instead of the settings'.")
]
PortOption = Annotated[
    int | None, typer.Option("--port", help="Port, instead of the settings'.", min=0, max=65535)
]
TlsCertOption = Annotated[
    Path | None, typer.Option("--tls-cert", help="Certificate chain to serve with, PEM.")
]
TlsKeyOption = Annotated[Path | None, typer.Option("--tls-key", help="The certificate's key, PEM.")]


def listening(settings: ConsoleSettings, host: str | None, port: int | None) -> ConsoleSettings:
    """Return the settings with the address and port that the command was given."""
    chosen = {"host": host, "port": port}
    return settings.model_copy(update={k: v for k, v in chosen.items() if v is not None})

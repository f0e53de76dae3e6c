"""``console``: the operator's page, and its password."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.commands.options import DEFAULT_HOME, HomeOption, open_coordinator
from coordinator.home import CoordinatorHome
from foundation import commands
from foundation.web.options import (
    HostOption,
    PortOption,
    TlsCertOption,
    TlsKeyOption,
    listening,
)
from foundation.web.password import PasswordFile, ask_password

app = commands.application(
    """Serve the operator's page until Ctrl-C: the sites, and how far each job is.

    It shows and changes nothing, and listens on this machine alone unless told otherwise.

    Example: wardgate-coordinator console
    """
)

SET_PASSWORD = "wardgate-coordinator console password"  # noqa: S105 (a command)


def password_file(home: CoordinatorHome) -> PasswordFile:
    """Return where the console's password is kept."""
    return PasswordFile(home.console_password)


@app.callback(invoke_without_command=True, no_args_is_help=False)
def console(
    context: typer.Context,
    host: HostOption = None,
    port: PortOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Serve the page, unless a subcommand was named."""
    if commands.subcommand_named(context):
        return
    place = CoordinatorHome(home.expanduser()).require()
    password = password_file(place)
    password.require(SET_PASSWORD)

    from coordinator.console.app import console as build
    from foundation.web.server import Tls, serve

    opened = open_coordinator(home)
    settings = listening(opened.settings.console, host, port)
    serve(settings, password, Tls.of(tls_cert, tls_key), lambda access: build(opened, access))


@app.command("password")
def set_password(
    from_stdin: Annotated[
        bool, typer.Option("--stdin", help="Read it from standard input instead of asking twice.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Set the page's password, at least 12 characters. Whoever is logged in is logged out.

    Example: wardgate-coordinator console password
    """
    place = CoordinatorHome(home.expanduser()).require()
    password_file(place).set(ask_password(from_stdin=from_stdin))
    print(f"password set in {password_file(place).path}")

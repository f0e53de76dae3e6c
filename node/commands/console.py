"""``console``: the steward's page, and its password."""

from __future__ import annotations

from typing import Annotated

import typer

from contract.errors import NotFound
from foundation import commands
from foundation.web.options import (
    HostOption,
    PortOption,
    TlsCertOption,
    TlsKeyOption,
    listening,
)
from foundation.web.password import PasswordFile, ask_password
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, node_home
from node.home import NodeHome

app = commands.application(
    """Serve the steward's page until Ctrl-C: what is held, what was asked, what left.

    It shows and changes nothing, and listens on this machine alone unless told otherwise.

    Example: wardgate-node console
    """
)

SET_PASSWORD = "wardgate-node console password"  # noqa: S105 (a command)


def password_file(home: NodeHome) -> PasswordFile:
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
    place = node_home(home)
    if not place.root.is_dir():
        raise NotFound(f"There is no node at {place.root}; name it with --home.")
    password = password_file(place)
    password.require(SET_PASSWORD)

    from foundation.web.server import Tls, serve
    from node.config import load_settings
    from node.console.app import console as build
    from node.intake.account import refuse

    refuse(load_settings(place).account)

    settings = listening(load_settings(place).console, host, port)
    with catalogue(place) as catalog:
        serve(
            settings,
            password,
            Tls.of(tls_cert, tls_key),
            lambda access: build(place, catalog, access),
        )


@app.command("password")
def set_password(
    from_stdin: Annotated[
        bool, typer.Option("--stdin", help="Read it from standard input instead of asking twice.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Set the page's password, at least 12 characters. Whoever is logged in is logged out.

    Example: wardgate-node console password
    """
    place = node_home(home)
    if not place.root.is_dir():
        raise NotFound(f"There is no node at {place.root}; name it with --home.")
    password_file(place).set(ask_password(from_stdin=from_stdin))
    print(f"password set in {password_file(place).path}")

"""``receive``: take instances by DICOM C-STORE and DICOMweb STOW-RS, and the latter's tokens."""

from __future__ import annotations

import functools
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from contract.errors import ConfigurationError
from foundation import commands
from node.commands.options import DEFAULT_HOME, HomeOption, existing_home, node_home

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess
    from pathlib import Path

    from node.receive.behind import BehindOrder
    from node.receive.tokens import Tokens

app = commands.application(
    """Take instances by DICOM and DICOMweb until Ctrl-C, and de-identify them behind.

    Who may send is in [receive]. Nothing is acknowledged before it is durable.

    Example: wardgate-node receive --verbose
    """
)
token = commands.application("The bearer tokens of DICOMweb senders.")
app.add_typer(token, name="token")


@app.callback(invoke_without_command=True, no_args_is_help=False)
def receive(
    context: typer.Context,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log each association and request.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Receive, unless a subcommand was named."""
    if commands.subcommand_named(context):
        return
    from foundation.listening import listen
    from node.config import create_home, load_settings
    from node.intake.account import account, enter
    from node.receive.commitment import addresses
    from node.receive.listening import calling_tls, dicom_tls, web_tls
    from node.receive.negotiation import Callers

    place = node_home(home)
    settings = load_settings(place)
    chosen = settings.receive
    if not chosen.dicom and not chosen.web.enabled:
        raise ConfigurationError("receive.dicom and receive.web.enabled are both false.")
    # Whatever is wrong is said here, once, and not by a process that is started again and again.
    Callers.of(chosen.ae_title, chosen.calling)
    addresses(chosen.report_to)
    account(settings.account)
    dicom = listen(chosen.host, chosen.port) if chosen.dicom else None
    web = listen(chosen.web.host, chosen.web.port) if chosen.web.enabled else None
    # A port below 1024 is root's to open; what follows is not.
    enter(place, settings.account)
    if not settings.account.user:
        create_home(place)
    if dicom is not None:
        dicom_tls(chosen)
        calling_tls(chosen)
    if web is not None:
        web_tls(chosen.web)

    from node.receive.behind import BehindOrder, follow
    from node.receive.service import SPAWN, Service
    from node.receive.web import WebOrder, web_work
    from node.receive.worker import configure_logging

    _prepare(BehindOrder(place, settings, verbose))
    configure_logging(verbose=verbose)

    def behind(control: socket.socket) -> SpawnProcess:
        order = BehindOrder(place, settings, verbose)
        return SPAWN.Process(target=follow, args=(order, control))

    def page(listener: socket.socket, control: socket.socket) -> SpawnProcess:
        order = WebOrder(place, chosen, verbose)
        return SPAWN.Process(target=web_work, args=(order, control, listener), daemon=True)

    others = [behind]
    if web is not None:
        others.append(functools.partial(page, web))

    def announce() -> None:
        if dicom is not None:
            tls = " over TLS" if chosen.tls_certificate else ""
            print(f"receiving as {chosen.ae_title} at {_place(dicom)}{tls}", flush=True)
        if web is not None:
            scheme = "https" if chosen.web.tls_certificate else "http"
            print(f"receiving at {scheme}://{_place(web)}/dicom-web/studies", flush=True)

    Service(place, chosen, dicom=dicom, others=others, verbose=verbose, announce=announce).run()


def _prepare(order: BehindOrder) -> None:
    """Make what the processes would all make at once, and read what they will read."""
    from node.catalog.store import Catalog
    from node.intake.landing import Landing
    from node.intake.quarantine import Quarantine
    from node.receive.behind import make_deidentifier

    Landing(order.home)
    Quarantine(order.home)
    with Catalog.open(order.home, order.settings.database.url or None) as catalog:
        make_deidentifier(order, catalog)


def _place(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _tokens(home: Path) -> Tokens:
    from node.config import load_settings
    from node.intake.account import enter
    from node.receive.tokens import Tokens

    place = existing_home(home)
    enter(place, load_settings(place).account)
    return Tokens(place.receive_tokens)


@token.command("add")
def add_token(
    name: Annotated[str, typer.Argument(help="Who will send with it.")],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Make a token for a sender and print it, this once.

    Example: wardgate-node receive token add pacs
    """
    print(_tokens(home).add(name, datetime.now(UTC)))


@token.command("remove")
def remove_token(
    name: Annotated[str, typer.Argument(help="Whose token ends.")],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Let a sender in no more, at once.

    Example: wardgate-node receive token remove pacs
    """
    _tokens(home).remove(name)
    print(f"{name} is let in no more")


@token.command("list")
def list_tokens(home: HomeOption = DEFAULT_HOME) -> None:
    """List who has a token, and since when.

    Example: wardgate-node receive token list
    """
    table = Table("sender", "since")
    for found in _tokens(home).all():
        table.add_row(found.name, found.added)
    Console(markup=False).print(table)

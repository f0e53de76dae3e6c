"""``init``, ``invite`` and ``serve``: from an empty folder to a port that hospitals dial."""

from __future__ import annotations

import asyncio
import logging
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import insert, select

from contract.documents import Name
from contract.errors import AlreadyExists, UsageError
from coordinator import schema
from coordinator.commands.options import (
    DEFAULT_HOME,
    HomeOption,
    coordinator_home,
    now,
    open_coordinator,
)
from coordinator.config import load_settings
from coordinator.database import open_coordinator_database
from coordinator.registry import invitations
from coordinator.registry.authority import Authority
from foundation.defaults import default_text
from foundation.files import write_durably, write_new
from foundation.transport import fingerprint

_ADDRESS = re.compile(r"^(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}$")


def check_name(name: str) -> str:
    """Return ``name``; ``UsageError`` when it can't name a member or a consortium."""
    try:
        return str(TypeAdapter(Name).validate_python(name))
    except ValidationError:
        raise UsageError(
            f"{name!r} is not a name: lower-case letters, digits, '.', '_' and '-', at most 64."
        ) from None


def init(
    consortium: Annotated[str, typer.Argument(help="The consortium's name, such as 'opt'.")],
    address: Annotated[
        str, typer.Option(help="host:port under which hospitals will reach this coordinator.")
    ],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Make a coordinator: its certificate authority, server identity, database and settings.

    Nothing is ever overwritten.

    Example: wardgate-coordinator init opt --address coordinator.example.org:7443
    """
    check_name(consortium)
    if not _ADDRESS.match(address):
        raise UsageError(f"{address!r} is not of the form host:port.")
    place = coordinator_home(home)
    if (place.authority / "ca.crt").exists():
        raise AlreadyExists(f"{place.root} holds a coordinator already and is not overwritten.")
    place.create()
    if not place.settings.exists():
        default = default_text("coordinator.toml")
        port = address.rsplit(":", 1)[1]
        write_new(place.settings, default.replace("port = 7443", f"port = {port}").encode())
    settings = load_settings(place)
    engine = open_coordinator_database(place, settings)
    with engine.begin() as connection:
        found = connection.execute(select(schema.consortium)).one_or_none()
        if found is not None and found.name != consortium:
            raise AlreadyExists(f"The database holds consortium {found.name} already.")
        if found is None:
            connection.execute(
                insert(schema.consortium).values(name=consortium, address=address, created_at=now())
            )
    authority = Authority.create(place, consortium, now())
    print(f"consortium {consortium} at {address}, in {place.root}")
    print(
        f"authority fingerprint (give it to every hospital by a channel of its own):\n"
        f"  {fingerprint(authority.pem)}"
    )
    print("next: wardgate-coordinator invite SITE")


def invite(
    name: Annotated[str, typer.Argument(help="The site's or researcher's name.")],
    researcher: Annotated[
        bool, typer.Option("--researcher", help="Invite a researcher instead of a site.")
    ] = False,
    hours: Annotated[
        float | None, typer.Option(help="Life of the invitation.", min=0.0001, max=720)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write (NAME.invitation).")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Make a one-time invitation for one site or researcher.

    The file is a secret until it is used: send it over a channel that you trust.

    Example: wardgate-coordinator invite kentucky -o kentucky.invitation
    """
    opened = open_coordinator(home)
    check_name(name)
    life = timedelta(hours=hours or opened.settings.certificates.invitation_hours)
    target = output or Path(f"{name}.invitation")
    if target.exists():
        raise AlreadyExists(f"{target} exists already and is not overwritten.")
    invitation = invitations.invite(
        opened.engine,
        Authority.load(opened.home),
        "researcher" if researcher else "site",
        name,
        now(),
        life,
    )
    write_durably(target, invitation.model_dump_json(indent=1).encode())
    print(f"{target}: {invitation.role} {name}, once, until {invitation.expires_at:%F %H:%M} UTC")


def serve(
    home: HomeOption = DEFAULT_HOME,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log comings and goings.")
    ] = False,
) -> None:
    """Serve nodes and researchers on one port until SIGTERM or Ctrl-C.

    Example: wardgate-coordinator serve --home /var/lib/wardgate-coordinator
    """
    from coordinator.link.server import serve as serve_forever
    from foundation.heap import give_back

    give_back()
    place = coordinator_home(home).require()
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    asyncio.run(serve_forever(place, load_settings(place)))

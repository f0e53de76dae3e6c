"""``join``, ``serve`` and ``consortium``: from an invitation to a link that stays up."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from contract import wire_pb2 as wire
from contract.errors import InvitationError, UsageError
from contract.keys import SigningKey
from foundation import commands, rpc, transport
from foundation.clock import now
from foundation.files import private_folder, read_bounded, write_new
from foundation.invitations import Invitation
from node.catalog.asked import Asked, ConsortiumRow
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, node_home
from node.config import create_home, load_settings
from node.home import NodeHome

app = commands.application("The consortia that this node belongs to.")


def steward_key(home: NodeHome, path: Path | None) -> SigningKey:
    """Return the steward's key: the one at ``path``, or the home's, made when there is none."""
    place = path or home.steward_key
    if not place.exists() and path is None:
        write_new(place, SigningKey.generate().to_pem())
    return SigningKey.from_pem(read_bounded(place, transport.MAX_PEM_BYTES))


def join(
    invitation: Annotated[Path, typer.Argument(help="The invitation file.")],
    ca_fingerprint: Annotated[
        str | None,
        typer.Option(help="The authority's fingerprint, as the coordinator told it elsewhere."),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="host:port, when it isn't the invitation's.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--steward-key", help="The steward's key, if kept elsewhere.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Accept the authority without comparing.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Join a consortium: make keys here, exchange the one-time invitation for a certificate.

    No key leaves this machine. The same node can join several consortia.

    Example: wardgate-node join kentucky.invitation --ca-fingerprint 3f8a...
    """
    offered = Invitation.read(invitation)
    if offered.role != "site":
        raise InvitationError("The invitation is for a researcher; use 'wardgate join'.")
    if ca_fingerprint is not None:
        offered.check_authority(ca_fingerprint)
    elif not yes:
        print(f"authority fingerprint: {offered.authority_fingerprint}")
        if not typer.confirm("Is it the one that the coordinator told you by another channel?"):
            raise UsageError("Not joined; nothing was sent.")
    if now() >= offered.expires_at:
        raise InvitationError("The invitation has expired; ask for a new one.")
    place = create_home(node_home(home))
    steward = steward_key(place, key)
    folder = private_folder(place.identity(offered.consortium))
    site_key = folder / "site.key"
    if not site_key.exists():
        write_new(site_key, SigningKey.generate().to_pem())
    signing = SigningKey.from_pem(read_bounded(site_key, transport.MAX_PEM_BYTES))
    target = address or offered.address
    _enrol(place, offered, target, steward, signing)
    with catalogue(place) as catalog:
        Asked(catalog.engine).put_consortium(
            ConsortiumRow(offered.consortium, offered.name, target, steward.id, None), now()
        )
    print(f"joined {offered.consortium} as {offered.name}, in {place.root}")
    print(f"steward key {steward.id}")
    print("next: wardgate-node serve; wardgate-node roster sign")


def _enrol(
    home: NodeHome, offered: Invitation, target: str, steward: SigningKey, signing: SigningKey
) -> None:
    tls_key = transport.new_private_key()
    request = transport.certificate_request(tls_key, offered.name)
    credentials = transport.channel_credentials(
        offered.authority_pem.encode(), offered.key_pem.encode(), offered.certificate_pem.encode()
    )
    with rpc.calling(target, credentials) as stub:
        reply = stub.Enrol(
            wire.EnrolRequest(
                token=_token(offered),
                name=offered.name,
                csr=request,
                signing_key=signing.public,
                steward_key=steward.public,
                proof=signing.sign(request),
                steward_proof=steward.sign(request),
            ),
            timeout=30,
        )
    transport.TransportIdentity(home.identity(offered.consortium)).save(
        transport.private_key_pem(tls_key), reply.certificate, offered.authority_pem.encode()
    )


def _token(offered: Invitation) -> bytes:
    try:
        return bytes.fromhex(offered.token)
    except ValueError:
        raise InvitationError("The invitation was changed.") from None


def serve(
    home: HomeOption = DEFAULT_HOME,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log the link's comings and goings.")
    ] = False,
) -> None:
    """Hold one outbound connection to each coordinator and answer through the gate.

    Example: wardgate-node serve --home /var/lib/wardgate-node
    """
    from node.intake.account import refuse
    from node.link.server import serve as serve_forever

    place = node_home(home)
    refuse(load_settings(place).account)
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    asyncio.run(serve_forever(place, load_settings(place)))


@app.command("list")
def list_consortia(home: HomeOption = DEFAULT_HOME) -> None:
    """List the consortia and where their coordinators are.

    Example: wardgate-node consortium list
    """
    table = Table("consortium", "as site", "coordinator", "certificate until", "roster")
    place = node_home(home)
    with catalogue(place) as catalog:
        for row in Asked(catalog.engine).consortia():
            _, end = transport.TransportIdentity(place.identity(row.name)).validity()
            table.add_row(
                row.name,
                row.site,
                row.address,
                f"{end:%F %H:%M}",
                "believed" if row.roster else "none yet",
            )
    Console(markup=False).print(table)


@app.command("move")
def move(
    consortium: Annotated[str, typer.Argument(help="The consortium.")],
    address: Annotated[str, typer.Argument(help="The coordinator's new host:port.")],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Dial a coordinator under a new address; its certificate must still be the authority's.

    Example: wardgate-node consortium move opt coordinator.example.org:7443
    """
    place = node_home(home)
    with catalogue(place) as catalog:
        asked = Asked(catalog.engine)
        row = asked.consortium(consortium)
        asked.put_consortium(
            ConsortiumRow(row.name, row.site, address, row.anchor, row.roster), now()
        )
    print(f"{consortium} is at {address} now; restart 'wardgate-node serve'")

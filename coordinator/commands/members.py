"""``site`` and ``researcher``: who joined, who is there, who is out."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from contract import wire_pb2 as wire
from contract.keys import key_id
from coordinator.commands.options import DEFAULT_HOME, HomeOption, now, open_coordinator
from coordinator.registry.members import Members
from foundation import commands
from foundation.transport import Role

sites = commands.application("The sites of the consortium.")
researchers = commands.application("The researchers of the consortium.")


@sites.command("list")
def list_sites(home: HomeOption = DEFAULT_HOME) -> None:
    """List the sites: when they were last heard of, their releases, whether they are revoked.

    Example: wardgate-coordinator site list
    """
    table = Table("site", "joined", "last heard", "releases", "steward key", "state")
    for member in Members(open_coordinator(home).engine).all(Role.SITE):
        releases = wire.Releases.FromString(member.releases or b"").releases
        table.add_row(
            member.name,
            f"{member.joined_at:%F}",
            f"{member.seen_at:%F %H:%M:%S}" if member.seen_at else "never",
            ", ".join(r.name for r in releases) or "none",
            key_id(member.steward_key)[:16] + "…",
            "revoked" if member.revoked_at else "member",
        )
    Console(markup=False).print(table)


@researchers.command("list")
def list_researchers(home: HomeOption = DEFAULT_HOME) -> None:
    """List the researchers.

    Example: wardgate-coordinator researcher list
    """
    table = Table("researcher", "joined", "state")
    for member in Members(open_coordinator(home).engine).all(Role.RESEARCHER):
        state = "revoked" if member.revoked_at else "member"
        table.add_row(member.name, f"{member.joined_at:%F}", state)
    Console(markup=False).print(table)


@sites.command("revoke")
def revoke_site(
    name: Annotated[str, typer.Argument(help="The site to revoke.")],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Revoke a site: its live stream is cut within a second, its certificate is of no more use.

    To take it off the roster too, propose a new roster; only stewards can decide that.

    Example: wardgate-coordinator site revoke kentucky
    """
    Members(open_coordinator(home).engine).revoke(Role.SITE, name, now())
    print(f"site {name} is revoked; next: wardgate-coordinator roster propose")


@researchers.command("revoke")
def revoke_researcher(
    name: Annotated[str, typer.Argument(help="The researcher to revoke.")],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Revoke a researcher: no call of theirs is answered any more.

    Example: wardgate-coordinator researcher revoke ana
    """
    Members(open_coordinator(home).engine).revoke(Role.RESEARCHER, name, now())
    print(f"researcher {name} is revoked; next: wardgate-coordinator roster propose")

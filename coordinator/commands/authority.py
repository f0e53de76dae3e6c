"""``authority``: the certificate authority for transport, and a new one after a theft."""

from __future__ import annotations

from typing import Annotated

import typer

from contract.errors import UsageError
from coordinator.commands.options import DEFAULT_HOME, HomeOption, now, open_coordinator
from coordinator.registry.authority import Authority
from foundation import commands
from foundation.transport import fingerprint

app = commands.application("The certificate authority: who can connect, and nothing else.")


@app.command("show")
def show(home: HomeOption = DEFAULT_HOME) -> None:
    """Show the authority's fingerprint, to be told by a channel of its own.

    Example: wardgate-coordinator authority show
    """
    print(fingerprint(Authority.load(open_coordinator(home).home).pem))


@app.command("renew")
def renew(
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Make a new authority and server key, for when the old ones may be in other hands.

    Nobody can connect afterwards until they joined again, with a new invitation each. Roster,
    projects and jobs stay: the authority has no part in them. Stop 'serve' before.

    Example: wardgate-coordinator authority renew
    """
    opened = open_coordinator(home)
    if not yes and not typer.confirm("Every member must join again afterwards. Renew it?"):
        raise UsageError("Nothing was changed.")
    # Without its certificate a home counts as not initialised: a crash here is mended by 'init'.
    for name in ("ca.crt", "ca.key"):
        (opened.home.authority / name).unlink(missing_ok=True)
    authority = Authority.create(opened.home, opened.consortium, now())
    print(f"authority fingerprint:\n  {fingerprint(authority.pem)}")
    print("next, for every member: wardgate-coordinator invite NAME; then they join again")

"""``steward``: who else decides at this hospital, where two people must."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from contract.errors import SignatureError, UsageError
from contract.keys import SigningKey, key_id
from foundation import commands
from foundation.clock import now
from foundation.files import read_bounded, write_new
from foundation.transport import MAX_PEM_BYTES
from node.catalog.asked import Asked
from node.catalog.inbox import Inbox
from node.commands.documents import StewardOption
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, node_home, record
from node.gate.inbox.stewards import allowed_keys, register
from node.home import NodeHome

app = commands.application("Stewards of this hospital, beside the one who joined.")

NameArgument = Annotated[str, typer.Argument(help="The steward's name, lower case.")]


def present_key(home: NodeHome, path: Path | None) -> SigningKey:
    """Return the steward's key at ``path``, or the home's; none is made."""
    return SigningKey.from_pem(read_bounded(path or home.steward_key, MAX_PEM_BYTES))


@app.command("key")
def make_key(
    path: Annotated[Path, typer.Argument(help="A new file for the key (mode 0600).")],
) -> None:
    """Make a steward's key, on that steward's own machine or stick, and show its public half.

    Example: wardgate-node steward key /media/stick/second.key
    """
    key = SigningKey.generate()
    write_new(path, key.to_pem(), 0o600)
    print(f"key {key.id}\npublic {key.public}")


@app.command("add")
def add(
    name: NameArgument,
    public: Annotated[str, typer.Argument(help="The public key that 'steward key' showed.")],
    key: StewardOption = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Register another steward of this hospital. The first steward signs it.

    Example: wardgate-node steward add jo rK3hI0q2mJk1m2n9Jd0b6q2zjv4o8mZ5b1m0z6hT3dE=
    """
    place = node_home(home)
    first = present_key(place, key)
    with catalogue(place) as catalog:
        if first.id not in _anchors(Asked(catalog.engine)):
            raise SignatureError("Only the steward with whose key this node joined adds others.")
        if key_id(public) in _anchors(Asked(catalog.engine)):
            raise UsageError("This is the first steward's own key; another person needs another.")
        envelope = register(first, name, public, now())
        record(place, "steward-added", steward=name, key=key_id(public))
        Inbox(catalog.engine).add_steward(key_id(public), name, envelope, now())
    print(f"{name} decides here too; key {key_id(public)}")


@app.command("list")
def list_stewards(home: HomeOption = DEFAULT_HOME) -> None:
    """List who decides here.

    Example: wardgate-node steward list
    """
    table = Table("steward", Column("key", overflow="fold"), "since")
    with catalogue(node_home(home)) as catalog:
        anchors = _anchors(Asked(catalog.engine))
        for anchor in anchors:
            table.add_row("the first", anchor, "joining")
        for row in Inbox(catalog.engine).stewards():
            valid = any(row.key_id in allowed_keys(a, [row.envelope]) for a in anchors)
            since = f"{row.added_at:%F}" if valid else "not signed by the first: doesn't count"
            table.add_row(row.name, row.key_id, since)
    Console(markup=False).print(table)


@app.command("remove")
def remove(name: NameArgument, home: HomeOption = DEFAULT_HOME) -> None:
    """Let a registered steward decide no more; what they decided and is still open counts no more.

    Example: wardgate-node steward remove jo
    """
    place = node_home(home)
    with catalogue(place) as catalog:
        record(place, "steward-removed", steward=name)
        Inbox(catalog.engine).remove_steward(name, now())
    print(f"{name} decides here no more")


def _anchors(asked: Asked) -> list[str]:
    return list(dict.fromkeys(row.anchor for row in asked.consortia()))

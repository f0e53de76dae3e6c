"""Options and steps that several commands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contract.errors import NotFound
from node.home import NodeHome

if TYPE_CHECKING:
    from node.catalog.store import Catalog
    from node.deid.pseudonyms import Pseudonyms

DEFAULT_HOME = Path("~/.wardgate/node")

HomeOption = Annotated[
    Path,
    typer.Option(
        "--home",
        envvar="WARDGATE_NODE_HOME",
        help="The node's folder.",
        show_default=str(DEFAULT_HOME),
    ),
]


def node_home(path: Path) -> NodeHome:
    """Return the node's home at ``path``; a leading ``~`` is the user's own folder."""
    return NodeHome(path.expanduser().absolute())


def existing_home(path: Path) -> NodeHome:
    """Return the home at ``path``; ``NotFound`` when there is no node."""
    home = node_home(path)
    if not home.root.is_dir():
        raise NotFound(f"There is no node at {home.root}; name it with --home.")
    return home


def intake_home(path: Path) -> NodeHome:
    """Return the home at ``path`` for a command that takes data in or looks at what came in.

    Where the settings give intake a user of its own, we are that user from here on.
    """
    from node.config import load_settings
    from node.intake.account import enter

    home = node_home(path)
    enter(home, load_settings(home).account)
    return home


def record(home: NodeHome, kind: str, **body: object) -> None:
    """Write a steward's decision on the ledger, before it is acted on."""
    from node.config import load_settings
    from node.gate.ledger import Ledger
    from node.intake.account import become_node

    # The ledger is the node's own user's, also when root decides.
    become_node(home, load_settings(home).account)
    Ledger(home.ledger).append(kind, body, datetime.now(UTC))


def keyed(home: NodeHome) -> Pseudonyms:
    """Return the node's keyed functions; ``NotFound`` when it has no key yet.

    Where intake has a user of its own, only that user and root read the key.
    """
    from node.config import load_settings
    from node.intake.account import root_again
    from node.intake.secret import node_pseudonyms

    key = load_settings(home).intake.pseudonym_key
    with root_again():
        return node_pseudonyms(home, key, create=False, ask=_ask_pin)


def _ask_pin(token: str) -> str:
    answer: str = typer.prompt(f"PIN of {token}", hide_input=True, err=True)
    return answer


@contextmanager
def catalogue(home: NodeHome, *, create: bool = False, url: str = "") -> Iterator[Catalog]:
    """Open the catalogue for a command: at ``url``, or where the node's settings say.

    Without ``create``, ``NotFound`` for a home that isn't there yet.
    """
    from node.catalog.store import Catalog
    from node.config import create_home, load_settings
    from node.intake.account import become_node

    if home.root.is_dir():
        become_node(home, load_settings(home).account)
    if create:
        create_home(home)
    elif not home.root.is_dir():
        raise NotFound(f"There is no node at {home.root}; name it with --home.")
    with Catalog.open(home, url or load_settings(home).database.url or None) as catalog:
        yield catalog

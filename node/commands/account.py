"""``separate``: landing, quarantine and keys for a user of their own."""

from __future__ import annotations

import pwd
from typing import Annotated

import typer

from contract.errors import NotFound, UsageError
from node.commands.options import DEFAULT_HOME, HomeOption, existing_home


def separate(
    node_user: Annotated[
        str, typer.Argument(help="The user that serves the consortium, by name or number.")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Give what comes in to account.user, so that the node's own user can't read it. As root.

    Example: sudo wardgate-node separate wardgate-node --home /var/lib/wardgate-node
    """
    from node.config import create_home, load_settings
    from node.intake import account

    place = existing_home(home)
    settings = load_settings(place).account
    wanted = account.account(settings)
    if wanted is None:
        raise UsageError("Set [account] user in node.toml first.")
    uid = _uid(node_user)
    if dry_run:
        print(
            f"landing, quarantine and keys would be user {settings.user}'s alone; the vault would "
            f"be its, readable by the group; all else would be {node_user}'s"
        )
        return
    if not account.is_separate(place, wanted):
        create_home(place)
    account.separate(place, wanted, uid)
    print(f"{settings.user} takes data in; {node_user} serves and can't read what comes in")


def _uid(user: str) -> int:
    if user.isascii() and user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise NotFound(f"There is no user {user!r} here.") from None

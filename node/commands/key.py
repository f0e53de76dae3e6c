"""``wardgate-node key``: the secret under which pseudonyms are made."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated

import typer

from contract.errors import AlreadyExists, DataError, NotFound, Refused
from foundation.commands import application
from node.commands.deid import ask_pin
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, existing_home
from node.home import NodeHome

app = application("The secret under which pseudonyms, UIDs and moved dates are made.")

MAX_NUMBERS_BYTES = 256 * 2**20
KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="A file, or a pkcs11: URI (RFC 7512).")
]


@app.command()
def make(
    key: KeyArgument,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Put this key file's secret there, instead of a new one."),
    ] = None,
) -> None:
    """Make a secret: a file of 32 bytes (mode 0600), or a key in a token that never shows it.

    With --from, a token makes the same pseudonyms as the file did. Delete the file then, but keep
    a copy where no network reaches it: a token can't be asked for the secret.

    Example: wardgate-node key make research.key

    Example: wardgate-node key make "$URI" --from pseudonym.key
    """
    from node.deid.pseudonyms import load_key
    from node.deid.tokens import make_key

    secret = None if source is None else load_key(source, create=False)
    made = make_key(key, secret=secret, ask=ask_pin)
    typer.echo(f"The key {made.fingerprint} is made.")


@app.command()
def show(
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="A file or a pkcs11: URI; empty: the node's own.")
    ] = "",
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Show a key's fingerprint, which tells it from others, and what the node made under its own.

    Example: wardgate-node key show
    """
    from node.deid.tokens import open_pseudonyms

    if key:
        typer.echo(f"key {open_pseudonyms(key, ask_pin).fingerprint}")
        return
    node = existing_home(home)
    place = _place(node)
    kind = "in a token" if place.startswith("pkcs11:") else "in a file"
    typer.echo(f"key {open_pseudonyms(place, ask_pin).fingerprint}, {kind}")
    subjects, _ = _held(node)
    typer.echo(f"{subjects} subjects have pseudonyms under it")


@app.command()
def rotate(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Replace the node's key file. Refused while anything that was made under it is there.

    A pseudonym can't be turned into another key's: what is in vault and releases keeps the key that
    it was made under, and one person must not have two pseudonyms in one catalogue. A node that
    holds data therefore begins anew in another home: see docs/reference/deid.md. The old key file
    is kept beside the new one.

    Example: wardgate-node key rotate --dry-run
    """
    from node.deid.pseudonyms import load_key
    from node.deid.tokens import make_key, open_pseudonyms

    node = existing_home(home)
    place = _place(node)
    if place.startswith("pkcs11:"):
        raise Refused("key-in-token", "The key is in a token: make another and name it.")
    old = open_pseudonyms(place)
    subjects, is_empty = _held(node)
    if not is_empty:
        raise Refused(
            "key-in-use",
            f"{subjects} subjects have pseudonyms under key {old.fingerprint}; begin a new home.",
        )
    path = Path(place).expanduser()
    kept = path.with_name(f"{path.name}.{old.fingerprint}")
    if kept.exists():
        raise AlreadyExists(f"{kept} exists already; it is a key that was replaced before.")
    if dry_run:
        typer.echo(f"Key {old.fingerprint} would be kept as {kept.name}, and a new one made.")
        return
    load_key(path, create=False)
    path.rename(kept)
    new = make_key(str(path))
    typer.echo(f"Key {new.fingerprint} is in use; {old.fingerprint} is kept as {kept.name}.")


@app.command("map")
def map_(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The old key: a file or pkcs11: URI.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new key: a file or pkcs11: URI.")],
    numbers: Annotated[
        Path, typer.Argument(metavar="NUMBERS", help="The hospital's patient numbers, one a line.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT.csv", help="A new file (mode 0600).")],
) -> None:
    """Write each patient's old and new pseudonym, where both keys are at hand.

    It holds no number, but links what two keys were to keep apart: delete it after use.

    Example: wardgate-node key map old.key new.key numbers.txt mapping.csv
    """
    from foundation.files import read_bounded, write_new
    from node.deid.tokens import open_pseudonyms

    before, after = open_pseudonyms(old, ask_pin), open_pseudonyms(new, ask_pin)
    try:
        text = read_bounded(numbers, MAX_NUMBERS_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{numbers} is no text in UTF-8.") from None
    listed = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not listed:
        raise NotFound(f"{numbers} has no numbers.")
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("old", "new"))
    writer.writerows((before.subject(one), after.subject(one)) for one in listed)
    write_new(target, out.getvalue().encode())
    typer.echo(f"{len(listed)} subjects, from key {before.fingerprint} to {after.fingerprint}.")


def _place(node: NodeHome) -> str:
    """Return where the node's own key is: as its settings say, or in its home."""
    from node.config import load_settings

    return load_settings(node).intake.pseudonym_key or str(node.pseudonym_key)


def _held(node: NodeHome) -> tuple[int, bool]:
    """Return how many subjects the catalogue holds, and whether nothing was ever taken in."""
    with catalogue(node) as catalog:
        return catalog.totals()[0], catalog.is_empty()

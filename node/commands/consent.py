"""``wardgate-node consent``: what subjects allow, and their withdrawal.

A hospital's own number is never an argument, which others on the machine could see: it is asked
for, read from standard input, or from a file.
"""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contract.errors import NotFound, UsageError
from foundation.commands import application
from foundation.files import read_bounded
from node.commands.options import (
    DEFAULT_HOME,
    HomeOption,
    catalogue,
    existing_home,
    keyed,
    record,
)

if TYPE_CHECKING:
    from node.catalog.consents import ConsentRow

MAX_NUMBERS_BYTES = 16 * 2**20
app = application("What subjects allow, and their withdrawal.")

FileOption = Annotated[
    Path | None,
    typer.Option(
        "--file", help="A file with the hospital's own numbers, one a line; - is standard input."
    ),
]


@app.command()
def withdraw(
    file: FileOption = None,
    unknown: Annotated[
        bool,
        typer.Option("--unknown", help="Also record numbers of which nothing is held yet."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be revoked; write nothing.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Record that patients withdrew their consent. It can't be undone.

    Every release that holds one of them is revoked at once, and running jobs over it are stopped.
    Later releases leave them out, and with them others at random. Without --file, one number is
    asked for.

    Example: wardgate-node consent withdraw

    Example: wardgate-node consent withdraw --file withdrawn.txt --dry-run
    """
    from node.catalog.consents import Consents

    node = existing_home(home)
    with catalogue(node) as catalog:
        pseudonyms = keyed(node)
        subjects = {pseudonyms.subject(number) for number in hospital_numbers(file)}
        consents = Consents(catalog, node, pseudonyms.days)
        coming = consents.look(subjects)
        if coming.unknown and not unknown:
            raise NotFound(
                f"Nothing is held of {coming.unknown} of {len(subjects)} numbers, so nothing was "
                "recorded. Check them; --unknown records them all the same."
            )
        if not dry_run:
            record(node, "consent-withdrawn", releases=list(coming.releases))
            coming = consents.withdraw(subjects, datetime.now(UTC))
        names = {r.digest: r.name for r in catalog.list_releases()}
    again = len(subjects) - coming.subjects
    before = f"; {again} had before" if again else ""
    would = "would withdraw" if dry_run else "withdrew"
    typer.echo(f"{coming.subjects} {would}{before}.")
    for digest in coming.releases:
        state = "would be revoked" if dry_run else "is revoked"
        typer.echo(f"Release {names.get(digest, '')} ({digest[:16]}) {state}.")
    if coming.releases and not dry_run:
        typer.echo("`release create` makes replacements, which leave others out at random too.")


@app.command("list")
def list_consents(home: HomeOption = DEFAULT_HOME) -> None:
    """Count the subjects by basis, purpose and whether it is in force, and those who withdrew.

    Example: wardgate-node consent list
    """
    from node.catalog.consents import Consents

    node = existing_home(home)
    with catalogue(node) as catalog:
        if catalog.is_empty():
            typer.echo("Nothing was taken in yet.")
            return
        consents = Consents(catalog, node, keyed(node).days)
        counts = consents.counts(datetime.now(UTC).date())
        withdrawn = consents.withdrawals()
    for (basis, purpose, holds), count in counts.items():
        state = "in force" if holds else "not in force"
        typer.echo(f"{count:>9}  {state:12}  {basis}  {purpose or '(no purpose)'}")
    if not counts:
        typer.echo("No consents are held; `consent add` or `ingest` brings them.")
    typer.echo(f"{withdrawn:>9}  withdrew")


@app.command()
def show(file: FileOption = None, home: HomeOption = DEFAULT_HOME) -> None:
    """Show one patient's consents, withdrawal and releases.

    Example: wardgate-node consent show
    """
    from node.catalog.consents import Consents

    node = existing_home(home)
    numbers = hospital_numbers(file)
    if len(numbers) != 1:
        raise UsageError("Name one number.")
    with catalogue(node) as catalog:
        pseudonyms = keyed(node)
        subject = pseudonyms.subject(numbers[0])
        standing = Consents(catalog, node, pseudonyms.days).standing(subject)
        names = {r.digest: r.name for r in catalog.list_releases()}
    if standing.withdrawn_at is not None:
        typer.echo(f"withdrew  {standing.withdrawn_at:%Y-%m-%d}")
    for consent in standing.consents:
        typer.echo(_line(consent, datetime.now(UTC).date()))
    if not standing.consents:
        typer.echo("No consent is held.")
    for digest in standing.releases:
        typer.echo(f"in release {names.get(digest, '')} ({digest[:16]})")


@app.command()
def add(
    path: Annotated[
        Path, typer.Argument(help="CSV with the columns number, basis, purposes, from, until.")
    ],
    source: Annotated[
        str, typer.Option(help="Where they are from; they replace all that this source had.")
    ] = "consents",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be taken in; write nothing.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Take a list of consents in. The whole list replaces the one before.

    Purposes are separated by semicolons; days are YYYY-MM-DD. The purpose faces covers pictures of
    the face.

    Example: wardgate-node consent add consents.csv
    """
    from contextlib import nullcontext

    from node.catalog.sources import CatalogClinicalStore
    from node.intake.consent_file import ConsentFile
    from node.intake.records import take_in
    from node.intake.run import only_intake

    node = existing_home(home)
    if not path.is_file():
        raise NotFound("The file of consents does not exist.")
    with catalogue(node) as catalog, nullcontext() if dry_run else only_intake(node):
        pseudonyms = keyed(node)
        report = take_in(
            ConsentFile(path, pseudonyms),
            source,
            node,
            CatalogClinicalStore(catalog),
            pseudonyms,
            now=datetime.now(UTC),
            dry_run=dry_run,
        )
    for line in report.lines():
        typer.echo(line)


def _line(consent: ConsentRow, today: date) -> str:
    period = f"from {consent.starts or 'always'} until {consent.ends or 'further notice'}"
    state = "in force" if consent.holds(today) else "not in force"
    purposes = ", ".join(consent.purposes) or "no purpose"
    return f"{state}  {consent.basis}  {purposes}  {period}  ({consent.source})"


def hospital_numbers(file: Path | None) -> list[str]:
    """Return the hospital's own numbers: from a file, standard input, or the keyboard."""
    if file is None and sys.stdin.isatty():
        text = str(typer.prompt("The patient's number", hide_input=True))
    elif file is None or str(file) == "-":
        data = sys.stdin.buffer.read(MAX_NUMBERS_BYTES + 1)
        if len(data) > MAX_NUMBERS_BYTES:
            raise UsageError("That are too many numbers at once.")
        text = _decoded(data)
    else:
        text = _decoded(read_bounded(file, MAX_NUMBERS_BYTES))
    numbers = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not numbers:
        raise UsageError("No number was given.")
    return numbers


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError("The numbers are not UTF-8 text.") from None

"""``wardgate-node ingest``: take images and tables in, de-identified."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contract.errors import NotFound, UsageError
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, node_home
from node.home import NodeHome

if TYPE_CHECKING:
    from node.catalog.store import Catalog
    from node.deid.pseudonyms import Pseudonyms
    from node.intake.run import IntakeReport
    from node.intake.tables import TableReport

PathsArgument = Annotated[
    list[Path], typer.Argument(help="Folders and files; every file below a folder is taken in.")
]
ProfileOption = Annotated[
    str, typer.Option("--profile", help="basic, longitudinal, or a profile's TOML file.")
]


def ingest(
    paths: PathsArgument,
    schema: Annotated[
        Path | None, typer.Option(help="The schema (TOML) of the CSV file that PATH names.")
    ] = None,
    lenient: Annotated[
        bool,
        typer.Option(
            "--lenient", help="Take cells out of range or of an unknown level as missing."
        ),
    ] = False,
    profile: ProfileOption = "basic",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would become of each file; write nothing.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Take DICOM trees in, or a CSV table with its schema. Nothing identified stays readable.

    The same command again takes in what is new. What can't be made safe goes to quarantine.

    Example: wardgate-node ingest /landing/pacs

    Example: wardgate-node ingest trial.csv --schema trial.toml
    """
    node = node_home(home)
    with catalogue(node, create=not dry_run) as catalog:
        pseudonyms = _pseudonyms(node, catalog, dry_run)
        if schema is not None:
            lines = _table(node, catalog, pseudonyms, paths, schema, lenient, dry_run)
        else:
            lines = _trees(node, catalog, pseudonyms, paths, profile, dry_run)
    if dry_run:
        typer.echo("Nothing was written; this would become of the files:")
    for line in lines:
        typer.echo(line)


def _pseudonyms(node: NodeHome, catalog: Catalog, dry_run: bool) -> Pseudonyms:
    from node.deid.pseudonyms import KEY_BYTES, Pseudonyms, load_key

    # With another key, subjects that were taken in before would get a second pseudonym.
    first = catalog.is_empty()
    if first and dry_run and not node.pseudonym_key.exists():
        return Pseudonyms(secrets.token_bytes(KEY_BYTES))
    return Pseudonyms(load_key(node.pseudonym_key, create=first))


def _table(
    node: NodeHome,
    catalog: Catalog,
    pseudonyms: Pseudonyms,
    paths: list[Path],
    schema: Path,
    lenient: bool,
    dry_run: bool,
) -> list[str]:
    from node.intake.run import only_intake
    from node.intake.schema import read_schema
    from node.intake.tables import MAX_CSV_BYTES, ingest_table

    declared = read_schema(schema)
    if len(paths) != 1 or paths[0].is_dir():
        raise UsageError("A schema is that of one CSV file; name this file alone.")
    if not paths[0].is_file():
        raise NotFound("The CSV file does not exist.")
    if paths[0].stat().st_size > MAX_CSV_BYTES:
        raise UsageError("The CSV file is larger than a table may be.")
    with only_intake(node):
        report = ingest_table(
            paths[0].read_bytes(),
            declared,
            pseudonyms,
            catalog,
            node,
            now=datetime.now(UTC),
            lenient=lenient,
            dry_run=dry_run,
        )
    return _table_lines(report)


def _table_lines(report: TableReport) -> list[str]:
    state = " (taken in before; nothing changed)" if report.unchanged else ""
    lines = [f"Table {report.table}: {report.rows} rows of {report.subjects} subjects{state}."]
    if report.dropped:
        lines.append(f"Dropped, as text or identifiers: {', '.join(report.dropped)}.")
    for variable, count in report.made_missing.items():
        lines.append(f"Made missing: {count} of {variable}.")
    return lines


def _trees(
    node: NodeHome,
    catalog: Catalog,
    pseudonyms: Pseudonyms,
    paths: list[Path],
    profile: str,
    dry_run: bool,
) -> list[str]:
    if any(path.suffix.lower() == ".csv" and path.is_file() for path in paths):
        raise UsageError("A CSV file is taken in with its schema: --schema SCHEMA.toml.")
    from node.deid.engine import Deidentifier
    from node.deid.profile import load_profile
    from node.intake.run import ingest as run

    deidentifier = Deidentifier(load_profile(profile), pseudonyms)
    with _progress(paths) as observe:
        report = run(
            paths,
            node,
            catalog,
            deidentifier,
            clock=lambda: datetime.now(UTC),
            dry_run=dry_run,
            observe=observe,
        )
    return report.lines()


@contextmanager
def _progress(paths: list[Path]) -> Iterator[Callable[[IntakeReport], None]]:
    """Show rate and remaining time on a terminal; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield lambda report: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from node.intake.walk import walk

    total = sum(1 for found in walk(paths) if found.kind == "file")
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task("Taking in", total=total, rate="")

        def observe(report: IntakeReport) -> None:
            speed = bar.tasks[0].speed or 0.0
            quarantined = report.quarantined.total()
            bar.update(
                task,
                completed=report.files,
                rate=f"{speed:.0f} files/s, {quarantined} quarantined",
            )

        yield observe

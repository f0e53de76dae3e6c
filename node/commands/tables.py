"""The part of ``wardgate-node ingest`` that takes tables and records: CSV, Parquet, FHIR, OMOP."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from contract.errors import NotFound, StorageError, UsageError
from foundation.files import write_durably
from node.home import NodeHome

if TYPE_CHECKING:
    from node.catalog.store import Catalog
    from node.deid.pseudonyms import Pseudonyms
    from node.intake.clinical import ClinicalStore
    from node.intake.quality import QualityReport
    from node.intake.records import Source
    from node.intake.tables import TableReport

_SOURCE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
MAX_TABLE_BYTES = 64 * 2**30
"""Of one CSV or Parquet file."""


def clinical_store(catalog: Catalog) -> ClinicalStore:
    """Return where the catalogue keeps records."""
    from node.catalog.sources import CatalogClinicalStore

    return CatalogClinicalStore(catalog)


def take_table(
    node: NodeHome,
    catalog: Catalog,
    pseudonyms: Pseudonyms,
    paths: Sequence[Path],
    schema: Path,
    *,
    lenient: bool = False,
    dry_run: bool = False,
    quality: Path | None = None,
) -> list[str]:
    """Take one CSV or Parquet file in with its schema; return the summary.

    ``quality`` names a JSON file for the quality report, which is also written when the table is
    refused.
    """
    from node.intake.run import only_intake
    from node.intake.schema import read_schema
    from node.intake.tables import Unfit, ingest_table

    declared = read_schema(schema)
    if len(paths) != 1 or paths[0].is_dir():
        raise UsageError("A schema is that of one CSV or Parquet file; name this file alone.")
    path = paths[0]
    if not path.is_file():
        raise NotFound("The table's file does not exist.")
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise UsageError("The file is larger than a table may be; split it.")
    _check_export(quality)
    try:
        with nullcontext() if dry_run else only_intake(node):
            report = ingest_table(
                path.resolve(),
                declared,
                pseudonyms,
                catalog,
                node,
                now=datetime.now(UTC),
                lenient=lenient,
                dry_run=dry_run,
                store=clinical_store(catalog),
            )
    except Unfit as unfit:
        _export(quality, unfit.quality)
        for line in unfit.quality.lines():
            typer.echo(line)
        raise
    if not report.unchanged:
        _export(quality, report.quality)
    return table_lines(report)


def take_fhir(
    node: NodeHome,
    catalog: Catalog,
    pseudonyms: Pseudonyms,
    paths: Sequence[Path],
    *,
    source: str = "fhir",
    identifier: str = "MR",
    code_systems: Sequence[str] = (),
    dry_run: bool = False,
    quality: Path | None = None,
) -> list[str]:
    """Take a FHIR R4 bulk export in (a folder, or an NDJSON file); return the summary.

    ``source`` is the export's name here: another under that name replaces it.
    """
    from node.intake.fhir.export import FhirSource, export_files

    files = export_files(_only(paths, "A FHIR export"))
    with progress() as observe:
        made = FhirSource(files, pseudonyms, identifier, tuple(code_systems), observe)
        return _take(made, source, node, catalog, pseudonyms, dry_run, quality)


def take_omop(
    node: NodeHome,
    catalog: Catalog,
    pseudonyms: Pseudonyms,
    paths: Sequence[Path],
    *,
    source: str = "omop",
    by_person_id: bool = False,
    dry_run: bool = False,
    quality: Path | None = None,
) -> list[str]:
    """Take a folder of OMOP CDM tables in; return the summary.

    ``source`` is the CDM's name here: another under that name replaces it.
    """
    from node.intake.omop.export import OmopSource, cdm_files

    files = cdm_files(_only(paths, "An OMOP CDM"))
    with progress() as observe:
        made = OmopSource(files, pseudonyms, by_person_id, observe)
        return _take(made, source, node, catalog, pseudonyms, dry_run, quality)


def table_lines(report: TableReport) -> list[str]:
    """Return the summary of a table."""
    state = " (taken in before; nothing changed)" if report.unchanged else ""
    lines = [f"Table {report.table}: {report.rows} rows of {report.subjects} subjects{state}."]
    if report.dropped:
        lines.append(f"Dropped, as text or identifiers: {', '.join(report.dropped)}.")
    for variable, count in report.made_missing.items():
        lines.append(f"Made missing: {count} of {variable}.")
    if report.observations:
        lines.append(f"Observations: {report.observations}.")
    if not report.unchanged:
        lines += report.quality.lines()
    return lines


@contextmanager
def progress() -> Iterator[Callable[[int, int], None]]:
    """Show bytes read and the remaining time on a terminal; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task("Reading", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _take(
    made: Source,
    name: str,
    node: NodeHome,
    catalog: Catalog,
    pseudonyms: Pseudonyms,
    dry_run: bool,
    quality: Path | None,
) -> list[str]:
    from node.intake.records import take_in
    from node.intake.run import only_intake

    if not _SOURCE.fullmatch(name):
        raise UsageError("A source's name is of lower-case letters, digits, '.', '_' and '-'.")
    _check_export(quality)
    with nullcontext() if dry_run else only_intake(node):
        report = take_in(
            made,
            name,
            node,
            clinical_store(catalog),
            pseudonyms,
            now=datetime.now(UTC),
            dry_run=dry_run,
        )
    if not report.unchanged:
        _export(quality, report.quality)
    return report.lines()


def _only(paths: Sequence[Path], what: str) -> Path:
    if len(paths) != 1:
        raise UsageError(f"{what} is one folder; name it alone.")
    return paths[0]


def _check_export(path: Path | None) -> None:
    """Raise before long work what would be raised after it."""
    if path is not None and not path.absolute().parent.is_dir():
        raise NotFound(f"The folder of {path} does not exist.")
    if path is not None and path.is_dir():
        raise StorageError(f"{path} is a folder; name a file for the quality report.")


def _export(path: Path | None, report: QualityReport) -> None:
    if path is not None:
        write_durably(path.absolute(), report.to_bytes())

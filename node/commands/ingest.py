"""``wardgate-node ingest``: take images, tables and records in, de-identified."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from contract.errors import NotFound, UsageError
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, intake_home
from node.home import NodeHome

if TYPE_CHECKING:
    from node.catalog.store import Catalog
    from node.config import IntakeSettings
    from node.deid.engine import Deidentifier
    from node.deid.pseudonyms import Pseudonyms

ProfileOption = Annotated[
    str,
    typer.Option(
        "--profile",
        help="basic, longitudinal, research, or a profile's TOML file.",
        show_default="[intake] profile",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=1024,
        help="Processes at work; 0: as many as there are cores.",
        show_default="[intake] workers",
    ),
]
ManifestOption = Annotated[
    Path | None,
    typer.Option(
        help="CSV that says whose slides, photographs, volumes and reports are: path, patient, ..."
    ),
]


def ingest(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders and files; every file below a folder is taken in."),
    ] = None,
    manifest: ManifestOption = None,
    landing: Annotated[
        bool, typer.Option("--landing", help="Take in what waits in the landing instead.")
    ] = False,
    schema: Annotated[
        Path | None,
        typer.Option(help="The schema (TOML) of the CSV or Parquet file that PATH names."),
    ] = None,
    fhir: Annotated[
        bool, typer.Option("--fhir", help="PATH is a FHIR R4 bulk export (NDJSON).")
    ] = False,
    omop: Annotated[
        bool, typer.Option("--omop", help="PATH is a folder of OMOP CDM tables.")
    ] = False,
    source: Annotated[
        str,
        typer.Option(
            help="What a FHIR or OMOP export is called here; another of that name replaces it."
        ),
    ] = "",
    identifier: Annotated[
        str, typer.Option(help="FHIR: type or system of the identifier that is the hospital's.")
    ] = "MR",
    code_system: Annotated[
        list[str] | None, typer.Option(help="FHIR: a code system of our own to keep too.")
    ] = None,
    by_person_id: Annotated[
        bool,
        typer.Option("--by-person-id", help="OMOP: person_id is the hospital's number."),
    ] = False,
    quality: Annotated[
        Path | None, typer.Option(help="Write the quality report of a table or export (JSON).")
    ] = None,
    lenient: Annotated[
        bool,
        typer.Option(
            "--lenient", help="Take cells out of range or of an unknown level as missing."
        ),
    ] = False,
    profile: ProfileOption = "",
    workers: WorkersOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would become of each file; write nothing.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Take files in: DICOM, slides, photographs, volumes, reports; or a table, or records.

    Nothing identified stays readable. The same command again takes in what is new or changed, and
    goes on where it was killed. What can't be made safe goes to quarantine, with a reason.

    Example: wardgate-node ingest /landing/pacs

    Example: wardgate-node ingest slides photographs --manifest manifest.csv --workers 8

    Example: wardgate-node ingest trial.csv --schema trial.toml

    Example: wardgate-node ingest export --fhir --quality quality.json
    """
    from node.config import load_settings

    given = list(paths or ())
    _check(given, manifest, landing=landing, forms=[schema is not None, fhir, omop])
    node = intake_home(home)
    if given:
        from node.intake.run import check_paths

        # Before a home is made for nothing.
        for number, path in enumerate(given, 1):
            if not path.exists():
                raise NotFound(f"Path {number} of {len(given)} does not exist.")
        check_paths(given, node)
    with ExitStack() as stack:
        if fresh := dry_run and not node.root.is_dir():
            # Whoever asks first what would become of the files has no node yet.
            node = NodeHome(Path(stack.enter_context(TemporaryDirectory(prefix="wardgate-"))))
        catalog = stack.enter_context(catalogue(node, create=fresh or not dry_run))
        settings = load_settings(node).intake
        pseudonyms = command_pseudonyms(node, catalog, settings, dry_run=dry_run)
        if schema is not None or fhir or omop:
            from node.commands import tables

            if schema is not None:
                lines = tables.take_table(
                    node,
                    catalog,
                    pseudonyms,
                    given,
                    schema,
                    lenient=lenient,
                    dry_run=dry_run,
                    quality=quality,
                )
            elif fhir:
                lines = tables.take_fhir(
                    node,
                    catalog,
                    pseudonyms,
                    given,
                    source=source or "fhir",
                    identifier=identifier,
                    code_systems=code_system or (),
                    dry_run=dry_run,
                    quality=quality,
                )
            else:
                lines = tables.take_omop(
                    node,
                    catalog,
                    pseudonyms,
                    given,
                    source=source or "omop",
                    by_person_id=by_person_id,
                    dry_run=dry_run,
                    quality=quality,
                )
        else:
            deidentifier = command_deidentifier(settings, pseudonyms, profile)
            if landing:
                lines = _landing(node, catalog, deidentifier, settings, workers, dry_run=dry_run)
            else:
                lines = _trees(
                    node, catalog, deidentifier, settings, given, manifest, workers, dry_run=dry_run
                )
    if dry_run:
        typer.echo("Nothing was written; this would become of the files:")
    for line in lines:
        typer.echo(line)


def command_pseudonyms(
    node: NodeHome, catalog: Catalog, settings: IntakeSettings, *, dry_run: bool = False
) -> Pseudonyms:
    """Return the node's pseudonyms; their key is made only while nothing was taken in yet."""
    from node.deid.pseudonyms import KEY_BYTES, Pseudonyms
    from node.intake.secret import node_pseudonyms

    # With another key, subjects that were taken in before would get a second pseudonym.
    first = catalog.is_empty()
    if first and dry_run and not settings.pseudonym_key and not node.pseudonym_key.exists():
        return Pseudonyms(secrets.token_bytes(KEY_BYTES))
    return node_pseudonyms(node, settings.pseudonym_key, create=first, ask=_ask)


def command_deidentifier(
    settings: IntakeSettings, pseudonyms: Pseudonyms, profile: str = ""
) -> Deidentifier:
    """Return the de-identifier of the settings, or of another profile."""
    from node.deid.engine import Deidentifier
    from node.deid.lists import load_lists
    from node.deid.profile import load_profile

    lists = load_lists(Path(settings.lists).expanduser()) if settings.lists else None
    return Deidentifier(load_profile(profile or settings.profile), pseudonyms, lists)


def _ask(token: str) -> str:
    answer: str = typer.prompt(f"PIN of {token}", hide_input=True, err=True)
    return answer


def _check(paths: list[Path], manifest: Path | None, *, landing: bool, forms: list[bool]) -> None:
    if sum(forms) + landing > 1:
        raise UsageError("Choose one of --landing, --schema, --fhir and --omop.")
    if landing and (paths or manifest is not None):
        raise UsageError("--landing takes no PATH and no --manifest.")
    if not landing and not paths:
        raise UsageError("Name a PATH, or --landing.")
    if any(forms):
        if manifest is not None:
            raise UsageError("A table needs no --manifest; its schema says what it is.")
    elif any(path.suffix.lower() in (".csv", ".parquet") and path.is_file() for path in paths):
        raise UsageError("A table is taken in with its schema: --schema SCHEMA.toml.")


def _trees(
    node: NodeHome,
    catalog: Catalog,
    deidentifier: Deidentifier,
    settings: IntakeSettings,
    paths: list[Path],
    manifest: Path | None,
    workers: int | None,
    *,
    dry_run: bool,
) -> list[str]:
    from node.commands.intake_progress import counted, progress
    from node.intake.crew import open_crew
    from node.intake.manifest import read_manifest
    from node.intake.run import ingest as run

    listed = None if manifest is None else read_manifest(manifest)
    with (
        open_crew(settings, deidentifier, workers) as crew,
        progress(lambda: counted(paths)) as observe,
    ):
        report = run(
            paths,
            node,
            catalog,
            deidentifier,
            clock=_now,
            crew=crew,
            manifest=listed,
            faces=settings.faces,
            key=settings.pseudonym_key,
            dry_run=dry_run,
            observe=observe,
        )
    lines = report.lines()
    if listed is not None and (lost := listed.without_file()):
        lines.append(f"{lost} of {len(listed)} lines of the manifest name no file; a path is from")
        lines.append("the manifest's own folder.")
    return lines


def _landing(
    node: NodeHome,
    catalog: Catalog,
    deidentifier: Deidentifier,
    settings: IntakeSettings,
    workers: int | None,
    *,
    dry_run: bool,
) -> list[str]:
    from node.commands.intake_progress import progress
    from node.intake.crew import open_crew
    from node.intake.landing import Landing
    from node.intake.landing_intake import LandingIntake

    landing = Landing(node)
    with (
        open_crew(settings, deidentifier, workers) as crew,
        progress(landing.count) as observe,
        LandingIntake(
            node,
            catalog,
            deidentifier,
            landing,
            _now,
            crew=crew,
            key=settings.pseudonym_key,
            dry_run=dry_run,
            observe=observe,
        ) as intake,
    ):
        intake.once()
        return intake.report.lines()


def _now() -> datetime:
    return datetime.now(UTC)

"""``wardgate-node catalogue``: what is held, counted, and what was found wrong with it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from foundation.commands import application
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, existing_home
from node.commands.selecting import (
    BodyPartOption,
    DeviceOption,
    FromOption,
    HasOption,
    KindOption,
    ModalityOption,
    PurposeOption,
    StainOption,
    TableOption,
    UntilOption,
    WhereOption,
    day_of,
    days_for,
    selection_of,
)

app = application("What is held, counted, and what was found wrong with it.")


@app.command()
def show(home: HomeOption = DEFAULT_HOME) -> None:
    """Show what is held: subjects, assets by kind, tables and sources of records.

    Example: wardgate-node catalogue show
    """
    from node.catalog.sources import CatalogClinicalStore

    node = existing_home(home)
    with catalogue(node) as catalog:
        subjects, studies = catalog.totals()
        kinds = catalog.assets_by(("kind", "modality"))
        parts = catalog.assets_by(("body_part",))
        tables = catalog.list_tables()
        store = CatalogClinicalStore(catalog)
        sources, findings = store.sources(), store.findings()
    typer.echo(f"{subjects:>12}  subjects")
    typer.echo(f"{studies:>12}  studies")
    for (kind, modality), count in kinds.items():
        typer.echo(f"{count:>12}  {kind} {modality or '(no modality)'}")
    for (part,), count in sorted(parts.items(), key=lambda item: -item[1])[:20]:
        typer.echo(f"{count:>12}  assets of {part or '(no body part)'}")
    for table in tables:
        typer.echo(f"{table.rows:>12}  rows of table {table.name} ({table.subjects} subjects)")
    for source in sources:
        typer.echo(f"{source.rows:>12}  observations of {source.name} ({source.kind})")
    if findings:
        typer.echo(f"{sum(f.count for f in findings):>12}  findings; see `catalogue quality`")


@app.command()
def count(
    where: WhereOption = None,
    table: TableOption = None,
    kind: KindOption = None,
    modality: ModalityOption = None,
    body_part: BodyPartOption = None,
    stain: StainOption = None,
    device: DeviceOption = None,
    first: FromOption = None,
    until: UntilOption = None,
    has: HasOption = None,
    purpose: PurposeOption = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Count the subjects, studies and assets of a cohort. Withdrawn subjects don't count.

    The numbers are exact: they are for the hospital's own eyes.

    Example: wardgate-node catalogue count --modality CT --body-part CHEST --from 2020-01-01

    Example: wardgate-node catalogue count --where melanoma.toml
    """
    from node.catalog.cohorts import Cohorts
    from node.catalog.members import TableSubjects

    selection = selection_of(
        where,
        table=table,
        kind=kind,
        modality=modality,
        body_part=body_part,
        stain=stain,
        device=device,
        first=day_of(first),
        until=day_of(until),
        has=has,
        purpose=purpose,
    )
    node = existing_home(home)
    with catalogue(node) as catalog:
        tables = TableSubjects(catalog, node)
        tables.number(selection)
        days = days_for(node, selection)
        with catalog.snapshot() as connection:
            cohort = Cohorts(connection, datetime.now(UTC).date(), days, tables).count(selection)
    typer.echo(f"{cohort.subjects:>12}  subjects")
    if selection.assets is not None:
        typer.echo(f"{cohort.studies:>12}  studies")
        typer.echo(f"{cohort.assets:>12}  assets")


@app.command()
def quality(
    source: Annotated[str | None, typer.Option(help="Of this table or source only.")] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Show what was found wrong with the data taken in, by rule and count.

    Example: wardgate-node catalogue quality
    """
    from node.catalog.sources import CatalogClinicalStore
    from node.intake.quality import RULES

    node = existing_home(home)
    with catalogue(node) as catalog:
        findings = CatalogClinicalStore(catalog).findings()
    shown = [f for f in findings if source in (None, f.source)]
    for finding in shown:
        meaning = RULES.get(finding.rule, "")
        typer.echo(
            f"{finding.count:>12}  {finding.source}  {finding.rule}  {finding.where}  {meaning}"
        )
    if not shown:
        typer.echo("Nothing was found.")

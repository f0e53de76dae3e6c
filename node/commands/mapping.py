"""``wardgate-node mapping``: this site's data brought to a project's variable dictionary."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from contract.errors import DataError, UsageError
from foundation import commands
from node.catalog.dictionary import Dictionary, read_dictionary, to_toml
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, existing_home
from node.home import NodeHome

if TYPE_CHECKING:
    from node.catalog.mapping.coverage import CoverageReport
    from node.catalog.mapping.file import Mapping
    from node.catalog.mapping.making import NodeSources
    from node.catalog.store import Catalog

app = commands.application("A mapping of this site's data to a project's variable dictionary.")

DictionaryArgument = Annotated[
    str, typer.Argument(metavar="PROJECT|DICTIONARY.toml", help="A project, or a dictionary.")
]
MappingArgument = Annotated[Path, typer.Argument(metavar="MAPPING.toml", help="The mapping.")]
ConsortiumOption = Annotated[
    str | None, typer.Option("--consortium", help="Whose project (when there are several).")
]


@app.command("check")
def check(
    dictionary: DictionaryArgument,
    mapping: MappingArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    coarse: Annotated[
        bool,
        typer.Option("--coarse", help="No counts, shares in steps of 5 %: what may be shown."),
    ] = False,
    max_missing: Annotated[
        float, typer.Option(min=0, max=1, help="Largest share missing of what counts as covered.")
    ] = 1.0,
    consortium: ConsortiumOption = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Check a mapping, and show how much of the dictionary this site's data covers, by variable.

    Ends with exit code 9 when a required variable is not covered.

    Example: wardgate-node mapping check preterm.toml mapping.toml

    Example: wardgate-node mapping check preterm mapping.toml --json --coarse
    """
    from node.catalog.mapping.coverage import CoverageReport
    from node.catalog.mapping.evaluation import apply_mapping
    from node.commands.tables import progress

    with catalogue(existing_home(home)) as catalog:
        wanted, given, sources = _read(catalog, home, dictionary, mapping, consortium)
        with progress() as observe:
            mapped = apply_mapping(wanted, given, sources, observe=observe)
    report = CoverageReport.of(wanted.name, mapped, max_missing)
    if as_json:
        print(json.dumps(report.to_json(coarse=coarse), indent=2, sort_keys=True))
    else:
        _show(report, coarse=coarse)
    _check_ready(report)
    if not as_json:
        print("ready: every required variable is covered")


@app.command("apply")
def apply(
    dictionary: DictionaryArgument,
    mapping: MappingArgument,
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Make the table without a required variable too.")
    ] = False,
    consortium: ConsortiumOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be made; write nothing.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Make the mapped table in the vault: a row for each subject, the dictionary's variables.

    It replaces what an earlier mapping made under its name; `release create` freezes it.

    Example: wardgate-node mapping apply preterm.toml mapping.toml
    """
    from contextlib import nullcontext

    from node.catalog.mapping.coverage import CoverageReport
    from node.catalog.mapping.making import make_table
    from node.catalog.sources import CatalogClinicalStore
    from node.commands.tables import progress
    from node.intake.run import only_intake

    node = existing_home(home)
    with catalogue(node) as catalog:
        wanted, given, sources = _read(catalog, home, dictionary, mapping, consortium)
        with nullcontext() if dry_run else only_intake(node), progress() as observe:
            made = make_table(
                wanted,
                given,
                sources,
                CatalogClinicalStore(catalog),
                now=datetime.now(UTC),
                needs_all=not incomplete,
                dry_run=dry_run,
                observe=observe,
            )
    report = CoverageReport.of(wanted.name, made.mapped)
    _show(report)
    name = given.table or wanted.table
    if dry_run:
        print("Nothing was written; this would become of the table:")
    state = " (as before; nothing changed)" if made.unchanged else ""
    columns = made.mapped.frame.width - 1
    print(f"Table {name}: {made.mapped.subjects} subjects, {columns} variables{state}.")


@app.command("dictionary")
def dictionary(
    project: DictionaryArgument,
    consortium: ConsortiumOption = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Print a project's variable dictionary as TOML; of a table's schema, a first draft of one.

    Example: wardgate-node mapping dictionary preterm

    Example: wardgate-node mapping dictionary visits.schema.toml
    """
    if project.endswith(".toml"):
        print(to_toml(read_dictionary(Path(project))), end="")
        return
    with catalogue(existing_home(home)) as catalog:
        print(to_toml(find_dictionary(existing_home(home), catalog, project, consortium)), end="")


def _read(
    catalog: Catalog, home: Path, dictionary: str, mapping: Path, consortium: str | None
) -> tuple[Dictionary, Mapping, NodeSources]:
    from node.catalog.mapping.file import read_mapping
    from node.catalog.mapping.making import NodeSources
    from node.catalog.observed import ObservationReader

    node = existing_home(home)
    wanted = find_dictionary(node, catalog, dictionary, consortium)
    given = read_mapping(mapping)
    if given.dictionary != wanted.name:
        raise UsageError(f"The mapping is one to {given.dictionary}, not to {wanted.name}.")
    unknown = [name for name in given.variables if wanted.variable(name) is None]
    if unknown:
        raise UsageError(f"The dictionary has no variable {unknown[0]}, which the mapping names.")
    derived = {v.name for v in wanted.variables if v.derive is not None} & set(given.variables)
    if derived:
        raise UsageError(f"The dictionary derives {min(derived)} itself; the mapping names it too.")
    return wanted, given, NodeSources(catalog, node, ObservationReader(catalog))


def find_dictionary(
    node: NodeHome, catalog: Catalog, name: str, consortium: str | None
) -> Dictionary:
    """Return a dictionary's file, or the dictionary of a project of that name."""
    if name.endswith(".toml"):
        return read_dictionary(Path(name))
    return _of_project(node, catalog, name, consortium)


def _of_project(node: NodeHome, catalog: Catalog, name: str, consortium: str | None) -> Dictionary:
    from contract.documents import Project
    from contract.envelope import Envelope
    from node.catalog.asked import Asked
    from node.commands.documents import find_consortium, find_project

    row = find_consortium(catalog, consortium)
    for known in Asked(catalog.engine).projects(row.name):
        if known.name == name:
            return Dictionary.of_project(Project.read(Envelope.parse(known.envelope).body))
    return Dictionary.of_project(find_project(node, row, name)[1])


def _show(report: CoverageReport, *, coarse: bool = False) -> None:
    table = Table("variable", "required", "state", "present", "missing", "why")
    for one in report.variables:
        present = "" if coarse else str(one.result.present)
        share = one.to_coarse_json()["missing_share"] if coarse else one.missing_share
        why = (one.result.problem or "") if coarse else one.why
        required = "yes" if one.result.required else ""
        table.add_row(one.result.name, required, one.state, present, f"{share:.0%}", why)
    Console(markup=False).print(table)
    if not coarse:
        print(f"{report.subjects} subjects")


def _check_ready(report: CoverageReport) -> None:
    required = sum(1 for one in report.variables if one.result.required)
    if not report.is_ready:
        names = ", ".join(report.lacking[:5]) + (", ..." if report.lacking[5:] else "")
        raise DataError(
            f"Not ready: {len(report.lacking)} of {required} required variables are not covered: "
            f"{names}."
        )

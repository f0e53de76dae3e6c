"""``roster`` and ``project``: what the coordinator puts up for the stewards to sign."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from contract.documents import PROJECT_TYPE, ROSTER_TYPE, Member, Project, Roster
from contract.errors import ConfigurationError, DocumentError, NotFound
from coordinator.commands.options import DEFAULT_HOME, HomeOption, Opened, now, open_coordinator
from coordinator.registry.documents import DocumentShelf
from coordinator.registry.members import Members
from foundation import commands
from foundation.files import read_bounded
from foundation.settings import MAX_SETTINGS_BYTES, check_keys
from foundation.transport import Role

CLOCK_SKEW = timedelta(minutes=2)
"""How far a hospital's clock may be behind ours."""

roster = commands.application("The roster: who is in the consortium.")
project = commands.application("Projects: what hospitals agree to, once.")
NOT_PROPOSED = "nothing was proposed"


@roster.command("propose")
def propose_roster(
    threshold: Annotated[
        int | None,
        typer.Option(help="How many stewards must sign documents (default: more than half)."),
    ] = None,
    days: Annotated[int, typer.Option(help="Validity; a stale roster stops all work.")] = 90,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show it.")] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Propose a roster of all members that aren't revoked. Stewards then sign it at their nodes.

    Example: wardgate-coordinator roster propose --threshold 3
    """
    opened = open_coordinator(home)
    members = Members(opened.engine)
    sites = [m for m in members.all(Role.SITE) if m.revoked_at is None]
    researchers = [m for m in members.all(Role.RESEARCHER) if m.revoked_at is None]
    if not sites:
        raise NotFound("No site has joined yet, so there is nobody to sign a roster.")
    shelf = DocumentShelf(opened.engine)
    version = shelf.latest_version("roster", opened.consortium) + 1
    try:
        document = Roster(
            consortium=opened.consortium,
            issued_at=now() - CLOCK_SKEW,
            expires_at=now() + timedelta(days=days),
            version=version,
            threshold=threshold or len(sites) // 2 + 1,
            stewards=tuple(Member(name=m.name, key=m.steward_key) for m in sites),
            sites=tuple(Member(name=m.name, key=m.signing_key) for m in sites),
            researchers=tuple(Member(name=m.name, key=m.signing_key) for m in researchers),
            projects={d.name: d.version for d in shelf.all("published") if d.kind == "project"},
        )
    except ValidationError as error:
        raise DocumentError(f"This roster can't be: {error.errors()[0]['msg']}.") from None
    envelope = document.seal(ROSTER_TYPE)
    print(
        f"roster version {version}: sites {len(sites)}, researchers {len(researchers)}, "
        f"threshold {document.threshold}"
    )
    if dry_run:
        print(NOT_PROPOSED)
        return
    shelf.propose("roster", opened.consortium, version, envelope, now())
    print(f"fingerprint {envelope.digest}")
    print("next, at each hospital: wardgate-node roster sign")


@roster.command("show")
def show_roster(home: HomeOption = DEFAULT_HOME) -> None:
    """Show rosters with their signatures.

    Example: wardgate-coordinator roster show
    """
    _show(open_coordinator(home), "roster")


@project.command("propose")
def propose_project(
    file: Annotated[Path, typer.Argument(help="The project as TOML.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check and show it.")] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Propose a project. Recipes are named by folder or bundle; their digests are filled in.

    Example: wardgate-coordinator project propose preterm.toml
    """
    opened = open_coordinator(home)
    try:
        values = tomllib.loads(read_bounded(file, MAX_SETTINGS_BYTES).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is not TOML: {error}.") from None
    days = values.pop("valid_days", 365)
    values["recipes"] = [
        _with_bundle(opened, file.parent, recipe, dry_run) for recipe in values.get("recipes", [])
    ]
    shelf = DocumentShelf(opened.engine)
    name = str(values.get("name", ""))
    values |= {
        "consortium": opened.consortium,
        "version": shelf.latest_version("project", name) + 1,
        "issued_at": now() - CLOCK_SKEW,
        "expires_at": now() + timedelta(days=days),
        "roster_version": max(
            (d.version for d in shelf.all("published") if d.kind == "roster"), default=1
        ),
    }
    check_keys(Project, values, str(file))
    try:
        document = Project.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigurationError(f"{file}: {where}: {first['msg']}.") from None
    envelope = document.seal(PROJECT_TYPE)
    print(
        f"project {document.name} version {document.version}: {', '.join(document.kinds)}; "
        f"variables {len(document.variables)}, recipes {len(document.recipes)}"
    )
    if dry_run:
        print(NOT_PROPOSED)
        return
    shelf.propose("project", document.name, document.version, envelope, now())
    print(f"fingerprint {envelope.digest}")
    print(f"next, at each hospital: wardgate-node project approve {document.name} --release NAME")


def _with_bundle(
    opened: Opened, folder: Path, recipe: Mapping[str, Any], dry_run: bool
) -> dict[str, Any]:
    """Replace a recipe's ``path`` by its bundle's digest, keeping the bundle for the stewards."""
    values = dict(recipe)
    path = values.pop("path", None)
    if path is None:
        return values
    from coordinator.work.training.bundles import add_bundle

    values["bundle"] = add_bundle(opened.home, (folder / path).resolve(), dry_run)
    return values


@project.command("list")
def list_projects(home: HomeOption = DEFAULT_HOME) -> None:
    """List projects with their signatures.

    Example: wardgate-coordinator project list
    """
    _show(open_coordinator(home), "project")


def _show(opened: Opened, kind: str) -> None:
    stewards: dict[str, str] = {}
    documents = DocumentShelf(opened.engine).all()
    for document in documents:
        if document.kind == "roster":
            read = Roster.read(document.envelope.body)
            stewards |= {m.key_id: m.name for m in read.stewards}
    table = Table("name", "version", "state", "signed by", "fingerprint")
    for document in documents:
        if document.kind == kind:
            signers = [stewards.get(s.keyid, "unknown") for s in document.envelope.signatures]
            table.add_row(
                document.name,
                str(document.version),
                document.state,
                ", ".join(signers) or "nobody",
                document.digest[:16] + "…",
            )
    Console(markup=False).print(table)

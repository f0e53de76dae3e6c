"""``wardgate-node group``: what is held of one lesion or case, as one record."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from contract.errors import DataError, NotFound
from foundation.commands import application
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, existing_home, keyed

app = application("What is held of one lesion or case, as one record.")


@app.command()
def add(
    path: Annotated[
        Path,
        typer.Argument(
            help="CSV with group, kind, number, role, target, identifier; or TOML (*.toml)."
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the links; write nothing.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Link what is held of a lesion or a case, across modalities.

    The file names it as the hospital does: numbers, files, instances. All links must lead to data
    of that patient, or nothing is recorded. A group that is named again is replaced.

    Example: wardgate-node group add lesions.csv
    """
    from node.catalog.group_file import read_groups, resolve
    from node.catalog.groups import Groups

    node = existing_home(home)
    if not path.is_file():
        raise NotFound("The file of groups does not exist.")
    named = read_groups(path)
    with catalogue(node) as catalog:
        made = resolve(named, path.parent, catalog, keyed(node), datetime.now(UTC))
        groups = Groups(catalog, node)
        if dry_run:
            groups.check(made)
        else:
            groups.put(made)
    verb = "would be recorded" if dry_run else "recorded"
    typer.echo(f"{len(made)} groups with {sum(len(g.links) for g in made)} links {verb}.")


@app.command("list")
def list_groups(home: HomeOption = DEFAULT_HOME) -> None:
    """List the groups: name, kind, and the roles of what they link.

    Example: wardgate-node group list
    """
    from node.catalog.groups import Groups

    node = existing_home(home)
    with catalogue(node) as catalog:
        groups = Groups(catalog, node).names()
    for group in groups:
        roles = ", ".join(dict.fromkeys(link.role for link in group.links))
        typer.echo(f"{group.name}  {group.kind:6}  {len(group.links):>5} links  {roles}")
    if not groups:
        typer.echo("No groups yet; `group add` makes them.")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="The group's name, as `group list` shows it.")],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Show a group's links.

    Example: wardgate-node group show 3f0c9f2b7a3e4d55c0f5a1e2d3b4c5d6
    """
    from node.catalog.groups import Groups

    node = existing_home(home)
    with catalogue(node) as catalog:
        group = Groups(catalog, node).get(name)
        assets = catalog.get_assets(link.target for link in group.links if link.kind == "asset")
    typer.echo(f"kind      {group.kind}")
    typer.echo(f"subject   {group.subject}")
    typer.echo(f"created   {group.created_at.isoformat(timespec='seconds')}")
    for link in group.links:
        asset = assets.get(link.target)
        if asset is not None:
            parts = (asset.kind, asset.modality, asset.body_part, asset.study_date)
            what = " ".join(str(part) for part in parts if part)
            typer.echo(f"  {link.role:16}  {link.target[:16]}  {what}")
        else:
            typer.echo(f"  {link.role:16}  {link.kind} {link.target}")


@app.command()
def check(home: HomeOption = DEFAULT_HOME) -> None:
    """Say whether every link still leads somewhere; exit 9 if one doesn't.

    Example: wardgate-node group check
    """
    from node.catalog.groups import Groups

    node = existing_home(home)
    with catalogue(node) as catalog:
        groups = Groups(catalog, node)
        count = len(groups.names())
        orphans = groups.orphans()
    for name, links in orphans.items():
        typer.echo(f"{name}  {', '.join(f'{link.role} ({link.kind})' for link in links)}")
    if orphans:
        raise DataError(f"{len(orphans)} of {count} groups have links that lead nowhere.")
    typer.echo(f"All links of {count} groups lead somewhere.")


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="The group's name, as `group list` shows it.")],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Forget a group; what it links stays.

    Example: wardgate-node group remove 3f0c9f2b7a3e4d55c0f5a1e2d3b4c5d6
    """
    from node.catalog.groups import Groups

    node = existing_home(home)
    with catalogue(node) as catalog:
        Groups(catalog, node).remove(name)
    typer.echo("The group is forgotten.")

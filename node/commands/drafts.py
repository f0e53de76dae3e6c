"""``wardgate-node drafts``: what recipes wrote about this hospital's assets, for its own people."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contract.documents import printable
from contract.errors import NotFound, UsageError
from foundation.commands import application
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, node_home, record

if TYPE_CHECKING:
    from node.catalog.store import Catalog
    from node.work.training.drafts import Draft

app = application("Look at drafts that recipes left here, take them out, delete them.")

JobOption = Annotated[str, typer.Option("--job", help="Of this job, by its first digits.")]
ReleaseOption = Annotated[str, typer.Option("--release", help="Of this release.")]
AssetOption = Annotated[str, typer.Option("--asset", help="Of this asset.")]


@app.command("list")
def list_(
    job: JobOption = "",
    release: ReleaseOption = "",
    asset: AssetOption = "",
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """List the jobs that left drafts here: how many of which kind, by which recipe.

    With --asset, list each of the asset's drafts.

    Example: wardgate-node drafts list --release 3fa0880c
    """
    from node.work.training.drafts import revoked

    with catalogue(node_home(home)) as catalog:
        found = _find(catalog, job, release, asset)
        gone = revoked(catalog.engine, found)
    if not found:
        typer.echo("No drafts.")
        return
    if asset:
        for draft in found:
            typer.echo(
                f"{draft.made_at:%Y-%m-%d %H:%M}  job {draft.job[:16]}  {draft.kind:9}  "
                f"{draft.size_bytes:>11,}  {draft.name}"
            )
        return
    for one in sorted({(d.job, d.release, d.recipe) for d in found}):
        of_it = [d for d in found if (d.job, d.release, d.recipe) == one]
        kinds = Counter(draft.kind for draft in of_it)
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        state = "  (release revoked)" if one[1] in gone else ""
        typer.echo(
            f"{max(d.made_at for d in of_it):%Y-%m-%d %H:%M}  job {one[0][:16]}  "
            f"release {one[1][:16]}  recipe {one[2][:16]}  {told}{state}"
        )


@app.command()
def show(
    draft: Annotated[str, typer.Argument(help="The file's digest, its first 8 digits, or a name.")],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Show where a draft comes from, and whether its file is as it was written.

    Example: wardgate-node drafts show 9d1c07aa
    """
    from node.work.training.drafts import list_drafts, read_draft

    if len(draft) < 8:
        raise UsageError("Give 8 digits or more of the draft's digest, or its name.")
    node = node_home(home)
    with catalogue(node) as catalog:
        every = list_drafts(catalog.engine)
    found = [d for d in every if d.digest.startswith(draft) or d.name.startswith(draft)]
    if not found:
        raise NotFound(f"No draft has a digest or name that begins with {printable(draft)}.")
    for one in found:
        read_draft(node, one)
        for label, value in (
            ("name", one.name),
            ("digest", one.digest),
            ("kind", f"{one.kind}, {one.size_bytes:,} bytes"),
            ("asset", one.asset),
            ("release", one.release),
            ("job", one.job),
            ("recipe", one.recipe),
            ("made", one.made_at.isoformat(timespec="seconds")),
        ):
            typer.echo(f"{label:8} {value}")


@app.command()
def export(
    target: Annotated[Path, typer.Argument(help="A folder that doesn't exist yet.")],
    job: JobOption = "",
    release: ReleaseOption = "",
    asset: AssetOption = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say only what would be.")] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Copy drafts into a folder, for a viewer or annotation tool of this hospital.

    Those of a revoked release are left out: a patient in it may have withdrawn.

    Example: wardgate-node drafts export ./to-correct --job 89537fe4
    """
    from node.work.training import drafts

    node = node_home(home)
    with catalogue(node) as catalog:
        found = _find(catalog, job, release, asset)
        gone = drafts.revoked(catalog.engine, found)
        chosen = [draft for draft in found if draft.release not in gone]
        if left := len(found) - len(chosen):
            typer.echo(f"{left} of revoked releases are left out.", err=True)
        if not chosen:
            raise NotFound("There are no drafts to export.")
        if dry_run:
            typer.echo(f"{len(chosen)} drafts, {sum(d.size_bytes for d in chosen):,} bytes.")
            return
        record(
            node,
            "drafts-exported",
            files=len(chosen),
            jobs=sorted({draft.job for draft in chosen}),
        )
        with typer.progressbar(
            chosen, label="copying", file=sys.stderr, hidden=not sys.stderr.isatty()
        ) as shown:
            count = drafts.export(node, shown, target)
    typer.echo(f"{target}: {count} drafts.")


@app.command()
def discard(
    job: JobOption = "",
    release: ReleaseOption = "",
    asset: AssetOption = "",
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say only what would be.")] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Delete the drafts of a job, a release or an asset.

    Example: wardgate-node drafts discard --job 89537fe4
    """
    from node.work.training import drafts

    if not (job or release or asset):
        raise UsageError("Say of which job, release or asset.")
    node = node_home(home)
    with catalogue(node) as catalog:
        found = _find(catalog, job, release, asset)
        if not found:
            raise NotFound("There are no such drafts.")
        if dry_run:
            typer.echo(f"{len(found)} drafts would be deleted.")
            return
        if not yes and not typer.confirm(f"Delete {len(found)} drafts for good?"):
            raise UsageError("Nothing was deleted.")
        record(
            node,
            "drafts-discarded",
            files=len(found),
            jobs=sorted({draft.job for draft in found}),
        )
        count = drafts.discard(catalog.engine, node, found)
    typer.echo(f"{count} drafts were deleted.")


def _find(catalog: Catalog, job: str, release: str, asset: str) -> list[Draft]:
    from node.work.training.drafts import list_drafts

    return list_drafts(catalog.engine, job=job, release=release, asset=asset)

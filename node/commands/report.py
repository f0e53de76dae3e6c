"""``wardgate-node report``: read and release free-text reports that were taken in as drafts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from contract.errors import UsageError
from foundation.commands import application
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, existing_home, record

app = application("Read and release free-text reports that were taken in as drafts.")

DraftArgument = Annotated[
    str, typer.Argument(metavar="DRAFT", help="The beginning of a draft's identifier.")
]


@app.command("list")
def list_(home: HomeOption = DEFAULT_HOME) -> None:
    """List the drafts, oldest first.

    Example: wardgate-node report list
    """
    from node.intake.drafts import Drafts

    drafts = Drafts(existing_home(home)).list()
    if not drafts:
        typer.echo("no report waits to be read")
    for draft in drafts:
        typer.echo(
            f"{draft.identifier}  {draft.made_at:%Y-%m-%d %H:%M}  {draft.subject[:12]}  "
            f"{len(draft.text)} characters"
        )


@app.command()
def show(draft: DraftArgument, home: HomeOption = DEFAULT_HOME) -> None:
    """Show a draft's text as it would be released, and its digest.

    Example: wardgate-node report show 5f1c0a2b
    """
    from node.intake.drafts import Drafts

    found = Drafts(existing_home(home)).find(draft)
    typer.echo(found.text)
    typer.echo(f"Digest: {found.digest}", err=True)


@app.command()
def release(
    draft: DraftArgument,
    digest: Annotated[
        str, typer.Option(help="The digest that `report show` gave: what was read is released.")
    ],
    by: Annotated[str, typer.Option(help="Who has read it and answers for it.")],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Release a draft that a person has read: its text may go into releases of data.

    Example: wardgate-node report release 5f1c0a2b --digest 9f8e... --by "Dr. Weiss"
    """
    from node.intake.drafts import Drafts, release_draft

    node = existing_home(home)
    drafts = Drafts(node)
    found = drafts.find(draft)
    if digest != found.digest:
        raise UsageError("That is not the digest of this text; read it with `report show`.")
    if not by.strip():
        raise UsageError("A report is released by a named person.")
    record(node, "report-released", draft=found.identifier, digest=digest, by=by)
    with catalogue(node) as catalog:
        asset = release_draft(node, catalog, drafts, found, datetime.now(UTC))
    typer.echo(f"Released as asset {asset}.")


@app.command()
def reject(draft: DraftArgument, home: HomeOption = DEFAULT_HOME) -> None:
    """Delete a draft whose text still identifies somebody.

    Example: wardgate-node report reject 5f1c0a2b
    """
    from node.intake.drafts import Drafts

    node = existing_home(home)
    drafts = Drafts(node)
    found = drafts.find(draft)
    record(node, "report-rejected", draft=found.identifier, digest=found.digest)
    drafts.remove(found)
    typer.echo(f"Draft {found.identifier} is deleted.")

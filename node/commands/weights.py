"""``wardgate-node weights``: pretrained weights that recipes may begin from."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from contract.documents import printable
from contract.errors import NotFound, UsageError
from foundation.commands import application
from node.commands.cosigning import signed_by_enough
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, node_home, record

app = application("Let pretrained weights in, look at them, let them go.")
SHOWN = 12


@app.command()
def approve(
    file: Annotated[Path, typer.Argument(help="A safetensors file.")],
    name: Annotated[str, typer.Option("--name", help="What it is, for example resnet50-imagenet.")],
    key: Annotated[
        Path | None, typer.Option("--steward-key", help="The steward's key, if kept elsewhere.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look at it only.")] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Show what is in a file and, once confirmed, let the jobs that name it see it.

    A job names it by its digest, which its project must list. It is copied into the node's home;
    the sandbox shows it read-only. Ask where it comes from: a model can be trained to err on
    purpose, and nothing in its numbers shows it. Where the policy asks for several people, each
    runs this with a key of their own.

    Example: wardgate-node weights approve resnet50.safetensors --name resnet50-imagenet
    """
    from node.work.training import weights

    weights.check_name(name)
    node = node_home(home)
    with catalogue(node) as catalog:
        digest, size, tensors = weights.examine(file)
        typer.echo(f"{digest}  {size:,} bytes, {len(tensors)} tensors")
        for tensor in tensors[:SHOWN]:
            shape = "x".join(map(str, tensor.shape)) or "scalar"
            typer.echo(f"  {tensor.dtype:5} {shape:>20}  {printable(tensor.name, 120)}")
        if len(tensors) > SHOWN:
            typer.echo(f"  and {len(tensors) - SHOWN} more")
        if dry_run:
            return
        if not yes and not typer.confirm("Let recipes begin from these weights here?"):
            raise UsageError("Nothing was approved.")
        if not signed_by_enough(catalog, node, "weights", digest, key):
            return
        record(node, "weights-approved", weights=digest, name=name, size=size)
        weights.approve(catalog.engine, node, file, digest, name, datetime.now(UTC))
    typer.echo(f"Approved {name}.")


@app.command("list")
def list_(home: HomeOption = DEFAULT_HOME) -> None:
    """List the files, oldest first, with their whole digests.

    Example: wardgate-node weights list
    """
    from node.work.training.weights import list_weights

    with catalogue(node_home(home)) as catalog:
        found = list_weights(catalog.engine)
    for one in found:
        state = "withdrawn" if one.withdrawn_at else "approved"
        typer.echo(
            f"{one.digest}  {one.approved_at:%Y-%m-%d %H:%M}  {state:9}  {one.size_bytes:>13,}  "
            f"{one.name}"
        )
    if not found:
        typer.echo("No weights yet; `weights approve` lets a file in.")


@app.command()
def withdraw(
    weights: Annotated[str, typer.Argument(help="The digest, or its first 8 digits or more.")],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Let no job see a file any more, and delete it. Jobs that run with it are stopped.

    Example: wardgate-node weights withdraw 3fa0880c
    """
    from node.work.training.weights import list_weights
    from node.work.training.weights import withdraw as take_back

    if len(weights) < 8:
        raise UsageError("Give 8 digits or more of the digest.")
    node = node_home(home)
    with catalogue(node) as catalog:
        known = [w for w in list_weights(catalog.engine) if w.withdrawn_at is None]
        found = [w for w in known if w.digest.startswith(weights)]
        if len(found) != 1:
            raise NotFound(
                f"{len(found)} approved files have a digest that begins with {printable(weights)}."
            )
        record(node, "weights-withdrawn", weights=found[0].digest)
        take_back(catalog.engine, node, found[0].digest, datetime.now(UTC))
    typer.echo(f"{found[0].name} ({found[0].digest[:16]}) is withdrawn.")

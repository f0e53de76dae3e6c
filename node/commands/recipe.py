"""``wardgate-node recipe``: let recipes in, look at them, let them go."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contract.documents import printable
from contract.errors import DocumentError, NotFound, UsageError
from foundation.commands import application
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, node_home, record

if TYPE_CHECKING:
    from foundation.bundle import Bundle
    from node.work.training.bundles import ApprovedRecipe

app = application("Let recipes in, look at them, let them go.")

RecipeArgument = Annotated[
    str, typer.Argument(help="The bundle's digest, or its first 8 digits or more.")
]


@app.command()
def approve(
    path: Annotated[Path, typer.Argument(help="A bundle (.fab), or the folder of a Flower app.")],
    wheelhouse: Annotated[
        Path | None, typer.Option(help="A folder of wheels, for packages that the node lacks.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Show what a recipe is made of and, once confirmed, let it run here, sandboxed.

    Read its code first: it will see the releases of the projects that name it.

    Example: wardgate-node recipe approve ./tabular.fab
    """
    from foundation.bundle import Bundle
    from node.work.training.bundles import approve_bytes, read_source

    if not path.exists():
        raise NotFound(f"{path} does not exist.")
    data = read_source(path)
    _describe(Bundle.parse(data))
    if not yes and not typer.confirm("Let this recipe run here?"):
        raise UsageError("Nothing was approved.")
    node = node_home(home)
    with catalogue(node) as catalog:
        record(node, "recipe-approved", bundle=hashlib.sha256(data).hexdigest())
        recipe = approve_bytes(catalog.engine, node, data, wheelhouse, datetime.now(UTC))
    for lock in recipe.lock:
        origin = f"wheel {lock.wheel} sha256:{lock.sha256}" if lock.sha256 else "this environment"
        typer.echo(f"  locked {lock.name}=={lock.version}  ({origin})")
    typer.echo(f"Approved {recipe.name} {recipe.version}.")
    typer.echo(recipe.bundle)


@app.command("list")
def list_(home: HomeOption = DEFAULT_HOME) -> None:
    """List the recipes, oldest first.

    Example: wardgate-node recipe list
    """
    found = _recipes(home)
    for recipe in found:
        state = "withdrawn" if recipe.withdrawn_at else "approved"
        typer.echo(
            f"{recipe.bundle[:16]}  {recipe.approved_at:%Y-%m-%d %H:%M}  {state:9}  "
            f"{recipe.name} {recipe.version}"
        )
    if not found:
        typer.echo("No recipes yet; `recipe approve` lets one in.")


@app.command()
def show(recipe: RecipeArgument, home: HomeOption = DEFAULT_HOME) -> None:
    """Show a recipe: its files, its parameters, and the packages it was locked to.

    Example: wardgate-node recipe show 3fa0880c
    """
    found = _find(home, recipe)
    _describe(found.bundle_file)
    typer.echo(f"approved  {found.approved_at.isoformat(timespec='seconds')}")
    if found.withdrawn_at:
        typer.echo(f"withdrawn {found.withdrawn_at.isoformat(timespec='seconds')}")
    for lock in found.lock:
        typer.echo(f"  locked {lock.name}=={lock.version}  {lock.sha256}".rstrip())


@app.command()
def withdraw(recipe: RecipeArgument, home: HomeOption = DEFAULT_HOME) -> None:
    """Let no new job run a recipe.

    Example: wardgate-node recipe withdraw 3fa0880c
    """
    from node.work.training import bundles

    found = _find(home, recipe)
    node = node_home(home)
    with catalogue(node) as catalog:
        record(node, "recipe-withdrawn", bundle=found.bundle)
        bundles.withdraw(catalog.engine, found.bundle, datetime.now(UTC))
    typer.echo(f"Recipe {found.name} ({found.bundle[:16]}) is withdrawn.")


@app.command()
def fetch(
    bundle: Annotated[str, typer.Argument(help="The bundle's digest, as the project names it.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write (DIGEST.fab).")
    ] = None,
    consortium: Annotated[
        str | None, typer.Option("--consortium", help="Which consortium (when there are several).")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Fetch a bundle from the coordinator, to read it before approving it. Nothing runs.

    Example: wardgate-node recipe fetch 3fa0880c... -o tabular.fab
    """
    from contract import wire_pb2 as wire
    from foundation import rpc
    from foundation.bundle import MAX_BUNDLE_BYTES
    from foundation.files import write_durably
    from node.commands.documents import find_consortium
    from node.link.membership import transport_identity

    node = node_home(home)
    with catalogue(node) as catalog:
        row = find_consortium(catalog, consortium)
    received = bytearray()
    with rpc.calling(row.address, transport_identity(node, row.name).channel_credentials()) as stub:
        for chunk in stub.Download(wire.BlobRequest(blob=wire.BlobReference(digest=bundle))):
            received += chunk.data
            if len(received) > MAX_BUNDLE_BYTES:
                raise DocumentError("The bundle is larger than a bundle may be.")
    if hashlib.sha256(received).hexdigest() != bundle:
        raise DocumentError("The coordinator sent another bundle than the one asked for.")
    target = output or Path(f"{bundle}.fab")
    write_durably(target, bytes(received), 0o644)
    typer.echo(f"{target}: {len(received)} bytes; next: wardgate-node recipe approve {target}")


def _recipes(home: Path) -> list[ApprovedRecipe]:
    from node.work.training.bundles import list_recipes

    node = node_home(home)
    with catalogue(node) as catalog:
        return list_recipes(catalog.engine, node)


def _find(home: Path, reference: str) -> ApprovedRecipe:
    if len(reference) < 8:
        raise UsageError("Give 8 digits or more of the bundle's digest.")
    found = [recipe for recipe in _recipes(home) if recipe.bundle.startswith(reference)]
    if len(found) != 1:
        raise NotFound(f"{len(found)} recipes have a digest that begins with {reference}.")
    return found[0]


def _describe(bundle: Bundle) -> None:
    typer.echo(f"name      {bundle.name}")
    typer.echo(f"version   {bundle.version}")
    typer.echo(f"digest    {bundle.digest}")
    typer.echo("files")
    for name, content in sorted(bundle.files.items()):
        typer.echo(f"  {len(content):>10} bytes  {name}")
    typer.echo("parameters" if bundle.defaults else "parameters none")
    for key, value in bundle.defaults.items():
        typer.echo(f"  {printable(key)} = {printable(repr(value))}")
    typer.echo("dependencies" if bundle.dependencies else "dependencies none")
    for dependency in bundle.dependencies:
        typer.echo(f"  {printable(dependency)}")

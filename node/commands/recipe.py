"""``wardgate-node recipe``: let recipes in, look at them, let them go."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contract.documents import printable
from contract.errors import DocumentError, NotFound, UsageError
from foundation.commands import application
from node.commands.cosigning import signed_by_enough
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, node_home, record

if TYPE_CHECKING:
    from foundation.bundle import Bundle
    from node.catalog.asked import ConsortiumRow
    from node.catalog.store import Catalog
    from node.home import NodeHome
    from node.work.training.bundles import ApprovedRecipe
    from node.work.training.dependencies import Sources

app = application("Let recipes in, look at them, let them go.")

RecipeArgument = Annotated[
    str, typer.Argument(help="The bundle's digest, or its first 8 digits or more.")
]

WheelhouseOption = Annotated[
    Path | None, typer.Option(help="A folder of wheels, for packages that the node lacks.")
]
OwnVersionsOption = Annotated[
    bool, typer.Option("--own-versions", help="Take this node's versions of packages.")
]
WithoutOption = Annotated[
    list[str] | None,
    typer.Option(help="Leave out a package that the app doesn't import; repeatable."),
]


@app.command()
def approve(
    path: Annotated[Path, typer.Argument(help="A bundle (.fab), or the folder of a Flower app.")],
    wheelhouse: WheelhouseOption = None,
    key: Annotated[
        Path | None, typer.Option("--steward-key", help="The steward's key, if kept elsewhere.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    home: HomeOption = DEFAULT_HOME,
    own_versions: OwnVersionsOption = False,
    without: WithoutOption = None,
) -> None:
    """Show what a recipe is made of and, once confirmed, let it run here, sandboxed.

    Read its code first: it will see the releases of the projects that name it. Shown is also what
    differs from the last of its name, and what reading finds worth a look. Where the policy asks
    for several people, each runs this with a key of their own.

    Example: wardgate-node recipe approve ./tabular.fab

    Example: wardgate-node recipe approve ./example.fab --own-versions --without flwr-datasets
    """
    from node.work.training.bundles import read_source
    from node.work.training.dependencies import Sources

    if not path.exists():
        raise NotFound(f"{path} does not exist.")
    data = read_source(path)
    node = node_home(home)
    sources = Sources(wheelhouse, own_versions, frozenset(without or ()))
    with catalogue(node) as catalog:
        typer.echo("\n".join(describe_candidate(catalog, node, data, sources, code=False)))
        if not yes and not typer.confirm("Let this recipe run here?"):
            raise UsageError("Nothing was approved.")
        bundle = hashlib.sha256(data).hexdigest()
        if signed_by_enough(catalog, node, "recipe", bundle, key):
            let_in(catalog, node, data, sources)


def let_in(catalog: Catalog, node: NodeHome, data: bytes, sources: Sources) -> None:
    """Take a recipe in, with the packages that it is locked to."""
    from node.work.training.bundles import approve_bytes

    record(node, "recipe-approved", bundle=hashlib.sha256(data).hexdigest())
    recipe = approve_bytes(catalog.engine, node, data, sources, datetime.now(UTC))
    for lock in recipe.lock:
        origin = f"wheel {lock.wheel} sha256:{lock.sha256}" if lock.sha256 else "this environment"
        typer.echo(f"  locked {lock.name}=={lock.version}  ({origin})")
    typer.echo(f"Approved {recipe.name} {recipe.version}.")
    typer.echo(recipe.bundle)


def describe_candidate(
    catalog: Catalog, node: NodeHome, data: bytes, sources: Sources, *, code: bool
) -> list[str]:
    """Return what a bundle is, what is new in it, and what to look at, in lines.

    New is what differs from the newest recipe of its name that was approved here. With ``code``,
    every file is in it, line by line.
    """
    from foundation.bundle import Bundle
    from node.gate.inbox.changes import differing, packages
    from node.gate.reading import TOPICS, read_code
    from node.work.training.bundles import list_recipes

    bundle = Bundle.parse(data)
    lines = list(_description(bundle))
    former = [r for r in list_recipes(catalog.engine, node) if r.name == bundle.name]
    former = [r for r in former if r.bundle != bundle.digest]
    new = _would_lock(bundle, sources)
    if former:
        last = max(former, key=lambda recipe: recipe.approved_at)
        lines.append(f"differs from {last.bundle[:16]}, approved {last.approved_at:%F}, in")
        old = {lock.name: _locked(lock.version, lock.sha256) for lock in last.lock}
        changes = [*packages(old, new)] if isinstance(new, dict) else [f"packages: {new}"]
        changes += differing(last.bundle_file.files, bundle.files)
        lines += [f"  {line}" for line in changes] or ["  nothing"]
    else:
        lines.append("no recipe of this name was approved here before")
        if isinstance(new, dict):
            lines += [f"  + {printable(name)} {version}" for name, version in sorted(new.items())]
        else:
            lines.append(f"  packages: {new}")
    notes = read_code(bundle.files)
    lines.append("worth a look" if notes else "worth a look: nothing was found by reading")
    for note in notes:
        where = f"{note.file}:{note.line}" if note.line else note.file
        lines.append(f"  {printable(where)}  {note.topic}: {printable(note.what)}")
    lines += [f"  {topic}: {TOPICS[topic]}" for topic in sorted({n.topic for n in notes})]
    if code:
        for name, content in sorted(bundle.files.items()):
            lines.append(f"==== {printable(name)} ====")
            text = content.decode(errors="replace").splitlines()
            lines += [f"{i:>5}  {printable(line, 400)}" for i, line in enumerate(text, 1)]
    return lines


def _would_lock(bundle: Bundle, sources: Sources) -> dict[str, str] | str:
    """Return the packages that a bundle would be locked to, or why it can't be."""
    import tempfile

    from node.work.training.dependencies import settle

    with tempfile.TemporaryDirectory() as folder:
        try:
            found = settle(bundle.dependencies, sources, Path(folder) / "packages")
        except DocumentError as error:
            return printable(str(error))
    return {lock.name: _locked(lock.version, lock.sha256) for lock in found}


def _locked(version: str, sha256: str) -> str:
    return f"{version} sha256:{sha256[:16]}" if sha256 else version


def fetch_bundle(node: NodeHome, row: ConsortiumRow, bundle: str) -> bytes:
    """Return a bundle from a consortium's coordinator, checked against its digest."""
    from contract import wire_pb2 as wire
    from foundation import rpc
    from foundation.bundle import MAX_BUNDLE_BYTES
    from node.link.membership import transport_identity

    received = bytearray()
    with rpc.calling(row.address, transport_identity(node, row.name).channel_credentials()) as stub:
        for chunk in stub.Download(wire.BlobRequest(blob=wire.BlobReference(digest=bundle))):
            received += chunk.data
            if len(received) > MAX_BUNDLE_BYTES:
                raise DocumentError("The bundle is larger than a bundle may be.")
    if hashlib.sha256(received).hexdigest() != bundle:
        raise DocumentError("The coordinator sent another bundle than the one asked for.")
    return bytes(received)


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
    typer.echo("\n".join(_description(found.bundle_file)))
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
    from foundation.files import write_durably
    from node.commands.documents import find_consortium

    node = node_home(home)
    with catalogue(node) as catalog:
        row = find_consortium(catalog, consortium)
    received = fetch_bundle(node, row, bundle)
    target = output or Path(f"{bundle}.fab")
    write_durably(target, received, 0o644)
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


def _description(bundle: Bundle) -> Iterator[str]:
    yield f"name      {bundle.name}"
    yield f"version   {bundle.version}"
    yield f"digest    {bundle.digest}"
    yield "files"
    for name, content in sorted(bundle.files.items()):
        yield f"  {len(content):>10} bytes  {printable(name)}"
    yield "parameters" if bundle.defaults else "parameters none"
    for key, value in bundle.defaults.items():
        yield f"  {printable(key)} = {printable(repr(value))}"
    yield "dependencies" if bundle.dependencies else "dependencies none"
    for dependency in bundle.dependencies:
        yield f"  {printable(dependency)}"

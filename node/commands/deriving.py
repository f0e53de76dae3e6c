"""The option that names a release's dictionary, and what is said of the variables it derives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from contract.dictionary import Variable
from contract.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from node.catalog.declaring import Wishes
    from node.catalog.deriving import Made
    from node.catalog.store import Catalog
    from node.home import NodeHome

DictionaryOption = Annotated[
    str | None,
    typer.Option(
        "--dictionary",
        metavar="PROJECT|DICTIONARY.toml",
        help="Whose grids numbers are counted on, and whose derived variables are made: those of a "
        "project, proposed or approved, or of its file; of the projects known here when absent, "
        "'none' for none.",
    ),
]


def deriving_of(
    node: NodeHome, catalog: Catalog, dictionary: str | None, table: str | None
) -> tuple[Sequence[Variable], str]:
    """Return the variables of the dictionary that is named, or of the projects known here, and what
    a table of images' variables is called.

    ``UsageError`` when two projects say differently what a variable is.
    """
    from node.commands.declaring import known_projects
    from node.commands.mapping import find_dictionary

    if dictionary == "none":
        return (), "images"
    if dictionary is not None:
        named = find_dictionary(node, catalog, dictionary, None)
        return named.variables, named.table
    found: dict[str, Variable] = {}
    for project in known_projects(catalog, table) if table is not None else ():
        if not any(v.derive is not None for v in project.variables):
            continue
        for variable in project.variables:
            other = found.setdefault(variable.name, variable)
            if _meant(other) != _meant(variable):
                raise UsageError(
                    f"Two projects differ in what {variable.name} is; name one with --dictionary."
                )
    return tuple(found.values()), "images"


def with_dictionary(wishes: Wishes, variables: Sequence[Variable]) -> Wishes:
    """Return what a release is to be asked, with the dictionary's grids and variables."""
    from dataclasses import replace

    from node.catalog.manifest import Grid

    grids = {
        v.name: Grid(minimum=v.minimum, maximum=v.maximum, bins=v.bins)
        for v in variables
        if v.bins is not None and v.minimum is not None and v.maximum is not None
    }
    analysed = wishes.analysed
    if analysed is not None:
        analysed = list(dict.fromkeys([*analysed, *(v.name for v in variables)]))
    return replace(wishes, grids={**wishes.grids, **grids}, analysed=analysed)


def _meant(variable: Variable) -> dict[str, object]:
    return variable.model_dump(exclude={"meaning", "required", "coded", "codes", "bins"})


def derived_lines(made: Sequence[Made]) -> Iterator[str]:
    """Yield what became of the derived variables, in lines for the steward."""
    if made:
        yield "derived variables:"
    for one in made:
        if one.problem:
            yield f"  {one.name}: not here; {one.problem}"
            continue
        said = [f"{one.missing} missing"] if one.missing else ["none missing"]
        for count, why in (
            (one.lost.out_of_range, "out of range"),
            (one.lost.not_whole, "not whole"),
            (one.lost.unknown_level, "of no level of the dictionary"),
        ):
            if count:
                said.append(f"{count} {why}")
        yield f"  {one.name}: {', '.join(said)}"

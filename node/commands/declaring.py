"""The options by which a steward says what a release can be asked exactly, and what that costs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from contract.dictionary import Variable
from contract.documents import Name, Project
from contract.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from node.catalog.declaring import Loss, Wishes
    from node.catalog.manifest import AnalysisSet, Declaration, Grid, ReleaseManifest
    from node.catalog.store import Catalog
    from node.catalog.strata import StratumWish
    from node.gate.policy import Policy

CellsOption = Annotated[
    str | None,
    typer.Option(
        "--cells",
        metavar="VARIABLES",
        help="Variables that exact answers may be asked by, the most important first: arm,sex, "
        "and of a number its cuts: age=50:65. 'none' for none; proposed when absent.",
    ),
]
AnalysisOption = Annotated[
    list[str] | None,
    typer.Option(
        "--analysis",
        metavar="NAME=VARIABLES",
        help="A set of the subjects who have all of these variables, so that they may be looked at "
        "together. May be given several times. 'none' for none; when absent one is proposed of "
        "the projects' variables that few lack.",
    ),
]
GridOption = Annotated[
    list[str] | None,
    typer.Option(
        "--grid",
        metavar="NAME=MIN:MAX:BINS",
        help="The grid that a number is counted on exactly; that of the dictionary, or of the "
        "table's projects known here, when absent. May be given several times.",
    ),
]


SmallSiteOption = Annotated[
    bool,
    typer.Option(
        "--small-site",
        help="Declare it for secure sums alone, with fewer subjects than answers of its own need. "
        "The policy must allow small sites.",
    ),
]


def wishes_of(
    cells: str | None,
    analysis: list[str] | None,
    policy: Policy,
    catalog: Catalog,
    table: str | None,
    small_site: bool = False,
) -> Wishes:
    """Return what the options say, with what policy and the table's known projects add."""
    from node.catalog.declaring import Minimums, Wishes

    disclosure = policy.disclosure
    if small_site:
        if not disclosure.small_sites:
            raise UsageError("The policy allows no small sites (disclosure.small_sites).")
        disclosure = disclosure.in_sums
    variables = [v for project in known_projects(catalog, table) for v in project.variables]
    none = analysis is not None and [text.strip() for text in analysis] == ["none"]
    return Wishes(
        strata=None if cells is None else list(_strata(cells)),
        analyses={} if none else dict(_analysis(text) for text in analysis or ()),
        analysed=None if none else [variable.name for variable in variables],
        grids=_known_grids(variables),
        minimums=Minimums(
            disclosure.minimum_cohort, disclosure.minimum_cell, disclosure.largest_contribution
        ),
        sums_only=small_site,
    )


def _strata(text: str) -> Iterator[StratumWish]:
    from node.catalog.strata import StratumWish

    if text.strip() == "none":
        return
    for one in text.split(","):
        name, _, cuts = one.strip().partition("=")
        try:
            yield StratumWish(name, tuple(float(cut) for cut in cuts.split(":")) if cuts else ())
        except ValueError:
            raise UsageError(
                "Cuts are numbers with colons between, for example age=50:65."
            ) from None


def _analysis(text: str) -> tuple[str, tuple[str, ...]]:
    name, _, variables = text.partition("=")
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise UsageError("Name an analysis set as NAME=VARIABLE,VARIABLE.") from None
    found = tuple(dict.fromkeys(v.strip() for v in variables.split(",") if v.strip()))
    if not found:
        raise UsageError(f"Analysis {name} has no variables.")
    return name, found


def with_grids(wishes: Wishes, grid: Sequence[str] | None) -> Wishes:
    """Return what a release is to be asked, with the grids that the options give."""
    from dataclasses import replace

    return replace(wishes, grids={**wishes.grids, **dict(_grid(text) for text in grid or ())})


def _grid(text: str) -> tuple[str, Grid]:
    from node.catalog.manifest import Grid

    name, _, numbers = text.partition("=")
    try:
        low, high, bins = numbers.split(":")
        return name, Grid(minimum=float(low), maximum=float(high), bins=int(bins))
    except ValueError:
        raise UsageError("Give a grid as NAME=MINIMUM:MAXIMUM:BINS.") from None


def known_projects(catalog: Catalog, table: str | None) -> Iterator[Project]:
    """Yield the projects known here that are of a table; all of them without one."""
    from contract.envelope import Envelope
    from node.catalog.asked import Asked

    asked = Asked(catalog.engine)
    for consortium in asked.consortia():
        for row in asked.projects(consortium.name):
            project = Project.read(Envelope.parse(row.envelope).body)
            if table is None or project.table == table:
                yield project


def _known_grids(variables: Sequence[Variable]) -> dict[str, Grid]:
    """Return the grids on which all projects known here agree."""
    from node.catalog.manifest import Grid

    found: dict[str, set[Grid]] = {}
    for variable in variables:
        if variable.bins is not None and variable.minimum is not None:
            grid = Grid.model_validate(variable.model_dump(include={"minimum", "maximum", "bins"}))
            found.setdefault(variable.name, set()).add(grid)
    return {name: grids.pop() for name, grids in found.items() if len(grids) == 1}


def told(declaration: Declaration) -> Iterator[str]:
    """Yield what can be asked exactly, in lines for the steward."""
    if not declaration.cells:
        yield "exact answers: none; too few subjects"
        return
    strata = ", ".join(
        s.variable + ("=" + ":".join(f"{cut:g}" for cut in s.cuts) if s.cuts else "")
        for s in declaration.strata
    )
    by = f" by {strata}" if strata else ""
    yield (
        f"exact answers: {len(declaration.cells)} cells{by}, "
        f"each of {declaration.minimum_cohort} subjects or more"
        + (", in secure sums alone" if declaration.sums_only else "")
    )
    for variable in declaration.variables:
        alike: dict[tuple[str, ...], list[str]] = {}
        for kind, strata_of in variable.by.items():
            alike.setdefault(tuple(strata_of), []).append(kind)
        kinds = "; ".join(
            f"{', '.join(some)}{' by ' + ', '.join(by_these) if by_these else ''}"
            for by_these, some in alike.items()
        )
        yield f"  {variable.name}: {kinds or 'nothing'}"
    for analysis in declaration.analyses:
        by = "too small" if analysis.by is None else "by " + (", ".join(analysis.by) or "nothing")
        yield f"  analysis {analysis.name} of {', '.join(analysis.variables)}: {by}"
        if analysis.by is not None:
            yield from _told_together(analysis)


def _told_together(analysis: AnalysisSet) -> Iterator[str]:
    """Yield what is exact of several variables at once, and of which pairs nothing is."""
    from node.catalog.manifest import MAX_JOINED

    names = analysis.variables[:MAX_JOINED]
    if len(names) < 2:
        return
    pairs = list(itertools.combinations(names, 2))
    none = [
        f"{one} with {other}"
        for one, other in pairs
        if analysis.joint_by((one, other)) is None and analysis.products_by((one, other)) is None
    ]
    counted = [len(one.variables) for one in analysis.joint]
    yield (
        f"    together: of {len(pairs)} pairs {counted.count(2)} counted and "
        f"{len(analysis.products)} multiplied; {counted.count(3)} threes counted"
    )
    if none:
        more = f" and {len(none) - _SHOWN} more" if len(none) > _SHOWN else ""
        yield f"    nothing of {', '.join(none[:_SHOWN])}{more}"


_SHOWN = 6


def lost(loss: Loss) -> Iterator[str]:
    """Yield what exact answers leave out, in lines for the steward."""
    if loss.cells < loss.combinations:
        yield f"  {loss.combinations} combinations were merged into {loss.cells} cells"
    if loss.in_no_cell:
        yield f"  {loss.in_no_cell} of {loss.subjects} subjects are in no cell"
    for what, some in (("", loss.by_variable), ("analysis ", loss.by_analysis)):
        for name, count in some.items():
            if count:
                yield f"  {what}{name}: {count} subjects left out of exact answers"
    for (one, other), count in loss.nearly_alike.items():
        yield (
            f"  analyses {one} and {other} differ by {count} subjects, among whom counts must be "
            "large enough too; one set of all their variables may tell more"
        )


def without_grid(manifest: ReleaseManifest) -> Iterator[str]:
    """Yield which numbers can't be counted for want of a grid, and how they get one."""
    if manifest.declaration is None or not manifest.declaration.cells:
        return
    numbers = {c.name for c in manifest.columns if c.type in ("integer", "number")}
    names = [v.name for v in manifest.declaration.variables if v.grid is None and v.name in numbers]
    if names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        yield (
            f"no grid is known for {', '.join(names[:_SHOWN])}{more}: no exact histogram, "
            "quantile, rank or curve of them. --dictionary names a project or its file, whose "
            "grids are taken; --grid gives one"
        )

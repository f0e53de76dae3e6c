"""Why a question has no exact answer, by the question, its dictionary and the manifest alone.

So it is the same whoever is in the release, and tells what the hospital declared and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from contract.documents import Project
from contract.errors import Refused
from contract.work import StatisticsWork
from node.catalog.manifest import Declaration

NOT_DECLARED = Refused(
    "not-declared",
    "The release declares no exact answer to this, and this site gives none with noise.",
)
_GRID = ("minimum", "maximum", "bins")
_SHOWN = 8
"""Names, at most, that a sentence has."""


def undeclared(work: StatisticsWork, project: Project, declaration: Declaration) -> Refused:
    """Return the refusal of a question of which the release declares nothing."""
    sets = {one.name: one.variables for one in declaration.analyses if one.by is not None}
    there = f"it has {_listed(list(sets))}" if sets else "it has none"
    if work.analysis is not None:
        if work.analysis not in sets:
            return _refused(f"The release has no analysis set {work.analysis}; {there}.")
        inside = sets[work.analysis]
        for name in (name for one in work.ask for name in one.variables):
            if name not in inside:
                return _refused(
                    f"{name} is not in the release's analysis set {work.analysis}, which is of "
                    f"{_listed(inside)}."
                )
    for name in _on_grids(work, project):
        declared, variable = declaration.variable(name), project.variable(name)
        grid = declared.grid if declared is not None else None
        if grid is None or any(getattr(grid, key) != getattr(variable, key) for key in _GRID):
            return _refused(f"The release doesn't count {name} on the project's grid.")
    if work.analysis is None and work.lane == "exact" and any(one.across for one in work.ask):
        return _refused(f"Several variables at once are asked of an analysis set; {there}.")
    return NOT_DECLARED


def _on_grids(work: StatisticsWork, project: Project) -> Iterator[str]:
    """Yield the numbers that a question counts."""
    if work.fit is None:
        for statistic in work.ask:
            if statistic.kind in ("histogram", "crosstab"):
                yield from (v for v in statistic.variables if _is_number(v, project))


def _is_number(name: str, project: Project) -> bool:
    variable = project.variable(name)
    return variable is not None and variable.kind == "number"


def _refused(sentence: str) -> Refused:
    return Refused(NOT_DECLARED.code, sentence)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

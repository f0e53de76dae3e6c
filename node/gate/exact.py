"""The exact lane: which questions a release's declaration answers exactly, and of which cells.

Guarantee: what is decided here depends on the question, the project's dictionary, the release's
manifest and the policy, and on nothing else. No row is looked at, so neither an answer's lane nor a
refusal tells anything of the patients that the declaration doesn't. What the declaration itself
gives is proved in ``docs/reference/disclosure.md``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from contract import cohorts
from contract.cohorts import Cohort
from contract.dictionary import Variable, imputed
from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics.summaries import Codes, Numbers
from contract.work import Statistic, StatisticsWork
from node.catalog.manifest import (
    MAX_JOINED,
    AnalysisSet,
    Declaration,
    DeclaredVariable,
    ExactKind,
    Joint,
    ReleaseManifest,
    Strata,
    Stratum,
)
from node.catalog.membership import ANALYSIS, VARIABLE
from node.catalog.strata import Blocks
from node.gate.policy import Policy
from node.gate.undeclared import undeclared


@dataclass(frozen=True)
class Exactly:
    """How one statistic is answered exactly: over which set, and which cells are in each group."""

    set: str
    groups: Mapping[str, tuple[int, ...]]


WITHHELD = Exactly("", {})
"""Of a statistic that is answered by neither lane."""
Plan = Sequence[Exactly | None]
"""For each statistic how it is answered exactly; None: with noise."""


def lanes(
    work: StatisticsWork, project: Project, manifest: ReleaseManifest, policy: Policy
) -> list[Exactly | None]:
    """Return by which lane each statistic is answered.

    One that isn't declared may not have noise by the question's own wish, by policy, or since it is
    of an analysis set, which there is in the exact lane alone; then it is withheld. So is one of
    imputed values: these depend on other subjects too, and noise would hide one subject's part of
    them no more. ``Refused`` when all are.
    """
    policy = policy.under(project.name)
    allowed = policy.limits(project.name).lanes or ["exact", "dp"]
    declaration = declared(manifest, policy)
    found: list[Exactly | None] = [None] * len(work.ask)
    if work.lane != "dp" and "exact" in allowed and _is_enough(declaration, policy):
        if declaration.sums_only and policy.disclosure.small_sites and work.small_sites:
            found = _in_sums(work, project, declaration)
        elif not declaration.sums_only and not work.small_sites:
            found = plan(work, project, declaration)
    noise = policy.privacy.allowed and "dp" in allowed and not work.secure
    if work.lane == "exact" or work.analysis is not None or not noise:
        found = [one or WITHHELD for one in found]
    drawn = imputed(project.variables)
    if drawn:
        of_all = set() if work.cohort is None else set(cohorts.variables(work.cohort))
        found = [
            one or (WITHHELD if drawn & {*s.variables, s.by, *of_all} else None)
            for s, one in zip(work.ask, found, strict=True)
        ]
    if all(one is WITHHELD for one in found):
        if declaration.sums_only and not (policy.disclosure.small_sites and work.small_sites):
            declaration = Declaration(minimum_cohort=1, minimum_cell=1)
        raise undeclared(work, project, declaration)
    return found


def declared(manifest: ReleaseManifest, policy: Policy) -> Declaration:
    """Return a release's declaration; a release of an older format is one cell."""
    if manifest.declaration is not None:
        return manifest.declaration
    return Declaration(
        minimum_cohort=policy.disclosure.minimum_cohort,
        minimum_cell=policy.disclosure.minimum_cell,
        cells=(((),),) if manifest.table is not None else (),
        variables=tuple(
            DeclaredVariable(
                name=column.name, by=dict.fromkeys(("count", "moments", "shape", "levels"), ())
            )
            for column in manifest.columns
        ),
    )


def strata_of(manifest: ReleaseManifest) -> list[str]:
    """Return by what a release can be asked exactly, with a number's cuts: "age=50:65"."""
    if manifest.declaration is None:
        return []
    return [
        stratum.variable
        + ("=" + ":".join(f"{cut:g}" for cut in stratum.cuts) if stratum.cuts else "")
        for stratum in manifest.declaration.strata
    ]


def analyses_of(manifest: ReleaseManifest) -> list[AnalysisSet]:
    """Return the analysis sets that a release can be asked about."""
    if manifest.declaration is None:
        return []
    return [one for one in manifest.declaration.analyses if one.by is not None]


def as_bits(analysis: AnalysisSet, declared: Sequence[Joint]) -> list[int]:
    """Return what is declared of several variables, each as bits: of its first variable 1..."""
    place = {name: 1 << at for at, name in enumerate(analysis.variables[:MAX_JOINED])}
    return [sum(place[name] for name in one.variables) for one in declared]


def _is_enough(declaration: Declaration, policy: Policy) -> bool:
    """Say whether a declaration was made for minimums as strict as the policy's are now."""
    disclosure = policy.disclosure.in_sums if declaration.sums_only else policy.disclosure
    return (
        declaration.minimum_cohort >= disclosure.minimum_cohort
        and declaration.minimum_cell >= disclosure.minimum_cell
    )


def _in_sums(
    work: StatisticsWork, project: Project, declaration: Declaration
) -> list[Exactly | None]:
    """Return how statistics are answered in a sum over releases that are declared for such alone.

    All are of one analysis set and of everybody in it, or of each level of a category; and then
    each level must be there. So that whatever is answered, every site has a part in it.
    """
    if work.analysis is None or work.cohort is not None:
        return [None] * len(work.ask)
    found = plan(work, project, declaration)
    return [
        one if one is not None and _has_all_levels(statistic, one, project, declaration) else None
        for statistic, one in zip(work.ask, found, strict=True)
    ]


def _has_all_levels(
    statistic: Statistic, one: Exactly, project: Project, declaration: Declaration
) -> bool:
    """Say whether the groups of a statistic are all levels of the dictionary, and all subjects."""
    by = project.variable(statistic.by) if statistic.by is not None else None
    return by is None or (
        list(one.groups) == list(by.levels)
        and sum(map(len, one.groups.values())) == len(declaration.cells)
    )


def plan(work: StatisticsWork, project: Project, declaration: Declaration) -> list[Exactly | None]:
    """Return how each statistic is answered exactly; None where it isn't declared."""
    points = _Points(project, declaration)
    chosen = points.chosen(work.cohort)
    if chosen is None or not chosen:
        return [None] * len(work.ask)
    whole = _Whole(Blocks(declaration.strata, declaration.cells))
    return [
        _exactly(statistic, work.analysis, project, declaration, points, whole, chosen)
        for statistic in work.ask
    ]


def _exactly(
    statistic: Statistic,
    analysis: str | None,
    project: Project,
    declaration: Declaration,
    points: _Points,
    whole: _Whole,
    chosen: Sequence[int],
) -> Exactly | None:
    found = _set(statistic, analysis, project, declaration)
    if found is None:
        return None
    groups = {"": tuple(chosen)}
    if statistic.by is not None:
        levels = points.levels(statistic.by, chosen)
        if levels is None:
            return None
        groups = {level: cells for level, cells in levels.items() if cells}
    unions = [tuple(chosen), *groups.values()]
    for name in found.crossed:
        levels = points.levels(name, chosen)
        if levels is None:
            return None
        unions += [
            tuple(sorted(set(union) & set(cells)))
            for union, cells in itertools.product(unions, levels.values())
        ]
    if not all(whole.are(cells, strata) for strata in found.by for cells in unions):
        return None
    return Exactly(found.name, groups)


class _Whole:
    """Whether cells are all of some blocks; most statistics of a question ask that alike."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._known: dict[tuple[tuple[int, ...], Strata], bool] = {}

    def are(self, cells: tuple[int, ...], strata: Strata) -> bool:
        """Say whether of no block that some strata tell apart a part is in these cells."""
        if len(cells) == self._blocks.cells:
            return True
        key = (cells, strata)
        if key not in self._known:
            block = self._blocks.of(strata)
            inside = np.zeros(block.size, dtype=np.bool_)
            inside[list(cells)] = True
            self._known[key] = not np.isin(block[~inside], block[inside]).any()
        return self._known[key]


@dataclass(frozen=True)
class _Set:
    """Which set a statistic is of, by which strata it may be asked, and which strata it crosses."""

    name: str
    by: list[Strata]
    crossed: tuple[str, ...] = ()


def _set(
    statistic: Statistic, analysis: str | None, project: Project, declaration: Declaration
) -> _Set | None:
    """Return the set that a statistic is of; None where it isn't declared."""
    declared = [v for v in map(declaration.variable, statistic.variables) if v is not None]
    if len(declared) != len(statistic.variables):
        return None
    match statistic.kind:
        case "comoments":
            return _of_products(declared, analysis, declaration)
        case "crosstab":
            return _of_combinations(declared, analysis, project, declaration)
        case kind:
            return _of_one(declared[0], kind, analysis, project, declaration)


def _of_one(
    variable: DeclaredVariable,
    kind: ExactKind,
    analysis: str | None,
    project: Project,
    declaration: Declaration,
) -> _Set | None:
    if kind not in variable.by or (kind == "histogram" and not _is_grid(variable, project)):
        return None
    if analysis is None:
        return _Set(VARIABLE + variable.name, [variable.by[kind]])
    found = declaration.analysis(analysis)
    if (
        found is None
        or found.by is None
        or variable.name not in found.variables
        or kind not in variable.in_analyses
    ):
        return None
    return _Set(ANALYSIS + analysis, [variable.by[kind], found.by])


def _of_products(
    variables: Sequence[DeclaredVariable], analysis: str | None, declaration: Declaration
) -> _Set | None:
    found = declaration.analysis(analysis) if analysis is not None else None
    if found is None or found.by is None:
        return None
    strata: list[Strata | None] = [found.by]
    strata += [v.by.get("moments") if "moments" in v.in_analyses else None for v in variables]
    strata += [
        found.products_by((one.name, other.name))
        for one, other in itertools.combinations(variables, 2)
    ]
    by = [one for one in strata if one is not None]
    return _Set(ANALYSIS + found.name, by) if len(by) == len(strata) else None


def _of_combinations(
    variables: Sequence[DeclaredVariable],
    analysis: str | None,
    project: Project,
    declaration: Declaration,
) -> _Set | None:
    """A crosstab is of combinations that an analysis set declares, and besides of categories that
    are strata: each of their levels is a union of cells.
    """
    found = declaration.analysis(analysis) if analysis is not None else None
    if analysis is not None and (found is None or found.by is None):
        return None
    strata = {stratum.variable for stratum in declaration.strata if stratum.levels}
    inner = [v for v in variables if v.name not in strata] or list(variables[:1])
    for some in (list(variables), inner):
        by = found.joint_by([v.name for v in some]) if found is not None else None
        if by is not None and found is not None and all(_is_counted(v, project) for v in some):
            crossed = tuple(v.name for v in variables if v not in some)
            return _Set(ANALYSIS + found.name, [by, found.by or ()], crossed)
    if len(inner) > 1:
        return None
    kind: ExactKind = "histogram" if "histogram" in inner[0].by else "levels"
    one = _of_one(inner[0], kind, analysis, project, declaration)
    return one and replace(one, crossed=tuple(v.name for v in variables if v is not inner[0]))


def _is_counted(declared: DeclaredVariable, project: Project) -> bool:
    """Say whether a project counts a variable as the release does: by levels, or on its grid."""
    variable = project.variable(declared.name)
    return variable is not None and (variable.kind == "category" or _is_grid(declared, project))


def _is_grid(declared: DeclaredVariable, project: Project) -> bool:
    variable, grid = project.variable(declared.name), declared.grid
    return (
        variable is not None
        and grid is not None
        and (variable.minimum, variable.maximum, variable.bins)
        == (grid.minimum, grid.maximum, grid.bins)
    )


class _Points:
    """One point for each combination of the strata's values that a cell has."""

    def __init__(self, project: Project, declaration: Declaration) -> None:
        self._project = project
        self._strata = declaration.strata
        self._cells = declaration.cells
        self._members = [(cell, c) for cell, some in enumerate(declaration.cells) for c in some]

    def chosen(self, cohort: Cohort | None) -> list[int] | None:
        """Return the cells that a cohort is the union of; None when it is none of cells."""
        if cohort is None:
            return list(range(len(self._cells)))
        form = cohorts.normalise(cohort, self._project)
        strata = {stratum.variable: stratum for stratum in self._strata}
        for name, cuts in form.uses.items():
            stratum, variable = strata.get(name), self._project.variable(name)
            if stratum is None or variable is None:
                return None
            known = {cohorts.cut((c, 0), whole=variable.whole) for c in stratum.cuts}
            if not cuts <= known:
                return None
        columns: dict[str, Numbers | Codes] = {}
        for place, stratum in enumerate(self._strata):
            variable = self._project.variable(stratum.variable)
            if variable is not None:
                columns[stratum.variable] = _column(
                    variable, [_value(stratum, variable, c[place]) for _, c in self._members]
                )
        for name in set(cohorts.variables(cohort)) - set(columns):
            variable = self._project.variable(name)
            assert variable is not None
            columns[name] = _column(variable, [0] * len(self._members))  # it decides nothing
        inside = cohorts.mask(cohort, columns, self._project)
        told: dict[int, bool] = {}
        for (cell, _), holds in zip(self._members, inside.tolist(), strict=True):
            if told.setdefault(cell, holds) != holds:
                return None
        return [cell for cell, holds in told.items() if holds]

    def levels(self, by: str, chosen: Sequence[int]) -> dict[str, tuple[int, ...]] | None:
        """Return the cells of each level, in the dictionary's order; None if a cell has several."""
        variable = self._project.variable(by)
        place = next((i for i, s in enumerate(self._strata) if s.variable == by), None)
        if variable is None or variable.kind != "category" or place is None:
            return None
        stratum = self._strata[place]
        if not stratum.levels:
            return None
        found: dict[str, list[int]] = {level: [] for level in variable.levels}
        for cell in chosen:
            values = {combination[place] for combination in self._cells[cell]}
            if len(values) > 1:
                return None
            value = values.pop()
            if value < len(stratum.levels):
                found.setdefault(stratum.levels[value], []).append(cell)
        if not any(found.values()) or set(found) - set(variable.levels):
            return None
        return {level: tuple(cells) for level, cells in found.items()}


def _column(variable: Variable, values: Sequence[float]) -> Codes | Numbers:
    if variable.kind == "category":
        return np.array(values, dtype=np.int64)
    return np.array(values, dtype=np.float64)


def _value(stratum: Stratum, variable: Variable, number: int) -> float:
    """Return a value that stands for all of a stratum's with this number."""
    if stratum.levels:
        if number == len(stratum.levels):
            return -1
        level = stratum.levels[number]
        if level not in variable.levels:
            raise DocumentError(f"{variable.name} has a level here that the dictionary hasn't got.")
        return variable.levels.index(level)
    if number > len(stratum.cuts):
        return float("nan")
    if number == 0:
        return stratum.cuts[0] - 1
    return cohorts.cut((stratum.cuts[number - 1], 0), whole=variable.whole)[0]

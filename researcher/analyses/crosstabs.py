"""Categories crossed, or numbers on their grids: counts, tests of independence, risks and odds."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics import crosstabs, proportions, stratified
from contract.statistics.estimates import CONFIDENCE, Estimate, HypothesisTest
from contract.statistics.summaries import places
from contract.work import Statistic
from researcher.analyses.compared import tested
from researcher.analyses.groups import ALL, counts_of, remarks, variable_of
from researcher.analyses.two_way import page
from researcher.findings import Cell, Finding, interval, p_value
from researcher.questions import crosstab
from researcher.statistics import PartAnswer, StatisticsAnswer, place_names


def ask_crosstab(variables: Sequence[str], by: str | None) -> list[Statistic]:
    """Return what a crosstab asks."""
    return [crosstab(variables[0], *variables[1:], by=by)]


def shaped(part: PartAnswer, project: Project, group: str = ALL) -> NDArray[np.float64]:
    """Return a crosstab's counts in the shape of its variables' places."""
    sizes = [places(variable_of(project, name)) for name in part.statistic.variables]
    return crosstabs.table_of(counts_of(part)[group].counts, sizes)


def crossed(
    answer: StatisticsAnswer,
    by: str | None,
    confidence: float = CONFIDENCE,
    chance: np.random.Generator | None = None,
) -> Finding:
    """Return a crosstab with its test of independence; of two by two also risks and odds.

    A third variable makes strata, over which Mantel and Haenszel's estimates are taken where the
    first two have two levels each, and otherwise their generalised test and each stratum's own.
    Where Fisher's test would take too long it is by random tables drawn with ``chance``, if that is
    given.
    """
    part = answer.parts[0]
    variables = [variable_of(answer.project, name) for name in part.statistic.variables]
    names = [place_names(v) for v in variables]
    rows: list[tuple[Cell, ...]] = []
    said: list[str] = []
    result: dict[str, object] = {}
    figures: list[tuple[str, Estimate | HypothesisTest]] = []
    for group, held in counts_of(part).items():
        of = "" if group == ALL else group
        table = crosstabs.table_of(held.counts, [len(n) for n in names])
        for place in itertools.product(*(range(len(n)) for n in names)):
            if table[place]:
                labels = (names[axis][at] for axis, at in enumerate(place))
                rows.append((*((of,) if by else ()), *labels, float(table[place])))
        lead = f"{of}: " if of else ""
        if table.ndim == 2:
            result[group], told, lines = _associated(table, variables, confidence, chance)
        else:
            result[group], told, lines = _over_strata(table, variables, confidence, chance)
        figures += [(of, one) for one in told]
        said += [lead + line for line in lines]
        if held.missing:
            said.append(f"{lead}{held.missing} lack a value of one of them.")
    return Finding(
        title=" x ".join(v.name for v in variables),
        columns=(*((by,) if by else ()), *(v.name for v in variables), "count"),
        rows=tuple(rows),
        result=result,
        answers=(answer,),
        about="Categories were crossed; association by Pearson's chi-squared test and Cramér's V.",
        remarks=remarks(answer, *said),
        figures=tuple(figures),
        confidence=confidence,
        in_print=page(counts_of(part), variables, by),
    )


def _risks(variables: Sequence[Variable]) -> str:
    """Say of whom risks are: as everywhere, a category's second level is the event."""
    groups, event = variables[:2]
    return (
        f"Risks are of {event.name} = {event.levels[1]}, and compare {groups.name} = "
        f"{groups.levels[1]} with {groups.levels[0]}."
    )


def _associated(
    table: NDArray[np.float64],
    variables: Sequence[Variable],
    confidence: float,
    chance: np.random.Generator | None,
) -> tuple[object, list[Estimate | HypothesisTest], list[str]]:
    found = crosstabs.chi_squared(table)
    told: list[Estimate | HypothesisTest] = [found.test]
    said = [tested(found.test), found.test.note]
    if not math.isnan(found.cramers_v):
        told.append(Estimate("Cramér's V", found.cramers_v))
        said.append(f"Cramér's V {found.cramers_v:.3f}")
    try:
        exact = crosstabs.fisher_exact(table, simulate=chance, confidence=confidence)
        told.append(exact)
        said.append(_exactly(exact))
    except DocumentError as error:
        said.append(str(error))
    if table.shape == (2, 2):
        flipped = table[::-1, ::-1]
        plain = crosstabs.chi_squared(table, continuity=False).test
        estimates = [
            make(flipped, confidence)
            for make in (
                proportions.risk_difference,
                proportions.risk_ratio,
                proportions.odds_ratio,
            )
        ]
        told += [
            *estimates,
            proportions.number_needed_to_treat(flipped, confidence),
            replace(plain, name=f"{plain.name}, without correction"),
        ]
        said += [f"{e.name} {interval(e.value, e.low, e.high)}" for e in estimates]
        said.append(_risks(variables))
    return found, told, [line for line in said if line]


def _over_strata(
    table: NDArray[np.float64],
    variables: Sequence[Variable],
    confidence: float,
    chance: np.random.Generator | None,
) -> tuple[object, list[Estimate | HypothesisTest], list[str]]:
    mutual = crosstabs.mutual_independence(table)
    if table.shape[:2] != (2, 2):
        return _stratum_by_stratum(table, variables, mutual, chance)
    found = stratified.mantel_haenszel(np.moveaxis(table[::-1, ::-1], 2, 0), confidence)
    estimates = (found.odds_ratio, found.risk_ratio, found.risk_difference)
    said = [f"{e.name} {interval(e.value, e.low, e.high)}" for e in estimates]
    tests = (found.association, found.homogeneity, mutual)
    said += [_risks(variables), *map(tested, tests)]
    return found, [*estimates, *tests], said


def _stratum_by_stratum(
    table: NDArray[np.float64],
    variables: Sequence[Variable],
    mutual: HypothesisTest,
    chance: np.random.Generator | None,
) -> tuple[object, list[Estimate | HypothesisTest], list[str]]:
    """Test the first two variables over the third one's levels together, and in each of them."""
    tests = [stratified.generalised(np.moveaxis(table, 2, 0)), mutual]
    third = variables[2]
    for level, held in zip(place_names(third), np.moveaxis(table, 2, 0), strict=True):
        if not held.any():
            continue
        own = [crosstabs.chi_squared(held).test]
        with contextlib.suppress(DocumentError):  # as of counts with noise
            most = crosstabs.MAX_STEPS // table.shape[2]
            own.append(crosstabs.fisher_exact(held, most, chance))
        tests += [replace(one, name=f"{third.name} = {level}: {one.name}") for one in own]
    lines = [tested(one) if one.degrees else _exactly(one) for one in tests]
    return tuple(tests), list(tests), lines


def _exactly(exact: HypothesisTest) -> str:
    """Return Fisher's exact test in a line, or why there is none."""
    if math.isnan(exact.p_value):
        return f"{exact.name}: {exact.note}"
    line = f"{exact.name}: p {p_value(exact.p_value)}"
    if (odds := exact.estimate) is not None and not math.isnan(odds.value):
        line += f", {odds.name} {interval(odds.value, odds.low, odds.high)}"
    return line

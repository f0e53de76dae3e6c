"""Tables: table 1 of a trial, and categories crossed."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics import balance, crosstabs, mean_tests, proportions, stratified
from contract.statistics.estimates import CONFIDENCE, Estimate, HypothesisTest
from contract.statistics.summaries import Counts, Moments, places
from contract.work import Statistic
from researcher.analyses.compared import tested
from researcher.analyses.groups import ALL, counts_of, moments_of, remarks, share_of, variable_of
from researcher.analyses.two_way import page
from researcher.findings import Cell, Finding, Printed, interval, p_value
from researcher.questions import crosstab, levels, mean
from researcher.statistics import PartAnswer, StatisticsAnswer, place_names


def ask_table_one(project: Project, variables: Sequence[str], by: str | None) -> list[Statistic]:
    """Return what a table 1 is worked out from: means of numbers, counts of categories."""
    return [
        mean(name, by) if variable_of(project, name).kind == "number" else levels(name, by)
        for name in variables
    ]


COLUMNS = ("variable", "level", "group", "n", "missing", "mean", "SD", "count", "share")
_Lines = list[tuple[Cell, ...]]


@dataclass(frozen=True)
class _Described:
    """A variable of a table 1: its records, the lines that are printed, and how groups differ."""

    rows: _Lines
    lines: _Lines
    test: HypothesisTest
    differences: list[tuple[str, Estimate]]


def table_one(answer: StatisticsAnswer, by: str | None, confidence: float = CONFIDENCE) -> Finding:
    """Return a trial's table 1: mean (SD) or count (%) by group, how the groups differ, p.

    Without ``by`` it is of everybody, in one column. Standardised differences are of the two
    groups, or the largest of any two. p values are of Welch's analysis of variance and Pearson's
    chi-squared test.
    """
    levels_of = (ALL,) if by is None else variable_of(answer.project, by).levels
    there = [
        level
        for level in levels_of
        if any(
            ("" if level == ALL and by is None else level) in part.part.groups
            for part in answer.parts
            if not part.part.withheld
        )
    ]
    compared = ("SMD", "p.value") if len(there) > 1 else ()
    sizes = _sizes(answer, there)
    lines: _Lines = [("n", *(str(n) for n in sizes.values()), *("" for _ in compared))]
    nothing = (math.nan,) * 4
    rows: _Lines = [("", "", g, n, math.nan, *nothing) for g, n in sizes.items()]
    results: dict[str, HypothesisTest] = {}
    figures: list[tuple[str, Estimate | HypothesisTest]] = []
    said = []
    for part in answer.parts:
        name = part.statistic.variable
        if part.part.withheld:
            lines.append((name, *("withheld" for _ in there), *("" for _ in compared)))
            rows += [(name, "", g, math.nan, math.nan, *nothing) for g in there]
            continue
        variable = variable_of(answer.project, name)
        if variable.kind == "number":
            found = _number(variable, moments_of(part, answer.project), there, confidence)
        else:
            found = _category(variable, counts_of(part), there, confidence)
        lines += [line if compared else line[:-2] for line in found.lines]
        rows += found.rows
        if compared:
            results[name] = found.test
            said += [f"{name}: {found.test.note}"] if found.test.note else []
            figures.append((name, found.test))
            figures += [(f"{name}: {of}", one) for of, one in found.differences]
    about = "Numbers are given as mean (standard deviation), categories as count (per cent)."
    if compared:
        about += (
            " Groups were compared by standardised mean differences, Welch's analysis of variance "
            "and Pearson's chi-squared test."
        )
    return Finding(
        title=f"Table 1 by {by}" if by else "Table 1",
        columns=COLUMNS,
        rows=tuple(rows),
        result=results,
        answers=(answer,),
        about=about,
        remarks=remarks(answer, *said),
        figures=tuple(figures),
        confidence=confidence,
        in_print=Printed(("", *there, *compared), tuple(lines)),
    )


def _sizes(answer: StatisticsAnswer, there: Sequence[str]) -> dict[str, int]:
    """Return how many each group holds: the most of whom anything is told or missing.

    Sets of variables differ by whom a value is missing of; the largest is nearest to the group.
    """
    sizes = dict.fromkeys(there, 0)
    for part in answer.parts:
        for level, summary in part.part.groups.items():
            group = level or ALL
            if group in sizes:
                sizes[group] = max(sizes[group], summary.n + summary.missing)
    return sizes


def _number(
    variable: Variable, groups: Mapping[str, Moments], there: Sequence[str], confidence: float
) -> _Described:
    cells = [
        f"{groups[g].mean:.4g} ({groups[g].standard_deviation:.3g})" if g in groups else ""
        for g in there
    ]
    held = list(groups.values())
    test = mean_tests.welch_anova(held) if len(held) != 2 else mean_tests.welch_t(held[0], held[1])
    differences = [
        (f"{a} and {b}", balance.of_numbers(groups[a], groups[b], confidence))
        for a, b in itertools.combinations(groups, 2)
    ]
    unit = f" [{variable.unit}]" if variable.unit else ""
    line: tuple[Cell, ...] = (f"{variable.name}{unit}", *cells, _largest(differences), test.p_value)
    missing = [groups[g].missing if g in groups else 0 for g in there]
    rows: _Lines = [
        (variable.name, "", g, m.n, m.missing, m.mean, m.standard_deviation, math.nan, math.nan)
        for g, m in groups.items()
    ]
    return _Described(rows, [line, *_missing(missing)], test, differences)


def _category(
    variable: Variable, groups: Mapping[str, Counts], there: Sequence[str], confidence: float
) -> _Described:
    held = [groups[g].counts for g in groups]
    if len(held) > 1:
        test = crosstabs.chi_squared(np.array(held)).test
    else:
        test = HypothesisTest("Pearson's chi-squared test", math.nan, math.nan)
    differences = [
        (f"{a} and {b}", balance.of_levels(groups[a].counts, groups[b].counts, confidence))
        for a, b in itertools.combinations(groups, 2)
    ]
    blank = ["" for _ in there]
    lines: _Lines = [(variable.name, *blank, _largest(differences), test.p_value)]
    for place, level in enumerate(variable.levels):
        cells = [_share(groups[g].counts, place) if g in groups else "" for g in there]
        lines.append((f"  {level}", *cells, "", ""))
    missing = [groups[g].missing if g in groups else 0 for g in there]
    rows: _Lines = [
        (
            *(variable.name, level, g, counts.n, counts.missing, math.nan, math.nan),
            *(counts.counts[place], share_of(counts.counts, place)),
        )
        for place, level in enumerate(variable.levels)
        for g, counts in groups.items()
    ]
    return _Described(rows, [*lines, *_missing(missing)], test, differences)


def _missing(missing: Sequence[int]) -> _Lines:
    # Noise can leave less than none.
    known = [str(max(n, 0)) for n in missing]
    return [("  missing", *known, "", "")] if any(n > 0 for n in missing) else []


def _share(counts: Sequence[int], place: int) -> str:
    share = share_of(counts, place)
    return f"{counts[place]}" if math.isnan(share) else f"{counts[place]} ({share:.1%})"


def _largest(differences: Sequence[tuple[str, Estimate]]) -> str:
    values = [abs(d.value) for _, d in differences if not math.isnan(d.value)]
    return f"{max(values):.3f}" if values else ""


# ---- categories crossed --------------------------------------------------------------------------


def ask_crosstab(variables: Sequence[str], by: str | None) -> list[Statistic]:
    """Return what a crosstab asks."""
    return [crosstab(variables[0], *variables[1:], by=by)]


def shaped(part: PartAnswer, project: Project, group: str = ALL) -> NDArray[np.float64]:
    """Return a crosstab's counts in the shape of its variables' places."""
    sizes = [places(variable_of(project, name)) for name in part.statistic.variables]
    return crosstabs.table_of(counts_of(part)[group].counts, sizes)


def crossed(answer: StatisticsAnswer, by: str | None, confidence: float = CONFIDENCE) -> Finding:
    """Return a crosstab with its test of independence; of two by two also risks and odds.

    A third variable makes strata, over which Mantel and Haenszel's estimates are taken where the
    first two have two levels each, and otherwise their generalised test and each stratum's own.
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
            result[group], told, lines = _associated(table, variables, confidence)
        else:
            result[group], told, lines = _over_strata(table, variables, confidence)
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
    table: NDArray[np.float64], variables: Sequence[Variable], confidence: float
) -> tuple[object, list[Estimate | HypothesisTest], list[str]]:
    found = crosstabs.chi_squared(table)
    told: list[Estimate | HypothesisTest] = [found.test]
    said = [tested(found.test), found.test.note]
    if not math.isnan(found.cramers_v):
        told.append(Estimate("Cramér's V", found.cramers_v))
        said.append(f"Cramér's V {found.cramers_v:.3f}")
    try:
        exact = crosstabs.fisher_exact(table, confidence=confidence)
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
    table: NDArray[np.float64], variables: Sequence[Variable], confidence: float
) -> tuple[object, list[Estimate | HypothesisTest], list[str]]:
    mutual = crosstabs.mutual_independence(table)
    if table.shape[:2] != (2, 2):
        return _stratum_by_stratum(table, variables, mutual)
    found = stratified.mantel_haenszel(np.moveaxis(table[::-1, ::-1], 2, 0), confidence)
    estimates = (found.odds_ratio, found.risk_ratio, found.risk_difference)
    said = [f"{e.name} {interval(e.value, e.low, e.high)}" for e in estimates]
    tests = (found.association, found.homogeneity, mutual)
    said += [_risks(variables), *map(tested, tests)]
    return found, [*estimates, *tests], said


def _stratum_by_stratum(
    table: NDArray[np.float64], variables: Sequence[Variable], mutual: HypothesisTest
) -> tuple[object, list[Estimate | HypothesisTest], list[str]]:
    """Test the first two variables over the third one's levels together, and in each of them."""
    tests = [stratified.generalised(np.moveaxis(table, 2, 0)), mutual]
    third = variables[2]
    for level, held in zip(place_names(third), np.moveaxis(table, 2, 0), strict=True):
        if not held.any():
            continue
        own = [crosstabs.chi_squared(held).test]
        with contextlib.suppress(DocumentError):  # as of counts with noise
            own.append(crosstabs.fisher_exact(held, crosstabs.MAX_STEPS // table.shape[2]))
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

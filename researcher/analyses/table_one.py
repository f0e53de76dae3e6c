"""Table 1 of a trial: numbers and categories described by group, and how the groups differ."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TypeVar

import numpy as np

from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics import balance, crosstabs, mean_tests, rank_tests
from contract.statistics.estimates import CONFIDENCE, Estimate, HypothesisTest, adjusted
from contract.statistics.summaries import Counts, Moments
from contract.work import Statistic
from researcher.analyses.compared import method_named
from researcher.analyses.groups import ALL, counts_of, moments_of, remarks, share_of, variable_of
from researcher.analyses.numbers import QUARTILES, quantiles_of
from researcher.findings import Cell, Finding, Printed
from researcher.questions import histogram, levels, mean
from researcher.statistics import PartAnswer, StatisticsAnswer

COLUMNS = ("variable", "level", "group", "n", "missing", "mean", "SD", "count", "share")
QUARTILE_COLUMNS = ("Q1", "median", "Q3")
_Lines = list[tuple[Cell, ...]]
_Held = TypeVar("_Held", Moments, Counts)


def ask_table_one(
    project: Project, variables: Sequence[str], by: str | None, medians: Sequence[str] = ()
) -> list[Statistic]:
    """Return what a table 1 is worked out from: means of numbers, counts of categories.

    Of ``medians`` counts on the grid, too. ``DocumentError``: one of them has no grid, or isn't in
    the table.
    """
    for name in medians:
        if name not in variables or variable_of(project, name).bins is None:
            raise DocumentError(
                f"{name} has no median in a table 1: it must be one of the table's numbers, with "
                "a grid in the dictionary."
            )
    asked = [
        mean(name, by) if variable_of(project, name).kind == "number" else levels(name, by)
        for name in variables
    ]
    return [*asked, *(histogram(name, by) for name in dict.fromkeys(medians))]


@dataclass(frozen=True)
class _Described:
    """A variable of a table 1: its records, the lines that are printed, and how groups differ."""

    rows: _Lines
    lines: _Lines
    test: HypothesisTest
    differences: list[tuple[str, Estimate]]


@dataclass(frozen=True)
class _Columns:
    """Which columns there are: groups, and whether one of all of them stands before."""

    groups: tuple[str, ...]
    overall: bool
    confidence: float

    @property
    def shown(self) -> tuple[str, ...]:
        return ((ALL,) if self.overall else ()) + self.groups

    def described(self, groups: Mapping[str, _Held]) -> dict[str, _Held]:
        """Return what is told of each column: the first is the groups' together, merged."""
        held = {g: groups[g] for g in self.groups if g in groups}
        if self.overall and held:
            return {ALL: reduce(lambda a, b: a.merge(b), held.values()), **held}
        return held


def table_one(
    answer: StatisticsAnswer,
    by: str | None,
    confidence: float = CONFIDENCE,
    *,
    overall: bool = False,
    adjust: str = "none",
) -> Finding:
    """Return a trial's table 1: mean (SD) or count (%) by group, how the groups differ, p.

    Without ``by`` it is of everybody, in one column; with ``overall`` a column of all groups
    together stands before them. Numbers whose histogram was asked are given as median [quartiles].
    Standardised differences are of the two groups, or the largest of any two. p values are of
    Welch's analysis of variance, Pearson's chi-squared test, and of medians Kruskal and Wallis';
    ``adjust`` is a method of ``estimates.adjusted`` for their being several, or ``none``.
    """
    levels_of = (ALL,) if by is None else variable_of(answer.project, by).levels
    there = tuple(
        level
        for level in levels_of
        if any(
            ("" if level == ALL and by is None else level) in part.part.groups
            for part in answer.parts
            if not part.part.withheld
        )
    )
    columns = _Columns(there, overall and by is not None, confidence)
    compared = ("SMD", "p.value") if len(there) > 1 else ()
    sizes = _sizes(answer, there)
    if columns.overall:
        sizes = {ALL: sum(sizes.values()), **sizes}
    lines: _Lines = [("n", *(str(n) for n in sizes.values()), *("" for _ in compared))]
    grids = {p.statistic.variable: p for p in answer.parts if p.statistic.kind == "histogram"}
    nothing = (math.nan,) * (7 if grids else 4)
    rows: _Lines = [("", "", g, n, math.nan, *nothing) for g, n in sizes.items()]
    found = {
        part.statistic.variable: _described(part, answer, columns, grids)
        for part in answer.parts
        if part.statistic.kind != "histogram"
    }
    tests = {name: one.test for name, one in found.items() if one is not None}
    if adjust != "none":
        p_values = adjusted([test.p_value for test in tests.values()], adjust)
        tests = {
            name: replace(test, name=f"{test.name}, p by {method_named(adjust)}", p_value=p)
            for (name, test), p in zip(tests.items(), p_values, strict=True)
        }
    figures: list[tuple[str, Estimate | HypothesisTest]] = []
    said = []
    for name, one in found.items():
        if one is None:
            lines.append((name, *("withheld" for _ in sizes), *("" for _ in compared)))
            rows += [(name, "", g, math.nan, math.nan, *nothing) for g in sizes]
            continue
        first, *others = one.lines
        whole = [(*first[:-1], tests[name].p_value), *others]
        lines += whole if compared else [line[:-2] for line in whole]
        rows += [(*row, *(math.nan,) * 3)[: 5 + len(nothing)] for row in one.rows]
        if compared:
            said += [f"{name}: {one.test.note}"] if one.test.note else []
            figures.append((name, tests[name]))
            figures += [(f"{name}: {of}", apart) for of, apart in one.differences]
    about = "Numbers are given as mean (standard deviation), categories as count (per cent)"
    about += f"; {', '.join(grids)} as median [quartiles]." if grids else "."
    if compared:
        about += (
            " Groups were compared by standardised mean differences, Welch's analysis of variance "
            "and Pearson's chi-squared test" + (", medians by Kruskal and Wallis'" if grids else "")
        )
        about += "." if adjust == "none" else f"; p values were adjusted by {method_named(adjust)}."
    return Finding(
        title=f"Table 1 by {by}" if by else "Table 1",
        columns=COLUMNS + (QUARTILE_COLUMNS if grids else ()),
        rows=tuple(rows),
        result=tests if compared else {},
        answers=(answer,),
        about=about,
        remarks=remarks(answer, *said),
        figures=tuple(figures),
        confidence=confidence,
        in_print=Printed(("", *sizes, *compared), tuple(lines)),
    )


def _described(
    part: PartAnswer,
    answer: StatisticsAnswer,
    columns: _Columns,
    grids: Mapping[str, PartAnswer],
) -> _Described | None:
    """Return what is told of a variable; None where it was withheld."""
    if part.part.withheld:
        return None
    variable = variable_of(answer.project, part.statistic.variable)
    if variable.kind != "number":
        return _category(variable, counts_of(part), columns)
    found = _number(variable, moments_of(part, answer.project), columns)
    grid = grids.get(variable.name)
    return found if grid is None else _of_medians(found, variable, grid, columns)


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


def _number(variable: Variable, groups: Mapping[str, Moments], columns: _Columns) -> _Described:
    there = columns.described(groups)
    held = [there[g] for g in columns.groups if g in there]
    test = mean_tests.welch_anova(held) if len(held) != 2 else mean_tests.welch_t(held[0], held[1])
    differences = _apart(there, columns, lambda a, b: balance.of_numbers(a, b, columns.confidence))
    cells = [
        f"{there[g].mean:.4g} ({there[g].standard_deviation:.3g})" if g in there else ""
        for g in columns.shown
    ]
    line: tuple[Cell, ...] = (_named(variable), *cells, _largest(differences), test.p_value)
    rows: _Lines = [
        (variable.name, "", g, m.n, m.missing, m.mean, m.standard_deviation, math.nan, math.nan)
        for g, m in there.items()
    ]
    return _Described(rows, [line, *_missing(there, columns)], test, differences)


def _of_medians(
    found: _Described, variable: Variable, grid: PartAnswer, columns: _Columns
) -> _Described:
    """Return a number's median and quartiles in place of its mean and standard deviation."""
    if grid.part.withheld:
        return found
    there = columns.described(counts_of(grid))
    three = {
        g: [q.value for q in quantiles_of(counts, grid, variable, QUARTILES)]
        for g, counts in there.items()
    }
    held = [rank_tests.ordered(there[g]) for g in columns.groups if g in there]
    test = rank_tests.kruskal_wallis(held).test if len(held) > 1 else found.test
    cells = [
        "{1:.4g} [{0:.4g}, {2:.4g}]".format(*three[g]) if g in three else "" for g in columns.shown
    ]
    first, *others = found.lines
    rows: _Lines = [(*row, *three.get(str(row[2]), (math.nan,) * 3)) for row in found.rows]
    lines: _Lines = [(first[0], *cells, first[-2], test.p_value), *others]
    return _Described(rows, lines, test, found.differences)


def _category(variable: Variable, groups: Mapping[str, Counts], columns: _Columns) -> _Described:
    there = columns.described(groups)
    held = [there[g].counts for g in columns.groups if g in there]
    if len(held) > 1:
        test = crosstabs.chi_squared(np.array(held)).test
    else:
        test = HypothesisTest("Pearson's chi-squared test", math.nan, math.nan)
    differences = _apart(
        there, columns, lambda a, b: balance.of_levels(a.counts, b.counts, columns.confidence)
    )
    blank = ["" for _ in columns.shown]
    lines: _Lines = [(variable.name, *blank, _largest(differences), test.p_value)]
    for place, level in enumerate(variable.levels):
        cells = [_share(there[g].counts, place) if g in there else "" for g in columns.shown]
        lines.append((f"  {level}", *cells, "", ""))
    rows: _Lines = [
        (
            *(variable.name, level, g, counts.n, counts.missing, math.nan, math.nan),
            *(counts.counts[place], share_of(counts.counts, place)),
        )
        for place, level in enumerate(variable.levels)
        for g, counts in there.items()
    ]
    return _Described(rows, [*lines, *_missing(there, columns)], test, differences)


def _named(variable: Variable) -> str:
    return variable.name + (f" [{variable.unit}]" if variable.unit else "")


def _apart(
    there: Mapping[str, _Held], columns: _Columns, apart: Callable[[_Held, _Held], Estimate]
) -> list[tuple[str, Estimate]]:
    pairs = itertools.combinations((g for g in columns.groups if g in there), 2)
    return [(f"{a} and {b}", apart(there[a], there[b])) for a, b in pairs]


def _missing(there: Mapping[str, Moments] | Mapping[str, Counts], columns: _Columns) -> _Lines:
    # Noise can leave less than none.
    missing = [max(there[g].missing, 0) if g in there else 0 for g in columns.shown]
    return [("  missing", *map(str, missing), "", "")] if any(missing) else []


def _share(counts: Sequence[int], place: int) -> str:
    share = share_of(counts, place)
    return f"{counts[place]}" if math.isnan(share) else f"{counts[place]} ({share:.1%})"


def _largest(differences: Sequence[tuple[str, Estimate]]) -> str:
    values = [abs(d.value) for _, d in differences if not math.isnan(d.value)]
    return f"{max(values):.3f}" if values else ""

"""Variables of the same subjects with each other: correlation, order, means in pairs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics import correlation, crosstabs, mean_tests
from contract.statistics.estimates import CONFIDENCE, Estimate, HypothesisTest, adjusted
from contract.statistics.summaries import Moments
from contract.work import Statistic
from researcher.analyses.compared import method_named, tested
from researcher.analyses.crosstabs import shaped
from researcher.analyses.groups import ALL, comoments_of, counts_of, remarks, variable_of
from researcher.findings import Cell, Finding, interval, p_value
from researcher.plots import Heat
from researcher.questions import comoments, crosstab
from researcher.statistics import PartAnswer, StatisticsAnswer

# ---- correlation ---------------------------------------------------------------------------------


def ask_correlation(
    variables: Sequence[str], by: str | None, given: Sequence[str] = (), *, pairwise: bool = False
) -> list[Statistic]:
    """Return what correlations are worked out from; ``pairwise``: of each two by themselves."""
    sets = list(itertools.combinations(variables, 2)) if pairwise else [tuple(variables)]
    return [comoments(some[0], *some[1:], *given, by=by) for some in sets]


@dataclass(frozen=True)
class Related:
    """Two variables: how they are correlated, their covariance, and what is left of it."""

    group: str
    of: str
    other: str
    test: HypothesisTest
    covariance: float
    n: int
    partial: HypothesisTest | None


def _related(
    answer: StatisticsAnswer, given: Sequence[str], confidence: float
) -> Iterator[Related]:
    for part in answer.parts:
        every = part.statistic.variables
        names = every[: len(every) - len(given)]
        behind = range(len(names), len(every))
        for group, held in comoments_of(part).items():
            covariance = correlation.covariance_matrix(held.n, held.products)
            square = held.matrix
            for i, j in itertools.combinations(range(len(names)), 2):
                xx, xy, yy = (float(square[at]) for at in ((i, i), (i, j), (j, j)))
                yield Related(
                    "" if group == ALL else group,
                    names[i],
                    names[j],
                    correlation.correlation(held.n, xx, xy, yy, confidence),
                    float(covariance[i, j]),
                    held.n,
                    correlation.partial_correlation(held.n, held.products, i, j, behind, confidence)
                    if given
                    else None,
                )


def correlations(
    answer: StatisticsAnswer,
    given: Sequence[str] = (),
    confidence: float = CONFIDENCE,
    adjust: str = "none",
) -> Finding:
    """Return each pair's correlation, covariance, interval and p value, of complete subjects.

    p values are adjusted by a method of ``estimates.adjusted``, of each group for itself.
    Partial correlations beside them are those with the variables ``given`` held fixed. An answer
    of several parts is of pairs, each of the subjects who have both.
    """
    found = _adjusted(list(_related(answer, given, confidence)), adjust)
    rows: list[tuple[Cell, ...]] = []
    for one in found:
        e = one.test.estimate
        r, low, high = (math.nan,) * 3 if e is None else (e.value, e.low, e.high)
        figures = (r, low, high, one.test.p_value, one.covariance, one.n)
        rows.append((one.group, one.of, one.other, *figures))
    partial = [
        ((f"{one.group}: " if one.group else "") + f"{one.of} with {one.other}", one.partial)
        for one in found
        if one.partial is not None
    ]
    said = [
        f"{of}, given {', '.join(given)}: "
        + interval(t.estimate.value, t.estimate.low, t.estimate.high)
        + f", p {p_value(t.p_value)}"
        if t.estimate is not None
        else f"{of}: {t.note}"
        for of, t in partial
    ]
    pairwise = len(answer.parts) > 1
    return Finding(
        title="Correlations",
        columns=(
            *("group", "of", "with", "r", "conf.low", "conf.high"),
            *("p.value", "covariance", "n"),
        ),
        rows=tuple(rows),
        result=tuple(found),
        answers=(answer,),
        about="Pearson's correlations are of subjects with "
        + ("both values of a pair" if pairwise else "all values")
        + "; intervals by Fisher's z"
        + ("." if adjust == "none" else f", p values adjusted by {method_named(adjust)}."),
        figure=_matrix([row[1:4] for row in rows if row[0] == rows[0][0]], diagonal=1.0),
        remarks=remarks(answer, *said),
        figures=tuple(partial),
        confidence=confidence,
    )


def _adjusted(found: Sequence[Related], adjust: str) -> list[Related]:
    """Return correlations whose p values, and partial ones', are adjusted within each group."""
    if adjust == "none":
        return list(found)
    p_values: dict[tuple[int, bool], float] = {}
    for group in {one.group for one in found}:
        for partial in (False, True):
            tests = [
                (at, test)
                for at, one in enumerate(found)
                if one.group == group and (test := one.partial if partial else one.test) is not None
            ]
            told = adjusted([test.p_value for _, test in tests], adjust)
            p_values |= {(at, partial): p for (at, _), p in zip(tests, told, strict=True)}
    return [
        replace(
            one,
            test=replace(one.test, p_value=p_values[at, False]),
            partial=None
            if one.partial is None
            else replace(one.partial, p_value=p_values[at, True]),
        )
        for at, one in enumerate(found)
    ]


def covariances(answer: StatisticsAnswer) -> Finding:
    """Return the matrix of covariances, variances in its diagonal, of complete subjects."""
    part = answer.parts[0]
    names = part.statistic.variables
    rows: list[tuple[Cell, ...]] = []
    matrices: dict[str, NDArray[np.float64]] = {}
    for group, held in comoments_of(part).items():
        matrix = correlation.covariance_matrix(held.n, held.products)
        matrices[group] = matrix
        rows += [
            ("" if group == ALL else group, names[i], names[j], float(matrix[i, j]), held.n)
            for i, j in itertools.combinations_with_replacement(range(len(names)), 2)
        ]
    return Finding(
        title="Covariances",
        columns=("group", "of", "with", "covariance", "n"),
        rows=tuple(rows),
        result=matrices,
        answers=(answer,),
        about="Covariances are of subjects with all values (divisor n - 1).",
        figure=_matrix([row[1:4] for row in rows if row[0] == rows[0][0]]),
        remarks=remarks(answer),
    )


def _matrix(pairs: Sequence[tuple[Cell, ...]], diagonal: float | None = None) -> Heat:
    """Return the heat map of a symmetric matrix from its pairs."""
    names = tuple(dict.fromkeys(str(name) for pair in pairs for name in pair[:2]))
    known = {(str(a), str(b)): float(value) for a, b, value in pairs}
    known |= {(b, a): value for (a, b), value in known.items()}
    if diagonal is not None:
        known |= {(name, name): diagonal for name in names}
    values = tuple(tuple(known[a, b] for b in names) for a in names)
    ends = () if diagonal is None else (-diagonal, diagonal)
    return Heat(names, names, values, *ends)


# ---- means in pairs ------------------------------------------------------------------------------


def ask_pair(first: str, second: str) -> list[Statistic]:
    """Return what a paired t test is worked out from."""
    return [comoments(first, second)]


def paired_t_test(
    answer: StatisticsAnswer,
    alternative: mean_tests.Alternative = "two-sided",
    null: float = 0.0,
    confidence: float = CONFIDENCE,
) -> Finding:
    """Return a paired t test of two numbers, of the subjects who have both."""
    part = answer.parts[0]
    held = comoments_of(part)[ALL]
    first, second = part.statistic.variables
    plain = mean_tests.paired_t(held.n, held.means, held.products, confidence)
    found = mean_tests.directed(plain, alternative, null, confidence)
    spreads = held.products[0], held.products[2]
    means = [
        mean_tests.mean_interval(Moments(held.n, 0, mean, max(m2, 0.0)), confidence)
        for mean, m2 in zip(held.means, spreads, strict=True)
    ]
    rows: list[tuple[Cell, ...]] = [
        (f"mean {name}", one.value, one.low, one.high, held.n)
        for name, one in zip((first, second), means, strict=True)
    ]
    if found.estimate is not None:
        e = found.estimate
        rows.append((f"{first} less {second}", e.value, e.low, e.high, held.n))
    missing = f"{held.missing} lack one of the two and are left out." if held.missing else ""
    return Finding(
        title=f"{first} and {second}: {tested(found)}",
        columns=("figure", "value", "conf.low", "conf.high", "n"),
        rows=tuple(rows),
        result=found,
        answers=(answer,),
        about="Means of the same subjects were compared by a paired t test.",
        remarks=remarks(answer, found.note, missing),
        figures=(("", found),),
        confidence=confidence,
    )


# ---- order ---------------------------------------------------------------------------------------


def ask_order(project: Project, first: str, second: str, by: str | None) -> list[Statistic]:
    """Return what rank correlations are worked out from: the crosstab of the two."""
    for name in (first, second):
        variable = variable_of(project, name)
        if variable.kind == "number" and variable.bins is None:
            raise DocumentError(f"The dictionary gives {name} no grid to rank it by.")
    return [crosstab(first, second, by=by)]


def rank_correlation(answer: StatisticsAnswer, confidence: float = CONFIDENCE) -> Finding:
    """Return Spearman's correlation, Kendall's tau-b, Goodman and Kruskal's gamma of two variables.

    Categories' levels count as ordered, as the dictionary has them. Where one has two levels,
    Cochran and Armitage's test tells whether the share of the second rises over the other's.
    """
    part = answer.parts[0]
    first, second = part.statistic.variables
    rows: list[tuple[Cell, ...]] = []
    figures: list[tuple[str, Estimate | HypothesisTest]] = []
    said: list[str] = []
    for group, counts in counts_of(part).items():
        of = "" if group == ALL else group
        table = _in_order(part, answer.project, group)
        told: list[Estimate | HypothesisTest] = [
            correlation.spearman(table, confidence),
            crosstabs.kendall_test(table),
            crosstabs.gamma_test(table, confidence),
        ]
        if table.shape[0] == 2 or table.shape[1] == 2:
            # The share is of the second level, which the first row is to hold.
            rising = table[:, ::-1].T if table.shape[1] == 2 else table[::-1]
            risen = crosstabs.trend(rising)
            told.append(risen)
            said.append(f"{of}: {tested(risen)}" if of else tested(risen))
        for one in told:
            estimate = one if isinstance(one, Estimate) else one.estimate
            p = one.p_value if isinstance(one, HypothesisTest) else math.nan
            if estimate is not None:
                cells = (estimate.value, estimate.low, estimate.high, p, counts.n)
                rows.append((of, estimate.name, *cells))
            said.append(one.note)
        figures += [(of, one) for one in told]
    return Finding(
        title=f"Order of {first} and {second}",
        columns=("group", "figure", "value", "conf.low", "conf.high", "p.value", "n"),
        rows=tuple(rows),
        result=figures,
        answers=(answer,),
        about="Order was compared by Spearman's correlation (interval by Fisher's z), Kendall's "
        "tau-b and Goodman and Kruskal's gamma, of levels and bins in the dictionary's order.",
        remarks=remarks(answer, *said),
        figures=tuple(figures),
        confidence=confidence,
    )


def _in_order(part: PartAnswer, project: Project, group: str) -> NDArray[np.float64]:
    """Return a crosstab whose places go from low to high, what lies outside a grid included."""
    table = shaped(part, project, group)
    for axis, name in enumerate(part.statistic.variables):
        if variable_of(project, name).kind == "number":
            size = table.shape[axis]
            table = np.take(table, [size - 2, *range(size - 2), size - 1], axis=axis)
    return _without_nobody(table)


def _without_nobody(table: NDArray[np.float64]) -> NDArray[np.float64]:
    kept: Sequence[NDArray[np.bool_]] = [table.sum(axis=1) != 0, table.sum(axis=0) != 0]
    return table[kept[0]][:, kept[1]]

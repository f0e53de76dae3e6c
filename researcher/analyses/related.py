"""Variables of the same subjects with each other: correlation, order, means in pairs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics import correlation, crosstabs, mean_tests
from contract.statistics.estimates import CONFIDENCE, Estimate, HypothesisTest
from contract.statistics.summaries import Moments
from contract.work import Statistic
from researcher.analyses.groups import ALL, comoments_of, counts_of, remarks, variable_of
from researcher.analyses.numbers import tested
from researcher.analyses.tables import shaped
from researcher.findings import Cell, Finding, interval, p_value
from researcher.plots import Heat
from researcher.questions import comoments, crosstab
from researcher.statistics import PartAnswer, StatisticsAnswer

# ---- correlation ---------------------------------------------------------------------------------


def ask_correlation(
    variables: Sequence[str], by: str | None, given: Sequence[str] = ()
) -> list[Statistic]:
    """Return what correlations are worked out from."""
    return [comoments(variables[0], *variables[1:], *given, by=by)]


def correlations(
    answer: StatisticsAnswer, given: Sequence[str] = (), confidence: float = CONFIDENCE
) -> Finding:
    """Return each pair's correlation, covariance, interval and p value, of complete subjects.

    Partial correlations beside them are those with the variables ``given`` held fixed.
    """
    part = answer.parts[0]
    fixed = len(given)
    names = part.statistic.variables[: len(part.statistic.variables) - fixed]
    partial: list[tuple[str, HypothesisTest]] = []
    rows: list[tuple[Cell, ...]] = []
    matrices: dict[str, correlation.Correlations] = {}
    for group, held in comoments_of(part).items():
        found = correlation.correlation_matrix(held.n, held.products, confidence)
        covariance = correlation.covariance_matrix(held.n, held.products)
        matrices[group] = found
        rows += [
            (
                "" if group == ALL else group,
                names[i],
                names[j],
                float(found.matrix[i, j]),
                float(found.low[i, j]),
                float(found.high[i, j]),
                float(found.p_values[i, j]),
                float(covariance[i, j]),
                held.n,
            )
            for i, j in itertools.combinations(range(len(names)), 2)
        ]
        behind = range(len(names), len(names) + fixed)
        partial += [
            (
                ("" if group == ALL else f"{group}: ") + f"{names[i]} with {names[j]}",
                correlation.partial_correlation(held.n, held.products, i, j, behind, confidence),
            )
            for i, j in itertools.combinations(range(len(names)), 2)
            if fixed
        ]
    said = [
        f"{of}, given {', '.join(given)}: "
        + interval(t.estimate.value, t.estimate.low, t.estimate.high)
        + f", p {p_value(t.p_value)}"
        if t.estimate is not None
        else f"{of}: {t.note}"
        for of, t in partial
    ]
    shown = len(names)
    first = next(iter(matrices.values())).matrix
    return Finding(
        title="Correlations",
        columns=(
            *("group", "of", "with", "r", "conf.low", "conf.high"),
            *("p.value", "covariance", "n"),
        ),
        rows=tuple(rows),
        result=matrices,
        answers=(answer,),
        about="Pearson's correlations are of subjects with all values; intervals by Fisher's z.",
        figure=Heat(names, names, tuple(map(tuple, first[:shown, :shown].tolist())), -1.0, 1.0),
        remarks=remarks(answer, *said),
        figures=tuple(partial),
        confidence=confidence,
    )


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
            crosstabs.kendall_tau_b(table),
            crosstabs.goodman_kruskal_gamma(table, confidence),
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
                rows.append((of, one.name, *cells))
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

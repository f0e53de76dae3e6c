"""Numbers described: their moments, quantiles and histograms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics import mean_tests, noisy, quantiles
from contract.statistics.estimates import CONFIDENCE, Estimate, HypothesisTest
from contract.statistics.summaries import Counts, Shape
from contract.work import Statistic
from researcher.analyses.groups import (
    ALL,
    counts_of,
    moments_of,
    remarks,
    share_of,
    variable_of,
)
from researcher.findings import Cell, Finding, Printed
from researcher.plots import Bars
from researcher.questions import histogram, levels, shape
from researcher.statistics import PartAnswer, StatisticsAnswer

QUARTILES = (0.25, 0.5, 0.75)


_DESCRIBED = (
    *("n", "missing", "count", "share", "mean", "SD"),
    *("Q1", "median", "Q3", "skew", "kurt"),
)


def ask_description(project: Project, variables: Sequence[str], by: str | None) -> list[Statistic]:
    """Return what ``describe`` asks: shape, and the grid's counts where there is a grid.

    Of a category it asks its levels' counts.
    """
    asked = [
        shape(name, by) if variable_of(project, name).kind == "number" else levels(name, by)
        for name in variables
    ]
    grids = [n for n in variables if variable_of(project, n).bins is not None]
    return [*asked, *(histogram(name, by) for name in grids)]


def describe(answer: StatisticsAnswer, by: str | None) -> Finding:
    """Return n, missing, mean, SD, quartiles, skewness and kurtosis of each number.

    Of a category there is a row for each level, with its count and share. What a site doesn't
    declare of it is left empty.
    """
    rows: list[tuple[Cell, ...]] = []
    kept: dict[tuple[str, str], list[quantiles.Quantile]] = {}
    others: list[tuple[str, Estimate | HypothesisTest]] = []
    said: list[str] = []
    for part in answer.parts:
        name = part.statistic.variable
        if part.statistic.kind == "histogram" and not part.part.withheld:
            variable = variable_of(answer.project, name)
            for group, counts in counts_of(part).items():
                kept[name, group] = quantiles_of(counts, part, variable, QUARTILES)
    for part in answer.parts:
        if part.statistic.kind not in ("shape", "levels"):
            continue
        name = part.statistic.variable
        if part.part.withheld:
            rows.append((name, "", "", *(math.nan,) * len(_DESCRIBED)))
            continue
        if part.statistic.kind == "levels":
            rows += _described_levels(part, variable_of(answer.project, name))
            continue
        for group, moments in moments_of(part, answer.project).items():
            held = kept.get((name, group), [])
            found = part.part.groups["" if group == ALL else group]
            assert isinstance(found, Shape)
            skew, kurt = _skewness(found, part, variable_of(answer.project, name))
            of = name if group == ALL else f"{name}, {group}"
            if part.part.noise is not None:
                said.append(f"{of}: {_widths(found, part, variable_of(answer.project, name))}")
            else:
                others += [(of, one) for one in _shapes(found)]
                if held:
                    between = quantiles.interquartile_range(held[0], held[2])
                    others.append((of, Estimate("interquartile range", between.value)))
            rows.append(
                (
                    name,
                    "",
                    "" if group == ALL else group,
                    moments.n,
                    moments.missing,
                    math.nan,
                    math.nan,
                    moments.mean,
                    moments.standard_deviation,
                    *((q.value for q in held) if held else (math.nan,) * 3),
                    skew,
                    kurt,
                )
            )
    return Finding(
        title="Described" + (f" by {by}" if by else ""),
        columns=("variable", "level", "group", *_DESCRIBED),
        rows=tuple(rows),
        result=rows,
        answers=(answer,),
        about="Means and standard deviations are of merged moments; quartiles (Hyndman and Fan's "
        "type 7) are right within a cell's width of the dictionary's grid; skewness and excess "
        "kurtosis are the adjusted ones (G1, G2).",
        remarks=remarks(answer, *said),
        figures=tuple(others),
        in_print=_shortened(rows) if any(row[1] for row in rows) else None,
    )


def _shortened(rows: Sequence[tuple[Cell, ...]]) -> Printed:
    """Return rows with levels for a page: a level beside its variable, its count as n."""
    found: list[tuple[Cell, ...]] = []
    for name, level, group, n, missing, count, *more in rows:
        of = (f"{name} = {level}", group, count) if level else (name, group, n)
        found.append((*of, missing, *more))
    return Printed(("variable", "group", "n", "missing", *_DESCRIBED[3:]), tuple(found))


def _described_levels(part: PartAnswer, variable: Variable) -> list[tuple[Cell, ...]]:
    return [
        (
            *(variable.name, level, "" if group == ALL else group, counts.n, counts.missing),
            *(counts.counts[at], share_of(counts.counts, at), *(math.nan,) * 7),
        )
        for at, level in enumerate(variable.levels)
        for group, counts in counts_of(part).items()
    ]


def _widths(found: Shape, part: PartAnswer, variable: Variable) -> str:
    """Say how far noise moves a mean and a standard deviation."""
    noise = part.part.noise
    assert noise is not None and variable.minimum is not None and variable.maximum is not None
    one = noisy.estimate(found.moments, noise, variable.minimum, variable.maximum)
    return (
        f"with noise, in 95 % of draws within {one.mean_half_width:.3g} of the mean and "
        f"{one.standard_deviation_half_width:.3g} of the SD"
    )


def _shapes(found: Shape) -> list[Estimate | HypothesisTest]:
    """Return skewness and excess kurtosis as others define them, and Jarque and Bera's test."""
    return [
        Estimate("skewness g1", found.g1),
        Estimate("skewness b1", found.b1),
        Estimate("excess kurtosis g2", found.g2),
        Estimate("excess kurtosis b2", found.b2),
        mean_tests.jarque_bera(found.n, found.m2, found.m3, found.m4),
    ]


def _skewness(found: Shape, part: PartAnswer, variable: Variable) -> tuple[float, float]:
    """Return skewness and excess kurtosis; with noise, where its half width is below 1."""
    noise = part.part.noise
    if noise is None:
        return found.skewness, found.kurtosis
    assert variable.minimum is not None
    assert variable.maximum is not None
    said = noisy.estimate_shape(found, noise, variable.minimum, variable.maximum)
    return (
        said.skewness if said.skewness_half_width < 1 else math.nan,
        said.kurtosis if said.kurtosis_half_width < 1 else math.nan,
    )


def quantiles_of(
    counts: Counts,
    part: PartAnswer,
    variable: Variable,
    shares: Sequence[float],
    confidence: float = CONFIDENCE,
    kind: int = quantiles.TYPE,
) -> list[quantiles.Quantile]:
    """Return quantiles from a grid's counts; with noise, between the edges that it leaves open."""
    noise = part.part.noise
    if noise is None:
        return quantiles.of_counts(counts, variable, shares, confidence, kind)
    assert variable.minimum is not None
    assert variable.maximum is not None
    found = []
    for share in shares:
        said = noisy.quantile(counts, noise, variable.minimum, variable.maximum, share)
        found.append(
            quantiles.Quantile(
                q=share,
                value=said.value,
                low=said.low,
                high=said.high,
                n=counts.n,
                rank=0,
                note="With noise, a quantile lies between the edges named in 95 % of draws.",
                approximate=True,
            )
        )
    return found


def ask_quantiles(project: Project, variables: Sequence[str], by: str | None) -> list[Statistic]:
    """Return what quantiles are worked out from: one question, however many numbers."""
    for name in variables:
        if variable_of(project, name).bins is None:
            raise DocumentError(f"The dictionary gives {name} no grid to count it on.")
    return [histogram(name, by) for name in variables]


def quantile_table(
    answer: StatisticsAnswer,
    shares: Sequence[float],
    by: str | None,
    confidence: float = CONFIDENCE,
    kind: int = quantiles.TYPE,
) -> Finding:
    """Return numbers' quantiles, between which edges of the grid each lies, and an interval.

    ``result`` has each number's, by group.
    """
    found: dict[str, dict[str, list[quantiles.Quantile]]] = {}
    unknown: list[str] = []
    for part in answer.parts:
        variable = variable_of(answer.project, part.statistic.variable)
        if part.part.withheld and len(answer.parts) > 1:
            unknown.append(f"Of {variable.name} nothing is told: every site withheld it.")
            continue
        found[variable.name] = {
            group: quantiles_of(counts, part, variable, shares, confidence, kind)
            for group, counts in counts_of(part).items()
        }
    rows = [
        (
            name, "" if group == ALL else group, q.q, q.value, q.low, q.high, q.interval_low,
            q.interval_high, q.n,
        )
        for name, groups in found.items()
        for group, some in groups.items()
        for q in some
    ]  # fmt: skip
    said = [q.note for groups in found.values() for some in groups.values() for q in some]
    return Finding(
        title=f"Quantiles of {', '.join(found)}" + (f" by {by}" if by else ""),
        columns=(
            *("variable", "group", "share", "value", "cell.low", "cell.high"),
            *("conf.low", "conf.high", "n"),
        ),
        rows=tuple(rows),
        result=found,
        answers=(answer,),
        about="Quantiles are of all sites' subjects together, "
        + ("" if "dp" in answer.lane else f"of Hyndman and Fan's type {kind}, ")
        + "right within the width of the grid's cells.",
        figure=bars(answer, answer.parts[0]) if len(answer.parts) == 1 else None,
        remarks=remarks(answer, *unknown, *said),
        confidence=confidence,
    )


def bars(answer: StatisticsAnswer, part: PartAnswer) -> Bars:
    """Return a histogram's plot."""
    variable = variable_of(answer.project, part.statistic.variable)
    assert variable.minimum is not None and variable.maximum is not None
    edges = np.linspace(variable.minimum, variable.maximum, (variable.bins or 1) + 1)
    series = tuple(
        ("" if group == ALL else group, tuple(map(float, counts.counts)))
        for group, counts in counts_of(part).items()
    )
    unit = f" ({variable.unit})" if variable.unit else ""
    return Bars(tuple(edges.tolist()), series, f"{variable.name}{unit}")


def histogram_of(answer: StatisticsAnswer) -> Finding:
    """Return counts on the grid, and their plot."""
    part = answer.parts[0]
    rows = tuple(
        (row.group, row.level, row.value, row.n)
        for row in answer.rows()
        if row.statistic == "count"
    )
    return Finding(
        title=f"Histogram of {part.statistic.variable}",
        columns=("group", "bin", "count", "n"),
        rows=rows,
        result=counts_of(part),
        answers=(answer,),
        about="Counts are on the grid that the project's dictionary gives.",
        figure=bars(answer, part),
        remarks=remarks(answer),
    )

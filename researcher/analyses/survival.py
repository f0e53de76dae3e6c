"""Survival: Kaplan and Meier's curves, Nelson and Aalen's hazards, and how groups differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics import survival
from contract.statistics.estimates import (
    CONFIDENCE,
    Estimate,
    HypothesisTest,
    about,
    z_quantile,
)
from contract.statistics.hazard_ratios import hazard_ratios
from contract.statistics.summaries import Counts
from contract.work import Statistic
from researcher.analyses.groups import ALL, counts_of, remarks, two_levels, variable_of
from researcher.findings import Cell, Figures, Finding, Printed, interval, p_value
from researcher.plots import Curve, Curves
from researcher.questions import crosstab
from researcher.statistics import StatisticsAnswer

SCALES: dict[survival.Scale, str] = {"log-log": "log(-log)", "log": "log", "plain": "plain"}
LINES = 12
"""Of each group in what is printed; the rows are of every interval in which anything happens."""


@dataclass(frozen=True)
class Survival:
    """Life tables by group, and the log-rank test; None where there is one group."""

    tables: dict[str, survival.LifeTable]
    test: survival.LogRank | None


def ask_survival(
    project: Project,
    time: str,
    event: str,
    by: str | None,
    stratum: str | None = None,
    *,
    by_strata: bool,
) -> list[Statistic]:
    """Return what curves are worked out from: who had the event, and who was lost, by time.

    ``by_strata``: whether groups are strata of the releases; otherwise they are crossed, too. With
    a ``stratum`` groups are crossed within each of its levels.
    """
    two_levels(project, event)
    return crossed_by(project, time, event, by, stratum, by_strata=by_strata)


def crossed_by(
    project: Project,
    time: str,
    event: str,
    by: str | None,
    stratum: str | None = None,
    *,
    by_strata: bool,
) -> list[Statistic]:
    """Return the crosstab of a time and an event, and of groups; see ``ask_survival``."""
    if variable_of(project, time).kind != "number":
        raise DocumentError(f"{time} isn't a number.")
    if stratum is not None and by is None:
        raise DocumentError("A stratum is of a test of groups; say which groups.")
    if by is None or (by_strata and stratum is None):
        return [crosstab(time, event, by=by)]
    if variable_of(project, by).kind != "category":
        raise DocumentError(f"{by} isn't a category.")
    return [crosstab(time, event, by, by=stratum)]


@dataclass(frozen=True)
class Wanted:
    """What else is told: survival ``at`` times, mean time ``until`` one, and the test's weights.

    ``rho`` and ``gamma`` are Fleming and Harrington's: (1, 0) is Peto's test, as in R's survdiff.
    """

    at: Sequence[float] = ()
    until: float | None = None
    rho: float = 0.0
    gamma: float = 0.0
    scale: survival.Scale = "log-log"
    """Of the curves' intervals; R's default is "log"."""


def curves(
    answer: StatisticsAnswer, wanted: Wanted = Wanted(), confidence: float = CONFIDENCE
) -> Finding:
    """Return curves with their bands, quartiles, who is at risk, and the log-rank test.

    Of strata the curves are those of all together, and the test is stratified.
    """
    part = answer.parts[0]
    time, event, *crossed = part.statistic.variables
    variable = variable_of(answer.project, time)
    counts = counts_of(part)
    tables: dict[str, survival.LifeTable] = {}
    strata: list[list[survival.LifeTable]] = []
    for group, held in counts.items():
        names = variable_of(answer.project, crossed[0]).levels if crossed else (group,)
        found = _tables(held, variable.name, answer, len(names))
        strata.append(found)
        for name, table in zip(names, found, strict=True):
            tables[name] = tables[name].merge(table) if name in tables else table
    if not crossed:
        strata = [list(tables.values())]
    places = [at for at, table in enumerate(tables.values()) if table.n > 0]
    tables = {name: table for name, table in tables.items() if table.n > 0}
    if not tables:
        raise DocumentError("Nobody is in any group.")
    test = None
    ratios: Figures = ()
    if len(tables) > 1:
        within = [[stratum[at] for at in places] for stratum in strata]
        test = survival.log_rank(*within, rho=wanted.rho, gamma=wanted.gamma)
        ratios = ratios_to_first(within, list(tables), confidence)
    rows: list[tuple[Cell, ...]] = []
    few: list[tuple[Cell, ...]] = []
    said = []
    for name, table in tables.items():
        label = "" if name == ALL else name
        lines = _rows(label, table, confidence, wanted.scale)
        rows += lines
        few += thinned(lines)
        low, high = table.quantile_interval(confidence=confidence, scale=wanted.scale)
        lead = f"{label}: " if label else ""
        said.append(
            f"{lead}{int(table.events.sum())} events in {table.n}; median "
            f"{_told(table.quantile())} ({_told(low)} to {_told(high)})"
        )
    title = f"Survival: {time} until {event}"
    if test is not None and math.isnan(test.statistic):
        said.append(f"{_named(wanted, strata)} test: undefined")
    elif test is not None:
        p = p_value(test.p)
        title += f"; {_named(wanted, strata)} chi-squared {test.statistic:.4g}, "
        title += f"{test.degrees} df, p {p if p[:1] == '<' else '= ' + p}"
    columns = (
        *("group", time, "survival", "conf.low", "conf.high"),
        *("cum. hazard", "hazard.low", "hazard.high", "at risk", "events", "lost"),
    )
    figures = _figures(tables, wanted, confidence) + ratios
    if test is not None:
        named = f"{_named(wanted, strata)} test"
        figures += (("", HypothesisTest(named, test.statistic, test.p, (test.degrees,))),)
    said += [
        f"{f'{of}: ' if of else ''}{one.name} {interval(one.value, one.low, one.high)}"
        for of, one in figures
        if isinstance(one, Estimate) and not one.name.endswith(("median", "quartile"))
    ]
    return Finding(
        title=title,
        columns=columns,
        rows=tuple(rows),
        in_print=Printed(columns, tuple(few)),
        result=Survival(tables, test),
        answers=(answer,),
        about=f"Survival was estimated by Kaplan and Meier's method on the grid of {time}, with "
        f"intervals on the {SCALES[wanted.scale]} scale; cumulative hazards by Nelson and "
        "Aalen's, with intervals on the log scale"
        + ("; groups were compared by the log-rank test" if test else "")
        + (
            "; hazard ratios are of a Cox model with one baseline hazard for all sites, on that "
            "grid, ties after Efron."
            if ratios
            else "."
        ),
        figure=_figure(
            tables,
            f"{time} ({variable.unit})" if variable.unit else time,
            confidence,
            wanted.scale,
        ),
        remarks=remarks(answer, *said, _grid(tables)),
        figures=figures,
        confidence=confidence,
    )


def _named(wanted: Wanted, strata: Sequence[object]) -> str:
    weights = {(0.0, 0.0): "log-rank", (1.0, 0.0): "Peto's log-rank"}.get(
        (wanted.rho, wanted.gamma), f"G({wanted.rho:g}, {wanted.gamma:g}) log-rank"
    )
    return f"stratified {weights}" if len(strata) > 1 else weights


def _figures(tables: dict[str, survival.LifeTable], wanted: Wanted, confidence: float) -> Figures:
    """Return the groups' quartiles of time, survival at times, and restricted mean times."""
    found: list[tuple[str, Estimate | HypothesisTest]] = []
    for name, table in tables.items():
        label = "" if name == ALL else name
        for quartile, share in (
            ("first quartile", 0.25),
            ("median", 0.5),
            ("third quartile", 0.75),
        ):
            low, high = table.quantile_interval(share, confidence, wanted.scale)
            time = table.quantile(share)
            found.append((label, Estimate(quartile, time, math.nan, low, high, confidence)))
        found += [(label, _at(table, time, confidence, wanted.scale)) for time in wanted.at]
        if wanted.until is not None:
            mean = table.restricted_mean(wanted.until)
            named = f"restricted mean to {wanted.until:g}"
            by = z_quantile(confidence)
            found.append((label, about(named, mean.value, mean.standard_error, by, confidence)))
    return tuple(found)


def ratios_to_first(
    strata: Sequence[Sequence[survival.LifeTable]], names: Sequence[str], confidence: float
) -> Figures:
    """Return the groups' hazards over the first one's; none where they can't be told."""
    try:
        found = hazard_ratios(*strata)
    except DocumentError:
        return ()
    if not found.converged:
        return ()
    by = z_quantile(confidence)
    ratios: list[tuple[str, Estimate]] = []
    errors = np.sqrt(np.diag(found.covariance))
    for name, log, error in zip(names[1:], found.estimates, errors, strict=True):
        value, low, high = (math.exp(log + at * error) for at in (0, -by, by))
        named = f"hazard ratio to {names[0]}"
        ratios.append((name, Estimate(named, value, math.nan, low, high, confidence)))
    return tuple(ratios)


def _at(
    table: survival.LifeTable, time: float, confidence: float, scale: survival.Scale
) -> Estimate:
    """Return survival after a time; NaN once nobody is left."""
    named = f"survival at {time:g}"
    before = int(np.searchsorted(table.times, time, side="right")) - 1
    if before < 0:
        return Estimate(named, 1.0, 0.0, 1.0, 1.0, confidence)
    if time > table.times[-1]:
        return Estimate(named, math.nan, confidence=confidence, note="It lies beyond the grid.")
    low, high = table.band(confidence, scale)
    error = math.sqrt(table.greenwood[before])
    ends = float(low[before]), float(high[before])
    return Estimate(named, float(table.survival[before]), error, *ends, confidence)


def _tables(
    counts: Counts, time: str, answer: StatisticsAnswer, groups: int
) -> list[survival.LifeTable]:
    """Return life tables; counts below zero, which only noise makes, are taken as none."""
    cells = np.maximum(np.array(counts.counts), 0)
    return survival.life_tables(cells, variable_of(answer.project, time), groups)


def thinned(lines: list[tuple[Cell, ...]], most: int = LINES) -> list[tuple[Cell, ...]]:
    """Return some lines, evenly over all; events and lost are those since the line before."""
    ends = range(len(lines))
    if len(lines) > most:
        ends = np.unique(np.linspace(0, len(lines) - 1, most).astype(int)).tolist()
    found, start = [], 0
    for end in ends:
        since = lines[start : end + 1]
        happened = (sum(int(line[at]) for line in since) for at in (-2, -1))
        found.append((*lines[end][:-2], *happened))
        start = end + 1
    return found


def _rows(
    label: str, table: survival.LifeTable, confidence: float, scale: survival.Scale
) -> list[tuple[Cell, ...]]:
    """Return a life table's lines, of each interval in which anything happens."""
    low, high = table.band(confidence, scale)
    hazard_low, hazard_high = table.hazard_band(confidence)
    happens = np.flatnonzero((table.events + table.lost) > 0)
    return [
        (
            label,
            float(table.times[i]),
            float(table.survival[i]),
            float(low[i]),
            float(high[i]),
            float(table.cumulative_hazard[i]),
            float(hazard_low[i]),
            float(hazard_high[i]),
            int(table.at_risk[i]),
            int(table.events[i]),
            int(table.lost[i]),
        )
        for i in happens.tolist()
    ]


def _told(time: float) -> str:
    return "not reached" if math.isinf(time) or math.isnan(time) else f"{time:g}"


def _grid(tables: dict[str, survival.LifeTable]) -> str:
    """Say how much lower the curves can be on the times themselves."""
    with np.errstate(invalid="ignore"):
        gaps = [float(np.nanmax(t.survival - t.lower, initial=0.0)) for t in tables.values()]
    most = max(gaps)
    return f"By the grid, a curve can be too high by {most:.2g} at most." if most > 0 else ""


def _figure(
    tables: dict[str, survival.LifeTable], name: str, confidence: float, scale: survival.Scale
) -> Curves:
    found = []
    for group, table in tables.items():
        low, high = table.band(confidence, scale)
        known = ~np.isnan(table.survival)
        start = (float(table.start),)
        found.append(
            Curve(
                "" if group == ALL else group,
                start + tuple(table.times[known].tolist()),
                (1.0, *table.survival[known].tolist()),
                (1.0, *np.nan_to_num(low[known], nan=0.0).tolist()),
                (1.0, *np.nan_to_num(high[known], nan=0.0).tolist()),
            )
        )
    return Curves(tuple(found), name, "survival", steps=True)

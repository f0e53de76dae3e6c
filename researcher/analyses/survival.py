"""Survival: Kaplan and Meier's curves, Nelson and Aalen's hazards, and how groups differ."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics import survival
from contract.statistics.estimates import Estimate, HypothesisTest
from contract.statistics.summaries import Counts
from contract.work import Statistic
from researcher.analyses.groups import ALL, counts_of, remarks, two_levels, variable_of
from researcher.findings import Cell, Figures, Finding, p_value
from researcher.plots import Curve, Curves
from researcher.questions import crosstab
from researcher.statistics import StatisticsAnswer

LINES = 12
"""Of each group in the table; the result holds every interval."""


@dataclass(frozen=True)
class Survival:
    """Life tables by group, and the log-rank test; None where there is one group."""

    tables: dict[str, survival.LifeTable]
    test: survival.LogRank | None


def ask_survival(
    project: Project, time: str, event: str, by: str | None, *, by_strata: bool
) -> list[Statistic]:
    """Return what curves are worked out from: who had the event, and who was lost, by time.

    ``by_strata``: whether groups are strata of the releases; otherwise they are crossed, too.
    """
    two_levels(project, event)
    if variable_of(project, time).kind != "number":
        raise DocumentError(f"{time} isn't a number.")
    if by is None or by_strata:
        return [crosstab(time, event, by=by)]
    if variable_of(project, by).kind != "category":
        raise DocumentError(f"{by} isn't a category.")
    return [crosstab(time, event, by)]


def curves(answer: StatisticsAnswer) -> Finding:
    """Return curves with their bands, medians, who is at risk, and the log-rank test."""
    part = answer.parts[0]
    time, event, *crossed = part.statistic.variables
    variable = variable_of(answer.project, time)
    counts = counts_of(part)
    tables: dict[str, survival.LifeTable] = {}
    for group, held in counts.items():
        names = variable_of(answer.project, crossed[0]).levels if crossed else (group,)
        tables |= zip(names, _tables(held, variable.name, answer, len(names)), strict=True)
    tables = {name: table for name, table in tables.items() if table.n > 0}
    if not tables:
        raise DocumentError("Nobody is in any group.")
    test = survival.log_rank(list(tables.values())) if len(tables) > 1 else None
    rows: list[tuple[Cell, ...]] = []
    said = []
    for name, table in tables.items():
        label = "" if name == ALL else name
        rows += _rows(label, table)
        low, high = table.quantile_interval()
        lead = f"{label}: " if label else ""
        said.append(
            f"{lead}{int(table.events.sum())} events in {table.n}; median "
            f"{_told(table.quantile())} ({_told(low)} to {_told(high)})"
        )
    title = f"Survival: {time} until {event}"
    if test is not None:
        p = p_value(test.p)
        title += f"; log-rank chi-squared {test.statistic:.4g}, {test.degrees} df, "
        title += f"p {p if p[:1] == '<' else '= ' + p}"
    return Finding(
        title=title,
        columns=(
            *("group", time, "survival", "95% from", "to"),
            *("cum. hazard", "hazard from", "hazard to", "at risk", "events", "lost"),
        ),
        rows=tuple(rows),
        result=Survival(tables, test),
        answers=(answer,),
        about=f"Survival was estimated by Kaplan and Meier's method on the grid of {time}, with "
        "intervals on the log(-log) scale; cumulative hazards by Nelson and Aalen's, with "
        "intervals on the log scale"
        + ("; groups were compared by the log-rank test." if test else "."),
        figure=_figure(tables, f"{time} ({variable.unit})" if variable.unit else time),
        remarks=remarks(answer, *said, _grid(tables)),
        figures=_figures(tables, test),
    )


def _figures(tables: dict[str, survival.LifeTable], test: survival.LogRank | None) -> Figures:
    """Return the groups' median times, and the log-rank test."""
    found: list[tuple[str, Estimate | HypothesisTest]] = []
    for name, table in tables.items():
        low, high = table.quantile_interval()
        label = "" if name == ALL else name
        found.append((label, Estimate("median", table.quantile(), low=low, high=high)))
    if test is not None:
        found.append(("", HypothesisTest("log-rank test", test.statistic, test.p, (test.degrees,))))
    return tuple(found)


def _tables(
    counts: Counts, time: str, answer: StatisticsAnswer, groups: int
) -> list[survival.LifeTable]:
    """Return life tables; counts below zero, which only noise makes, are taken as none."""
    cells = np.maximum(np.array(counts.counts), 0)
    return survival.life_tables(cells, variable_of(answer.project, time), groups)


def _rows(label: str, table: survival.LifeTable) -> list[tuple[Cell, ...]]:
    """Return some of a life table's lines, evenly over those in which anything happens."""
    low, high = table.band()
    hazard_low, hazard_high = table.hazard_band()
    happens = np.flatnonzero((table.events + table.lost) > 0)
    if happens.size > LINES:
        happens = happens[np.unique(np.linspace(0, happens.size - 1, LINES).astype(int))]
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
            int(table.events[: i + 1].sum()),
            int(table.lost[: i + 1].sum()),
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


def _figure(tables: dict[str, survival.LifeTable], name: str) -> Curves:
    found = []
    for group, table in tables.items():
        low, high = table.band()
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

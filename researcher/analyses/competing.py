"""Cumulative incidence of events that preclude one another, and how groups differ in each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from contract.documents import Project
from contract.errors import DocumentError, UsageError
from contract.statistics import competing, survival
from contract.statistics.estimates import CONFIDENCE, Estimate, HypothesisTest
from contract.work import Statistic
from researcher.analyses.compared import tested
from researcher.analyses.groups import ALL, counts_of, remarks, variable_of
from researcher.analyses.survival import SCALES, Wanted, crossed_by, ratios_to_first, thinned
from researcher.findings import Cell, Figures, Finding, Printed, interval
from researcher.plots import Curve, Curves
from researcher.statistics import StatisticsAnswer

LINES = 6
"""Of each curve in what is printed; the rows are of every interval in which anything happens."""


@dataclass(frozen=True)
class Incidence:
    """Tables by group, the kinds of event, and Gray's test of each; none where there is one group.

    ``tests`` are in the order of ``kinds``.
    """

    tables: dict[str, competing.CompetingTable]
    kinds: tuple[str, ...]
    tests: tuple[HypothesisTest, ...]


def ask_incidence(
    project: Project,
    time: str,
    event: str,
    by: str | None,
    stratum: str | None = None,
    *,
    by_strata: bool,
) -> list[Statistic]:
    """Return what curves are worked out from: who had which event, and who was lost, by time.

    ``event`` is a category of three levels or more, the first of those who are lost; the rest as
    ``survival.ask_survival`` has it.
    """
    variable = variable_of(project, event)
    if variable.kind != "category" or len(variable.levels) < 3:
        raise UsageError(
            f"{event} must be a category of three levels or more, the first of those who had no "
            "event; of one kind of event ask for survival."
        )
    return crossed_by(project, time, event, by, stratum, by_strata=by_strata)


def curves(answer: StatisticsAnswer, wanted: Wanted, confidence: float = CONFIDENCE) -> Finding:
    """Return each kind's curve with its band, in each group; Gray's and the log-rank tests.

    Of strata the curves are those of all together, and the tests are stratified.
    """
    part = answer.parts[0]
    time, event, *crossed = part.statistic.variables
    variable, events = variable_of(answer.project, time), variable_of(answer.project, event)
    kinds = events.levels[1:]
    tables: dict[str, competing.CompetingTable] = {}
    strata: list[list[competing.CompetingTable]] = []
    for group, held in counts_of(part).items():
        names = variable_of(answer.project, crossed[0]).levels if crossed else (group,)
        cells = np.maximum(np.array(held.counts), 0)
        found = competing.competing_tables(cells, variable, len(events.levels), len(names))
        strata.append(found)
        for name, table in zip(names, found, strict=True):
            tables[name] = tables[name].merge(table) if name in tables else table
    if not crossed:
        strata = [list(tables.values())]
    there = [at for at, table in enumerate(tables.values()) if table.n > 0]
    tables = {name: table for name, table in tables.items() if table.n > 0}
    if not tables:
        raise DocumentError("Nobody is in any group.")
    tests: tuple[HypothesisTest, ...] = ()
    figures: Figures = _at_times(tables, kinds, wanted, confidence)
    if len(tables) > 1:
        within = [[stratum[at] for at in there] for stratum in strata]
        tests = tuple(competing.gray(*within, kind=at, rho=wanted.rho) for at in range(len(kinds)))
        for at, kind in enumerate(kinds):
            figures += ((kind, tests[at]),)
            figures += _of_cause(within, at, kind, list(tables), confidence)
    rows: list[tuple[Cell, ...]] = []
    few: list[tuple[Cell, ...]] = []
    for name, table in tables.items():
        for at, kind in enumerate(kinds):
            lines = _rows("" if name == ALL else name, kind, at, table, confidence, wanted.scale)
            rows += lines
            few += thinned(lines, LINES)
    weighed = f" with the weights (1 - F)^{wanted.rho:g}" if wanted.rho else ""
    columns = (
        *("group", "event", time, "incidence", "conf.low", "conf.high"),
        *("at risk", "events", "lost"),
    )
    said = [_told(name, table, kinds) for name, table in tables.items()]
    said += [
        f"{of}: {tested(one)}"
        if isinstance(one, HypothesisTest)
        else f"{of}: {one.name} {interval(one.value, one.low, one.high)}"
        for of, one in figures
    ]
    return Finding(
        title=f"Cumulative incidence: {time} until {event}",
        columns=columns,
        rows=tuple(rows),
        in_print=Printed(columns, tuple(few)),
        result=Incidence(tables, kinds, tests),
        answers=(answer,),
        about=f"Cumulative incidences of competing events were estimated by Aalen and Johansen's "
        f"method on the grid of {time}, with standard errors by the infinitesimal jackknife and "
        f"intervals on the {SCALES[wanted.scale]} scale"
        + (
            f"; groups were compared by Gray's test{weighed}, and the hazards of each cause by the "
            "log-rank test and a Cox model with one baseline hazard for all sites."
            if tests
            else "."
        ),
        figure=Curves(
            tuple(
                _curve(name, kind, at, table, len(tables), confidence, wanted.scale)
                for name, table in tables.items()
                for at, kind in enumerate(kinds)
            ),
            f"{time} ({variable.unit})" if variable.unit else time,
            "cumulative incidence",
            steps=True,
        ),
        remarks=remarks(answer, *said),
        figures=figures,
        confidence=confidence,
    )


def _told(name: str, table: competing.CompetingTable, kinds: Sequence[str]) -> str:
    lead = "" if name == ALL else f"{name}: "
    counts = zip(table.events.sum(axis=1).tolist(), kinds, strict=True)
    return f"{lead}{', '.join(f'{count} {kind}' for count, kind in counts)} of {table.n}"


def _of_cause(
    strata: Sequence[Sequence[competing.CompetingTable]],
    at: int,
    kind: str,
    names: Sequence[str],
    confidence: float,
) -> Figures:
    """Return the test of the cause's hazard, and the groups' hazard ratios: others are lost."""
    lives = [[table.of(at) for table in tables] for tables in strata]
    found = survival.log_rank(*lives)
    named = "log-rank test of the cause's hazard"
    test = HypothesisTest(named, found.statistic, found.p, (found.degrees,))
    return (
        (kind, test),
        *(
            (f"{kind}, {of}", replace(one, name=f"cause-specific {one.name}"))
            for of, one in ratios_to_first(lives, names, confidence)
            if isinstance(one, Estimate)
        ),
    )


def _at_times(
    tables: dict[str, competing.CompetingTable],
    kinds: Sequence[str],
    wanted: Wanted,
    confidence: float,
) -> Figures:
    """Return the incidence of each kind after the times that are asked for."""
    found: list[tuple[str, Estimate | HypothesisTest]] = []
    for name, table in tables.items():
        low, high = table.band(confidence, wanted.scale)
        values, errors = table.incidence, table.errors
        for at, kind in enumerate(kinds):
            for time in wanted.at:
                named = f"incidence at {time:g}"
                of = kind if name == ALL else f"{kind}, {name}"
                place = int(np.searchsorted(table.times, time, side="right")) - 1
                if place < 0:
                    told = Estimate(named, 0.0, 0.0, 0.0, 0.0, confidence)
                elif time > table.times[-1]:
                    note = "It lies beyond the grid."
                    told = Estimate(named, math.nan, confidence=confidence, note=note)
                else:
                    value, error, *ends = (
                        float(one[at, place]) for one in (values, errors, low, high)
                    )
                    told = Estimate(named, value, error, ends[0], ends[1], confidence)
                found.append((of, told))
    return tuple(found)


def _rows(
    label: str,
    kind: str,
    at: int,
    table: competing.CompetingTable,
    confidence: float,
    scale: survival.Scale,
) -> list[tuple[Cell, ...]]:
    """Return a kind's lines, of each interval in which anything happens."""
    low, high = table.band(confidence, scale)
    values, risk = table.incidence, table.at_risk
    happens = np.flatnonzero((table.events.sum(axis=0) + table.lost) > 0)
    return [
        (
            *(label, kind, float(table.times[i])),
            *(float(one[at, i]) for one in (values, low, high)),
            *(int(risk[i]), int(table.events[at, i]), int(table.lost[i])),
        )
        for i in happens.tolist()
    ]


def _curve(
    name: str,
    kind: str,
    at: int,
    table: competing.CompetingTable,
    groups: int,
    confidence: float,
    scale: survival.Scale,
) -> Curve:
    low, high = table.band(confidence, scale)
    values = table.incidence[at]
    known = ~np.isnan(values)
    return Curve(
        kind if groups == 1 else f"{kind}, {name}",
        (float(table.start), *table.times[known].tolist()),
        *((0.0, *np.nan_to_num(one[known]).tolist()) for one in (values, low[at], high[at])),
    )

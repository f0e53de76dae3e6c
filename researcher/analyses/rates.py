"""Incidence rates: events by person-time at risk, by group, and each group against the first."""

from __future__ import annotations

from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics import rates
from contract.statistics.estimates import CONFIDENCE, Estimate, HypothesisTest
from contract.work import Statistic
from researcher.analyses.groups import ALL, counts_of, moments_of, remarks, two_levels, variable_of
from researcher.findings import Cell, Finding, interval, p_value
from researcher.plots import Forest
from researcher.questions import levels, mean
from researcher.statistics import StatisticsAnswer

PER = 1000.0
"""Units of person-time that a rate is told for."""


def ask_rates(project: Project, time: str, event: str, by: str | None) -> list[Statistic]:
    """Return what rates are worked out from: one question of times and events."""
    if variable_of(project, time).kind != "number":
        raise DocumentError(f"{time} is no number, so it can't be a time at risk.")
    return [mean(time, by), levels(two_levels(project, event).name, by)]


def incidence(
    answer: StatisticsAnswer, per: float = PER, confidence: float = CONFIDENCE
) -> Finding:
    """Return each group's events, person-time and rate, and its ratio to the first group's.

    The event is the second level. ``DocumentError`` where times and events aren't of the same
    subjects: some lack one of both, and no analysis set leaves them out.
    """
    of_time, of_events = answer.parts
    time = variable_of(answer.project, of_time.statistic.variable)
    event = variable_of(answer.project, of_events.statistic.variable)
    moments, counts = moments_of(of_time, answer.project), counts_of(of_events)
    noisy = "dp" in answer.lane
    rows: list[tuple[Cell, ...]] = []
    seen: dict[str, tuple[int, float]] = {}
    figures: list[tuple[str, Estimate | HypothesisTest]] = []
    said: list[str] = []
    for group, held in moments.items():
        if group not in counts:
            continue
        if not noisy and held.n != counts[group].n:
            raise DocumentError(
                f"{time.name} and {event.name} are not known of the same subjects: name an "
                "analysis set that has both."
            )
        events = max(counts[group].counts[1], 0)
        seen[group] = events, held.n * held.mean if held.n else 0.0
        one = rates.rate(*seen[group], confidence)
        scaled = Estimate(
            f"rate per {per:g}", one.value * per, one.standard_error * per, one.low * per,
            one.high * per, confidence, one.note,
        )  # fmt: skip
        of = "" if group == ALL else group
        figures.append((of, scaled))
        rows.append((of, events, seen[group][1], scaled.value, scaled.low, scaled.high, held.n))
        said.append(one.note)
    first, *others = seen
    for group in others:
        test = rates.rate_ratio(seen[first], seen[group], confidence)
        figures.append((f"{group} against {first}", test))
        said.append(f"{group} against {first}: {_compared(test)}")
    drawn = [row for row in rows if row[2]]
    values, lows, highs = (tuple(float(row[at]) for row in drawn) for at in (3, 4, 5))
    return Finding(
        title=f"{event.name} = {event.levels[1]} per {per:g} person-{time.unit or time.name}",
        columns=("group", "events", "time", "rate", "conf.low", "conf.high", "n"),
        rows=tuple(rows),
        result=seen,
        answers=(answer,),
        about="Rates are events by person-time with exact intervals (Garwood 1936), compared by "
        "the exact conditional test.",
        confidence=confidence,
        figure=Forest(
            tuple(str(row[0]) for row in drawn),
            values,
            lows,
            highs,
            f"rate per {per:g}",
        ),
        remarks=remarks(answer, *said),
        figures=tuple(figures),
    )


def _compared(test: HypothesisTest) -> str:
    e = test.estimate
    if e is None:
        return test.note
    return f"{e.name} {interval(e.value, e.low, e.high)}, p {p_value(test.p_value)}"

"""An answer's groups in the dictionary's order, and what each holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import DocumentError, JobFailed, UsageError
from contract.statistics.noisy import estimate
from contract.statistics.summaries import CoMoments, Counts, Moments, Shape
from researcher import checking
from researcher.statistics import PartAnswer, StatisticsAnswer

ALL = "all"
variable_of = checking.variable_of
NOISE = "Noise is added to these figures: standard errors and p values count the sampling alone."


def two_levels(project: Project, name: str) -> Variable:
    """Return a category of two levels; ``DocumentError`` for another."""
    variable = variable_of(project, name)
    if variable.kind != "category" or len(variable.levels) != 2:
        raise DocumentError(f"{name} isn't a category of two levels.")
    return variable


def _told(part: PartAnswer) -> None:
    if part.part.withheld:
        what = ", ".join(part.statistic.variables)
        why = "too many subjects are missing" if part.too_much_missing else "every site withheld it"
        raise JobFailed(f"There is no answer for {what}: {why}.")


def moments_of(part: PartAnswer, project: Project) -> dict[str, Moments]:
    """Return the moments of each group. With noise they are brought into what can be.

    ``JobFailed`` when the part was withheld.
    """
    _told(part)
    variable = variable_of(project, part.statistic.variable)
    found: dict[str, Moments] = {}
    for level, summary in part.part.groups.items():
        held = summary.moments if isinstance(summary, Shape) else summary
        assert isinstance(held, Moments)
        noise = part.part.noise
        if noise is not None and variable.minimum is not None and variable.maximum is not None:
            said = estimate(held, noise, variable.minimum, variable.maximum)
            n = max(held.n, 0)
            spread = 0.0 if math.isnan(said.standard_deviation) else said.standard_deviation
            held = Moments(n, max(held.missing, 0), said.mean, spread**2 * max(n - 1, 0))
        found[level or ALL] = held
    return found


def counts_of(part: PartAnswer) -> dict[str, Counts]:
    """Return the counts of each group; ``JobFailed`` when the part was withheld."""
    _told(part)
    return {
        level or ALL: summary
        for level, summary in part.part.groups.items()
        if isinstance(summary, Counts)
    }


def comoments_of(part: PartAnswer) -> dict[str, CoMoments]:
    """Return the comoments of each group; ``JobFailed`` when the part was withheld."""
    _told(part)
    return {
        level or ALL: summary
        for level, summary in part.part.groups.items()
        if isinstance(summary, CoMoments)
    }


def share_of(counts: Sequence[float], place: int) -> float:
    """Return a level's share of a category's counts; what noise left below zero is none."""
    n = sum(max(count, 0) for count in counts)
    return max(counts[place], 0) / n if n else math.nan


def remarks(answer: StatisticsAnswer, *said: str) -> tuple[str, ...]:
    """Return remarks that aren't empty, once each, and that there is noise where there is."""
    noisy = [NOISE] if "dp" in answer.lane else []
    return tuple(dict.fromkeys(note for note in (*said, *noisy) if note))


def pair(groups: Mapping[str, object], by: str) -> tuple[str, str]:
    """Return the names of the two groups that there are; ``UsageError`` for another number."""
    names = list(groups)
    if len(names) != 2:
        chosen = f" ({', '.join(names)}): choose, as --where '{by} = {names[0]}|{names[1]}'"
        raise UsageError(
            f"Two groups of {by} are compared, and there are {len(names)}"
            f"{chosen if len(names) > 2 else ''}."
        )
    return names[0], names[1]

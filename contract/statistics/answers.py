"""From a question's list of statistics to a site's answer, and from sites' answers to one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from contract import wire_pb2 as wire
from contract.documents import Project, Statistic, Variable
from contract.errors import DocumentError
from contract.statistics.summaries import Codes, Counts, Moments, Numbers

Summary = Moments | Counts
MAX_SUBJECTS = 2**48
"""No site has more; the sum over all sites still fits 64 bits."""


@dataclass(frozen=True)
class Part:
    """One site's part of one statistic, or the merged whole: a summary for each group.

    The only key is "" when the statistic has no ``by``. ``withheld``: disclosure control objected.
    """

    groups: dict[str, Summary]
    withheld: bool = False
    rest: Summary | None = None
    """The subjects in no group. It never leaves: it is there for disclosure control, since the
    overall figure less the groups' would tell it."""


def check(statistic: Statistic, project: Project) -> Variable:
    """Return the variable asked about; ``DocumentError`` if the dictionary doesn't allow it."""
    variable = project.variable(statistic.variable)
    if variable is None:
        raise DocumentError(f"Variable {statistic.variable} is not in the project's dictionary.")
    wanted = {"moments": "number", "histogram": "number", "levels": "category"}
    if wanted.get(statistic.kind, variable.kind) != variable.kind:
        raise DocumentError(f"{statistic.kind} is not defined for {variable.name}.")
    if statistic.kind == "histogram" and variable.bins is None:
        raise DocumentError(f"The dictionary gives {variable.name} no grid for a histogram.")
    if statistic.by is not None:
        by = project.variable(statistic.by)
        if by is None or by.kind != "category":
            raise DocumentError(f"{statistic.by} is not a category of the project's dictionary.")
    return variable


def answer_locally(
    ask: Sequence[Statistic], project: Project, columns: Mapping[str, Numbers | Codes]
) -> list[Part]:
    """Return a site's part of each statistic, before disclosure control.

    ``columns`` has a value for each subject: float64 with NaN for a number, codes with -1 for a
    category. A subject whose ``by`` is missing is in no group.
    """
    parts: list[Part] = []
    for statistic in ask:
        variable = check(statistic, project)
        column = columns[variable.name]
        if statistic.by is None:
            parts.append(Part({"": _summarise(statistic, variable, column)}))
            continue
        by = project.variable(statistic.by)
        assert by is not None
        codes = columns[by.name]
        parts.append(
            Part(
                {
                    level: _summarise(statistic, variable, column[codes == i])
                    for i, level in enumerate(by.levels)
                },
                rest=_summarise(statistic, variable, column[codes < 0]),
            )
        )
    return parts


def _summarise(statistic: Statistic, variable: Variable, column: Numbers | Codes) -> Summary:
    match statistic.kind:
        case "moments":
            return Moments.of(np.asarray(column, dtype=np.float64))
        case "histogram":
            return Counts.of_histogram(np.asarray(column, dtype=np.float64), variable)
        case "levels":
            return Counts.of_levels(np.asarray(column, dtype=np.int64), len(variable.levels))
        case "count":
            if variable.kind == "category":
                present = int(np.count_nonzero(column >= 0))
            else:
                present = int(column.size - np.count_nonzero(np.isnan(column)))
            return Counts((present,), int(column.size) - present)


def merge_answers(answers: Iterable[Sequence[Part]]) -> list[Part]:
    """Return the merged parts of sites' answers, in the order given.

    A site's withheld part leaves the statistic whole: it is in no numerator and no denominator.
    A part that every site withheld is withheld.
    """
    merged: list[Part] | None = None
    for answer in answers:
        if merged is None:
            merged = list(answer)
            continue
        if len(answer) != len(merged):
            raise DocumentError("Two sites answered a different number of statistics.")
        merged = [_merge(a, b) for a, b in zip(merged, answer, strict=True)]
    return merged or []


def _merge(a: Part, b: Part) -> Part:
    if a.withheld or b.withheld:
        return b if a.withheld else a
    if a.groups.keys() != b.groups.keys():
        raise DocumentError("Two sites answered a statistic with different groups.")
    return Part({level: _merge_summaries(a.groups[level], b.groups[level]) for level in a.groups})


def _merge_summaries(a: Summary, b: Summary) -> Summary:
    if isinstance(a, Moments) and isinstance(b, Moments):
        return a.merge(b)
    if isinstance(a, Counts) and isinstance(b, Counts):
        return a.merge(b)
    raise DocumentError("Two sites answered a statistic with different summaries.")


def encode(parts: Sequence[Part]) -> wire.StatisticsAnswer:
    """Return the wire form of an answer."""
    message = wire.StatisticsAnswer()
    for part in parts:
        out = message.parts.add(withheld=part.withheld)
        for level, summary in part.groups.items():
            group = out.groups.add(level=level)
            if isinstance(summary, Moments):
                group.moments.CopyFrom(
                    wire.Moments(
                        n=summary.n, missing=summary.missing, mean=summary.mean, m2=summary.m2
                    )
                )
            else:
                group.counts.CopyFrom(
                    wire.Counts(
                        missing=summary.missing,
                        counts=summary.counts,
                        below=summary.below,
                        above=summary.above,
                    )
                )
    return message


def decode(message: wire.StatisticsAnswer) -> list[Part]:
    """Return the parts of an answer from the wire; ``DocumentError`` when it is malformed."""
    parts: list[Part] = []
    for part in message.parts:
        groups: dict[str, Summary] = {}
        for group in part.groups:
            if group.level in groups:
                raise DocumentError("An answer holds two groups of one level.")
            if group.WhichOneof("summary") == "moments":
                m = group.moments
                groups[group.level] = Moments(m.n, m.missing, m.mean, m.m2)
            else:
                c = group.counts
                groups[group.level] = Counts(tuple(c.counts), c.missing, c.below, c.above)
        parts.append(Part(groups, part.withheld))
    return parts


def fits(parts: Sequence[Part], ask: Sequence[Statistic], project: Project) -> bool:
    """Say whether an answer has exactly the declared form: the schema that a question implies."""
    if len(parts) != len(ask):
        return False
    for part, statistic in zip(parts, ask, strict=True):
        if part.withheld:
            if part.groups:
                return False
            continue
        variable = check(statistic, project)
        by = project.variable(statistic.by) if statistic.by else None
        if list(part.groups) != (list(by.levels) if by else [""]):
            return False
        for summary in part.groups.values():
            if isinstance(summary, Moments):
                good = max(summary.n, summary.missing) <= MAX_SUBJECTS and bool(
                    statistic.kind == "moments"
                    and np.isfinite(summary.mean)
                    and np.isfinite(summary.m2)
                    and summary.m2 >= 0
                )
            else:
                widths = {
                    "count": 1,
                    "levels": len(variable.levels),
                    "histogram": variable.bins or 0,
                }
                good = len(summary.counts) == widths.get(statistic.kind)
                if max(summary.n, summary.missing) > MAX_SUBJECTS:
                    return False
                if statistic.kind != "histogram":
                    good = good and summary.below == 0 and summary.above == 0
            if not good:
                return False
    return True

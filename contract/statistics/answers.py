"""From a question's list of statistics to a site's answer, and from sites' answers to one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from contract import wire_pb2 as wire
from contract.documents import Lane, Project, Statistic, Variable
from contract.errors import DocumentError
from contract.statistics.summaries import Codes, Counts, Moments, Numbers

Summary = Moments | Counts
MAX_SUBJECTS = 2**48
"""No site has more; the sum over all sites still fits 64 bits."""


MAX_TERMS = 16
FIGURES = ("counts", "missing", "n", "sum", "squares")
MECHANISMS = ("discrete-laplace", "discrete-gaussian", "laplace", "gaussian")


@dataclass(frozen=True)
class NoiseTerm:
    """What noise one figure of a part has, of ``FIGURES``, by one of ``MECHANISMS``."""

    figure: str
    mechanism: str
    scale: float
    """Of the mechanism's distribution, in the figure's unit."""
    half_width: float = 0.0
    """Of a confidence interval about the figure; 0 where none is defined."""


@dataclass(frozen=True)
class Noise:
    """The terms of a part of the lane ``dp``: what it cost, and what noise it has."""

    epsilon: float
    delta: float
    confidence: float
    terms: tuple[NoiseTerm, ...]


@dataclass(frozen=True)
class Part:
    """One site's part of one statistic, or the merged whole: a summary for each group.

    The only key is "" when the statistic has no ``by``. ``withheld``: disclosure control objected.
    Counts are below zero only by noise.
    """

    groups: dict[str, Summary]
    withheld: bool = False
    rest: Summary | None = None
    """The subjects in no group. It never leaves: it is there for disclosure control, since the
    overall figure less the groups' would tell it."""
    lane: Lane = "exact"
    noise: Noise | None = None
    """In the lane ``dp``."""


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
            parts.append(Part({"": summarise(statistic, variable, column)}))
            continue
        by = project.variable(statistic.by)
        assert by is not None
        codes = columns[by.name]
        parts.append(
            Part(
                {
                    level: summarise(statistic, variable, column[codes == i])
                    for i, level in enumerate(by.levels)
                },
                rest=summarise(statistic, variable, column[codes < 0]),
            )
        )
    return parts


def summarise(statistic: Statistic, variable: Variable, column: Numbers | Codes) -> Summary:
    """Return the local half of one statistic over the subjects whose values these are."""
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
    So does a group that a site's release doesn't declare. A part that every site withheld is
    withheld.
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
    if ("" in a.groups) != ("" in b.groups):
        raise DocumentError("Two sites answered a statistic with different groups.")
    return Part(
        {level: _merge_group(a, b, level) for level in _either(list(a.groups), list(b.groups))},
        lane="exact" if a.lane == b.lane == "exact" else "dp",
        noise=_merge_noise(a.noise, b.noise),
    )


def _either(some: list[str], others: list[str]) -> list[str]:
    """Return the groups that are in one of two lists, as far as these tell in the same order."""
    found: list[str] = []
    at = 0
    for name in some:
        if name in others:
            found += others[at : others.index(name)]
            at = others.index(name) + 1
        found.append(name)
    return [*found, *others[at:]]


def _merge_group(a: Part, b: Part, level: str) -> Summary:
    if level not in a.groups or level not in b.groups:
        return (a if level in a.groups else b).groups[level]
    return _merge_summaries(a.groups[level], b.groups[level])


def _merge_noise(a: Noise | None, b: Noise | None) -> Noise | None:
    """Return the noise of a sum of two sites' figures: scales and widths add as squares.

    Nobody is in two sites, so the sum costs what the dearer of them costs.
    """
    if a is None or b is None:
        return a or b
    terms = {t.figure: t for t in a.terms}
    for term in b.terms:
        known = terms.get(term.figure)
        terms[term.figure] = (
            term
            if known is None
            else NoiseTerm(
                term.figure,
                known.mechanism,
                float(np.hypot(known.scale, term.scale)),
                float(np.hypot(known.half_width, term.half_width)),
            )
        )
    return Noise(
        max(a.epsilon, b.epsilon),
        max(a.delta, b.delta),
        min(a.confidence, b.confidence),
        tuple(terms.values()),
    )


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
        out = message.parts.add(
            withheld=part.withheld, lane="" if part.withheld else part.lane, noise=_noise(part)
        )
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


def _noise(part: Part) -> wire.Noise | None:
    noise = part.noise
    if noise is None or part.withheld:
        return None
    return wire.Noise(
        epsilon=noise.epsilon,
        delta=noise.delta,
        confidence=noise.confidence,
        terms=[
            wire.NoiseTerm(
                figure=t.figure, mechanism=t.mechanism, scale=t.scale, half_width=t.half_width
            )
            for t in noise.terms
        ],
    )


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
        lanes: dict[str, Lane] = {"exact": "exact", "dp": "dp", "": "exact"}
        if part.lane not in lanes or (not part.lane and not part.withheld):
            raise DocumentError("An answer came by a lane that there isn't.")
        noise = None
        if part.HasField("noise"):
            terms = tuple(
                NoiseTerm(t.figure, t.mechanism, t.scale, t.half_width) for t in part.noise.terms
            )
            noise = Noise(part.noise.epsilon, part.noise.delta, part.noise.confidence, terms)
        parts.append(Part(groups, part.withheld, lane=lanes[part.lane], noise=noise))
    return parts


def fits(parts: Sequence[Part], ask: Sequence[Statistic], project: Project) -> bool:
    """Say whether an answer has exactly the declared form: the schema that a question implies."""
    return len(parts) == len(ask) and all(
        _fits(part, statistic, project) for part, statistic in zip(parts, ask, strict=True)
    )


def _fits(part: Part, statistic: Statistic, project: Project) -> bool:
    if part.withheld:
        return not part.groups and part.noise is None
    if (part.lane == "dp") != (part.noise is not None):
        return False
    if part.noise is not None and not _is_declared(part.noise):
        return False
    variable = check(statistic, project)
    by = project.variable(statistic.by) if statistic.by else None
    if not _are_groups(list(part.groups), list(by.levels) if by else [""]):
        return False
    if part.lane == "dp" and by and len(part.groups) != len(by.levels):
        return False
    lowest = 0 if part.noise is None else -MAX_SUBJECTS
    return all(_form_of(s, statistic, variable, lowest) for s in part.groups.values())


def _are_groups(names: list[str], levels: list[str]) -> bool:
    """Say whether groups are some of the levels, in their order: a release may declare not all."""
    known = set(names)
    return bool(names) and names == [level for level in levels if level in known]


def _form_of(summary: Summary, statistic: Statistic, variable: Variable, lowest: int) -> bool:
    if isinstance(summary, Moments):
        counts = [summary.n, summary.missing]
        good = statistic.kind == "moments" and bool(
            np.isfinite(summary.mean)
            and np.isfinite(summary.m2)
            and (summary.m2 >= 0 or lowest < 0)
        )
    else:
        counts = [*summary.counts, summary.missing, summary.below, summary.above, summary.n]
        widths = {"count": 1, "levels": len(variable.levels), "histogram": variable.bins or 0}
        good = len(summary.counts) == widths.get(statistic.kind)
        if statistic.kind != "histogram":
            good = good and summary.below == 0 and summary.above == 0
    return good and all(lowest <= count <= MAX_SUBJECTS for count in counts)


def _is_declared(noise: Noise) -> bool:
    numbers = [noise.epsilon, noise.delta, noise.confidence]
    for term in noise.terms:
        numbers += [term.scale, term.half_width]
        if term.figure not in FIGURES or term.mechanism not in MECHANISMS:
            return False
    return len(noise.terms) <= MAX_TERMS and all(np.isfinite(n) and n >= 0 for n in numbers)

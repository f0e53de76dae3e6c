"""Answers in statistics on the wire, and whether one has the form that its question implies."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from contract import wire_pb2 as wire
from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics.answers import (
    FIGURES,
    MAX_SUBJECTS,
    MAX_TERMS,
    MECHANISMS,
    Noise,
    NoiseTerm,
    Part,
    Summary,
    check,
    known,
)
from contract.statistics.summaries import CoMoments, Counts, Moments, Shape, places
from contract.work import Lane, Statistic


def encode(parts: Sequence[Part]) -> wire.StatisticsAnswer:
    """Return the wire form of an answer."""
    message = wire.StatisticsAnswer()
    for part in parts:
        out = message.parts.add(
            withheld=part.withheld, lane="" if part.withheld else part.lane, noise=_noise(part)
        )
        for level, summary in part.groups.items():
            group = out.groups.add(level=level)
            match summary:
                case Moments():
                    group.moments.CopyFrom(wire.Moments(**vars(summary)))
                case Shape():
                    group.shape.CopyFrom(wire.Shape(**vars(summary)))
                case CoMoments():
                    group.comoments.CopyFrom(wire.CoMoments(**vars(summary)))
                case Counts():
                    group.counts.CopyFrom(wire.Counts(**vars(summary)))
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
            groups[group.level] = _summary(group)
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


def _summary(group: wire.Group) -> Summary:
    match group.WhichOneof("summary"):
        case "moments":
            m = group.moments
            return Moments(m.n, m.missing, m.mean, m.m2, m.mean_low)
        case "shape":
            s = group.shape
            return Shape(s.n, s.missing, s.mean, s.m2, s.m3, s.m4)
        case "comoments":
            p = group.comoments
            return CoMoments(p.n, p.missing, tuple(p.means), tuple(p.products))
        case _:
            c = group.counts
            return Counts(tuple(c.counts), c.missing, c.below, c.above)


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
    cells = 0
    if statistic.kind == "crosstab":
        cells = math.prod(places(known(name, project)) for name in statistic.variables)
    widths = {
        "count": 1,
        "levels": len(variable.levels),
        "histogram": variable.bins or 0,
        "crosstab": cells,
    }
    width = widths.get(statistic.kind, len(statistic.variables))
    return all(_form_of(s, statistic.kind, width, lowest) for s in part.groups.values())


def _are_groups(names: list[str], levels: list[str]) -> bool:
    """Say whether groups are some of the levels, in their order: a release may declare not all."""
    known = set(names)
    return bool(names) and names == [level for level in levels if level in known]


def _form_of(summary: Summary, kind: str, width: int, lowest: int) -> bool:
    """``width``: of counts how many; of comoments of how many variables."""
    counts = [summary.n, summary.missing]
    match summary:
        case Moments():
            good = (
                kind == "moments"
                and _are_finite([summary.mean, summary.mean_low], [summary.m2], lowest)
                # No room for more than what a rounding leaves out.
                and abs(summary.mean_low) <= math.ulp(summary.mean)
            )
        case Shape():
            good = kind == "shape" and _are_finite(
                [summary.mean, summary.m3], [summary.m2, summary.m4], lowest
            )
        case CoMoments():
            good = (
                kind == "comoments"
                and len(summary.means) == width
                and len(summary.products) == width * (width + 1) // 2
                and _are_finite([*summary.means, *summary.products], [], lowest)
                and (lowest < 0 or bool((np.diag(summary.matrix) >= 0).all()))
            )
        case Counts():
            counts += [*summary.counts, summary.below, summary.above]
            good = kind in _COUNTED and len(summary.counts) == width
            if kind != "histogram":
                good = good and summary.below == 0 and summary.above == 0
    return good and lowest <= min(counts) and max(counts) <= MAX_SUBJECTS


_COUNTED = ("count", "levels", "histogram", "crosstab")


def _are_finite(numbers: Sequence[float], squares: Sequence[float], lowest: int) -> bool:
    """Say whether all are finite, and sums of squares not below zero but by noise."""
    return all(map(math.isfinite, [*numbers, *squares])) and (
        lowest < 0 or all(square >= 0 for square in squares)
    )


def _is_declared(noise: Noise) -> bool:
    numbers = [noise.epsilon, noise.delta, noise.confidence]
    for term in noise.terms:
        numbers += [term.scale, term.half_width]
        if term.figure not in FIGURES or term.mechanism not in MECHANISMS:
            return False
    return len(noise.terms) <= MAX_TERMS and all(np.isfinite(n) and n >= 0 for n in numbers)

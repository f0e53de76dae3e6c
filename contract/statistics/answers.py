"""From a question's list of statistics to a site's answer, and from sites' answers to one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics.summaries import (
    Codes,
    CoMoments,
    Counts,
    Moments,
    Numbers,
    Shape,
    place_codes,
    places,
)
from contract.work import Lane, Statistic

Summary = Moments | Counts | Shape | CoMoments
MAX_CELLS = 10_000
"""Of a crosstab."""
MAX_SUBJECTS = 2**48
"""No site has more; the sum over all sites still fits 64 bits."""


MAX_TERMS = 16
FIGURES = ("counts", "missing", "n", "sum", "squares", "cubes", "fourths", "products")
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


_WANTED = {
    "moments": "number",
    "shape": "number",
    "comoments": "number",
    "histogram": "number",
    "levels": "category",
}


def check(statistic: Statistic, project: Project) -> Variable:
    """Return the variable asked about; ``DocumentError`` if the dictionary doesn't allow it."""
    variables = [known(name, project) for name in statistic.variables]
    variable = variables[0]
    for one in variables:
        if _WANTED.get(statistic.kind, one.kind) != one.kind:
            raise DocumentError(f"{statistic.kind} is not defined for {one.name}.")
    if statistic.kind == "crosstab" and math.prod(map(places, variables)) > MAX_CELLS:
        raise DocumentError(f"A crosstab has at most {MAX_CELLS} cells.")
    if statistic.kind == "histogram" and variable.bins is None:
        raise DocumentError(f"The dictionary gives {variable.name} no grid for a histogram.")
    if statistic.by is not None:
        by = project.variable(statistic.by)
        if by is None or by.kind != "category":
            raise DocumentError(f"{statistic.by} is not a category of the project's dictionary.")
    return variable


def known(name: str, project: Project) -> Variable:
    """Return a variable of the dictionary; ``DocumentError`` for none."""
    variable = project.variable(name)
    if variable is None:
        raise DocumentError(f"Variable {name} is not in the project's dictionary.")
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
        check(statistic, project)
        if statistic.by is None:
            parts.append(Part({"": summarise(statistic, project, columns)}))
            continue
        by = project.variable(statistic.by)
        assert by is not None
        codes = columns[by.name]
        parts.append(
            Part(
                {
                    level: summarise(statistic, project, columns, codes == i)
                    for i, level in enumerate(by.levels)
                },
                rest=summarise(statistic, project, columns, codes < 0),
            )
        )
    return parts


EVERYBODY = slice(None)


def summarise(
    statistic: Statistic,
    project: Project,
    columns: Mapping[str, Numbers | Codes],
    rows: NDArray[np.bool_] | slice = EVERYBODY,
) -> Summary:
    """Return the local half of one statistic over some of the subjects whose values these are."""
    variable = check(statistic, project)
    held = [columns[name][rows] for name in statistic.variables]
    match statistic.kind:
        case "comoments":
            return CoMoments.of([np.asarray(column, dtype=np.float64) for column in held])
        case "crosstab":
            crossed = [known(name, project) for name in statistic.variables]
            return Counts.of_crosstab(
                list(map(place_codes, crossed, held)), [*map(places, crossed)]
            )
        case "levels":
            return Counts.of_levels(np.asarray(held[0], dtype=np.int64), len(variable.levels))
        case "count":
            gone = held[0] < 0 if variable.kind == "category" else np.isnan(held[0])
            missing = int(np.count_nonzero(gone))
            return Counts((gone.size - missing,), missing)
    return _of_number(statistic, variable, np.asarray(held[0], dtype=np.float64))


def _of_number(statistic: Statistic, variable: Variable, values: Numbers) -> Summary:
    match statistic.kind:
        case "moments":
            return Moments.of(values)
        case "shape":
            return Shape.of(values)
        case _:
            return Counts.of_histogram(values, variable)


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
    return merge_summaries(a.groups[level], b.groups[level])


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


def merge_summaries(a: Summary, b: Summary) -> Summary:
    if isinstance(a, Moments) and isinstance(b, Moments):
        return a.merge(b)
    if isinstance(a, Counts) and isinstance(b, Counts):
        return a.merge(b)
    if isinstance(a, Shape) and isinstance(b, Shape):
        return a.merge(b)
    if isinstance(a, CoMoments) and isinstance(b, CoMoments):
        return a.merge(b)
    raise DocumentError("Two sites answered a statistic with different summaries.")

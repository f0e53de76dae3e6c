"""A site's parts as words whose sum over sites is that of the whole: for secure sums, exactly.

Each group of each statistic is a run of words, whether the site has it or not; the first says
whether it hasn't. Counts are themselves. Of a number's moments the sums of ``u`` and ``u * u`` are
written, ``u = (x - minimum) / (maximum - minimum)`` by the dictionary, as integers in units of
2^-60, each in two words of which the lower holds 40 bits. So adding sites rounds nothing: what is
rounded is each site's own float64, and the merged moments once.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from contract.documents import Project, Statistic, Variable
from contract.errors import DocumentError
from contract.statistics.answers import Part, Summary, check
from contract.statistics.summaries import Counts, Moments

UNIT_BITS, LOW_BITS = 60, 40
SITES = 1 << 20
"""No sum is over more sites; so no word overflows."""
_LARGEST = 1 << 100
_MOMENTS = 7
Words64 = NDArray[np.uint64]


def length(ask: Sequence[Statistic], project: Project) -> int:
    """Return how many words the parts of a question are."""
    return sum(len(_levels(s, project)) * _width(s, project) for s in ask)


def encode(parts: Sequence[Part], ask: Sequence[Statistic], project: Project) -> Words64:
    """Return a site's parts as words. ``DocumentError`` for what can't be summed exactly."""
    words: list[int] = []
    for part, statistic in zip(parts, ask, strict=True):
        if part.lane != "exact":
            raise DocumentError("Only exact answers are summed securely.")
        variable = check(statistic, project)
        width = _width(statistic, project)
        for level in _levels(statistic, project):
            summary = None if part.withheld else part.groups.get(level)
            if summary is None:
                words += [1, *(0 for _ in range(width - 1))]
            else:
                words += [0, *_encode(summary, variable)]
    return np.array([word % (1 << 64) for word in words], dtype=np.uint64)


def decode(
    total: Words64, ask: Sequence[Statistic], project: Project, sites: int
) -> tuple[list[Part], list[int]]:
    """Return the merged parts, and for each statistic how many sites are in no group of it.

    A group that no site has is not there; a statistic without groups is withheld.
    """
    if total.shape != (length(ask, project),):
        raise DocumentError("A secure sum has another length than its question.")
    signed = [int(word) for word in total.view(np.int64)]
    parts, absent, at = [], [], 0
    for statistic in ask:
        variable = check(statistic, project)
        width = _width(statistic, project)
        groups: dict[str, Summary] = {}
        missing = []
        for level in _levels(statistic, project):
            run = signed[at : at + width]
            at += width
            missing.append(run[0])
            if run[0] < sites:
                groups[level] = _decode(run[1:], statistic, variable)
        parts.append(Part(groups, withheld=not groups))
        absent.append(min(missing))
    return parts, absent


def _levels(statistic: Statistic, project: Project) -> Sequence[str]:
    if statistic.by is None:
        return ("",)
    by = project.variable(statistic.by)
    if by is None:
        raise DocumentError(f"Variable {statistic.by} is not in the project's dictionary.")
    return by.levels


def _width(statistic: Statistic, project: Project) -> int:
    """Return the words of one group: whether it is absent, and the summary."""
    variable = check(statistic, project)
    match statistic.kind:
        case "moments":
            if variable.minimum is None or variable.maximum is None:
                raise DocumentError(f"The dictionary gives {variable.name} no range to sum it by.")
            return _MOMENTS
        case "histogram":
            return 4 + (variable.bins or 0)
        case "levels":
            return 4 + len(variable.levels)
        case "count":
            return 5
        case _:
            raise DocumentError(f"A {statistic.kind} isn't summed securely.")


def _encode(summary: Summary, variable: Variable) -> list[int]:
    if not isinstance(summary, Moments):
        assert isinstance(summary, Counts)
        return [summary.missing, summary.below, summary.above, *summary.counts]
    low, width = _scale(variable)
    mean = (Fraction(summary.mean) - low) / width
    first = summary.n * mean
    second = Fraction(summary.m2) / width**2 + summary.n * mean**2
    return [summary.n, summary.missing, *_halves(first), *_halves(second)]


def _halves(value: Fraction) -> tuple[int, int]:
    whole = round(value * (1 << UNIT_BITS))
    if abs(whole) >= _LARGEST:
        raise DocumentError("A sum lies too far outside the dictionary's range.")
    return whole >> LOW_BITS, whole & ((1 << LOW_BITS) - 1)


def _decode(run: Sequence[int], statistic: Statistic, variable: Variable) -> Summary:
    if statistic.kind != "moments":
        missing, below, above, *counts = run
        return Counts(tuple(counts), missing, below, above)
    n, missing, *halves = run
    if n <= 0:
        return Moments(missing=missing)
    low, width = _scale(variable)
    first, second = (
        Fraction((halves[i] << LOW_BITS) + halves[i + 1], 1 << UNIT_BITS) for i in (0, 2)
    )
    m2 = max(second - first**2 / n, Fraction(0)) * width**2
    return Moments(n, missing, float(first / n * width + low), float(m2))


def _scale(variable: Variable) -> tuple[Fraction, Fraction]:
    assert variable.minimum is not None and variable.maximum is not None
    low = Fraction(variable.minimum)
    return low, Fraction(variable.maximum) - low

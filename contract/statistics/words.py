"""A site's parts as words whose sum over sites is that of the whole: for secure sums, exactly.

Each group of each statistic is a run of words, whether the site has it or not; the first says
whether it hasn't. Counts are themselves. Of a number ``u = (x - middle) / half`` by the dictionary,
so from -1 to 1 within its range, and of moments the sums of u and u^2 are written, of a shape those
of u to u^4, of comoments those of each u and of each product of two.

Exactness: these sums are worked out of a summary's float64 as fractions, so without rounding, and
written as integers in units of 2^-90, which rounds each by 2^-91 at most. Adding sites adds
integers, which rounds nothing, and the order of sites plays no part. The total is turned into a
summary as fractions again, and rounded to float64 once. So the answer is that of the sites' own
float64 summaries, but for 2^-91 a site and sum.

A sum is four words of 40 bits, the last with what is left. Each word of a site is below 2^43 in
size, so those of ``SITES`` add up within 63 bits. A sum that is larger, 2^73 and more, is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import DocumentError
from contract.statistics.answers import Part, Summary, check, known
from contract.statistics.summaries import CoMoments, Counts, Moments, Shape, places
from contract.work import Statistic

UNIT_BITS, WORD_BITS, WORDS = 90, 40, 4
SITES = 1 << 20
"""No sum is over more sites; so no word overflows."""
_LARGEST = 1 << (WORD_BITS * (WORDS - 1) + 43)
_ORDERS = {"moments": 2, "shape": 4}
Words64 = NDArray[np.uint64]
Scale = tuple[Fraction, Fraction]
"""The middle of a variable's range, and half of it."""


def length(ask: Sequence[Statistic], project: Project) -> int:
    """Return how many words the parts of a question are."""
    for statistic in ask:
        _scales(statistic, project)
    return sum(len(_levels(s, project)) * _width(s, project) for s in ask)


def encode(
    parts: Sequence[Part],
    ask: Sequence[Statistic],
    project: Project,
    random_word: Callable[[], int] | None = None,
) -> Words64:
    """Return a site's parts as words. ``DocumentError`` for what can't be summed exactly.

    ``random_word``, if given, makes a statistic one of all sites or of none: who lacks a group of
    it adds uniformly random words of 64 bits in place of nothing, so that the total of all its
    groups is uniformly random too, and tells nothing of those who have it.
    """
    words: list[int] = []
    for part, statistic in zip(parts, ask, strict=True):
        if part.lane != "exact":
            raise DocumentError("Only exact answers are summed securely.")
        width, scales = _width(statistic, project), _scales(statistic, project)
        levels = _levels(statistic, project)
        if random_word is not None and (part.withheld or set(part.groups) != set(levels)):
            for _ in levels:
                words += [1, *(random_word() for _ in range(width - 1))]
            continue
        for level in levels:
            summary = None if part.withheld else part.groups.get(level)
            if summary is None:
                words += [1, *(0 for _ in range(width - 1))]
            else:
                words += [0, *_encode(summary, scales)]
    return np.array([word % (1 << 64) for word in words], dtype=np.uint64)


def decode(
    total: Words64, ask: Sequence[Statistic], project: Project, sites: int, *, by_all: bool = False
) -> tuple[list[Part], list[dict[str, int]]]:
    """Return the merged parts, and for each statistic how many sites are missing of each group.

    A group that no site has is not there; a statistic without groups is withheld. ``by_all``: the
    sites made it one of all or of none (``encode``), so a group that one lacks says nothing.
    """
    if total.shape != (length(ask, project),):
        raise DocumentError("A secure sum has another length than its question.")
    signed = [int(word) for word in total.view(np.int64)]
    parts, absent, at = [], [], 0
    for statistic in ask:
        width, scales = _width(statistic, project), _scales(statistic, project)
        groups: dict[str, Summary] = {}
        missing = {}
        for level in _levels(statistic, project):
            run = signed[at : at + width]
            at += width
            missing[level] = run[0]
            if run[0] < (1 if by_all else sites):
                groups[level] = _decode(run[1:], statistic.kind, scales)
        parts.append(Part(groups, withheld=not groups))
        absent.append(missing)
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
    variables = [known(name, project) for name in statistic.variables]
    match statistic.kind:
        case "moments" | "shape":
            return 3 + WORDS * _ORDERS[statistic.kind]
        case "comoments":
            number = len(variables)
            return 3 + WORDS * (number + number * (number + 1) // 2)
        case "histogram":
            return 4 + (variables[0].bins or 0)
        case "levels" | "crosstab":
            return 4 + math.prod(map(places, variables))
        case _:
            return 5


def _scales(statistic: Statistic, project: Project) -> list[Scale]:
    """Return the scale of each variable that is summed; none for what is counted."""
    check(statistic, project)
    if statistic.kind not in _ORDERS and statistic.kind != "comoments":
        return []
    return [_scale(known(name, project)) for name in statistic.variables]


def _scale(variable: Variable) -> Scale:
    if variable.minimum is None or variable.maximum is None:
        raise DocumentError(f"The dictionary gives {variable.name} no range to sum it by.")
    low, high = Fraction(variable.minimum), Fraction(variable.maximum)
    return (low + high) / 2, (high - low) / 2


# ---- from summaries to words ---------------------------------------------------------------------


def _encode(summary: Summary, scales: Sequence[Scale]) -> list[int]:
    if isinstance(summary, Counts):
        return [summary.missing, summary.below, summary.above, *summary.counts]
    if isinstance(summary, CoMoments):
        sums = _sums_of_products(summary, scales)
    else:
        central = (
            [summary.m2, summary.m3, summary.m4] if isinstance(summary, Shape) else [summary.m2]
        )
        mean = _fraction(summary.mean)
        if isinstance(summary, Moments):
            mean += _fraction(summary.mean_low)
        sums = _sums_of_powers(summary.n, mean, central, scales)
    return [summary.n, summary.missing, *(word for one in sums for word in _words(one))]


def _sums_of_powers(
    n: int, mean: Fraction, central: Sequence[float], scales: Sequence[Scale]
) -> list[Fraction]:
    """Return sums of powers about the middle, from the mean and sums of powers about the mean."""
    [(middle, half)] = scales
    d = (mean - middle) / half
    second, *rest = [_fraction(one) / half**order for order, one in enumerate(central, 2)]
    sums = [n * d, second + n * d**2]
    if rest:
        third, fourth = rest
        sums.append(third + 3 * d * second + n * d**3)
        sums.append(fourth + 4 * d * third + 6 * d**2 * second + n * d**4)
    return sums


def _sums_of_products(summary: CoMoments, scales: Sequence[Scale]) -> list[Fraction]:
    means = [
        (_fraction(mean) - middle) / half
        for mean, (middle, half) in zip(summary.means, scales, strict=True)
    ]
    pairs = _pairs(len(means))
    return [
        *(summary.n * mean for mean in means),
        *(
            _fraction(product) / (scales[i][1] * scales[j][1]) + summary.n * means[i] * means[j]
            for product, (i, j) in zip(summary.products, pairs, strict=True)
        ),
    ]


def _pairs(width: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(width) for j in range(i, width)]


def _fraction(value: float) -> Fraction:
    if not math.isfinite(value):
        raise DocumentError(_TOO_FAR)
    return Fraction(value)


def _words(value: Fraction) -> list[int]:
    whole = round(value * (1 << UNIT_BITS))
    if abs(whole) >= _LARGEST:
        raise DocumentError(_TOO_FAR)
    found = []
    for _ in range(WORDS - 1):
        found.append(whole & ((1 << WORD_BITS) - 1))
        whole >>= WORD_BITS
    return [*found, whole]


_TOO_FAR = "A sum lies too far outside the dictionary's range."


# ---- from words to summaries ---------------------------------------------------------------------


def _decode(run: Sequence[int], kind: str, scales: Sequence[Scale]) -> Summary:
    if not scales:
        missing, below, above, *counts = run
        return Counts(tuple(counts), missing, below, above)
    n, missing, *words = run
    sums = [_value(words[at : at + WORDS]) for at in range(0, len(words), WORDS)]
    if kind == "comoments":
        return _comoments(n, missing, sums, scales)
    if n <= 0:
        return Moments(missing=missing) if kind == "moments" else Shape(missing=missing)
    [(middle, half)] = scales
    mean = sums[0] / n
    central = [max(sums[1] - n * mean**2, Fraction(0))]
    if kind == "shape":
        _, second, third, fourth = sums
        central.append(third - 3 * mean * second + 2 * n * mean**3)
        central.append(
            max(fourth - 4 * mean * third + 6 * mean**2 * second - 3 * n * mean**4, Fraction(0))
        )
    said = [float(one * half**order) for order, one in enumerate(central, 2)]
    where = middle + half * mean
    rounded = float(where)
    if kind == "shape":
        return Shape(n, missing, rounded, *said)
    return Moments(n, missing, rounded, said[0], float(where - Fraction(rounded)))


def _comoments(
    n: int, missing: int, sums: Sequence[Fraction], scales: Sequence[Scale]
) -> CoMoments:
    width = len(scales)
    pairs = _pairs(width)
    if n <= 0:
        return CoMoments(0, missing, (0.0,) * width, (0.0,) * len(pairs))
    means = [one / n for one in sums[:width]]
    products = []
    for (i, j), raw in zip(pairs, sums[width:], strict=True):
        about = raw - n * means[i] * means[j]
        about = max(about, Fraction(0)) if i == j else about
        products.append(float(about * scales[i][1] * scales[j][1]))
    return CoMoments(
        n,
        missing,
        tuple(
            float(middle + half * mean) for mean, (middle, half) in zip(means, scales, strict=True)
        ),
        tuple(products),
    )


def _value(words: Sequence[int]) -> Fraction:
    whole = sum(word << (WORD_BITS * at) for at, word in enumerate(words))
    return Fraction(whole, 1 << UNIT_BITS)

"""A part of an answer with noise, from what was measured: the only way from one to the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from contract.documents import Project
from contract.statistics import noisy
from contract.statistics.answers import Noise, NoiseTerm, Part, Summary
from contract.statistics.summaries import Counts
from contract.work import Statistic
from node.gate.dp import questions
from node.gate.dp.measure import STEPS, Measure, bounds, groups, sensitivities
from node.gate.dp.mechanism import Draw

MECHANISM = "discrete-laplace"


def noisy_part(
    statistic: Statistic, project: Project, exact: Measure, epsilon: float, draw: Draw
) -> Part:
    """Return a part with noise that makes it epsilon-private.

    All groups' counts are one draw, for a subject is in one cell of one of them; so is each of the
    sums. Together they cost the sum of what each costs, which is epsilon (``questions.within``).
    """
    names = groups(statistic, project)
    of_counts, *of_sums = questions.within(statistic, epsilon)
    counts, scale = draw(exact.counts, 1, of_counts)
    cells = _split(counts, len(counts) // len(names))
    drawn = [
        draw(sums, sensitivity, each)
        for sums, sensitivity, each in zip(
            exact.sums, sensitivities(statistic), of_sums, strict=True
        )
    ]
    if drawn:
        sums = [
            _split([v / STEPS for v in values], len(values) // len(names)) for values, _ in drawn
        ]
        scales = [of / STEPS for _, of in drawn]
        within = bounds(statistic, project)
        summaries, terms = _SUMMED[statistic.kind](cells, sums, [scale, *scales], within)
    else:
        summaries = [_counts(statistic, some) for some in cells]
        terms = [_counted(figure, scale) for figure in ("counts", "missing")]
    noise = Noise(epsilon, 0.0, noisy.CONFIDENCE, tuple(terms))
    return Part(dict(zip(names, summaries, strict=True)), lane="dp", noise=noise)


Cells = Sequence[Sequence[int]]
"""n and missing of each group."""
Sums = Sequence[Sequence[Sequence[float]]]
"""For each of a measure's sums, of each group: in units of half the variables' ranges."""
Summed = tuple[list[Summary], list[NoiseTerm]]


def _powers(
    cells: Cells, sums: Sums, scales: Sequence[float], within: Sequence[tuple[float, float]]
) -> Summed:
    """Return moments or a shape, from the sums of Chebyshev's polynomials of a number."""
    [(low, high)] = within
    half = (high - low) / 2
    middle = low + half
    summaries: list[Summary] = []
    for at, (n, missing) in enumerate(cells):
        powers = noisy.powers([n, *(one[at][0] for one in sums)])
        scaled = [power * half**order for order, power in enumerate(powers)]
        summaries.append(
            noisy.moments(n, missing, scaled[1], scaled[2], middle)
            if len(sums) == 2
            else noisy.shape(n, missing, scaled[1:], middle)
        )
    figures = zip(
        ("n", "sum", "squares", "cubes", "fourths"), noisy.of_powers(scales), strict=False
    )
    terms = [
        _counted(figure, scale) if figure == "n" else _summed(figure, half**order * scale)
        for order, (figure, scale) in enumerate(figures)
    ]
    return summaries, [*terms, _counted("missing", scales[0])]


def _products(
    cells: Cells, sums: Sums, scales: Sequence[float], within: Sequence[tuple[float, float]]
) -> Summed:
    """Return comoments. The scales of sums and products are those of the widest variables."""
    halves = [(high - low) / 2 for low, high in within]
    middles = [low + half for (low, _), half in zip(within, halves, strict=True)]
    summaries: list[Summary] = []
    for (n, missing), firsts, products in zip(cells, *sums, strict=True):
        summaries.append(noisy.comoments(n, missing, firsts, products, middles, halves))
    widest = sorted(halves)[-2:]
    terms = [
        _counted("n", scales[0]),
        _counted("missing", scales[0]),
        _summed("sum", widest[-1] * scales[1]),
        _summed("products", math.prod(widest) * scales[2]),
        _summed("squares", widest[-1] ** 2 * math.hypot(scales[2], scales[0]) / 2),
    ]
    return summaries, terms


_SUMMED = {"moments": _powers, "shape": _powers, "comoments": _products}


V = TypeVar("V", int, float)


def _split(values: Sequence[V], size: int) -> list[list[V]]:
    return [list(values[start : start + size]) for start in range(0, len(values), size)]


def _counts(statistic: Statistic, cells: list[int]) -> Counts:
    """Return a group's counts: its cells, then missing, then what is outside of a histogram."""
    outside = [cells.pop(), cells.pop()] if statistic.kind == "histogram" else [0, 0]
    missing = cells.pop()
    return Counts(tuple(cells), missing, below=outside[1], above=outside[0])


def _counted(figure: str, scale: float) -> NoiseTerm:
    return NoiseTerm(figure, MECHANISM, scale, float(math.ceil(noisy.TAIL * scale)))


def _summed(figure: str, scale: float) -> NoiseTerm:
    return NoiseTerm(figure, MECHANISM, scale, noisy.TAIL * scale)

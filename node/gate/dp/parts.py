"""A part of an answer with noise, from what was measured: the only way from one to the other."""

from __future__ import annotations

import math
from collections.abc import Sequence

from contract.documents import Project, Statistic
from contract.statistics import noisy
from contract.statistics.answers import Noise, NoiseTerm, Part, Summary
from contract.statistics.summaries import Counts
from node.gate.dp import questions
from node.gate.dp.measure import STEPS, Measure, bounds, groups
from node.gate.dp.mechanism import Draw

MECHANISM = "discrete-laplace"


def noisy_part(
    statistic: Statistic, project: Project, exact: Measure, epsilon: float, draw: Draw
) -> Part:
    """Return a part with noise that makes it epsilon-private.

    Counts: all groups and cells in one draw, for a subject is in one of them. Moments: three
    draws, of the counts, sums and sums of squares of all groups, each with a third of epsilon.
    """
    names = groups(statistic, project)
    if statistic.kind != "moments":
        values, scale = draw(exact.counts, 1, epsilon)
        summaries: list[Summary] = [
            _counts(statistic, cells) for cells in _split(values, len(values) // len(names))
        ]
        terms = tuple(_counted(figure, scale) for figure in ("counts", "missing"))
    else:
        each = epsilon / questions.MOMENTS
        counts, scale = draw(exact.counts, 1, each)
        totals, total_scale = draw(exact.totals, STEPS, each)
        squares, squares_scale = draw(exact.squares, STEPS, each)
        low, high = bounds(statistic, project)
        half = (high - low) / 2
        summaries = [
            noisy.moments(
                n,
                missing,
                half * total / STEPS,
                half * half * (square / STEPS + n) / 2,
                low + half,
            )
            for (n, missing), total, square in zip(_split(counts, 2), totals, squares, strict=True)
        ]
        terms = (
            _counted("n", scale),
            _counted("missing", scale),
            _summed("sum", half * total_scale / STEPS),
            _summed("squares", half * half * _together(squares_scale / STEPS, scale) / 2),
        )
    noise = Noise(epsilon, 0.0, noisy.CONFIDENCE, terms)
    return Part(dict(zip(names, summaries, strict=True)), lane="dp", noise=noise)


def _split(values: Sequence[int], size: int) -> list[list[int]]:
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


def _together(*scales: float) -> float:
    return math.hypot(*scales)

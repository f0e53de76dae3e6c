"""What follows from sums with noise: moments that merge as exact ones do, and half widths.

A site's dp lane gives n, the sum of x - m and the sum of (x - m)^2 with noise, m being the middle
of the variable's bounds. ``moments`` writes them as n, mean and M2, from which ``Moments.merge``
gives again just their sums: Chan's formula is an identity in these, whatever their signs. So sites'
answers add up without bias. One site's own mean may lie outside the bounds, and its M2 below zero,
when there is little besides noise.

What is worked out from noisy figures takes nothing from the guarantee (Dwork and Roth 2014,
Proposition 2.1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from contract.statistics.answers import Noise
from contract.statistics.summaries import Moments

CONFIDENCE = 0.95
TAIL = -math.log(1 - CONFIDENCE)
"""Of Laplace noise of scale 1, 5 % is farther out. Of a sum of such noises whose scales have a
root-sum-square of 1, less is (4.5 % of two alike, 3.4 % of many)."""


@dataclass(frozen=True)
class MomentsEstimate:
    """What moments with noise say, with half widths of 95 % intervals; NaN when it is nothing."""

    mean: float
    mean_half_width: float
    standard_deviation: float
    standard_deviation_half_width: float


def moments(n: int, missing: int, total: float, squares: float, middle: float) -> Moments:
    """Return moments whose n, sum and sum of squares (both about ``middle``) are these."""
    n = n or 1  # sums without anybody couldn't be written down; one more is within the noise
    return Moments(n, missing, middle + total / n, squares - total * total / n)


def estimate(found: Moments, noise: Noise, minimum: float, maximum: float) -> MomentsEstimate:
    """Return what moments with noise say of a variable with these bounds.

    Assumption: the errors are small beside n, so that a ratio's error is linear in them.
    """
    scales = {term.figure: term.scale for term in noise.terms}
    middle, half = minimum + (maximum - minimum) / 2, (maximum - minimum) / 2
    n, of_n = found.n, scales.get("n", math.inf)
    of_total, of_squares = scales.get("sum", math.inf), scales.get("squares", math.inf)
    if n < 2 or n <= TAIL * of_n:
        return MomentsEstimate(math.nan, math.nan, math.nan, math.nan)
    mean = min(max(found.mean, minimum), maximum)
    aside = mean - middle
    mean_error = math.hypot(of_total, aside * of_n) / n
    variance = min(max(found.m2 / n, 0.0), half * half)
    variance_error = math.hypot(of_squares, 2 * aside * of_total, variance * of_n) / n
    deviation = math.sqrt(variance * n / (n - 1))
    # Where the variance is hardly more than its error, the root isn't linear: its own range then.
    deviation_error = min(
        TAIL * variance_error / (2 * deviation) if deviation else math.inf,
        math.sqrt(TAIL * variance_error),
    )
    return MomentsEstimate(mean, TAIL * mean_error, deviation, min(deviation_error, half))

"""What follows from sums with noise: summaries that merge as exact ones do, and half widths.

A site's dp lane gives n and sums of powers and products of x - m with noise, m being the middle of
the variable's bounds. ``moments``, ``shape`` and ``comoments`` write them as n, mean and sums about
the mean, from which these summaries' ``merge`` gives again just their sums: its formulas are
identities in these, whatever their signs. So sites' answers add up without bias. One site's own
mean may lie outside the bounds, and its M2 below zero, when there is little besides noise; a matrix
becomes one of covariances (without negative eigenvalues) in the merged whole alone.

Half widths of what is worked out follow from the noises that were drawn, which are independent, by
the first derivatives ("delta method"). What is worked out from noisy figures takes nothing from the
guarantee (Dwork and Roth 2014, Proposition 2.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.statistics.answers import Noise
from contract.statistics.summaries import CoMoments, Counts, Moments, Numbers, Shape

CONFIDENCE = 0.95
TAIL = -math.log(1 - CONFIDENCE)
"""Of Laplace noise of scale 1, 5 % is farther out. Of a sum of such noises whose scales have a
root-sum-square of 1, less is (4.5 % of two alike, 3.4 % of many)."""
Bounds = tuple[float, float]
Matrix = NDArray[np.float64]


# ---- from sums with noise to summaries -----------------------------------------------------------


def powers(chebyshev: Sequence[float]) -> list[float]:
    """Return n and the sums of u to u^k, from n and the sums of T1 to Tk of u (k up to 4)."""
    n, *t = chebyshev
    found = [n, t[0], (t[1] + n) / 2]
    if len(t) > 2:
        found += [(t[2] + 3 * t[0]) / 4, (t[3] + 4 * t[1] + 3 * n) / 8]
    return found


def of_powers(scales: Sequence[float]) -> list[float]:
    """Return the scales of the noise of what ``powers`` returns, of independent noises."""
    n, *t = scales
    found = [n, t[0], math.hypot(t[1], n) / 2]
    if len(t) > 2:
        found += [math.hypot(t[2], 3 * t[0]) / 4, math.hypot(t[3], 4 * t[1], 3 * n) / 8]
    return found


def moments(n: int, missing: int, total: float, squares: float, middle: float) -> Moments:
    """Return moments whose n, sum and sum of squares (both about ``middle``) are these."""
    n = n or 1  # sums without anybody couldn't be written down; one more is within the noise
    return Moments(n, missing, middle + total / n, squares - total * total / n)


def shape(n: int, missing: int, sums: Sequence[float], middle: float) -> Shape:
    """Return the shape whose n, and sums of powers 1 to 4 about ``middle``, are these."""
    n = n or 1
    first, second, third, fourth = sums
    mean = first / n
    return Shape(
        n,
        missing,
        middle + mean,
        second - n * mean**2,
        third - 3 * mean * second + 2 * n * mean**3,
        fourth - 4 * mean * third + 6 * mean**2 * second - 3 * n * mean**4,
    )


def comoments(
    n: int,
    missing: int,
    firsts: Sequence[float],
    products: Sequence[float],
    middles: Sequence[float],
    halves: Sequence[float],
) -> CoMoments:
    """Return comoments from sums of u = (x - middle) / half and of products of two of these.

    ``products`` is an upper triangle by rows, on the diagonal the sum of T2(u).
    """
    n = n or 1
    width = len(firsts)
    half, total = np.array(halves), np.array(firsts)
    upper = np.array(products, dtype=np.float64)
    rows, across = np.triu_indices(width)
    diagonal = rows == across
    upper[diagonal] = (upper[diagonal] + n) / 2
    deviations = (upper - total[rows] * total[across] / n) * half[rows] * half[across]
    means = np.array(middles) + half * total / n
    return CoMoments(n, missing, tuple(means.tolist()), tuple(deviations.tolist()))


# ---- from merged summaries to what they say ------------------------------------------------------


@dataclass(frozen=True)
class MomentsEstimate:
    """What moments with noise say, with half widths of 95 % intervals; NaN when it is nothing."""

    mean: float
    mean_half_width: float
    standard_deviation: float
    standard_deviation_half_width: float


@dataclass(frozen=True)
class ShapeEstimate:
    """What a shape with noise says besides its moments, with half widths; NaN for nothing."""

    skewness: float
    skewness_half_width: float
    kurtosis: float
    kurtosis_half_width: float


@dataclass(frozen=True)
class CoMomentsEstimate:
    """What comoments with noise say: matrices, and half widths of 95 % intervals; NaN for nothing.

    ``covariance`` has no negative eigenvalue.
    """

    covariance: Matrix
    covariance_half_width: Matrix
    correlation: Matrix
    correlation_half_width: Matrix


@dataclass(frozen=True)
class QuantileEstimate:
    """A quantile on a grid, and the edges between which it lies in 95 % of draws.

    An end is infinite where the quantile may lie outside the grid.
    """

    value: float
    low: float
    high: float


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


def estimate_shape(found: Shape, noise: Noise, minimum: float, maximum: float) -> ShapeEstimate:
    """Return what a shape with noise says of a variable with these bounds."""
    scales = _scales(noise)
    half = (maximum - minimum) / 2
    d = (found.mean - minimum) / half - 1
    m2, m3, m4 = found.m2 / half**2, found.m3 / half**3, found.m4 / half**4
    n = found.n
    if n < 4 or n <= TAIL * scales["n"]:
        return ShapeEstimate(math.nan, math.nan, math.nan, math.nan)
    sums = [
        n * d,
        m2 + n * d**2,
        m3 + 3 * d * m2 + n * d**3,
        m4 + 4 * d * m3 + 6 * d**2 * m2 + n * d**4,
    ]
    first, second, third, fourth = sums
    drawn = [n, first, 2 * second - n, 4 * third - 3 * first, 8 * fourth - 8 * second + n]
    of = [scales["n"], *[scales["sum"] / half] * 4]

    def say(what: Callable[[Shape], float]) -> tuple[float, float]:
        return _delta(lambda drawn: what(_shape_of(drawn)), drawn, of)

    return ShapeEstimate(*say(lambda s: s.skewness), *say(lambda s: s.kurtosis))


def _shape_of(drawn: Sequence[float]) -> Shape:
    n, *sums = powers(drawn)
    # A count that a derivative is taken by isn't whole.
    return shape(n, 0, sums, 0.0)  # type: ignore[arg-type]


def estimate_comoments(
    found: CoMoments, noise: Noise, within: Sequence[Bounds]
) -> CoMomentsEstimate:
    """Return what comoments with noise say of variables with these bounds, in their order."""
    scales = _scales(noise)
    halves = np.array([(high - low) / 2 for low, high in within])
    middles = np.array([low for low, _ in within]) + halves
    width, n = len(within), found.n
    if n < 2 or n <= TAIL * scales["n"]:
        nothing = np.full((width, width), math.nan)
        return CoMomentsEstimate(nothing, nothing, nothing, nothing)
    widest = np.sort(halves)[-2:]
    of_n, of_sum = scales["n"], scales["sum"] / widest[-1]
    of_product = scales["products"] / widest.prod()
    unit = np.outer(halves, halves)
    means = (np.array(found.means) - middles) / halves
    raw = found.matrix / unit + n * np.outer(means, means)

    covariance = _without_negative(found.matrix / (n - 1))
    spread = np.sqrt(np.diag(covariance))
    known = np.outer(spread, spread)
    correlation = np.divide(covariance, known, out=np.full_like(known, math.nan), where=known > 0)
    covariance_error, correlation_error = np.zeros_like(known), np.zeros_like(known)
    for i in range(width):
        for j in range(i, width):
            drawn = [n, n * means[i], n * means[j], raw[i, j], 2 * raw[i, i] - n, 2 * raw[j, j] - n]
            of = [of_n, of_sum, of_sum, of_product, of_product, of_product]
            if i == j:
                drawn, of = [n, n * means[i], 2 * raw[i, i] - n], [of_n, of_sum, of_product]
            else:
                _, error = _delta(_correlation, drawn, of)
                correlation_error[i, j] = correlation_error[j, i] = min(error, 2.0)
            _, error = _delta(_variance if i == j else _covariance, drawn, of)
            covariance_error[i, j] = covariance_error[j, i] = error * unit[i, j]
    return CoMomentsEstimate(covariance, covariance_error, correlation, correlation_error)


def _covariance(drawn: Sequence[float]) -> float:
    n, one, other, product, *_ = drawn
    return (product - one * other / n) / (n - 1)


def _variance(drawn: Sequence[float]) -> float:
    n, total, chebyshev = drawn
    return ((chebyshev + n) / 2 - total**2 / n) / (n - 1)


def _correlation(drawn: Sequence[float]) -> float:
    n, one, other, _, of_one, of_other = drawn
    variances = _variance([n, one, of_one]), _variance([n, other, of_other])
    if min(variances) <= 0:
        return math.nan
    return _covariance(drawn) / math.sqrt(variances[0] * variances[1])


def _without_negative(matrix: Matrix) -> Matrix:
    """Return the nearest matrix without negative eigenvalues (in Frobenius' norm; Higham 1988)."""
    values, vectors = np.linalg.eigh(matrix)
    found: Matrix = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return found


def _scales(noise: Noise) -> dict[str, float]:
    return {term.figure: term.scale for term in noise.terms}


def _delta(
    function: Callable[[Sequence[float]], float], drawn: Sequence[float], scales: Sequence[float]
) -> tuple[float, float]:
    """Return a function of noisy figures, and the half width that independent noises give it.

    Assumption: the errors are small beside n, so that the function is nearly linear in them.
    """
    step = 1e-5 * drawn[0]
    errors = []
    for place, scale in enumerate(scales):
        ahead, behind = list(drawn), list(drawn)
        ahead[place] += step
        behind[place] -= step
        errors.append((function(ahead) - function(behind)) / (2 * step) * scale)
    return function(drawn), TAIL * math.hypot(*errors)


# ---- quantiles -----------------------------------------------------------------------------------


def quantile(
    found: Counts, noise: Noise, minimum: float, maximum: float, probability: float
) -> QuantileEstimate:
    """Return a quantile from a histogram with noise on a grid between these bounds.

    At an edge, (1 - p) of what is counted left of it less p of what is right of it is below zero
    left of the quantile and above it on the right. The value is where its isotonic regression is
    zero, linear within a bin (Barlow et al. 1972); NaN when noise may be all that was counted. The
    low end is the last edge of those from the left on that are surely left of the quantile, the
    high end the same from the right. That the low end is too far right would need the noise at the
    one edge next to the quantile to be beyond its half width: so each end is wrong in at most 2.5 %
    of draws.
    """
    cells = np.array([found.below, *found.counts, found.above], dtype=np.float64)
    left = np.cumsum(cells)[:-1]
    total = float(cells.sum())
    scale = _scales(noise)["counts"]
    if total <= TAIL * scale * math.sqrt(cells.size):
        return QuantileEstimate(math.nan, -math.inf, math.inf)
    balance = (1 - probability) * left - probability * (total - left)
    size = np.arange(1, cells.size)
    of_balance = (1 - probability) ** 2 * size + probability**2 * (cells.size - size)
    doubt = TAIL * scale * np.sqrt(of_balance)
    edges = np.linspace(minimum, maximum, len(found.counts) + 1)
    surely_left = int(np.argmin(np.append(balance < -doubt, False)))
    surely_right = int(np.argmin(np.append((balance > doubt)[::-1], False)))
    low = edges[surely_left - 1] if surely_left else -math.inf
    high = edges[-surely_right] if surely_right else math.inf
    rising = _isotonic(balance)
    value = float(np.clip(_crossing(edges, rising), low, high))
    return QuantileEstimate(value, float(low), float(high))


def _crossing(edges: Numbers, rising: Numbers) -> float:
    """Return where a function that doesn't fall is zero; the middle if it is so for a while."""
    first = int(np.searchsorted(rising, 0.0, side="left"))
    after = int(np.searchsorted(rising, 0.0, side="right"))
    if first < after:
        return float(edges[first] + edges[after - 1]) / 2
    if first in (0, rising.size):
        return float(edges[min(first, edges.size - 1)])
    before = first - 1
    share = -rising[before] / (rising[first] - rising[before])
    return float(edges[before] + share * (edges[first] - edges[before]))


def _isotonic(values: Numbers) -> Numbers:
    """Return the nearest values that don't fall: pool adjacent violators."""
    sums: list[float] = []
    sizes: list[int] = []
    for value in values.tolist():
        sums.append(value)
        sizes.append(1)
        while len(sums) > 1 and sums[-2] * sizes[-1] > sums[-1] * sizes[-2]:
            total, size = sums.pop(), sizes.pop()
            sums[-1] += total
            sizes[-1] += size
    return np.repeat(np.array(sums) / np.array(sizes), sizes)

"""The summaries themselves: moments of numbers, counts on a grid, over levels, or crossed."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.dictionary import Variable
from contract.errors import DocumentError

Numbers = NDArray[np.float64]
"""One value for each subject; NaN is missing."""
Codes = NDArray[np.int64]
"""One index into a variable's levels for each subject; -1 is missing."""
_PIECE, _LARGE_PIECE = 1 << 14, 1 << 16


@dataclass(frozen=True)
class Moments:
    """n, missing, mean and M2 = sum (x - mean)^2 of a number.

    Merged as Chan, Golub and LeVeque (1979): M2 = M2a + M2b + d^2 na nb / n. ``mean_low`` is what
    rounding the mean to float64 left out: without it, many sites' means of values far from zero
    lose digits of M2 and of differences between groups (3 of 12 in an analysis of variance of
    values about a million with a deviation of 0.1).
    """

    n: int = 0
    missing: int = 0
    mean: float = 0.0
    m2: float = 0.0
    mean_low: float = 0.0

    @classmethod
    def of(cls, values: Numbers) -> Moments:
        """Return the local half: moments of the values that are not NaN."""
        found = cls()
        # In pieces that stay in the processor's cache, into memory that is held already: the time
        # is in memory, not in arithmetic.
        room = np.empty(min(values.size, _LARGE_PIECE))
        for start in range(0, values.size, _LARGE_PIECE):
            piece = cls._of_piece(values[start : start + _LARGE_PIECE], room)
            found = found.merge(piece) if start else piece
        return found

    @classmethod
    def _of_piece(cls, values: Numbers, room: Numbers) -> Moments:
        gone = np.isnan(values)
        missing = int(np.count_nonzero(gone))
        present = values[~gone] if missing else values
        if present.size == 0:
            return cls(missing=missing)
        mean = float(np.add.reduce(present)) / present.size
        deviations = np.subtract(present, mean, out=room[: present.size])
        # The correction is zero in exact arithmetic; it takes out the rounding of the mean.
        # Sums are NumPy's pairwise ones: accurate, and without a BLAS that starts threads.
        left = float(np.add.reduce(deviations))
        np.square(deviations, out=deviations)
        m2 = float(np.add.reduce(deviations)) - left**2 / present.size
        mean, low = _sum(mean, left / present.size)
        return cls(int(present.size), missing, mean, max(m2, 0.0), low)

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both parts' values together."""
        n = self.n + other.n
        missing = self.missing + other.missing
        if n == 0:
            return Moments(missing=missing)
        if self.n == 0 or other.n == 0:
            part = self if self.n else other
            return Moments(n, missing, part.mean, part.m2, part.mean_low)
        delta = other.less(self)
        mean, low = _sum(self.mean, self.mean_low + delta * other.n / n)
        m2 = self.m2 + other.m2 + delta * delta * self.n * other.n / n
        return Moments(n, missing, mean, m2, low)

    def less(self, other: Moments) -> float:
        """Return the mean less the other's, right where the two are all but equal."""
        return (self.mean - other.mean) + (self.mean_low - other.mean_low)

    @property
    def variance(self) -> float:
        """The sample variance (divisor n - 1); NaN below two values."""
        return self.m2 / (self.n - 1) if self.n > 1 else math.nan

    @property
    def standard_deviation(self) -> float:
        """The square root of ``variance``, in the variable's unit."""
        return math.sqrt(self.variance) if self.n > 1 else math.nan


@dataclass(frozen=True)
class Shape:
    """n, missing, mean and sums of (x - mean)^2, ^3 and ^4: for skewness and kurtosis.

    Merged as Pebay (2008), Sandia report SAND2008-6212, equations 2.1 to 2.4.
    """

    n: int = 0
    missing: int = 0
    mean: float = 0.0
    m2: float = 0.0
    m3: float = 0.0
    m4: float = 0.0

    @classmethod
    def of(cls, values: Numbers) -> Shape:
        """Return the local half, of the values that are not NaN."""
        first = Moments.of(values)
        if first.n == 0:
            return cls(missing=first.missing)
        deviations = values[~np.isnan(values)] - first.mean
        squares = deviations * deviations
        return cls(
            first.n,
            first.missing,
            first.mean,
            first.m2,
            float((squares * deviations).sum()),
            float((squares * squares).sum()),
        )

    def merge(self, other: Shape) -> Shape:
        """Return the shape of both parts' values together."""
        n, missing = self.n + other.n, self.missing + other.missing
        if n == 0:
            return Shape(missing=missing)
        if self.n == 0 or other.n == 0:
            part = self if self.n else other
            return Shape(n, missing, part.mean, part.m2, part.m3, part.m4)
        a, b = self.n, other.n
        delta = other.mean - self.mean
        m2 = self.m2 + other.m2 + delta**2 * a * b / n
        m3 = (
            self.m3
            + other.m3
            + delta**3 * a * b * (a - b) / n**2
            + 3 * delta * (a * other.m2 - b * self.m2) / n
        )
        m4 = (
            self.m4
            + other.m4
            + delta**4 * a * b * (a * a - a * b + b * b) / n**3
            + 6 * delta**2 * (a * a * other.m2 + b * b * self.m2) / n**2
            + 4 * delta * (a * other.m3 - b * self.m3) / n
        )
        return Shape(n, missing, self.mean + delta * b / n, m2, m3, m4)

    @property
    def moments(self) -> Moments:
        """What it says of mean and variance."""
        return Moments(self.n, self.missing, self.mean, self.m2)

    @property
    def g1(self) -> float:
        """The plain skewness, m3 / m2^1.5 with divisors n (Joanes, Gill 1998)."""
        variance = self.m2 / self.n if self.n else 0.0
        return self.m3 / (self.n * variance**1.5) if variance > 0 else math.nan

    @property
    def b1(self) -> float:
        """The skewness of a variance with divisor n - 1, as MINITAB has it."""
        return self.g1 * ((self.n - 1) / self.n) ** 1.5 if self.n else math.nan

    @property
    def g2(self) -> float:
        """The plain excess kurtosis, m4 / m2^2 - 3 with divisors n (Joanes, Gill 1998)."""
        return self.n * self.m4 / self.m2**2 - 3 if self.m2 > 0 else math.nan

    @property
    def b2(self) -> float:
        """The excess kurtosis of a variance with divisor n - 1, as MINITAB has it."""
        return (self.g2 + 3) * ((self.n - 1) / self.n) ** 2 - 3 if self.n else math.nan

    @property
    def skewness(self) -> float:
        """The adjusted Fisher-Pearson coefficient G1 (Joanes, Gill 1998); NaN where undefined."""
        n = self.n
        if n < 3 or self.m2 <= 0:
            return math.nan
        variance = self.m2 / n
        return math.sqrt(n * (n - 1)) / (n - 2) * self.m3 / (n * variance * math.sqrt(variance))

    @property
    def kurtosis(self) -> float:
        """The excess kurtosis G2 (Joanes, Gill 1998), 0 of a normal one; NaN where undefined."""
        n = self.n
        if n < 4 or self.m2 <= 0:
            return math.nan
        plain = n * self.m4 / self.m2**2 - 3
        return (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * plain + 6)


@dataclass(frozen=True)
class CoMoments:
    """n, missing, means, and sums of products of deviations of several numbers, complete cases.

    ``products`` is the upper triangle of a matrix by rows, in the variables' order: its diagonal
    holds each one's M2. Merged as Chan's formula has it, for each pair.
    """

    n: int
    missing: int
    means: tuple[float, ...]
    products: tuple[float, ...]

    @classmethod
    def of(cls, columns: Sequence[Numbers]) -> CoMoments:
        """Return the local half, over rows that have all values."""
        rows = np.column_stack(columns)
        complete = rows[~np.isnan(rows).any(axis=1)]
        n, width = complete.shape
        missing = int(len(rows) - n)
        if n == 0:
            return cls(0, missing, (0.0,) * width, (0.0,) * (width * (width + 1) // 2))
        means = complete.mean(axis=0)
        deviations = complete - means
        left = deviations.sum(axis=0)  # zero but for the rounding of the means
        products = deviations.T @ deviations - np.outer(left, left) / n
        return cls(
            n,
            missing,
            tuple(means.tolist()),
            tuple(products[np.triu_indices(width)].tolist()),
        )

    def merge(self, other: CoMoments) -> CoMoments:
        """Return those of both parts' rows; ``DocumentError`` when they are of other variables."""
        if len(self.means) != len(other.means) or len(self.products) != len(other.products):
            raise DocumentError("Two parts of one statistic are of different variables.")
        n, missing = self.n + other.n, self.missing + other.missing
        if n == 0:
            return CoMoments(0, missing, (0.0,) * len(self.means), (0.0,) * len(self.products))
        if self.n == 0 or other.n == 0:
            part = self if self.n else other
            return CoMoments(n, missing, part.means, part.products)
        delta = np.array(other.means) - np.array(self.means)
        crossed = np.outer(delta, delta)[np.triu_indices(delta.size)] * (self.n * other.n / n)
        return CoMoments(
            n,
            missing,
            tuple((np.array(self.means) + delta * (other.n / n)).tolist()),
            tuple((np.array(self.products) + np.array(other.products) + crossed).tolist()),
        )

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The products as a symmetric matrix."""
        width = len(self.means)
        upper = np.zeros((width, width))
        upper[np.triu_indices(width)] = self.products
        return upper + np.triu(upper, 1).T


@dataclass(frozen=True)
class Counts:
    """Counts by level, or by bin of a variable's grid with what lies below and above it.

    Of a crosstab they are those of all combinations, the last variable's places running fastest
    (see ``places``), and nothing is below or above.
    """

    counts: tuple[int, ...]
    missing: int = 0
    below: int = 0
    above: int = 0

    @classmethod
    def of_histogram(cls, values: Numbers, variable: Variable) -> Counts:
        """Return counts in ``variable.bins`` equal bins, closed left, the last one closed both."""
        grid = _Grid.of(variable)
        low, high = grid.low, grid.high
        counts = np.zeros(grid.bins, dtype=np.int64)
        below = above = missing = 0
        room = np.empty(min(values.size, _PIECE)), np.empty(min(values.size, _PIECE), dtype=np.intp)
        for start in range(0, values.size, _PIECE):
            piece = values[start : start + _PIECE]
            least, greatest = np.minimum.reduce(piece), np.maximum.reduce(piece)
            if not (least >= low and greatest <= high):  # nor where one is NaN
                below += int(np.count_nonzero(piece < low))
                above += int(np.count_nonzero(piece > high))
                missing += int(np.count_nonzero(np.isnan(piece)))
                piece = piece[(piece >= low) & (piece <= high)]
            counts += np.bincount(grid.places(piece, *room), minlength=grid.bins)
        return cls(tuple(counts.tolist()), missing, below, above)

    @classmethod
    def of_levels(cls, codes: Codes, levels: int) -> Counts:
        """Return counts of codes 0 to ``levels - 1``; negative codes are missing."""
        present = codes[codes >= 0]
        counted = np.bincount(present, minlength=levels)
        if counted.size > levels:
            raise DocumentError("A code lies outside its variable's levels.")
        return cls(tuple(counted.tolist()), int(codes.size - present.size))

    @classmethod
    def of_crosstab(cls, codes: Sequence[Codes], widths: Sequence[int]) -> Counts:
        """Return counts of each combination of codes; who lacks any (-1) is missing."""
        flat = np.zeros(codes[0].size, dtype=np.int64)
        gone = np.zeros(codes[0].size, dtype=np.bool_)
        for column, width in zip(codes, widths, strict=True):
            if column.size and int(column.max()) >= width:
                raise DocumentError("A code lies outside its variable's levels.")
            gone |= column < 0
            flat = flat * width + column
        counted = np.bincount(flat[~gone], minlength=math.prod(widths))
        return cls(tuple(int(c) for c in counted), int(np.count_nonzero(gone)))

    def merge(self, other: Counts) -> Counts:
        """Return the sums; ``DocumentError`` when the grids differ."""
        if len(self.counts) != len(other.counts):
            raise DocumentError("Two parts of one statistic have different grids.")
        return Counts(
            tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
            self.missing + other.missing,
            self.below + other.below,
            self.above + other.above,
        )

    @property
    def n(self) -> int:
        """How many subjects have a value."""
        return sum(self.counts) + self.below + self.above


def places(variable: Variable) -> int:
    """Return how many places a variable has in a crosstab: its levels, or its grid's bins, then
    what lies below and above the grid. ``DocumentError`` for a number without a grid.
    """
    if variable.kind == "category":
        return len(variable.levels)
    if variable.bins is None:
        raise DocumentError(f"The dictionary gives {variable.name} no grid for a crosstab.")
    return variable.bins + 2


def place_codes(variable: Variable, column: Numbers | Codes) -> Codes:
    """Return the place of each subject's value, -1 for a missing one."""
    if variable.kind == "category":
        return np.asarray(column, dtype=np.int64)
    numbers = np.asarray(column, dtype=np.float64)
    return np.where(np.isnan(numbers), -1, grid_places(numbers, variable))


def _sum(large: float, small: float) -> tuple[float, float]:
    """Return a sum rounded to float64, and exactly what the rounding left out (Knuth 1969)."""
    total = large + small
    back = total - large
    return total, (large - (total - back)) + (small - back)


def grid_places(values: Numbers, variable: Variable) -> Codes:
    """Return each value's bin on the variable's grid; ``bins`` for below it, one more for above.

    A missing value is put below.
    """
    grid = _Grid.of(variable)
    places = np.full(values.size, grid.bins, dtype=np.int64)
    inside = (values >= grid.low) & (values <= grid.high)
    room = np.empty(values.size), np.empty(values.size, dtype=np.intp)
    places[inside] = grid.places(values[inside], *room)
    places[values > grid.high] = grid.bins + 1
    return places


@dataclass(frozen=True)
class _Grid:
    """A variable's grid, and how near to an edge a value's place is in doubt."""

    low: float
    high: float
    bins: int
    edges: Numbers
    scale: float
    doubt: float

    @classmethod
    def of(cls, variable: Variable) -> _Grid:
        """Return a variable's grid; ``DocumentError`` where the dictionary gives it none."""
        if variable.minimum is None or variable.maximum is None or variable.bins is None:
            raise DocumentError(f"The dictionary gives {variable.name} no grid for a histogram.")
        return cls._of(variable.minimum, variable.maximum, variable.bins)

    @classmethod
    @functools.lru_cache(256)
    def _of(cls, low: float, high: float, bins: int) -> _Grid:
        edges = np.linspace(low, high, bins + 1)
        edges.flags.writeable = False
        scale = bins / (edges[-1] - edges[0])
        # An edge is itself rounded, by more of a bin the farther the grid lies from zero.
        doubt = 1e-6 + 4 * scale * np.spacing(np.abs(edges).max())
        return cls(low, high, bins, edges, float(scale), float(doubt))

    def places(self, values: Numbers, room: Numbers, found: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return each value's bin; where rounding could decide, the edges themselves do.

        ``room`` and ``found`` are for at least as many values.
        """
        room, found = room[: values.size], found[: values.size]
        np.subtract(values, self.edges[0], out=room)
        room *= self.scale
        np.copyto(found, room, casting="unsafe")
        room -= found
        room -= 0.5
        np.abs(room, out=room)
        near = np.flatnonzero(room > 0.5 - self.doubt)
        if near.size:
            found[near] = np.searchsorted(self.edges, values[near], side="right") - 1
        np.minimum(found, self.bins - 1, out=found)
        return found

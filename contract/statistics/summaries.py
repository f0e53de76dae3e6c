"""The summaries themselves: moments of a number, counts on a grid or over levels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.documents import Variable
from contract.errors import DocumentError

Numbers = NDArray[np.float64]
"""One value for each subject; NaN is missing."""
Codes = NDArray[np.int64]
"""One index into a variable's levels for each subject; -1 is missing."""
_PIECE = 8192


@dataclass(frozen=True)
class Moments:
    """n, missing, mean and M2 = sum (x - mean)^2 of a number.

    Merged as Chan, Golub and LeVeque (1979): M2 = M2a + M2b + d^2 na nb / n.
    """

    n: int = 0
    missing: int = 0
    mean: float = 0.0
    m2: float = 0.0

    @classmethod
    def of(cls, values: Numbers) -> Moments:
        """Return the local half: moments of the values that are not NaN."""
        gone = np.isnan(values)
        missing = int(np.count_nonzero(gone))
        present = values[~gone] if missing else values
        if present.size == 0:
            return cls(missing=missing)
        mean = float(present.mean())
        deviations = present - mean
        # The correction is zero in exact arithmetic; it takes out the rounding of the mean.
        # Sums are NumPy's pairwise ones: accurate, and without a BLAS that starts threads.
        correction = float(deviations.sum()) ** 2 / present.size
        np.square(deviations, out=deviations)
        m2 = float(deviations.sum()) - correction
        return cls(int(present.size), missing, mean, max(m2, 0.0))

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both parts' values together."""
        n = self.n + other.n
        missing = self.missing + other.missing
        if n == 0:
            return Moments(missing=missing)
        if self.n == 0 or other.n == 0:
            part = self if self.n else other
            return Moments(n, missing, part.mean, part.m2)
        delta = other.mean - self.mean
        mean = self.mean + delta * other.n / n
        m2 = self.m2 + other.m2 + delta * delta * self.n * other.n / n
        return Moments(n, missing, mean, m2)

    @property
    def variance(self) -> float:
        """The sample variance (divisor n - 1); NaN below two values."""
        return self.m2 / (self.n - 1) if self.n > 1 else math.nan

    @property
    def standard_deviation(self) -> float:
        """The square root of ``variance``, in the variable's unit."""
        return math.sqrt(self.variance) if self.n > 1 else math.nan


@dataclass(frozen=True)
class Counts:
    """Counts by level, or by bin of a variable's grid with what lies below and above it."""

    counts: tuple[int, ...]
    missing: int = 0
    below: int = 0
    above: int = 0

    @classmethod
    def of_histogram(cls, values: Numbers, variable: Variable) -> Counts:
        """Return counts in ``variable.bins`` equal bins, closed left, the last one closed both."""
        if variable.minimum is None or variable.maximum is None or variable.bins is None:
            raise DocumentError(f"The dictionary gives {variable.name} no grid for a histogram.")
        low, high = variable.minimum, variable.maximum
        edges = np.linspace(low, high, variable.bins + 1)
        counts = np.zeros(variable.bins, dtype=np.int64)
        below = above = missing = 0
        # In pieces that stay in the processor's cache: the time is in memory, not in arithmetic.
        for start in range(0, values.size, _PIECE):
            piece = values[start : start + _PIECE]
            below += int(np.count_nonzero(piece < low))
            above += int(np.count_nonzero(piece > high))
            missing += int(np.count_nonzero(np.isnan(piece)))
            if below or above or missing:
                piece = piece[(piece >= low) & (piece <= high)]
            counts += np.bincount(_bins(piece, edges), minlength=variable.bins)
        return cls(tuple(int(c) for c in counts), missing, below, above)

    @classmethod
    def of_levels(cls, codes: Codes, levels: int) -> Counts:
        """Return counts of codes 0 to ``levels - 1``; negative codes are missing."""
        present = codes[codes >= 0]
        counted = np.bincount(present, minlength=levels)
        if counted.size > levels:
            raise DocumentError("A code lies outside its variable's levels.")
        return cls(tuple(int(c) for c in counted), int(codes.size - present.size))

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


def grid_places(values: Numbers, variable: Variable) -> Codes:
    """Return each value's bin on the variable's grid; ``bins`` for below it, one more for above.

    A missing value is put below.
    """
    if variable.minimum is None or variable.maximum is None or variable.bins is None:
        raise DocumentError(f"The dictionary gives {variable.name} no grid for a histogram.")
    places = np.full(values.size, variable.bins, dtype=np.int64)
    inside = (values >= variable.minimum) & (values <= variable.maximum)
    edges = np.linspace(variable.minimum, variable.maximum, variable.bins + 1)
    places[inside] = _bins(values[inside], edges)
    places[values > variable.maximum] = variable.bins + 1
    return places


def _bins(values: Numbers, edges: Numbers) -> NDArray[np.intp]:
    """Return each value's bin; where rounding could decide, the edges themselves do."""
    bins = edges.size - 1
    scale = bins / (edges[-1] - edges[0])
    places = (values - edges[0]) * scale
    found: NDArray[np.intp] = places.astype(np.intp)
    # An edge is itself rounded, by more of a bin the farther the grid lies from zero.
    doubt = 1e-6 + 4 * scale * np.spacing(np.abs(edges).max())
    near = np.flatnonzero(np.abs(places - np.rint(places)) < doubt)
    if near.size:
        found[near] = np.searchsorted(edges, values[near], side="right") - 1
    np.minimum(found, bins - 1, out=found)
    return found

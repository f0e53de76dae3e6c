"""Survival over sites, from a crosstab of a time's grid, an event and groups.

A crosstab counts, in each bin of the time's grid in the dictionary, who has the event and who is
lost. Whoever is in a bin is taken to be at its last value, and who is lost in a bin to be at risk
for its events. So the curves are those of the times rounded up to the grid; where each bin holds
one value, as with whole months counted by the month, they are the usual ones. ``lower`` says how
much lower the curve on the times themselves can be at each bin's end: as if all who were lost in a
bin had been before its events. It can't be higher.

Sources: Kaplan, Meier 1958; Greenwood 1926; Nelson 1972, Aalen 1978; Brookmeyer, Crowley 1982 (the
median's interval); Kalbfleisch, Prentice 2002, 1.4 (intervals); Irwin 1949 (restricted
mean); Mantel 1966 (log-rank); Harrington, Fleming 1982 (weights).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contract.dictionary import Variable
from contract.errors import DocumentError
from contract.statistics.summaries import places

Vector = NDArray[np.float64]
Counts64 = NDArray[np.int64]
_FLAT = 1e-8
"""By how much less two values of a curve differ that are one, as in R."""
Scale = Literal["log-log", "log", "plain"]
"""On which scale an interval of survival is symmetric: that of log(-log S), log S or S itself."""


@dataclass(frozen=True)
class LifeTable:
    """Who is in each interval of a grid with the event, and who is lost in it.

    ``times`` are the intervals' last values, ascending; whoever lives on after the last is in no
    interval. ``n`` is how many there were at the beginning, at ``start``.
    """

    times: Vector
    n: int
    events: Counts64
    lost: Counts64
    start: float = 0.0

    def merge(self, other: LifeTable) -> LifeTable:
        """Return the table of both parts' subjects."""
        if not np.array_equal(self.times, other.times) or self.start != other.start:
            raise DocumentError("Two life tables have different grids.")
        return LifeTable(
            self.times,
            self.n + other.n,
            self.events + other.events,
            self.lost + other.lost,
            self.start,
        )

    @property
    def at_risk(self) -> Counts64:
        """How many are at risk in each interval: those neither gone nor lost before it."""
        gone = np.cumsum(self.events + self.lost)
        return self.n - np.concatenate([[0], gone[:-1]])

    @property
    def survival(self) -> Vector:
        """The Kaplan-Meier estimate after each interval; NaN once nobody is left."""
        return self._product(self.at_risk)

    @property
    def lower(self) -> Vector:
        """How low the estimate on the times themselves can be after each interval."""
        return self._product(self.at_risk - self.lost)

    def _product(self, risk: Counts64) -> Vector:
        dying = self.events / np.maximum(risk, 1)
        kept = np.where(self.at_risk > 0, 1 - np.minimum(dying, 1.0), np.nan)
        return np.asarray(np.cumprod(kept), dtype=np.float64)

    @property
    def cumulative_hazard(self) -> Vector:
        """The Nelson-Aalen estimate after each interval."""
        return self._sum(self.events / np.maximum(self.at_risk, 1))

    @property
    def hazard_variance(self) -> Vector:
        """Aalen's variance of ``cumulative_hazard``."""
        return self._sum(self.events / np.maximum(self.at_risk, 1) ** 2)

    def hazard_band(self, confidence: float = 0.95) -> tuple[Vector, Vector]:
        """Return the interval of ``cumulative_hazard`` after each interval, on the log's scale.

        It is 0 where the estimate is 0.
        """
        from scipy.stats import norm

        reach = float(norm.ppf(0.5 + confidence / 2))
        hazard = self.cumulative_hazard
        with np.errstate(divide="ignore", invalid="ignore"):
            by = np.exp(np.where(hazard == 0, 0.0, reach * np.sqrt(self.hazard_variance) / hazard))
        return hazard / by, hazard * by

    @property
    def _greenwood(self) -> Vector:
        """Greenwood's sum: the variance of the survival's logarithm."""
        risk, events = self.at_risk, self.events
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(events == 0, 0.0, events / (risk * (risk - events)))
        return self._sum(terms)

    def _sum(self, terms: Vector) -> Vector:
        found: Vector = np.cumsum(np.where(self.at_risk > 0, terms, np.nan))
        return found

    @property
    def greenwood(self) -> Vector:
        """Greenwood's variance of ``survival``."""
        with np.errstate(invalid="ignore"):
            found = self.survival**2 * self._greenwood
        return np.asarray(np.where(self.survival == 0, np.nan, found), dtype=np.float64)

    def band(self, confidence: float = 0.95, scale: Scale = "log-log") -> tuple[Vector, Vector]:
        """Return the interval of ``survival`` after each interval, within 0 and 1.

        R's default is the scale "log". The interval is the estimate itself where that is 1, and NaN
        where that is 0. ``DocumentError`` for another scale.
        """
        s = self.survival
        low, high = by_scale(s, np.sqrt(self._greenwood), confidence, scale)
        low, high = np.where(s == 1, 1.0, low), np.where(s == 1, 1.0, high)
        return np.where(s == 0, np.nan, low), np.where(s == 0, np.nan, high)

    def quantile(self, share: float = 0.5) -> float:
        """Return by when ``share`` have had the event; infinite when fewer had.

        Right within one interval of the grid: the true time is not after it, and after the time of
        the interval before. Where the curve stays at just that share for a while, it is the middle
        of that while, as R's ``survfit`` has it.
        """
        return self._first(self.survival, 1 - share)

    def quantile_interval(
        self, share: float = 0.5, confidence: float = 0.95, scale: Scale = "log-log"
    ) -> tuple[float, float]:
        """Return the quantile's interval: where ``band`` crosses; infinite when it doesn't."""
        low, high = self.band(confidence, scale)
        return self._first(low, 1 - share), self._first(high, 1 - share)

    def _first(self, curve: Vector, level: float) -> float:
        below = np.flatnonzero(curve <= level + _FLAT)
        if not len(below):
            return math.inf
        first = float(self.times[below[0]])
        if curve[below[0]] < level - _FLAT:
            return first
        later = np.flatnonzero(curve < level - _FLAT)
        if not len(later):
            # Nothing lower is known, so the while ends with the last who is followed.
            gone = self.events + self.lost
            later = np.flatnonzero(gone)[-1:] if gone.sum() == self.n else np.array([-1])
        return (first + float(self.times[later[0]])) / 2

    def at(self, time: float) -> int:
        """Return how many are at risk just after ``time``, one of the grid's."""
        gone = (self.events + self.lost)[self.times <= time]
        return int(self.n - gone.sum())

    def restricted_mean(self, until: float) -> RestrictedMean:
        """Return the mean time up to ``until``. ``DocumentError`` when the curve ends before."""
        inside = self.times < until
        s = self.survival
        known = s[inside]
        if np.isnan(known).any() or not self.start < until <= self.times[-1]:
            raise DocumentError(f"The survival curve isn't known until {until:g}.")
        edges = np.concatenate([[self.start], self.times[inside], [until]])
        heights = np.concatenate([[1.0], known])
        areas = heights * np.diff(edges)
        beyond = np.cumsum(areas[::-1])[::-1][1:]
        risk, events = self.at_risk[inside], self.events[inside]
        some = (events > 0) & (risk > events)
        variance = np.zeros(len(known))
        variance[some] = events[some] / (risk[some] * (risk[some] - events[some]))
        least = np.concatenate([self.lower[inside], [self.lower[len(known)]]]) * np.diff(edges)
        return RestrictedMean(
            until,
            float(areas.sum()),
            float(np.sqrt((beyond**2 * variance).sum())),
            float(np.nansum(least)),
        )


@dataclass(frozen=True)
class RestrictedMean:
    """The mean time up to a time. On the times themselves it is not below ``at_least``."""

    until: float
    value: float
    standard_error: float
    at_least: float


def by_scale(
    shares: Vector, relative_errors: Vector, confidence: float, scale: Scale
) -> tuple[Vector, Vector]:
    """Return intervals of shares from the standard errors of their logarithms, within 0 and 1.

    ``DocumentError`` for another scale.
    """
    from scipy.stats import norm

    if scale not in get_args(Scale):
        raise DocumentError(f"An interval's scale is {', '.join(get_args(Scale))}.")
    by = float(norm.ppf(0.5 + confidence / 2)) * relative_errors
    s = shares
    with np.errstate(divide="ignore", invalid="ignore"):
        match scale:
            case "log-log":
                ends = s ** np.exp(-by / np.log(s)), s ** np.exp(by / np.log(s))
            case "log":
                ends = s * np.exp(-by), np.minimum(s * np.exp(by), 1.0)
            case _:
                ends = np.maximum(s - s * by, 0.0), np.minimum(s + s * by, 1.0)
    return ends


def on_the_grid(cells: NDArray[np.int64], time: Variable) -> tuple[Vector, float, Counts64]:
    """Return intervals' last values, where they begin, and the counts of each interval.

    Of a crosstab whose first axis is the time's places. Who lies below the grid is put at its
    beginning; whoever is above it is in no interval. ``DocumentError`` for counts with noise.
    """
    if (cells < 0).any():
        raise DocumentError("A curve needs counts without noise.")
    cells = cells.astype(np.int64)
    times = last_values(time)
    assert time.minimum is not None
    start = min(0.0, time.minimum)
    bins, below = cells[: len(times)], cells[len(times)]
    if not below.any():
        # Nothing happens before the grid, as it should be.
        return times, start, bins
    return np.concatenate([[time.minimum], times]), start, np.concatenate([below[None], bins])


def last_values(time: Variable) -> Vector:
    """Return the largest value that each bin of a time's grid can hold."""
    if time.minimum is None or time.maximum is None or time.bins is None:
        raise DocumentError(f"The dictionary gives {time.name} no grid for a curve.")
    edges = np.linspace(time.minimum, time.maximum, time.bins + 1)[1:]
    if not time.whole:
        return edges
    # Bins are closed on the left, but for the last.
    return np.concatenate([np.ceil(edges[:-1] - 1e-9) - 1, [np.floor(edges[-1] + 1e-9)]])


def life_tables(counts: ArrayLike, time: Variable, groups: int = 1) -> list[LifeTable]:
    """Return a life table for each group from the counts of a crosstab.

    The crosstab is of the time, the event (a category whose second level is the event), and the
    groups if there are several, in this order. Who lies below the grid is put at its beginning.
    """
    shape = (places(time), 2, groups)
    cells = np.asarray(counts)
    if cells.size != math.prod(shape):
        raise DocumentError("A crosstab's counts are not of a time, an event and groups.")
    cells = cells.reshape(shape)
    times, start, bins = on_the_grid(cells, time)
    return [
        LifeTable(
            times,
            int(cells[:, :, group].sum()),
            bins[:, 1, group],
            bins[:, 0, group],
            start,
        )
        for group in range(groups)
    ]


@dataclass(frozen=True)
class LogRank:
    """A test of equal hazards: chi-squared, degrees of freedom, p; events seen and expected."""

    statistic: float
    degrees: int
    p: float
    observed: tuple[int, ...]
    expected: tuple[float, ...]


def log_rank(*strata: Sequence[LifeTable], rho: float = 0.0, gamma: float = 0.0) -> LogRank:
    """Return Mantel's test of groups' life tables, over strata if several are given.

    ``rho`` and ``gamma`` weigh each interval by S^rho (1 - S)^gamma, S being the Kaplan-Meier
    estimate of all before it: (1, 0) is Peto's, (0, 1) looks at late differences. On a grid, who is
    lost in an interval is at risk for its events.
    """
    from scipy.stats import chi2

    groups = len(strata[0]) if strata else 0
    if groups < 2 or any(len(tables) != groups for tables in strata):
        raise DocumentError("A log-rank test needs two groups, in each stratum the same.")
    difference, covariance = np.zeros(groups), np.zeros((groups, groups))
    observed, wanted, present = np.zeros(groups), np.zeros(groups), np.zeros(groups, dtype=bool)
    for tables in strata:
        risk = np.array([table.at_risk for table in tables], dtype=np.float64)
        events = np.array([table.events for table in tables], dtype=np.float64)
        total, dead = risk.sum(axis=0), events.sum(axis=0)
        used = dead > 0
        weight = _weights(total, dead, rho, gamma)[used]
        risk, events, total, dead = risk[:, used], events[:, used], total[used], dead[used]
        share = risk / total
        expected = share * dead
        difference += ((events - expected) * weight).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(total > 1, dead * (total - dead) / (total - 1), 0.0) * weight**2
        covariance += np.diag((share * factor).sum(axis=1)) - (share * factor) @ share.T
        observed += events.sum(axis=1)
        wanted += expected.sum(axis=1)
        present |= risk.sum(axis=1) > 0
    degrees = int(present.sum()) - 1
    kept = np.flatnonzero(present)[:-1]
    held = covariance[np.ix_(kept, kept)]
    if degrees < 1 or not observed.any() or np.linalg.matrix_rank(held, hermitian=True) < degrees:
        return LogRank(math.nan, max(degrees, 0), math.nan, _whole(observed), _floats(wanted))
    statistic = float(difference[kept] @ np.linalg.solve(held, difference[kept]))
    return LogRank(
        statistic, degrees, float(chi2(degrees).sf(statistic)), _whole(observed), _floats(wanted)
    )


def _weights(total: Vector, dead: Vector, rho: float, gamma: float) -> Vector:
    with np.errstate(divide="ignore", invalid="ignore"):
        s = np.cumprod(np.where(total > 0, 1 - dead / total, 1.0))
    before = np.concatenate([[1.0], s[:-1]])
    return np.asarray(before**rho * (1 - before) ** gamma, dtype=np.float64)


def _whole(values: Vector) -> tuple[int, ...]:
    return tuple(int(v) for v in values)


def _floats(values: Vector) -> tuple[float, ...]:
    return tuple(float(v) for v in values)

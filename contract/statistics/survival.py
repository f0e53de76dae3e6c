"""Survival over sites: life tables on an agreed grid, and Cox models stratified by site.

A life table counts, in each interval of the grid, who is at risk at its beginning, who has the
event and who is lost. On a grid that has every time of an event the curves are the usual ones.
A Cox model stratified by site needs each site's score and information only, at each step.

Sources: Kaplan, Meier 1958; Nelson 1972, Aalen 1978; Mantel 1966 (log-rank); Cox 1972; Breslow
1974; Efron 1977.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from contract.errors import DocumentError
from contract.statistics.design import Matrix
from contract.statistics.regression import Sums, Vector

Ties = Literal["efron", "breslow"]
Counts64 = NDArray[np.int64]


@dataclass(frozen=True)
class LifeTable:
    """Who begins each interval of a grid, has the event in it, is lost in it.

    ``events`` and ``lost`` have one number for each interval ``(grid[i-1], grid[i]]``, the first
    from below; ``n`` is how many there were at the beginning.
    """

    n: int
    events: Counts64
    lost: Counts64

    @classmethod
    def of(cls, grid: Vector, time: Vector, event: NDArray[np.bool_]) -> LifeTable:
        """Return the local half. Who is there after the grid's end is lost in no interval."""
        place = np.searchsorted(grid, time, side="left")
        inside = place < len(grid)
        count = len(grid)
        return cls(
            len(time),
            np.bincount(place[inside & event], minlength=count).astype(np.int64),
            np.bincount(place[inside & ~event], minlength=count).astype(np.int64),
        )

    def merge(self, other: LifeTable) -> LifeTable:
        """Return the table of both parts' subjects."""
        if self.events.shape != other.events.shape:
            raise DocumentError("Two life tables have different grids.")
        return LifeTable(self.n + other.n, self.events + other.events, self.lost + other.lost)

    @property
    def at_risk(self) -> Counts64:
        """How many are at risk in each interval: those neither gone nor lost before it."""
        gone = np.cumsum(self.events + self.lost)
        return self.n - np.concatenate([[0], gone[:-1]])

    @property
    def survival(self) -> Vector:
        """The Kaplan-Meier estimate after each interval."""
        risk = self.at_risk
        with np.errstate(divide="ignore", invalid="ignore"):
            kept = np.where(risk > 0, 1 - self.events / risk, np.nan)
        return np.asarray(np.cumprod(kept), dtype=np.float64)

    @property
    def cumulative_hazard(self) -> Vector:
        """The Nelson-Aalen estimate after each interval."""
        risk = self.at_risk
        with np.errstate(divide="ignore", invalid="ignore"):
            steps = np.where(risk > 0, self.events / risk, np.nan)
        return np.asarray(np.cumsum(steps), dtype=np.float64)

    @property
    def greenwood(self) -> Vector:
        """Greenwood's variance of ``survival``."""
        risk, events = self.at_risk, self.events
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(risk > events, events / (risk * (risk - events)), np.nan)
            terms = np.where(events == 0, 0.0, terms)
        return np.asarray(self.survival**2 * np.cumsum(terms), dtype=np.float64)


def log_rank(tables: list[LifeTable]) -> tuple[float, int]:
    """Return Mantel's chi-squared of groups' life tables, and its degrees of freedom."""
    if len(tables) < 2:
        raise DocumentError("A log-rank test needs two groups.")
    risk = np.array([table.at_risk for table in tables], dtype=np.float64)
    events = np.array([table.events for table in tables], dtype=np.float64)
    total, dead = risk.sum(axis=0), events.sum(axis=0)
    used = (total > 1) & (dead > 0)
    risk, total, dead = risk[:, used], total[used], dead[used]
    expected = risk * dead / total
    difference = (events[:, used] - expected).sum(axis=1)
    share = risk / total
    factor = dead * (total - dead) / (total - 1)
    covariance = np.diag((share * factor).sum(axis=1)) - (share * factor) @ share.T
    kept = slice(0, len(tables) - 1)
    solved = np.linalg.pinv(covariance[kept, kept]) @ difference[kept]
    return float(difference[kept] @ solved), int((risk.sum(axis=1) > 0).sum()) - 1


def cox_sums(
    x: Matrix,
    time: Vector,
    event: NDArray[np.bool_],
    beta: Vector,
    ties: Ties = "efron",
    entry: Vector | None = None,
) -> Sums:
    """Return a stratum's partial likelihood at ``beta``: score, information, -2 log L.

    ``entry`` is when each row comes under observation (counting-process form); a row is at risk at
    ``t`` if ``entry < t <= time``. ``pearson`` is the number of events.
    """
    rows, width = x.shape
    score, information, minus_two = np.zeros(width), np.zeros((width, width)), 0.0
    if not rows:
        return Sums(0, information, score, 0.0, 0.0)
    # Centred, so that exponentials stay in range; the likelihood doesn't change.
    eta = x @ beta
    eta = eta - eta.max()
    weight = np.exp(eta)
    by_time = _Later(x, weight, time)
    by_entry = None if entry is None else _Later(x, weight, entry)
    order = np.lexsort((~event, -time))  # latest first, at one time the events before the others
    for moment, dying in _moments(time[order], event[order], order):
        at_risk = by_time.until(moment)
        if by_entry is not None:
            # Who comes under observation then or later isn't at risk yet.
            at_risk = tuple(a - b for a, b in zip(at_risk, by_entry.until(moment), strict=True))
        s0, s1, s2 = at_risk
        deaths = len(dying)
        minus_two -= 2 * eta[dying].sum()
        score += x[dying].sum(axis=0)
        wd, xd = weight[dying], x[dying]
        efron = ties == "efron"
        d0, d1, d2 = (wd.sum(), wd @ xd, (xd * wd[:, None]).T @ xd) if efron else (0.0, 0.0, 0.0)
        for number in range(deaths):
            part = number / deaths
            left = s0 - part * d0
            mean = (s1 - part * d1) / left
            minus_two += 2 * np.log(left)
            score -= mean
            information += (s2 - part * d2) / left - np.outer(mean, mean)
    return Sums(rows, information, score, float(minus_two), float(event.sum()))


def _moments(
    time: Vector, event: NDArray[np.bool_], order: NDArray[np.intp]
) -> Iterator[tuple[float, NDArray[np.intp]]]:
    """Yield each time of an event, latest first, and the rows that have it then."""
    times, rows = time[event], order[event]
    bounds = np.flatnonzero(np.diff(times)) + 1
    for some in np.split(np.arange(len(times)), bounds):
        if len(some):
            yield float(times[some[0]]), rows[some]


class _Later:
    """Weighted sums over the rows whose time isn't before a moment that only falls."""

    def __init__(self, x: Matrix, weight: Vector, time: Vector) -> None:
        order = np.argsort(-time, kind="stable")
        self._x, self._weight, self._time = x[order], weight[order], -time[order]
        self._at = 0
        width = x.shape[1]
        self._sums = (0.0, np.zeros(width), np.zeros((width, width)))

    def until(self, moment: float) -> tuple[Any, ...]:
        """Return the sums of w, wx and wxx'."""
        end = int(np.searchsorted(self._time, -moment, side="right"))
        if end > self._at:
            x, w = self._x[self._at : end], self._weight[self._at : end]
            s0, s1, s2 = self._sums
            self._sums = (s0 + w.sum(), s1 + w @ x, s2 + (x * w[:, None]).T @ x)
            self._at = end
        return self._sums

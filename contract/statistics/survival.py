"""Survival over sites: life tables on an agreed grid, and tests between them.

A life table counts, in each interval of the grid, who is at risk at its beginning, who has the
event and who is lost. On a grid that has every time of an event the curves are the usual ones.

Sources: Kaplan, Meier 1958; Nelson 1972, Aalen 1978; Mantel 1966 (log-rank).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.errors import DocumentError
from contract.statistics.regression import Vector

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

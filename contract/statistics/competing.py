"""Cumulative incidence of one kind of event where others preclude it, from a crosstab on a grid.

A crosstab counts, in each bin of a time's grid, who is lost and who has each kind of event. As with
``survival``, whoever is in a bin is taken to be at its last value, and who is lost in a bin to be
at risk for its events; where each bin holds one value the curves are the usual ones. One less the
Kaplan-Meier estimate that takes other kinds of event for losses is no probability of anything: it
is too high wherever those aren't rare, so there is none here.

Sources: Aalen, Johansen 1978; Therneau, Crowson, Atkinson 2024 (the infinitesimal jackknife, as of
R's ``survfit``); Choudhury 2002 (intervals); Gray 1988 (the test); Prentice et al. 1978 (hazards of
one cause).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contract.dictionary import Variable
from contract.errors import DocumentError
from contract.statistics.estimates import HypothesisTest, chi_squared_p
from contract.statistics.summaries import places
from contract.statistics.survival import LifeTable, Scale, Vector, by_scale, on_the_grid

Counts64 = NDArray[np.int64]


@dataclass(frozen=True)
class CompetingTable:
    """Who is in each interval of a grid with each kind of event, and who is lost in it.

    ``events``: kinds by intervals. The rest is as a ``LifeTable`` has it.
    """

    times: Vector
    n: int
    events: Counts64
    lost: Counts64
    start: float = 0.0

    @property
    def at_risk(self) -> Counts64:
        """How many are at risk in each interval: those neither gone nor lost before it."""
        return self.of_any.at_risk

    @property
    def of_any(self) -> LifeTable:
        """The life table of whichever event comes first."""
        return LifeTable(self.times, self.n, self.events.sum(axis=0), self.lost, self.start)

    def of(self, kind: int) -> LifeTable:
        """The life table of one kind, whose hazard is that of the cause: others are lost."""
        others = self.events.sum(axis=0) - self.events[kind]
        return LifeTable(self.times, self.n, self.events[kind], self.lost + others, self.start)

    @property
    def incidence(self) -> Vector:
        """Aalen and Johansen's estimate of each kind after each interval; NaN once nobody is left.

        Kinds by intervals. With the survival of ``of_any`` they add up to 1.
        """
        risk, survival = self.at_risk, self.of_any.survival
        before = np.concatenate([[1.0], np.nan_to_num(survival[:-1])])
        gained = np.cumsum(before * self.events / np.maximum(risk, 1), axis=1)
        return np.asarray(np.where(risk > 0, gained, np.nan), dtype=np.float64)

    @property
    def errors(self) -> Vector:
        """The standard error of ``incidence``, by the infinitesimal jackknife.

        The square root of the sum, over subjects, of the squares of how an estimate changes with
        the subject's weight. Subjects of one interval and kind change it alike, so counts suffice.
        """
        risk = np.maximum(self.at_risk, 1).astype(np.float64)
        kinds, intervals = self.events.shape
        hazards = self.events / risk
        gone = np.vstack([self.lost, self.events])
        # Subjects by where they end: lost, or with an event of each kind; then those who outlive.
        sizes = np.append(gone.T.ravel(), self.n - gone.sum()).astype(np.float64)
        ends = np.append(np.repeat(np.arange(intervals), kinds + 1), intervals)
        how = np.append(np.tile(np.arange(kinds + 1), intervals), 0) - 1
        of_survival = np.zeros(len(sizes))
        of_kinds = np.zeros((kinds, len(sizes)))
        survival = 1.0
        found = np.zeros((kinds, intervals))
        for at in range(intervals):
            there = ends >= at
            all_kinds = np.zeros(len(sizes))
            for kind in range(kinds):
                own = (ends == at) & (how == kind)
                moved = np.where(there, (own - hazards[kind, at]) / risk[at], 0.0)
                of_kinds[kind] += of_survival * hazards[kind, at] + survival * moved
                all_kinds += moved
            total = float(hazards[:, at].sum())
            of_survival = of_survival * (1 - total) - survival * all_kinds
            survival *= 1 - total
            found[:, at] = of_kinds**2 @ sizes
        return np.asarray(np.where(self.at_risk > 0, np.sqrt(found), np.nan), dtype=np.float64)

    def band(self, confidence: float = 0.95, scale: Scale = "log-log") -> tuple[Vector, Vector]:
        """Return the interval of ``incidence``; 0 where that is 0. R's scale is "log"."""
        estimate = self.incidence
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(estimate > 0, self.errors / estimate, 0.0)
        low, high = by_scale(estimate, relative, confidence, scale)
        none = estimate == 0
        return np.where(none, 0.0, low), np.where(none, 0.0, high)

    def merge(self, other: CompetingTable) -> CompetingTable:
        """Return the table of both parts' subjects."""
        if not np.array_equal(self.times, other.times) or self.start != other.start:
            raise DocumentError("Two tables of competing events have different grids.")
        events, lost = self.events + other.events, self.lost + other.lost
        return CompetingTable(self.times, self.n + other.n, events, lost, self.start)


def competing_tables(
    counts: ArrayLike, time: Variable, levels: int, groups: int = 1
) -> list[CompetingTable]:
    """Return a table for each group from the counts of a crosstab.

    The crosstab is of the time, the event, and the groups if there are several, in this order. The
    first of the event's ``levels`` is that of the lost, each other a kind of event.
    """
    shape = (places(time), levels, groups)
    cells = np.asarray(counts)
    if levels < 3:
        raise DocumentError("Competing events have three levels or more, the first of the lost.")
    if cells.size != math.prod(shape):
        raise DocumentError("A crosstab's counts are not of a time, an event and groups.")
    times, start, bins = on_the_grid(cells.reshape(shape), time)
    totals = cells.reshape(shape).sum(axis=(0, 1))
    return [
        CompetingTable(times, int(totals[group]), bins[:, 1:, group].T, bins[:, 0, group], start)
        for group in range(groups)
    ]


def gray(*strata: Sequence[CompetingTable], kind: int = 0, rho: float = 0.0) -> HypothesisTest:
    """Return Gray's test of equal incidence of one kind in groups, over strata if several.

    It compares subdistribution hazards, so what groups have of other kinds counts; the log-rank
    test of ``CompetingTable.of`` compares hazards of the cause. ``rho`` weighs each interval by
    (1 - F)^rho. On a grid, who is lost in an interval is at risk for its events; variances of tied
    events are those of draws without replacement.
    """
    groups = len(strata[0]) if strata else 0
    if groups < 2 or any(len(tables) != groups for tables in strata):
        raise DocumentError("Gray's test needs two groups, in each stratum the same.")
    name = "Gray's test" if len(strata) == 1 else "stratified Gray's test"
    score, covariance = np.zeros(groups), np.zeros((groups, groups))
    present = np.zeros(groups, dtype=bool)
    seen = 0
    for tables in strata:
        one, two = _gray(tables, kind, rho)
        score += one
        covariance += two
        present |= np.array([table.n > 0 for table in tables])
        seen += int(sum(table.events[kind].sum() for table in tables))
    degrees = int(present.sum()) - 1
    if degrees < 1 or not seen:
        return HypothesisTest(name, math.nan, math.nan, note="Nobody to compare, or no event.")
    kept = np.flatnonzero(present)[:-1]
    held = covariance[np.ix_(kept, kept)]
    if np.linalg.matrix_rank(held, hermitian=True) < degrees:
        note = "Its statistic doesn't vary: too few are at risk in some groups."
        return HypothesisTest(name, math.nan, math.nan, note=note)
    statistic = float(score[kept] @ np.linalg.solve(held, score[kept]))
    return HypothesisTest(name, statistic, chi_squared_p(statistic, degrees), (degrees,))


def _gray(
    tables: Sequence[CompetingTable], kind: int, rho: float
) -> tuple[Vector, NDArray[np.float64]]:
    """Return the groups' scores and their covariance, in one stratum.

    A score is the sum of a weight times events less expected ones, as if those with another event
    stayed at risk: R = Y (1 - F) / S of a group. Under the hypothesis it is a sum of martingales of
    both kinds of event in each group, of which the first moves the score itself, and both move the
    group's later R.
    """
    events = np.array([table.events[kind] for table in tables], dtype=np.float64)
    others = np.array([table.events.sum(axis=0) - table.events[kind] for table in tables])
    used = (events + others).sum(axis=0) > 0
    risk = np.array([table.at_risk for table in tables], dtype=np.float64)
    survival = np.array([np.nan_to_num(table.of_any.survival) for table in tables])
    incidence = np.array([np.nan_to_num(table.incidence[kind]) for table in tables])
    before = np.hstack([np.ones((len(tables), 1)), survival[:, :-1]])
    so_far = np.hstack([np.zeros((len(tables), 1)), incidence[:, :-1]])
    events, others, risk, survival, before, so_far = (
        one[:, used] for one in (events, others.astype(np.float64), risk, survival, before, so_far)
    )
    there = risk > 0
    inverse = np.where(there, 1 / np.where(there, before, 1.0), 0.0)
    left = risk * inverse
    staying = left * (1 - so_far)
    total, all_staying, dead = left.sum(axis=0), staying.sum(axis=0), events.sum(axis=0)
    # The incidence of all, were the groups alike.
    rise = dead / total
    after = np.cumsum(rise)
    until = after - rise
    weight = (1 - until) ** rho
    score = ((events - dead * staying / all_staying) * weight).sum(axis=1)
    groups = len(tables)
    part = weight * (np.eye(groups)[:, :, None] - (left / total)[:, None, :]) * there[None, :, :]
    pulled = part * left[None, :, :] * rise / (1 - until)
    later = pulled.sum(axis=2, keepdims=True) - np.cumsum(pulled, axis=2)
    still = np.where(survival > 0, (1 - after) / np.where(survival > 0, survival, 1.0), 0.0)
    own = part * left[None, :, :] + (1 - still) * later
    other = still * later
    return score, _spread(own, _of_kind(left, before, dead, total)) + _spread(
        other, _of_others(risk, before, others)
    )


def _spread(coefficients: NDArray[np.float64], variances: Vector) -> NDArray[np.float64]:
    found = np.einsum("kjt,ljt,jt->kl", coefficients, coefficients, variances)
    return np.asarray(found, dtype=np.float64)


def _of_kind(left: Vector, before: Vector, dead: Vector, total: Vector) -> Vector:
    """Return the variance of what a group has of the kind, by ``left``, in each interval."""
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = np.where(dead > 1, 1 - (dead - 1) / (total * before - 1), 1.0)
        return np.where(left > 0, drawn * dead / (left * total), 0.0)


def _of_others(risk: Vector, before: Vector, others: Vector) -> Vector:
    """Return the variance of what a group has of other kinds, by ``left``, in each interval."""
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = np.where(others > 1, 1 - (others - 1) / (risk - 1), 1.0)
        return np.where(risk > 0, drawn * others * before**2 / risk**2, 0.0)

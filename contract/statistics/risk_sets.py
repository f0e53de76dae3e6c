"""Who is at risk at each time of an event, and what that adds to a Cox model's partial likelihood.

Sums over times of sums over those at risk are taken the other way round: each row is added once
with all the times at which it is at risk. So the work is that of a few products of matrices, and
only as many of the matrix's rows are made at once as are worked on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from contract.statistics.design import Matrix

ROWS_AT_ONCE = 4096
_Vector = NDArray[np.float64]
_Places = NDArray[np.intp]


class Lines(Protocol):
    """A matrix, or what makes some of its rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """How many rows and columns it has."""

    def __getitem__(self, rows: slice | _Places, /) -> Matrix: ...


def times(x: Lines, beta: _Vector) -> _Vector:
    """Return a matrix times a vector."""
    found = np.empty(x.shape[0])
    for start in range(0, len(found), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        found[some] = x[some] @ beta
    return found


@dataclass
class Added:
    """Sums over times."""

    score: _Vector
    information: Matrix


class RiskSets:
    """A stratum's times of an event, latest first, and who is at risk then.

    ``rows`` are the stratum's places in ``x``; all else is of these rows, in their order. ``eta``
    is the linear predictor. With ``efron`` the events of one time leave the risk set one by one.
    """

    def __init__(
        self,
        x: Lines,
        rows: _Places,
        time: _Vector,
        event: NDArray[np.bool_],
        entry: _Vector | None,
        weights: _Vector | None,
        eta: _Vector,
        efron: bool,
    ) -> None:
        w = np.ones(len(time)) if weights is None else weights
        self._x, self._rows, self._event = x, rows, event
        # Centred, so that exponentials stay in range and sums of squares keep their digits; the
        # likelihood doesn't change. Near the middle will do.
        self._centre = x[rows[:: len(rows) // ROWS_AT_ONCE + 1]].mean(axis=0)
        eta = eta - eta.max()
        self._weight = w * np.exp(eta)
        having = np.flatnonzero(event)
        having = having[np.argsort(-time[having], kind="stable")]
        earlier, of = np.unique(-time[having], return_inverse=True)
        self.times: _Vector = -earlier
        self._having, self._of = having, of.reshape(-1)
        self._count = len(earlier)
        count = self._by_time(np.ones(len(having)))
        self._share = w[having]
        d0 = self._by_time(self._weight[having])
        self._from = np.searchsorted(earlier, -time, side="left")
        s0 = self._at_risk(self._from)
        self._not_before: NDArray[np.intp] | None = None
        if entry is not None:
            # Who comes under observation then or later isn't at risk yet.
            self._not_before = np.searchsorted(earlier, -entry, side="left")
            s0 = s0 - self._at_risk(self._not_before)
        place = np.arange(len(having)) - (np.cumsum(count) - count)[self._of]
        part = place / count[self._of] if efron else np.zeros(len(having))
        left = s0[self._of] - part * d0[self._of]
        mean = self._by_time(self._share) / count
        self._a, self._b = mean * self._by_time(1 / left), mean * self._by_time(part / left)
        self._a2 = mean * self._by_time(1 / left**2)
        self._b2 = mean * self._by_time(part / left**2)
        self._c2 = mean * self._by_time(part**2 / left**2)
        logs = mean[self._of] @ np.log(left)
        self.minus_two = float(-2 * (self._share @ eta[having] - logs))

    def _by_time(self, values: _Vector) -> _Vector:
        """Return sums of the events' values at each time."""
        return np.asarray(np.bincount(self._of, values, self._count), np.float64)

    def _at_risk(self, since: NDArray[np.intp]) -> _Vector:
        """Return the sums of the weights of rows that are at risk from a time on, at each time."""
        by_time = np.bincount(since, self._weight, self._count + 1)[: self._count]
        return np.asarray(np.cumsum(by_time), np.float64)

    def added(self, factors: Sequence[_Vector]) -> list[Added]:
        """Return score and information, each time's times its factor; of each of ``factors``."""
        width = self._x.shape[1]
        found = [Added(np.zeros(width), np.zeros((width, width))) for _ in factors]
        if not self._count:
            return found
        own = [self._of_rows(one) for one in factors]

        def each(rows: _Places, x: Matrix) -> None:
            for sums, (events, risk) in zip(found, own, strict=True):
                sums.score += x.T @ events[rows]
                sums.information += x.T @ (x * risk[rows][:, None])

        for here, s1, d1 in self._by_blocks(each):
            for sums, factor in zip(found, factors, strict=True):
                f = factor[here]
                sums.score += d1.T @ (f * self._b[here]) - s1.T @ (f * self._a[here])
                cross = s1.T @ (d1 * (f * self._b2[here])[:, None])
                sums.information += cross + cross.T
                sums.information -= s1.T @ (s1 * (f * self._a2[here])[:, None])
                sums.information -= d1.T @ (d1 * (f * self._c2[here])[:, None])
        return found

    def scores(self) -> Iterator[tuple[_Places, Matrix]]:
        """Yield some rows' places, and their parts of the score times their weights.

        With Efron's ties those of one time leave the risk set one by one, so to each of them the
        hazard of that time counts for as much as it was there.
        """
        if not self._count:
            for rows in _at_once(np.arange(len(self._weight)), 0, len(self._weight)):
                yield self._rows[rows], np.zeros((len(rows), self._x.shape[1]))
            return
        # By time: the sums over those at risk, and over those who have the event.
        shape = (self._count, self._x.shape[1])
        s1, d1 = np.empty(shape), np.empty(shape)
        for here, at_risk, events in self._by_blocks(lambda *_: None):
            s1[here], d1[here] = at_risk, events
        mean = (s1 * self._a[:, None] - d1 * self._b[:, None]) / self._by_time(self._share)[:, None]
        tied = s1 * self._b2[:, None] - d1 * self._c2[:, None]
        hazard = s1 * self._a2[:, None] - d1 * self._b2[:, None]
        # From each time on back to the first: the hazards, and these times the columns' means.
        since = np.append(np.cumsum(self._a[::-1])[::-1], 0.0)
        means = np.vstack([np.cumsum(hazard[::-1], axis=0)[::-1], np.zeros(shape[1])])
        share, of = np.zeros(len(self._weight)), np.zeros(len(self._weight), dtype=np.intp)
        share[self._having], of[self._having] = self._share, self._of
        for rows in _at_once(np.arange(len(self._weight)), 0, len(self._weight)):
            x = self._some(rows)
            w, at = self._weight[rows][:, None], self._from[rows]
            found = w * (means[at] - x * since[at][:, None])
            if self._not_before is not None:
                entry = self._not_before[rows]
                found -= w * (means[entry] - x * since[entry][:, None])
            k = of[rows]
            own = share[rows][:, None] * (x - mean[k]) + w * (x * self._b[k][:, None] - tied[k])
            yield self._rows[rows], found + np.where(self._event[rows][:, None], own, 0.0)

    def _by_blocks(
        self, each: Callable[[_Places, Matrix], None]
    ) -> Iterator[tuple[slice, Matrix, Matrix]]:
        """Yield, for blocks of times, the sums over those at risk and those who have the event.

        ``each`` is told every row's columns before its time is yielded.
        """
        width = self._x.shape[1]
        order = np.argsort(self._from, kind="stable")
        starts = _starts(self._from, self._count)
        late = np.zeros(0, dtype=np.intp)
        late_starts = np.zeros(self._count + 1, dtype=np.intp)
        if self._not_before is not None:
            late = np.argsort(self._not_before, kind="stable")
            late_starts = _starts(self._not_before, self._count)
        before = np.zeros(width)
        for first, last in _blocks(starts):
            s1, d1 = np.zeros((last - first, width)), np.zeros((last - first, width))
            for rows in _at_once(order, starts[first], starts[last]):
                x = self._some(rows)
                each(rows, x)
                x *= self._weight[rows][:, None]
                _add(s1, x, self._from[rows] - first)
                had = self._event[rows]
                _add(d1, x[had], self._from[rows[had]] - first)
            for rows in _at_once(late, late_starts[first], late_starts[last]):
                assert self._not_before is not None
                x = self._some(rows)
                x *= -self._weight[rows][:, None]
                _add(s1, x, self._not_before[rows] - first)
            s1[0] += before
            s1 = np.cumsum(s1, axis=0)
            before = s1[-1]
            yield slice(first, last), s1, d1

    def _of_rows(self, factors: _Vector) -> tuple[_Vector, _Vector]:
        """Return what each row has for its event, and for being at risk until then."""
        having = self._having
        events = np.zeros(len(self._weight))
        events[having] = self._share * factors[self._of]
        # All times at which each row is at risk: those from its own on back to its entry.
        until = np.append(np.cumsum((factors * self._a)[::-1])[::-1], 0.0)
        risk = until[self._from]
        if self._not_before is not None:
            risk -= until[self._not_before]
        risk *= self._weight
        risk[having] -= self._weight[having] * (factors * self._b)[self._of]
        return events, risk

    def _some(self, rows: _Places) -> Matrix:
        return np.asarray(self._x[self._rows[rows]] - self._centre, np.float64)


def _starts(since: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Return where each time's rows begin among rows in order, and where the last one's end."""
    return np.append(0, np.cumsum(np.bincount(since, minlength=count + 1)[:count]))


def _blocks(starts: NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    """Yield blocks of times with so many rows together, or of one time with more."""
    first, end = 0, len(starts) - 1
    while first < end:
        last = int(np.searchsorted(starts, starts[first] + ROWS_AT_ONCE, side="right")) - 1
        last = min(max(last, first + 1), end)
        yield first, last
        first = last


def _at_once(order: _Places, start: int, end: int) -> Iterator[_Places]:
    for at in range(start, end, ROWS_AT_ONCE):
        yield order[at : min(at + ROWS_AT_ONCE, end)]


def _add(to: Matrix, values: Matrix, places: NDArray[np.intp]) -> None:
    """Add rows to those at ``places``, which ascend."""
    if len(places):
        first = np.flatnonzero(np.diff(places, prepend=-1))
        to[places[first]] += np.add.reduceat(values, first, axis=0)

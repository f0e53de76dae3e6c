"""Cox models stratified by site: each stratum's score and information, and checks of a fit.

No baseline hazard is made, and no figure is told for a single time: sums run over all times of an
event.

Sources: Cox 1972; Breslow 1974; Efron 1977; Grambsch, Therneau 1994 (proportionality, as the score
test that R's ``cox.zph`` is since survival 3.0); Harrell 1982 (concordance).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from contract.errors import DocumentError
from contract.statistics.design import Matrix
from contract.statistics.regression import Sums, Vector

Ties = Literal["efron", "breslow"]
TimeScale = Literal["identity", "log"]
Flags = NDArray[np.bool_]
_BLOCK = 1024


@dataclass(frozen=True)
class Rows:
    """A site's rows of a Cox model.

    ``entry`` is when each comes under observation (counting-process form): it is at risk at ``t``
    if ``entry < t <= time``. ``stratum`` numbers the strata within the site.
    """

    x: Matrix
    time: Vector
    event: Flags
    entry: Vector | None = None
    weights: Vector | None = None
    offset: Vector | None = None
    stratum: NDArray[np.int64] | None = None

    def strata(self) -> Iterator[Rows]:
        """Yield each stratum's rows."""
        if self.stratum is None:
            yield self
            return
        for number in np.unique(self.stratum):
            yield self._only(self.stratum == number)

    def _only(self, kept: Flags) -> Rows:
        def of(values: Any) -> Any:
            return None if values is None else values[kept]

        return Rows(
            self.x[kept],
            self.time[kept],
            self.event[kept],
            of(self.entry),
            of(self.weights),
            of(self.offset),
        )

    def observed(self) -> Rows:
        """Return those who come under observation before their time ends: all of them, or most."""
        return self if self.entry is None else self._only(self.entry < self.time)

    def predictor(self, beta: Vector) -> Vector:
        """Return the linear predictor."""
        eta = self.x @ beta
        return eta if self.offset is None else eta + self.offset


@dataclass(frozen=True)
class Checks:
    """Sums at a fit's coefficients that tell whether hazards are proportional, and concordance.

    ``score``, ``with_time`` and ``with_square`` are the score and information of coefficients that
    change with time: information's sums weighted by time, and by its square. Of the pairs of which
    one is known to live longer, ``concordant`` is how many have the lower hazard there, ``tied``
    how many have the same.
    """

    n: int
    score: Vector
    with_time: Matrix
    with_square: Matrix
    concordant: float
    discordant: float
    tied: float

    def merge(self, other: Checks) -> Checks:
        """Return the sums over both parts' strata."""
        if self.score.shape != other.score.shape:
            raise DocumentError("Two parts of a model have different columns.")
        return Checks(
            self.n + other.n,
            self.score + other.score,
            self.with_time + other.with_time,
            self.with_square + other.with_square,
            self.concordant + other.concordant,
            self.discordant + other.discordant,
            self.tied + other.tied,
        )

    def turned(self, by: Matrix) -> Checks:
        """Return the sums in the columns that are these ones times ``by``."""
        return replace(
            self,
            score=by.T @ self.score,
            with_time=by.T @ self.with_time @ by,
            with_square=by.T @ self.with_square @ by,
        )


def proportionality(checks: Checks, information: Matrix) -> Vector:
    """Return the chi-squared that each coefficient changes with time, and last of all of them.

    Each has one degree of freedom, the last as many as there are coefficients. ``information`` is
    that of the fit. NaN where a coefficient's change can't be told.
    """
    p = len(checks.score)
    found = np.full(p + 1, np.nan)
    whole = np.block([[information, checks.with_time], [checks.with_time, checks.with_square]])
    score = np.concatenate([np.zeros(p), checks.score])
    for place in range(p + 1):
        tested = [place] if place < p else list(range(p))
        kept = [*range(p), *(p + one for one in tested)]
        part = whole[np.ix_(kept, kept)]
        scale = np.sqrt(np.diag(part))
        if (scale > 0).all():
            scaled = part / np.outer(scale, scale)
            if np.linalg.eigvalsh(scaled)[0] > 1e-13:
                wanted = score[kept] / scale
                found[place] = float(wanted @ np.linalg.solve(scaled, wanted))
    return found


def cox_sums(rows: Rows, beta: Vector, ties: Ties = "efron") -> Sums:
    """Return a site's partial likelihood at ``beta``: score, information, -2 log L.

    ``pearson`` is the number of events. Weights are case weights, and with Efron's ties those of
    one time are averaged, as in R's ``coxph``.
    """
    width = rows.x.shape[1]
    found = [
        _sums(stratum, beta, ties) for stratum in rows.observed().strata() if len(stratum.time)
    ]
    empty = Sums(0, np.zeros((width, width)), np.zeros(width), 0.0, 0.0)
    return reduce(Sums.merge, found, empty)


def cox_checks(
    rows: Rows, beta: Vector, ties: Ties = "efron", scale: TimeScale = "identity"
) -> Checks:
    """Return a site's sums of a fit's checks."""
    width = rows.x.shape[1]
    zero = np.zeros((width, width))
    found = [
        _checks(stratum, beta, ties, scale)
        for stratum in rows.observed().strata()
        if len(stratum.time)
    ]
    return reduce(Checks.merge, found, Checks(0, np.zeros(width), zero, zero, 0.0, 0.0, 0.0))


def _sums(rows: Rows, beta: Vector, ties: Ties) -> Sums:
    width = rows.x.shape[1]
    score, information, minus_two = np.zeros(width), np.zeros((width, width)), 0.0
    for moment in _moments(rows, beta, ties):
        score += moment.score
        information += moment.information
        minus_two += moment.minus_two
    weight = float(len(rows.time) if rows.weights is None else rows.weights.sum())
    return Sums(len(rows.time), information, score, minus_two, float(rows.event.sum()), weight, 0.0)


def _checks(rows: Rows, beta: Vector, ties: Ties, scale: TimeScale) -> Checks:
    width = rows.x.shape[1]
    score = np.zeros(width)
    with_time, with_square = np.zeros((width, width)), np.zeros((width, width))
    for moment in _moments(rows, beta, ties):
        at = float(np.log(moment.time)) if scale == "log" else moment.time
        score += at * moment.score
        with_time += at * moment.information
        with_square += at * at * moment.information
    return Checks(len(rows.time), score, with_time, with_square, *_pairs(rows, beta))


@dataclass(frozen=True)
class _Moment:
    """What the events of one time add to the partial likelihood."""

    time: float
    score: Vector
    information: Matrix
    minus_two: float


def _moments(rows: Rows, beta: Vector, ties: Ties) -> Iterator[_Moment]:
    """Yield what each time of an event adds, latest first."""
    time, event = rows.time, rows.event
    w = np.ones(len(time)) if rows.weights is None else rows.weights
    # Centred, so that exponentials stay in range and sums of squares keep their digits; the
    # likelihood doesn't change.
    x = rows.x - rows.x.mean(axis=0)
    eta = rows.predictor(beta)
    eta = eta - eta.max()
    weight = w * np.exp(eta)
    by_time = _Later(x, weight, time)
    by_entry = None if rows.entry is None else _Later(x, weight, rows.entry)
    for moment, dying in _deaths(time, event):
        at_risk = by_time.until(moment)
        if by_entry is not None:
            # Who comes under observation then or later isn't at risk yet.
            at_risk = tuple(a - b for a, b in zip(at_risk, by_entry.until(moment), strict=True))
        s0, s1, s2 = at_risk
        count = len(dying)
        wd, xd, share = weight[dying], x[dying], w[dying]
        d0, d1, d2 = wd.sum(), wd @ xd, (xd * wd[:, None]).T @ xd
        # Efron: the events of one time leave the risk set one by one, each as their average.
        part = np.arange(count) / count if ties == "efron" else np.zeros(count)
        left = s0 - part * d0
        a, b = (1 / left).sum(), (part / left).sum()
        a2, b2, c2 = (1 / left**2).sum(), (part / left**2).sum(), (part**2 / left**2).sum()
        mean = share.sum() / count
        cross = np.outer(s1, d1)
        inner = np.outer(s1, s1) * a2 - (cross + cross.T) * b2 + np.outer(d1, d1) * c2
        yield _Moment(
            moment,
            share @ xd - mean * (s1 * a - d1 * b),
            mean * (s2 * a - d2 * b - inner),
            float(-2 * (share @ eta[dying] - mean * np.log(left).sum())),
        )


def _deaths(time: Vector, event: Flags) -> Iterator[tuple[float, NDArray[np.intp]]]:
    """Yield each time of an event, latest first, and the rows that have it then."""
    having = np.flatnonzero(event)
    having = having[np.argsort(-time[having], kind="stable")]
    times = time[having]
    bounds = np.flatnonzero(np.diff(times)) + 1
    for some in np.split(having, bounds):
        if len(some):
            yield float(time[some[0]]), some


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


def _pairs(rows: Rows, beta: Vector) -> tuple[float, float, float]:
    """Return the weights of concordant, discordant and tied pairs.

    A pair is one with an event at ``t`` and one who is under observation then and lives longer, or
    is lost then.
    """
    eta = rows.predictor(beta)
    # What is equal but for rounding is a tie.
    size = float(np.abs(eta).max()) or 1.0
    eta = np.round(eta / size, 12)
    w = np.ones(len(eta)) if rows.weights is None else rows.weights
    having = np.flatnonzero(rows.event)
    t = rows.time[having]
    order = np.lexsort((rows.event, -rows.time))  # latest first; who is lost before who has it
    lost = np.sort(rows.time[~rows.event])
    later = np.searchsorted(-rows.time[order], -t, side="left")
    later += np.searchsorted(lost, t, "right") - np.searchsorted(lost, t, "left")
    lower, same, all_of = _below(eta[order], w[order], eta[having], later)
    if rows.entry is not None:
        order = np.argsort(-rows.entry, kind="stable")
        not_yet = np.searchsorted(-rows.entry[order], -t, side="right")
        minus = _below(eta[order], w[order], eta[having], not_yet)
        lower, same, all_of = lower - minus[0], same - minus[1], all_of - minus[2]
    own = w[having]
    return (
        float(own @ lower),
        float(own @ (all_of - lower - same)),
        float(own @ same),
    )


def _below(
    values: Vector, weights: Vector, wanted: Vector, until: NDArray[np.intp]
) -> tuple[Vector, Vector, Vector]:
    """Return, of the first ``until[i]`` values, the weights of those below ``wanted[i]``, equal to
    it, and of all."""
    lower, same, all_of = np.zeros(len(wanted)), np.zeros(len(wanted)), np.zeros(len(wanted))
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK]
        order = np.argsort(block, kind="stable")
        sums = np.concatenate([[0.0], np.cumsum(weights[start : start + _BLOCK][order])])
        whole = np.flatnonzero(until >= start + len(block))
        left = sums[np.searchsorted(block[order], wanted[whole], "left")]
        right = sums[np.searchsorted(block[order], wanted[whole], "right")]
        lower[whole] += left
        same[whole] += right - left
        all_of[whole] += sums[-1]
        cut = np.flatnonzero((until > start) & (until < start + len(block)))
        inside = np.arange(len(block)) < (until[cut] - start)[:, None]
        held = np.where(inside, weights[start : start + _BLOCK], 0.0)
        lower[cut] += (held * (block < wanted[cut][:, None])).sum(axis=1)
        same[cut] += (held * (block == wanted[cut][:, None])).sum(axis=1)
        all_of[cut] += held.sum(axis=1)
    return lower, same, all_of


def numbered(codes: Sequence[NDArray[np.int64]]) -> NDArray[np.int64] | None:
    """Return one number for each combination of categories' codes; None of no category."""
    if not codes:
        return None
    return np.unique(np.column_stack(codes), axis=0, return_inverse=True)[1].reshape(-1)

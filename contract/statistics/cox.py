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

    def hazards(self, beta: Vector) -> Vector:
        """Return the hazard of each row times its case weight, the largest hazard being 1."""
        eta = self.predictor(beta)
        found: Vector = np.exp(eta - eta.max(initial=-np.inf))
        return found if self.weights is None else found * self.weights


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
    at = _Events(rows, beta, ties)
    score, information = at.added(np.ones(len(at.times)))
    weight = float(len(rows.time) if rows.weights is None else rows.weights.sum())
    events = float(rows.event.sum())
    return Sums(len(rows.time), information, score, at.minus_two, events, weight, 0.0)


def _checks(rows: Rows, beta: Vector, ties: Ties, scale: TimeScale) -> Checks:
    at = _Events(rows, beta, ties)
    when = np.log(at.times) if scale == "log" else at.times
    score, with_time = at.added(when)
    _, with_square = at.added(when**2)
    return Checks(len(rows.time), score, with_time, with_square, *_pairs(rows, beta))


class _Events:
    """A stratum's times of an event, latest first, and what they add to the partial likelihood.

    Sums over times of sums over those at risk are taken the other way round: each row is added once
    with all the times at which it is at risk. So the work is that of a few products of matrices.
    """

    def __init__(self, rows: Rows, beta: Vector, ties: Ties) -> None:
        w = np.ones(len(rows.time)) if rows.weights is None else rows.weights
        # Centred, so that exponentials stay in range and sums of squares keep their digits; the
        # likelihood doesn't change.
        x = rows.x - rows.x.mean(axis=0)
        eta = rows.predictor(beta)
        eta = eta - eta.max()
        self._rows, self._x, self._weight = rows, x, w * np.exp(eta)
        having = np.flatnonzero(rows.event)
        having = having[np.argsort(-rows.time[having], kind="stable")]
        earlier, of = np.unique(-rows.time[having], return_inverse=True)
        self.times: Vector = -earlier
        self._having, self._of = having, of.reshape(-1)
        count = self._by_time(np.ones(len(having)))
        self._share = w[having]
        self._d0 = self._by_time(self._weight[having])
        self._d1 = self._by_time(x[having] * self._weight[having][:, None])
        s0, self._s1 = self._at_risk(rows.time)
        if rows.entry is not None:
            # Who comes under observation then or later isn't at risk yet.
            not_yet = self._at_risk(rows.entry)
            s0, self._s1 = s0 - not_yet[0], self._s1 - not_yet[1]
        # Efron: the events of one time leave the risk set one by one, each as their average.
        place = np.arange(len(having)) - (np.cumsum(count) - count)[self._of]
        part = place / count[self._of] if ties == "efron" else np.zeros(len(having))
        left = s0[self._of] - part * self._d0[self._of]
        mean = self._by_time(self._share) / count
        self._a, self._b = mean * self._by_time(1 / left), mean * self._by_time(part / left)
        self._a2 = mean * self._by_time(1 / left**2)
        self._b2 = mean * self._by_time(part / left**2)
        self._c2 = mean * self._by_time(part**2 / left**2)
        logs = mean[self._of] @ np.log(left)
        self.minus_two = float(-2 * (self._share @ eta[having] - logs))

    def _by_time(self, values: Any) -> Any:
        """Return sums of the events' values at each time."""
        if not len(self.times):
            return np.zeros((0, *values.shape[1:]))
        first = np.flatnonzero(np.diff(self._of, prepend=-1))
        return np.add.reduceat(values, first, axis=0)

    def _at_risk(self, moments: Vector) -> tuple[Vector, Matrix]:
        """Return the sums of w and wx over the rows whose moment isn't before each time."""
        order = np.argsort(-moments, kind="stable")
        until = np.searchsorted(-moments[order], -self.times, side="right")
        weight = self._weight[order]
        s0 = np.concatenate([[0.0], np.cumsum(weight)])[until]
        sums = self._x[order]
        sums *= weight[:, None]
        np.cumsum(sums, axis=0, out=sums)
        return s0, np.where((until > 0)[:, None], sums[until - 1], 0.0)

    def added(self, factors: Vector) -> tuple[Vector, Matrix]:
        """Return score and information, each time's times its factor."""
        x, having = self._x, self._having
        a, b = factors * self._a, factors * self._b
        score = x[having].T @ (self._share * factors[self._of]) - self._s1.T @ a + self._d1.T @ b
        # At which times each row is at risk: those from its time on back to its entry.
        until = np.concatenate([[0.0], np.cumsum(a[::-1])])
        early = self.times[::-1]
        risk = until[np.searchsorted(early, self._rows.time, side="right")]
        if self._rows.entry is not None:
            risk = risk - until[np.searchsorted(early, self._rows.entry, side="right")]
        risk = self._weight * risk
        risk[having] -= self._weight[having] * b[self._of]
        cross = self._s1.T @ (self._d1 * (factors * self._b2)[:, None])
        information = (
            x.T @ (x * risk[:, None])
            - self._s1.T @ (self._s1 * (factors * self._a2)[:, None])
            + (cross + cross.T)
            - self._d1.T @ (self._d1 * (factors * self._c2)[:, None])
        )
        return score, information


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
    ranks = np.unique(np.concatenate([values, wanted]), return_inverse=True)[1]
    own, asked = ranks[: len(values)], ranks[len(values) :]
    most = len(ranks) + 1
    lower, same, all_of = np.zeros(len(wanted)), np.zeros(len(wanted)), np.zeros(len(wanted))
    place = np.arange(len(values))
    # The first n are blocks of the powers of two that n is a sum of, the largest first. At each
    # size all blocks are sorted at once, so that a block's ranks stand together.
    for level in range(len(values).bit_length()):
        some = np.flatnonzero(until >> level & 1)
        if not len(some):
            continue
        key = (place >> level) * most + own
        order = np.argsort(key, kind="stable")
        key = key[order]
        sums = np.concatenate([[0.0], np.cumsum(weights[order])])
        block = (until[some] >> level + 1) * 2 * most
        start = sums[np.searchsorted(key, block, "left")]
        left = sums[np.searchsorted(key, block + asked[some], "left")]
        right = sums[np.searchsorted(key, block + asked[some], "right")]
        end = sums[np.searchsorted(key, block + most, "left")]
        lower[some] += left - start
        same[some] += right - left
        all_of[some] += end - start
    return lower, same, all_of


def numbered(codes: Sequence[NDArray[np.int64]]) -> NDArray[np.int64] | None:
    """Return one number for each combination of categories' codes; None of no category."""
    if not codes:
        return None
    return np.unique(np.column_stack(codes), axis=0, return_inverse=True)[1].reshape(-1)

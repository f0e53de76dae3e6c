"""Cox models stratified by site: each stratum's score and information, and checks of a fit.

No baseline hazard is made, and no figure is told for a single time: sums run over all times of an
event.

Sources: Cox 1972; Breslow 1974; Efron 1977; Grambsch, Therneau 1994 (proportionality, as the score
test that R's ``cox.zph`` is since survival 3.0); Harrell 1982 (concordance); Lin, Wei 1989 (scores
of rows).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from contract.errors import DocumentError
from contract.statistics import risk_sets
from contract.statistics.design import Matrix
from contract.statistics.regression import Sums, Vector
from contract.statistics.risk_sets import Lines, RiskSets

Ties = Literal["efron", "breslow"]
TimeScale = Literal["identity", "log"]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """A site's rows of a Cox model.

    ``entry`` is when each comes under observation (counting-process form): it is at risk at ``t``
    if ``entry < t <= time``. ``stratum`` numbers the strata within the site.
    """

    x: Lines
    time: Vector
    event: Flags
    entry: Vector | None = None
    weights: Vector | None = None
    offset: Vector | None = None
    stratum: NDArray[np.int64] | None = None

    def strata(self) -> Iterator[NDArray[np.intp]]:
        """Yield where each stratum's rows are: who comes under observation before the time ends."""
        kept = np.arange(len(self.time))
        if self.entry is not None:
            kept = np.flatnonzero(self.entry < self.time)
        if self.stratum is None:
            some = [kept]
        else:
            of = self.stratum[kept]
            order = np.argsort(of, kind="stable")
            some = np.split(kept[order], np.flatnonzero(np.diff(of[order])) + 1)
        yield from (one for one in some if len(one))

    def predictor(self, beta: Vector) -> Vector:
        """Return the linear predictor."""
        eta = risk_sets.times(self.x, beta)
        return eta if self.offset is None else eta + self.offset

    def hazards(self, eta: Vector) -> Vector:
        """Return the hazard of each row times its case weight, the largest hazard being 1."""
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


def cox_sums(
    rows: Rows,
    beta: Vector,
    ties: Ties = "efron",
    observe: Callable[[Vector], None] = lambda _: None,
) -> Sums:
    """Return a site's partial likelihood at ``beta``: score, information, -2 log L.

    ``pearson`` is the number of events. Weights are case weights, and with Efron's ties those of
    one time are averaged, as in R's ``coxph``. ``observe`` is told the rows' hazards.
    """
    width = rows.x.shape[1]
    eta = rows.predictor(beta)
    observe(rows.hazards(eta))
    found = Sums(0, np.zeros((width, width)), np.zeros(width), 0.0, 0.0)
    for some in rows.strata():
        at = _at(rows, some, eta, ties)
        (one,) = at.added([np.ones(len(at.times))])
        weight = float(len(some) if rows.weights is None else rows.weights[some].sum())
        events = float(rows.event[some].sum())
        found = found.merge(
            Sums(len(some), one.information, one.score, at.minus_two, events, weight, 0.0)
        )
    return found


def cox_checks(
    rows: Rows, beta: Vector, ties: Ties = "efron", scale: TimeScale = "identity"
) -> Checks:
    """Return a site's sums of a fit's checks."""
    width = rows.x.shape[1]
    eta = rows.predictor(beta)
    zero = np.zeros((width, width))
    found = Checks(0, np.zeros(width), zero, zero, 0.0, 0.0, 0.0)
    for some in rows.strata():
        at = _at(rows, some, eta, ties)
        when = np.log(at.times) if scale == "log" else at.times
        one, square = at.added([when, when**2])
        pairs = _pairs(
            eta[some], rows.time[some], rows.event[some], _of(rows.entry, some),
            _of(rows.weights, some),
        )  # fmt: skip
        found = found.merge(
            Checks(len(some), one.score, one.information, square.information, *pairs)
        )
    return found


def cox_scores(
    rows: Rows, beta: Vector, ties: Ties = "efron"
) -> Iterator[tuple[NDArray[np.intp], Matrix]]:
    """Yield some rows' places, and their parts of a site's score times their weights."""
    eta = rows.predictor(beta)
    for some in rows.strata():
        yield from _at(rows, some, eta, ties).scores()


def _at(rows: Rows, some: NDArray[np.intp], eta: Vector, ties: Ties) -> RiskSets:
    return RiskSets(
        rows.x,
        some,
        rows.time[some],
        rows.event[some],
        _of(rows.entry, some),
        _of(rows.weights, some),
        eta[some],
        ties == "efron",
    )


def _of(values: Vector | None, some: NDArray[np.intp]) -> Vector | None:
    return None if values is None else values[some]


def _pairs(
    eta: Vector, time: Vector, event: Flags, entry: Vector | None, weights: Vector | None
) -> tuple[float, float, float]:
    """Return the weights of concordant, discordant and tied pairs.

    A pair is one with an event at ``t`` and one who is under observation then and lives longer, or
    is lost then.
    """
    # What is equal but for rounding is a tie.
    size = float(np.abs(eta).max()) or 1.0
    eta = np.round(eta / size, 12)
    w = np.ones(len(eta)) if weights is None else weights
    having = np.flatnonzero(event)
    t = time[having]
    order = np.lexsort((event, -time))  # latest first; who is lost before who has it
    lost = np.sort(time[~event])
    later = np.searchsorted(-time[order], -t, side="left")
    later += np.searchsorted(lost, t, "right") - np.searchsorted(lost, t, "left")
    lower, same, all_of = _below(eta[order], w[order], eta[having], later)
    if entry is not None:
        order = np.argsort(-entry, kind="stable")
        not_yet = np.searchsorted(-entry[order], -t, side="right")
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

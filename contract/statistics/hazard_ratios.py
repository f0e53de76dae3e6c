"""Hazard ratios of groups from their life tables: a Cox model with one baseline hazard for all.

A life table is of counts on a time's grid, so this asks nothing of a site but a crosstab: merged
over sites, by a secure sum if wanted, it gives the fit of the pooled rows on that grid. Whoever is
lost in an interval is at risk for its events, and the events of an interval are ties: on a coarse
grid nearly all are. Efron's way keeps the ratio near that of the times themselves; it differs by
what the order within an interval would have told.

Sources: Cox 1972; Breslow 1974; Efron 1977.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from contract.errors import DocumentError
from contract.statistics.survival import LifeTable

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
_MOST_STEPS = 40
_MOST_SLOW = 8


@dataclass(frozen=True)
class HazardRatios:
    """The logarithms of the other groups' hazards over the first one's, and their covariance.

    ``converged`` is false where a group without events, or with all of them, has no finite ratio.
    """

    estimates: Vector
    covariance: Matrix
    events: int
    converged: bool


def hazard_ratios(
    *strata: Sequence[LifeTable], ties: Literal["efron", "breslow"] = "efron"
) -> HazardRatios:
    """Return the ratios of two groups and more, the first the reference; of strata, in common.

    ``DocumentError`` where nobody had the event, or a group has nobody.
    """
    groups = len(strata[0]) if strata else 0
    if groups < 2 or any(len(tables) != groups for tables in strata):
        raise DocumentError("A hazard ratio is of two groups, in each stratum the same.")
    risk = np.hstack([_rows([t.at_risk for t in tables]) for tables in strata])
    events = np.hstack([_rows([t.events for t in tables]) for tables in strata])
    if not risk.any(axis=1).all():
        raise DocumentError("A group of which a hazard ratio is asked has nobody.")
    used = events.sum(axis=0) > 0
    risk, events = risk[:, used], events[:, used]
    if not events.any():
        raise DocumentError("Nobody had the event: nothing to explain.")
    # Each event is a draw from those at risk; of ties, less a share of those that share its time.
    dead = events.sum(axis=0).astype(np.int64)
    at = np.repeat(np.arange(len(dead)), dead)
    place = np.arange(len(at)) - np.repeat(np.cumsum(dead) - dead, dead)
    share = place / dead[at] if ties == "efron" else np.zeros(len(at))
    left = risk[:, at] - share * events[:, at]
    seen = events.sum(axis=1)
    beta = np.zeros(groups)
    before, slow, converged = -math.inf, 0, False
    information = np.eye(groups - 1)
    step = np.zeros(groups - 1)
    for _ in range(_MOST_STEPS):
        hazard = left * np.exp(beta)[:, None]
        total = hazard.sum(axis=0)
        likelihood = float(seen @ beta - np.log(total).sum())
        if likelihood < before - 1e-9 * abs(before):
            step = step / 2
            beta[1:] -= step
            continue
        before = likelihood
        part = (hazard / total)[1:]
        score = seen[1:] - part.sum(axis=1)
        information = np.diag(part.sum(axis=1)) - part @ part.T
        if np.linalg.eigvalsh(information)[0] <= 1e-12:
            break
        step = np.linalg.solve(information, score)
        moved = float(np.max(np.abs(step) * np.sqrt(np.diag(information))))
        slow += moved < 0.1
        if moved < 1e-10:
            converged = True
            break
        if slow > _MOST_SLOW:
            break
        beta[1:] += step
    return HazardRatios(
        beta[1:],
        np.asarray(np.linalg.pinv(information), dtype=np.float64),
        int(dead.sum()),
        converged,
    )


def _rows(values: Sequence[NDArray[np.int64]]) -> Matrix:
    return np.array(values, dtype=np.float64)

"""Membership inference: how well somebody tells who was trained on, and what epsilon that proves.

Scores are numbers, one for each record, higher for records that look trained on. No clock, no
chance: what was measured comes in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from contract.documents import Line

_STEPS = 50


class MembershipReport(BaseModel):
    """What an attack on a finished model measured, beside the request to let it go.

    ``auc`` and ``true_positive_rate`` (at ``false_positive_rate``) of ``attack`` between records
    that were trained on and others. ``empirical_epsilon`` is a lower bound on the model's epsilon,
    at ``confidence`` and ``delta``, by ``canaries`` records of which a random half was trained on;
    None when there were none. A weak attack measures little: the numbers bound what is given away
    from below only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    attack: Line
    auc: Annotated[float, Field(ge=0, le=1)]
    true_positive_rate: Annotated[float, Field(ge=0, le=1)]
    false_positive_rate: Annotated[float, Field(gt=0, lt=1)] = 0.01
    empirical_epsilon: Annotated[float, Field(ge=0)] | None = None
    canaries: Annotated[int, Field(ge=0)] = 0
    delta: Annotated[float, Field(ge=0, lt=1)] = 0.0
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95


def auc(members: Sequence[float], others: Sequence[float]) -> float:
    """Return the probability that a member scores above another; a tie counts half.

    Source: Mann and Whitney 1947; Hanley and McNeil 1982.
    """
    inside, outside = _checked(members), np.sort(_checked(others))
    below = np.searchsorted(outside, inside, "left")
    through = np.searchsorted(outside, inside, "right")
    return float((below + through).sum()) / (2 * inside.size * outside.size)


def true_positive_rate(
    members: Sequence[float], others: Sequence[float], false_positive_rate: float = 0.01
) -> float:
    """Return the largest share of members called so while of others at most that rate is.

    Source: Carlini et al. 2022, "Membership Inference Attacks From First Principles".
    """
    inside, outside = _checked(members), np.sort(_checked(others))[::-1]
    allowed = math.floor(false_positive_rate * outside.size + 1e-9)
    threshold = outside[allowed] if allowed < outside.size else -math.inf
    return float(np.count_nonzero(inside > threshold)) / inside.size


def correct_guesses(
    scores: Sequence[float], included: Sequence[bool], guesses: int
) -> tuple[int, int]:
    """Return (correct, made) of ``guesses`` on canaries: in for the highest scores, out for the
    lowest, half each; none for those between.

    Source: Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training Run",
    algorithm 1.
    """
    order = np.argsort(-_checked(scores), kind="stable")
    truth = np.asarray(included, bool)[order]
    half = min(guesses // 2, truth.size // 2)
    right = np.count_nonzero(truth[:half]) + np.count_nonzero(~truth[truth.size - half :])
    return int(right), 2 * half


def epsilon_lower_bound(
    correct: int, guesses: int, canaries: int, delta: float = 0.0, confidence: float = 0.95
) -> float:
    """Return an epsilon that training had at least, if so many guesses were correct.

    Guarantee: training that is (epsilon, delta)-differentially private gives a higher bound than
    its epsilon with probability at most 1 - ``confidence``. Assumptions: each canary was trained on
    with probability 1/2, independently, and the guesses were made from what training gave out.
    Source: Steinke, Nasr and Jagielski 2023, theorem 5.2 and its search by bisection.
    """
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError("correct guesses, guesses and canaries must rise in that order")
    allowed = 1 - confidence
    if _chance(correct, guesses, canaries, 0.0, delta) >= allowed:
        return 0.0
    low, high = 0.0, 1.0
    while _chance(correct, guesses, canaries, high, delta) < allowed:
        low, high = high, 2 * high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _chance(correct, guesses, canaries, middle, delta) < allowed:
            low = middle
        else:
            high = middle
    return low


def _chance(correct: int, guesses: int, canaries: int, epsilon: float, delta: float) -> float:
    """Return the most that the probability of as many correct guesses can be under a guarantee."""
    masses = _binomial(guesses, 1 / (1 + math.exp(-epsilon)))
    tail = float(masses[correct:].sum())
    if not delta or not correct:
        return min(1.0, tail)
    # The masses just below, each spread over how many steps it is away; the worst counts.
    sums = np.cumsum(masses[correct - 1 :: -1])
    worst = float((sums / np.arange(1, sums.size + 1)).max())
    return min(1.0, tail + 2 * canaries * delta * worst)


def _binomial(count: int, chance: float) -> NDArray[np.float64]:
    """Return the probabilities of 0 to ``count`` successes."""
    logs = [
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        + k * math.log(chance)
        + (count - k) * math.log1p(-chance)
        if chance < 1
        else (0.0 if k == count else -math.inf)
        for k in range(count + 1)
    ]
    masses: NDArray[np.float64] = np.exp(np.array(logs))
    return masses


def _checked(scores: Sequence[float]) -> NDArray[np.float64]:
    found = np.asarray(scores, np.float64)
    if found.ndim != 1 or not found.size or not np.isfinite(found).all():
        raise ValueError("scores must be finite numbers, one at least")
    return found

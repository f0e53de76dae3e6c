"""What may leave of a hospital's explanations: means and counts over enough patients, else zeros.

Guarantee: every number that ``of_features``, ``of_regions`` and ``of_rules`` return is a function
of sums over at least ``k`` patients; and no count of a rule, of those without it, of either outcome
or prediction within it, or of those in one rule and not in another, is 1 to k - 1. Assumptions: the
attributions and counts given are of one patient each, and nobody asks twice with other rules or of
another release: differences of three rules or more, and of two jobs, are not looked at; counts are
rounded to multiples of ``round_to`` against those. It is no differential privacy. Source: Hundepool
et al. 2012, "Statistical Disclosure Control", chapter 4 (minimum frequency, secondary suppression).
The gate sees arrays of a declared form and the number of patients; it does not see this rule.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def of_features(attributions: Floats, values: Floats, k: int) -> dict[str, Floats]:
    """Return the mean and mean absolute attribution of each feature (n, features), and which are.

    Of a feature with two values at most, each must be had by k patients or by none, since its mean
    attribution tells how many have it; likewise for missing ones.
    """
    n, width = attributions.shape
    shown = np.array([n >= k and _is_common(values[:, i], k) for i in range(width)], dtype=float)
    return {
        "attribution.mean": _mean(attributions) * shown,
        "attribution.absolute": _mean(np.abs(attributions)) * shown,
        "attribution.reported": shown,
    }


def of_regions(shares: Floats, k: int) -> dict[str, Floats]:
    """Return the mean share of evidence in each region: (n, rows, columns) to (rows, columns)."""
    enough = float(len(shares) >= k)
    return {
        "attribution.regions": _mean(shares) * enough,
        "attribution.reported": np.full(1, enough),
    }


def of_rules(
    holds: Bools, positive: Bools, predicted: Bools, k: int, round_to: int
) -> dict[str, Floats]:
    """Return, of all patients, the share that a rule (n, rules) holds for; with which outcome.

    ``rules.positive``: it holds and the outcome is positive; ``rules.predicted``: and the model
    says so. A rule that would tell of fewer than k is zero in all of them.
    """
    n, width = holds.shape
    shown: list[int] = []
    for rule in range(width):
        inside = holds[:, rule]
        cells = [
            int(part.sum())
            for part in (inside, ~inside, *_split(inside, positive), *_split(inside, predicted))
        ]
        others = [
            int(part.sum())
            for other in shown
            for part in (inside & ~holds[:, other], holds[:, other] & ~inside)
        ]
        if n >= k and all(_is_enough(count, k) for count in cells + others):
            shown.append(rule)
    parts = {
        "rules.share": holds,
        "rules.positive": holds & positive[:, None],
        "rules.predicted": holds & predicted[:, None],
    }
    reported = np.isin(np.arange(width), shown).astype(np.float64)
    found = {
        name: np.minimum(np.round(part.sum(0) / round_to) * round_to, n) / max(n, 1) * reported
        for name, part in parts.items()
    }
    return {**found, "rules.reported": reported}


def _split(inside: Bools, by: Bools) -> tuple[Bools, Bools]:
    return inside & by, inside & ~by


def _is_enough(count: int, k: int) -> bool:
    return count == 0 or count >= k


def _is_common(values: Floats, k: int) -> bool:
    """Say whether nothing that a feature of few values can be, missing too, is had by 1 to k-1."""
    missing = int(np.isnan(values).sum())
    different, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    few = different.size <= 2
    return _is_enough(missing, k) and (not few or all(_is_enough(int(c), k) for c in counts))


def _mean(values: Floats) -> Floats:
    found: Floats = values.mean(0) if len(values) else np.zeros(values.shape[1:])
    return found

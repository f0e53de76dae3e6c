"""What noise on a site's payloads amounts to: the (epsilon, delta) of all together.

Guarantee: whoever sees all payloads of a site that its receipts give a noise multiplier for learns
of that site's data, one record or all, no more than (epsilon, delta)-differential privacy allows,
with the epsilon that ``epsilon`` returns. It is exact, no bound: any number of Gaussian releases,
with multipliers z_1, z_2, ..., are as good as one with ``1 / sqrt(sum of 1 / z_i ** 2)``.

Assumptions: the site's gate drew the noise (the receipts are signed by its key); the multipliers
are halves of the policy's, as any change can move a clipped update by twice its clip norm; in a
secure sum, what ``contract.secure_aggregation.updates`` assumes. Not covered: payloads without
noise, receipts that the coordinator withheld, other jobs.

Source: Dong, Roth and Su 2022, "Gaussian Differential Privacy", corollaries 1 and 2; Balle and Wang
2018, "Improving the Gaussian Mechanism for Differential Privacy", theorem 8.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from contract.receipts import Receipt

DELTA = 1e-5
_MOST = 1e6
"""Of mu, beyond which an epsilon of more than 1e11 says nothing and isn't worked out."""
MECHANISM, ACCOUNTANT = "Gaussian", "exact composition of Gaussian releases"


@dataclass(frozen=True)
class Spent:
    """What one site's receipts of a job say that it spent."""

    releases: int
    """Gaussian releases: one for the arrays of a payload, and one for its metrics."""
    payloads_without: int
    """Payloads of which no noise is told."""
    epsilon: float
    """0 when there is no noise."""
    delta: float = DELTA
    mechanism: str = MECHANISM
    accountant: str = ACCOUNTANT


def spent(receipts: Iterable[Receipt], delta: float = DELTA) -> Spent:
    """Return what these receipts of one site amount to."""
    all_of_them = list(receipts)
    noise = [multiplier for receipt in all_of_them for multiplier in receipt.noise]
    # A step of a sum passes no rule of its own: what it masks did, and is counted by its noise.
    without = sum(bool(r.payload_bytes and r.rules and not r.noise) for r in all_of_them)
    return Spent(len(noise), without, epsilon(noise, delta), delta)


def epsilon(multipliers: Iterable[float], delta: float = DELTA) -> float:
    """Return the epsilon, at ``delta``, of Gaussian releases with these noise multipliers."""
    mu = math.hypot(*(1 / z for z in multipliers))  # whatever a receipt says: no square is 0
    if not mu:
        return 0.0
    if mu > _MOST:
        return math.inf

    def above(guess: float) -> float:
        return _log_delta(guess, mu) - math.log(delta)

    if above(0.0) <= 0:
        return 0.0
    most = 1.0
    while above(most) > 0:
        most *= 2
    from scipy.optimize import brentq

    return float(brentq(above, 0.0, most, xtol=1e-12))


def _log_delta(guess: float, mu: float) -> float:
    """Return the logarithm of the delta at which ``guess`` is the epsilon."""
    from scipy.special import log_ndtr

    first = float(log_ndtr(mu / 2 - guess / mu))
    second = guess + float(log_ndtr(-mu / 2 - guess / mu))
    return first + math.log1p(-math.exp(second - first)) if second < first else -math.inf

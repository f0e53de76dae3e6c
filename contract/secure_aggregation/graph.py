"""Who masks with whom: everybody with everybody, or a sparse graph for many sites.

The sparse one (Bell et al., Secure single-server aggregation with (poly)logarithmic overhead, CCS
2020) is a circle on which the sites stand in a random order; each is a neighbour of the ``k / 2``
next on either side. It holds against a server that keeps to the protocol and reads along with a
share ``gamma`` of the sites, while a share ``delta`` drops out; not against one that lies.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

from contract.errors import DocumentError

SECURITY_BITS, CORRECTNESS_BITS = 40, 20


@dataclass(frozen=True)
class Degree:
    """How many neighbours each has, and how many of them put a secret together."""

    neighbours: int
    threshold: int


@lru_cache(maxsize=64)
def degree(
    sites: int,
    gamma: float,
    delta: float,
    security: int = SECURITY_BITS,
    correctness: int = CORRECTNESS_BITS,
) -> Degree:
    """Return the smallest even degree, and a threshold for it, that keep three bounds.

    With ``c = gamma * n`` sites that the server reads along with, and ``d = delta * n`` that drop
    out (Bell et al., section 3.3 and theorem 3.10, by the union bound over all sites):

    1. the honest survivors stay connected: ``n (gamma + delta)^(k / 2) <= 2^-security``;
    2. nobody has ``t`` neighbours that are read along with:
       ``n P[Hypergeometric(n - 1, c, k) >= t] <= 2^-security``;
    3. everybody keeps ``t`` neighbours:
       ``n P[Hypergeometric(n - 1, d, k) > k - t] <= 2^-correctness``.

    ``DocumentError`` when not even the complete graph does.
    """
    if sites < 3 or gamma < 0 or delta < 0 or gamma + delta >= 1:
        raise DocumentError("A graph needs three sites, and shares whose sum is below one.")
    read, dropped = math.floor(gamma * sites), math.floor(delta * sites)
    log_sites = math.log2(sites)
    for neighbours in range(2, sites, 2):
        away = (neighbours / 2) * math.log2(gamma + delta) if gamma + delta else -math.inf
        if log_sites + away > -security:
            continue
        threshold = _threshold(sites, neighbours, read, security - -log_sites)
        left = _tail(sites - 1, dropped, neighbours, neighbours - threshold + 1)
        if threshold <= neighbours and left <= 2.0 ** -(correctness + log_sites):
            return Degree(neighbours, threshold)
    raise DocumentError("There are too few sites for a sparse graph with these shares.")


def _threshold(sites: int, neighbours: int, read: int, bits: float) -> int:
    """Return the smallest threshold that keeps bound 2."""
    return next(
        (
            threshold
            for threshold in range(1, neighbours + 1)
            if _tail(sites - 1, read, neighbours, threshold) <= 2.0**-bits
        ),
        neighbours + 1,
    )


def _tail(population: int, marked: int, drawn: int, least: int) -> float:
    """Return P[X >= least] for a hypergeometric X, exactly, rounded once."""
    ways = sum(
        math.comb(marked, hit) * math.comb(population - marked, drawn - hit)
        for hit in range(max(least, 0), min(marked, drawn) + 1)
    )
    return float(ways / math.comb(population, drawn)) if ways else 0.0


def neighbours(sites: int, degree_: int, seed: bytes) -> list[tuple[int, ...]]:
    """Return each site's neighbours, in order. ``degree_`` 0: all others.

    The order on the circle follows from ``seed``, which the server draws after the sites' keys are
    known; it is public.
    """
    if not degree_:
        return [tuple(o for o in range(sites) if o != one) for one in range(sites)]
    if degree_ % 2 or not 0 < degree_ < sites:
        raise DocumentError("A graph's degree is even and below the number of sites.")
    circle = sorted(
        range(sites), key=lambda one: hashlib.sha256(seed + one.to_bytes(4, "big")).digest()
    )
    found: list[tuple[int, ...]] = [()] * sites
    for place, one in enumerate(circle):
        near = {circle[(place + step) % sites] for step in range(1, degree_ // 2 + 1)}
        near |= {circle[(place - step) % sites] for step in range(1, degree_ // 2 + 1)}
        found[one] = tuple(sorted(near))
    return found

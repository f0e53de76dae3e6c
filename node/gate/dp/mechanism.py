"""Noise on vectors of whole numbers, by OpenDP's discrete Laplace mechanism.

Guarantee: for two vectors whose distance in L1 is at most ``sensitivity``, any set of results has
probabilities within a factor of exp(epsilon) of one another. That is epsilon-differential privacy.
OpenDP's own privacy map says so of the mechanism that is used, and is checked.

Assumptions: the operating system's random numbers are unpredictable. There is no seed, so nobody
who knows one draw knows another. Noise is drawn in exact integer arithmetic: results are whole
numbers whatever the data, so floating point leaves no trace of it (Mironov 2012, "On significance
of the least significant bits for differential privacy").

Sources: Ghosh, Roughgarden and Sundararajan 2009, "Universally utility-maximizing privacy
mechanisms"; Canonne, Kamath and Steinke 2020, "The Discrete Gaussian for Differential Privacy",
algorithm 2 (the sampler); OpenDP's make_laplace, docs.opendp.org (the proof of this constructor).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

Draw = Callable[[Sequence[int], int, float], "tuple[list[int], float]"]
"""Given values, their sensitivity and epsilon: the values with noise, and the noise's scale."""


def discrete_laplace(
    values: Sequence[int], sensitivity: int, epsilon: float
) -> tuple[list[int], float]:
    """Return ``values`` with noise that makes them epsilon-private, and the noise's scale."""
    mechanism, scale = _mechanism(sensitivity, epsilon)
    return [int(value) for value in mechanism(list(values))], scale


@lru_cache(maxsize=64)
def _mechanism(sensitivity: int, epsilon: float) -> tuple[Any, float]:
    import opendp.prelude as dp  # takes a second, so it waits for the first such question

    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l1_distance(T="i64")
    scale = sensitivity / epsilon
    while True:
        mechanism = dp.m.make_laplace(*space, scale=scale)
        if mechanism.map(sensitivity) <= epsilon:
            return mechanism, scale
        scale = math.nextafter(scale * (1 + 1e-12), math.inf)

"""What many releases with noise cost together.

Guarantee: whoever sees all the releases, each chosen after seeing those before, can't tell whether
any one subject was in the data, up to (epsilon, delta), where epsilon is what ``epsilon`` returns.

Assumptions: each release is what its event says; a subject is in the data or isn't (add or remove
one). Pure releases are composed as discrete Laplace noise of sensitivity one. That is the worst of
all epsilon-differentially private mechanisms: its privacy loss takes no value but plus and minus
epsilon, as randomised response's.

The composition is by privacy loss distributions, of the ``dp-accounting`` library, which rounds the
losses up. Where all releases are pure, the sum of their epsilons holds too, with no delta at all;
the smaller counts. Of a few pure releases the sum is told without the library, if less than
``_COARSE`` could be saved: all losses are plus epsilon with probability p, the product of
exp(epsilon) / (1 + exp(epsilon)), so delta at t below the sum is at least p (1 - exp(-t)).

Sources: Kairouz, Oh and Viswanath 2015, "The Composition Theorem for Differential Privacy" (pure
releases; adaptive choice); Koskela, Jälkö and Honkela 2020, "Computing Tight Differential Privacy
Guarantees Using FFT"; Doroshenko et al. 2022, "Connect the Dots: Tighter Discrete Approximations
of Privacy Loss Distributions".
"""

from __future__ import annotations

import importlib
import math
import sys
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from node.gate.account.events import Event, GaussianRelease, PureRelease, text

if TYPE_CHECKING:
    from dp_accounting.dp_event import DpEvent

_COARSE, _FINE = 1e-3, 1e-4
"""Grids on which losses are rounded up: the fine one where thousands of small ones add up."""


def epsilon(events: Mapping[Event, int], delta: float) -> float:
    """Return the epsilon of all these releases together, at ``delta``; 0 for none."""
    counted = tuple(sorted(((e, n) for e, n in events.items() if n), key=lambda x: text(x[0])))
    return _epsilon(counted, delta)


@lru_cache(maxsize=256)
def _epsilon(events: tuple[tuple[Event, int], ...], delta: float) -> float:
    if not events:
        return 0.0
    added = math.inf
    if all(isinstance(event, PureRelease) for event, _ in events):
        pure = [(e.epsilon, n) for e, n in events if isinstance(e, PureRelease)]
        added = math.fsum(epsilon * n for epsilon, n in pure)
        all_at_once = math.exp(-math.fsum(math.log1p(math.exp(-each)) * n for each, n in pure))
        if delta <= all_at_once * -math.expm1(-_COARSE):
            return added
    if delta == 0:
        return math.inf
    return min(added, _composed(events, delta))


def prepare() -> None:
    """Load the library in the background: whoever spent will soon spend more."""
    if "dp_accounting" not in sys.modules:
        threading.Thread(target=importlib.import_module, args=("dp_accounting.pld",)).start()


def _composed(events: tuple[tuple[Event, int], ...], delta: float) -> float:
    # Takes seconds to import, so it stays out of the start of every process that spends nothing.
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.privacy_accountant import NeighboringRelation

    sampled = any(isinstance(e, GaussianRelease) and e.sampling < 1 for e, _ in events)
    accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, _FINE if sampled else _COARSE)
    for event, count in events:
        accountant.compose(_of_the_library(event), count)
    return float(accountant.get_epsilon(delta))


def _of_the_library(event: Event) -> DpEvent:
    from dp_accounting import dp_event

    if isinstance(event, PureRelease):
        return dp_event.DiscreteLaplaceDpEvent(event.epsilon, 1)
    gaussian = dp_event.GaussianDpEvent(event.noise_multiplier)
    if event.sampling == 1:
        return gaussian
    return dp_event.PoissonSampledDpEvent(event.sampling, gaussian)

"""Rates of events by time at risk, and ratios of two, exact by Poisson's and binomial law.

Sources: Garwood 1936 (the interval of a rate); Przyborowski and Wilenski 1940 (two rates: of all
events those of one group are binomial). As R's ``poisson.test`` has them.
"""

from __future__ import annotations

import math

from contract.errors import DocumentError
from contract.statistics import special
from contract.statistics.estimates import (
    CONFIDENCE,
    Estimate,
    HypothesisTest,
    checked_confidence,
    undefined,
)
from contract.statistics.proportions import clopper_pearson


def rate(events: int, time: float, confidence: float = CONFIDENCE) -> Estimate:
    """Return events by unit of time, with Garwood's interval; ``DocumentError`` for no counts."""
    tail = (1 - checked_confidence(confidence)) / 2
    if events < 0 or time < 0:
        raise DocumentError("A rate is of counts and times from zero up.")
    if not time:
        return Estimate("rate", math.nan, confidence=confidence, note="Nobody was at risk.")
    low = float(special.gammaincinv(events, tail)) if events else 0.0
    high = float(special.gammaincinv(events + 1, 1 - tail))
    error = math.sqrt(events) / time
    return Estimate("rate", events / time, error, low / time, high / time, confidence)


def rate_ratio(
    first: tuple[int, float], second: tuple[int, float], confidence: float = CONFIDENCE
) -> HypothesisTest:
    """Compare the second group's rate with the first's; each is events and time.

    The p value is that of all splits of the events that are no likelier than the one seen.
    """
    (base, base_time), (events, time) = first, second
    name, total = "exact test of two rates", base + events
    if not total or not (base_time > 0 and time > 0):
        return undefined(name, "There are no events, or nobody was at risk.")
    share = clopper_pearson(events, total, confidence)
    by = base_time / time
    value = math.inf if not base else events / base * by
    estimate = Estimate(
        "rate ratio",
        value,
        math.sqrt(1 / events + 1 / base) if events and base else math.nan,
        share.low / (1 - share.low) * by,
        math.inf if share.high >= 1 else share.high / (1 - share.high) * by,
        confidence,
    )
    from scipy.stats import binomtest

    p = float(binomtest(events, total, time / (base_time + time)).pvalue)
    return HypothesisTest(name, float(events), p, estimate=estimate)

"""Tables over strata: Mantel and Haenszel's estimates and tests, Breslow and Day's.

All but the generalised test are of strata of two by two.

Strata may be sites or levels of any variable. Each stratum is ``[[a, b], [c, d]]``: the exposed in
the first row, those with the event in the first column. A stratum in which a row or a column is
empty tells nothing of an odds ratio and drops out by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from contract.errors import DocumentError
from contract.statistics.estimates import (
    CONFIDENCE,
    NOISY,
    Estimate,
    HypothesisTest,
    Table,
    about,
    cells,
    chi_squared_p,
    ratio,
    undefined,
    z_quantile,
)

NOTHING = "No stratum tells of it."


@dataclass(frozen=True)
class Stratified:
    """What strata say together, and whether they say the same.

    ``association``: the test of no association in any stratum (Cochran 1954, Mantel and Haenszel
    1959). ``homogeneity``: the test of one odds ratio in all (Breslow and Day 1980, with Tarone's
    correction of 1985).
    """

    odds_ratio: Estimate
    risk_ratio: Estimate
    risk_difference: Estimate
    association: HypothesisTest
    homogeneity: HypothesisTest


def mantel_haenszel(
    strata: ArrayLike,
    confidence: float = CONFIDENCE,
    continuity: bool = True,
    tarone: bool = True,
) -> Stratified:
    """Return the estimates and tests of strata of two by two.

    ``strata``: strata x 2 x 2. Standard errors: of the log odds ratio by Robins, Breslow and
    Greenland 1986; of the log risk ratio by Greenland and Robins 1985; of the risk difference by
    Sato 1989. ``continuity``: of the test of association. ``DocumentError`` for other shapes.
    """
    tables, noisy = cells(strata, 3)
    if tables.shape[1:] != (2, 2):
        raise DocumentError("Strata of two by two are needed: strata by groups by event.")
    tables = tables[tables.sum(axis=(1, 2)) > 0]
    odds = _odds_ratio(tables, confidence)
    return Stratified(
        _marked(odds, noisy),
        _marked(_risk_ratio(tables, confidence), noisy),
        _marked(_risk_difference(tables, confidence), noisy),
        _marked_test(_association(tables, continuity), noisy),
        _marked_test(_homogeneity(tables, odds.value, tarone), noisy),
    )


def generalised(strata: ArrayLike) -> HypothesisTest:
    """Test whether two categories of any number of levels are associated in some stratum.

    ``strata``: strata x rows x columns. Cochran, Mantel and Haenszel's generalised test of
    unordered levels (Landis, Heyman and Koch 1978), as R's ``mantelhaen.test`` has it.
    """
    name = "Generalised Cochran, Mantel and Haenszel's test"
    tables, noisy = cells(strata, 3)
    tables = tables[tables.sum(axis=(1, 2)) > 1]
    tables = tables[:, tables.sum(axis=(0, 2)) > 0][:, :, tables.sum(axis=(0, 1)) > 0]
    rows, columns = tables.shape[1] - 1, tables.shape[2] - 1
    if min(len(tables), rows, columns) < 1:
        return _marked_test(undefined(name, NOTHING), noisy)
    shift, covariance = np.zeros(rows * columns), np.zeros((rows * columns,) * 2)
    for table in tables:
        n = table.sum()
        r, c = table.sum(axis=1)[:-1], table.sum(axis=0)[:-1]
        shift += (table[:-1, :-1] - np.outer(r, c) / n).ravel()
        spread = np.kron(np.diag(n * r) - np.outer(r, r), np.diag(n * c) - np.outer(c, c))
        covariance += spread / (n * n * (n - 1))
    if np.linalg.matrix_rank(covariance, hermitian=True) < rows * columns:
        return _marked_test(undefined(name, "The strata don't tell of all levels."), noisy)
    statistic, degrees = float(shift @ np.linalg.solve(covariance, shift)), rows * columns
    test = HypothesisTest(name, statistic, chi_squared_p(statistic, degrees), (degrees,))
    return _marked_test(test, noisy)


def _odds_ratio(tables: Table, confidence: float) -> Estimate:
    name = "Mantel and Haenszel's odds ratio"
    a, b, c, d, n = _columns(tables)
    r, s = a * d / n, b * c / n
    over, under = math.fsum(r), math.fsum(s)
    if over == 0 or under == 0:
        return _boundary(name, over, under, confidence)
    p, q = (a + d) / n, (b + c) / n
    variance = (
        math.fsum(p * r) / (2 * over**2)
        + math.fsum(p * s + q * r) / (2 * over * under)
        + math.fsum(q * s) / (2 * under**2)
    )
    return ratio(name, over / under, math.sqrt(variance), confidence)


def _risk_ratio(tables: Table, confidence: float) -> Estimate:
    name = "Mantel and Haenszel's risk ratio"
    a, b, c, d, n = _columns(tables)
    over, under = math.fsum(a * (c + d) / n), math.fsum(c * (a + b) / n)
    if over == 0 or under == 0:
        return _boundary(name, over, under, confidence)
    parts = ((a + b) * (c + d) * (a + c) - a * c * n) / n**2
    return ratio(name, over / under, math.sqrt(math.fsum(parts) / (over * under)), confidence)


def _risk_difference(tables: Table, confidence: float) -> Estimate:
    name = "Mantel and Haenszel's risk difference"
    a, b, c, d, n = _columns(tables)
    weights = (a + b) * (c + d) / n
    total = math.fsum(weights)
    if total == 0:
        return Estimate(name, math.nan, confidence=confidence, note=NOTHING)
    value = math.fsum((a * (c + d) - c * (a + b)) / n) / total
    first = (a + b) ** 2 * c - (c + d) ** 2 * a + (a + b) * (c + d) * ((c + d) - (a + b)) / 2
    second = (a * d + b * c) / (2 * n)
    variance = (value * math.fsum(first / n**2) + math.fsum(second)) / total**2
    return about(name, value, math.sqrt(max(variance, 0.0)), z_quantile(confidence), confidence)


def _association(tables: Table, continuity: bool) -> HypothesisTest:
    name = "Cochran, Mantel and Haenszel's test"
    told = tables[tables.sum(axis=(1, 2)) > 1]
    a, b, c, d, n = _columns(told)
    shift = abs(math.fsum(a - (a + b) * (a + c) / n))
    variance = math.fsum((a + b) * (c + d) * (a + c) * (b + d) / (n * n * (n - 1)))
    if variance == 0:
        return undefined(name, NOTHING)
    shift = max(shift - 0.5, 0.0) if continuity else shift
    statistic = shift**2 / variance
    return HypothesisTest(name, statistic, chi_squared_p(statistic, 1), (1,))


def _homogeneity(tables: Table, odds: float, tarone: bool) -> HypothesisTest:
    name = "Breslow and Day's test"
    held = tables[(tables.sum(axis=1) > 0).all(axis=1) & (tables.sum(axis=2) > 0).all(axis=1)]
    if len(held) < 2 or not 0 < odds < math.inf:
        return undefined(name, "It needs two strata, and an odds ratio between 0 and infinity.")
    a, b, c, d, _ = _columns(held)
    exposed, events = a + b, a + c
    expected = _fitted(exposed, c + d, events, odds)
    parts = [expected, exposed - expected, events - expected, c + d - events + expected]
    if np.stack(parts).min() <= 0:
        return undefined(name, "The odds ratio leaves a cell of a stratum empty.")
    variance = 1 / (1 / np.stack(parts)).sum(axis=0)
    statistic = float(((a - expected) ** 2 / variance).sum())
    if tarone:
        name += " with Tarone's correction"
        statistic -= float((a - expected).sum()) ** 2 / float(variance.sum())
    degrees = len(held) - 1
    statistic = max(statistic, 0.0)
    return HypothesisTest(name, statistic, chi_squared_p(statistic, degrees), (degrees,))


def _fitted(exposed: Table, other: Table, events: Table, odds: float) -> Table:
    """Return the count of exposed with the event that gives each stratum this odds ratio.

    The root of (odds - 1) x^2 - (odds (exposed + events) + other - events) x + odds exposed
    events = 0 that lies within the margins, each in the form that doesn't cancel.
    """
    half = odds * (exposed + events) + other - events
    product = odds * exposed * events
    root = np.sqrt(np.maximum(half**2 - 4 * (odds - 1) * product, 0.0))
    found = np.empty_like(half)
    up = half >= 0
    found[up] = 2 * product[up] / (half + root)[up]
    found[~up] = (half - root)[~up] / (2 * (odds - 1))
    return found


def _columns(tables: Table) -> tuple[Table, Table, Table, Table, Table]:
    a, b, c, d = tables[:, 0, 0], tables[:, 0, 1], tables[:, 1, 0], tables[:, 1, 1]
    return a, b, c, d, a + b + c + d


def _boundary(name: str, over: float, under: float, confidence: float) -> Estimate:
    if over == under:
        return Estimate(name, math.nan, confidence=confidence, note=NOTHING)
    note = "It lies on the boundary, so it has no standard error."
    return Estimate(name, math.inf if over else 0.0, confidence=confidence, note=note)


def _marked(estimate: Estimate, noisy: bool) -> Estimate:
    if not noisy:
        return estimate
    return replace(estimate, note=f"{estimate.note} {NOISY}".strip(), approximate=True)


def _marked_test(test: HypothesisTest, noisy: bool) -> HypothesisTest:
    if not noisy:
        return test
    return replace(test, note=f"{test.note} {NOISY}".strip(), approximate=True)
